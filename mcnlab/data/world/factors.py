"""The causes of the narrated world: seven independent groups of factors, and who carries each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcnlab.errors import ConfigError

SPLITS = ("train", "val", "test")
PURPOSES = ("factors", "frames", "sounds", "sentence", "other_narration", "missing")
CARRIERS = {"v": "video", "a": "audio", "t": "text"}


@dataclass(frozen=True)
class Range:
    """A continuous factor, uniform between two values."""

    low: float
    high: float


FACTORS: dict[str, tuple[str, ...] | Range] = {
    "vat.object": ("ball", "box", "cross", "fish", "heart", "hourglass", "moon", "ring", "star", "tree"),
    "va.rate": Range(1.5, 4.5),  # hits per second
    "va.height": Range(2.0, 12.5),  # pixels, seen; loudness of the hits, heard
    "va.squash": Range(0.0, 1.0),  # deformation, seen; length of the hits, heard
    "va.floor": ("glass", "gravel", "metal", "rubber", "water", "wood"),
    "vt.color": ("blue", "green", "orange", "pink", "purple", "red", "turquoise", "yellow"),
    "vt.size": ("tiny", "small", "big", "huge"),
    "vt.pattern": ("checked", "dotted", "plain", "striped"),
    "vt.sign": ("cloud", "flag", "lamp", "rainbow", "sun"),
    "at.register": ("deep", "low", "high", "shrill"),
    "at.instrument": ("banjo", "bell", "clarinet", "flute", "organ", "violin"),
    "at.contour": ("falling", "rising", "steady", "trembling"),
    "v.texture": ("bricks", "dots", "fog", "grid", "waves"),
    "v.tint": ("blue", "gray", "green", "olive", "purple", "rose"),
    "v.light": Range(0.45, 1.0),  # brightness of the whole picture
    "a.level": Range(-54.0, -36.0),  # dB of the background noise
    "a.color": Range(-1.2, 0.6),  # slope of its spectrum: exponent of frequency in power
    "a.hum": ("hum", "none"),
    "t.opening": ("Behold", "Here", "Look", "Now", "Today", "Well"),
    "t.filler": ("basically", "er", "none", "somehow", "um"),
    "t.verb": ("calls", "plays", "sings", "sounds"),
    "t.closing": ("folks", "indeed", "none", "please", "thanks"),
}
"""Every factor with its values: names for a categorical one, a range for a continuous one."""

GROUPS = tuple(dict.fromkeys(name.partition(".")[0] for name in FACTORS))
"""The seven groups; each letter of a name is a modality that carries the group."""


def generator(seed: int, split: str, recording: int, clip: int, purpose: str) -> np.random.Generator:
    """The random generator of one purpose in one clip; no other draw can disturb it.

    Args:
        seed: seed of the world.
        split: name of the split.
        recording: number of the recording within its split.
        clip: number of the clip within its recording.
        purpose: one of `PURPOSES`.

    Returns:
        A counter-based generator keyed by all of these.
    """
    key = (seed, SPLITS.index(split), recording, clip, PURPOSES.index(purpose))
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def draw_factors(random: np.random.Generator) -> dict[str, float | str]:
    """One value for every factor, all independent.

    Args:
        random: generator of the clip.

    Returns:
        Factor name to value, in the order of `FACTORS`: float if continuous, str if categorical.
    """
    drawn = random.random(len(FACTORS))
    return {name: _value(values, share) for (name, values), share in zip(FACTORS.items(), drawn, strict=True)}


def _value(values: tuple[str, ...] | Range, share: float) -> float | str:
    """The value at a share in [0, 1) of a factor's values."""
    if isinstance(values, Range):
        return float(round(values.low + share * (values.high - values.low), 4))
    return values[int(share * len(values))]


def carried_groups(modality: str) -> tuple[str, ...]:
    """The groups that one modality carries.

    Args:
        modality: `video`, `audio` or `text`.

    Returns:
        Group names.

    Raises:
        ConfigError: there is no such modality.

    Example:
        >>> carried_groups("text")
        ('vat', 'vt', 'at', 't')
    """
    if modality not in CARRIERS.values():
        raise ConfigError(f"expected video, audio or text, got {modality!r}")
    return tuple(group for group in GROUPS if modality in {CARRIERS[letter] for letter in group})


def shared_groups(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    """The groups that both sides of a comparison carry: all that one side can tell about the other.

    Args:
        first: modalities of one side, such as `["text"]`.
        second: modalities of the other, such as `["video", "audio"]`.

    Returns:
        Group names.

    Example:
        >>> shared_groups(["text"], ["video", "audio"])
        ('vat', 'vt', 'at')
    """
    one, other = ({group for modality in side for group in carried_groups(modality)} for side in (first, second))
    return tuple(group for group in GROUPS if group in one and group in other)


def recall_ceiling(keys: Sequence[str], *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """The recall that an oracle reaches which knows the keys and must guess among equal ones.

    Args:
        keys: one key per clip of the gallery; each clip is also a query.
        ks: how many candidates may be named.

    Returns:
        `ceiling_at_K` for each K, in [0, 1]; NaN without clips.

    Example:
        >>> recall_ceiling(["red", "red", "blue"], ks=(1,))
        {'ceiling_at_1': 0.6666666666666666}
    """
    sizes: Mapping[str, int] = Counter(keys)
    equal = np.array([sizes[key] for key in keys], dtype=np.float64)
    return {f"ceiling_at_{k}": float(np.minimum(k / equal, 1.0).mean()) if len(keys) else float("nan") for k in ks}
