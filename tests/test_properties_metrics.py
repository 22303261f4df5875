"""What holds for every metric, whatever the numbers: bounds, order, chance, and a reference where there is one.

Partitions, ranks by counting, and precision with ties have such tests beside their others."""

import itertools

import numpy as np
import pytest
import sklearn.metrics as theirs
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcnlab.evaluation.retrieval import chance_of_recall
from mcnlab.metrics.actions import step_average_precision, temporal_iou
from mcnlab.metrics.classes import average_precision_at_r, chance_of_class, class_hits
from mcnlab.metrics.clustering import (
    adjusted_mutual_information,
    adjusted_rand_index,
    cluster_purity,
    matched_accuracy,
    mean_cluster_purity,
    normalized_mutual_information,
)
from mcnlab.metrics.detection import Boxes, box_average_precision, box_iou, correct_localization
from mcnlab.metrics.geometry import alignment, modality_gap, uniformity
from mcnlab.metrics.localization import area_under_successes, consensus_iou, success_curve
from mcnlab.metrics.retrieval import published_retrieval_metrics, ranks_of_true_match, retrieval_metrics
from mcnlab.metrics.statistics import bootstrap_of_ranks
from mcnlab.metrics.transfer import area_under_roc, average_precision, eleven_point_average_precision, top_k_hits

FEW = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=30)
KS = (1, 2, 3, 5, 8)
seeds = st.integers(0, 10_000)


def whole(*shape, seed, most=2):
    """Whole numbers, among which many are equal."""
    return np.random.default_rng(seed).integers(-most, most + 1, size=shape).astype(float)


@given(clips=st.integers(1, 12), seed=seeds, ties=st.sampled_from(["against", "published"]))
@FEW
def test_recall_rises_with_k_and_ends_at_one(clips, seed, ties):
    x, y = (torch.from_numpy(whole(clips, 3, seed=seed + k)) for k in (0, 1))
    found = retrieval_metrics(x, y, ks=(*KS, clips), ties=ties)
    recalls = [found[f"recall_at_{k}"] for k in sorted({*KS, clips})]
    assert recalls == sorted(recalls)
    assert min(recalls) >= 0
    if ties == "against":
        assert found[f"recall_at_{clips}"] == 1
        assert 1 <= found["median_rank"] <= clips
        assert 1 <= found["mean_rank"] <= clips


@given(clips=st.integers(1, 12), seed=seeds)
@FEW
def test_a_tie_never_helps_us_and_helps_the_published_rules_in_their_order(clips, seed):
    x, y = (torch.from_numpy(whole(clips, 2, seed=seed + k, most=1)) for k in (0, 1))
    against = retrieval_metrics(x, y)["mean_rank"]
    averaged, kind = (published_retrieval_metrics(x, y, rule=rule)["mean_rank"] for rule in ("averaged", "optimistic"))
    assert kind <= averaged <= against
    scores = x @ y.T
    strict = 1 + (scores > scores.diagonal()[:, None]).sum(dim=1)
    assert bool((ranks_of_true_match(scores, torch.arange(clips)) >= strict).all())


@given(clips=st.integers(1, 9), seed=seeds)
@FEW
def test_ranks_move_with_the_order_of_queries_and_not_with_that_of_candidates(clips, seed):
    scores, random = torch.from_numpy(whole(clips, clips, seed=seed)), np.random.default_rng(seed)
    queries, candidates = (torch.from_numpy(random.permutation(clips)) for _ in range(2))
    ranks = ranks_of_true_match(scores, torch.arange(clips))
    assert torch.equal(ranks_of_true_match(scores[queries], queries), ranks[queries])
    assert torch.equal(ranks_of_true_match(scores[:, candidates], candidates.argsort()), ranks)


@given(clips=st.integers(1, 5), k=st.integers(1, 6))
@FEW
def test_chance_of_recall_is_the_mean_over_all_orders(clips, k):
    hits = [order.index(0) < k for order in itertools.permutations(range(clips))]
    assert chance_of_recall(clips, ks=(k,))[k] == pytest.approx(np.mean(hits))


