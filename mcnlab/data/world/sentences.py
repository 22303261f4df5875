"""The narrator: one readable sentence of 8 to 20 words per clip."""

from collections.abc import Mapping, Set

import numpy as np

OPENINGS = {"Look": "Look,", "Well": "Well,"}


def sentence(factors: Mapping[str, float | str], random: np.random.Generator, *, omission: float = 0.0) -> str:
    """What the narrator says about a clip.

    Args:
        factors: factor name to value; only the groups that text carries are read.
        random: generator of the clip's sentence.
        omission: probability of leaving out each word that describes a factor, in [0, 1].

    Returns:
        A sentence of 8 to 20 words when nothing is left out.

    Example:
        Now the big striped red star by the lamp, um, sings low and rising on a bell, folks.
    """
    said = {name: str(value) for name, value in factors.items()}
    kept = {
        name for name, draw in zip(_DESCRIPTIONS, random.random(len(_DESCRIPTIONS)), strict=True) if draw >= omission
    }
    looks = [said[name] for name in ("vt.size", "vt.pattern", "vt.color") if name in kept]
    place = ["by", "the", said["vt.sign"]] if "vt.sign" in kept else []
    opening = OPENINGS.get(said["t.opening"], said["t.opening"])
    subject = " ".join([opening, "the", *looks, said["vat.object"], *place])
    filler = "" if said["t.filler"] == "none" else f", {said['t.filler']},"
    closing = "" if said["t.closing"] == "none" else f", {said['t.closing']}"
    return f"{subject}{filler} {' '.join([said['t.verb'], *_tone(said, kept)])}{closing}."


_DESCRIPTIONS = ("vt.size", "vt.pattern", "vt.color", "vt.sign", "at.register", "at.contour", "at.instrument")


def _tone(said: Mapping[str, str], kept: Set[str]) -> list[str]:
    """The words about the tone: register, contour, instrument."""
    manner = [said[name] for name in ("at.register", "at.contour") if name in kept]
    words = [" and ".join(manner)] if manner else []
    if "at.instrument" in kept:
        article = "an" if said["at.instrument"][0] in "aeiou" else "a"
        words.append(f"on {article} {said['at.instrument']}")
    return words
