"""What a study says of where and when: heat maps and boxes of things nobody named, attention that explains a class."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.metrics.statistics import Interval
from mcnlab.reporting.intervals import half_width_text, interval_text, whiskers
from mcnlab.reporting.style import CLASS_COLORS, INK, QUIET, Figure, safe, styled
from mcnlab.reporting.summary import Column, StudySummary

DETECTION, EXPLANATION = "detection", "explanation"
POINTING = {
    "pointing": "trained",
    "pointing_untrained": "before training",
    "pointing_swapped": "sound of another clip",
    "pointing_center": "middle of the picture",
}
"""What heat maps are compared with."""
DETECTED = {
    "ap_30": "AP at 0.3",
    "ap_50": "AP at 0.5",
    "corloc": "CorLoc",
    "ap_30_untrained": "AP at 0.3 before training",
}
"""What is known of a detector."""
SUBJECTS = {"time": "in time", "space": "in space", "space and time": "in both"}
"""Where attention may point."""


def number(summary: StudySummary, task: str, subject: str, metric: str, experiment: str) -> str:
    """A mean over seeds with its interval, as text; empty where it was not measured."""
    found = summary.intervals(Column("", task, (subject,), metric))
    return half_width_text(found[experiment]) if experiment in found else ""


def measured(summary: StudySummary, task: str) -> list[str]:
    """The experiments in which a task was measured."""
    known = set(summary.results[summary.results.task == task].experiment)
    return [name for name in summary.experiments if name in known]


def detection_in_words(summary: StudySummary) -> tuple[str, str, tuple[str, ...]] | None:
    """Heading, lead and points on things that were found without labels.

    Args:
        summary: the study.

    Returns:
        None where the study did not look for any.
    """
    names = measured(summary, DETECTION)
    if not names:
        return None
    points = []
    for name in names:
        said = [_told(summary, DETECTION, "heat map", POINTING, name, "The heat map points to what sounds")]
        accuracy = {"accuracy": "trained", "accuracy_untrained": "before training", "accuracy_chance": "chance"}
        said.append(_told(summary, DETECTION, "pseudo-classes", accuracy, name, "Pseudo-classes are the true ones"))
        said.append(_told(summary, DETECTION, "detector", DETECTED, name, "The detector, without sound"))
        points.append(f"{name}: {' '.join(one for one in said if one)}")
    return "What was found without labels", _detector_lead(summary, names), tuple(points)


def _detector_lead(summary: StudySummary, names: Sequence[str]) -> str:
    """The detectors of all experiments beside each other."""
    values = {name: number(summary, DETECTION, "detector", "ap_30", name) for name in names}
    told = ", ".join(f"{name} {value}" for name, value in values.items() if value)
    return (
        "A detector that never saw a label or a box drawn by hand, and hears nothing, finds things with an average "
        f"precision at overlap 0.3 of: {told}."
    )


def _told(
    summary: StudySummary, task: str, subject: str, metrics: Mapping[str, str], experiment: str, what: str
) -> str:
    """One subject's numbers with what stands beside them."""
    values = {words: number(summary, task, subject, metric, experiment) for metric, words in metrics.items()}
    known = [f"{words} {value}" for words, value in values.items() if value]
    return f"{what}: {', '.join(known)}." if known else ""


def explanation_in_words(summary: StudySummary) -> tuple[str, str, tuple[str, ...]] | None:
    """Heading, lead and points on attention as an explanation.

    Args:
        summary: the study.

    Returns:
        None where the study asked for none.
    """
    names = measured(summary, EXPLANATION)
    if not names:
        return None
    points = []
    for name in names:
        metrics = {"accuracy": "accuracy", "untrained": "before training", "chance": "chance"}
        said = [_told(summary, EXPLANATION, "clips", metrics, name, "The class"), _pointed(summary, name)]
        points.append(f"{name}: {' '.join(one for one in said if one)} {_costs(summary, name)}".strip())
    pointed = _pointed(summary, names[0])
    lead = (f"{names[0]}: {pointed} " if pointed else "") + (
        "Attention is asked whether it explains a class: whether it points to the parts in which the thing sounds, to "
        "its place there, and what the class is worth without the parts that count most."
    )
    return "What attention explains", lead, tuple(points)


def _pointed(summary: StudySummary, experiment: str) -> str:
    """Where attention points, beside chance."""
    said = []
    for subject, words in SUBJECTS.items():
        value = number(summary, EXPLANATION, subject, "pointing", experiment)
        chance = _mean(summary, subject, "chance", experiment)
        if value and chance is not None:
            said.append(f"{words} {value} (chance {chance:.3f})")
    return f"Attention points to what sounds {'; '.join(said)}." if said else ""


