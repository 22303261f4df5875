"""Centering and scaling of untrained features, fitted on the train split alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mcnlab.errors import DataError

_VARIANCE_FLOOR = 1e-3
"""Share of the largest variance that is added to every one, so that empty directions are not blown up."""
_DIRECTION_ROWS = 1800
"""About how many rows the principal directions are found from; time grows with the cube."""
_BLAS_BUFFER_BYTES = 40 * 2**20
"""A little more than what OpenBLAS takes for its work."""
_WHITENING = 0.25
"""Directions are divided by their variance to this power: 0 leaves them, 0.5 makes them all equal. Full whitening
gives noise the same weight as signal: on 500 lip videos it read fewer words than halfway (52 against 67 % of slots)."""


@dataclass(frozen=True)
class Calibration:
    """Principal directions of raw features, both signs, centered and scaled as max-pooling will see them.

    A tower takes the maximum over a clip and normalizes it. So every direction is kept with both signs (a maximum
    forgets the other one), and the center is that of the clips' maxima: shifting and maximum commute.
    """

    mean: np.ndarray
    """(raw,), float32."""
    directions: np.ndarray
    """(raw, dim / 2), float32: what a raw row is projected on, already scaled."""
    center: np.ndarray
    """(dim,), float32: mean of the clips' maxima."""

    @classmethod
    def fit(cls, clips: Sequence[np.ndarray], *, dim: int) -> Self:
        """Fit on the raw features of some train clips.

        Args:
            clips: each (rows, raw), float, at least one row.
            dim: width of the result; even. Directions beyond the number of rows stay empty (zero).

        Returns:
            The calibration.

        Raises:
            DataError: there are no rows, or the width is odd.
        """
        if dim < 2 or dim % 2:
            raise DataError(f"the width of calibrated features must be even, got {dim}")
        if not clips or not sum(len(clip) for clip in clips):
            raise DataError("no train clip with frames to calibrate the visual features on")
        rows = np.concatenate(clips).astype(np.float32)  # (rows, raw)
        mean = rows.mean(axis=0)
        few = rows[:: max(1, len(rows) // _DIRECTION_ROWS)]  # neighbors within a clip are nearly equal anyway
        raw = cls(mean, _directions(few - mean, dim // 2), np.zeros(dim, np.float32))
        maxima = np.stack([raw(clip).max(axis=0) for clip in clips if len(clip)])  # (clips, dim)
        center = maxima.mean(axis=0)
        gain = np.float32(1 / _spread(maxima - center, raw(rows)))
        return cls(mean, raw.directions * gain, center * gain)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Calibrate raw features.

        Args:
            rows: (rows, raw), float.

        Returns:
            (rows, dim), float32.
        """
        projected = (rows.astype(np.float32) - self.mean) @ self.directions  # (rows, dim / 2)
        return np.concatenate([projected, -projected], axis=1) - self.center

    def arrays(self, track: str) -> dict[str, np.ndarray]:
        """The calibration as arrays for a store.

        Args:
            track: name to put before each.

        Returns:
            Arrays by name, `TRACK.mean` and so on.
        """
        return {f"{track}.{name}": np.ascontiguousarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], track: str) -> Self:
        """The calibration that a store keeps for a track.

        Args:
            arrays: what the store holds.
            track: the track.

        Returns:
            The calibration.

        Raises:
            DataError: the store has none for this track.
        """
        names = ("mean", "directions", "center")
        absent = [name for name in names if f"{track}.{name}" not in arrays]
        if absent:
            raise DataError(f"the store keeps no calibration {track}.{absent[0]}")
        return cls(*(arrays[f"{track}.{name}"] for name in names))


def _spread(maxima: np.ndarray, rows: np.ndarray) -> float:
    """Standard deviation of the clips' maxima; that of the rows where there are too few clips to tell."""
    across_rows = float(rows.std())
    across_clips = float(maxima.std())
    if across_clips > 0.01 * across_rows:
        return across_clips
    return across_rows or 1.0


def _directions(centered: np.ndarray, count: int) -> np.ndarray:
    """(rows, raw) -> (raw, count): principal directions, scaled toward equal variance."""
    from scipy.linalg import eigh  # late: start-up time

    rows, size = centered.shape
    kept = min(count, rows, size)
    wide = rows < size  # then the small matrix has the same variances
    square = centered @ centered.T if wide else centered.T @ centered
    order = len(square)
    np.empty(_BLAS_BUFFER_BYTES + 4 * 8 * square.size, np.uint8)  # without memory OpenBLAS would wait for ever
    variance, vectors = eigh(square.astype(np.float64) / rows, subset_by_index=[order - kept, order - 1])
    variance, vectors = np.maximum(variance[::-1], 0), vectors[:, ::-1]
    floor = _VARIANCE_FLOOR * variance.max() + 1e-12
    if wide:
        vectors = centered.T @ vectors / np.sqrt(rows * np.maximum(variance, floor))
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)] < 0, -1, 1)
    scaled = np.zeros((size, count), np.float32)
    scaled[:, :kept] = vectors / (variance + floor) ** _WHITENING
    return scaled
