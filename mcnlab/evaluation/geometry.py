"""The shape of a space: how close true pairs are, how evenly clips are spread, how far modalities sit apart."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from mcnlab.errors import DataError, ShapeError
from mcnlab.evaluation.rows import ResultRow, present_rows, unit_rows
from mcnlab.metrics.geometry import alignment, modality_gap, uniformity

TASK = "geometry"


def evaluate_geometry(
    pairs: Mapping[str, tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, "_ _"]]],
    modalities: Mapping[str, Float[np.ndarray, "clips _"]],
) -> tuple[ResultRow, ...]:
    """Alignment and gap of each pair, uniformity of each modality, on unit-length embeddings.

    Args:
        pairs: Subject (`video-text`) -> two (N, D) arrays in one space, row i of both from clip i; rows of NaN are
            missing. Alignment is over clips that have both; the gap is between all clips of one and all of the other.
        modalities: Subject (`video`, `video@va`) -> (N, D).

    Returns:
        Rows `alignment` and `modality_gap` per pair, `uniformity` per modality; lower is closer, nearer, more even.

    Raises:
        DataError: A pair without a common clip, or a modality with fewer than two.
        ShapeError: Two sides of a pair differ in shape.
        NonFiniteError: An embedding is infinite, or NaN in part.

    Source:
        FORMULAS 7: Wang and Isola 2020, arXiv 2005.10242; Liang et al. 2022, arXiv 2203.02053.

    Example:
        >>> [row.value for row in evaluate_geometry({"video-text": (np.eye(2), np.eye(2))}, {})]
        [0.0, 0.0]
    """
    rows: list[ResultRow] = []
    for subject, (first, second) in pairs.items():
        rows += _pair_rows(subject, first, second)
    for subject, vectors in modalities.items():
        here = present_rows(subject, vectors)
        if here.sum() < 2:
            raise DataError(f"{subject}: uniformity needs at least two clips, got {here.sum()}")
        rows.append(ResultRow(TASK, subject, "uniformity", uniformity(_unit(vectors[here]))))
    return tuple(rows)


def _pair_rows(subject: str, first: np.ndarray, second: np.ndarray) -> list[ResultRow]:
    """Alignment over the clips that have both sides, and the gap between the sides."""
    if first.shape != second.shape:
        raise ShapeError(f"{subject}: one side is {first.shape} but the other is {second.shape}")
    one, other = present_rows(subject, first), present_rows(subject, second)
    both = one & other
    if not both.any():
        raise DataError(f"{subject}: none of {len(first)} clips has both sides")
    return [
        ResultRow(TASK, subject, "alignment", alignment(_unit(first[both]), _unit(second[both]))),
        ResultRow(TASK, subject, "modality_gap", modality_gap(_unit(first[one]), _unit(second[other]))),
    ]


def _unit(vectors: np.ndarray) -> torch.Tensor:
    """Unit-length rows as a tensor."""
    return torch.from_numpy(unit_rows(vectors))
