"""Statistics: coverage of the intervals, calibration of the paired test, Holm, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.metrics import bootstrap_of_mean, bootstrap_of_ranks, holm, mean_interval, paired_test
from mcnlab.metrics import statistics as module


def generator(seed=0):
    return np.random.default_rng(seed)


def differences(*, seeds, queries, seed_spread, query_spread, shift=0.0, of=0):
    """Scores of one side that beat the other side's zeros by `shift` on average."""
    rng = generator(of)
    rest = 0.5 * rng.normal(size=(seeds, queries))
    by_seed, by_query = rng.normal(size=(seeds, 1)), rng.normal(size=(1, queries))
    return shift + seed_spread * by_seed + query_spread * by_query + rest


def false_alarms(*, trials=300, **design):
    p_values = []
    for trial in range(trials):
        first = differences(**design, of=trial)
        p_values.append(paired_test(first, np.zeros_like(first)).p_value)
    return np.mean(np.array(p_values) < 0.05)


def test_a_recall_interval_is_about_the_binomial_one():
    ranks = np.repeat([1, 20], [120, 280])
    low, high = bootstrap_of_ranks(ranks, generator=generator(), draws=4000)["recall_at_1"]
    reach = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert (low, high) == pytest.approx((0.3 - reach, 0.3 + reach), abs=0.01)


def test_intervals_carry_the_names_of_the_metrics_and_hold_the_values():
    ranks = generator().integers(1, 50, 200)
    found = bootstrap_of_ranks(ranks, generator=generator(), ks=(1, 5))
    assert set(found) == {"recall_at_1", "recall_at_5", "median_rank", "mean_rank"}
    assert found["median_rank"][0] <= np.median(ranks) <= found["median_rank"][1]
    assert found["mean_rank"][0] < ranks.mean() < found["mean_rank"][1]


def test_the_same_generator_state_gives_the_same_interval_however_memory_is_cut(monkeypatch):
    ranks = generator().integers(1, 50, 100)
    whole = bootstrap_of_ranks(ranks, generator=generator(3))
    assert bootstrap_of_ranks(ranks, generator=generator(3)) == whole
    monkeypatch.setattr(module, "DRAWN_AT_ONCE", 1000)
    assert bootstrap_of_ranks(ranks, generator=generator(3)) == whole


@pytest.mark.parametrize("queries", [400, 401])
def test_intervals_from_counts_are_those_of_single_draws(monkeypatch, queries):
    ranks = np.ceil(generator().exponential(20.0, queries)).astype(np.int64)
    one_by_one = bootstrap_of_ranks(ranks, generator=generator(1), draws=6000)
    monkeypatch.setattr(module, "DRAWN_ONE_BY_ONE", 0)
    counted = bootstrap_of_ranks(ranks, generator=generator(2), draws=6000)
    assert counted.keys() == one_by_one.keys()
    for name, ends in counted.items():
        width = one_by_one[name][1] - one_by_one[name][0]
        assert ends == pytest.approx(one_by_one[name], abs=max(0.08 * width, 0.5 * name.startswith("median"))), name
        assert counted != one_by_one  # other draws
    monkeypatch.setattr(module, "DRAWN_AT_ONCE", 1000)
    assert bootstrap_of_ranks(ranks, generator=generator(2), draws=6000) == counted


def test_each_counted_draw_is_a_sample_of_the_ranks():
    ranks = np.array([1, 3, 3, 8])
    (drawn,) = module._of_counts(ranks, generator(), 4000, (1, 3))
    recall_1, recall_3, median, mean = drawn
    assert set(median) <= {1, 2, 3, 4.5, 5.5, 8}
    assert ((recall_3 < 0.5) <= (median > 5)).all()
    assert recall_1.mean() == pytest.approx(0.25, abs=0.02)
    assert mean.mean() == pytest.approx(3.75, abs=0.1)
    assert mean.std() == pytest.approx(ranks.std() / 2, rel=0.05)
    least = recall_1 + 3 * (recall_3 - recall_1) + 8 * (1 - recall_3)
    assert mean == pytest.approx(least)


def test_a_hundred_thousand_ranks_are_resampled_from_their_counts():
    ranks = np.ceil(generator().exponential(50.0, 100_000)).astype(np.int64)
    found = bootstrap_of_ranks(ranks, generator=generator(1))
    reach = 1.96 * ranks.std() / math.sqrt(100_000)
    assert found["mean_rank"] == pytest.approx((ranks.mean() - reach, ranks.mean() + reach), abs=0.3 * reach)
    assert found["recall_at_10"][0] < np.mean(ranks <= 10) < found["recall_at_10"][1]


