"""What the views of the world share: what one side of a comparison can tell about the other, and how much that is."""

from collections.abc import Callable, Iterable

import pandas as pd

from mcnlab.data.world.factors import FACTORS, Range, carried_groups
from mcnlab.data.world.views import VIEWS, entropy_nats, seen_value


def carried_factors(modality: str) -> tuple[str, ...]:
    """The factors that one modality carries.

    Args:
        modality: `video`, `audio`, `text`, or a further view of the world.

    Returns:
        Names, in the order of `FACTORS`.

    Raises:
        ConfigError: there is no such modality.

    Example:
        >>> carried_factors("depth")
        ('vat.object', 'va.height', 'vt.size')
    """
    if modality in VIEWS:
        return tuple(name for name in FACTORS if name in VIEWS[modality])
    groups = carried_groups(modality)
    return tuple(name for name in FACTORS if name.partition(".")[0] in groups)


def shared_keys(clips: pd.DataFrame, first: Iterable[str], second: Iterable[str]) -> list[str]:
    """What an oracle of one retrieval direction knows about each clip, as a text that can be compared.

    Two clips with the same key cannot be told apart by anything that the two sides share.

    Args:
        clips: one row per clip with columns `factor:GROUP.NAME`, as `Store.clips` gives it.
        first: modalities of the query.
        second: modalities of the gallery.

    Returns:
        One key per row.
    """
    one, other = list(first), list(second)
    names = [name for name in FACTORS if _carry(one, name) and _carry(other, name)]
    told: list[Callable[[float | str], str]] = [_telling(name, one, other) for name in names]
    rows = clips[[f"factor:{name}" for name in names]].itertuples(index=False)
    return ["|".join(say(value) for say, value in zip(told, row, strict=True)) for row in rows]


def shared_entropy_nats(first: str, second: str) -> float | None:
    """Entropy of the factors that two modalities share: their mutual information, if both tell them without fail.

    A continuous factor counts in the parts that a further view sees of it. Noise can only make it less: given the
    shared factors the two are independent of each other.

    Args:
        first: a modality of the world.
        second: another one.

    Returns:
        Nats; None where both carry a continuous factor whole, which has no finite entropy.

    Example:
        >>> shared_entropy_nats("video", "audio") is None, round(shared_entropy_nats("video", "outline"), 3)
        (True, 2.303)
    """
    names = [name for name in carried_factors(first) if name in carried_factors(second)]
    whole = not {first, second} & VIEWS.keys()
    if whole and any(isinstance(FACTORS[name], Range) for name in names):
        return None
    return sum(entropy_nats(name) for name in names)


def _carry(modalities: Iterable[str], factor: str) -> bool:
    """Whether some of the modalities carries a factor."""
    return any(factor in carried_factors(modality) for modality in modalities)


def _telling(factor: str, *sides: list[str]) -> Callable[[float | str], str]:
    """How a factor's value is written so that it says what all sides know: in parts where one sees no more."""
    whole = all(_carry([modality for modality in side if modality not in VIEWS], factor) for side in sides)
    return str if whole else lambda value: seen_value(factor, value)
