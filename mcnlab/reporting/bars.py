"""Small multiples of bars: experiments beside each other, with intervals, chance, ceiling and the untrained model."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.reporting.intervals import interval_table, interval_text, whiskers
from mcnlab.reporting.style import INK, QUIET, Figure, evenly, family_color, safe, shortened, styled
from mcnlab.reporting.summary import Column, StudySummary

PANELS_PER_ROW = 4
ROW_PX, HEAD_PX, FOOT_PX, GAP_PX = 22, 40, 48, 62
BAR = 0.75
"""Width of a bar, of the distance between two; also where some have none."""
LEVEL_DASHES = {"chance": "dash", "ceiling": "dot"}
NARROWEST = 0.05
"""Reach of an axis whose values are all about 0."""


def bars_figure(
    summary: StudySummary,
    columns: Sequence[Column],
    *,
    name: str,
    title: str,
    caption: str,
    unit: str,
    suffix: str,
    least: float = 0.0,
) -> Figure | None:
    """Horizontal bars with whiskers, a panel per column, lines for chance and ceiling, diamonds for the untrained.

    Args:
        summary: the study.
        columns: one per panel.
        name: of the figure.
        title: what to see.
        caption: how to read it.
        unit: title of the x axes.
        suffix: what follows `chance`, `ceiling` and `untrained` in the names of their metrics.
        least: a value's lower bound, where whiskers end; the upper one is 1.

    Returns:
        The figure; None without columns.
    """
    if not columns:
        return None
    return Figure(
        name=name,
        title=title,
        caption=caption,
        alt=_in_words(summary, columns),
        plot=_bars(summary, columns, unit=unit, suffix=suffix, least=least),
        numbers=interval_table(summary, columns),
    )


def _bars(summary: StudySummary, columns: Sequence[Column], *, unit: str, suffix: str, least: float) -> go.Figure:
    """The plot, in our style."""
    across = evenly(len(columns), most=PANELS_PER_ROW)
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
        plot.add_trace(_bar(summary, column, least), **place)
        _add_levels(plot, summary, column, suffix, place)
        if place["row"] == down or number + across >= len(columns):
            plot.update_xaxes(title_text=unit, title_font_size=11, title_font_color=QUIET, **place)
    names = [safe(shortened(name, longest=40)) for name in summary.experiments]
    plot.update_yaxes(range=[len(names) - 0.5, -0.5], tickvals=list(range(len(names))), ticktext=names, showgrid=False)
    plot.update_xaxes(range=_range(summary, columns, suffix, least), tickformat=".2~f")
    return styled(plot, height=height).update_layout(showlegend=False)


def _bar(summary: StudySummary, column: Column, least: float) -> go.Bar:
    """One bar per experiment, in one trace."""
    intervals = summary.intervals(column)
    shown = [(place, name, intervals[name]) for place, name in enumerate(summary.experiments) if name in intervals]
    return go.Bar(
        orientation="h",
        y=[place for place, _, _ in shown],
        x=[interval.value for _, _, interval in shown],
        width=BAR,
        marker_color=[family_color(summary.family(name)) for _, name, _ in shown],
        error_x=whiskers([interval for _, _, interval in shown], least=least, most=1.0),
        customdata=[[safe(name), interval_text(interval)] for _, name, interval in shown],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    )


def _add_levels(plot: go.Figure, summary: StudySummary, column: Column, suffix: str, place: dict[str, int]) -> None:
    """Lines for chance and ceiling, and diamonds for the untrained model."""
    for level, dash in LEVEL_DASHES.items():
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


def _range(summary: StudySummary, columns: Sequence[Column], suffix: str, least: float) -> tuple[float, float]:
    """Ends of the common x axis: 0, or what lies below, and room for bars, whiskers and levels."""
    intervals = [interval for column in columns for interval in summary.intervals(column).values()]
    highs = [one.value if one.high is None else one.high for one in intervals]
    lows = [one.value if one.low is None else max(one.low, least) for one in intervals]
    for column in columns:
        highs += [summary.level(column.task, column.subjects[0], level + suffix) or 0.0 for level in LEVEL_DASHES]
    return 1.05 * min([0.0, *lows]), min(1.02, 1.05 * max([NARROWEST, *highs]))


def _in_words(summary: StudySummary, columns: Sequence[Column]) -> str:
    """The best experiment of each panel, for readers who cannot see it."""
    words = []
    for column in columns:
        found = summary.means(column)
        if found:
            best = max(found, key=lambda name: found[name])
            words.append(f"{column.title}: best is {best} with {found[best]:.2f}")
    return "; ".join(words) + "."
