"""Bars that compare experiments: recall and purity, with intervals, chance and ceiling."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.metrics.statistics import Interval
from mcnlab.modalities import MODALITIES
from mcnlab.reporting.beside_points import Named, Panel, name_points
from mcnlab.reporting.recipe import FAMILIES
from mcnlab.reporting.style import (
    FAMILY_COLORS,
    FAMILY_WORDS,
    INK,
    QUIET,
    Figure,
    evenly,
    safe,
    shortened,
    styled,
)
from mcnlab.reporting.summary import Column, StudySummary, short_direction

PANELS_PER_ROW = 3
ROW_PX, HEAD_PX, FOOT_PX, GAP_PX = 22, 40, 48, 62
FRAME_PX = 80
"""Height of a figure that its panel does not have."""
BAR = 0.75
"""Width of a bar, of the distance between two; also where some have none."""
BAR_DIRECTIONS = ("text->video", "text->audio", "text->video+audio", "video->audio", "video->text", "audio->text")
TRADEOFF_PX = 440
LEVELS = {"chance": ("dash", "chance"), "ceiling": ("dot", "ceiling: an oracle that knows the shared factors")}


def recall_figure(summary: StudySummary, *, k: int = 1) -> Figure | None:
    """Recall at k of every experiment in the main directions, beside chance, ceiling and the untrained model.

    Args:
        summary: the study.
        k: places that count as found.

    Returns:
        Small multiples of horizontal bars, one panel per direction that some experiment trained; None without any.
    """
    has = [subject for subject in summary.subjects("retrieval") if summary.trained_by_some(subject)]
    directions = [subject for subject in BAR_DIRECTIONS if subject in has] or has[:6]
    columns = [
        Column(short_direction(one), "retrieval", (one,), f"recall_at_{k}", trained_only=True) for one in directions
    ]
    if not columns:
        return None
    return Figure(
        name="recall",
        title="How often the right clip comes first" if k == 1 else f"How often the right clip is among the first {k}",
        caption=f"Recall at {k}: share of queries, larger is better. Bars: mean over seeds; whiskers: 95 % interval. "
        "Dashed line: chance. Dotted line: ceiling, what an oracle that knows the shared factors could reach. "
        "Diamond: the same model before training. No bar: a side of the direction was not trained.",
        alt=bars_in_words(summary, columns),
        plot=bars(summary, columns, unit=f"recall at {k} (share of queries)", suffix=f"_at_{k}"),
        numbers=interval_table(summary, columns),
    )


def purity_figure(summary: StudySummary) -> Figure | None:
    """Purity of the clusters per modality and joint, beside chance and the untrained model.

    Args:
        summary: the study.

    Returns:
        Small multiples of horizontal bars, one panel per embedding; None when clusters were not measured.
    """
    has = summary.subjects("clusters")
    columns = [Column(one, "clusters", (one,), "purity") for one in (*summary.modalities, "joint") if one in has]
    if not columns:
        return None
    return Figure(
        name="purity",
        title="How clean the clusters are",
        caption="Purity of k-means clusters against the labels: share of clips in the majority class of their cluster, "
        "larger is better. Bars: mean over seeds; whiskers: 95 % interval. Dashed line: chance (shuffled labels). "
        "Diamond: the same model before training.",
        alt=bars_in_words(summary, columns),
        plot=bars(summary, columns, unit="purity (share of clips)", suffix="_purity"),
        numbers=interval_table(summary, columns),
    )


def tradeoff_figure(summary: StudySummary) -> Figure | None:
    """Finding against keeping: recall at 1 beside what is left of private factors.

    Args:
        summary: the study.

    Returns:
        A point per experiment; None when recall or private factors were not measured.
    """
    asked = [one for one in BAR_DIRECTIONS if one in summary.subjects("retrieval")]
    direction = next((one for one in asked if summary.trained_by_some(one)), None)
    private = tuple(f"{modality}:{modality[0]}" for modality in MODALITIES)
    kept = summary.intervals(Column("", "retention", private, "score", trained_only=True))
    if direction is None or not kept:
        return None
    found = summary.intervals(Column("", "retrieval", (direction,), "recall_at_1", trained_only=True))
    names = [name for name in summary.experiments if name in kept and name in found]
    table = pd.DataFrame({"found": means(found), "kept": means(kept)}).reindex(names).rename_axis(index="experiment")
    plot = go.Figure(
        go.Scatter(
            x=table["found"],
            y=table["kept"],
            mode="markers",
            text=[safe(name) for name in names],
            marker={"color": [FAMILY_COLORS.get(family(summary, name), QUIET) for name in names], "size": 11},
            error_x={"array": [_up(found[name]) for name in names], "color": QUIET, "thickness": 1, "width": 2},
            error_y={"array": [_up(kept[name]) for name in names], "color": QUIET, "thickness": 1, "width": 2},
            hovertemplate="%{text}<br>found %{x:.3f}, kept %{y:.3f}<extra></extra>",
        )
    )
    panel = Panel(float(TRADEOFF_PX - FRAME_PX), _range_of(found, names), _range_of(kept, names))
    plot.update_xaxes(title_text=f"{short_direction(direction)} recall at 1 (share of queries)", range=panel.x)
    plot.update_yaxes(title_text="private factors kept (score)", range=panel.y)
    styled(plot, height=TRADEOFF_PX)
    named = [Named(safe(shortened(name, longest=30)), found[name].value, kept[name].value) for name in names]
    name_points(plot, named, panel, lines=_crosses(found, kept, names))
    return Figure(
        name="tradeoff",
        title="Finding the clip against keeping what is private",
        caption="Right: found more often. Up: more is left of the factors that one modality has for itself, mean over "
        "the trained modalities. Whiskers: 95 % interval over seeds. Experiments that did not train both sides of the "
        "direction are left out.",
        alt="; ".join(f"{name}: found {row.found:.2f}, kept {row.kept:.2f}" for name, row in table.iterrows()),
        plot=plot,
        numbers=table.round(3),
    )


def _crosses(
    across: Mapping[str, Interval], up: Mapping[str, Interval], names: Sequence[str]
) -> list[tuple[float, float, float, float]]:
    """The whiskers of points that have two of them."""
    lines = []
    for name in names:
        (x, y), (wide, tall) = (across[name].value, up[name].value), (_up(across[name]) or 0.0, _up(up[name]) or 0.0)
        lines += [(x - wide, y, x + wide, y), (x, y - tall, x, y + tall)]
    return lines


def _range_of(intervals: Mapping[str, Interval], names: Sequence[str]) -> tuple[float, float]:
    """An axis that starts at 0, or below what is negative, and has room for all whiskers."""
    ends = [(intervals[name].value, _up(intervals[name]) or 0.0) for name in names]
    low, high = min([0.0, *(value - up for value, up in ends)]), max([0.0, *(value + up for value, up in ends)])
    room = 0.08 * ((high - low) or 1.0)
    return low - room * (low < 0), high + room


def private_figure(summary: StudySummary) -> Figure | None:
    """What is left of the factors that one modality has for itself, beside the untrained tower.

    Args:
        summary: the study.

    Returns:
        Small multiples of bars; None when no private factor was probed.
    """
    has = summary.subjects("retention")
    columns = [
        Column(f"{modality[0]} in {modality}", "retention", (f"{modality}:{modality[0]}",), "score")
        for modality in MODALITIES
        if f"{modality}:{modality[0]}" in has
    ]
    if not columns:
        return None
    return Figure(
        name="private",
        title="What is left of private factors",
        caption="Score of a linear probe for factors that one modality alone has: 0 is chance, 1 perfect. Diamond: "
        "the same tower before training.",
        alt=bars_in_words(summary, columns),
        plot=bars(summary, columns, unit="score (R² or accuracy above chance)", suffix=""),
        numbers=interval_table(summary, columns),
    )


def legend_of_families(summary: StudySummary) -> list[tuple[str, str]]:
    """Color and words of each kind of experiment that the study has."""
    used = [kind for kind in FAMILIES if any(family(summary, name) == kind for name in summary.experiments)]
    return [(FAMILY_COLORS[kind], FAMILY_WORDS[kind]) for kind in used]


def bars(summary: StudySummary, columns: Sequence[Column], *, unit: str, suffix: str) -> go.Figure:
    """Horizontal bars with whiskers, a panel per column, and lines for the levels.

    Args:
        summary: the study.
        columns: one per panel.
        unit: title of the x axes.
        suffix: what follows `chance`, `ceiling` and `untrained` in the names of their metrics.

    Returns:
        The plot, in our style.
    """
    across = evenly(len(columns), most=PANELS_PER_ROW + 1)
    down = math.ceil(len(columns) / across)
    height = down * (len(summary.experiments) * ROW_PX + HEAD_PX + FOOT_PX) + 20
    plot = make_subplots(
        rows=down,
        cols=across,
        shared_yaxes=True,
        subplot_titles=[safe(column.title) for column in columns],
        horizontal_spacing=0.03,
        vertical_spacing=GAP_PX / (height - 68),
    )
    for number, column in enumerate(columns):
        place = {"row": number // across + 1, "col": number % across + 1}
        for trace in _bar_traces(summary, column):
            plot.add_trace(trace, **place)
        _add_levels(plot, summary, column, suffix, place)
        if place["row"] == down or number + across >= len(columns):
            plot.update_xaxes(title_text=unit, title_font_size=11, title_font_color=QUIET, **place)
    names = [safe(shortened(name, longest=40)) for name in summary.experiments]
    plot.update_yaxes(range=[len(names) - 0.5, -0.5], tickvals=list(range(len(names))), ticktext=names, showgrid=False)
    plot.update_xaxes(rangemode="tozero", range=[0, _reach(summary, columns, suffix)], tickformat=".2~f")
    return styled(plot, height=height).update_layout(showlegend=False)


def _bar_traces(summary: StudySummary, column: Column) -> list[go.Bar]:
    """One bar per experiment, in one trace."""
    intervals = summary.intervals(column)
    shown = [(place, name, intervals[name]) for place, name in enumerate(summary.experiments) if name in intervals]
    return [
        go.Bar(
            orientation="h",
            y=[place for place, _, _ in shown],
            x=[interval.value for _, _, interval in shown],
            width=BAR,
            marker_color=[FAMILY_COLORS.get(family(summary, name), QUIET) for _, name, _ in shown],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [_up(interval) for _, _, interval in shown],
                "arrayminus": [_down(interval) for _, _, interval in shown],
                "color": INK,
                "thickness": 1.2,
                "width": 3,
            },
            customdata=[[safe(name), interval_text(interval)] for _, name, interval in shown],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
        )
    ]


def _add_levels(plot: go.Figure, summary: StudySummary, column: Column, suffix: str, place: dict[str, int]) -> None:
    """Lines for chance and ceiling, and diamonds for the untrained model."""
    for level, (dash, _) in LEVELS.items():
        value = summary.level(column.task, column.subjects[0], level + suffix)
        if value is not None:
            plot.add_vline(x=value, line={"color": QUIET, "dash": dash, "width": 1.4}, **place)
    before = summary.intervals(Column("", column.task, column.subjects, "untrained" + suffix))
    spots = [(before[name].value, row) for row, name in enumerate(summary.experiments) if name in before]
    if spots:
        mark = {"symbol": "diamond-open", "size": 7, "color": INK, "line": {"width": 1.2}}
        x, y = zip(*spots, strict=True)
        hover = "before training: %{x:.3f}<extra></extra>"
        plot.add_trace(go.Scatter(x=x, y=y, mode="markers", marker=mark, hovertemplate=hover), **place)


def interval_text(interval: Interval) -> str:
    """A mean with its interval in words.

    Example:
        >>> interval_text(Interval(0.5, 0.45, 0.56, 3))
        '0.500 [0.450, 0.560], 3 seeds'
    """
    ends = "" if interval.low is None or interval.high is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
    return f"{interval.value:.3f}{ends}, {interval.n} seed{'s' * (interval.n != 1)}"


def half_width_text(interval: Interval, *, sign: str = "") -> str:
    """A mean with half its interval.

    Args:
        interval: the mean; without an interval it stands alone.
        sign: `+` writes a plus before what is above 0, as differences need it.

    Example:
        >>> half_width_text(Interval(-0.5, -0.55, -0.45, 3), sign="+")
        '−0.500 ± 0.050'
    """
    spread = "" if interval.low is None or interval.high is None else f" ± {(interval.high - interval.low) / 2:.3f}"
    return f"{interval.value:{sign}.3f}{spread}".replace("-", "−")


def _up(interval: Interval) -> float | None:
    """Length of the upper whisker; None draws none."""
    return None if interval.high is None else interval.high - interval.value


def _down(interval: Interval) -> float | None:
    """Length of the lower whisker; recall and purity do not go below 0."""
    return None if interval.low is None else interval.value - max(0.0, interval.low)


def _reach(summary: StudySummary, columns: Sequence[Column], suffix: str) -> float:
    """Right end of the common x axis: room for bars, whiskers and levels."""
    tops = [interval.high or interval.value for column in columns for interval in summary.intervals(column).values()]
    for column in columns:
        tops += [summary.level(column.task, column.subjects[0], level + suffix) or 0.0 for level in LEVELS]
    return min(1.02, 1.05 * max([0.05, *tops]))


def family(summary: StudySummary, experiment: str) -> str:
    """Kind of an experiment; empty when its settings cannot be read."""
    return summary.recipes[experiment].family if experiment in summary.recipes else ""


def means(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Means alone."""
    return {name: interval.value for name, interval in intervals.items()}


def interval_table(summary: StudySummary, columns: Sequence[Column]) -> pd.DataFrame:
    """The drawn means with their intervals, as text."""
    cells = {column.title: {k: interval_text(v) for k, v in summary.intervals(column).items()} for column in columns}
    return pd.DataFrame(cells).reindex(summary.experiments).rename_axis(index="experiment")


def bars_in_words(summary: StudySummary, columns: Sequence[Column]) -> str:
    """The best experiment of each panel, for readers who cannot see it."""
    words = []
    for column in columns:
        found = means(summary.intervals(column))
        if found:
            best = max(found, key=lambda name: found[name])
            words.append(f"{column.title}: best is {best} with {found[best]:.2f}")
    return "; ".join(words) + "."
