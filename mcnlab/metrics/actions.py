"""Steps in time: the best ordered placement, recall of steps, average precision, and the interval of one step."""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from sklearn.metrics import average_precision_score

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError


def align_steps(scores: Float[np.ndarray, "frame step"]) -> Bool[np.ndarray, "frame step"]:
    """The best placement of ordered steps: one frame each, every step later than the one before.

    Args:
        scores: (T, K), finite, larger is better; T >= K >= 1. All other frames are background and score 0.

    Returns:
        (T, K), true at the frame of each step: exactly one per column, rising from column to column, with the largest
        sum of scores. Of equally good placements the last step takes its earliest frame, then the step before it.

    Raises:
        ShapeError: No step, or fewer frames than steps.
        NonFiniteError: A score is NaN or infinite.

    Source:
        Zhukov et al. 2019 (CrossTask), arXiv 1903.08225; their release minimizes a cost over background, 1,
        background, 2, … Here prefix maxima replace the inner loop; the sum is the same. Differs only where several
        placements are equally good: the release then leaves the last step at the last frame.

    Example:
        >>> align_steps(np.array([[0.0, 9.0], [1.0, 0.0], [0.0, 2.0]])).argmax(axis=0)
        array([1, 2])
    """
    frames, steps = scores.shape
    if steps < 1 or frames < steps:
        raise ShapeError(f"{steps} steps cannot be placed one after the other in {frames} frames")
    check_finite(scores, "scores")
    totals = np.empty((steps, frames))  # best sum of the steps up to k, with k at frame t
    before = np.zeros(frames)
    for step in range(steps):
        totals[step] = scores[:, step] + before
        before = np.concatenate([[-np.inf], np.maximum.accumulate(totals[step])[:-1]])
    placed, end = np.zeros((frames, steps), dtype=bool), frames
    for step in reversed(range(steps)):
        end = int(np.argmax(totals[step, :end]))
        placed[end, step] = True
    return placed


def best_frames(scores: Float[np.ndarray, "frame step"]) -> Bool[np.ndarray, "frame step"]:
    """The best frame of every step by itself, whatever the order.

    Args:
        scores: (T, K), finite, T >= 1.

    Returns:
        (T, K), true at the frame of each step; of equal frames the earliest.

    Raises:
        ShapeError: No frame.
        NonFiniteError: A score is NaN or infinite.

    Source:
        Ours: what is left of step recall when the order of the steps gives nothing away.

    Example:
        >>> best_frames(np.array([[0.0, 9.0], [1.0, 0.0]])).argmax(axis=0)
        array([1, 0])
    """
    if len(scores) == 0:
        raise ShapeError("a best frame needs at least one frame, got 0")
    check_finite(scores, "scores")
    chosen = np.zeros(scores.shape, dtype=bool)
    chosen[scores.argmax(axis=0), np.arange(scores.shape[1])] = True
    return chosen


def step_hits(
    placed: Bool[np.ndarray, "frame step"], truth: Bool[np.ndarray, "true_frame true_step"]
) -> tuple[int, int]:
    """How many steps of a video were placed inside a true interval, and how many are annotated.

    Args:
        placed: (T, K), one frame per step, as `align_steps` gives it.
        truth: (T, K), true inside the intervals of each step; steps that the video lacks have none.

    Returns:
        (hits, annotated); recall is their ratio.

    Raises:
        ShapeError: The two differ in shape, or no step is annotated.

    Source:
        MCN's and CrossTask's released evaluations.

    Example:
        >>> step_hits(np.eye(3, dtype=bool), np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=bool))
        (1, 2)
    """
    if placed.shape != truth.shape:
        raise ShapeError(f"placed is {placed.shape} but truth is {truth.shape}")
    annotated = int(truth.any(axis=0).sum())
    if annotated == 0:
        raise ShapeError("recall needs at least one annotated step, got 0")
    return int((placed & truth).any(axis=0).sum()), annotated


def recall_by_task(
    hits: Int[np.ndarray, " video"], annotated: Int[np.ndarray, " videos"], tasks: Shaped[np.ndarray, " names"]
) -> dict[str, float]:
    """Step recall of each task: the mean of its videos' recalls, as MCN counts.

    Args:
        hits: (V,), steps found in each video.
        annotated: (V,), steps annotated in each, at least 1.
        tasks: (V,), the task of each.

    Returns:
        Task to recall between 0 and 1, tasks in sorted order; the published number is the mean over tasks.

    Raises:
        ShapeError: Not one entry per video, or a video without annotated steps.

    Example:
        >>> recall_by_task(np.array([1, 0]), np.array([1, 3]), np.array(["tea", "tea"]))
        {'tea': 0.5}
    """
    _check_videos(hits, annotated, tasks)
    return {str(task): float((hits / annotated)[tasks == task].mean()) for task in np.unique(tasks)}


def pooled_recall_by_task(
    hits: Int[np.ndarray, " video"], annotated: Int[np.ndarray, " videos"], tasks: Shaped[np.ndarray, " names"]
) -> dict[str, float]:
    """Step recall of each task: all its hits over all its annotated steps, as the original CrossTask counts.

    Args:
        hits: (V,), steps found in each video.
        annotated: (V,), steps annotated in each, at least 1.
        tasks: (V,), the task of each.

    Returns:
        Task to recall between 0 and 1, tasks in sorted order; the published number is the mean over tasks.

    Raises:
        ShapeError: Not one entry per video, or a video without annotated steps.

    Example:
        >>> pooled_recall_by_task(np.array([1, 0]), np.array([1, 3]), np.array(["tea", "tea"]))
        {'tea': 0.25}
    """
    _check_videos(hits, annotated, tasks)
    return {str(task): float(hits[tasks == task].sum() / annotated[tasks == task].sum()) for task in np.unique(tasks)}


