"""Names of modalities, of pairs of them and of groups of them: plain text, no tensors."""

import itertools
import re
from collections.abc import Collection, Iterable, Sequence

MODALITIES = ("video", "audio", "text")
"""The modalities of narrated videos; any other may stand beside them, and is handled like video."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,19}")
"""What a modality may be called."""
BETWEEN = "-"
"""Stands between the names of a pair that initials do not tell: `video-depth`."""
_INITIALS = {modality[0]: modality for modality in MODALITIES}


def modality_place(modality: str) -> tuple[int, str]:
    """Sorts modalities: the three of narrated videos first, then any others by name."""
    return (MODALITIES.index(modality) if modality in MODALITIES else len(MODALITIES), modality)


def in_order(modalities: Iterable[str]) -> tuple[str, ...]:
    """Each modality once, in the usual order.

    Example:
        >>> in_order(["flow", "text", "depth", "video", "text"])
        ('video', 'text', 'depth', 'flow')
    """
    return tuple(sorted(set(modalities), key=modality_place))


def pair_name(first: str, second: str) -> str:
    """The name of a pair: initials for the three of narrated videos, else both names.

    Example:
        >>> pair_name("text", "video"), pair_name("depth", "video")
        ('vt', 'video-depth')
    """
    ordered = in_order((first, second))
    return "".join(name[0] for name in ordered) if set(ordered) <= set(MODALITIES) else BETWEEN.join(ordered)


def pair_modalities(pair: str) -> tuple[str, str]:
    """The two modalities that a pair names, in the usual order.

    Args:
        pair: two initials, such as `va`; or two names, such as `video-depth`.

    Returns:
        Their full names.

    Raises:
        KeyError: it does not name two different modalities.

    Example:
        >>> pair_modalities("at"), pair_modalities("depth-video")
        (('audio', 'text'), ('video', 'depth'))
    """
    names = pair.split(BETWEEN) if BETWEEN in pair else [_INITIALS.get(letter, "") for letter in pair]
    if len(names) != 2 or names[0] == names[1] or not all(NAME.fullmatch(name) for name in names):
        raise KeyError(f"{pair!r} names no two modalities: expected initials as in va, or names as in video-depth")
    first, second = in_order(names)
    return first, second


def pair_place(pair: str) -> tuple[bool, tuple[int, str], tuple[int, str]]:
    """Sorts pairs: `va`, `vt`, `at`, then those with any other modality."""
    first, second = pair_modalities(pair)
    return (not {first, second} <= set(MODALITIES), modality_place(first), modality_place(second))


def pairs_among(modalities: Collection[str]) -> tuple[str, ...]:
    """All pairs of the given modalities, in the order of results: every view with every other one.

    Example:
        >>> pairs_among(("text", "video")), pairs_among(("depth", "video", "text"))
        (('vt',), ('vt', 'video-depth', 'text-depth'))
    """
    return tuple(sorted((pair_name(a, b) for a, b in itertools.combinations(in_order(modalities), 2)), key=pair_place))


def pairs_with(core: str, modalities: Collection[str]) -> tuple[str, ...]:
    """All pairs of one modality with the others: the core view and what surrounds it.

    Example:
        >>> pairs_with("video", ("video", "depth", "flow"))
        ('video-depth', 'video-flow')
    """
    return tuple(pair for pair in pairs_among(modalities) if core in pair_modalities(pair))


def group_name(modalities: Sequence[str]) -> str:
    """A group of modalities in few letters: initials of the three, names of any others, as they come.

    Example:
        >>> group_name(("audio", "video")), group_name(("video", "depth", "flow"))
        ('AV', 'V+depth+flow')
    """
    initials = "".join(modality[0].upper() for modality in modalities if modality in MODALITIES)
    return "+".join([initials] * bool(initials) + [name for name in modalities if name not in MODALITIES])