def test_a_bootstrapped_mean_has_about_its_standard_error():
    values = generator().normal(size=500)
    low, high = bootstrap_of_mean(values, generator=generator(1), draws=4000)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(500), rel=0.1)
    assert bootstrap_of_mean(np.array([True, True]), generator=generator()) == (1.0, 1.0)


def test_a_mean_over_seeds_has_the_t_interval_of_scipy():
    values = [0.61, 0.58, 0.66]
    found = mean_interval(values)
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.value == pytest.approx(np.mean(values))
    assert found.n == 3


def test_one_seed_has_a_mean_and_no_interval():
    assert mean_interval([0.61]) == (0.61, None, None, 1)


def test_one_score_per_seed_gives_the_paired_t_test_of_scipy():
    first, second = generator().normal(0.3, 0.2, size=(5, 1)), generator(1).normal(size=(5, 1))
    expected = stats.ttest_rel(first[:, 0], second[:, 0])
    found = paired_test(first, second)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_one_seed_gives_the_paired_t_test_over_queries():
    first, second = generator().normal(0.1, 1, size=(1, 80)), generator(1).normal(size=(1, 80))
    assert paired_test(first, second).p_value == pytest.approx(stats.ttest_rel(first[0], second[0]).pvalue)


def test_swapping_the_experiments_turns_the_sign_only():
    first, second = generator().normal(size=(3, 50)), generator(1).normal(0.2, 1, size=(3, 50))
    one, other = paired_test(first, second), paired_test(second, first)
    assert other.difference == pytest.approx(-one.difference)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.p_value == pytest.approx(one.p_value)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_spread", [0.0, 0.02, 0.1])
def test_false_alarms_stay_near_their_level_however_much_seeds_vary(seeds, seed_spread):
    alarms = false_alarms(seeds=seeds, queries=200, seed_spread=seed_spread, query_spread=0.3)
    assert alarms <= 0.08 + 3 * math.sqrt(0.08 * 0.92 / 300)


def test_queries_alone_would_have_raised_false_alarms():
    alarms = 0
    for trial in range(100):
        first = differences(seeds=3, queries=200, seed_spread=0.1, query_spread=0.3, of=trial)
        alarms += stats.ttest_1samp(first.mean(axis=0), 0).pvalue < 0.05
    assert alarms > 30


def test_a_difference_well_above_the_seed_spread_is_found_with_three_seeds():
    p_values = []
    for trial in range(20):
        first = differences(seeds=3, queries=300, seed_spread=0.02, query_spread=0.3, shift=0.3, of=trial)
        found = paired_test(first, np.zeros_like(first))
        p_values.append(found.p_value)
        assert found.low > 0
    assert np.median(p_values) < 0.001


def test_seeds_that_agree_by_luck_do_not_make_the_test_sure():
    hits = generator().integers(0, 2, size=(1, 40)).astype(float)
    first = np.concatenate((hits, 1 - hits))  # both seeds hit exactly half, on opposite queries
    found = paired_test(first, np.full((2, 40), 0.5))
    assert found.p_value == pytest.approx(1.0)
    assert found.high - found.low > 0.1


def test_equal_experiments_do_not_differ():
    same = generator().normal(size=(3, 20))
    assert paired_test(same, same) == (0.0, 0.0, 0.0, 1.0, 3, 20)


def test_a_single_number_per_side_allows_no_test():
    assert paired_test(np.array([[0.75]]), np.array([[0.25]])) == (0.5, None, None, None, 1, 1)


def test_holm_agrees_with_the_example_on_paper():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([None]) == [None]


@settings(max_examples=50, deadline=None)
@given(p_values=st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_never_lowers_and_is_below_bonferroni(p_values):
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) + 1e-12 or q == 1.0
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(corrected)[order]) >= 0) if p_values else True


def test_what_has_no_answer_is_refused():
    ranks = np.array([1, 2])
    with pytest.raises(ShapeError, match="at least one rank, got 0"):
        bootstrap_of_ranks(ranks[:0], generator=generator())
    with pytest.raises(ShapeError, match="at least one value, got 0"):
        bootstrap_of_mean(np.zeros(0), generator=generator())
    with pytest.raises(ShapeError, match="at least one value, got 0"):
        mean_interval([])
    with pytest.raises(ConfigError, match="draws must be at least 1, got 0"):
        bootstrap_of_ranks(ranks, generator=generator(), draws=0)
    with pytest.raises(ConfigError, match=r"level must lie between 0 and 1, got 95"):
        mean_interval([1.0, 2.0], level=95.0)
    with pytest.raises(NonFiniteError, match="1 of 2 values are not finite"):
        mean_interval([1.0, math.nan])
    with pytest.raises(ShapeError, match=r"first is \(2, 3\) but second is \(3, 3\)"):
        paired_test(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ConfigError, match=r"between 0 and 1, got 1\.5"):
        holm([0.5, 1.5])
