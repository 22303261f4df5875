"""How good boxes are: intersection over union, average precision, CorLoc. No torch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError


@dataclass(frozen=True)
class Boxes:
    """Boxes of many images, one after the other."""

    image: Int[np.ndarray, " boxes"]
    """Which image a box belongs to."""
    corners: Float[np.ndarray, "boxes 4"]
    """Left, top, right, bottom; any unit."""
    scores: Float[np.ndarray, " boxes"]
    """How sure a detection is; of a truth nobody asks."""

    def of(self, chosen: Bool[np.ndarray, " boxes"]) -> "Boxes":
        """Some of them."""
        return Boxes(self.image[chosen], self.corners[chosen], self.scores[chosen])

    def __len__(self) -> int:
        return len(self.image)


def box_iou(
    first: Shaped[np.ndarray, "first 4"], second: Shaped[np.ndarray, "second 4"]
) -> Float[np.ndarray, "first second"]:
    """Intersection over union of every box with every other.

    Args:
        first: (N, 4): left, top, right, bottom.
        second: (M, 4).

    Returns:
        (N, M), from 0 to 1; 0 for boxes without area.

    Example:
        >>> box_iou(np.array([[0.0, 0.0, 2.0, 1.0]]), np.array([[1.0, 0.0, 2.0, 1.0]]))
        array([[0.5]])
    """
    start = np.maximum(first[:, None, :2], second[None, :, :2])
    stop = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(stop - start, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(shared / np.where(union > 0, union, 1.0))


def detection_hits(
    found: Boxes, truth: Boxes, *, iou: float
) -> tuple[Bool[np.ndarray, " found"], Int[np.ndarray, " found"]]:
    """Which detections are right: surest first, each takes the truth of its image that it overlaps most.

    A truth can be taken once; a detection whose best truth is taken already is wrong.

    Args:
        found: detections.
        truth: what is there.
        iou: least overlap, above 0 and at most 1.

    Returns:
        In order of falling score, the earlier detection first among equal ones: (N,) whether right; (N,) which
        detection stands there.

    Raises:
        ConfigError: `iou` out of range.
        NonFiniteError: a score is NaN or infinite.

    Source: Everingham et al. (2010), the VOC devkit's `VOCevaldet`, without its `difficult` objects.
    """
    if not 0 < iou <= 1:
        raise ConfigError(f"iou must be above 0 and at most 1, got {iou}")
    if not np.isfinite(found.scores).all():
        raise NonFiniteError("a score of a detection is NaN or infinite")
    order = np.argsort(-found.scores, kind="stable")
    overlaps = np.where(found.image[:, None] == truth.image[None], box_iou(found.corners, truth.corners), 0.0)
    hits, taken = np.zeros(len(order), dtype=bool), np.zeros(len(truth), dtype=bool)
    for place, one in enumerate(order if len(truth) else ()):
        best = int(overlaps[one].argmax())
        if overlaps[one, best] >= iou and not taken[best]:
            hits[place] = taken[best] = True
    return hits, order


def box_average_precision(found: Boxes, truth: Boxes, *, iou: float) -> float:
    """Area under the curve of precision over recall, precision made falling first (every point counts).

    Detections of equal score are taken together, so that their order decides nothing.

    Args:
        found: detections of one class, scores finite; larger is surer.
        truth: boxes of that class.
        iou: least overlap of a hit, such as 0.3 or 0.5.

    Returns:
        From 0 to 1; NaN without any truth.

    Raises:
        ConfigError: `iou` out of range.
        NonFiniteError: a score is NaN or infinite.

    Source: Everingham et al. (2010), as the VOC challenges count since 2010.

    Example:
        >>> one = Boxes(np.array([0]), np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([0.9]))
        >>> box_average_precision(one, one, iou=0.5)
        1.0
    """
    hits, order = detection_hits(found, truth, iou=iou)
    if not len(truth):
        return float("nan")
    scores = found.scores[order]
    last = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # the last of every group of equal ones
    right, seen = np.cumsum(hits)[last], (np.arange(len(hits)) + 1)[last]
    recall = right / len(truth)
    precision = np.maximum.accumulate((right / seen)[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def mean_average_precision(
    found: Boxes,
    found_classes: Int[np.ndarray, " found"],
    truth: Boxes,
    true_classes: Int[np.ndarray, " truth"],
    *,
    iou: float,
) -> tuple[float, dict[int, float]]:
    """Average precision of each class that is there, and their mean.

    Args:
        found: detections of all classes.
        found_classes: (N,), class of each.
        truth: all boxes that are there.
        true_classes: (M,), class of each; M at least 1.
        iou: least overlap of a hit.

    Returns:
        The mean, and by class of the truth.

    Raises:
        ShapeError: not one class per box, or no truth.
        ConfigError: `iou` out of range.
        NonFiniteError: a score is NaN or infinite.
    """
    for name, boxes, classes in (("detections", found, found_classes), ("truths", truth, true_classes)):
        if len(boxes) != len(classes):
            raise ShapeError(f"{len(boxes)} {name} but {len(classes)} classes")
    if not len(truth):
        raise ShapeError("average precision needs at least one true box")
    by_class = {
        int(one): box_average_precision(found.of(found_classes == one), truth.of(true_classes == one), iou=iou)
        for one in np.unique(true_classes)
    }
    return float(np.mean(list(by_class.values()))), by_class


def correct_localization(found: Boxes, truth: Boxes, *, iou: float = 0.5) -> Bool[np.ndarray, " images"]:
    """CorLoc: whether the surest box of an image overlaps some true box of it.

    Args:
        found: detections; of equal scores the first counts.
        truth: what is there.
        iou: least overlap.

    Returns:
        (images with a truth,), in order of their numbers; without a detection: False.

    Raises:
        ConfigError: `iou` out of range.

    Source: Deselaers, Alexe, Ferrari (IJCV 2012), section 6.
    """
    if not 0 < iou <= 1:
        raise ConfigError(f"iou must be above 0 and at most 1, got {iou}")
    return np.array(
        [_surest_overlap(found, truth, image) >= iou for image in np.unique(truth.image).tolist()], dtype=bool
    )


def _surest_overlap(found: Boxes, truth: Boxes, image: int) -> float:
    """Best overlap of an image's surest box with any of its true ones; 0 without a box."""
    own, there = found.of(found.image == image), truth.of(truth.image == image)
    if not len(own):
        return 0.0
    return float(box_iou(own.corners[[own.scores.argmax()]], there.corners).max())
