"""How well things are found without labels: where sound points, what classes come of it, what a detector learns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from mcnlab.errors import DataError
from mcnlab.evaluation.places import Things, cells_inside
from mcnlab.evaluation.rows import ResultRow
from mcnlab.metrics.detection import Boxes, box_average_precision, box_iou, correct_localization
from mcnlab.metrics.localization import boxes_of_maps, center_maps, inside_at_peak
from mcnlab.metrics.statistics import bootstrap_of_mean

TASK = "detection"
HEAT, CLASSES, DETECTOR = "heat map", "pseudo-classes", "detector"
"""Subjects: the cosine of places with sound; clusters of what is heard and seen; the detector, which hears nothing."""
OVERLAPS = {"ap_30": 0.3, "ap_50": 0.5}
"""Average precisions by the overlap that they ask for."""
NO_CLASS = -1
"""Stands for a true class that no pseudo-class was left for."""
FINER = 4
"""So many times finer than the map is the picture in which boxes are looked for."""


@dataclass(frozen=True)
class Detected:
    """What a detector says of many pictures."""

    boxes: Boxes
    """In shares of the frame."""
    classes: Int[np.ndarray, " boxes"]


def heat_rows(
    maps: Mapping[str, Float[np.ndarray, "clips height width"]], things: Sequence[Things], *, seed: int
) -> list[ResultRow]:
    """Where heat maps point, and whether their boxes hold what sounds; clips in which nothing in sight sounds are out.

    Args:
        maps: by name what is compared: `""` the trained model, others such as `untrained` or `swapped`; all of a size.
        things: of every clip, in the middle of it.
        seed: of the resampling.

    Returns:
        `pointing` and `corloc` (box with an overlap of at least 0.5) of each, and of the center of the picture.

    Raises:
        DataError: in no clip does anything in sight sound.
    """
    heard = [clip for clip, one in enumerate(things) if one.sounding.any()]
    if not heard:
        raise DataError("the task detection needs held-out clips with boxes of what sounds")
    height, width = next(iter(maps.values())).shape[1:]
    inside = np.stack([cells_inside(things[clip].heard.corners, (height, width)) for clip in heard])
    rows: list[ResultRow] = []
    for name, map_ in {**maps, "center": center_maps(len(things), (height, width))}.items():
        ending = f"_{name}" if name else ""
        hits = _in_the_middle(inside) if name == "center" else inside_at_peak(map_[heard], inside)
        found = boxes_of_maps(map_[heard], (FINER * height, FINER * width)) / (FINER * np.array([width, height] * 2))
        right = [
            bool((box_iou(one[None], things[c].heard.corners) >= 0.5).any())
            for one, c in zip(found, heard, strict=True)
        ]
        rows += [
            _mean_row(HEAT, f"pointing{ending}", hits, seed),
            _mean_row(HEAT, f"corloc{ending}", np.array(right), seed),
        ]
    return rows


def _in_the_middle(inside: np.ndarray) -> np.ndarray:
    """Whether the middle cell of the picture is inside."""
    return np.asarray(inside[:, inside.shape[1] // 2, inside.shape[2] // 2])


def names_of_classes(classes: Int[np.ndarray, " clips"], labels: Sequence[str], *, count: int) -> dict[str, int]:
    """The pseudo-class that stands for each true one: matched one to one, such that most clips are right.

    To be asked of training clips, so that no label of a held-out clip has a say in how held-out clips are scored.

    Args:
        classes: (N,), from 0 to count - 1: of every clip.
        labels: what sounds in each.
        count: pseudo-classes; those that no clip has can be given to a true class too.

    Returns:
        By true class; of more true classes than `count` some have none.

    Source: Hungarian matching as in Asano et al. (2020), SeLaVi, arXiv 2006.13662, there on the clips that are scored.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    table = np.zeros((len(names), count), dtype=np.int64)
    np.add.at(table, (numbers, classes), 1)
    return {str(names[row]): int(column) for row, column in zip(*linear_sum_assignment(-table), strict=True)}


