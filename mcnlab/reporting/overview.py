"""Small tables of a study for its notebooks."""

import pandas as pd

from mcnlab.errors import DataError
from mcnlab.reporting.summary import KEY_DIRECTIONS, Column, StudySummary, retention_columns
from mcnlab.runs import RunFolder


def study_table(summary: StudySummary) -> pd.DataFrame:
    """What a study compares.

    Args:
        summary: the study.

    Returns:
        A row per experiment: what is trained, finished runs, training seconds per run.
    """
    rows = []
    for name in summary.experiments:
        runs = [row for row in summary.runs if row.experiment == name]
        finished = [row for row in runs if row.state == "finished"]
        seconds = [row.train_s for row in finished if row.train_s is not None]
        rows.append(
            {
                "experiment": name,
                "what is trained": summary.recipes[name].in_words if name in summary.recipes else "",
                "finished runs": f"{len(finished)} of {len(runs)}",
                "training (s per run)": round(sum(seconds) / len(seconds), 1) if seconds else None,
            }
        )
    return pd.DataFrame(rows).set_index("experiment")


def geometry_table(summary: StudySummary) -> pd.DataFrame:
    """Alignment, gap and uniformity of every experiment, mean over seeds.

    Args:
        summary: the study.

    Returns:
        A row per experiment.
    """
    rows = summary.results[summary.results.task == "geometry"]
    table = rows.pivot_table(index="experiment", columns=["metric", "subject"], values="value", sort=False)
    table.columns = [f"{metric.replace('_', ' ')} {subject}" for metric, subject in table.columns]
    return table.round(3)


def recall_table(summary: StudySummary, direction: str) -> pd.DataFrame:
    """Recall and ranks of every experiment in one direction, mean over seeds.

    Args:
        summary: the study.
        direction: `text->video`.

    Returns:
        A row per experiment.
    """
    rows = summary.results[(summary.results.task == "retrieval") & (summary.results.subject == direction)]
    table = rows.pivot_table(index="experiment", columns="metric", values="value", sort=False)
    return table.rename_axis(columns=None).round(4)


def kept_table(summary: StudySummary) -> pd.DataFrame:
    """Retention per factor group: the mean over the trained modalities that carry it, and over seeds.

    Args:
        summary: the study.

    Returns:
        Experiments × groups.
    """
    cells = {
        column.title: {name: interval.value for name, interval in summary.intervals(column).items()}
        for column in retention_columns(summary)
    }
    return pd.DataFrame(cells).reindex(list(summary.experiments)).rename_axis(index="experiment")


def main_direction(summary: StudySummary) -> str:
    """The first direction that tables show and the study has.

    Args:
        summary: the study.

    Returns:
        `text->video` where there is one; empty when retrieval was not measured, or no experiment trained both sides.
    """
    has = summary.subjects("retrieval")
    return next((one for one in (*KEY_DIRECTIONS, *has) if one in has and _trained_in(summary, one)), "")


def _trained_in(summary: StudySummary, direction: str) -> list[str]:
    """The experiments that trained all modalities of both sides."""
    return [name for name in summary.experiments if summary.trains(name, direction)]


def best_run(summary: StudySummary, direction: str) -> RunFolder:
    """The run with the highest recall at 1 in a direction, among those that trained both sides.

    Args:
        summary: the study.
        direction: `text->video`.

    Returns:
        The run's folder.

    Raises:
        DataError: no run has the direction.
    """
    values = summary.run_values(Column("", "retrieval", (direction,), "recall_at_1"))
    trained = _trained_in(summary, direction)
    by_run = {(name, seed): value for name in trained for seed, value in values.get(name, {}).items()}
    if not by_run:
        raise DataError(f"{summary.title}: no run was asked {direction}")
    best = max(by_run, key=lambda key: by_run[key])
    return next(RunFolder(row.folder) for row in summary.finished() if (row.experiment, row.seed) == best)
