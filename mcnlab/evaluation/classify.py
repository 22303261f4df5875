"""How many held-out clips a model's own classifiers name right."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from mcnlab.errors import DataError
from mcnlab.evaluation.rows import ResultRow
from mcnlab.metrics.statistics import bootstrap_of_mean
from mcnlab.numerics import key_generator

TASK = "classify"


def evaluate_classes(
    scores: Mapping[str, Float[np.ndarray, "clips classes"]],
    labels: Int[np.ndarray, " clips"],
    *,
    untrained: Mapping[str, Float[np.ndarray, "clips classes"]],
    permuted: Mapping[str, Float[np.ndarray, "clips classes"]],
    parameters: Mapping[str, int],
    seed: int,
) -> list[ResultRow]:
    """Accuracy of classifiers.

    Args:
        scores: by subject; rows of NaN are clips without the modality.
        labels: (clips,), number of the class of each clip; -1 where it was not learned, left out.
        untrained: the same subjects before training.
        permuted: subjects whose classifier is a teacher's: the same with the channels that it reads dealt anew.
        parameters: by subject: numbers that telling classes takes.
        seed: of the resampling.

    Returns:
        By subject `accuracy` with its interval over clips, `untrained_accuracy`, `chance_accuracy` (the most frequent
        class), `permuted_accuracy` where there is a teacher's classifier, and `parameters`.

    Raises:
        DataError: no clip has a class that was learned.
    """
    rows: list[ResultRow] = []
    for subject, told in scores.items():
        part = np.flatnonzero((labels >= 0) & np.isfinite(told).all(axis=1))
        if len(part) == 0:
            raise DataError(f"{subject}: no held-out clip has a class that was learned")
        right = told[part].argmax(axis=1) == labels[part]
        interval = bootstrap_of_mean(right, generator=key_generator(seed, TASK, subject))
        rows.append(ResultRow(TASK, subject, "accuracy", float(right.mean()), *interval))
        for prefix, other in (("untrained", untrained), ("permuted", permuted)):
            if subject in other:
                hits = other[subject][part].argmax(axis=1) == labels[part]
                rows.append(ResultRow(TASK, subject, f"{prefix}_accuracy", float(hits.mean())))
        most = np.bincount(labels[part]).max() / len(part)
        rows.append(ResultRow(TASK, subject, "chance_accuracy", float(most)))
        rows.append(ResultRow(TASK, subject, "parameters", float(parameters[subject])))
    return rows
