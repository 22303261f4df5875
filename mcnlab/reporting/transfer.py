"""Figures and tables of transfer: classes told from frozen features, by all the training examples and by a few."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.metrics.statistics import Interval
from mcnlab.reporting.bars import bars_figure
from mcnlab.reporting.intervals import interval_text, whiskers
from mcnlab.reporting.style import CLASS_COLORS, QUIET, Figure, evenly, family_color, safe, shortened, styled
from mcnlab.reporting.summary import Column, StudySummary

METHODS = {"transfer": "linear", "finetune": "tuned"}
"""What stands before the main measure of each task."""
MEASURES = {"top1": "accuracy (share of recordings)", "map": "mean average precision"}
"""What probes are judged by: one class a recording, or several."""
HEADS = {
    "transfer": (
        "How well a linear probe tells the classes",
        "logistic regression on frozen features, C chosen by validation, mean over the official splits. Backbone: "
        "features before any space. Diamond: the same tower before training.",
    ),
    "finetune": (
        "How well fine-tuned towers tell the classes",
        "the whole tower and a linear layer are trained on the first official split. Diamond: the same from scratch.",
    ),
}
"""Title and words of the bars."""
SHOWN = {
    "linear_top1": "linear",
    "linear_top5": "linear, top 5",
    "svm_top1": "SVM",
    "tuned_top1": "fine-tuned",
    "linear_map": "linear, mAP",
    "linear_map11": "linear, mAP at 11 recalls",
    "linear_auc": "linear, AUC",
    "linear_dprime": "linear, d'",
    "svm_map": "SVM, mAP",
    "tuned_map": "fine-tuned, mAP",
}
"""Columns of the table."""
PANELS_PER_ROW, PANEL_PX, HEAD_PX, FOOT_PX = 3, 230, 60, 60


def transfer_tasks(summary: StudySummary) -> list[str]:
    """What was measured where: `transfer` and `finetune` on a run's own store, `transfer@NAME` on others."""
    tasks = dict.fromkeys(summary.results["task"]) if len(summary.results) else {}
    order = list(METHODS)
    known = [task for task in tasks if _kind(task) in METHODS]
    return sorted(known, key=lambda task: (task.split("@")[1:], order.index(_kind(task))))


def measure_of(summary: StudySummary, task: str) -> str:
    """What a task is judged by: `top1` or `map`."""
    rows = summary.results[summary.results.task == task]
    return "map" if (rows.metric == f"{METHODS[_kind(task)]}_map").any() else "top1"


def probe_columns(summary: StudySummary, task: str) -> list[Column]:
    """The linear probe on each kind of features, or each fine-tuned tower.

    Args:
        summary: the study.
        task: of `transfer_tasks`.

    Returns:
        A column each, in the order of the results.
    """
    metric = _main_metric(summary, task)
    return [Column(_words(subject), task, (subject,), metric) for subject in summary.subjects(task)]


def probe_figure(summary: StudySummary, task: str) -> Figure | None:
    """The linear probe of every experiment beside chance and the untrained model.

    Args:
        summary: the study.
        task: of `transfer_tasks`.

    Returns:
        Small multiples of horizontal bars, a panel for each kind of features; None when transfer was not measured.
    """
    columns = probe_columns(summary, task)
    if not columns:
        return None
    unit, title, words = MEASURES[measure_of(summary, task)], *HEADS[_kind(task)]
    return bars_figure(
        summary,
        columns,
        name=f"{_anchor(task)}-probe",
        title=f"{title}{_where(task)}",
        caption=f"{unit.capitalize()}, larger is better: {words} Bars: mean over seeds; whiskers: 95 % interval. "
        "Dashed line: chance.",
        unit=unit,
        suffix=f"_{columns[0].metric}",
    )


