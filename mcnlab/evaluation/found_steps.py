"""What scores say about one video: where each step is, and how far that is from the truth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mcnlab.metrics.actions import align_steps, best_frames, predicted_interval, step_hits, temporal_iou
from mcnlab.metrics.segments import segment_overlap, viterbi_alignment

IOU_THRESHOLDS = (0.3, 0.5, 0.7)
"""Overlaps in time from which an interval usually counts as found."""


@dataclass(frozen=True)
class ActionVideo:
    """One video with the steps that should be found in it."""

    id: str
    task: str
    truth: Bool[np.ndarray, "frame step"]
    """True at the frames of each step."""
    intervals: Mapping[int, Float[np.ndarray, "interval 2"]]
    """By annotated step: starts and ends in frames, as exactly as they are known."""
    group: str | None = None
    """Videos of a group are also reported by themselves, such as `cook`."""

    @property
    def labels(self) -> Int[np.ndarray, " frame"]:
        """The step of every frame, the first of several; the number of steps stands for background."""
        return np.where(self.truth.any(axis=1), self.truth.argmax(axis=1), self.truth.shape[1])

    @property
    def order(self) -> list[int]:
        """The segments of the video in order, background too."""
        labels = self.labels
        return labels[np.flatnonzero(np.diff(labels, prepend=-1))].tolist()


@dataclass(frozen=True)
class Found:
    """What was found in a video."""

    placed: Bool[np.ndarray, "frame step"]
    """One frame per step, in order."""
    best: Bool[np.ndarray, "frame step"]
    """One frame per step, in any order."""
    labels: Int[np.ndarray, " frame"]
    """Step of every frame, the order of the segments being known."""
    intervals: Float[np.ndarray, "step 2"]
    """Start and end of each step, in frames."""


def found_in(video: ActionVideo, scores: Float[np.ndarray, "frame column"]) -> Found:
    """Everything that scores say about a video.

    Args:
        video: What should be found; its order of segments is given away to the segmentation alone.
        scores: (T, K + 1), as in `evaluate_actions`.

    Returns:
        Placements, labels and intervals.

    Raises:
        ShapeError: Fewer frames than steps.

    Example:
        >>> truth = np.eye(2, dtype=bool)
        >>> video = ActionVideo("a", "tea", truth, {0: np.array([[0.0, 1.0]]), 1: np.array([[1.0, 2.0]])})
        >>> found_in(video, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])).labels
        array([0, 1])
    """
    filled = filled_scores(scores)
    steps = filled[:, :-1]
    intervals = np.array([predicted_interval(steps[:, step]) for step in range(steps.shape[1])], dtype=np.float64)
    return Found(align_steps(steps), best_frames(steps), viterbi_alignment(filled, video.order), intervals)


def evenly_spread(video: ActionVideo) -> Found:
    """What somebody finds who has not looked: all steps, or all segments of the known order, equally long.

    Args:
        video: What should be found.

    Returns:
        Step k in the middle of the k-th part of the video.
    """
    frames, steps = video.truth.shape
    borders = np.linspace(0, frames, steps + 1)
    placed = np.zeros((frames, steps), dtype=bool)
    placed[((borders[:-1] + borders[1:]) / 2).astype(np.int64), np.arange(steps)] = True
    parts = np.array_split(np.arange(frames), len(video.order))
    labels = np.concatenate([np.full(len(part), step) for step, part in zip(video.order, parts, strict=True)])
    return Found(placed, placed, labels, np.stack([borders[:-1], borders[1:]], axis=1))


def shares_of(video: ActionVideo, found: Found) -> dict[str, tuple[float, float]]:
    """What a video adds to the numerator and to the denominator of every mean.

    Args:
        video: What should be found; at least one step is annotated.
        found: What was found.

    Returns:
        By metric, as `evaluate_actions` lists them: numerator and denominator.

    Raises:
        ShapeError: The two do not fit.
    """
    hits, annotated = step_hits(found.placed, video.truth)
    unordered, _ = step_hits(found.best, video.truth)
    overlap = segment_overlap(found.labels, video.labels)
    ious = [temporal_iou(found.intervals[[step]], true).max() for step, true in video.intervals.items()]
    of_steps = float(annotated)
    return {
        "step_recall": (hits / annotated, 1.0),
        "step_recall_pooled": (float(hits), of_steps),
        "step_recall_unordered": (unordered / annotated, 1.0),
        **{name: (value, 1.0) for name, value in overlap._asdict().items()},
        "temporal_iou": (float(np.sum(ious)), of_steps),
        **{f"recall_at_iou_{least}": (float(np.sum(np.array(ious) >= least)), of_steps) for least in IOU_THRESHOLDS},
    }


def filled_scores(scores: Float[np.ndarray, "frame column"]) -> Float[np.ndarray, "frame column"]:
    """Scores without gaps: unknown places are as low as the lowest known one.

    Args:
        scores: Any shape; NaN where nothing is known; at least one is finite.

    Returns:
        The same shape, float64.
    """
    known = np.isfinite(scores)
    return scores.astype(np.float64) if known.all() else np.where(known, scores, scores[known].min()).astype(np.float64)
