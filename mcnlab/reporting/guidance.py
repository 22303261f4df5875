"""What language adds: experiments whose classes are guided, beside the same without guidance, in equal seeds."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from mcnlab.metrics.statistics import Interval
from mcnlab.reporting.comparison import gap
from mcnlab.reporting.intervals import half_width_text
from mcnlab.reporting.summary import Column, StudySummary
from mcnlab.reporting.unseen import MEASURES, unseen_columns

RECALL = "recall_at_1"


def without_guidance(summary: StudySummary) -> dict[str, str]:
    """For each guided experiment the one that is the same without guidance.

    Args:
        summary: the study.

    Returns:
        Guided → unguided, in the order of the study; only those that have a counterpart.
    """
    recipes = [(name, summary.recipes[name]) for name in summary.experiments if name in summary.recipes]
    plain = {recipe: name for name, recipe in reversed(recipes) if not recipe.guided}
    stripped = {
        name: replace(recipe, guided="", terms=tuple(term for term in recipe.terms if term != "guide"))
        for name, recipe in recipes
        if recipe.guided
    }
    return {name: plain[recipe] for name, recipe in stripped.items() if recipe in plain}


def guidance_table(summary: StudySummary) -> pd.DataFrame:
    """What guidance changes in every measure.

    Args:
        summary: the study.

    Returns:
        A row for each measure, a column for each guided experiment less the same without guidance; empty where there
        are none.
    """
    columns: dict[str, dict[str, str]] = {}
    for name, plain in without_guidance(summary).items():
        for column in (column for metric in MEASURES for column in unseen_columns(summary, metric)):
            found = _gap_of(summary, column, name, plain)
            if found is not None:
                columns.setdefault(f"{name} − {plain}", {})[column.title] = half_width_text(found, sign="+")
    return pd.DataFrame(columns).fillna("").rename_axis(index="in equal seeds")


def guidance_answer(summary: StudySummary) -> tuple[str, str, tuple[str, ...]] | None:
    """Whether language helps to find classes that were never trained on.

    Args:
        summary: the study.

    Returns:
        Heading, the answer in a few sentences, and its numbers as points; None where no guided experiment stands
        beside the same without guidance.
    """
    pairs = without_guidance(summary)
    columns = unseen_columns(summary, RECALL)
    if not pairs or not columns:
        return None
    lead = "Clips of classes that were never trained on are found, beside the same training without language, "
    lead += f"{_verdicts(summary, columns[0], pairs)}."
    points = [_point(summary, one, name, plain) for one in columns for name, plain in pairs.items()]
    points += [_before_training(summary, one, plain) for one in columns for plain in dict.fromkeys(pairs.values())]
    return "What language adds", lead, tuple(point for point in points if point)


def gap_text(found: Interval) -> str:
    """A difference with its interval.

    Example:
        >>> gap_text(Interval(-0.05, -0.11, 0.01, 5))
        '−0.050 [−0.110, +0.010]'
    """
    ends = "" if found.low is None or found.high is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.value:+.3f}{ends}".replace("-", "−")


def verdict(found: Interval) -> str:
    """Better, worse, or what a difference is whose interval holds 0, or that has none."""
    if found.low is None or found.high is None:
        return f"{'better' if found.value > 0 else 'not better'} in one seed"
    if found.low > 0:
        return "better"
    return "worse" if found.high < 0 else "not clearly differently"


def _verdicts(summary: StudySummary, column: Column, pairs: Mapping[str, str]) -> str:
    """The guided experiments by what guidance did to them."""
    groups: dict[str, list[str]] = {}
    for name, plain in pairs.items():
        found = _gap_of(summary, column, name, plain)
        if found is not None:
            groups.setdefault(verdict(found), []).append(f"“{name}”")
    return "; ".join(f"{said} with {', '.join(names)}" for said, names in groups.items())


def _gap_of(summary: StudySummary, column: Column, name: str, other: str) -> Interval | None:
    """The difference of two experiments in one column."""
    values = summary.run_values(column)
    return gap(values.get(name, {}), values.get(other, {}))


def _point(summary: StudySummary, column: Column, name: str, plain: str) -> str:
    """A guided experiment beside the same without guidance."""
    found, means = _gap_of(summary, column, name, plain), summary.intervals(column)
    if found is None:
        return ""
    return (
        f"{column.title}: “{name}” {means[name].value:.3f}, “{plain}” {means[plain].value:.3f}: "
        f"{gap_text(found)} in {_seeds(found)}."
    )


def _before_training(summary: StudySummary, column: Column, plain: str) -> str:
    """An unguided experiment beside its own towers before training."""
    before = replace(column, metric=f"untrained_{column.metric}")
    after, known = summary.run_values(column).get(plain, {}), summary.run_values(before).get(plain, {})
    found = gap(after, known)
    if found is None:
        return ""
    said = f"{column.title}: “{plain}” less its own towers before training: {gap_text(found)} in {_seeds(found)}"
    if found.high is not None and found.high < 0:
        return f"{said}. Training took away: what tells the seen classes apart misleads about others."
    return f"{said}."


def _seeds(found: Interval) -> str:
    """How many seeds a difference is of."""
    return f"{found.n} equal seed{'s' * (found.n != 1)}"
