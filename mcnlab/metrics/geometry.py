"""Geometry of a space: are true pairs close, is the sphere used, do modalities sit apart."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mcnlab.errors import ConfigError, ShapeError

DISTANCES_AT_ONCE = 2**24
"""Distances held in memory at a time (64 MiB in float32)."""


def alignment(x: Float[Tensor, "first width"], y: Float[Tensor, "second other_width"]) -> float:
    """Mean squared distance of true pairs; lower is closer.

    Args:
        x: (N, D), N >= 1. Of unit length, if values are to be compared between spaces.
        y: (N, D). Row i belongs to row i of `x`.

    Returns:
        At least 0; at most 4 on the unit sphere, 2 for unrelated directions.

    Raises:
        ShapeError: `x` and `y` differ in shape, or are empty.

    Source:
        Wang and Isola 2020, arXiv 2005.10242, eq. 2 with exponent 2.

    Example:
        >>> alignment(torch.eye(2), torch.eye(2).flip(0))
        2.0
    """
    _check_pair(x, y)
    return float((x.double() - y.double()).square().sum(dim=1).mean())


def uniformity(x: Float[Tensor, "clips width"], *, sharpness: float = 2.0) -> float:
    """Log of the mean Gaussian potential over all pairs of different clips; lower is more evenly spread.

    Args:
        x: (N, D), N >= 2. Of unit length, if values are to be compared between spaces.
        sharpness: t in exp(-t * distance^2). Above 0.

    Returns:
        At most 0 (all clips at one point); about -2t for many clips evenly spread on a sphere of many dimensions.

    Raises:
        ShapeError: Fewer than two clips.
        ConfigError: `sharpness` is not above 0.

    Source:
        Wang and Isola 2020, arXiv 2005.10242, eq. 3. Computed block by block in the log domain.

    Example:
        >>> round(uniformity(torch.ones(3, 2)), 6)
        0.0
    """
    if len(x) < 2:
        raise ShapeError(f"uniformity needs at least two clips, got {len(x)}")
    if not (sharpness > 0.0 and math.isfinite(sharpness)):
        raise ConfigError(f"sharpness must be above 0, got {sharpness}")
    x = x if x.dtype == torch.float64 else x.float()
    step = max(1, DISTANCES_AT_ONCE // len(x))
    square = x.square().sum(dim=1)
    parts = []
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        distance = (square[rows, None] + square[None, start:] - 2 * x[rows] @ x[start:].T).clamp_min(0)
        later = torch.ones_like(distance, dtype=torch.bool).triu(1)  # every pair once, nobody with itself
        parts.append((-sharpness * distance).masked_fill(~later, -math.inf).flatten().logsumexp(0).double())
    pairs = len(x) * (len(x) - 1) / 2
    return float(torch.stack(parts).logsumexp(0)) - math.log(pairs)


def modality_gap(x: Float[Tensor, "first width"], y: Float[Tensor, "second other_width"]) -> float:
    """Distance between the centers of two modalities.

    Args:
        x: (N, D), N >= 1. Of unit length, if values are to be compared between spaces.
        y: (M, D). Not necessarily the same clips.

    Returns:
        From 0 (centers coincide) to 2 on the unit sphere.

    Raises:
        ShapeError: Widths differ, or one side is empty.

    Source:
        Liang et al. 2022, arXiv 2203.02053, section 4.2.

    Example:
        >>> modality_gap(torch.ones(3, 1), -torch.ones(2, 1))
        2.0
    """
    if x.shape[1] != y.shape[1] or len(x) == 0 or len(y) == 0:
        raise ShapeError(f"x is {tuple(x.shape)} but y is {tuple(y.shape)}")
    return float((x.double().mean(dim=0) - y.double().mean(dim=0)).norm())


def _check_pair(x: Tensor, y: Tensor) -> None:
    """Row by row, there must be something to compare."""
    if x.shape != y.shape or len(x) == 0:
        raise ShapeError(f"x is {tuple(x.shape)} but y is {tuple(y.shape)}")
