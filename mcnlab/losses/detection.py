"""Losses of a detector without anchors: where centers are, and how far the sides of a box are from there."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mcnlab.errors import ShapeError

SPREAD = 1 / 4
"""Standard deviation of a center's bell, in shares of its box."""
FOCUS, EASE = 2, 4
"""Published powers: of what is told well already, and of what lies near a center."""


def center_targets(
    boxes: Float[Tensor, "rows 4"],
    labels: Int[Tensor, " labels"],
    middles: Float[Tensor, "height width 2"],
    *,
    classes: int,
) -> Float[Tensor, "rows classes height width"]:
    """A bell around the center of a box, on the map of its class: 1 in the nearest cell, falling with distance.

    Args:
        boxes: (B, 4): left, top, right, bottom, in shares of the frame.
        labels: (B,), from 0 to classes − 1.
        middles: (h, w, 2): x and y of the middle of every cell, in shares of the frame.
        classes: how many.

    Returns:
        (B, classes, h, w), from 0 to 1, exactly one cell of each row 1.

    Raises:
        ShapeError: not one label per box.

    Source: Zhou, Wang, Krähenbühl (2019), arXiv 1904.07850, section 3. Difference: the bell is as wide as the box.
    """
    if len(labels) != len(boxes):
        raise ShapeError(f"{len(boxes)} boxes but {len(labels)} labels")
    center, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp_min(1e-3)
    away = (middles[None] - center[:, None, None]) / (SPREAD * extent[:, None, None])  # (B, h, w, 2)
    squared = away.square().sum(dim=3).flatten(1)  # (B, h · w)
    bell = (-0.5 * squared).exp()
    bell = bell.scatter(1, squared.argmin(dim=1, keepdim=True), 1.0).unflatten(1, middles.shape[:2])
    targets = bell.new_zeros(len(boxes), classes, *middles.shape[:2])
    targets[torch.arange(len(boxes), device=boxes.device), labels] = bell
    return targets


def center_focal_loss(
    scores: Float[Tensor, "rows classes height width"], targets: Float[Tensor, "rows classes height width"]
) -> Float[Tensor, ""]:
    """Cross-entropy of centers that heeds most what is told wrong, and little what lies near a center.

    Args:
        scores: before a sigmoid, any float type.
        targets: of `center_targets`.

    Returns:
        (), nats per center, at least 0.

    Source: Law and Deng (2018), arXiv 1808.01244, equation 1, with its powers 2 and 4.
    """
    wide = scores.float()
    sure, centers = wide.sigmoid(), (targets == 1)
    hit = -((1 - sure) ** FOCUS) * functional.logsigmoid(wide)
    miss = -((1 - targets) ** EASE) * sure**FOCUS * functional.logsigmoid(-wide)
    return torch.where(centers, hit, miss).sum() / centers.sum().clamp_min(1)


def side_error(
    sides: Float[Tensor, "rows 4 height width"],
    boxes: Float[Tensor, "rows 4"],
    middles: Float[Tensor, "height width 2"],
    targets: Float[Tensor, "rows classes height width"],
) -> Float[Tensor, ""]:
    """Mean distance between the sides that are told and those of the box, in shares of its width and height.

    Cells count as much as the bell around the center says.

    Args:
        sides: (B, 4, h, w): left, top, right, bottom from the middle of each cell, above 0.
        boxes: (B, 4), in shares of the frame.
        middles: (h, w, 2).
        targets: of `center_targets`.

    Returns:
        (), at least 0.
    """
    left_top = middles[None] - boxes[:, None, None, :2]  # (B, h, w, 2)
    right_bottom = boxes[:, None, None, 2:] - middles[None]
    wanted = torch.cat((left_top, right_bottom), dim=3).permute(0, 3, 1, 2)  # (B, 4, h, w)
    extent = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1e-3).repeat(1, 2)[..., None, None]
    weights = targets.sum(dim=1)  # (B, h, w)
    error = ((sides.float() - wanted).abs() / extent).mean(dim=1)
    return (weights * error).sum() / weights.sum().clamp_min(1e-6)
