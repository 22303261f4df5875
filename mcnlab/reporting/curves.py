"""How the training went: loss and terms over the steps of every experiment."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.reporting.style import CLASS_COLORS, INK, QUIET, TERM_COLORS, Figure, evenly, panel_titles, safe, styled
from mcnlab.reporting.summary import StudySummary
from mcnlab.runs import RunFolder

MOST_POINTS = 120
"""Points of a curve; more steps are averaged."""
PANELS_PER_ROW, PANEL_PX = 5, 170


def curves_figure(summary: StudySummary) -> Figure | None:
    """Loss of every run, and the terms of one run per experiment.

    Args:
        summary: the study.

    Returns:
        A panel per experiment; None when no run left a step.
    """
    logs = {name: _logs(summary, name) for name in summary.experiments}
    drawn = [name for name, tables in logs.items() if tables]
    if not drawn:
        return None
    across = evenly(len(drawn), most=PANELS_PER_ROW)
    down = math.ceil(len(drawn) / across)
    titles, second_px = panel_titles(drawn, across=across)
    height = down * (PANEL_PX + 50 + second_px) + 50
    gap = (58 + second_px) / (height - 102)
    plot = make_subplots(rows=down, cols=across, subplot_titles=titles, horizontal_spacing=0.035, vertical_spacing=gap)
    for number, name in enumerate(drawn):
        place = {"row": number // across + 1, "col": number % across + 1}
        for trace in curve_traces(logs[name]):
            plot.add_trace(trace, **place)
        for step in stage_starts(logs[name][0]):
            plot.add_vline(x=step, line={"color": QUIET, "dash": "dot", "width": 1}, **place)
        if number + across >= len(drawn):
            plot.update_xaxes(title_text="step", title_font_size=11, title_font_color=QUIET, **place)
    plot.update_yaxes(title_text="loss (nats)", title_font_size=11, title_font_color=QUIET, col=1)
    _show_each_name_once(plot)
    styled(plot, height=height)
    plot.update_layout(legend={"y": 1.0, "yref": "container", "yanchor": "top"}, margin={"t": 62})
    return Figure(
        name="curves",
        title="How the training went",
        caption="Loss (thin, one line per seed) and its unweighted terms (first seed) over the training steps, "
        "averaged over neighboring steps. Dotted line: a new stage begins. Scales differ between experiments.",
        alt="Loss curves; the table gives loss at the start and the end.",
        plot=plot,
        numbers=_ends(logs),
    )


def curve_traces(logs: Sequence[pd.DataFrame]) -> list[go.Scatter]:
    """Lines of one experiment.

    Args:
        logs: the step table of each seed; the first gives the terms.

    Returns:
        A line per term when there are several, then the loss of each seed.
    """
    lines = []
    terms = term_columns(logs[0])
    for number, term in enumerate(terms if len(terms) > 1 else []):
        name = term.removeprefix("term.")
        color = TERM_COLORS.get(name, CLASS_COLORS[(number + 3) % len(CLASS_COLORS)])
        lines.append(_line(logs[0], term, name, {"color": color, "width": 1.6}))
    lines += [_line(log, "loss", "loss", {"color": INK, "width": 1.1}) for log in logs]
    return lines


def term_columns(log: pd.DataFrame) -> list[str]:
    """Columns of whole terms, without those of their parts.

    Example:
        >>> term_columns(pd.DataFrame(columns=["loss", "term.contrast", "term.contrast.va"]))
        ['term.contrast']
    """
    return [column for column in log if column.startswith("term.") and column.count(".") == 1]


def stage_starts(log: pd.DataFrame) -> list[int]:
    """Steps at which a stage after the first begins."""
    changed = log["stage"].ne(log["stage"].shift()) if "stage" in log else pd.Series(False, index=log.index)
    return [int(step) for step in log.loc[changed, "step"]][1:]


def thinned(log: pd.DataFrame, column: str, *, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a curve, averaged over blocks so that few points remain.

    Args:
        log: one row per step.
        column: what to draw.
        most: number of points.

    Returns:
        Steps and values; values that are not finite stay out.
    """
    shown = log[["step", column]].replace([np.inf, -np.inf], np.nan).dropna()
    block = np.arange(len(shown)) * min(most, max(1, len(shown))) // max(1, len(shown))
    means = shown.groupby(block).mean()
    return means["step"].round().to_numpy(), means[column].to_numpy(dtype=np.float32)


def _line(log: pd.DataFrame, column: str, name: str, line: dict[str, object]) -> go.Scatter:
    """One curve."""
    steps, values = thinned(log, column)
    hover = f"{safe(name)} %{{y:.3f}} at step %{{x}}<extra></extra>"
    return go.Scatter(
        x=steps, y=values, mode="lines", name=safe(name), line=line, legendgroup=name, hovertemplate=hover
    )


def _logs(summary: StudySummary, experiment: str) -> list[pd.DataFrame]:
    """Step tables of an experiment's runs, by seed; runs without steps are left out."""
    tables = [RunFolder(row.folder).metrics() for row in summary.runs if row.experiment == experiment and row.steps]
    return [table for table in tables if {"step", "loss"} <= set(table)]


def _show_each_name_once(plot: go.Figure) -> None:
    """One entry of the legend per name."""
    seen: set[str] = set()
    for trace in plot.data:
        trace.showlegend = trace.name not in seen
        seen.add(trace.name)


def _ends(logs: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """Loss of the first and the last steps, mean over seeds."""
    rows = {
        name: {
            "steps": max(len(table) for table in tables),
            "first loss": round(float(np.mean([table["loss"].iloc[:5].mean() for table in tables])), 3),
            "last loss": round(float(np.mean([table["loss"].iloc[-5:].mean() for table in tables])), 3),
        }
        for name, tables in logs.items()
        if tables
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="experiment")
