"""What the study board shows of all runs of one or more studies, as plain values."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcnlab.errors import DataError
from mcnlab.reporting.comparison import as_good_as_best, differences_from
from mcnlab.reporting.followed import FollowedLog
from mcnlab.reporting.style import family_color
from mcnlab.reporting.summary import (
    Column,
    RunRow,
    StudySummary,
    finite_or_none,
    key_columns,
    retention_columns,
    still_columns,
    summarize,
)
from mcnlab.runs import HEADLINES

SPARK_POINTS = 40
"""Points of the small loss curve of a run."""


def summarize_all(study_dirs: str | Path | Sequence[str | Path]) -> StudySummary:
    """The runs of one study folder, or those of several as if they were one.

    Args:
        study_dirs: a folder of run folders, or several; then each experiment is named after its study, too.

    Returns:
        The summary.

    Raises:
        DataError: a folder does not exist or holds no run, or two folders have one name.
    """
    folders = [study_dirs] if isinstance(study_dirs, str | Path) else list(study_dirs)
    if not folders:
        raise DataError("expected at least one folder of runs, got none")
    summaries = [summarize(folder) for folder in folders]
    if len(summaries) == 1:
        return summaries[0]
    titles = [summary.title for summary in summaries]
    if len(set(titles)) < len(titles):
        raise DataError(f"study folders must differ in their names, got {', '.join(titles)}")
    return _joined([_renamed(summary) for summary in summaries])


def board_columns(summary: StudySummary) -> list[Column]:
    """Everything that the board compares: what the report's tables have, and the headline of any other task.

    Args:
        summary: the study.

    Returns:
        Columns with different titles; larger is better in all of them.
    """
    columns = [*key_columns(summary), *retention_columns(summary), *still_columns(summary)]
    others = [task for task in HEADLINES if task not in ("retrieval", "clusters", "stills")]
    for task in others:
        for metric in HEADLINES[task]:
            rows = summary.results[(summary.results.task == task) & (summary.results.metric == metric)]
            columns += [Column(f"{task} {one} {metric}", task, (one,), metric) for one in dict.fromkeys(rows.subject)]
    return columns


def experiment_rows(summary: StudySummary, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """A row per experiment: mean over seeds, half the 95 % interval, and whether it is the best of its column.

    Args:
        summary: the study.
        columns: what is compared.

    Returns:
        Plain values; a mark is `best`, or `tied` where no test tells it from the best, as in the report.
    """
    cells: dict[str, dict[str, Any]] = {name: {} for name in summary.experiments}
    for column in columns:
        best, tied = as_good_as_best(summary, column)
        for name, interval in summary.intervals(column).items():
            mark = "best" if name == best else "tied" if name in tied else ""
            cells[name][column.title] = _cell(interval.value, interval.low, interval.high, mark)
    rows = []
    for name in summary.experiments:
        runs = [row for row in summary.runs if row.experiment == name]
        done = sum(row.state == "finished" for row in runs)
        broken = sum(row.finite is False for row in runs)
        rows.append(
            {
                "id": name,
                **_named(summary, name),
                "seed": f"{done} of {len(runs)}",
                "state": _common_state(runs),
                "reason": next((row.reason for row in runs if row.reason), ""),
                "note": f"loss not finite in {broken} of {len(runs)} runs" if broken else "",
                "steps": max(row.steps for row in runs),
                "train_s": _mean([row.train_s for row in runs]),
                "cells": cells[name],
            }
        )
    return rows


def run_rows(summary: StudySummary, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """A row per run, with its own values.

    Args:
        summary: the study.
        columns: what is compared.

    Returns:
        Plain values; a mark is `best`, or `tied` where the run's own 95 % interval over clips reaches the best value.
        What is not above chance has none.
    """
    values = {column.title: summary.run_values(column) for column in columns}
    own = _own_intervals(summary, columns)
    chance = {column.title: summary.chance(column) for column in columns}
    best = {
        title: max((v for by_seed in found.values() for v in by_seed.values()), default=None)
        for title, found in values.items()
    }
    rows = []
    for run in summary.runs:
        cells = {}
        for title, found in values.items():
            value, top = found.get(run.experiment, {}).get(run.seed), best[title]
            if value is None or top is None:
                continue
            low, high = own.get((title, run.experiment, run.seed), (None, None))
            mark = "best" if value == top else "tied" if high is not None and high >= top else ""
            least = chance[title]
            mark = mark if least is None or value > least else ""
            cells[title] = _cell(value, low, high, mark)
        rows.append(
            {
                "id": run_id(run),
                **_named(summary, run.experiment),
                "experiment": run.experiment,
                "seed": str(run.seed),
                "state": run.state,
                "reason": run.reason,
                "note": "loss not finite" if run.finite is False else "",
                "steps": run.steps,
                "train_s": run.train_s,
                "notebook": _if_there(run.folder / "notebook.ipynb"),
                "cells": cells,
            }
        )
    return rows


def differences(summary: StudySummary, columns: Sequence[Column], baseline: str) -> dict[str, dict[str, Any]]:
    """Every experiment against one over equal seeds, as the report tests them.

    Args:
        summary: the study.
        columns: what is compared.
        baseline: the experiment that the others are held against.

    Returns:
        experiment → column → difference, its 95 % interval, p after Holm's correction, whether it stands, seeds.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in differences_from(summary, list(columns), baseline):
        low, high = finite_or_none(one.test.low), finite_or_none(one.test.high)
        told = {
            "d": one.test.difference,
            "low": low,
            "high": high,
            "p": finite_or_none(one.p_corrected),
            "clear": one.clear,
        }
        found.setdefault(one.experiment, {})[one.column.title] = {**told, "seeds": one.test.seeds}
    return found


