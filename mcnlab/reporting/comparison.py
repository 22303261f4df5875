"""Whether two experiments of a study differ: paired tests over the same seeds and clips, corrected for their number."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mcnlab.metrics.statistics import Interval, PairedTest, holm, mean_interval, paired_test
from mcnlab.reporting.summary import Column, StudySummary

LEVEL = 0.05
"""A corrected p value below this counts as a difference."""


@dataclass(frozen=True)
class Difference:
    """An experiment held against another in one column."""

    column: Column
    experiment: str
    other: str
    test: PairedTest
    p_corrected: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the difference stands after correction."""
        return self.p_corrected is not None and self.p_corrected < LEVEL


def differences_from(summary: StudySummary, columns: list[Column], other: str) -> list[Difference]:
    """Every experiment against one, in every column; the tests of a column are corrected together, by Holm.

    Args:
        summary: the study.
        columns: what is compared. Recall is compared clip by clip, anything else by its value in each run.
        other: the experiment that the others are held against.

    Returns:
        A difference per experiment and column, where both have the column and a seed in common.
    """
    return [difference for column in columns for difference in _corrected(_tested(summary, column, other))]


def as_good_as_best(summary: StudySummary, column: Column) -> tuple[str | None, set[str]]:
    """The best experiment of a column, and those that no test can tell from it.

    Args:
        summary: the study.
        column: what is compared.

    Returns:
        Name of the best by its mean (None when nobody is above chance), and those that no test tells from it, also
        where none could be made, as of a single run each. What is not above chance is neither.
    """
    chance = summary.chance(column)
    means = {experiment: interval.value for experiment, interval in summary.intervals(column).items()}
    means = {experiment: value for experiment, value in means.items() if chance is None or value > chance}
    if not means:
        return None, set()
    best = max(summary.experiments, key=lambda experiment: means.get(experiment, -np.inf))
    told_apart = {one.experiment for one in differences_from(summary, [column], best) if one.clear}
    return best, means.keys() - {best} - told_apart


def _tested(summary: StudySummary, column: Column, other: str) -> list[Difference]:
    """Every experiment against one in one column, not yet corrected."""
    return [
        Difference(column, experiment, other, test)
        for experiment in summary.experiments
        if experiment != other and (test := _test(summary, column, experiment, other)) is not None
    ]


def _test(summary: StudySummary, column: Column, first: str, second: str) -> PairedTest | None:
    """The paired test of two experiments; None when they have nothing in common."""
    by_seed = summary.run_values(column)
    seeds = sorted(by_seed.get(first, {}).keys() & by_seed.get(second, {}).keys())
    if not seeds:
        return None
    if column.task == "retrieval" and column.metric.startswith("recall_at_"):
        hits = [_hits(summary, column, experiment, seeds) for experiment in (first, second)]
        if hits[0] is not None and hits[1] is not None:
            together = hits[0].index.intersection(hits[1].index)
            if len(together):
                return paired_test(*(side.loc[together].to_numpy(float).T for side in hits if side is not None))
    values = [np.array([[by_seed[experiment][seed]] for seed in seeds]) for experiment in (first, second)]
    return paired_test(*values)


def _hits(summary: StudySummary, column: Column, experiment: str, seeds: list[int]) -> pd.DataFrame | None:
    """1 for a clip whose match was found and 0 for another, a column per seed; None when the ranks are not there."""
    k, direction = int(column.metric.rpartition("_")[2]), column.subjects[0]
    tables = {seed: summary.ranks.get((experiment, seed)) for seed in seeds}
    if any(table is None or direction not in table for table in tables.values()):
        return None
    hits = {seed: (table[direction].dropna() <= k).astype(float) for seed, table in tables.items() if table is not None}
    return pd.DataFrame(hits).dropna()


def _corrected(found: list[Difference]) -> list[Difference]:
    """The same with p values corrected for their number."""
    p_values = holm([difference.test.p_value for difference in found])
    return [replace(difference, p_corrected=p) for difference, p in zip(found, p_values, strict=True)]


def gap(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval | None:
    """How much more one experiment has than another in equal seeds, which mean equal first weights and batches.

    Args:
        ours: value by seed.
        theirs: the same of the other.

    Returns:
        Mean difference with its 95 % interval; None without a common seed.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    return mean_interval([ours[seed] - theirs[seed] for seed in seeds]) if seeds else None
