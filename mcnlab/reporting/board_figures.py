"""The figures of a study board that stay on an exported page: parallel coordinates, and differences with intervals."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from mcnlab.metrics.statistics import Interval
from mcnlab.reporting.board_rows import differences
from mcnlab.reporting.intervals import whiskers
from mcnlab.reporting.style import INK, QUIET, Figure, family_color, safe, shortened, styled
from mcnlab.reporting.summary import Column, StudySummary

LINES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
ROW_PX, FRAME_PX = 24, 110


def parallel_figure(summary: StudySummary, columns: Sequence[Column]) -> Figure | None:
    """Every experiment as a line over all columns, each column from its worst to its best mean.

    Args:
        summary: the study.
        columns: what is compared; larger is better.

    Returns:
        Lines from 0 (the worst) to 1 (the best); None with fewer than two columns that differ.
    """
    means = {
        column.title: pd.Series({name: interval.value for name, interval in summary.intervals(column).items()})
        for column in columns
    }
    table = pd.DataFrame(means).reindex(list(summary.experiments))
    low, high = table.min(), table.max()
    table = table.loc[:, (high - low) > 0]
    if table.shape[1] < 2:
        return None
    scaled = (table - low[table.columns]) / (high - low)[table.columns]
    plot = go.Figure()
    for number, name in enumerate(scaled.index):
        line = {"color": family_color(summary.family(name)), "dash": LINES[number % len(LINES)]}
        hover = f"{safe(name)}<br>%{{x}}: %{{customdata:.3f}}<extra></extra>"
        plot.add_scatter(
            x=[safe(title) for title in scaled],
            y=scaled.loc[name],
            customdata=table.loc[name],
            mode="lines+markers",
            name=safe(shortened(name, longest=40)),
            line={**line, "width": 1.8},
            hovertemplate=hover,
        )
    plot.update_yaxes(title_text="worst to best mean", range=[-0.05, 1.05], tickvals=[0, 1], ticktext=["worst", "best"])
    plot.update_xaxes(tickangle=-40)
    plot.update_layout(legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"})
    best = table.idxmax()
    return Figure(
        name="parallel",
        title="No line is on top everywhere" if best.nunique() > 1 else f"{best.iloc[0]} is on top everywhere",
        caption="Mean over seeds of every experiment; each column goes from its worst to its best experiment, up is "
        "better.",
        alt="; ".join(f"{title}: best {name}" for title, name in best.items()),
        plot=styled(plot, height=460),
        numbers=table.round(4).rename_axis(index="experiment"),
    )


def differences_figure(
    summary: StudySummary, column: Column, *, baseline: str | None = None, columns: Sequence[Column] = ()
) -> Figure | None:
    """Every experiment against the baseline in one column, with 95 % intervals over equal seeds.

    Args:
        summary: the study.
        column: what is compared.
        baseline: the experiment that the others are held against; the study's own when None.
        columns: further columns for the table beside it.

    Returns:
        Points with whiskers, the largest difference on top; None where nothing can be compared.
    """
    baseline = baseline or summary.reference
    if baseline is None:
        return None
    tested = differences(summary, [column, *columns], baseline)
    rows = {name: by_column[column.title] for name, by_column in tested.items() if column.title in by_column}
    if not rows:
        return None
    names = sorted(rows, key=lambda name: -rows[name]["d"])
    plot = go.Figure()
    for clear, color, words in ((True, "#0072B2", "stands (p < 0.05)"), (False, QUIET, "does not stand")):
        chosen = [name for name in names if rows[name]["clear"] is clear]
        if chosen:
            plot.add_scatter(
                x=[rows[name]["d"] for name in chosen],
                y=[safe(name) for name in chosen],
                error_x=whiskers([_interval(rows[name]) for name in chosen], thickness=1.4),
                mode="markers",
                name=words,
                marker={"color": color, "size": 9, "symbol": "circle" if clear else "circle-open"},
                hovertemplate="%{y}: %{x:+.3f}<extra></extra>",
            )
    plot.add_vline(x=0, line={"color": INK, "width": 1})
    plot.update_yaxes(categoryorder="array", categoryarray=[safe(name) for name in reversed(names)])
    plot.update_xaxes(title_text=f"{safe(column.title)}: difference from {safe(baseline)}")
    standing = sum(bool(row["clear"]) for row in rows.values())
    return Figure(
        name="differences",
        title=f"{standing} of {len(rows)} differences from {baseline} in {column.title} stand",
        caption="Difference of means over equal seeds with its 95 % interval, right is better; filled: it stands after "
        "Holm's correction.",
        alt="; ".join(f"{name} {rows[name]['d']:+.3f}" for name in names),
        plot=styled(plot, height=ROW_PX * len(names) + FRAME_PX),
        numbers=_numbers(tested),
    )


def _interval(row: dict[str, float]) -> Interval:
    """A difference with its interval."""
    return Interval(row["d"], row["low"], row["high"], int(row["seeds"]))


def _numbers(tested: dict[str, dict[str, dict[str, float]]]) -> pd.DataFrame:
    """All tested differences as a table."""
    rows = [
        {
            "experiment": name,
            "quantity": title,
            "difference": one["d"],
            "low": one["low"],
            "high": one["high"],
            "p, Holm": one["p"],
        }
        for name, by_column in tested.items()
        for title, one in by_column.items()
    ]
    return pd.DataFrame(rows).round(4).set_index(["experiment", "quantity"])
