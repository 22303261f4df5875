"""A compact detector without anchors on the map of the video tower, and the layers that tell pseudo-classes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

FIRST_SCORE = 0.1
"""Before training every place holds every class with this probability, so that the many empty ones do not swamp the
first steps."""


class CenterDetector(nn.Module):
    """Which class has its center where, and how far the sides of its box are from there; sees video alone.

    Args:
        in_dim: channels of the map.
        width: inner channels.
        classes: how many.

    Source: Zhou, Wang, Krähenbühl (2019), arXiv 1904.07850; distances to the four sides in place of size and offset as
    in Tian et al. (2019), arXiv 1904.01355. Sizes are our own.
    """

    def __init__(self, in_dim: int, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.trunk = nn.Sequential(
            nn.Conv2d(in_dim, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.center = nn.Conv2d(width, classes, 1)
        self.sides = nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.center.bias, math.log(FIRST_SCORE / (1 - FIRST_SCORE)))  # type: ignore[arg-type]

    def forward(
        self, maps: Float[Tensor, "rows in_dim height width"]
    ) -> tuple[Float[Tensor, "rows classes height width"], Float[Tensor, "rows 4 height width"]]:
        """What is where.

        Args:
            maps: (rows, in_dim, height, width), of the video tower.

        Returns:
            (rows, classes, height, width): scores before a sigmoid; (rows, 4, height, width): how far left, top, right
            and bottom are from the middle of a cell, in shares of the frame, above 0.
        """
        x = self.trunk(maps)
        return self.center(x), functional.softplus(self.sides(x))


class PseudoHeads(nn.Module):
    """A linear layer for sound and one for sight that tell the same classes.

    Args:
        dim: width of the space that both live in.
        classes: how many.

    Source: Asano et al. (2020), SeLaVi, arXiv 2006.13662, section 3.2: heads of two modalities share their labels.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.audio = nn.Linear(dim, classes)
        self.video = nn.Linear(dim, classes)

    def forward(
        self, heard: Float[Tensor, "rows dim"], seen: Float[Tensor, "rows dim"]
    ) -> tuple[Float[Tensor, "rows classes"], Float[Tensor, "rows classes"]]:
        """Scores of the classes by sound and by sight, before a softmax."""
        return self.audio(heard), self.video(seen)


def cell_middles(height: int, width: int, *, like: Tensor) -> Float[Tensor, "height width 2"]:
    """x and y of the middle of every cell, in shares of the frame.

    Args:
        height: cells.
        width: cells.
        like: gives type and device.

    Returns:
        (height, width, 2).
    """
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=2)


def boxes_at_peaks(
    scores: Float[Tensor, "rows classes height width"], sides: Float[Tensor, "rows 4 height width"], *, most: int = 20
) -> tuple[Float[Tensor, "rows most 4"], Float[Tensor, "rows most"], Float[Tensor, "rows most"]]:
    """The boxes at the highest peaks of the center maps; a peak is not lower than its eight neighbors.

    Args:
        scores: of the detector, before a sigmoid.
        sides: of the detector.
        most: boxes per row, over all classes; at most classes · height · width.

    Returns:
        Corners (left, top, right, bottom) in shares of the frame, within 0 … 1; scores from 0 to 1, 0 where there are
        fewer peaks; classes, as whole numbers.
    """
    classes, height, width = scores.shape[1:]
    sure = scores.sigmoid()
    peaks = torch.where(functional.max_pool2d(sure, 3, stride=1, padding=1) == sure, sure, 0)
    best, place = peaks.flatten(1).topk(min(most, classes * height * width), dim=1)  # (rows, most)
    cell = place % (height * width)
    middles = cell_middles(height, width, like=sides).flatten(0, 1)[cell]  # (rows, most, 2)
    away = sides.flatten(2).transpose(1, 2).gather(1, cell[..., None].expand(-1, -1, 4))  # (rows, most, 4)
    corners = torch.cat((middles - away[..., :2], middles + away[..., 2:]), dim=2).clamp(0, 1)
    return corners, best, (place // (height * width)).to(scores.dtype)