def _costs(summary: StudySummary, experiment: str) -> str:
    """What deleting parts costs, beside parts drawn at random."""
    whole = _mean(summary, "clips", "accuracy", experiment)
    said = []
    for count in range(1, 1 + len(_counts(summary))):
        own, random = (_mean(summary, f"delete:{count}", metric, experiment) for metric in ("accuracy", "random"))
        if whole is not None and own is not None and random is not None and count <= 3:
            ratio = f", {(whole - own) / (whole - random):.1f} times as much" if whole > random else ""
            said.append(f"{count}: {whole - own:.3f} (random parts {whole - random:.3f}{ratio})")
    return f"Accuracy lost by deleting the parts that count most: {'; '.join(said)}." if said else ""


def _mean(summary: StudySummary, subject: str, metric: str, experiment: str) -> float | None:
    """Mean over seeds of one quantity of the task explanation."""
    found = summary.intervals(Column("", EXPLANATION, (subject,), metric))
    return found[experiment].value if experiment in found else None


def _counts(summary: StudySummary) -> list[int]:
    """How many parts were deleted."""
    return sorted(int(one.split(":")[1]) for one in summary.subjects(EXPLANATION) if one.startswith("delete:"))


def detection_figure(summary: StudySummary) -> Figure | None:
    """Pointing of heat maps, accuracy of pseudo-classes and precision of detectors, beside what they must beat.

    Args:
        summary: the study.

    Returns:
        None where nothing was looked for.
    """
    names = measured(summary, DETECTION)
    if not names:
        return None
    panels = {
        "heat map: points to what sounds": ("heat map", POINTING),
        "pseudo-classes: accuracy": (
            "pseudo-classes",
            {"accuracy": "trained", "accuracy_untrained": "before training", "accuracy_chance": "chance"},
        ),
        "detector without sound: AP at 0.3": ("detector", {"ap_30": "trained", "ap_30_untrained": "before training"}),
    }
    plot = make_subplots(rows=1, cols=len(panels), subplot_titles=[safe(one) for one in panels], shared_yaxes=True)
    cells: dict[str, dict[str, str]] = {name: {} for name in names}
    drawn: dict[str, str] = {}
    for column, (title, (subject, metrics)) in enumerate(panels.items(), start=1):
        for metric, words in metrics.items():
            found = summary.intervals(Column("", DETECTION, (subject,), metric))
            there = [name for name in names if name in found]
            color = drawn.setdefault(words, CLASS_COLORS[len(drawn) % len(CLASS_COLORS)])
            plot.add_trace(
                go.Bar(
                    x=[safe(name) for name in there],
                    y=[found[name].value for name in there],
                    name=words,
                    legendgroup=words,
                    showlegend=all(trace.name != words for trace in plot.data),
                    marker={"color": color},
                    error_y=whiskers([found[name] for name in there], most=1.0),
                ),
                row=1,
                col=column,
            )
            for name in there:
                cells[name][f"{title}, {words}"] = interval_text(found[name])
    plot.update_yaxes(range=[0, 1.02])
    plot.update_yaxes(title_text="share, or precision (0 to 1, larger is better)", col=1)
    said = detection_in_words(summary)
    return Figure(
        name="detection",
        title="What sound teaches: where things are, and which",
        caption="Mean over seeds; whiskers: 95 % interval, cut at 1. Left: clips whose largest cell of the heat map "
        "lies on what sounds. Middle: clips whose pseudo-class stands for the true class. Right: average precision of "
        "boxes with an overlap of at least 0.3, over all things in sight, silent ones too. Which pseudo-class stands "
        "for which true one is decided on training clips alone, one to one.",
        alt=" ".join(said[2]) if said else "",
        plot=styled(plot, height=400).update_layout(margin={"t": 64}, legend={"y": 1.1}),
        numbers=pd.DataFrame(cells).T.rename_axis(index="experiment"),
    )


