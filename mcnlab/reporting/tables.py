"""The comparison tables of the index page: means with intervals, the best marked, differences tested."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mcnlab.metrics.statistics import Interval
from mcnlab.reporting.comparison import Difference, as_good_as_best, differences_from
from mcnlab.reporting.style import family_color
from mcnlab.reporting.summary import Column, StudySummary


@dataclass(frozen=True)
class CellView:
    """One cell: mean, half width of the interval, difference from the reference, and whether it is the best."""

    mean: str = "–"
    spread: str = ""
    difference: str = ""
    mark: str = ""


@dataclass(frozen=True)
class RowView:
    """One experiment."""

    name: str
    recipe: str
    seeds: int
    color: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class ComparisonView:
    """A comparison table."""

    lead: str
    """What the columns are."""
    columns: tuple[str, ...]
    rows: tuple[RowView, ...]
    note: str
    recipes: bool


def comparison_view(summary: StudySummary, columns: Sequence[Column], *, lead: str, recipes: bool) -> ComparisonView:
    """Experiments × columns.

    Args:
        summary: the study.
        columns: what is compared.
        lead: what the columns are, in a sentence.
        recipes: whether each name comes with what the experiment trains.

    Returns:
        The table. A column's best mean is marked, and with a line those that no test can tell from it.
    """
    tested = {} if summary.reference is None else _by_cell(differences_from(summary, list(columns), summary.reference))
    by_column = [_column_cells(summary, column, tested) for column in columns]
    seeds = {
        name: len({row.seed for row in summary.finished() if row.experiment == name}) for name in summary.experiments
    }
    rows = tuple(
        RowView(
            name,
            _what(summary, name),
            seeds[name],
            family_color(summary.family(name)),
            tuple(cells.get(name, CellView()) for cells in by_column),
        )
        for name in summary.experiments
    )
    return ComparisonView(lead, tuple(column.title for column in columns), rows, _note(summary), recipes)


def means_table(summary: StudySummary, columns: Sequence[Column]) -> pd.DataFrame:
    """Experiments × columns as text.

    Args:
        summary: the study.
        columns: what is compared.

    Returns:
        Mean ± half the 95 % interval; a dash where there is none.
    """
    cells = {
        column.title: {name: _mean_text(interval) for name, interval in summary.intervals(column).items()}
        for column in columns
    }
    return pd.DataFrame(cells).reindex(list(summary.experiments)).fillna("–").rename_axis(index="experiment")


def differences_table(summary: StudySummary, columns: Sequence[Column]) -> pd.DataFrame:
    """Every tested difference from the reference.

    Args:
        summary: the study.
        columns: what is compared.

    Returns:
        A row per column and experiment.
    """
    if summary.reference is None:
        return pd.DataFrame()
    rows = [
        {
            "quantity": one.column.title,
            "experiment": one.experiment,
            "difference": round(one.test.difference, 4),
            "low": _rounded(one.test.low),
            "high": _rounded(one.test.high),
            "p": _rounded(one.test.p_value),
            "p, Holm": _rounded(one.p_corrected),
            "seeds": one.test.seeds,
            "clips": one.test.queries if one.test.queries > 1 else None,
        }
        for one in differences_from(summary, list(columns), summary.reference)
    ]
    return pd.DataFrame(rows).set_index(["quantity", "experiment"]) if rows else pd.DataFrame()


def outcome_table(summary: StudySummary) -> pd.DataFrame:
    """How the training of each experiment ended.

    Args:
        summary: the study.

    Returns:
        A row per experiment: terms, mode, precision, runs with a finite loss, first reason of one without.
    """
    rows = []
    for name in summary.experiments:
        runs = [row for row in summary.runs if row.experiment == name]
        recipe = summary.recipes.get(name)
        broken = [row for row in runs if row.finite is False]
        rows.append(
            {
                "experiment": name,
                "terms": " + ".join(recipe.terms) if recipe else "",
                "mode": recipe.mode if recipe else "",
                "precision": recipe.precision if recipe else "",
                "finite": f"{sum(row.finite is True for row in runs)} of {len(runs)} runs",
                "first non-finite": broken[0].reason if broken else "",
            }
        )
    return pd.DataFrame(rows).set_index("experiment")


def _column_cells(
    summary: StudySummary, column: Column, tested: dict[tuple[str, str], Difference]
) -> dict[str, CellView]:
    """The cells of one column."""
    best, tied = as_good_as_best(summary, column)
    marks = {name: "best" if name == best else "tied" if name in tied else "" for name in summary.experiments}
    return {
        name: _cell(interval, tested.get((column.title, name)), marks[name])
        for name, interval in summary.intervals(column).items()
    }


def _cell(interval: Interval, difference: Difference | None, mark: str) -> CellView:
    """One cell."""
    known = interval.low is not None and interval.high is not None
    spread = f"{(interval.high - interval.low) / 2:.3f}" if known else ""  # type: ignore[operator]
    change = ""
    if difference is not None:
        change = f"{difference.test.difference:+.3f}".replace("-", "−") + "*" * difference.clear
    return CellView(f"{interval.value:.3f}".replace("-", "−"), spread, change, mark)


def _what(summary: StudySummary, name: str) -> str:
    """What an experiment trains, and whether it broke."""
    runs = [row for row in summary.runs if row.experiment == name]
    broken = sum(row.finite is False for row in runs)
    words = summary.recipes[name].in_words if name in summary.recipes else "settings unreadable"
    return f"{words} · loss not finite in {broken} of {len(runs)} runs" if broken else words


def _mean_text(interval: Interval) -> str:
    """A mean with its half width."""
    cell = _cell(interval, None, "")
    return f"{cell.mean} ±\N{NO-BREAK SPACE}{cell.spread}" if cell.spread else cell.mean


def _by_cell(differences: Sequence[Difference]) -> dict[tuple[str, str], Difference]:
    """Differences by column and experiment."""
    return {(one.column.title, one.experiment): one for one in differences}


def _note(summary: StudySummary) -> str:
    """What the marks mean."""
    many = any(len([run for run in summary.finished() if run.experiment == name]) > 1 for name in summary.experiments)
    spread = (
        "95 % interval over seeds (Student's t)" if many else "95 % interval over clips (bootstrap), where there is one"
    )
    against = f" Second line: difference from {summary.reference}; * it stands (p < 0.05)." if summary.reference else ""
    return (
        f"Mean ± half the {spread}. Green: best mean of the column; green underline: no test tells it from the best."
        f"{against} Paired tests over the same seeds and, for recall, the same clips; Holm's correction per column."
    )


def _rounded(value: float | None) -> float | None:
    """Four digits, or nothing."""
    return None if value is None else round(value, 4)
