"""Boxes against true boxes: overlap, average precision, CorLoc."""

import numpy as np
import pytest

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.metrics.detection import (
    Boxes,
    box_average_precision,
    box_iou,
    correct_localization,
    detection_hits,
    mean_average_precision,
)


def boxes(*rows):
    """Of (image, left, right, score): strips of height 1."""
    array = np.array(rows, dtype=np.float64).reshape(-1, 4)
    corners = np.stack([array[:, 1], np.zeros(len(array)), array[:, 2], np.ones(len(array))], axis=1)
    return Boxes(array[:, 0].astype(np.int64), corners, array[:, 3])


def strips_at(*rights_and_scores):
    """Detections in images of their own, right or not, with truths in all images and one more."""
    found = boxes(
        *((n, 0 if right else 5, 1 if right else 6, score) for n, (right, score) in enumerate(rights_and_scores))
    )
    return found, boxes(*((n, 0, 1, 0) for n in range(len(rights_and_scores))))


def test_overlap_is_known_on_paper():
    first = np.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    second = np.array([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(box_iou(first, second), [[1 / 7, 1, 0, 0], [0, 0, 0, 0]])


def test_overlap_is_symmetric():
    corners = np.random.default_rng(0).random((6, 4))
    corners[:, 2:] += corners[:, :2]
    np.testing.assert_array_equal(box_iou(corners[:2], corners[2:]), box_iou(corners[2:], corners[:2]).T)


@pytest.mark.parametrize(
    ("rights_and_scores", "expected"),
    [
        ([(True, 0.9), (True, 0.8)], 1.0),
        ([(True, 0.9), (False, 0.8)], 0.5),
        ([(False, 0.9), (True, 0.8)], 0.5 * 0.5),
        ([(True, 0.9), (False, 0.8), (True, 0.7), (False, 0.6)], 0.25 * 1 + 0.25 * 2 / 3),
        ([(False, 0.9), (True, 0.8), (True, 0.7)], 2 / 3 * 2 / 3),  # precision made falling: 1/2 becomes 2/3
        ([(False, 0.9), (False, 0.8)], 0.0),
        ([(True, 0.5), (False, 0.5)], 0.5 * 0.5),  # of equal scores none comes first
        ([(False, 0.5), (True, 0.5)], 0.5 * 0.5),
    ],
)
def test_average_precision_is_known_on_paper(rights_and_scores, expected):
    assert box_average_precision(*strips_at(*rights_and_scores), iou=0.5) == pytest.approx(expected)


def test_a_truth_is_found_once():
    found, truth = boxes((0, 0, 1, 0.9), (0, 0, 1, 0.8)), boxes((0, 0, 1, 0))
    assert detection_hits(found, truth, iou=0.5)[0].tolist() == [True, False]


def test_a_detection_does_not_reach_into_another_image():
    assert box_average_precision(boxes((1, 0, 1, 0.9)), boxes((0, 0, 1, 0)), iou=0.5) == 0.0


def test_a_higher_threshold_asks_for_more_overlap():
    found, truth = boxes((0, 0, 2, 0.9)), boxes((0, 0, 1, 0))
    assert box_average_precision(found, truth, iou=0.5) == 1.0
    assert box_average_precision(found, truth, iou=0.51) == 0.0


def test_without_detections_nothing_is_found_and_without_truth_nothing_is_known():
    assert box_average_precision(boxes(), boxes((0, 0, 1, 0)), iou=0.5) == 0.0
    assert np.isnan(box_average_precision(boxes((0, 0, 1, 0.5)), boxes(), iou=0.5))


def test_the_mean_is_over_the_classes_that_are_there():
    found, truth = boxes((0, 0, 1, 0.9), (1, 0, 1, 0.9), (1, 0, 1, 0.9)), boxes((0, 0, 1, 0), (1, 0, 1, 0))
    mean, by_class = mean_average_precision(found, np.array([3, 3, 7]), truth, np.array([3, 5]), iou=0.5)
    assert by_class == {3: 0.5, 5: 0.0}
    assert mean == 0.25


def test_corloc_asks_for_the_surest_box_of_every_image():
    truth = boxes((0, 0, 1, 0), (1, 0, 1, 0), (2, 0, 1, 0))
    found = boxes((0, 0, 1, 0.9), (0, 5, 6, 0.1), (1, 0, 1, 0.1), (1, 5, 6, 0.9))
    assert correct_localization(found, truth).tolist() == [True, False, False]


@pytest.mark.parametrize("iou", [0.0, 1.01])
def test_an_overlap_out_of_range_is_refused(iou):
    for measure in (box_average_precision, correct_localization):
        with pytest.raises(ConfigError, match="iou must be above 0 and at most 1"):
            measure(boxes((0, 0, 1, 0)), boxes((0, 0, 1, 0)), iou=iou)


def test_what_cannot_be_counted_is_refused():
    one = boxes((0, 0, 1, 0.5))
    with pytest.raises(NonFiniteError, match="a score of a detection is NaN"):
        box_average_precision(boxes((0, 0, 1, np.nan)), one, iou=0.5)
    with pytest.raises(ShapeError, match="1 detections but 2 classes"):
        mean_average_precision(one, np.array([0, 1]), one, np.array([0]), iou=0.5)
    with pytest.raises(ShapeError, match="at least one true box"):
        mean_average_precision(one, np.array([0]), boxes(), np.array([], dtype=np.int64), iou=0.5)
