"""Where a heat map points and how well: consensus IoU, pointing, boxes from maps, simple baselines."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError

THRESHOLDS = np.arange(21) / 20
"""Where the curve of successes is looked at: 0, 0.05 … 1."""
VOTES_FOR_CERTAIN = 2
"""So many annotators make a pixel count whole, as in SoundNet-Flickr."""
Maps = Shaped[Any, "maps height width"]
"""Tensor or array."""


def consensus_iou(
    maps: Maps, truth: Shaped[Any, "truths image_height image_width"], *, threshold: float = 0.5
) -> Float[Tensor, " maps"]:
    """Overlap of a heat map with the place that annotators agree on: Σ P·G / (ΣG + Σ P[G = 0]).

    P are the pixels where the map, brought to the size of the image by bilinear interpolation and stretched to 0 … 1,
    reaches the threshold.

    Args:
        maps: (N, h, w), tensor or array, any finite values; larger is likelier.
        truth: (N, H, W), tensor or array, from 0 to 1: how sure annotators are of a pixel; not all 0. Several boxes are
            joined by `box_mask`, votes by `consensus_of_votes`.
        threshold: from 0 to 1, of the stretched map. 0 takes every pixel.

    Returns:
        (N,), float64, from 0 to 1; larger is better. A map of one value says nothing and counts as 0 everywhere.

    Raises:
        ShapeError: not one truth per map, or a truth without a pixel.
        NonFiniteError: a value is NaN or infinite.
        ConfigError: the threshold or a truth is not within 0 … 1.

    Source:
        Senocak et al. (CVPR 2018), arXiv 1803.03849, equation 8, as in the release of Song et al. (CVPR 2022),
        arXiv 2203.13412.

    Example:
        >>> consensus_iou(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([1.], dtype=torch.float64)
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold must be from 0 to 1, got {threshold}")
    sure = _checked("truth", truth)
    if len(maps) != len(sure):
        raise ShapeError(f"{len(maps)} maps but {len(sure)} truths")
    if len(sure) and (float(sure.min()) < 0 or float(sure.max()) > 1):
        raise ConfigError(f"truth must be from 0 to 1, got {float(sure.min())} to {float(sure.max())}")
    empty = (sure.flatten(1).amax(dim=1) == 0).nonzero()
    if len(empty):
        raise ShapeError(f"truth {int(empty[0])} has no pixel above 0")
    found = stretched(resized_maps(maps, (sure.shape[1], sure.shape[2]))) >= threshold  # (N, H, W)
    shared = torch.where(found, sure, 0).sum(dim=(1, 2))
    beside = (found & (sure == 0)).sum(dim=(1, 2))
    return shared / (sure.sum(dim=(1, 2)) + beside)


def resized_maps(maps: Maps, size: tuple[int, int]) -> Float[Tensor, "maps _ _"]:
    """Maps brought to the size of an image, bilinear, edges of cells at edges of pixels.

    Args:
        maps: (N, h, w), tensor or array, finite.
        size: height and width in pixels.

    Returns:
        (N, *size), float64.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    wide = _checked("maps", maps)
    return functional.interpolate(wide[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def stretched(maps: Float[Tensor, "maps height width"]) -> Float[Tensor, "maps height width"]:
    """Each map from 0 to 1; a map of one value becomes 0 everywhere.

    Args:
        maps: (N, h, w), finite.

    Returns:
        The same shape.
    """
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)


def success_curve(overlaps: Shaped[Any, " maps"]) -> Float[np.ndarray, " thresholds"]:
    """Share of maps whose overlap reaches each of 21 thresholds; the first, 0, all reach.

    Args:
        overlaps: (N,), tensor or array, from 0 to 1; N at least 1.

    Returns:
        (21,), from 1 down.

    Raises:
        ShapeError: there are no overlaps.
    """
    values = np.asarray(overlaps, dtype=np.float64)
    if not len(values):
        raise ShapeError("a curve of successes needs at least one overlap")
    return np.asarray((values[None] >= THRESHOLDS[:, None]).mean(axis=1))


def area_under_successes(overlaps: Shaped[Any, " maps"]) -> float:
    """Area under the curve of successes, by trapezoids.

    Args:
        overlaps: (N,), from 0 to 1; N at least 1.

    Returns:
        From 0.025 (no overlap anywhere) to 1; larger is better.

    Source: Song et al. (CVPR 2022), arXiv 2203.13412, released evaluation.
    """
    return float(np.trapezoid(success_curve(overlaps), THRESHOLDS))


def pointing_hits(maps: Maps, truth: Shaped[Any, "truths image_height image_width"]) -> Bool[np.ndarray, " maps"]:
    """Whether the peak of a map lies in the truth: the middle of its largest cell, in the image.

    Ties count against us: of several largest cells all must lie there, so that a map of one value points nowhere.

    Args:
        maps: (N, h, w), tensor or array, finite.
        truth: (N, H, W); above 0 is inside.

    Returns:
        (N,), bool.

    Raises:
        ShapeError: not one truth per map.
        NonFiniteError: a value is NaN or infinite.

    Source: the pointing game of Zhang et al. (2016), arXiv 1608.00507, without their margin of 15 pixels.
    """
    cells, sure = _checked("maps", maps).numpy(), _checked("truth", truth).numpy() > 0
    if len(cells) != len(sure):
        raise ShapeError(f"{len(cells)} maps but {len(sure)} truths")
    rows, columns = (_middles(cells.shape[axis], sure.shape[axis]) for axis in (1, 2))
    return inside_at_peak(cells, sure[:, rows][:, :, columns])


def inside_at_peak(
    cells: Float[np.ndarray, "maps ..."], inside: Bool[np.ndarray, "maps ..."]
) -> Bool[np.ndarray, " maps"]:
    """Whether the largest cells of each row of cells are all inside.

    Args:
        cells: (N, …), any number of axes: in space, in time, in both.
        inside: the same shape.

    Returns:
        (N,), bool.
    """
    flat, truth = cells.reshape(len(cells), -1), inside.reshape(len(cells), -1)
    return np.asarray((truth | (flat < flat.max(axis=1, keepdims=True))).all(axis=1))


def boxes_of_maps(maps: Maps, size: tuple[int, int], *, share: float = 0.5) -> Float[np.ndarray, "maps 4"]:
    """The tight box around the peak of each map: pixels that reach a share of the maximum and hang together with it.

    Args:
        maps: (N, h, w), tensor or array, finite; what is below 0 counts as 0.
        size: height and width of the image in pixels; the map is brought to it first.
        share: of the maximum.

    Returns:
        (N, 4): left, top, right, bottom, in pixels, right and bottom beyond the last one. The whole image for a map
        that is nowhere above 0.

    Raises:
        ConfigError: the share is not above 0 and at most 1.
        NonFiniteError: a value is NaN or infinite.

    Source: Afouras et al. (CVPR 2022), arXiv 2104.06401, section 3.2.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share of the maximum must be above 0 and at most 1, got {share}")
    images = resized_maps(maps, size).clamp_min(0).numpy()
    return np.array([_box_around_peak(image, share) for image in images], dtype=np.float64).reshape(-1, 4)


def _box_around_peak(image: np.ndarray, share: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the component that holds the first largest pixel."""
    parts, _ = ndimage.label(image >= share * image.max(), structure=np.ones((3, 3)))
    rows, columns = ndimage.find_objects((parts == parts.flat[image.argmax()]).astype(np.int8))[0]
    return columns.start, rows.start, columns.stop, rows.stop


def box_mask(boxes: Shaped[np.ndarray, "boxes 4"], size: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """Pixels that some box covers, by their middles: the truth for data with one annotator.

    Args:
        boxes: (B, 4): left, top, right, bottom, in pixels.
        size: height and width.

    Returns:
        (*size), 0 or 1.
    """
    return np.minimum(_votes(boxes, size), 1.0)


def consensus_of_votes(
    boxes: Shaped[np.ndarray, "boxes 4"], size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """How sure annotators are of each pixel: min(1, votes / 2), a box for each annotator.

    Args:
        boxes: (B, 4): left, top, right, bottom, in pixels.
        size: height and width.

    Returns:
        (*size), from 0 to 1.

    Source: Senocak et al. (CVPR 2018), arXiv 1803.03849, equation 7.
    """
    return np.minimum(_votes(boxes, size) / VOTES_FOR_CERTAIN, 1.0)


def _votes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """How many boxes cover each pixel's middle."""
    y, x = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    left, top, right, bottom = (boxes[:, side, None] for side in range(4))
    over_x, over_y = (left <= x) & (x < right), (top <= y) & (y < bottom)  # (boxes, width), (boxes, height)
    return np.einsum("by,bx->yx", over_y.astype(np.float64), over_x.astype(np.float64))


def center_maps(count: int, size: tuple[int, int]) -> Float[np.ndarray, "maps height width"]:
    """The baseline that looks at nothing: 1 within the middle box, of half the height and half the width, else 0.

    Args:
        count: how many maps.
        size: height and width.

    Returns:
        (count, *size).
    """
    height, width = size
    middle = np.array([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]])
    return np.repeat(box_mask(middle, size)[None], count, axis=0)


def whole_image_iou(truth: Shaped[Any, "truths height width"]) -> Float[Tensor, " truths"]:
    """Consensus IoU of the answer "everywhere", which no map of one value can give.

    Args:
        truth: (N, H, W), from 0 to 1.

    Returns:
        (N,), float64: Σ G / (Σ G + pixels where G is 0).
    """
    sure = _checked("truth", truth)
    return sure.sum(dim=(1, 2)) / (sure.sum(dim=(1, 2)) + (sure == 0).sum(dim=(1, 2)))


def _middles(cells: int, pixels: int) -> np.ndarray:
    """The pixel in which the middle of each cell lies."""
    return ((np.arange(cells) + 0.5) * pixels / cells).astype(np.int64)


def _checked(name: str, values: Any) -> Tensor:
    """The same as float64 in host memory.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    wide = torch.as_tensor(values).detach().to("cpu", torch.float64)
    if not bool(wide.isfinite().all()):
        raise NonFiniteError(f"{name} {int((~wide.isfinite()).nonzero()[0][0])} has a value that is not finite")
    return wide
