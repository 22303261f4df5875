"""Heat maps against the truth: consensus IoU, pointing, boxes, baselines."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.metrics import consensus_iou
from mcnlab.metrics.localization import (
    area_under_successes,
    box_mask,
    boxes_of_maps,
    center_maps,
    consensus_of_votes,
    inside_at_peak,
    pointing_hits,
    resized_maps,
    stretched,
    success_curve,
    whole_image_iou,
)

SSPL = dict(np.load(Path(__file__).parent / "golden" / "sspl_ciou.npz", allow_pickle=False))
SIZE = (int(SSPL["img_size"]), int(SSPL["img_size"]))


def released_truth():
    truth = np.zeros((len(SSPL["heat"]), *SIZE))
    for image, (y0, y1, x0, x1), value in zip(truth, SSPL["gt_box_y0y1x0x1"], SSPL["gt_value"], strict=True):
        image[y0:y1, x0:x1] = value
    return truth


def map_with(value_at, shape=(4, 4)):
    cells = np.zeros((1, *shape))
    for place, value in value_at.items():
        cells[0][place] = value
    return cells


def test_consensus_iou_is_that_of_the_release():
    overlaps = consensus_iou(torch.from_numpy(SSPL["heat"]), torch.from_numpy(released_truth()))
    np.testing.assert_allclose(overlaps, SSPL["ciou"], rtol=1e-12)
    assert area_under_successes(overlaps) == pytest.approx(float(SSPL["AUC"]), abs=1e-12)
    np.testing.assert_allclose(success_curve(overlaps), SSPL["curve"], atol=1e-12)
    assert np.mean(overlaps.numpy() >= 0.5) == pytest.approx(float(SSPL["cIoU"]))


def test_consensus_iou_at_another_threshold_is_that_of_the_release():
    maps = stretched(resized_maps(SSPL["heat"], SIZE))
    found = [
        float(consensus_iou(SSPL["heat"][[n]], released_truth()[[n]], threshold=float(np.median(one)))[0])
        for n, one in enumerate(maps)
    ]
    np.testing.assert_allclose(found, SSPL["ciou_median_thr"], rtol=1e-12)


def test_resizing_is_that_of_the_release():
    np.testing.assert_allclose(resized_maps(SSPL["heat"], SIZE)[0], SSPL["resized0"], atol=1e-6)


def test_half_sure_pixels_count_half():
    truth = np.array([[[1.0, 0.5], [0.0, 0.0]]])
    found = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    assert consensus_iou(found, truth).tolist() == [pytest.approx(0.5 / (1.5 + 1.0))]


@pytest.mark.parametrize("change", [lambda maps: 3 * maps, lambda maps: maps - 7, np.exp])
def test_consensus_iou_sees_the_order_of_a_map_of_two_values_alone(change):
    cells, truth = map_with({(1, 1): 1.0, (1, 2): 1.0}), map_with({(1, 1): 1.0})
    assert consensus_iou(change(cells), truth).tolist() == consensus_iou(cells, truth).tolist() == [0.5]


def test_a_map_of_one_value_finds_nothing():
    flat = np.full((1, 4, 4), 0.7)
    assert consensus_iou(flat, map_with({(0, 0): 1.0})).tolist() == [0.0]
    assert pointing_hits(flat, map_with({(0, 0): 1.0})).tolist() == [False]


@pytest.mark.parametrize(
    ("maps", "truth", "threshold", "error", "words"),
    [
        (np.ones((2, 2, 2)), np.ones((1, 2, 2)), 0.5, ShapeError, "2 maps but 1 truths"),
        (np.ones((1, 2, 2)), np.zeros((1, 2, 2)), 0.5, ShapeError, "truth 0 has no pixel above 0"),
        (np.ones((1, 2, 2)), np.full((1, 2, 2), 2.0), 0.5, ConfigError, "truth must be from 0 to 1, got 2.0 to 2.0"),
        (np.ones((1, 2, 2)), np.ones((1, 2, 2)), 1.5, ConfigError, "threshold must be from 0 to 1, got 1.5"),
        (np.full((1, 2, 2), np.nan), np.ones((1, 2, 2)), 0.5, NonFiniteError, "maps 0 has a value"),
    ],
)
def test_what_has_no_overlap_is_refused(maps, truth, threshold, error, words):
    with pytest.raises(error, match=words):
        consensus_iou(maps, truth, threshold=threshold)


def test_the_curve_of_successes_falls_from_one():
    assert success_curve(np.array([0.0, 1.0])).tolist() == [1.0] + [0.5] * 20
    assert area_under_successes(np.array([0.0])) == pytest.approx(0.025)
    assert area_under_successes(np.array([1.0])) == 1.0
    with pytest.raises(ShapeError, match="at least one overlap"):
        success_curve(np.array([]))


def test_pointing_asks_for_the_middle_of_the_largest_cell():
    truth = box_mask(np.array([[2.0, 0.0, 4.0, 2.0]]), (8, 8))[None]  # the second cell of the first row, of 4 × 4
    assert pointing_hits(map_with({(0, 1): 0.1}), truth).tolist() == [True]
    assert pointing_hits(map_with({(1, 0): 0.1}), truth).tolist() == [False]
    assert pointing_hits(map_with({(0, 1): -0.1}) - 1, truth).tolist() == [False]


def test_of_several_peaks_all_must_be_inside():
    truth = np.array([[True, True, False]])
    assert inside_at_peak(np.array([[1.0, 1.0, 0.0]]), truth).tolist() == [True]
    assert inside_at_peak(np.array([[0.0, 1.0, 1.0]]), truth).tolist() == [False]


def test_a_box_holds_the_component_of_the_peak_alone():
    cells = map_with({(1, 1): 1.0, (1, 2): 0.6, (2, 2): 0.4, (3, 0): 0.9})
    assert boxes_of_maps(cells, (4, 4)).tolist() == [[1, 1, 3, 2]]
    assert boxes_of_maps(cells, (4, 4), share=0.4).tolist() == [[1, 1, 3, 3]]


def test_a_box_follows_a_map_that_is_turned_over():
    cells = np.random.default_rng(0).random((5, 6, 7))
    left, top, right, bottom = boxes_of_maps(cells, (12, 14)).T
    turned = boxes_of_maps(cells.transpose(0, 2, 1), (14, 12))
    np.testing.assert_array_equal(turned, np.stack([top, left, bottom, right], axis=1))


def test_a_map_below_zero_has_the_whole_image_as_its_box():
    assert boxes_of_maps(np.full((1, 2, 2), -1.0), (6, 8)).tolist() == [[0, 0, 8, 6]]


def test_a_box_of_no_share_is_refused():
    with pytest.raises(ConfigError, match=r"share of the maximum must be above 0 and at most 1, got 0\.0"):
        boxes_of_maps(np.ones((1, 2, 2)), (2, 2), share=0.0)


def test_votes_join_to_a_consensus_and_boxes_to_their_union():
    boxes = np.array([[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 3.0, 1.0]])
    assert consensus_of_votes(boxes, (1, 4)).tolist() == [[0.5, 1.0, 0.5, 0.0]]
    assert box_mask(boxes, (1, 4)).tolist() == [[1.0, 1.0, 1.0, 0.0]]


def test_the_baselines_are_known_on_paper():
    truth = box_mask(np.array([[2.0, 2.0, 6.0, 6.0]]), (8, 8))[None]
    assert consensus_iou(center_maps(1, (8, 8)), truth).tolist() == [1.0]
    assert whole_image_iou(truth).tolist() == [0.25]