def curves_of_parts(summary: StudySummary) -> Figure | None:
    """Accuracy against the number of parts that are deleted or kept, by attention and at random.

    Args:
        summary: the study.

    Returns:
        None where no attention was measured.
    """
    names, counts = measured(summary, EXPLANATION), _counts(summary)
    if not names or not counts:
        return None
    titles = ["without the parts that count most", "with the parts that count most alone"]
    plot = make_subplots(rows=1, cols=2, subplot_titles=titles, shared_yaxes=True)
    cells: dict[str, dict[str, str]] = {}
    for column, kind in enumerate(("delete", "keep"), start=1):
        for place, name in enumerate(names):
            for metric, dash in (("accuracy", "solid"), ("random", "dot")):
                there = _curve(summary, name, kind, metric)
                words = name if metric == "accuracy" else f"{name}, random parts"
                plot.add_trace(
                    go.Scatter(
                        x=list(there),
                        y=[one.value for one in there.values()],
                        mode="lines+markers",
                        name=safe(words),
                        legendgroup=words,
                        showlegend=column == 1,
                        line={"color": CLASS_COLORS[place % len(CLASS_COLORS)], "dash": dash, "width": 2},
                        error_y=whiskers(list(there.values()), most=1.0) if metric == "accuracy" else None,
                    ),
                    row=1,
                    col=column,
                )
                cells[f"{kind}: {words}"] = {str(count): interval_text(one) for count, one in there.items()}
    chance = summary.level(EXPLANATION, "clips", "chance")
    if chance is not None:
        plot.add_hline(y=chance, line={"color": INK, "dash": "dash", "width": 1.4})
    plot.update_xaxes(title_text="parts deleted (count)", dtick=1, col=1)
    plot.update_xaxes(title_text="parts kept (count)", dtick=1, col=2)
    plot.update_yaxes(title_text="accuracy (share of clips)", range=[0, 1.02], col=1)
    words_ = explanation_in_words(summary)
    return Figure(
        name="parts",
        title="What a clip is worth without the parts that attention holds for important",
        caption="Share of clips whose class is told right after parts were deleted (left: lower is a better "
        "explanation) or with these alone (right: higher is better). Solid: in the order of attention, whiskers: 95 % "
        "interval, cut at 1; dotted: in random order; dashed: always the most frequent class. Mean over seeds.",
        alt=" ".join(words_[2]) if words_ else "",
        plot=styled(plot, height=420).update_layout(margin={"t": 64}, legend={"y": 1.1}),
        numbers=pd.DataFrame(cells).T.rename_axis(index="curve"),
    )


def _curve(summary: StudySummary, experiment: str, kind: str, metric: str) -> dict[int, Interval]:
    """By number of parts, with nothing deleted or everything kept at its end: one line of accuracy."""
    counts = _counts(summary)
    subjects = {count: (f"{kind}:{count}", metric) for count in counts}
    subjects[0 if kind == "delete" else 1 + counts[-1]] = ("clips", "accuracy")
    found = {n: summary.intervals(Column("", EXPLANATION, (s,), m)) for n, (s, m) in sorted(subjects.items())}
    return {count: one[experiment] for count, one in found.items() if experiment in one}


def attention_figure(summary: StudySummary) -> Figure | None:
    """Where attention points: in time, in space and in both, beside chance, for every experiment.

    Args:
        summary: the study.

    Returns:
        None where no attention was measured against boxes.
    """
    pointed = summary.intervals(Column("", EXPLANATION, ("time",), "pointing"))
    names = [name for name in measured(summary, EXPLANATION) if name in pointed]
    if not names:
        return None
    plot, cells = go.Figure(), {name: dict[str, str]() for name in names}
    for place, name in enumerate(names):
        found = {words: summary.intervals(Column("", EXPLANATION, (s,), "pointing")) for s, words in SUBJECTS.items()}
        there = {words: one[name] for words, one in found.items() if name in one}
        plot.add_bar(
            x=list(there),
            y=[one.value for one in there.values()],
            name=safe(name),
            marker={"color": CLASS_COLORS[place % len(CLASS_COLORS)]},
            error_y=whiskers(list(there.values()), most=1.0),
        )
        cells[name] = {words: interval_text(one) for words, one in there.items()}
        before = {w: number(summary, EXPLANATION, s, "untrained_pointing", name) for s, w in SUBJECTS.items()}
        cells[name] |= {f"{words}, before training": value for words, value in before.items() if value}
    for place, subject in enumerate(SUBJECTS):
        chance = summary.level(EXPLANATION, subject, "chance")
        if chance is not None:
            line = {"color": INK, "dash": "dash", "width": 1.4}
            plot.add_shape(type="line", x0=place - 0.45, x1=place + 0.45, y0=chance, y1=chance, line=line)
    plot.update_yaxes(title_text="pointing (share of clips)", range=[0, 1.02])
    plot.add_annotation(
        text="dashed: chance", x=1, y=1.08, xref="paper", yref="paper", showarrow=False, font={"color": QUIET}
    )
    return Figure(
        name="attention",
        title="Where attention points, in time and in space",
        caption="Share of clips whose largest attention lies on the parts in which the labeled thing sounds, on its "
        "place in them, and on both at once. Several equal peaks must all lie there: weights that are all equal point "
        "nowhere, and have no bar. Mean over seeds; whiskers: 95 % interval, cut at 1; dashed: chance.",
        alt="; ".join(f"{name}: {', '.join(f'{w} {v}' for w, v in one.items())}" for name, one in cells.items()),
        plot=styled(plot, height=360),
        numbers=pd.DataFrame(cells).T.rename_axis(index="experiment"),
    )