def step_average_precision(
    scores: Float[np.ndarray, "frame step"], truth: Bool[np.ndarray, "true_frame true_step"]
) -> Float[np.ndarray, " step"]:
    """Average precision of every step over the frames of all videos of a task together.

    Args:
        scores: (T, K), finite; frames of the videos one after the other.
        truth: (T, K), true inside the step.

    Returns:
        (K,), between 0 and 1; NaN for a step that no frame shows. The mean over the others is the mAP.

    Raises:
        ShapeError: The two differ in shape.
        NonFiniteError: A score is NaN or infinite.

    Source:
        scikit-learn's `average_precision_score`, as in MCN's released evaluation.

    Example:
        >>> step_average_precision(np.array([[0.1], [0.9]]), np.array([[True], [False]]))
        array([0.5])
    """
    if scores.shape != truth.shape:
        raise ShapeError(f"scores are {scores.shape} but truth is {truth.shape}")
    check_finite(scores, "scores")
    found = np.full(scores.shape[1], np.nan)
    for step in np.flatnonzero(truth.any(axis=0)):
        found[step] = average_precision_score(truth[:, step], scores[:, step])
    return found


def chance_average_precision(positives: int, frames: int) -> float:
    """Expected average precision when frames are put in random order.

    Args:
        positives: Frames that show the step, from 1 to `frames`.
        frames: All frames.

    Returns:
        Between 0 and 1; somewhat above the share of positives.

    Raises:
        ShapeError: `positives` is not between 1 and `frames`.

    Source:
        The expectation over all orders, term by term: the frame at place r is positive with probability p/n, and then
        1 + (r - 1)(p - 1)/(n - 1) of the first r are on average. Bestgen 2015, Mathematics 3, gives the same sum.

    Example:
        >>> chance_average_precision(1, 2)
        0.75
    """
    if not 1 <= positives <= frames:
        raise ShapeError(f"positives must lie between 1 and {frames} frames, got {positives}")
    if frames == 1:
        return 1.0
    place = np.arange(1, frames + 1)
    share = (1 + (place - 1) * (positives - 1) / (frames - 1)) / place
    return float(share.mean())


def predicted_interval(scores: Float[np.ndarray, " frame"], *, share: float = 0.5) -> tuple[int, int]:
    """Start and end of a step in a video: the peak of its scores, and the frames around it that stay high.

    Args:
        scores: (T,), finite, T >= 1: how much each frame is like the query.
        share: How high a frame must stand between the video's median score (0) and its peak (1) to belong.

    Returns:
        (start, end) in frames, end not included, at least one frame.

    Raises:
        ShapeError: No frame.
        NonFiniteError: A score is NaN or infinite.
        ConfigError: `share` outside (0, 1].

    Source:
        Ours: growth from the peak down to a share of its height. The median stands for the background.

    Example:
        >>> predicted_interval(np.array([0.0, 0.9, 1.0, 0.1, 0.0]))
        (1, 3)
    """
    if len(scores) == 0:
        raise ShapeError("an interval needs at least one frame, got 0")
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"share must lie between 0 and 1, got {share}")
    check_finite(scores, "scores")
    peak = int(np.argmax(scores))
    level = float(np.median(scores))
    low = np.flatnonzero(scores < level + share * (float(scores[peak]) - level))
    before, after = low[low < peak], low[low > peak]
    return int(before[-1]) + 1 if len(before) else 0, int(after[0]) if len(after) else len(scores)


def temporal_iou(
    first: Float[np.ndarray, "interval 2"], second: Float[np.ndarray, "other 2"]
) -> Float[np.ndarray, "interval other"]:
    """Overlap of intervals over their union.

    Args:
        first: (N, 2), start and end in any unit, start < end.
        second: (M, 2), in the same unit.

    Returns:
        (N, M), between 0 and 1.

    Raises:
        ShapeError: An interval does not end after it starts.

    Example:
        >>> temporal_iou(np.array([[0.0, 2.0]]), np.array([[1.0, 3.0]])).round(3)
        array([[0.333]])
    """
    for intervals in (first, second):
        if not (intervals[:, 0] < intervals[:, 1]).all():
            raise ShapeError("an interval must end after it starts")
    starts = np.maximum(first[:, None, 0], second[None, :, 0])
    ends = np.minimum(first[:, None, 1], second[None, :, 1])
    both = np.clip(ends - starts, 0.0, None)
    lengths = (first[:, 1] - first[:, 0])[:, None] + (second[:, 1] - second[:, 0])[None]
    return both / (lengths - both)


def check_finite(values: np.ndarray, name: str) -> None:
    """Refuse scores among which there is no best one.

    Args:
        values: Any shape.
        name: What to call them in the error.

    Raises:
        NonFiniteError: One is NaN or infinite.
    """
    if bad := int((~np.isfinite(values)).sum()):
        raise NonFiniteError(f"{bad} of {values.size} {name} are not finite")


def _check_videos(hits: np.ndarray, annotated: np.ndarray, tasks: np.ndarray) -> None:
    """One entry per video, and something to find in each."""
    if not len(hits) == len(annotated) == len(tasks) or len(hits) == 0:
        raise ShapeError(f"{len(hits)} videos with hits, {len(annotated)} with steps, {len(tasks)} with tasks")
    if int(annotated.min()) < 1:
        raise ShapeError("recall needs at least one annotated step per video, got 0")
