"""The rows that every evaluation gives back: a run's results without the experiment and the seed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mcnlab.errors import NonFiniteError


@dataclass(frozen=True)
class ResultRow:
    """One number of one run; `low` and `high` are None where there is no interval."""

    task: str
    subject: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None


def present_rows(subject: str, embeddings: Float[np.ndarray, "clips width"]) -> Bool[np.ndarray, " clips"]:
    """Which clips have the modality: rows that are not NaN throughout.

    Args:
        subject: Name for the error.
        embeddings: (N, D). A missing modality is a row of NaN.

    Returns:
        (N,), true where the row is there.

    Raises:
        NonFiniteError: A row is NaN in part, or infinite: that is no missing modality but a broken number.

    Example:
        >>> present_rows("video", np.array([[1.0], [np.nan]]))
        array([ True, False])
    """
    present = ~np.isnan(embeddings).all(axis=1)
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1) & present)
    if len(broken):
        raise NonFiniteError(f"{subject}: {len(broken)} embeddings are not finite, first in row {broken[0]}")
    return present


def unit_rows(embeddings: Float[np.ndarray, "clips width"]) -> Float[np.ndarray, "clips width"]:
    """The same directions with length 1; rows of zeros stay zeros.

    Args:
        embeddings: (N, D), finite.

    Returns:
        (N, D), float32 or float64.

    Raises:
        Nothing.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0]]))
        array([[0.6, 0.8]])
    """
    wide = embeddings if embeddings.dtype == np.float64 else embeddings.astype(np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-6)