def few_shot_figure(summary: StudySummary, task: str) -> Figure | None:
    """The same after a few examples of each class, for every experiment and the model before training.

    Args:
        summary: the study.
        task: of `transfer_tasks`.

    Returns:
        Lines with intervals over the number of examples, a panel for each kind of features; None when there are none.
    """
    subjects, shots = summary.subjects(task), _shots(summary, task)
    if not subjects or not shots:
        return None
    across = evenly(len(subjects), most=PANELS_PER_ROW)
    down = math.ceil(len(subjects) / across)
    height = down * (PANEL_PX + HEAD_PX) + FOOT_PX
    titles = [safe(_words(subject)) for subject in subjects]
    plot = make_subplots(
        rows=down,
        cols=across,
        subplot_titles=titles,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.28 / down,
    )
    for number, subject in enumerate(subjects):
        place = {"row": number // across + 1, "col": number % across + 1}
        for trace in _curves(summary, task, subject, shots, first=number == 0):
            plot.add_trace(trace, **place)
        chance = summary.level(task, subject, f"chance_{_main_metric(summary, task)}")
        if chance is not None:
            plot.add_hline(y=chance, line={"color": QUIET, "dash": "dash", "width": 1.4}, **place)
    unit = MEASURES[measure_of(summary, task)]
    plot.update_xaxes(type="log", tickvals=shots, ticktext=[str(shot) for shot in shots])
    plot.update_xaxes(title_text="examples of each class", title_font_size=11, title_font_color=QUIET, row=down)
    plot.update_yaxes(rangemode="tozero").update_yaxes(title_text=unit, title_font_size=11, col=1)
    table = few_shot_table(summary, task)
    return Figure(
        name=f"{_anchor(task)}-few",
        title=f"How many examples the classes need{_where(task)}",
        caption=f"{unit.capitalize()} of logistic regression on a few examples of each class, mean over draws of them, "
        "first official split; larger is better. Solid: after training; dotted: the same tower before. Whiskers: 95 % "
        "interval over seeds, or over the draws where there is one seed. Dashed line: chance.",
        alt="; ".join(f"{row}: {' '.join(map(str, table.loc[row]))}" for row in table.index[:8]),
        plot=styled(plot, height=height).update_layout(legend={"y": 1 + HEAD_PX / height}, margin_t=HEAD_PX + 20),
        numbers=table,
    )


def transfer_table(summary: StudySummary, task: str) -> pd.DataFrame:
    """All measures: for each kind of features a row per experiment, and below what to compare with.

    Args:
        summary: the study.
        task: of `transfer_tasks`.

    Returns:
        Means with intervals as text; rows without any number are left out.
    """
    has = set(summary.results[summary.results.task == task]["metric"])
    shown = {metric: words for metric, words in SHOWN.items() if metric in has}
    rows: dict[str, dict[str, str]] = {}
    for subject in summary.subjects(task):
        for prefix, ending in (("", ""), ("untrained_", ", before training")):
            for name, cells in _cells(summary, task, subject, prefix, shown).items():
                rows[f"{_words(subject)}: {name}{ending}"] = cells
        levels = {words: summary.level(task, subject, f"chance_{metric}") for metric, words in shown.items()}
        rows[f"{_words(subject)}: chance"] = {k: f"{v:.3f}" for k, v in levels.items() if v is not None}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(shown.values())).fillna("")
    return table.rename_axis(index="features: experiment")


def few_shot_table(summary: StudySummary, task: str) -> pd.DataFrame:
    """The drawn numbers of the few-shot curve.

    Args:
        summary: the study.
        task: of `transfer_tasks`.

    Returns:
        A row per features and experiment, before and after training; a column per number of examples.
    """
    shown = {f"few_{shot}": str(shot) for shot in _shots(summary, task)}
    rows: dict[str, dict[str, str]] = {}
    for subject in summary.subjects(task):
        for prefix, ending in (("", ""), ("untrained_", ", before training")):
            for name, cells in _cells(summary, task, subject, prefix, shown).items():
                rows[f"{_words(subject)}: {name}{ending}"] = cells
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(shown.values())).fillna("")
    return table.rename_axis(index="features: experiment, by examples of each class")


