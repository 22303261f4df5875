"""Is each step found at the right time? Placement in order, segmentation and intervals, beside what chance reaches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import sklearn
from jaxtyping import Float

from mcnlab.errors import ShapeError
from mcnlab.evaluation.found_steps import (
    IOU_THRESHOLDS,
    ActionVideo,
    Found,
    evenly_spread,
    filled_scores,
    found_in,
    shares_of,
)
from mcnlab.evaluation.rows import ResultRow
from mcnlab.metrics.actions import chance_average_precision, step_average_precision

TASK = "actions"
CHANCE_DRAWS = 5
"""Times that all scores are drawn at random for the numbers by chance."""
METRICS = (
    *("step_recall", "step_recall_pooled", "step_recall_unordered", "frame_accuracy", "iou", "iod", "temporal_iou"),
    *(f"recall_at_iou_{least}" for least in IOU_THRESHOLDS),
)
"""What is a mean over videos or steps."""
Scores = Sequence[Float[np.ndarray, "_ _"] | None]
"""Scores of every video, as `evaluate_actions` takes them."""
BY_TASK = ("step_recall", "step_recall_pooled", "step_recall_unordered")
"""Metrics that are averaged over the videos of a task first."""


@dataclass(frozen=True)
class ActionResult:
    """Rows for the results, and the videos of each subject that could not be scored, by reason."""

    rows: tuple[ResultRow, ...]
    not_scored: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)


def evaluate_actions(
    videos: Sequence[ActionVideo],
    scores: Mapping[str, Scores],
    *,
    untrained: Mapping[str, Scores] | None = None,
    seed: int = 0,
    draws: int = 1000,
) -> ActionResult:
    """Step recall, average precision, segmentation and intervals of every subject.

    Args:
        videos: What should be found.
        scores: Subject (`text->video`) to a matrix per video: (T, K + 1), larger is closer, the last column for
            background; None where the video lacks the modality. NaN in single frames or steps stands for unknown: the
            lowest score of the video takes its place, so that nothing is found there.
        untrained: The same subjects from a model before training; adds `untrained_METRIC`.
        seed: Of the random scores and the bootstrap.
        draws: Resamples of the videos for the 95 % intervals.

    Returns:
        Rows `step_recall` (one frame per step in order; mean over a task's videos, then over tasks, as MCN),
        `step_recall_pooled` (hits over steps of a task, then mean over tasks, as CrossTask), `step_recall_unordered`
        (each step's best frame by itself), `mean_average_precision` (frames of a task's videos together, mean over
        its steps, then over tasks; no interval), `frame_accuracy`, `iou`, `iod` (Viterbi along the true order, mean
        over videos), `temporal_iou` and `recall_at_iou_0.3`, `_0.5`, `_0.7` (the interval around each step's peak
        against the best true one, mean over all annotated steps), `videos_scored`, `videos_not_scored`; each beside
        `chance_METRIC` (random scores), `uniform_METRIC` (steps or segments spread evenly, which needs no model) and
        `untrained_METRIC`. Groups of videos have rows of their own: subject `text->video:cook`.

    Raises:
        ShapeError: Not one matrix per video, or one of another shape.

    Source:
        FORMULAS 7: Zhukov et al. 2019, arXiv 1903.08225; Chen et al. 2021 (MCN), arXiv 2104.12671; Kuehne et al. 2019,
        arXiv 1906.01012, whose frame scores are raw here: what a softmax takes off each frame changes no alignment.
    """
    able = [bool(video.truth.any()) and len(video.truth) >= video.truth.shape[1] for video in videos]
    random = [_table(videos, drawn, able) for drawn in _random_scores(videos, seed)]
    uniform = _table_of(
        videos, [evenly_spread(video) if here else None for video, here in zip(videos, able, strict=True)]
    )
    tasks = np.unique([video.task for video in videos], return_inverse=True)[1]
    rows: list[ResultRow] = []
    not_scored: dict[str, dict[str, list[str]]] = {}
    for subject, given in scores.items():
        reasons = _reasons(subject, videos, given)
        not_scored[subject] = _by_reason(videos, reasons)
        scored = [reason is None for reason in reasons]
        levels = {"uniform": uniform}
        before = untrained[subject] if untrained is not None and subject in untrained else None
        if before is not None:
            levels["untrained"] = _table(videos, before, scored)
        own = _table(videos, given, scored)
        for name, part in _groups(videos, np.flatnonzero(scored)):
            rows += _count_rows(subject + name, videos, reasons, len(part))
            if len(part):
                rows += _own_rows(subject + name, own, part, tasks, seed=seed, draws=draws)
                rows += _level_rows(subject + name, levels, random, part, tasks)
                rows += _precision_rows(subject + name, [videos[p] for p in part], part, given, before)
    return ActionResult(tuple(rows), not_scored)


def _own_rows(
    subject: str, table: Mapping[str, np.ndarray], part: np.ndarray, tasks: np.ndarray, *, seed: int, draws: int
) -> list[ResultRow]:
    """Means over some videos with intervals from drawing videos with replacement."""
    generator = np.random.default_rng([seed, crc32(subject.encode())])
    counts = generator.multinomial(len(part), np.full(len(part), 1 / len(part)), size=draws)
    rows = []
    for metric, shares in table.items():
        low, high = np.quantile(_means(shares[part], counts, tasks[part], metric), [0.025, 0.975])
        value = _mean(shares[part], tasks[part], metric)
        rows.append(ResultRow(TASK, subject, metric, value, float(low), float(high)))
    return rows


def _level_rows(
    subject: str,
    levels: Mapping[str, Mapping[str, np.ndarray]],
    random: Sequence[Mapping[str, np.ndarray]],
    part: np.ndarray,
    tasks: np.ndarray,
) -> list[ResultRow]:
    """The same means of what one compares with, without intervals."""
    rows = [
        ResultRow(TASK, subject, f"{level}_{metric}", _mean(shares[part], tasks[part], metric))
        for level, table in levels.items()
        for metric, shares in table.items()
    ]
    for metric in random[0]:
        drawn = [_mean(table[metric][part], tasks[part], metric) for table in random]
        rows.append(ResultRow(TASK, subject, f"chance_{metric}", float(np.mean(drawn))))
    return rows


def _precision_rows(
    subject: str,
    videos: Sequence[ActionVideo],
    part: np.ndarray,
    scores: Scores,
    before: Scores | None,
) -> list[ResultRow]:
    """Mean average precision, exactly what chance reaches, and the untrained model's."""
    values = {"mean_average_precision": _mean_average_precision(videos, [scores[place] for place in part])}
    values["chance_mean_average_precision"] = _chance_precision(videos)
    if before is not None:
        values["untrained_mean_average_precision"] = _mean_average_precision(videos, [before[p] for p in part])
    return [ResultRow(TASK, subject, metric, value) for metric, value in values.items()]


def _table(videos: Sequence[ActionVideo], scores: Scores, scored: Sequence[bool]) -> dict[str, np.ndarray]:
    """By metric: (videos, 2), numerators and denominators; zeros for videos that are not scored."""
    found = [
        found_in(video, given) if here and given is not None else None
        for video, given, here in zip(videos, scores, scored, strict=True)
    ]
    return _table_of(videos, found)


def _table_of(videos: Sequence[ActionVideo], found: Sequence[Found | None]) -> dict[str, np.ndarray]:
    """The same from what was found."""
    tables = {metric: np.zeros((len(videos), 2)) for metric in METRICS}
    for row, (video, one) in enumerate(zip(videos, found, strict=True)):
        for metric, shares in (shares_of(video, one) if one is not None else {}).items():
            tables[metric][row] = shares
    return tables


def _mean(table: np.ndarray, tasks: np.ndarray, metric: str) -> float:
    """Mean over tasks, or over all videos, of numerator over denominator."""
    return float(_means(table, np.ones((1, len(table)), dtype=np.int64), tasks, metric)[0])


def _means(table: np.ndarray, counts: np.ndarray, tasks: np.ndarray, metric: str) -> np.ndarray:
    """(draws,): the same with every video counted some times; tasks without a video are left out."""
    groups = tasks if metric in BY_TASK else np.zeros_like(tasks)
    member = np.eye(int(groups.max()) + 1)[groups]  # (videos, tasks)
    above, below = (counts * table[:, 0]) @ member, (counts * table[:, 1]) @ member
    ratios = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return np.asarray(np.nanmean(ratios, axis=1))


def _mean_average_precision(videos: Sequence[ActionVideo], scores: Scores) -> float:
    """Mean over tasks of the mean over steps, frames of a task's videos together."""
    found = []
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # checked by ourselves
        for places in _places_by_task(videos):
            together = np.concatenate([filled_scores(_there(scores[place]))[:, :-1] for place in places])
            truth = np.concatenate([videos[place].truth for place in places])
            found.append(float(np.nanmean(step_average_precision(together, truth))))
    return float(np.mean(found))


def _chance_precision(videos: Sequence[ActionVideo]) -> float:
    """What the mean average precision is expected to be for frames in random order, computed exactly."""
    found = []
    for places in _places_by_task(videos):
        truth = np.concatenate([videos[place].truth for place in places])
        shown = truth.sum(axis=0)
        found.append(np.mean([chance_average_precision(int(count), len(truth)) for count in shown[shown > 0]]))
    return float(np.mean(found))


def _places_by_task(videos: Sequence[ActionVideo]) -> list[list[int]]:
    """Places of the videos of each task."""
    places: dict[str, list[int]] = {}
    for place, video in enumerate(videos):
        places.setdefault(video.task, []).append(place)
    return list(places.values())


def _groups(videos: Sequence[ActionVideo], kept: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """All scored videos, then those of every group, when there is more than one."""
    yield "", kept
    names = sorted({video.group for video in videos if video.group is not None})
    for name in names if len(names) > 1 else ():
        yield f":{name}", np.array([place for place in kept if videos[place].group == name], dtype=np.int64)


def _reasons(subject: str, videos: Sequence[ActionVideo], scores: Scores) -> list[str | None]:
    """Why each video cannot be scored; None where it can."""
    if len(scores) != len(videos):
        raise ShapeError(f"{subject}: {len(videos)} videos but {len(scores)} matrices of scores")
    return [_reason(subject, video, given) for video, given in zip(videos, scores, strict=True)]


def _reason(subject: str, video: ActionVideo, scores: np.ndarray | None) -> str | None:
    """Why a video cannot be scored."""
    frames, steps = video.truth.shape
    if steps == 0 or not video.truth.any():
        return "no annotated step"
    if frames < steps:
        return "fewer frames than steps"
    if scores is not None and scores.shape != (frames, steps + 1):
        raise ShapeError(f"{subject}: {video.id}: scores are {scores.shape}, expected {(frames, steps + 1)}")
    if scores is None or not np.isfinite(scores).any():
        return "nothing to compare: a modality is missing"
    return None


def _by_reason(videos: Sequence[ActionVideo], reasons: Sequence[str | None]) -> dict[str, list[str]]:
    """Reason to the ids of the videos."""
    found: dict[str, list[str]] = {}
    for video, reason in zip(videos, reasons, strict=True):
        if reason is not None:
            found.setdefault(reason, []).append(video.id)
    return found


def _count_rows(
    subject: str, videos: Sequence[ActionVideo], reasons: Sequence[str | None], scored: int
) -> list[ResultRow]:
    """How many videos the numbers speak of."""
    group = subject.partition(":")[2] or None
    others = sum(
        reason is not None and group in (None, video.group) for video, reason in zip(videos, reasons, strict=True)
    )
    counts = {"videos_scored": scored, "videos_not_scored": others}
    return [ResultRow(TASK, subject, metric, float(count)) for metric, count in counts.items()]


def _random_scores(videos: Sequence[ActionVideo], seed: int) -> Iterator[list[np.ndarray]]:
    """Scores that know nothing, for all videos, some times over."""
    generator = np.random.default_rng([seed, crc32(b"chance")])
    for _ in range(CHANCE_DRAWS):
        yield [generator.normal(size=(len(video.truth), video.truth.shape[1] + 1)) for video in videos]


def _there(scores: np.ndarray | None) -> np.ndarray:
    """Scores of a video that can be scored."""
    if scores is None:
        raise ShapeError("a video has scores from the trained model but not from the untrained one")
    return scores
