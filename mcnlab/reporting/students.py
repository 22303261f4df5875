"""Figures, table and words of classifiers: what teachers and students tell, and what each takes to tell it."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd
import plotly.graph_objects as go

from mcnlab.metrics.statistics import Interval, mean_interval
from mcnlab.reporting.bars import bars_figure
from mcnlab.reporting.comparison import gap
from mcnlab.reporting.intervals import interval_text, whiskers
from mcnlab.reporting.style import CLASS_COLORS, Figure, safe, shortened, styled
from mcnlab.reporting.summary import Column, StudySummary

TASK = "classify"
TICKS = tuple(n * 10**power for power in range(10) for n in (1, 2, 5))
"""Numbers of parameters that an axis names."""
NEAR = 0.05
"""Accuracies that differ by less have names that would cover each other."""
LEVELS = ("chance", "untrained", "permuted")
"""What stands before `accuracy` beside the accuracy itself."""


def accuracy_columns(summary: StudySummary) -> list[Column]:
    """The accuracy of each kind of classifier.

    Args:
        summary: the study.

    Returns:
        A column for each modality; empty where no classifier was asked.
    """
    subjects = summary.subjects(TASK)
    return [Column(f"classes told from {subject}", TASK, (subject,), "accuracy") for subject in subjects]


def accuracy_figure(summary: StudySummary) -> Figure | None:
    """How many held-out clips every experiment's own classifier names right.

    Args:
        summary: the study.

    Returns:
        Bars with chance and the untrained model; None where no classifier was asked.
    """
    columns = accuracy_columns(summary)
    return bars_figure(
        summary,
        columns,
        name="classes-told",
        title="How many held-out clips are named right",
        caption="Accuracy of the model's own classifier (share of held-out clips, larger is better); of a student that "
        "uses its teacher's classifier, by that one. Bars: mean over seeds; whiskers: 95 % interval. Dashed line: the "
        "most frequent class. Diamond: the same model before training.",
        unit="share of clips",
        suffix="_accuracy",
    )


def size_figure(summary: StudySummary) -> Figure | None:
    """What telling classes takes, and how well it is done.

    Args:
        summary: the study.

    Returns:
        Accuracy over parameters, a point for each experiment; None where all have the same size.
    """
    columns = accuracy_columns(summary)
    sizes = _sizes(summary)
    if not columns or len(set(sizes.values())) < 2:
        return None
    found = summary.intervals(columns[0])
    known = [name for name in summary.experiments if name in found and name in sizes]
    beside = {name: _place_of_name(name, {n: (sizes[n], found[n].value) for n in known}) for name in known}
    plot = go.Figure([_point(name, n, sizes[name], found[name], beside[name]) for n, name in enumerate(known)])
    ticks = [n for n in TICKS if min(sizes.values()) / 2 <= n <= max(sizes.values()) * 2]
    plot.update_xaxes(
        title_text="parameters at inference: tower, projector, classifier (count)",
        type="log",
        range=[math.log10(min(sizes.values()) / 1.3), math.log10(max(sizes.values()) * 1.6)],
        tickvals=ticks,
        ticktext=[f"{n:,}" for n in ticks],
    )
    ends = [end for name in known for end in (found[name].low, found[name].value, found[name].high) if end is not None]
    lowest, highest = max(0.0, min(ends)), min(1.0, max(ends))  # of few seeds an interval may lead beyond
    plot.update_yaxes(title_text="accuracy (share of held-out clips)", range=[lowest - 0.02, highest + 0.02])
    numbers = {"parameters": [f"{sizes[n]:,.0f}" for n in known], "accuracy": [interval_text(found[n]) for n in known]}
    return Figure(
        name="classes-size",
        title="What each model takes to tell classes, and how well it does",
        caption="Accuracy against the numbers that telling classes takes, projectors and frozen classifiers counted "
        "(log scale; further left is smaller, higher is better). Whiskers: 95 % interval over seeds. A good student is "
        "as high as its teacher and far to the left of it.",
        alt="; ".join(f"{name}: {sizes[name]:,.0f} parameters, accuracy {found[name].value:.3f}" for name in known),
        plot=styled(plot, height=420),
        numbers=pd.DataFrame(numbers, index=pd.Index(known, name="experiment")),
    )


def told_table(summary: StudySummary) -> pd.DataFrame:
    """Accuracy, levels and parameters of every experiment.

    Args:
        summary: the study.

    Returns:
        One row per experiment; empty where no classifier was asked.
    """
    rows: dict[str, dict[str, str]] = {}
    for column in accuracy_columns(summary):
        (subject,) = column.subjects
        for name, interval in summary.intervals(column).items():
            row = rows.setdefault(name, {"learned from": _teacher(summary, name)})
            row[f"accuracy, {subject}"] = interval_text(interval)
            for level in LEVELS:
                value = summary.run_values(Column("", TASK, (subject,), f"{level}_accuracy")).get(name)
                row[f"{level}, {subject}"] = "" if value is None else f"{mean_interval(list(value.values())).value:.3f}"
            row[f"parameters, {subject}"] = f"{_sizes(summary, subject)[name]:,.0f}"
    ordered = {name: rows[name] for name in summary.experiments if name in rows}
    return pd.DataFrame.from_dict(ordered, orient="index").fillna("").rename_axis(index="experiment")


def told_in_words(summary: StudySummary) -> tuple[str, ...]:
    """Every student beside its teacher, all that have no teacher and are not one, and a student of its size, by seeds.

    A student of its size is the smallest other one that is not smaller.

    Args:
        summary: the study.

    Returns:
        A few sentences; none where no classifier was asked.
    """
    said: list[str] = []
    for column in accuracy_columns(summary):
        values = summary.run_values(column)
        teachers = {_teacher(summary, name) for name in values} - {""}
        alone = [name for name in values if name not in teachers and not _teacher(summary, name)]
        for name in (one for one in summary.experiments if one in values and _teacher(summary, one)):
            others = [_teacher(summary, name), *alone, *_of_its_size(summary, name, values)]
            gaps = [f"{_gap(values[name], values[other])} beside {other}" for other in others if other in values]
            accuracy = interval_text(summary.intervals(column)[name])
            said.append(
                f"{name}: {accuracy} with {_sizes(summary, *column.subjects)[name]:,.0f} parameters; {', '.join(gaps)}."
            )
    return tuple(said)


def nearest_student(summary: StudySummary) -> tuple[str, str, tuple[str, ...]] | None:
    """The student that comes nearest to its teacher, as the answer of a study.

    Args:
        summary: the study.

    Returns:
        Heading, a sentence, and no points; None where no classifier of a student was asked.
    """
    for column in accuracy_columns(summary)[:1]:
        found = summary.intervals(column)
        students = [name for name in found if _teacher(summary, name) in found]
        if students:
            best = max(students, key=lambda name: found[name].value - found[_teacher(summary, name)].value)
            said = next(line for line in told_in_words(summary) if line.startswith(f"{best}: "))
            return "What students keep", f"Nearest to its teacher comes {said}", ()
    return None


def _of_its_size(summary: StudySummary, name: str, asked: Iterable[str]) -> list[str]:
    """The smallest other student with at least a student's parameters; empty for none."""
    sizes = _sizes(summary)
    known = [one for one in asked if one in sizes and one != name and _teacher(summary, one)]
    return sorted((one for one in known if sizes[one] >= sizes[name]), key=lambda one: sizes[one])[:1]


