"""Where and when: scorers over places, a detector without anchors, attention, and what is measured of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mcnlab.batch import Batch
from mcnlab.errors import ShapeError
from mcnlab.evaluation.detection import Detected, class_rows, detector_rows, heat_rows, names_of_classes
from mcnlab.evaluation.explanation import (
    Explanation,
    curve_rows,
    inside_of_truth,
    pointing_rows,
)
from mcnlab.evaluation.places import Things, cells_inside, things_in_clips
from mcnlab.losses.assignment import balanced_clusters
from mcnlab.losses.detection import center_focal_loss, center_targets, side_error
from mcnlab.losses.scorers import heat, peak_similarity
from mcnlab.metrics.detection import Boxes
from mcnlab.models.attention import SpaceTimeAttention, mean_of_parts
from mcnlab.models.detection import boxes_at_peaks, cell_middles
from mcnlab.models.graph import Graph, Space
from mcnlab.models.multimodal import ModelSizes, MultimodalModel

SPACE = Space(heads={"video": "linear", "audio": "linear"})
GRAPH = Graph(spaces={"joint": SPACE}, space_of_pair={"va": "joint"})


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def thing(left, top, right, bottom, label="bell", sounding=True):
    return Things(np.array([[left, top, right, bottom]], dtype=np.float64), (label,), np.array([sounding]))


def told(rows):
    return {(row.subject, row.metric): row.value for row in rows}


def test_the_place_that_fits_best_is_compared():
    maps, vectors = drawn(3, 5, 4), drawn(2, 4, seed=1)
    scores = peak_similarity(maps, vectors)
    assert scores.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            assert scores[i, j] == pytest.approx(float(max(maps[i, u] @ vectors[j] for u in range(5))))


def test_the_order_of_places_does_not_matter_to_the_peak_and_moves_with_the_heat():
    maps, vectors, order = drawn(2, 6, 3), drawn(2, 3, seed=1), torch.randperm(6)
    torch.testing.assert_close(peak_similarity(maps[:, order], vectors), peak_similarity(maps, vectors))
    torch.testing.assert_close(heat(maps[:, order], vectors), heat(maps, vectors)[:, order])


def test_one_place_gets_the_gradient_also_among_equal_ones():
    maps = torch.ones(1, 3, 2, requires_grad=True)
    peak_similarity(maps, torch.ones(1, 2)).sum().backward()
    assert (maps.grad.abs().sum(dim=2) > 0).sum() == 1


@pytest.mark.parametrize(
    ("maps", "vectors", "words"),
    [((1, 2, 3), (1, 4), "places are 3 wide but vectors are 4 wide"), ((1, 0, 3), (1, 3), "at least one place")],
)
def test_what_cannot_be_compared_is_refused(maps, vectors, words):
    with pytest.raises(ShapeError, match=words):
        peak_similarity(torch.zeros(maps), torch.zeros(vectors))


def test_balanced_clusters_find_groups_that_lie_apart():
    centers = torch.nn.functional.normalize(drawn(4, 16), dim=1)
    rows = torch.nn.functional.normalize(centers.repeat_interleave(25, dim=0) + 0.1 * drawn(100, 16, seed=1), dim=1)
    found = balanced_clusters(rows, 4, generator=torch.Generator().manual_seed(0))
    labels = (rows @ found.T).argmax(dim=1).reshape(4, 25)
    assert (labels == labels[:, :1]).all()
    assert len(labels[:, 0].unique()) == 4


def test_fewer_rows_than_clusters_are_refused():
    with pytest.raises(ShapeError, match="3 clusters need as many rows, got 2"):
        balanced_clusters(torch.eye(2), 3, generator=torch.Generator())


MIDDLES = cell_middles(4, 4, like=torch.zeros(()))
BOX = torch.tensor([[0.0, 0.0, 0.5, 0.5]])


def test_a_center_stands_in_the_cell_nearest_to_it_on_the_map_of_its_class():
    targets = center_targets(torch.tensor([[0.5, 0.0, 0.9, 0.3]]), torch.tensor([2]), MIDDLES, classes=3)
    assert targets[0, :2].abs().sum() == 0
    assert (targets[0, 2] == 1).nonzero().tolist() == [[0, 2]]
    assert targets.max() == 1


def test_the_focal_loss_is_known_on_paper():
    targets = torch.zeros(1, 1, 1, 2)
    targets[..., 0] = 1
    loss = center_focal_loss(torch.zeros(1, 1, 1, 2), targets)  # both told with 1/2
    assert float(loss) == pytest.approx(2 * 0.25 * np.log(2))


def test_the_focal_loss_pulls_centers_up_and_the_rest_down():
    targets = center_targets(BOX, torch.tensor([0]), MIDDLES, classes=2)
    scores = torch.zeros_like(targets, requires_grad=True)
    center_focal_loss(scores, targets).backward()
    assert (scores.grad[targets == 1] < 0).all()
    assert (scores.grad[targets < 1] > 0).all()


def test_right_sides_cost_nothing_and_decoded_boxes_are_those_of_the_targets():
    targets = center_targets(BOX, torch.tensor([1]), MIDDLES, classes=2)
    away = torch.cat((MIDDLES - BOX[0, :2], BOX[0, 2:] - MIDDLES), dim=2).permute(2, 0, 1)[None]
    assert float(side_error(away, BOX, MIDDLES, targets)) == pytest.approx(0, abs=1e-6)
    assert float(side_error(away + 0.1, BOX, MIDDLES, targets)) == pytest.approx(0.2)  # in boxes of half the frame
    corners, scores, classes = boxes_at_peaks(20 * targets - 10, away, most=2)
    torch.testing.assert_close(corners[0, 0], BOX[0])
    assert classes[0, 0] == 1
    assert scores[0, 0] > 0.99 > 0.1 > scores[0, 1]


def test_not_one_label_per_box_is_refused():
    with pytest.raises(ShapeError, match="1 boxes but 2 labels"):
        center_targets(BOX, torch.tensor([0, 1]), MIDDLES, classes=2)


@pytest.mark.parametrize("space", [True, False])
@pytest.mark.parametrize("time", [True, False])
def test_attention_sums_to_one_and_an_ablation_is_flat(space, time):
    attention = SpaceTimeAttention(5, 3, 4, 2, space=space, time=time)
    found = attention(drawn(2, 3, 6, 5), drawn(2, 3, 3, seed=1))
    torch.testing.assert_close(found.space.sum(dim=2), torch.ones(2, 3))
    torch.testing.assert_close(found.time.sum(dim=1), torch.ones(2))
    assert bool((found.space == found.space[:, :, :1]).all()) is not space
    assert bool((found.time == found.time[:, :1]).all()) is not time


def test_a_deleted_part_leaves_no_trace():
    attention, video, audio = SpaceTimeAttention(5, 3, 4, 2), drawn(2, 3, 6, 5), drawn(2, 3, 3, seed=1)
    kept = torch.tensor([[True, True, False]] * 2)
    other_video, other_audio = video.clone(), audio.clone()
    other_video[:, 2], other_audio[:, 2] = 7.0, -7.0
    one, other = attention(video, audio, kept), attention(other_video, other_audio, kept)
    torch.testing.assert_close(one.scores, other.scores)
    torch.testing.assert_close(one.scores, attention(video[:, :2], audio[:, :2]).scores)
    with pytest.raises(ShapeError, match="at least one part"):
        attention(video, audio, torch.zeros(2, 3, dtype=torch.bool))


def test_the_order_of_parts_moves_the_attention_and_not_the_class():
    attention, video, audio = SpaceTimeAttention(5, 3, 4, 2), drawn(1, 4, 6, 5), drawn(1, 4, 3, seed=1)
    order = torch.tensor([2, 0, 3, 1])
    one, other = attention(video, audio), attention(video[:, order], audio[:, order])
    torch.testing.assert_close(one.scores, other.scores)
    torch.testing.assert_close(one.time[:, order], other.time)


def test_parts_are_means_over_their_steps():
    maps = torch.arange(5.0)[None, :, None, None, None].expand(1, 5, 2, 1, 1)
    assert mean_of_parts(maps, 2)[0, :, 0, 0].tolist() == [0.5, 3.0]
    with pytest.raises(ShapeError, match="6 parts, but the video tower gives 5 steps"):
        mean_of_parts(maps, 6)


def test_things_are_those_in_sight_in_the_middle_of_each_part():
    sides = {"left": 0.1, "top": 0.1, "right": 0.3, "bottom": 0.3}
    spans = [(0.0, 1.0, "bell", True), (1.0, 2.0, "drum", False)]
    boxes = pd.DataFrame(
        [
            {"recording": 4, "start_s": start, "end_s": end, "label": label, "sounding": sounds, **sides}
            for start, end, label, sounds in spans
        ]
        + [{"recording": 4, "start_s": 0.0, "end_s": 2.0, "label": "flute", "sounding": True, "left": np.nan}]
    )
    clips = pd.DataFrame({"recording": [4, 5], "start_s": [0.0, 0.0], "end_s": [2.0, 2.0]})
    found = things_in_clips(boxes, clips, parts=2)
    assert [[part.labels for part in parts] for parts in found] == [[("bell",), ("drum",)], [(), ()]]
    assert [part.heard.labels for part in found[0]] == [("bell",), ()]


def test_a_small_box_still_has_a_cell():
    assert cells_inside(np.array([[0.55, 0.05, 0.6, 0.1]]), (2, 2)).tolist() == [[False, True], [False, False]]


def test_heat_maps_are_measured_against_what_sounds():
    things = [thing(0, 0, 0.5, 0.5), thing(0.5, 0.5, 1, 1, sounding=False)]
    right = np.zeros((2, 4, 4))
    right[:, :2, :2] = 1.0
    found = told(heat_rows({"": right, "turned": right[:, ::-1]}, things, seed=0))
    assert found["heat map", "pointing"] == 1.0
    assert found["heat map", "pointing_turned"] == 0.0
    assert found["heat map", "corloc"] == 1.0
    assert found["heat map", "corloc_turned"] == 0.0
    assert found["heat map", "pointing_center"] == 0.0


def test_pseudo_classes_are_named_one_to_one_by_most_clips():
    labels = ["bell", "bell", "bell", "drum", "drum"]
    assert names_of_classes(np.array([2, 2, 0, 2, 2]), labels, count=3) == {"bell": 0, "drum": 2}
    assert names_of_classes(np.array([1, 1]), ["bell", "drum"], count=2).keys() == {"bell", "drum"}  # also unused ones
    assert len(names_of_classes(np.array([0, 0]), ["bell", "drum"], count=1)) == 1


def test_pseudo_classes_count_by_their_names_and_chance_stands_beside():
    labels = ["bell", "drum"] * 20 + [None]
    classes, names = {"": np.array([1, 0] * 20 + [1])}, {"bell": 1, "drum": 0}
    found = told(class_rows(classes, {"": names}, labels, seed=0))
    assert found["pseudo-classes", "accuracy"] == 1.0
    assert found["pseudo-classes", "accuracy_chance"] == 0.5
    turned = told(class_rows(classes, {"": {"bell": 0, "drum": 1}}, labels, seed=0))
    assert turned["pseudo-classes", "accuracy"] == 0.0  # held-out labels have no say in the names
    one = told(class_rows(classes, {"": {"bell": 1}}, labels, seed=0))
    assert one["pseudo-classes", "accuracy"] == 0.5


def test_a_detector_is_scored_by_the_names_of_its_classes_and_must_find_silent_things_too():
    things = [thing(0, 0, 0.5, 0.5, "bell"), thing(0.5, 0.5, 1, 1, "drum", sounding=False)]
    corners = np.concatenate([one.corners for one in things])
    boxes = Boxes(np.array([0, 1]), corners, np.array([0.9, 0.8]))
    found, names = {"": Detected(boxes, np.array([5, 3]))}, {"bell": 5, "drum": 3}
    right = told(detector_rows(found, {"": names}, things))
    assert right["detector", "ap_30"] == right["detector", "ap_50"] == right["detector", "corloc"] == 1.0
    turned = told(detector_rows(found, {"": {"bell": 3, "drum": 5}}, things))
    assert turned["detector", "ap_30"] == 0.0
    assert turned["detector", "corloc"] == 1.0
    half = {"": Detected(boxes.of(np.array([True, False])), np.array([5]))}
    assert told(detector_rows(half, {"": names}, things))["detector", "ap_30"] == 0.5
    assert told(detector_rows(found, {"": {"bell": 5}}, things))["detector", "ap_30"] == 0.5


INSIDE = inside_of_truth(
    [[thing(0, 0, 0.5, 0.5, "bell"), thing(0, 0, 0.5, 0.5, "bell", sounding=False), thing(0, 0, 1, 1, "drum")]],
    ["bell"],
    (2, 2),
)


def explanation(part, place):
    space, time = np.full((1, 3, 2, 2), 0.1), np.full((1, 3), 0.1)
    space[0, :, *place], time[0, part] = 0.7, 0.8
    return Explanation(np.array([True]), space, time)


@pytest.mark.parametrize(
    ("part", "place", "expected"), [(0, (0, 0), (1, 1, 1)), (0, (1, 1), (1, 0, 0)), (1, (0, 0), (0, 1, 0))]
)
def test_pointing_is_counted_in_time_in_space_and_in_both(part, place, expected):
    found = told(pointing_rows(explanation(part, place), INSIDE, seed=0))
    subjects = ("time", "space", "space and time")
    assert tuple(found[subject, "pointing"] for subject in subjects) == expected
    assert tuple(found[s, "chance"] for s in subjects) == pytest.approx((1 / 3, 1 / 4, 1 / 12))


def test_deleting_what_counts_costs_more_than_deleting_at_random():
    time = np.tile(np.array([0.1, 0.6, 0.2, 0.1]), (200, 1))
    found = told(curve_rows(lambda kept: kept[:, 1], time, seed=0))
    assert found["delete:1", "accuracy"] == 0.0
    assert found["keep:1", "accuracy"] == 1.0
    assert found["delete:1", "random"] == pytest.approx(0.75, abs=0.05)
    assert found["keep:1", "random"] == pytest.approx(0.25, abs=0.05)


def test_a_place_may_average_its_neighbors():
    sizes = ModelSizes({"video": 3, "audio": 40}, dim=4, audio_width=8, frame_shape=(3, 8, 8), video_width=8)
    models = [
        MultimodalModel(
            replace(sizes, video_backbone="conv2d", place_window=window), GRAPH, faithful=True, decoders=False, seed=0
        )
        for window in (1, 3)
    ]
    maps = drawn(2, 1, 8, 3, 3)
    one, three = (model.map_in_space(maps, modality="video", space="joint") for model in models)
    assert one.shape == three.shape == (2, 1, 9, 4)
    torch.testing.assert_close(three[:, :, 4], one.mean(dim=2))  # the head is linear: the middle is the mean of all
    torch.testing.assert_close(three[:, :, 0], one[:, :, [0, 1, 3, 4]].mean(dim=2))  # a corner has four


def test_sound_is_heard_part_by_part():
    sizes = ModelSizes({"audio": 40, "video": 3}, dim=4, audio_width=8, audio_blocks=1, segments=2)
    model = MultimodalModel(sizes, GRAPH, faithful=False, decoders=False, seed=0).eval()
    mel, lengths = -40 + 10 * drawn(2, 40, 64), torch.tensor([64, 64])
    there = {"audio": torch.ones(2, dtype=torch.bool)}

    def heard(mel):
        batch = Batch({"audio": mel}, {"audio": lengths}, there, torch.arange(2))
        return model(batch, ("audio",), pairs=("va",)).maps["audio"]

    changed = mel.clone()
    changed[:, :, 32:] = -80
    one, other = heard(mel), heard(changed)
    assert one.shape == (2, 2, 8, 1, 1)
    torch.testing.assert_close(one[:, 0], other[:, 0])
    assert not torch.allclose(one[:, 1], other[:, 1])
