"""Studies of shared information: what one view keeps against what it shares with another, and the answer in words."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.stats import spearmanr

from mcnlab.metrics.statistics import Interval
from mcnlab.reporting.beside_points import Named, Panel, name_points
from mcnlab.reporting.intervals import told_interval, whiskers
from mcnlab.reporting.style import CLASS_COLORS, INK, QUIET, Figure, safe, shortened, styled
from mcnlab.reporting.summary import Column, StudySummary
from mcnlab.reporting.views import (
    CORE,
    FULL,
    against_core,
    core_modality,
    grows,
    line_in_words,
    quality_column,
    view_lines,
)

TASK = "bound"
CLASS_GROUP = "vat"
"""Factor group of the world's classes."""
PANEL_PX, GAP_PX, FRAME_PX = 250.0, 64.0, 96.0
FEWEST_POINTS = 3
"""Experiments from which a bound is drawn against quality."""


def bound_points(summary: StudySummary) -> dict[str, str]:
    """Experiment → its only pair, for those that train view 1 with one other view."""
    core = core_modality(summary)
    pairs = {name: recipe.pairs for name, recipe in summary.recipes.items() if len(recipe.pairs) == 1}
    measured = set(summary.subjects(TASK))
    return {n: pairs[n][0] for n in summary.experiments if n in pairs and pairs[n][0] in measured and core is not None}


def bound_figure(summary: StudySummary) -> Figure | None:
    """What view 1 keeps against the information that it is known to share with its only partner.

    Args:
        summary: the study.

    Returns:
        A panel for the class and one for all factors; None where fewer than three experiments pair view 1 with one
        other view and have a bound.
    """
    core, points = core_modality(summary), bound_points(summary)
    if core is None or len(points) < FEWEST_POINTS:
        return None
    columns = _qualities(summary, core)
    down = len(columns)
    height = down * (PANEL_PX + GAP_PX) + FRAME_PX
    spacing = GAP_PX / (height - FRAME_PX) if down > 1 else 0
    titles = [safe(one.title) for one in columns]
    plot = make_subplots(rows=down, cols=1, subplot_titles=titles, shared_xaxes=True, vertical_spacing=spacing)
    for number, column in enumerate(columns, start=1):
        for trace in _bound_traces(summary, column, points, legend=number == 1):
            plot.add_trace(trace, row=number, col=1)
    most = summary.level(TASK, next(iter(points.values())), "log_candidates")
    if most is not None:
        place = {"textposition": "end", "textangle": 0, "xanchor": "left", "yanchor": "top"}
        words = {"text": "log k", "font": {"color": QUIET, "size": 11}, **place}
        plot.add_vline(x=most, line={"color": QUIET, "dash": "dash", "width": 1.4}, label=words)
    panel = Panel(PANEL_PX, _range_of_nats(plot, most), (-0.03, 1.05))
    plot.update_xaxes(range=panel.x, showticklabels=True)
    plot.update_xaxes(title_text="shared information (nats)", row=down, col=1)
    plot.update_yaxes(title_text=f"score of {core} (0 chance, 1 perfect)", range=panel.y)
    styled(plot, height=int(height)).update_layout(
        margin={"t": 90}, legend={"y": 1.0, "yref": "container", "yanchor": "top"}
    )
    for number, column in enumerate(columns, start=1):
        _name_points(plot, summary, column, points, panel, row=number)
    return Figure(
        name="bound",
        title="What is shared, and what is kept of it",
        caption=f"Each experiment trains {core} with one other view. Filled: lower bound log k − L of the mutual "
        "information of the two views, on held-out clips; L is InfoNCE, k the number of candidates. Open: entropy of "
        "the factors that the two are known to share (continuous ones in 4 parts), which is the true value without "
        f"noise. Up: more can be read from {core}. Mean over seeds; whiskers: 95 % interval. No bound exceeds log k.",
        alt=" ".join(bound_in_words(summary)),
        plot=plot,
        numbers=bound_table(summary),
    )


