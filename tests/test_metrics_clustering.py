"""Cluster metrics: published values, known values, invariances, chance, refusals."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from mcnlab.errors import ShapeError
from mcnlab.metrics import (
    adjusted_mutual_information,
    adjusted_rand_index,
    cluster_purity,
    contingency,
    matched_accuracy,
    mean_cluster_entropy,
    mean_cluster_purity,
    normalized_mutual_information,
)

with np.load(Path(__file__).parent / "golden" / "cluster_metrics.npz", allow_pickle=False) as arrays:
    GOLDEN = {key: arrays[key] for key in arrays.files}
CASES = sorted(key.split("_")[0] for key in GOLDEN if key.endswith("_true"))
ALL = {
    "purity": cluster_purity,
    "nmi": normalized_mutual_information,
    "ami": adjusted_mutual_information,
    "ari": adjusted_rand_index,
    "acc": matched_accuracy,
    "mean_entropy": mean_cluster_entropy,
    "mean_purity": mean_cluster_purity,
}
partitions = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 5), min_size=n, max_size=n) for _ in range(2)))
)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["nmi", "ami", "ari", "acc", "mean_entropy", "mean_purity"])
def test_cluster_metrics_agree_with_the_released_ones(case, name):
    found = ALL[name](GOLDEN[f"{case}_pred"], GOLDEN[f"{case}_true"])
    assert found == pytest.approx(float(GOLDEN[f"{case}_{name}"]), abs=1e-9)


def test_purity_of_the_textbook_example_is_known():
    # Manning et al. 2008, figure 16.4: 17 points in three clusters, majorities 5, 4 and 3.
    clusters = np.repeat([0, 1, 2], [6, 6, 5])
    labels = np.array(list("xxxxxo" + "xoooo#" + "xx###"))
    assert cluster_purity(clusters, labels) == pytest.approx(12 / 17)


@pytest.mark.parametrize("name", ALL)
def test_the_same_partition_is_perfect_under_any_names(name):
    labels = np.array(["cat", "dog", "dog", "owl", "cat"])
    assert ALL[name](np.array([7, 3, 3, 9, 7]), labels) == pytest.approx(0.0 if name == "mean_entropy" else 1.0)


@settings(max_examples=40, deadline=None)
@given(pair=partitions)
def test_renaming_and_reordering_change_no_metric(pair):
    clusters, labels = map(np.array, pair)
    renamed = np.array([10, 3, 8, 1, 5, 0])[clusters]
    for metric in ALL.values():
        value = metric(clusters, labels)
        assert metric(renamed, labels) == pytest.approx(value, abs=1e-12)
        assert metric(clusters[::-1], labels[::-1]) == pytest.approx(value, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(pair=partitions)
def test_mutual_measures_are_symmetric_and_purity_bounds_accuracy(pair):
    clusters, labels = map(np.array, pair)
    for metric in (normalized_mutual_information, adjusted_rand_index, matched_accuracy):
        assert metric(clusters, labels) == pytest.approx(metric(labels, clusters), abs=1e-9)
    assert matched_accuracy(clusters, labels) <= cluster_purity(clusters, labels) + 1e-12
    assert mean_cluster_entropy(clusters, labels) <= math.log(6) + 1e-12


@settings(max_examples=20, deadline=None)
@given(pair=partitions)
def test_measures_that_scikit_learn_has_are_its_values(pair):
    clusters, labels = map(np.array, pair)
    assert adjusted_rand_index(clusters, labels) == pytest.approx(theirs.adjusted_rand_score(labels, clusters))
    expected = theirs.normalized_mutual_info_score(labels, clusters)
    assert normalized_mutual_information(clusters, labels) == pytest.approx(expected)
    assert (contingency(clusters, labels) == theirs.cluster.contingency_matrix(clusters, labels)).all()


def test_shuffled_labels_are_at_chance():
    generator = np.random.default_rng(0)
    clusters, labels = generator.integers(0, 5, 2000), generator.integers(0, 5, 2000)
    assert adjusted_rand_index(clusters, labels) == pytest.approx(0, abs=0.01)
    assert adjusted_mutual_information(clusters, labels) == pytest.approx(0, abs=0.01)
    assert cluster_purity(clusters, labels) == pytest.approx(0.2, abs=0.05)


def test_many_single_clip_clusters_are_pure_without_a_warning():
    names = np.array([f"clip {i}" for i in range(300)])
    assert cluster_purity(np.arange(300), names) == 1.0
    assert normalized_mutual_information(np.arange(300), names) == pytest.approx(1.0)


def test_tensors_and_columns_are_taken_too():
    assert cluster_purity(torch.tensor([0, 0, 1]), pd.Series(["a", "a", "b"])) == 1.0


@pytest.mark.parametrize("name", ALL)
def test_labels_that_do_not_fit_are_refused(name):
    with pytest.raises(ShapeError, match="2 assigned clips but 3 labels"):
        ALL[name](np.zeros(2), np.zeros(3))
    with pytest.raises(ShapeError, match="at least one clip, got 0"):
        ALL[name](np.zeros(0), np.zeros(0))