def _gap(one: dict[int, float], other: dict[int, float]) -> str:
    """The mean difference over the seeds that both have, in points."""
    found = gap(one, other)
    if found is None:
        return "no seed in common"
    low, high = found.low, found.high
    ends = "" if low is None or high is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * found.value:+.1f} points{ends}".replace("-", "−")


def _teacher(summary: StudySummary, name: str) -> str:
    """The experiment that one learns from; empty for none."""
    recipe = summary.recipes.get(name)
    return recipe.teacher if recipe is not None else ""


def _sizes(summary: StudySummary, subject: str | None = None) -> dict[str, float]:
    """Parameters at inference by experiment."""
    subjects = summary.subjects(TASK)
    chosen = subject or (subjects[0] if subjects else "")
    found = summary.run_values(Column("", TASK, (chosen,), "parameters"))
    return {name: next(iter(by_seed.values())) for name, by_seed in found.items()}


def _place_of_name(name: str, points: Mapping[str, tuple[float, float]]) -> str:
    """Where a name stands beside its point: apart from that of a neighbor that hardly differs."""
    size, accuracy = points[name]
    near = [
        a for one, (s, a) in points.items() if one != name and abs(a - accuracy) < NEAR and s / 1.2 < size < s * 1.2
    ]
    if not near:
        return "middle right"
    return "top right" if accuracy >= max(near) else "bottom right"


def _point(name: str, number: int, size: float, accuracy: Interval, beside: str) -> go.Scatter:
    """One experiment."""
    return go.Scatter(
        x=[size],
        y=[accuracy.value],
        mode="markers+text",
        text=["  " + safe(shortened(name, longest=30))],
        textposition=beside,
        name=safe(name),
        showlegend=False,
        marker={"size": 11, "color": CLASS_COLORS[number % len(CLASS_COLORS)]},
        error_y=whiskers([accuracy], least=0.0, most=1.0),
        hovertemplate=f"{safe(name)}: %{{x:,.0f}} parameters, accuracy %{{y:.3f}}<extra></extra>",
    )