def _qualities(summary: StudySummary, core: str) -> list[Column]:
    """Score of the class, where the world has one, and of all factors."""
    of_class = f"{core}:{CLASS_GROUP}"
    found = [Column("the class", "retention", (of_class,), "score")] if _has_class(summary, of_class) else []
    every = quality_column(summary, core)
    return [*found, Column(f"all factors of {core}", "retention", every.subjects, "score")]


def _has_class(summary: StudySummary, subject: str) -> bool:
    """Whether the world's class was probed."""
    return subject in summary.subjects("retention")


def _bound_traces(
    summary: StudySummary, column: Column, points: Mapping[str, str], *, legend: bool
) -> list[go.Scatter]:
    """Filled points at the bound, open ones at the known value, a thin line between the two."""
    kept, bounds, known = summary.intervals(column), *_bounds(summary, points)
    names = [name for name in points if name in kept and name in bounds]
    y = [kept[name].value for name in names]
    between = go.Scatter(
        x=[x for n in names for x in (bounds[n].value, known.get(n), None)],
        y=[y for n in names for y in (kept[n].value, kept[n].value, None)],
        mode="lines",
        line={"color": QUIET, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    filled = go.Scatter(
        x=[bounds[name].value for name in names],
        y=y,
        mode="markers",
        name="lower bound",
        text=[safe(name) for name in names],
        marker={"size": 10, "color": CLASS_COLORS[0]},
        error_x=whiskers([bounds[name] for name in names]),
        error_y=whiskers([kept[name] for name in names]),
        hovertemplate="%{text}: at least %{x:.2f} nats, kept %{y:.3f}<extra></extra>",
        showlegend=legend,
    )
    there = [name for name in names if name in known]
    mark = {"size": 9, "color": INK, "symbol": "diamond-open", "line": {"width": 1.4}}
    opened = go.Scatter(
        x=[known[name] for name in there],
        y=[kept[name].value for name in there],
        mode="markers",
        name="entropy of the shared factors",
        marker=mark,
        hovertemplate="shared: %{x:.2f} nats<extra></extra>",
        showlegend=legend,
    )
    return [between, filled, opened]


def _range_of_nats(plot: go.Figure, most: float | None) -> tuple[float, float]:
    """An axis with room for all points and the line at log k; it starts at 0, or below what is negative."""
    drawn = [x for trace in plot.data for x in trace.x if x is not None]
    low, high = min([0.0, *drawn]), max([0.1, *drawn, *([most] if most is not None else [])])
    room = 0.06 * (high - low)
    return low - room * (low < 0), high + room


def _name_points(
    plot: go.Figure,
    summary: StudySummary,
    column: Column,
    points: Mapping[str, str],
    panel: Panel,
    *,
    row: int,
) -> None:
    """The names of the experiments beside the bounds of one panel; the known values stay uncovered."""
    kept, bounds, known = summary.intervals(column), *_bounds(summary, points)
    names = [name for name in points if name in kept and name in bounds]
    named = [Named(safe(shortened(name, longest=24)), bounds[name].value, kept[name].value) for name in names]
    others = [(known[name], kept[name].value) for name in names if name in known]
    lines = [(bounds[name].value, kept[name].value, known[name], kept[name].value) for name in names if name in known]
    name_points(plot, named, panel, size=11, others=others, lines=lines, axes=(f"x{row}", f"y{row}"))


def _bounds(summary: StudySummary, points: Mapping[str, str]) -> tuple[dict[str, Interval], dict[str, float]]:
    """By experiment: the bound of its pair over seeds, and what the pair is known to share."""
    bounds: dict[str, Interval] = {}
    known: dict[str, float] = {}
    for name, pair in points.items():
        found = summary.intervals(Column("", TASK, (pair,), "information_nats"))
        shared = summary.intervals(Column("", TASK, (pair,), "shared_nats"))
        bounds |= {name: found[name]} if name in found else {}
        known |= {name: shared[name].value} if name in shared else {}
    return bounds, known


def bound_table(summary: StudySummary) -> pd.DataFrame:
    """The bound of every pair of every experiment, in nats, beside what it can be and what it should be.

    Args:
        summary: the study.

    Returns:
        A row per experiment and pair; empty where no bound was measured.
    """
    rows = []
    shown = {"bound": "information_nats", "before training": "untrained"}
    levels = {"entropy of shared factors": "shared_nats", "log k": "log_candidates"}
    for pair in summary.subjects(TASK):
        found = {words: summary.intervals(Column("", TASK, (pair,), metric)) for words, metric in shown.items()}
        known = {words: summary.level(TASK, pair, metric) for words, metric in levels.items()}
        for experiment in found["bound"]:
            trained = pair in summary.recipes[experiment].pairs if experiment in summary.recipes else False
            cells = {words: told_interval(intervals, experiment) for words, intervals in found.items()}
            place = {"experiment": experiment, "pair": pair, "compared": "yes" if trained else "no"}
            rows.append({**place, **cells, **known})
    table = pd.DataFrame(rows)
    return table.set_index(["experiment", "pair"]).round(3) if len(table) else table


def views_in_words(summary: StudySummary) -> tuple[str, tuple[str, ...]]:
    """The answer of a study of many views in sentences with numbers.

    Args:
        summary: the study.

    Returns:
        The lead, and points; empty where the study asks neither question.
    """
    core, lines = core_modality(summary), view_lines(summary)
    bounds = tuple(bound_in_words(summary))
    if core is None or not (lines or bounds) or not quality_column(summary, core).subjects:
        return "", ()
    points = [line_in_words(summary, line) for line in lines]
    points += [against_core(summary, lines)] if {CORE, FULL} <= {line.name for line in lines} else []
    points.append(_before_in_words(summary, core))
    if not lines:
        return bounds[0], bounds[1:]
    verb = "grows with every view that is added" if grows(summary, lines) else "does not grow with every added view"
    seeds = len({row.seed for row in summary.finished()})
    lead = f"What can be read from {core} {verb}, on average over {seeds} seed{'s' * (seeds != 1)}."
    return lead, (*(point for point in points if point), *bounds)


def _before_in_words(summary: StudySummary, core: str) -> str:
    """What could be read before training, and which experiments keep more than that."""
    subjects = quality_column(summary, core).subjects
    kept, before = (summary.intervals(Column("", "retention", subjects, metric)) for metric in ("score", "untrained"))
    if not before:
        return ""
    more = [name for name in kept if name in before and kept[name].value > before[name].value]
    level = sum(one.value for one in before.values()) / len(before)
    return f"Before training the score is {level:.3f}; more than that is kept in: {', '.join(more) or 'none'}."


def bound_in_words(summary: StudySummary) -> list[str]:
    """Whether more shared information means that more is kept; nothing where too few experiments can tell."""
    core, points = core_modality(summary), bound_points(summary)
    if core is None or len(points) < FEWEST_POINTS:
        return []
    bounds, known = _bounds(summary, points)
    sentences = []
    for column in _qualities(summary, core):
        kept = {name: one.value for name, one in summary.intervals(column).items() if name in bounds}
        if len(kept) >= FEWEST_POINTS:
            sentences.append(_correlation(column.title, kept, {name: bounds[name].value for name in kept}))
    if known:
        held = sum(bounds[name].value <= known[name] for name in known)
        sentences.append(
            f"The bound lies below the entropy of the shared factors in {held} of {len(known)} experiments; on average "
            f"it shows {sum(bounds[n].value / known[n] for n in known) / len(known):.0%} of it."
        )
    return sentences


def _correlation(title: str, kept: Mapping[str, float], bounds: Mapping[str, float]) -> str:
    """Which experiment keeps most, which shares most, and the rank correlation of the two."""
    best, most = max(kept, key=lambda name: kept[name]), max(bounds, key=lambda name: bounds[name])
    same = f"Of {title}, most is kept in {best} ({kept[best]:.2f}), at a bound of {bounds[best]:.2f} nats"
    largest = f"; the largest bound is that of {most} ({bounds[most]:.2f} nats), which keeps {kept[most]:.2f}"
    rank = spearmanr([bounds[name] for name in kept], list(kept.values())).statistic
    correlation = f"Rank correlation of bound and score over {len(kept)} experiments: {rank:.2f}.".replace("-", "−")
    return f"{same}{largest * (best != most)}. {correlation}"