def transfer_in_words(summary: StudySummary, task: str) -> list[str]:
    """The answer in sentences: for each kind of features the best experiment, before training, and chance.

    Args:
        summary: the study.
        task: of `transfer_tasks`.

    Returns:
        A sentence for each kind of features.
    """
    said = []
    for column in probe_columns(summary, task):
        found = summary.intervals(column)
        if not found:
            continue
        best = max(found, key=lambda name: found[name].value)
        before = summary.intervals(Column("", task, column.subjects, f"untrained_{column.metric}")).get(best)
        chance = summary.level(task, column.subjects[0], f"chance_{column.metric}")
        verdict = "" if before is None else _verdict(found[best], before)
        compared = [f"before training {interval_text(before)}{verdict}"] if before is not None else []
        compared += [f"chance {chance:.3f}"] if chance is not None else []
        how = "linear probe on " if _kind(task) == "transfer" else "fine-tuned "
        said.append(f"{how}{column.title}{_where(task)}: {best} {interval_text(found[best])}; {'; '.join(compared)}.")
    return said


def _verdict(after: Interval, before: Interval) -> str:
    """Whether training helped, by intervals that do not overlap."""
    if None in (after.low, after.high, before.low, before.high):
        return ""
    if after.low > before.high:  # type: ignore[operator]
        return " (training helped)"
    return " (training hurt)" if after.high < before.low else " (the intervals overlap)"  # type: ignore[operator]


def _cells(
    summary: StudySummary, task: str, subject: str, prefix: str, shown: dict[str, str]
) -> dict[str, dict[str, str]]:
    """experiment → words → mean with interval, of experiments that have any."""
    cells: dict[str, dict[str, str]] = {}
    for metric, words in shown.items():
        for name, interval in summary.intervals(Column("", task, (subject,), prefix + metric)).items():
            cells.setdefault(name, {})[words] = interval_text(interval).rpartition(", ")[0]
    return cells


def _curves(summary: StudySummary, task: str, subject: str, shots: Sequence[int], *, first: bool) -> list[go.Scatter]:
    """A line per experiment, after training and before."""
    traces = []
    for prefix, dash, ending in (("", "solid", ""), ("untrained_", "dot", ", before training")):
        found = {shot: summary.intervals(Column("", task, (subject,), f"{prefix}few_{shot}")) for shot in shots}
        for place, name in enumerate(summary.experiments):
            points = [(shot, found[shot][name]) for shot in shots if name in found[shot]]
            if points:
                traces.append(_curve(points, _color(summary, name, place), dash, name + ending, shown=first))
    return traces


def _curve(points: Sequence[tuple[int, Interval]], color: str, dash: str, name: str, *, shown: bool) -> go.Scatter:
    """One line with its whiskers."""
    intervals = [interval for _, interval in points]
    return go.Scatter(
        x=[shot for shot, _ in points],
        y=[interval.value for interval in intervals],
        mode="lines+markers",
        name=safe(shortened(name, longest=44)),
        legendgroup=name,
        showlegend=shown,
        line={"color": color, "dash": dash, "width": 2},
        marker={"size": 6},
        error_y=whiskers(intervals, least=0.0, most=1.0, color=color, thickness=1.0),
        customdata=[[safe(name), interval_text(one)] for one in intervals],
        hovertemplate="%{customdata[0]}<br>%{x} of each class: %{customdata[1]}<extra></extra>",
    )


def _color(summary: StudySummary, name: str, place: int) -> str:
    """The color of an experiment: of its family, unless two experiments are of one."""
    families = [summary.family(other) for other in summary.experiments]
    if len(set(families)) < len(families):
        return CLASS_COLORS[place % len(CLASS_COLORS)]
    return family_color(summary.family(name))


def _shots(summary: StudySummary, task: str) -> list[int]:
    """Numbers of examples that were tried."""
    metrics = summary.results[summary.results.task == task]["metric"]
    return sorted({int(name.removeprefix("few_")) for name in metrics if name.startswith("few_")})


def _kind(task: str) -> str:
    """A task without the store."""
    return task.split("@")[0]


def _main_metric(summary: StudySummary, task: str) -> str:
    """The measure that bars and sentences speak of."""
    return f"{METHODS[_kind(task)]}_{measure_of(summary, task)}"


def _words(subject: str) -> str:
    """A kind of features in words.

    Example:
        >>> _words("audio:backbone")
        'audio, backbone'
    """
    return subject.replace(":", ", ")


def _where(task: str) -> str:
    """The end of a title that names another store."""
    return f" of {task.split('@')[1]}" if "@" in task else ""


def _anchor(task: str) -> str:
    """A task as part of an address."""
    return task.replace("@", "-")
