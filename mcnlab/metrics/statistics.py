"""How sure a number is: intervals, a paired test between experiments, and many tests at once. No torch here."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import stats

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError

DRAWN_AT_ONCE = 2**22
"""Resampled values held in memory at a time (32 MiB)."""
DRAWN_ONE_BY_ONE = 5000
"""Queries up to which each is drawn by itself; from there on it is drawn how often each rank comes, which is faster."""

RANK_NAMES = ("median_rank", "mean_rank")


class Interval(NamedTuple):
    """A mean with its interval; `low` and `high` are None where one value cannot have any."""

    value: float
    low: float | None
    high: float | None
    n: int


class PairedTest(NamedTuple):
    """Difference of two experiments, its interval, and how surprising it would be if there were none.

    `low`, `high` and `p_value` are None where a single number per side allows none.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    seeds: int
    queries: int


def bootstrap_of_ranks(
    ranks: Int[np.ndarray, " query"],
    *,
    generator: np.random.Generator,
    ks: Sequence[int] = (1, 5, 10),
    draws: int = 1000,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of recall at k, median and mean rank, by drawing queries with replacement.

    Queries with equal ranks are alike: above `DRAWN_ONE_BY_ONE` queries, how often each rank comes is drawn at once,
    from the multinomial distribution that drawing queries one by one leads to.

    Args:
        ranks: (N,), from 1, N >= 1. The gallery is taken as given: only queries are drawn.
        generator: Source of the draws; moves on.
        ks: Places that still count as found.
        draws: Number of resamples.
        level: Share of resamples inside the interval, between 0 and 1.

    Returns:
        (low, high) under the keys of `retrieval_metrics`. Where none or all queries are hits, both ends are equal.

    Raises:
        ShapeError: No ranks.
        ConfigError: `draws` below 1 or `level` outside (0, 1).

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.

    Example:
        >>> bootstrap_of_ranks(np.array([1, 1]), generator=np.random.default_rng(0), ks=(1,))["recall_at_1"]
        (1.0, 1.0)
    """
    _check_draws(draws, level)
    if len(ranks) == 0:
        raise ShapeError("an interval needs at least one rank, got 0")
    names = (*(f"recall_at_{k}" for k in ks), *RANK_NAMES)
    few = len(ranks) <= DRAWN_ONE_BY_ONE
    parts = _of_single_draws(ranks, generator, draws, ks) if few else _of_counts(ranks, generator, draws, ks)
    drawn = np.concatenate(list(parts), axis=1)  # (names, draws)
    return {name: _percentiles(values, level) for name, values in zip(names, drawn, strict=True)}


def _of_single_draws(
    ranks: np.ndarray, generator: np.random.Generator, draws: int, ks: Sequence[int]
) -> Iterator[np.ndarray]:
    """(metrics, some draws): recalls, median and mean of ranks that are drawn one by one."""
    for sample in _resamples(ranks, generator, draws):
        recalls = [np.mean(sample <= k, axis=1) for k in ks]
        yield np.stack([*recalls, np.median(sample, axis=1), np.mean(sample, axis=1)])


def _of_counts(
    ranks: np.ndarray, generator: np.random.Generator, draws: int, ks: Sequence[int]
) -> Iterator[np.ndarray]:
    """(metrics, some draws): the same from how often each rank comes in a draw."""
    values, often = np.unique(ranks, return_counts=True)
    total, at_once = len(ranks), max(1, DRAWN_AT_ONCE // len(values))
    middle = ((total - 1) // 2, total // 2)  # places of the two middle ranks, which may be one
    for start in range(0, draws, at_once):
        counts = generator.multinomial(total, often / total, size=min(at_once, draws - start))  # (some, values)
        recalls = [counts[:, values <= k].sum(axis=1) / total for k in ks]
        up_to = np.cumsum(counts, axis=1)
        medians = np.mean([values[(up_to <= place).sum(axis=1)] for place in middle], axis=0)
        yield np.stack([*recalls, medians, counts @ values / total])


def bootstrap_of_mean(
    values: Shaped[np.ndarray, " query"], *, generator: np.random.Generator, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of a mean, by drawing values with replacement.

    Args:
        values: (N,), numbers or truth values, N >= 1, finite.
        generator: Source of the draws; moves on.
        draws: Number of resamples.
        level: Share of resamples inside the interval, between 0 and 1.

    Returns:
        (low, high).

    Raises:
        ShapeError: No values.
        ConfigError: `draws` below 1 or `level` outside (0, 1).

    Source:
        As `bootstrap_of_ranks`.

    Example:
        >>> bootstrap_of_mean(np.array([2.0, 2.0]), generator=np.random.default_rng(0))
        (2.0, 2.0)
    """
    _check_draws(draws, level)
    if len(values) == 0:
        raise ShapeError("an interval needs at least one value, got 0")
    means = [sample.mean(axis=1) for sample in _resamples(values, generator, draws)]
    return _percentiles(np.concatenate(means), level)


def mean_interval(values: Sequence[float] | Float[np.ndarray, " run"], *, level: float = 0.95) -> Interval:
    """Mean of a few runs with its t interval.

    Args:
        values: One number per seed, at least one, finite.
        level: Confidence, between 0 and 1.

    Returns:
        Mean, ends and count. With one value the ends are None: nothing is known about the spread.

    Raises:
        ShapeError: No values.
        NonFiniteError: A value is NaN or infinite.
        ConfigError: `level` outside (0, 1).

    Source:
        Student 1908; takes the runs as draws from a normal distribution.

    Example:
        >>> mean_interval([0.5])
        Interval(value=0.5, low=None, high=None, n=1)
    """
    _check_draws(1, level)
    runs = np.asarray(values, dtype=np.float64)
    if len(runs) == 0:
        raise ShapeError("a mean needs at least one value, got 0")
    _check_finite(runs)
    mean = float(runs.mean())
    if len(runs) == 1:
        return Interval(mean, None, None, 1)
    reach = float(stats.t.ppf((1 + level) / 2, len(runs) - 1) * runs.std(ddof=1) / math.sqrt(len(runs)))
    return Interval(mean, mean - reach, mean + reach, len(runs))


def paired_test(
    first: Float[np.ndarray, "seed query"], second: Float[np.ndarray, "other_seed other_query"], *, level: float = 0.95
) -> PairedTest:
    """Whether two experiments differ, when both ran with the same seeds and answered the same queries.

    The differences d (seed, query) vary for three reasons: the seed (a whole run is better or worse), the query (easy
    for one side), and the rest. Averaging over seeds and testing over queries forgets the first; testing seed means
    alone throws the queries away. Here both are random and crossed: the two-way analysis of variance gives the mean
    squares of seeds, queries and rest, hence the variance of the mean of d,

        V = (MS_seed + max(MS_query - MS_rest, 0)) / (seeds * queries),

    and mean / sqrt(V) is compared with a t distribution whose degrees of freedom follow from the seeds. MS_seed is
    never taken below MS_rest, which it equals or exceeds in expectation, so that three seeds that agree by luck do
    not make the test sure of itself. With one seed only queries vary, and nothing can be said about other seeds. With
    one query (a score per run) it is the paired t test over seeds.

    Args:
        first: (seeds, queries), score of each query in each run, for instance 1 for a hit and 0 for a miss; finite.
        second: The same seeds and queries in the same order, of the other experiment.
        level: Confidence of the interval, between 0 and 1.

    Returns:
        Mean of first - second, its interval, and the two-sided p value; None for both with one seed and one query.
        Where all differences are equal the p value is 1 if they are 0, else 0.

    Raises:
        ShapeError: The two differ in shape, or are empty.
        NonFiniteError: A score is NaN or infinite.
        ConfigError: `level` outside (0, 1).

    Source:
        The analysis of many readers and many cases: Dorfman, Berbaum and Metz 1992 with the degrees of freedom of
        Hillis 2007 (Statistics in Medicine 26, 596-619); seeds are the readers, queries the cases. Differs by the floor
        under MS_seed. In simulation (300 queries, 2 to 5 seeds, no true difference) 0 to 8 % of tests fell below 0.05,
        depending on how much the seeds vary.

    Example:
        >>> paired_test(np.ones((3, 4)), np.ones((3, 4))).p_value
        1.0
    """
    _check_draws(1, level)
    if first.shape != second.shape or first.size == 0:
        raise ShapeError(f"first is {first.shape} but second is {second.shape}; both must be (seeds, queries)")
    d = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    _check_finite(d)
    mean, (seeds, queries) = float(d.mean()), d.shape
    if seeds == queries == 1:
        return PairedTest(mean, None, None, None, seeds, queries)
    variance, freedom = _variance_of_mean(d)
    p_value, reach = _student(mean, math.sqrt(variance), freedom, level)
    return PairedTest(mean, mean - reach, mean + reach, p_value, seeds, queries)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for the number of tests, so that the chance of any false alarm stays below the level.

    Args:
        p_values: From 0 to 1, any number of them; None stays None and is not counted as a test.

    Returns:
        Corrected values in the same order, at most 1.

    Raises:
        ConfigError: A value outside [0, 1].

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6, 65-70.

    Example:
        >>> holm([0.01, None, 0.5])
        [0.02, None, 0.5]
    """
    if wrong := [p for p in p_values if p is not None and not 0.0 <= p <= 1.0]:
        raise ConfigError(f"p values must lie between 0 and 1, got {wrong[0]}")
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    worst = 0.0
    for order, (p, place) in enumerate(tested):
        worst = max(worst, min(1.0, p * (len(tested) - order)))
        corrected[place] = worst
    return corrected


def _variance_of_mean(d: np.ndarray) -> tuple[float, float]:
    """Variance of the mean difference and its degrees of freedom, from the mean squares."""
    seeds, queries = d.shape
    of_seed, of_query = d.mean(axis=1, keepdims=True), d.mean(axis=0, keepdims=True)
    if queries == 1:
        return float(of_seed.var(ddof=1)) / seeds, float(seeds - 1)
    if seeds == 1:
        return float(of_query.var(ddof=1)) / queries, float(queries - 1)
    rest = d - of_seed - of_query + d.mean()
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * (queries - 1))
    ms_seed = max(queries * float(of_seed.var(ddof=1)), ms_rest)
    ms_query = seeds * float(of_query.var(ddof=1))
    whole = ms_seed + max(ms_query - ms_rest, 0.0)
    freedom = whole**2 / (ms_seed**2 / (seeds - 1)) if ms_seed > 0 else float(queries - 1)
    return whole / d.size, freedom


def _student(mean: float, error: float, freedom: float, level: float) -> tuple[float, float]:
    """Two-sided p value, and how far the interval reaches to each side."""
    if error <= 1e-12 * abs(mean):  # no spread but rounding
        return (1.0 if mean == 0 else 0.0), 0.0
    return float(2 * stats.t.sf(abs(mean) / error, freedom)), float(stats.t.ppf((1 + level) / 2, freedom) * error)


def _resamples(values: np.ndarray, generator: np.random.Generator, draws: int) -> Iterator[np.ndarray]:
    """(some draws, N) values with replacement, as many draws at a time as memory allows."""
    at_once = max(1, DRAWN_AT_ONCE // len(values))
    sizes = [min(at_once, draws - start) for start in range(0, draws, at_once)]
    for size in sizes:
        yield values[generator.integers(len(values), size=(size, len(values)))]


def _percentiles(drawn: np.ndarray, level: float) -> tuple[float, float]:
    """The middle share of the draws."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_draws(draws: int, level: float) -> None:
    """An interval is drawn from something and leaves something out."""
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, got {draws}")
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")


def _check_finite(values: np.ndarray) -> None:
    """A mean over NaN says nothing."""
    if bad := int((~np.isfinite(values)).sum()):
        raise NonFiniteError(f"{bad} of {values.size} values are not finite")
