"""Whether attention explains what is told: where and when it points, and what a clip is worth without its parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mcnlab.errors import DataError
from mcnlab.evaluation.places import Things, cells_inside
from mcnlab.evaluation.rows import ResultRow
from mcnlab.metrics.localization import inside_at_peak
from mcnlab.metrics.statistics import bootstrap_of_mean

TASK = "explanation"
CLIPS, TIME, SPACE, BOTH, DELETE, KEEP = "clips", "time", "space", "space and time", "delete", "keep"
"""Subjects: the class; where attention points; the class without the parts that count most, and by them alone."""
RANDOM_DRAWS = 5
"""Orders of parts that the random curves are the mean of."""
Predict = Callable[[Bool[np.ndarray, "clips segments"]], np.ndarray]
"""From the parts that clips keep to whether their class is told right: (clips,), bool."""


@dataclass(frozen=True)
class Explanation:
    """What attention says of clips."""

    right: Bool[np.ndarray, " clips"]
    """Whether the class is told right."""
    space: Float[np.ndarray, "clips segments height width"]
    """How much each place of a part counts."""
    time: Float[np.ndarray, "clips segments"]
    """How much each part counts."""


def inside_of_truth(
    things: Sequence[Sequence[Things]], labels: Sequence[str], size: tuple[int, int]
) -> Bool[np.ndarray, "clips segments height width"]:
    """The cells in which the thing that gives a clip its label is seen while it sounds.

    Args:
        things: by clip, by part.
        labels: of the clips.
        size: height and width of the map in cells.

    Returns:
        (clips, segments, *size); all False in parts in which it is silent or out of sight.
    """
    return np.stack(
        [
            np.stack([cells_inside(_sounding(part, label), size) for part in parts])
            for parts, label in zip(things, labels, strict=True)
        ]
    )


def _sounding(part: Things, label: str) -> np.ndarray:
    """(things, 4): boxes of what sounds and has a label."""
    heard = part.heard
    return heard.corners[[own == label for own in heard.labels]]


def pointing_rows(
    told: Explanation, inside: Bool[np.ndarray, "clips segments height width"], *, prefix: str = "", seed: int
) -> list[ResultRow]:
    """Whether attention points to the parts in which the labeled thing sounds, to its place there, and to both at once.

    Several equal peaks must all lie inside. In space: the mean over the parts in which it sounds.

    Args:
        told: by attention.
        inside: see `inside_of_truth`.
        prefix: of the metric, such as `untrained_`.
        seed: of the resampling.

    Returns:
        `pointing` of three subjects; without a prefix also `chance`: the share that is inside.

    Raises:
        DataError: no labeled thing is ever seen while it sounds.
    """
    parts = np.asarray(inside.any(axis=(2, 3)))  # (clips, segments)
    known = parts.any(axis=1)
    if not known.any():
        raise DataError("the task explanation needs held-out clips with boxes of what sounds")
    inside, parts, space, time = inside[known], parts[known], told.space[known], told.time[known]
    placed = inside_at_peak(space[parts], inside[parts])  # one for each part in which it sounds
    clip = np.nonzero(parts)[0]
    in_space = np.bincount(clip, placed) / np.bincount(clip)
    hits = {
        TIME: inside_at_peak(time, parts).astype(np.float64),
        SPACE: in_space,
        BOTH: inside_at_peak(space * time[..., None, None], inside).astype(np.float64),
    }
    chance = {TIME: parts.mean(), SPACE: inside[parts].mean(), BOTH: inside.mean()}
    rows = [_mean_row(subject, f"{prefix}pointing", values, seed) for subject, values in hits.items()]
    return rows if prefix else [*rows, *(ResultRow(TASK, s, "chance", float(share)) for s, share in chance.items())]


def curve_rows(predict: Predict, time: Float[np.ndarray, "clips segments"], *, seed: int) -> list[ResultRow]:
    """Accuracy after the parts that count most are deleted, and of them alone, beside random parts.

    Args:
        predict: tells which clips are right with the parts that are kept.
        time: how much each part counts; of equal parts the earlier counts more.
        seed: of the random orders.

    Returns:
        For every number k of parts but all: `delete:k` and `keep:k` with `accuracy` and `random`.
    """
    clips, segments = time.shape
    by_weight = np.argsort(-time, axis=1, kind="stable")
    draws = np.random.default_rng(seed)
    orders = [draws.permuted(np.tile(np.arange(segments), (clips, 1)), axis=1) for _ in range(RANDOM_DRAWS)]
    rows: list[ResultRow] = []
    for count in range(1, segments):
        for subject in (DELETE, KEEP):
            hits = predict(_kept(by_weight, count, subject))
            random = np.mean([predict(_kept(order, count, subject)) for order in orders], axis=0)
            name = f"{subject}:{count}"
            rows += [_mean_row(name, "accuracy", hits, seed), _mean_row(name, "random", random, seed)]
    return rows


def _kept(order: np.ndarray, count: int, subject: str) -> np.ndarray:
    """(clips, segments), bool: all but the first parts of an order, or only these."""
    chosen = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(chosen, order[:, :count], True, axis=1)
    return ~chosen if subject == DELETE else chosen


def accuracy_rows(told: Explanation, untrained: Explanation, labels: Sequence[str], *, seed: int) -> list[ResultRow]:
    """How many classes are told right, beside the same before training and the most frequent class."""
    most = float(np.unique(np.asarray(labels), return_counts=True)[1].max() / len(labels))
    return [
        _mean_row(CLIPS, "accuracy", told.right, seed),
        _mean_row(CLIPS, "untrained", untrained.right, seed),
        ResultRow(TASK, CLIPS, "chance", most),
    ]


def _mean_row(subject: str, metric: str, hits: np.ndarray, seed: int) -> ResultRow:
    """A mean over clips with its interval."""
    values = np.asarray(hits, dtype=np.float64)
    low, high = bootstrap_of_mean(values, generator=np.random.default_rng(seed))
    return ResultRow(TASK, subject, metric, float(values.mean()), low, high)
