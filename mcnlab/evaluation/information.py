"""What two views share at least, by their embeddings, beside what they can share and what is known that they do."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from mcnlab.errors import DataError, ShapeError
from mcnlab.evaluation.rows import ResultRow, present_rows
from mcnlab.metrics.information import information_bound
from mcnlab.metrics.statistics import bootstrap_of_mean

TASK = "bound"
Sides = tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, "_ _"]]
"""Two (N, D) arrays in one space, row i of both from clip i; rows of NaN are missing."""


def evaluate_information(
    pairs: Mapping[str, Sides],
    *,
    temperature: float,
    untrained: Mapping[str, Sides] | None = None,
    shared_nats: Mapping[str, float] | None = None,
    seed: int = 0,
    draws: int = 1000,
) -> tuple[ResultRow, ...]:
    """The lower bound of the mutual information of each pair, over the clips that have both sides.

    Args:
        pairs: Subject (`va`, `video-depth`) -> its two sides.
        temperature: Divides the cosines. Above 0.
        untrained: The same before training.
        shared_nats: Subject -> entropy of what the two sides share, where it is known.
        seed: Of the resampling of clips.
        draws: Number of resamples.

    Returns:
        Rows per pair, in nats, larger is more: `information_nats` with its 95 % interval over clips,
        `log_candidates`, which it cannot exceed, and, where given, `untrained` and `shared_nats`. Embeddings that tell
        nothing give 0 or less.

    Raises:
        DataError: A pair with fewer than two common clips.
        ShapeError: Two sides of a pair differ in shape.
        NonFiniteError: An embedding is infinite, or NaN in part.

    Source:
        FORMULAS 10: I(x; y) >= log k - L; see `mcnlab.metrics.information.information_bound`.

    Example:
        >>> rows = evaluate_information({"va": (np.eye(4), np.eye(4))}, temperature=0.01)
        >>> [(row.metric, round(row.value, 3)) for row in rows]
        [('information_nats', 1.386), ('log_candidates', 1.386)]
    """
    rows: list[ResultRow] = []
    for subject, sides in pairs.items():
        values = _of_pair(subject, sides, temperature)
        low, high = bootstrap_of_mean(values, generator=np.random.default_rng(seed), draws=draws)
        rows.append(ResultRow(TASK, subject, "information_nats", float(values.mean()), low, high))
        rows.append(ResultRow(TASK, subject, "log_candidates", math.log(len(values))))
        if untrained is not None and subject in untrained:
            before = _of_pair(subject, untrained[subject], temperature)
            rows.append(ResultRow(TASK, subject, "untrained", float(before.mean())))
        if shared_nats is not None and subject in shared_nats:
            rows.append(ResultRow(TASK, subject, "shared_nats", shared_nats[subject]))
    return tuple(rows)


def _of_pair(subject: str, sides: Sides, temperature: float) -> np.ndarray:
    """(clips,): what each clip that has both sides adds to the bound."""
    first, second = sides
    if first.shape != second.shape:
        raise ShapeError(f"{subject}: one side is {first.shape} but the other is {second.shape}")
    both = present_rows(subject, first) & present_rows(subject, second)
    if both.sum() < 2:
        raise DataError(f"{subject}: a bound needs at least two clips with both sides, got {both.sum()}")
    x, y = (torch.from_numpy(np.ascontiguousarray(side[both])) for side in sides)
    return information_bound(x, y, temperature=temperature).numpy()
