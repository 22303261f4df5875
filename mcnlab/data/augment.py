"""Several looks at one picture: random crops, mirror images and shades, keyed like all that is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mcnlab.batch import Batch
from mcnlab.data.cutting import NewArray
from mcnlab.data.loading import TrainingClips
from mcnlab.data.wrapped import WrappedClips
from mcnlab.numerics import key_generator

DRAWS = 7
"""Numbers that are drawn for each look."""


@dataclass(frozen=True)
class Looks:
    """How a picture is varied."""

    count: int = 2
    """Looks at each picture."""
    least_area: float = 0.4
    """Share of the picture that a crop shows at least."""
    shade: float = 0.4
    """How far brightness, contrast and saturation vary, 0 to 1."""


class AugmentedClips(WrappedClips):
    """Clips of another source, whose frames are several looks at the first of them.

    What is drawn depends on the epoch's key and the clip's place alone.

    Args:
        source: the clips; their video is frames.
        looks: how a picture is varied.
    """

    def __init__(self, source: TrainingClips, looks: Looks) -> None:
        super().__init__(source)
        self.looks = looks
        self._key: tuple[str | int, ...] = ("first",)

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """Begin an epoch of the source, with looks of its own."""
        self._key = tuple(key)
        return self.source.epoch(key, batch=batch)

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The same in the form in which the source keeps it; see `TrainingClips`."""
        batch = self.source.kept_batch(places)
        pictures = batch.inputs["video"][:, 0].float()  # (clips, channels, height, width)
        count = self.looks.count
        seen = new((len(places), count, *pictures.shape[1:]), np.float16)
        drawn = torch.from_numpy(np.stack([self._draws(int(place)) for place in places])).float()
        for look in range(count):
            seen[:, look] = varied(pictures, drawn[:, look], self.looks).numpy()
        lengths = {**batch.lengths, "video": torch.where(batch.present["video"], count, 0)}
        return replace(batch, inputs={**batch.inputs, "video": torch.from_numpy(seen)}, lengths=lengths)

    def _draws(self, place: int) -> np.ndarray:
        """(looks, draws), 0 to 1."""
        return key_generator(*self._key, "looks", place).random((self.looks.count, DRAWS))


def varied(
    pictures: Float[Tensor, "rows channels height width"], drawn: Float[Tensor, "rows draws"], looks: Looks
) -> Float[Tensor, "rows channels height width"]:
    """One look at each picture.

    Args:
        pictures: (rows, channels, height, width), 0 to 1.
        drawn: (rows, 7), 0 to 1: area of the crop, its column and its row, mirror image, brightness, contrast,
            saturation.
        looks: how far they vary.

    Returns:
        The same shape, 0 to 1.
    """
    area, column, row, mirror, brightness, contrast, saturation = drawn.unbind(dim=1)
    side = (looks.least_area + (1 - looks.least_area) * area).sqrt()
    ways = pictures.new_zeros(len(pictures), 2, 3)
    ways[:, 0, 0], ways[:, 1, 1] = side * torch.where(mirror < 0.5, -1.0, 1.0), side
    ways[:, 0, 2], ways[:, 1, 2] = (2 * column - 1) * (1 - side), (2 * row - 1) * (1 - side)
    grid = functional.affine_grid(ways, list(pictures.shape), align_corners=False)
    cut = functional.grid_sample(pictures, grid, align_corners=False, padding_mode="border")
    lift, stretch, paint = (looks.shade * (2 * x - 1)[:, None, None, None] for x in (brightness, contrast, saturation))
    gray = cut.mean(dim=1, keepdim=True)
    shaded = (gray + (cut - gray) * (1 + paint) - 0.5) * (1 + stretch) + 0.5 + lift / 2
    return shaded.clamp(0, 1)
