"""The names of kinds: a trait and a noun."""

NOUNS = ("bird", "boat", "cloth", "fish", "flower", "house", "insect", "stone", "tool", "tree")
"""What a class is; classes of one noun look alike."""
TRAITS = ("amber", "broad", "crooked", "dappled", "frosted", "hollow", "knotted", "mossy", "silken", "tall")
"""How a class is; a trait changes every noun in the same way."""
