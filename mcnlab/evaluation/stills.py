"""Single pictures: what a linear probe reads from the features of a video network and of its deflated forms."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from mcnlab.errors import DataError, ShapeError
from mcnlab.evaluation.rows import ResultRow
from mcnlab.metrics.statistics import bootstrap_of_mean

TASK = "stills"
PENALTIES = np.logspace(-3, 5, 17)
"""Candidates for the ridge penalty; the one with the smallest leave-one-out error on the training clips is taken."""
SHORTEST = 1e-6
"""Features that change less than this are left alone."""


class SplitFeatures(NamedTuple):
    """What one network makes of the clips that a probe learns from, and of those that it is asked about."""

    train: Float[np.ndarray, "train dim"]
    held_out: Float[np.ndarray, "clips dim"]


def evaluate_stills(
    features: Mapping[str, SplitFeatures],
    train_classes: np.ndarray,
    classes: np.ndarray,
    *,
    untrained: Mapping[str, SplitFeatures] | None = None,
    reference: tuple[str, ...] = (),
    column: str = "label",
    seed: int = 0,
) -> list[ResultRow]:
    """Accuracy of a linear probe on each kind of features.

    Args:
        features: subject (`static`, `deflated`, …) to features of both splits.
        train_classes: (train,), names; None or NaN where unknown, left out.
        classes: (clips,), likewise.
        untrained: the same subjects before training; adds rows `untrained`.
        reference: subjects whose accuracy the others are held against; adds rows `behind_SUBJECT`: by how much the
            reference is better, with a paired interval.
        column: where the classes come from; other than `label` it is named in the subject.
        seed: of the resampling for the 95 % intervals, over clips; the probes are not fitted again.

    Returns:
        Rows `accuracy`, `untrained`, `chance` (the most frequent training class) and `behind_…`.

    Raises:
        DataError: a side has fewer than two classes, or none of the held-out classes was seen in training.
        ShapeError: lengths do not fit.

    Source: ridge regression on indicators of the classes, as sklearn's `RidgeClassifierCV`; the linear protocol of
    Alayrac et al. (2020), arXiv 2006.16228, section 4.3 uses a linear SVM.
    """
    known, known_held_out = ~pd.isna(train_classes), ~pd.isna(classes)
    truth_train, truth = train_classes[known].astype(str), classes[known_held_out].astype(str)
    _check_classes(column, truth_train, truth)
    ending = "" if column == "label" else f":{column}"
    names, counts = np.unique(truth_train, return_counts=True)
    chance = float((truth == names[counts.argmax()]).mean())
    hits: dict[str, np.ndarray] = {}
    rows: list[ResultRow] = []
    for subject, one in features.items():
        hits[subject] = _hits(one, known, known_held_out, truth_train, truth)
        rows.append(_row(f"{subject}{ending}", "accuracy", hits[subject], seed))
        if untrained is not None and subject in untrained:
            before = _hits(untrained[subject], known, known_held_out, truth_train, truth)
            rows.append(_row(f"{subject}{ending}", "untrained", before, seed))
        rows.append(ResultRow(TASK, f"{subject}{ending}", "chance", chance))
    for better in reference:
        others = [subject for subject in features if subject not in reference]
        rows += [_row(f"{s}{ending}", f"behind_{better}", hits[better] - hits[s], seed) for s in others]
    return rows


def error_row(subject: str, error: float) -> ResultRow:
    """How far a deflated network's answers are from the video network's, relative to their size.

    Args:
        subject: `naive` or `deflated`.
        error: mean absolute difference over mean absolute value.

    Returns:
        A row `relative_l1`.
    """
    return ResultRow(TASK, subject, "relative_l1", error)


def _check_classes(column: str, train: np.ndarray, held_out: np.ndarray) -> None:
    """Raise where there is nothing to tell apart."""
    for name, values in (("training", train), ("held-out", held_out)):
        if len(np.unique(values)) < 2:
            raise DataError(f"{column}: the task stills needs two classes or more among the {name} clips")
    if not set(train.tolist()) & set(held_out.tolist()):
        raise DataError(f"{column}: no class of the held-out clips is among the training clips")


def _hits(
    features: SplitFeatures, known: np.ndarray, known_held_out: np.ndarray, truth_train: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """(known held-out clips,), 1.0 where the probe names the class."""
    from sklearn.linear_model import RidgeClassifierCV  # late: start-up time

    if len(features.train) != len(known) or len(features.held_out) != len(known_held_out):
        raise ShapeError(
            f"{len(features.train)} and {len(features.held_out)} rows of features, "
            f"but {len(known)} and {len(known_held_out)} classes"
        )
    seen, asked = (x.astype(np.float64) for x in (features.train[known], features.held_out[known_held_out]))
    center, spread = seen.mean(axis=0), seen.std(axis=0)
    scale = np.where(spread > SHORTEST, spread, 1.0)
    probe = RidgeClassifierCV(alphas=PENALTIES).fit((seen - center) / scale, truth_train)
    return (probe.predict((asked - center) / scale) == truth).astype(np.float64)


def _row(subject: str, metric: str, values: np.ndarray, seed: int) -> ResultRow:
    """A mean over clips with its interval."""
    low, high = bootstrap_of_mean(values, generator=np.random.default_rng(seed))
    return ResultRow(TASK, subject, metric, float(values.mean()), low, high)
