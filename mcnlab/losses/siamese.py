"""Losses without negatives: two looks at the same thing, one of which predicts the other."""

import torch
from jaxtyping import Float
from torch import Tensor

from mcnlab.errors import ShapeError
from mcnlab.numerics import l2_normalize


def negative_cosine(
    prediction: Float[Tensor, "first width"], target: Float[Tensor, "second other_width"]
) -> Float[Tensor, ""]:
    """Minus the cosine of each prediction with its target, mean over rows; no gradient reaches the target.

    Args:
        prediction: (B, D), any float type, B >= 1.
        target: (B, D).

    Returns:
        (), float32 or float64, -1 to 1; -1 where every prediction points the way of its target.

    Raises:
        ShapeError: the shapes differ, or there are no rows.

    Source: SimSiam (Chen and He, CVPR 2021), arXiv 2011.10566, equations 1 and 3.

    Example:
        >>> negative_cosine(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0]]))
        tensor(-1.)
    """
    if prediction.shape != target.shape or not len(prediction):
        raise ShapeError(f"predictions {tuple(prediction.shape)} but targets {tuple(target.shape)}")
    return -(l2_normalize(prediction) * l2_normalize(target.detach())).sum(dim=1).mean()


def spread(projections: Float[Tensor, "rows width"]) -> Float[Tensor, ""]:
    """Mean standard deviation of the components of unit vectors, in parts of 1/√D: the watch over collapse.

    Args:
        projections: (B, D).

    Returns:
        (), 0 where all rows point the same way, about 1 where they point anywhere.

    Source: Chen and He (CVPR 2021), arXiv 2011.10566, section 4.1.
    """
    unit = l2_normalize(projections)
    return torch.std(unit, dim=0, correction=0).mean() * unit.shape[1] ** 0.5
