"""The figures of one run: its training, how well it retrieves, how clean its clusters are, what it retained."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.metrics.statistics import Interval
from mcnlab.modalities import in_order
from mcnlab.reporting.curves import curve_traces, stage_starts
from mcnlab.reporting.intervals import whiskers
from mcnlab.reporting.style import INK, QUIET, SEQUENTIAL, Figure, safe, shortened, styled
from mcnlab.reporting.summary import carriers, factor_groups, finite_or_none, short_direction
from mcnlab.runs import RunFolder

RUN_COLOR, LIGHT_COLOR = "#0072B2", "#9ecae1"
BAR_PX, FRAME_PX = 30, 100


def run_curves(run: RunFolder) -> Figure | None:
    """Loss and terms over the steps of a run.

    Args:
        run: the run.

    Returns:
        One panel of lines; None when the run took no step.
    """
    log = run.metrics()
    if not len(log):
        return None
    plot = go.Figure(curve_traces([log]))
    for step in stage_starts(log):
        plot.add_vline(x=step, line={"color": QUIET, "dash": "dot", "width": 1})
    plot.update_xaxes(title_text="step").update_yaxes(title_text="loss (nats)")
    first, last = (float(part["loss"].mean()) for part in (log.head(5), log.tail(5)))
    ends = pd.DataFrame({"first 5 steps": [first], "last 5 steps": [last]}, index=pd.Index(["loss"], name=""))
    return Figure(
        name="curves",
        title=f"The loss goes from {first:.2f} to {last:.2f}",
        caption="The objective (loss) and its unweighted terms in nats, smaller is better. Dotted: a new stage begins.",
        alt=f"Loss over {len(log)} steps, from {first:.2f} to {last:.2f}.",
        plot=styled(plot, height=330),
        numbers=ends,
    )


def run_recall(run: RunFolder) -> Figure | None:
    """Recall of a run in every direction, beside chance, ceiling and the untrained model.

    Args:
        run: an evaluated run.

    Returns:
        Horizontal bars: recall at 1 before recall at 10; None when retrieval was not measured.
    """
    table = wide_results(run, "retrieval")
    if not len(table):
        return None
    names = [short_direction(subject) for subject in table.index]
    plot = go.Figure()
    for metric, color, words in (
        ("recall_at_10", LIGHT_COLOR, "among the first 10"),
        ("recall_at_1", RUN_COLOR, "first"),
    ):
        plot.add_trace(_bar(run, table, metric, names, color, words))
    for metric, symbol, words in (
        ("chance_at_1", "line-ns-open", "chance, first"),
        ("ceiling_at_1", "square-open", "ceiling, first"),
        ("untrained_at_1", "diamond-open", "before training, first"),
    ):
        if metric in table:
            plot.add_trace(_marks(table[metric], names, symbol, words))
    plot.update_layout(barmode="overlay", bargap=0.3)
    plot.update_yaxes(autorange="reversed", showgrid=False).update_xaxes(
        title_text="recall (share of queries)", range=[0, 1.02]
    )
    best = table["recall_at_1"].idxmax()
    return Figure(
        name="recall",
        title=f"The right clip comes first most often for {short_direction(best)}: {table['recall_at_1'].max():.2f}",
        caption="Share of queries whose right clip comes first (strong blue) or among the first ten (faint blue), "
        "larger is better; whiskers: 95 % interval over clips.",
        alt="; ".join(f"{name} {value:.2f}" for name, value in zip(names, table["recall_at_1"], strict=True)),
        plot=styled(plot, height=len(names) * BAR_PX + FRAME_PX),
        numbers=table.round(4),
    )


def run_clusters(run: RunFolder) -> Figure | None:
    """Purity of a run's clusters, beside chance and the untrained model.

    Args:
        run: an evaluated run.

    Returns:
        Horizontal bars; None when no clusters were scored.
    """
    table = wide_results(run, "clusters")
    if not len(table):
        return None
    names = [str(subject) for subject in table.index]
    plot = go.Figure(go.Bar(orientation="h", y=names, x=table["purity"], marker_color=RUN_COLOR, name="after training"))
    for metric, symbol, words in (
        ("chance_purity", "line-ns-open", "chance"),
        ("untrained_purity", "diamond-open", "before training"),
    ):
        if metric in table:
            plot.add_trace(_marks(table[metric], names, symbol, words))
    plot.update_yaxes(autorange="reversed", showgrid=False).update_xaxes(
        title_text="purity (share of clips)", range=[0, 1.02]
    )
    best = table["purity"].idxmax()
    return Figure(
        name="clusters",
        title=f"The cleanest clusters are those of {best}: purity {table['purity'].max():.2f}",
        caption="Share of clips in the majority class of their k-means cluster, larger is better.",
        alt="; ".join(f"{name} {value:.2f}" for name, value in zip(names, table["purity"], strict=True)),
        plot=styled(plot, height=len(names) * BAR_PX + FRAME_PX),
        numbers=table.round(4),
    )


def run_retention(run: RunFolder) -> Figure | None:
    """What each modality of a run retained, beside what it held before training.

    Args:
        run: an evaluated run.

    Returns:
        Two heat maps; None when no factor is known.
    """
    table = wide_results(run, "retention")
    groups = factor_groups(list(table.index))
    probed = in_order(str(subject).split(":")[0] for subject in table.index)
    shown = [name for name in probed if name != "joint" and "@" not in name]
    if not groups or not shown:
        return None
    parts = [("after training", "score"), *([("before training", "untrained")] if "untrained" in table else [])]
    plot = make_subplots(rows=1, cols=len(parts), shared_yaxes=True, subplot_titles=[words for words, _ in parts])
    grids = {words: _grid(table[metric], shown, groups) for words, metric in parts}
    for number, (words, grid) in enumerate(grids.items(), start=1):
        heat = go.Heatmap(
            z=grid.to_numpy(),
            x=[safe(shortened(group, longest=14)) for group in groups],
            y=shown,
            texttemplate="%{z:.2f}",
            hovertemplate=f"{words}: %{{x}} in %{{y}} %{{z:.3f}}<extra></extra>",
            coloraxis="coloraxis",
            xgap=2,
            ygap=2,
        )
        plot.add_trace(heat, row=1, col=number)
    plot.update_yaxes(autorange="reversed", showgrid=False, ticks="").update_xaxes(
        title_text="factor group", showgrid=False
    )
    bar = {"thickness": 12, "outlinewidth": 0, "tickvals": [0, 0.5, 1]}
    plot.update_layout(coloraxis={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1, "colorbar": bar})
    return Figure(
        name="retention",
        title=_most_kept(table["score"], shown, groups),
        caption="Score of a linear probe on frozen embeddings: R² or balanced accuracy above chance; "
        "0 is chance, 1 perfect.",
        alt=_most_kept(table["score"], shown, groups),
        plot=styled(plot, height=len(shown) * 44 + FRAME_PX),
        numbers=pd.concat(grids, axis=1).round(3),
    )


def wide_results(run: RunFolder, task: str) -> pd.DataFrame:
    """The results of one task, a row per subject and a column per metric.

    Args:
        run: the run.
        task: `retrieval`, `clusters`, `retention`, `geometry`, `outcome`.

    Returns:
        The table, subjects and metrics in the order of the run; without rows when the run lacks the task.
    """
    rows = run.results()
    rows = rows[rows.task == task]
    if not len(rows):
        return pd.DataFrame()
    table = rows.pivot_table(index="subject", columns="metric", values="value", sort=False)
    return table.rename_axis(columns=None)


def _bar(run: RunFolder, table: pd.DataFrame, metric: str, names: Sequence[str], color: str, words: str) -> go.Bar:
    """Bars of one metric with their intervals."""
    rows = run.results()
    rows = rows[(rows.task == "retrieval") & (rows.metric == metric)].set_index("subject").reindex(table.index)
    ends = zip(rows["value"], rows["low"], rows["high"], strict=True)
    intervals = [Interval(value, finite_or_none(low), finite_or_none(high), 1) for value, low, high in ends]
    hover = f"%{{y}} {words}: %{{x:.3f}}<extra></extra>"
    bar = go.Bar(orientation="h", y=names, x=rows["value"], marker_color=color, name=words, hovertemplate=hover)
    if color != RUN_COLOR:
        return bar
    return bar.update(error_x=whiskers(intervals))


def _marks(values: pd.Series, names: Sequence[str], symbol: str, words: str) -> go.Scatter:
    """Open symbols for what stands beside the bars."""
    mark = {"symbol": symbol, "size": 10, "color": INK, "line": {"width": 1.6, "color": INK}}
    hover = f"%{{y}} {words}: %{{x:.3f}}<extra></extra>"
    return go.Scatter(x=values, y=names, mode="markers", marker=mark, name=words, hovertemplate=hover)


def _grid(values: pd.Series, modalities: Sequence[str], groups: Sequence[str]) -> pd.DataFrame:
    """Modalities × groups."""
    cells = [[values.get(f"{modality}:{group}", np.nan) for group in groups] for modality in modalities]
    return pd.DataFrame(cells, index=list(modalities), columns=list(groups), dtype=float)


def _most_kept(scores: pd.Series, modalities: Sequence[str], groups: Sequence[str]) -> str:
    """The best and the worst held group among those that a modality is known to carry."""
    carried = {
        f"{m}:{g}": (m, g) for g in groups for m in modalities if m in carriers(g) and f"{m}:{g}" in scores.index
    }
    own = scores[list(carried)].dropna()
    if not len(own):
        return "No factor was probed"
    (best_in, best), (worst_in, worst) = carried[str(own.idxmax())], carried[str(own.idxmin())]
    low = f"{own.min():.2f}".replace("-", "−")
    return f"Best kept: {best} in {best_in} ({own.max():.2f}); least: {worst} in {worst_in} ({low})"