def run_id(run: RunRow) -> str:
    """What a run is called between board and page."""
    return f"{run.experiment}, seed {run.seed}"


def spark(log: FollowedLog) -> list[float]:
    """A small loss curve, from the log as far as it can be read."""
    try:
        log.read()
    except DataError:
        return []
    return [float(f"{value:.4g}") for value in log.curve("loss", most=SPARK_POINTS)[1]]


def _joined(summaries: Sequence[StudySummary]) -> StudySummary:
    """Several summaries of differently named experiments as one."""
    first = summaries[0]
    return replace(
        first,
        title=" + ".join(summary.title for summary in summaries),
        experiments=tuple(name for summary in summaries for name in summary.experiments),
        recipes={name: recipe for summary in summaries for name, recipe in summary.recipes.items()},
        runs=tuple(run for summary in summaries for run in summary.runs),
        results=pd.concat([summary.results for summary in summaries], ignore_index=True),
        ranks={key: table for summary in summaries for key, table in summary.ranks.items()},
    )


def _renamed(summary: StudySummary) -> StudySummary:
    """The same with the study's name before that of every experiment."""
    new = {name: f"{summary.title}: {name}" for name in summary.experiments}
    return replace(
        summary,
        experiments=tuple(new.values()),
        recipes={new[name]: recipe for name, recipe in summary.recipes.items()},
        runs=tuple(replace(run, experiment=new[run.experiment]) for run in summary.runs),
        results=summary.results.assign(experiment=summary.results["experiment"].map(new)),
        ranks={(new[name], seed): table for (name, seed), table in summary.ranks.items()},
        reference=None if summary.reference is None else new[summary.reference],
    )


def _own_intervals(
    summary: StudySummary, columns: Sequence[Column]
) -> dict[tuple[str, str, int], tuple[float | None, float | None]]:
    """(column, experiment, seed) → the interval that a run gives itself, for columns of one subject."""
    found = {}
    for column in columns:
        if len(column.subjects) != 1:
            continue
        rows = summary.results
        rows = rows[(rows.task == column.task) & (rows.metric == column.metric) & (rows.subject == column.subjects[0])]
        for row in rows.itertuples():
            found[column.title, str(row.experiment), int(row.seed)] = (
                finite_or_none(row.low),
                finite_or_none(row.high),
            )
    return found


def _named(summary: StudySummary, name: str) -> dict[str, str]:
    """Name, recipe and color of an experiment."""
    what = summary.recipes[name].in_words if name in summary.recipes else ""
    return {"name": name, "what": what, "color": family_color(summary.family(name))}


def _cell(value: float, low: float | None, high: float | None, mark: str) -> dict[str, Any]:
    """One value with its interval."""
    return {"v": value, "low": finite_or_none(low), "high": finite_or_none(high), "mark": mark}


def _common_state(runs: Sequence[RunRow]) -> str:
    """The state that asks most for a look."""
    states = {row.state for row in runs}
    return next(one for one in ("running", "failed", "interrupted", "pending", "finished") if one in states)


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of those that are known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _if_there(path: Path) -> str:
    """The path of a file that exists; empty for others."""
    return str(path.resolve()) if path.exists() else ""
