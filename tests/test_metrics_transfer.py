"""Scores of classes: values known on paper, agreement with scikit-learn, ties, resampling weights, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.metrics import (
    area_under_roc,
    average_precision,
    d_prime,
    eleven_point_average_precision,
    mean_over_classes,
    top_k_hits,
)

cases = st.integers(4, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda truth: 0 < sum(truth) < len(truth)),
        st.lists(st.integers(1, 3), min_size=n, max_size=n),
    )
)


@given(cases)
@settings(max_examples=60, deadline=None)
def test_precision_and_area_agree_with_the_reference_also_with_ties_and_weights(case):
    scores, truth, weights = np.array(case[0], float), np.array(case[1]), np.array(case[2])
    both = np.stack([np.ones(len(scores)), weights])
    for row, weight in enumerate(both):
        expected = theirs.average_precision_score(truth, scores, sample_weight=weight)
        assert average_precision(scores, truth, both)[row] == pytest.approx(expected, abs=1e-12)
        expected = theirs.roc_auc_score(truth, scores, sample_weight=weight)
        assert area_under_roc(scores, truth, both)[row] == pytest.approx(expected, abs=1e-12)


@given(cases)
@settings(max_examples=20, deadline=None)
def test_a_weight_is_as_good_as_so_many_copies(case):
    scores, truth, weights = np.array(case[0], float), np.array(case[1]), np.array(case[2])
    copied = average_precision(scores.repeat(weights), truth.repeat(weights))
    assert average_precision(scores, truth, weights[None]) == pytest.approx(copied, abs=1e-12)


def test_average_precision_of_the_textbook_example_is_known():
    # Manning et al. 2008, section 8.4: relevant documents at places 1, 3 and 6 of 10.
    truth = np.isin(np.arange(1, 11), [1, 3, 6])
    assert average_precision(-np.arange(10.0), truth)[0] == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)


def test_eleven_points_take_the_best_precision_from_there_on():
    # True at places 1 and 4 of 4: precision 1 up to recall 0.5, 1/2 beyond.
    truth = np.array([True, False, False, True])
    assert eleven_point_average_precision(-np.arange(4.0), truth)[0] == pytest.approx((6 * 1.0 + 5 * 0.5) / 11)
    assert np.isnan(eleven_point_average_precision(np.zeros(2), np.zeros(2, dtype=bool))[0])


@pytest.mark.parametrize(
    ("area", "published"),
    [(0.851, 1.471), (0.894, 1.764), (0.911, 1.911), (0.918, 1.969), (0.926, 2.041), (0.959, 2.452), (0.5, 0.0)],
)
def test_d_prime_of_published_areas_is_the_published_one(area, published):
    # Hershey et al. 2017, arXiv 1609.09430, tables 2 and 3: areas have three digits, which is 0.01 of d'.
    assert d_prime(area) == pytest.approx(published, abs=0.011)


def test_d_prime_at_the_ends_is_infinite_and_turns_with_the_area():
    assert d_prime(1.0) == math.inf
    assert d_prime(0.2) == pytest.approx(-d_prime(0.8))


def test_ties_count_against_the_right_class():
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
    assert top_k_hits(scores, np.array([0, 2]), 1).tolist() == [False, False]
    assert top_k_hits(scores, np.array([0, 2]), 2).tolist() == [True, True]


def test_top_k_agrees_with_the_reference():
    random = np.random.default_rng(0)
    scores, target = random.normal(size=(60, 7)), random.integers(7, size=60)
    for k in (1, 3, 7):
        expected = theirs.top_k_accuracy_score(target, scores, k=k, labels=range(7)) if k < 7 else 1.0
        assert top_k_hits(scores, target, k).mean() == pytest.approx(expected)


def test_a_class_that_nobody_has_is_left_out_of_the_mean():
    scores = np.array([[2.0, 0.0, 9.0], [1.0, 5.0, 9.0], [0.0, 1.0, 9.0]])
    truth = np.array([[True, False, False], [False, True, False], [True, False, False]])
    precision, area = mean_over_classes(scores, truth)
    assert precision[0] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert area[0] == pytest.approx((0.5 + 1) / 2)


def test_a_draw_without_a_class_leaves_it_out_there():
    scores, truth = np.array([[1.0], [0.0]]), np.array([[True], [False]])
    precision, area = mean_over_classes(scores, truth, np.array([[1, 1], [0, 2]]))
    assert precision.tolist()[0] == area.tolist()[0] == 1.0
    assert np.isnan(precision[1])
    assert np.isnan(area[1])


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ShapeError, match="2 clips but 1 targets"):
        top_k_hits(np.zeros((2, 3)), np.zeros(1, dtype=np.int64), 1)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        top_k_hits(np.zeros((2, 3)), np.zeros(2, dtype=np.int64), 0)
    with pytest.raises(ShapeError, match="2 scores but 1 truth"):
        average_precision(np.zeros(2), np.zeros(1, dtype=bool))
    with pytest.raises(NonFiniteError, match="1 scores"):
        area_under_roc(np.array([0.0, np.nan]), np.array([True, False]))
    with pytest.raises(ConfigError, match=r"got 1\.5"):
        d_prime(1.5)
    with pytest.raises(ShapeError, match=r"\(2, 2\)"):
        mean_over_classes(np.zeros((2, 2)), np.zeros((2, 3), dtype=bool))