@given(labels=st.lists(st.integers(0, 2), min_size=2, max_size=6), k=st.integers(1, 6))
@FEW
def test_chance_of_a_class_is_the_mean_over_all_neighbors(labels, k):
    found = []
    for own, label in enumerate(labels):
        others = labels[:own] + labels[own + 1 :]
        found.append(np.mean([label in some for some in itertools.combinations(others, min(k, len(others)))]))
    assert chance_of_class(np.array(labels), k) == pytest.approx(np.mean(found))


@given(clips=st.integers(2, 12), seed=seeds)
@FEW
def test_hits_of_a_class_rise_with_k_and_precision_lies_below_them(clips, seed):
    embeddings, labels = whole(clips, 3, seed=seed) + 0.1, np.random.default_rng(seed).integers(3, size=clips)
    hits = class_hits(embeddings, labels, ks=KS)
    for fewer, more in itertools.pairwise(KS):
        assert bool((hits[fewer] <= hits[more]).all())
    precision = average_precision_at_r(embeddings, labels)
    known = ~np.isnan(precision)
    assert bool((known == ((labels[:, None] == labels).sum(axis=1) > 1)).all())
    assert bool(((precision[known] >= 0) & (precision[known] <= 1)).all())


@given(data=st.data(), clips=st.integers(1, 40))
@FEW
def test_measures_of_clusters_keep_their_bounds(data, clips):
    clusters, labels = (np.array(data.draw(st.lists(st.integers(0, 5), min_size=clips, max_size=clips))) for _ in "ab")
    share = np.bincount(labels).max() / clips
    for name, value, least in [
        ("purity", cluster_purity(clusters, labels), share),
        ("mean purity", mean_cluster_purity(clusters, labels), 0.0),
        ("accuracy", matched_accuracy(clusters, labels), 0.0),
        ("nmi", normalized_mutual_information(clusters, labels), 0.0),
        ("ari", adjusted_rand_index(clusters, labels), -0.5),
    ]:
        assert least - 1e-12 <= value <= 1 + 1e-12, name
    expected = theirs.adjusted_mutual_info_score(labels, clusters)
    assert adjusted_mutual_information(clusters, labels) == pytest.approx(expected, abs=1e-9)
    assert cluster_purity(np.zeros(clips), labels) == pytest.approx(share)
    assert cluster_purity(np.arange(clips), labels) == 1


cases = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(any),
    )
)


@given(case=cases)
@FEW
def test_precision_lies_between_the_worst_and_the_best_order_and_sees_order_alone(case):
    scores, truth = np.array(case[0], float), np.array(case[1])
    [value] = average_precision(scores, truth)
    positives, clips = int(truth.sum()), len(truth)
    worst = np.mean(np.arange(1, positives + 1) / np.arange(clips - positives + 1, clips + 1))
    assert worst - 1e-12 <= value <= 1 + 1e-12
    assert average_precision(np.exp(scores / 3), truth) == pytest.approx(value)
    assert average_precision(truth.astype(float), truth) == pytest.approx(1)
    assert 0 <= eleven_point_average_precision(scores, truth)[0] <= 1
    [area] = area_under_roc(scores, truth)
    if positives < clips:
        assert area_under_roc(-scores, truth) == pytest.approx(1 - area)
        assert area == pytest.approx(theirs.roc_auc_score(truth, scores))


@given(case=cases)
@FEW
def test_precision_of_steps_is_that_of_the_reference(case):
    scores, truth = np.array(case[0], float)[:, None], np.array(case[1])[:, None]
    found = step_average_precision(scores, truth)
    assert found[0] == pytest.approx(theirs.average_precision_score(truth[:, 0], scores[:, 0]))


@given(clips=st.integers(1, 8), classes=st.integers(2, 6), seed=seeds)
@FEW
def test_hits_of_the_best_classes_are_those_of_the_reference(clips, classes, seed):
    scores = np.random.default_rng(seed).permutation(clips * classes).reshape(clips, classes).astype(float)
    target = np.random.default_rng(seed).integers(classes, size=clips)
    for k in range(1, classes):
        expected = theirs.top_k_accuracy_score(target, scores, k=k, labels=range(classes)) if classes > 2 else None
        hits = top_k_hits(scores, target, k)
        assert expected is None or hits.mean() == pytest.approx(expected)
        assert bool((hits <= top_k_hits(scores, target, k + 1)).all())


