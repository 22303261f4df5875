"""Metrics of steps in time: values on paper, published arithmetic, exhaustive search, refusals."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.metrics import (
    align_steps,
    best_frames,
    chance_average_precision,
    pooled_recall_by_task,
    predicted_interval,
    published_viterbi_alignment,
    recall_by_task,
    segment_overlap,
    step_average_precision,
    step_hits,
    temporal_iou,
    viterbi_alignment,
)

GOLDEN = Path(__file__).parent / "golden"
CASES = (0, 2, 4, 6, 8, 10, 12)
ALL_EQUAL = 6
"""The case in which every placement is as good as any other."""


@pytest.fixture(scope="module")
def crosstask():
    with np.load(GOLDEN / "crosstask.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def mining():
    with np.load(GOLDEN / "mining_alignment.npz", allow_pickle=False) as file:
        return dict(file)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def best_by_search(scores):
    """The largest sum over all ordered choices of one frame per step."""
    frames, steps = scores.shape
    return max(
        sum(scores[frame, step] for step, frame in enumerate(places))
        for places in itertools.combinations(range(frames), steps)
    )


def precision_by_hand(scores, truth):
    """Mean of the precision at each true frame, frames in order of falling score without ties."""
    hit = truth[np.argsort(-scores)]
    return float(np.mean([hit[: place + 1].mean() for place in np.flatnonzero(hit)]))


@pytest.mark.parametrize("case", [case for case in CASES if case != ALL_EQUAL])
def test_steps_are_placed_as_the_release_places_them(crosstask, case):
    scores = crosstask[f"c{case}_scores"]
    assert (align_steps(scores) == crosstask[f"c{case}_dp"].astype(bool)).all()
    per_frame = scores - np.log(np.exp(scores.astype(float)).sum(axis=1, keepdims=True))
    assert (align_steps(per_frame) == crosstask[f"c{case}_dp_logsoftmax"].astype(bool)).all()
    assert (align_steps(scores - 0.3) == crosstask[f"c{case}_dp_bg0p3"].astype(bool)).all()


@pytest.mark.parametrize("case", CASES)
def test_hits_are_counted_as_the_release_counts_them(crosstask, case):
    truth, scores = crosstask[f"c{case}_ytrue"].astype(bool), crosstask[f"c{case}_scores"]
    if case == ALL_EQUAL:
        scores = scores.copy()
        scores[-1, -1] = 1e-6  # the release leaves the last step there
    hits, annotated = step_hits(align_steps(scores), truth)
    assert hits / annotated == pytest.approx(float(crosstask[f"c{case}_recall_dp"]), abs=1e-12)


def test_the_best_frame_of_a_step_does_not_care_for_the_others():
    scores = random(20, 4)
    chosen = best_frames(scores)
    assert chosen.argmax(axis=0).tolist() == scores.argmax(axis=0).tolist()
    assert (best_frames(scores[:, ::-1])[:, ::-1] == chosen).all()
    assert scores[chosen].sum() >= scores[align_steps(scores)].sum()


def test_equal_scores_put_every_step_at_its_first_possible_frame(crosstask):
    placed = align_steps(crosstask[f"c{ALL_EQUAL}_scores"])
    assert placed.argmax(axis=0).tolist() == [0, 1, 2, 3]
    assert crosstask[f"c{ALL_EQUAL}_dp"].argmax(axis=0).tolist() == [0, 1, 2, 19]  # the release


@pytest.mark.parametrize(("frames", "steps"), [(1, 1), (5, 5), (6, 3), (9, 4)])
def test_no_other_placement_is_better(frames, steps):
    for seed in range(20):
        scores = random(frames, steps, seed=seed)
        placed = align_steps(scores)
        assert placed.sum(axis=0).tolist() == [1] * steps
        assert (np.diff(placed.argmax(axis=0)) > 0).all()
        assert scores[placed].sum() == pytest.approx(best_by_search(scores), abs=1e-12)


def test_a_video_run_backwards_has_its_placement_mirrored():
    scores = random(30, 5)
    assert (align_steps(scores[::-1, ::-1])[::-1, ::-1] == align_steps(scores)).all()


def test_what_cannot_be_placed_is_refused_with_its_numbers():
    with pytest.raises(ShapeError, match="3 steps cannot be placed one after the other in 2 frames"):
        align_steps(random(2, 3))
    with pytest.raises(ShapeError, match="0 steps"):
        align_steps(random(2, 0))
    with pytest.raises(NonFiniteError, match="1 of 6 scores are not finite"):
        align_steps(np.where(np.arange(6).reshape(3, 2) == 3, np.nan, 1.0))
    with pytest.raises(ShapeError, match="got 0"):
        best_frames(random(0, 2))
    with pytest.raises(ShapeError, match=r"\(3, 2\) but truth is \(2, 2\)"):
        step_hits(np.ones((3, 2), dtype=bool), np.ones((2, 2), dtype=bool))
    with pytest.raises(ShapeError, match="at least one annotated step"):
        step_hits(np.ones((3, 2), dtype=bool), np.zeros((3, 2), dtype=bool))


def test_tasks_count_as_in_mcn_and_as_in_crosstask():
    hits, annotated = np.array([2, 0, 3]), np.array([2, 4, 4])
    tasks = np.array(["tea", "tea", "jam"])
    assert recall_by_task(hits, annotated, tasks) == {"jam": 0.75, "tea": 0.5}
    assert pooled_recall_by_task(hits, annotated, tasks) == {"jam": 0.75, "tea": pytest.approx(1 / 3)}
    with pytest.raises(ShapeError, match="got 0"):
        recall_by_task(hits, annotated * 0, tasks)
    with pytest.raises(ShapeError, match="3 videos with hits, 2 with steps"):
        pooled_recall_by_task(hits, annotated[:2], tasks)


def test_average_precision_is_that_of_the_ranked_frames():
    scores, truth = random(50, 3), random(50, 3, seed=1) > 0.8
    truth[:, 2] = False
    found = step_average_precision(scores, truth)
    assert found[:2] == pytest.approx([precision_by_hand(scores[:, k], truth[:, k]) for k in range(2)], abs=1e-12)
    assert np.isnan(found[2])
    assert step_average_precision(3 * scores + 1, truth)[:2] == pytest.approx(found[:2])
    with pytest.raises(ShapeError, match=r"\(50, 3\) but truth is \(49, 3\)"):
        step_average_precision(scores, truth[1:])


@pytest.mark.parametrize(("positives", "frames"), [(1, 1), (1, 4), (3, 7), (7, 7)])
def test_chance_of_average_precision_is_the_mean_over_all_orders(positives, frames):
    truth = np.arange(frames) < positives
    orders = [precision_by_hand(np.array(order, float), truth) for order in itertools.permutations(range(frames))]
    assert chance_average_precision(positives, frames) == pytest.approx(np.mean(orders), abs=1e-12)


def test_chance_of_nothing_is_refused():
    with pytest.raises(ShapeError, match="between 1 and 4 frames, got 5"):
        chance_average_precision(5, 4)


@pytest.mark.parametrize("case", [0, 2])
def test_the_published_decoder_is_reproduced_to_the_frame(mining, case):
    labels, score = published_viterbi_alignment(
        mining[f"c{case}_logp"],
        mining[f"c{case}_transcript"],
        mean_frames=mining[f"c{case}_mean_len"],
        frame_sampling=int(mining[f"c{case}_frame_sampling"]),
    )
    assert (labels == mining[f"c{case}_labels"]).all()
    assert score == pytest.approx(float(mining[f"c{case}_score"]), rel=1e-10)
    correct = int((labels == mining[f"c{case}_gt"]).sum())
    assert (correct, len(labels)) == (mining[f"c{case}_mof_correct"], mining[f"c{case}_mof_frames"])
    overlap = segment_overlap(labels, mining[f"c{case}_gt"])
    assert overlap.frame_accuracy == pytest.approx(correct / len(labels))
    assert overlap.iou == pytest.approx(float(mining[f"c{case}_official_iou_video"]), rel=1e-10)
    assert overlap.iod == pytest.approx(float(np.nanmean(mining[f"c{case}_OWN_iod_per_class"])), rel=1e-10)


@pytest.mark.parametrize("case", [1, 3, 5])
def test_overlap_is_that_of_the_official_loop(mining, case):
    overlap = segment_overlap(mining[f"iou{case}_pred"], mining[f"iou{case}_gt"])
    assert overlap.iou == pytest.approx(float(mining[f"iou{case}_official_video"]), rel=1e-10)
    assert overlap.iod == pytest.approx(float(mining[f"iou{case}_OWN_iod_video"]), rel=1e-10)


def cuts(frames, segments):
    """Lengths of the segments of every way to cut."""
    for borders in itertools.combinations(range(1, frames), segments - 1):
        yield np.diff([0, *borders, frames])


@pytest.mark.parametrize("mean", [None, np.array([2.0, 3.6, 5.2])])
def test_no_other_cut_is_more_probable(mean):
    for seed in range(10):
        values, order = random(9, 3, seed=seed), [0, 2, 0, 1]
        labels = viterbi_alignment(values, order, mean_frames=mean)
        sums = {}
        for lengths in cuts(9, 4):
            way = np.repeat(order, lengths)
            price = 0.0
            if mean is not None:
                means = mean[order]
                price = sum(
                    length * np.log(m) - np.log(np.arange(1, length + 1)).sum()
                    for length, m in zip(lengths, means, strict=True)
                )
            sums[tuple(way)] = values[np.arange(9), way].sum() + price
        assert tuple(labels) == max(sums, key=lambda way: sums[way])


def test_a_constant_per_frame_changes_no_cut():
    values, order = random(40, 4), [3, 1, 0, 1]
    assert (viterbi_alignment(values + random(40, 1, seed=1), order) == viterbi_alignment(values, order)).all()


def test_equal_values_leave_the_frames_to_the_last_segment():
    assert viterbi_alignment(np.zeros((5, 2)), [0, 1]).tolist() == [0, 1, 1, 1, 1]


def test_an_order_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="4 segments cannot be placed one after the other in 3 frames"):
        viterbi_alignment(random(3, 2), [0, 1, 0, 1])
    with pytest.raises(ShapeError, match="0 segments"):
        viterbi_alignment(random(3, 2), [])
    with pytest.raises(ShapeError, match="names class 2, but there are 2 classes"):
        viterbi_alignment(random(3, 2), [0, 2])
    with pytest.raises(ConfigError, match=r"must be positive, got -1\.0"):
        viterbi_alignment(random(3, 2), [0], mean_frames=np.array([1.0, -1.0]))
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        published_viterbi_alignment(random(3, 2), [0], mean_frames=np.ones(2), frame_sampling=0)
    with pytest.raises(NonFiniteError, match="log_probabilities"):
        viterbi_alignment(np.full((3, 1), np.inf), [0])
    with pytest.raises(ShapeError, match="2 labels for 3 frames"):
        segment_overlap(np.zeros(2, dtype=int), np.zeros(3, dtype=int))


@pytest.mark.parametrize(
    ("scores", "found"),
    [([0, 0, 1, 1, 0, 0, 0], (2, 4)), ([5, 0, 0, 0], (0, 1)), ([0, 0, 0, 2, 3], (3, 5)), ([1, 1, 1], (0, 3)),
     ([7], (0, 1)), ([0, 0, 3, 0, 3, 0, 0], (2, 3))],
)  # fmt: skip
def test_an_interval_grows_from_the_peak_as_long_as_scores_stay_high(scores, found):
    assert predicted_interval(np.array(scores, float)) == found
    assert predicted_interval(2 * np.array(scores, float) - 5) == found


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ShapeError, match="got 0"):
        predicted_interval(np.zeros(0))
    with pytest.raises(ConfigError, match=r"got 1\.5"):
        predicted_interval(np.zeros(3), share=1.5)


def test_overlap_of_intervals_in_time():
    first, second = np.array([[0.0, 4.0], [6.0, 8.0]]), np.array([[2.0, 6.0], [6.0, 8.0], [0.0, 8.0]])
    assert temporal_iou(first, second) == pytest.approx(np.array([[2 / 6, 0, 0.5], [0, 1, 0.25]]))
    assert temporal_iou(second, first) == pytest.approx(temporal_iou(first, second).T)
    with pytest.raises(ShapeError, match="must end after it starts"):
        temporal_iou(first, np.array([[2.0, 2.0]]))
