"""Further views of the narrated world: feature tracks that see some of the factors of video, and their own noise."""

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mcnlab.data.records import Track
from mcnlab.data.world.factors import FACTORS, Range
from mcnlab.numerics import key_generator

VIEWS: dict[str, tuple[str, ...]] = {
    "depth": ("vat.object", "vt.size", "va.height"),
    "flow": ("vat.object", "va.height", "va.rate", "va.squash"),
    "luminance": ("vat.object", "vt.size", "vt.pattern", "v.texture", "v.light"),
    "color": ("vat.object", "vt.pattern", "vt.color", "vt.sign", "va.floor", "v.tint"),
    "surface": ("va.floor", "v.texture", "v.light", "v.tint"),
    "outline": ("vat.object",),
}
"""Further views in the order in which `world.views` adds them, and the factors that each sees.

All of them are factors of video, and they overlap: each of the first four sees the object, mostly one or two more
factors of the views before it, and some of video that no view before it sees: after four, no factor of video is unseen.
"""
VIEW_DIM = 64
"""Width of a row."""
ROWS_PER_CLIP = 4
"""Rows of every view in each clip."""
LEVELS = 4
"""Equal parts into which a further view sees the range of a continuous factor: it carries log 4 nats of it."""


def view_names(count: int) -> tuple[str, ...]:
    """The first further views.

    Example:
        >>> view_names(2)
        ('depth', 'flow')
    """
    return tuple(VIEWS)[:count]


def view_tracks(count: int, *, clip_s: float) -> list[Track]:
    """The tracks of the first further views; a track is called as its view.

    Args:
        count: how many views.
        clip_s: length of a clip in seconds.

    Returns:
        A track per view.
    """
    return [Track(name, name, VIEW_DIM, ROWS_PER_CLIP / clip_s) for name in view_names(count)]


def render_view(
    view: str, events: Sequence[Mapping[str, float | str]], *, key: Sequence[str | int], noise: float
) -> Float[np.ndarray, "rows width"]:
    """What a view shows of a recording.

    Every value of a factor has a fixed random direction; a row is the sum of those of the clip's values plus noise that
    belongs to this view and row alone.

    Args:
        view: one of `VIEWS`.
        events: factors of each clip.
        key: seed of the world, split and recording: draws the noise.
        noise: standard deviation of every component; that of the sum of all factors is 1.

    Returns:
        (4 × clips, 64), float16.
    """
    random = key_generator("view", view, *key)
    drawn = random.standard_normal((ROWS_PER_CLIP * len(events), VIEW_DIM))
    shown = np.stack([_shown(view, factors) for factors in events])  # (clips, width)
    return (np.repeat(shown, ROWS_PER_CLIP, axis=0) + noise * drawn).astype(np.float16)


def seen_value(factor: str, value: float | str) -> str:
    """A factor's value as further views see it: the category, or the part of its range from 0.

    Example:
        >>> seen_value("va.rate", 1.5), seen_value("va.rate", 4.5), seen_value("vt.size", "big")
        ('0', '3', 'big')
    """
    values = FACTORS[factor]
    if not isinstance(values, Range):
        return str(value)
    share = (float(value) - values.low) / (values.high - values.low)
    return str(min(LEVELS - 1, int(share * LEVELS)))


def entropy_nats(factor: str) -> float:
    """Entropy of a factor as further views see it: all its values, or parts of its range, are equally likely.

    Example:
        >>> round(entropy_nats("vt.size") / math.log(2), 6)
        2.0
    """
    return math.log(len(_seen_values(factor)))


def _seen_values(factor: str) -> tuple[str, ...]:
    """All that a further view can see of a factor."""
    values = FACTORS[factor]
    return tuple(map(str, range(LEVELS))) if isinstance(values, Range) else values


def _shown(view: str, factors: Mapping[str, float | str]) -> np.ndarray:
    """(width,): the sum of the directions of a clip's values."""
    parts = []
    for name in VIEWS[view]:
        place = _seen_values(name).index(seen_value(name, factors[name]))
        parts.append(_directions(view, name)[place])
    return np.sum(parts, axis=0) / math.sqrt(len(parts))


@functools.cache
def _directions(view: str, factor: str) -> np.ndarray:
    """(values, width): a direction for every value, the same in all worlds; their mean is 0 and components have
    variance 1."""
    drawn = key_generator("directions", view, factor).standard_normal((len(_seen_values(factor)), VIEW_DIM))
    drawn -= drawn.mean(axis=0)
    return np.asarray(drawn / drawn.std())