def boxes(count, seed, *, images=2):
    random = np.random.default_rng(seed)
    corners = np.sort(random.integers(0, 5, size=(count, 2, 2)), axis=1).reshape(count, 4).astype(float)
    return Boxes(random.integers(images, size=count), corners, random.integers(3, size=count).astype(float))


@given(found=st.integers(0, 8), true=st.integers(1, 5), seed=seeds)
@FEW
def test_precision_of_boxes_keeps_its_bounds_falls_with_the_overlap_and_forgets_the_order_of_images(found, true, seed):
    detections, truth = boxes(found, seed), boxes(true, seed + 1)
    loose, strict = (box_average_precision(detections, truth, iou=iou) for iou in (0.3, 0.7))
    assert 0 <= loose <= 1
    assert 0 <= strict <= 1
    swapped = [Boxes(1 - one.image, one.corners, one.scores) for one in (detections, truth)]
    distinct = Boxes(detections.image, detections.corners, np.arange(found, dtype=float))
    again = Boxes(1 - distinct.image, distinct.corners, np.exp(distinct.scores))
    assert box_average_precision(again, swapped[1], iou=0.3) == pytest.approx(
        box_average_precision(distinct, truth, iou=0.3)
    )
    assert len(correct_localization(detections, truth)) == len(np.unique(truth.image))


@given(count=st.integers(1, 6), seed=seeds)
@FEW
def test_overlaps_are_shares_and_each_thing_overlaps_itself(count, seed):
    some, others = boxes(count, seed).corners, boxes(3, seed + 1).corners
    overlap = box_iou(some, others)
    assert bool(((overlap >= 0) & (overlap <= 1)).all())
    area = (some[:, 2:] - some[:, :2]).prod(axis=1)
    assert box_iou(some, some).diagonal() == pytest.approx((area > 0).astype(float))
    times = np.sort(np.random.default_rng(seed).random((count, 2)), axis=1)
    overlap = temporal_iou(times, times)
    assert overlap == pytest.approx(overlap.T)
    assert overlap.diagonal() == pytest.approx(1)
    assert bool(((overlap >= 0) & (overlap <= 1)).all())


@given(maps=st.integers(1, 4), seed=seeds)
@FEW
def test_overlaps_of_maps_are_shares_and_their_curve_falls(maps, seed):
    random = np.random.default_rng(seed)
    truth = np.maximum(random.integers(0, 3, size=(maps, 6, 6)) / 2, np.eye(6)[None] / 2)
    overlaps = consensus_iou(torch.from_numpy(whole(maps, 3, 3, seed=seed)), torch.from_numpy(truth))
    assert bool(((overlaps >= 0) & (overlaps <= 1)).all())
    curve = success_curve(overlaps)
    assert curve[0] == 1
    assert bool((np.diff(curve) <= 0).all())
    assert 0 <= area_under_successes(overlaps) <= 1


@given(clips=st.integers(2, 10), seed=seeds)
@FEW
def test_geometry_does_not_see_rotations_or_the_order_of_clips(clips, seed):
    random = np.random.default_rng(seed)
    x, y = (torch.from_numpy(random.normal(size=(clips, 4))) for _ in range(2))
    turn = torch.from_numpy(np.linalg.qr(random.normal(size=(4, 4)))[0])
    order = torch.from_numpy(random.permutation(clips))
    for measure in (alignment, modality_gap):
        value = measure(x, y)
        assert value >= 0
        assert measure(y, x) == pytest.approx(value)
        assert measure((x @ turn)[order], (y @ turn)[order]) == pytest.approx(value)
    assert uniformity((x @ turn)[order]) == pytest.approx(uniformity(x))
    assert -8 - 1e-9 <= uniformity(x / x.norm(dim=1, keepdim=True)) <= 0


@given(ranks=st.lists(st.integers(1, 30), min_size=1, max_size=30), seed=seeds)
@FEW
def test_intervals_lie_within_what_can_be_and_hold_what_never_varies(ranks, seed):
    found = bootstrap_of_ranks(np.array(ranks), generator=np.random.default_rng(seed), draws=50)
    for name, (low, high) in found.items():
        least, most = (0, 1) if name.startswith("recall") else (min(ranks), max(ranks))
        assert least <= low <= high <= most
    again = bootstrap_of_ranks(np.array(ranks), generator=np.random.default_rng(seed), draws=50)
    assert again == found
