"""Segments in time: the class of every frame when the order of the segments is known, and how well it fits."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.metrics.actions import check_finite


class Overlap(NamedTuple):
    """How well the frames of a video are labeled."""

    frame_accuracy: float
    """Share of frames with the right class."""
    iou: float
    """Mean over the classes of the truth of |G ∧ D| / |G ∨ D|."""
    iod: float
    """Mean over the classes of the truth of |G ∧ D| / |D|; 0 for a class that was not found."""


def viterbi_alignment(
    log_probabilities: Float[np.ndarray, "frame class"],
    order: Sequence[int] | Int[np.ndarray, " segment"],
    *,
    mean_frames: Float[np.ndarray, " classes"] | None = None,
) -> Int[np.ndarray, " frame"]:
    """The class of every frame when the order of the segments is known: the most probable way to cut the video.

    Args:
        log_probabilities: (T, C), finite. Anything that differs from them by the same amount for all classes of a
            frame gives the same answer, such as raw scores before a softmax.
        order: Classes of the segments, first to last; a class may come again. Each gets at least one frame.
        mean_frames: (C,), mean length of a segment of each class; adds the log of a Poisson law, 0 at its top. None:
            lengths are free.

    Returns:
        (T,), classes. Of equally good cuts the one whose last segment is longest, then the one before it.

    Raises:
        ShapeError: The order is empty, longer than the video, or names a class that is not there.
        NonFiniteError: A value is NaN or infinite.
        ConfigError: A mean length is not positive.

    Source:
        Richard et al. 2018, arXiv 1805.06875, as used by Kuehne et al. 2019 (MiningYouTube), arXiv 1906.01012.
        Differs from the release, which `published_viterbi_alignment` reproduces: every frame counts once and for the
        segment that it is given to.

    Example:
        >>> viterbi_alignment(np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])), [0, 1])
        array([0, 0, 1])
    """
    classes = np.asarray(order, dtype=np.int64)
    _check_order(log_probabilities, classes, len(log_probabilities), mean_frames)
    lengths = _cut(log_probabilities, classes, mean_frames, unit=1)[1]
    return np.repeat(classes, lengths)


def published_viterbi_alignment(
    log_probabilities: Float[np.ndarray, "frame class"],
    order: Sequence[int] | Int[np.ndarray, " segment"],
    *,
    mean_frames: Float[np.ndarray, " classes"],
    frame_sampling: int = 20,
) -> tuple[Int[np.ndarray, " frame"], float]:
    """`viterbi_alignment` as MiningYouTube's release computes it, to reproduce its numbers.

    Args:
        log_probabilities: (T, C), finite.
        order: Classes of the segments, first to last.
        mean_frames: (C,), mean length of a segment of each class, in frames.
        frame_sampling: Frames that are decided together.

    Returns:
        (T,), classes, and the score of the path.

    Raises:
        ShapeError, NonFiniteError, ConfigError: As `viterbi_alignment`; or `frame_sampling` below 1.

    Source:
        Kuehne et al. 2019, video_alignment of the release. It differs from the plain decoder in three ways that are
        kept here: the first block is scored twice (the second time by its first frame alone) and its first label is
        thrown away; a block at a border is charged to the segment before it; the last block is charged to nobody.

    Example:
        >>> published_viterbi_alignment(np.zeros((4, 1)), [0], mean_frames=np.array([5.0]), frame_sampling=1)
        (array([0, 0, 0, 0]), 0.0)
    """
    if frame_sampling < 1:
        raise ConfigError(f"frame_sampling must be at least 1, got {frame_sampling}")
    classes = np.asarray(order, dtype=np.int64)
    frames = len(log_probabilities)
    _check_order(log_probabilities, classes, -(-frames // frame_sampling) + 1, mean_frames)
    ends = np.arange(0, frames, frame_sampling)  # the last frame of every block but the first
    sums = np.cumsum(log_probabilities, axis=0)
    charged = np.diff(sums[ends], axis=0, prepend=0.0)  # (blocks, class)
    first = sums[min(frame_sampling, frames) - 1]
    charged[0] += first
    score, lengths = _cut(np.vstack([charged, np.zeros_like(first)]), classes, mean_frames, unit=frame_sampling)
    labels = np.repeat(classes, lengths * frame_sampling)
    return labels[frame_sampling:][:frames], score


def segment_overlap(found: Int[np.ndarray, " frame"], truth: Int[np.ndarray, " true_frame"]) -> Overlap:
    """Frame accuracy, IoU and IoD of a video's frame labels.

    Args:
        found: (T,), class of each frame; background is a class like any other.
        truth: (T,), the true class of each.

    Returns:
        The three numbers, between 0 and 1; means over the classes that the truth has.

    Raises:
        ShapeError: The two differ in length, or are empty.

    Source:
        Kuehne et al. 2019, arXiv 1906.01012; IoU as the official loop counts, IoD from the paper's words.

    Example:
        >>> segment_overlap(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
        Overlap(frame_accuracy=0.75, iou=0.5833333333333333, iod=0.75)
    """
    if len(found) != len(truth) or len(truth) == 0:
        raise ShapeError(f"{len(found)} labels for {len(truth)} frames")
    ious, iods = [], []
    for one in np.unique(truth):
        detected, true = found == one, truth == one
        both = int((detected & true).sum())
        ious.append(both / int((detected | true).sum()))
        iods.append(both / max(int(detected.sum()), 1))
    return Overlap(float((found == truth).mean()), float(np.mean(ious)), float(np.mean(iods)))


def _cut(
    charged: np.ndarray, order: np.ndarray, mean_frames: np.ndarray | None, *, unit: int
) -> tuple[float, np.ndarray]:
    """Score of the best cut of blocks into segments in order, and the blocks of each segment."""
    blocks = len(charged)
    sums = np.concatenate([np.zeros((1, charged.shape[1])), np.cumsum(charged, axis=0, dtype=np.float64)])
    best = np.where(np.arange(blocks + 1) == 0, 0.0, -np.inf)  # best score of all segments so far, ending at a block
    chosen = []
    for one in order:
        free = best - sums[:, one]
        begin = _best_begin(free) if mean_frames is None else _best_begin_with_length(free, mean_frames[one], unit)
        chosen.append(begin[1])
        best = begin[0] + sums[:, one]
    lengths, end = [], blocks
    for begins in reversed(chosen):
        lengths.append(end - int(begins[end]))
        end = int(begins[end])
    return float(best[blocks]), np.array(lengths[::-1])


def _best_begin(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every end: the best value at an earlier place, and the earliest such place."""
    highest = np.maximum.accumulate(free)
    new = np.concatenate([[True], free[1:] > highest[:-1]])
    where = np.maximum.accumulate(np.where(new, np.arange(len(free)), 0))
    return np.concatenate([[-np.inf], highest[:-1]]), np.concatenate([[0], where[:-1]])


def _best_begin_with_length(free: np.ndarray, mean: float, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """The same where the length of the segment has a price too."""
    prices = _log_poisson(np.arange(1, len(free)) * unit, mean)
    values, places = np.full(len(free), -np.inf), np.zeros(len(free), dtype=np.int64)
    for end in range(1, len(free)):
        total = free[:end] + prices[:end][::-1]
        places[end] = np.argmax(total)
        values[end] = total[places[end]]
    return values, places


def _log_poisson(lengths: np.ndarray, mean: float) -> np.ndarray:
    """Log of a Poisson law at some lengths, less its value near the top as the release has it."""
    top = np.round(mean)
    height = top * np.log(top) - top - gammaln(int(mean) + 1) if top > 0 else 0.0
    return lengths * np.log(mean) - mean - gammaln(lengths + 1) - height


def _check_order(values: np.ndarray, order: np.ndarray, blocks: int, mean_frames: np.ndarray | None) -> None:
    """An order must fit into the video and name classes that are there."""
    if len(order) == 0 or len(order) > blocks or len(values) == 0:
        raise ShapeError(f"{len(order)} segments cannot be placed one after the other in {len(values)} frames")
    if order.min() < 0 or order.max() >= values.shape[1]:
        raise ShapeError(f"the order names class {int(order.max())}, but there are {values.shape[1]} classes")
    check_finite(values, "log_probabilities")
    if mean_frames is not None and not (np.isfinite(mean_frames) & (mean_frames > 0)).all():
        raise ConfigError(f"mean lengths must be positive, got {float(np.min(mean_frames))}")
