"""Which clips a recording gives: captions widened as published, or windows of fixed length; all clips at once."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mcnlab.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class MergedCaptions:
    """For every caption of a recording: the window that it was widened to, and the captions in it."""

    start_s: Float[np.ndarray, " captions"]
    end_s: Float[np.ndarray, " captions"]
    order: Int[np.ndarray, "captions steps"]
    """Captions in the order in which they joined, the seed first; -1 where none did."""


def merged_captions(
    start_s: Float[np.ndarray, " starts"], end_s: Float[np.ndarray, " ends"], *, min_time_s: float
) -> MergedCaptions:
    """Widen every caption by its neighbors until it lasts long enough.

    While a window is too short the neighbor joins that keeps it shorter; the one before wins ties; at either end of
    the recording the other side is taken; with both ends reached it stays short.

    Args:
        start_s: (captions,), seconds, in time order.
        end_s: (captions,), seconds.
        min_time_s: shortest window that is wanted; 0 leaves every caption as it is.

    Returns:
        One window per caption. It ends with the last caption in it, which may be past the end of the video.

    Raises:
        ShapeError: there is not one end per start, or no caption at all.

    Source:
        Chen et al. 2021 (arXiv 2104.12671), released data loader.

    Example:
        >>> merged_captions(np.array([0.0, 4.0, 5.0]), np.array([2.0, 5.0, 8.0]), min_time_s=4.0).start_s
        array([0., 4., 4.])
    """
    count = len(start_s)
    if len(end_s) != count or count == 0:
        raise ShapeError(f"{count} starts but {len(end_s)} ends of captions")
    first, last = np.arange(count), np.arange(count)
    order = [np.arange(count)]
    while True:
        begin, end = start_s[first], end_s[last]
        too_short = end - begin < min_time_s
        with_previous = np.where(first > 0, end - start_s[np.maximum(first - 1, 0)], np.inf)
        with_next = np.where(last < count - 1, end_s[np.minimum(last + 1, count - 1)] - begin, np.inf)
        back = too_short & (first > 0) & (with_previous <= with_next)
        on = too_short & (last < count - 1) & ~back
        if not (back | on).any():
            return MergedCaptions(begin, end, np.stack(order, axis=1))
        first, last = first - back, last + on
        order.append(np.where(back, first, np.where(on, last, -1)))


def joined_words(
    order: Int[np.ndarray, "clips steps"],
    words: Int[np.ndarray, " words"],
    offsets: Int[np.ndarray, " borders"],
    *,
    max_words: int,
) -> tuple[Int[np.ndarray, "clips max_words"], Int[np.ndarray, " clips"]]:
    """The words of several captions one after the other, cut.

    Args:
        order: (clips, steps): captions in the order of their words; -1 for none.
        words: known words of all captions, one caption after the other.
        offsets: (captions + 1,): where each caption begins in `words`.
        max_words: words per clip at most.

    Returns:
        (clips, max_words), -1 after the last word; and (clips,), how many words there are.

    Source:
        Chen et al. 2021, released data loader: words are appended in the order of merging, also those of captions that
        lie before.
    """
    sizes = np.where(order < 0, 0, np.diff(offsets)[order])  # (clips, steps)
    ends = sizes.cumsum(axis=1)
    counts = np.minimum(ends[:, -1], max_words)
    slots = np.arange(max_words)
    step = (slots[None, :, None] >= ends[:, None, :]).sum(axis=2)  # (clips, max_words): steps that are over by then
    step = np.minimum(step, order.shape[1] - 1)
    rows = np.arange(len(order))[:, None]
    place = offsets[order[rows, step]] + slots - (ends - sizes)[rows, step]
    inside = slots < counts[:, None]
    if not len(words):
        return np.full(inside.shape, -1), counts
    return np.where(inside, words[np.where(inside, place, 0)], -1), counts


def window_starts(length_s: float, window_s: float, *, shift: float) -> Float[np.ndarray, " windows"]:
    """Windows of one length that do not overlap, as many as fit into a recording.

    Args:
        length_s: of the recording, seconds.
        window_s: of every window, seconds.
        shift: from 0 to 1: which part of what the windows leave over lies before the first.

    Returns:
        Starts in seconds, at least one; a recording shorter than a window gives one window from 0.

    Raises:
        ConfigError: `window_s` is not positive.

    Example:
        >>> window_starts(25.0, 10.0, shift=0.5)
        array([ 2.5, 12.5])
    """
    count = windows_in(length_s, window_s)
    return shift * max(0.0, length_s - count * window_s) + window_s * np.arange(count)


def windows_in(length_s: float, window_s: float) -> int:
    """How many windows fit into a recording, at least one.

    Args:
        length_s: of the recording, seconds.
        window_s: of every window, seconds.

    Returns:
        The count.

    Raises:
        ConfigError: `window_s` is not positive.
    """
    if not window_s > 0:
        raise ConfigError(f"window_s must be positive, got {window_s}")
    return max(1, math.floor(length_s / window_s + 1e-9))


def captions_inside(
    start_s: Float[np.ndarray, " captions"],
    end_s: Float[np.ndarray, " captions"],
    windows_s: Float[np.ndarray, " windows"],
    *,
    window_s: float,
) -> Int[np.ndarray, "windows steps"]:
    """The captions whose middle lies in a window, so that none is in two.

    Args:
        start_s: (captions,), seconds, in time order.
        end_s: (captions,), seconds.
        windows_s: (windows,), starts of the windows, rising.
        window_s: length of each.

    Returns:
        (windows, steps): captions in time order, then -1; at least one step.
    """
    middle = (start_s + end_s) / 2
    inside = (middle >= windows_s[:, None]) & (middle < windows_s[:, None] + window_s)  # (windows, captions)
    steps = max(1, int(inside.sum(axis=1).max(initial=0)))
    out = np.full((len(windows_s), steps), -1)
    window, caption = np.nonzero(inside)
    if len(window):
        first_of_window = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])[window]
        out[window, np.arange(len(window)) - first_of_window] = caption
    return out