def class_rows(
    classes: Mapping[str, Int[np.ndarray, " clips"]],
    names: Mapping[str, Mapping[str, int]],
    labels: Sequence[str | None],
    *,
    seed: int,
) -> list[ResultRow]:
    """How often pseudo-classes are the true ones.

    Args:
        classes: by name what is compared: of every clip; `""` the trained model.
        names: for each of them the pseudo-class of every true one, see `names_of_classes`.
        labels: what sounds in the clip; None is left out.
        seed: of the resampling.

    Returns:
        `accuracy` of each, and `accuracy_chance`: what the same classes, dealt to other clips, can expect.
    """
    known = [(clip, label) for clip, label in enumerate(labels) if label is not None]
    rows: list[ResultRow] = []
    for name, one in classes.items():
        told = one[[clip for clip, _ in known]]
        truth = np.array([names[name].get(label, NO_CLASS) for _, label in known])
        rows.append(_mean_row(CLASSES, f"accuracy_{name}" if name else "accuracy", told == truth, seed))
        if not name:
            chance = float((told[:, None] == truth[None]).mean())
    return [*rows, ResultRow(TASK, CLASSES, "accuracy_chance", chance)]


def detector_rows(
    found: Mapping[str, Detected], names: Mapping[str, Mapping[str, int]], things: Sequence[Things]
) -> list[ResultRow]:
    """Average precision of a detector over all things in sight, silent or not, and where its surest box lies.

    Args:
        found: by name what is compared; `""` the trained detector.
        names: for each of them the pseudo-class of every true one, see `names_of_classes`.
        things: of every clip.

    Returns:
        `ap_30`, `ap_50`, `corloc` of each; and `ap_30` of every class for the trained one.
    """
    truth, labels = true_boxes(things)
    rows: list[ResultRow] = []
    for name, one in found.items():
        ending = f"_{name}" if name else ""
        for metric, overlap in OVERLAPS.items():
            by_class = precisions_by_class(one, truth, labels, names[name], iou=overlap)
            rows.append(ResultRow(TASK, DETECTOR, f"{metric}{ending}", float(np.mean(list(by_class.values())))))
            if metric == "ap_30" and not name:
                rows += [ResultRow(TASK, f"{DETECTOR}:{label}", metric, value) for label, value in by_class.items()]
        rows.append(ResultRow(TASK, DETECTOR, f"corloc{ending}", float(correct_localization(one.boxes, truth).mean())))
    return rows


def true_boxes(things: Sequence[Things]) -> tuple[Boxes, np.ndarray]:
    """All things of all clips, in shares of the frame, and their classes.

    Raises:
        DataError: there are none.
    """
    image = np.repeat(np.arange(len(things)), [len(one.labels) for one in things])
    if not len(image):
        raise DataError("the task detection needs held-out clips with boxes")
    corners = np.concatenate([one.corners for one in things])
    return Boxes(image, corners, np.ones(len(image))), np.array([label for one in things for label in one.labels])


def precisions_by_class(
    found: Detected, truth: Boxes, labels: np.ndarray, names: Mapping[str, int], *, iou: float
) -> dict[str, float]:
    """Average precision of each true class by the pseudo-class that stands for it.

    Args:
        found: detections of all pseudo-classes.
        truth: all that is there.
        labels: (truth,), classes.
        names: the pseudo-class of every true one.
        iou: least overlap of a hit.

    Returns:
        By true class; 0 for one without a pseudo-class.
    """
    return {
        label: box_average_precision(
            found.boxes.of(found.classes == names.get(label, NO_CLASS)), truth.of(labels == label), iou=iou
        )
        for label in np.unique(labels).tolist()
    }


def _mean_row(subject: str, metric: str, hits: np.ndarray, seed: int) -> ResultRow:
    """A share of clips with its interval."""
    values = hits.astype(np.float64)
    low, high = bootstrap_of_mean(values, generator=np.random.default_rng(seed))
    return ResultRow(TASK, subject, metric, float(values.mean()), low, high)
