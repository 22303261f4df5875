"""Heat maps that compare experiments: what each one retained, and what more terms and stages bring back."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.modalities import MODALITIES
from mcnlab.reporting.intervals import interval_table
from mcnlab.reporting.recipe import MORE_TERMS, STAGED
from mcnlab.reporting.style import DIVERGING, QUIET, SEQUENTIAL, Figure, safe, shortened, styled
from mcnlab.reporting.summary import WORLD_GROUPS, Column, StudySummary, carriers, factor_groups

CELLS_ABREAST = 24
"""Cells of heat maps that fit beside each other on a page."""
ROW_PX, FRAME_PX, GAP_PX = 28, 98, 80
SHORTEST_BAR_PX = 64
"""Length of a color bar on which three numbers do not touch."""
UNTRAINED = "before training"
Words = dict[str, Any]
Quiet = Callable[[str, str], bool]
"""(experiment, modality) → whether its cells stand in brackets."""


def retention_figure(summary: StudySummary) -> Figure | None:
    """The retention map: how much of each factor group each modality's embedding holds, in every experiment.

    Args:
        summary: the study.

    Returns:
        A heat map per modality: rows are experiments and the untrained model, columns factor groups. None when no
        factor was probed.
    """
    scores = retention_scores(summary)
    if not scores:
        return None
    rows = [*summary.experiments, UNTRAINED]
    drawn = [name for name in summary.modalities if name in scores]
    plot = _heat_maps(
        {name: scores[name].reindex(rows) for name in drawn},
        bar={"tickvals": [0, 0.5, 1], "ticktext": ["0 chance", "0.5", "1 perfect"]},
        colors={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1},
        quiet=lambda experiment, modality: experiment in summary.recipes and not summary.trains(experiment, modality),
    )
    return Figure(
        name="retention",
        title="What each combination retained",
        caption="Score of a linear probe on frozen embeddings: R² or balanced accuracy above chance; 0 is chance, 1 is "
        f"perfect, larger is better. Columns are {_columns_in_words(summary)}. Mean over seeds. Empty "
        "cells, or no row: a modality that the experiment did not train. Last row: the same towers before training.",
        alt=_retention_in_words(summary, scores),
        plot=plot,
        numbers=_retention_numbers(summary),
    )


def factor_purity_figure(summary: StudySummary) -> Figure | None:
    """Purity of the clusters against the categorical factors of own media.

    Args:
        summary: the study.

    Returns:
        A heat map per modality, chance in the last row; None when clusters were scored against the label alone.
    """
    subjects = [one for one in summary.subjects("clusters") if ":" in one]
    tables = {}
    for modality in (*summary.modalities, "joint"):
        own = {_factor(one): one for one in subjects if one.startswith(f"{modality}:")}
        if own:
            columns = {name: Column("", "clusters", (one,), "purity") for name, one in own.items()}
            cells = {name: summary.means(column) for name, column in columns.items()}
            tables[modality] = pd.DataFrame(cells).reindex(list(summary.experiments))
            chance = {name: summary.level("clusters", one, "chance_purity") for name, one in own.items()}
            tables[modality].loc["chance"] = pd.Series(chance, dtype=float)
    if not tables:
        return None
    return Figure(
        name="factor-purity",
        title="How clean the clusters are for each factor",
        caption="Purity of as many k-means clusters as the factor has values: share of clips with the most common "
        "value of their cluster, larger is better. Mean over seeds. Last row: chance (shuffled values).",
        alt="Heat maps of purity; the table has all numbers.",
        plot=_heat_maps(
            tables,
            bar={"tickvals": [0, 0.5, 1]},
            colors={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1},
            quiet=lambda experiment, modality: False,
        ),
        numbers=pd.concat(tables, axis=1).rename_axis(index="experiment").round(3),
    )


def additions_figure(summary: StudySummary) -> Figure | None:
    """What more terms and stages add to what contrast alone retains.

    Args:
        summary: the study.

    Returns:
        Heat maps of differences from the reference; None when no experiment has more terms than it.
    """
    probed = set(summary.results[summary.results.task == "retention"]["experiment"])
    more = [name for name in summary.experiments if name in probed and summary.family(name) in (MORE_TERMS, STAGED)]
    if not more or summary.reference is None or not summary.subjects("retention"):
        return None
    scores = retention_scores(summary)
    away = {
        name: scores[name].reindex(more) - scores[name].loc[summary.reference]
        for name in summary.modalities
        if name in scores and summary.reference in scores[name].index
    }
    away = {name: table for name, table in away.items() if table.notna().to_numpy().any()}
    if not away:
        return None
    widest = max(0.05, *(float(np.nanmax(np.abs(table.to_numpy()))) for table in away.values()))
    plot = _heat_maps(
        away,
        bar={"tickvals": [-widest, 0, widest], "tickformat": "+.2~f"},
        colors={"colorscale": DIVERGING, "cmin": -widest, "cmax": widest},
        quiet=lambda experiment, modality: False,
        signed=True,
    )
    best = max((table.stack() for table in away.values()), key=lambda cells: cells.max())
    where = best.idxmax()
    return Figure(
        name="additions",
        title=f"What more terms and stages change, against {summary.reference}",
        caption=f"Difference of the score above from that of {summary.reference} (contrast alone, one space). Violet: "
        "retained more, brown: retained less. Mean over seeds.",
        alt=f"Largest gain: {best.max():+.2f} for {where[1]} in {where[0]}.",
        plot=plot,
        numbers=pd.concat(away, axis=1).rename_axis(index="experiment").round(3),
    )


def factors_figure(summary: StudySummary) -> Figure | None:
    """The retention map in full detail: a column per factor that a modality carries.

    Args:
        summary: the study.

    Returns:
        Heat maps below each other, one per modality; None when no factor was probed.
    """
    subjects = summary.subjects("retention")
    tables = {}
    for modality in summary.modalities:
        own = [one for one in subjects if one.startswith(f"{modality}:") and _holds(modality, _group(one))]
        single = [one for one in own if "." in one] or own
        cells = {_factor(one): summary.means(Column("", "retention", (one,), "score")) for one in single}
        if cells:
            tables[modality] = pd.DataFrame(cells).reindex(list(summary.experiments))
    if not tables:
        return None
    plot = _heat_maps(
        tables,
        bar={"tickvals": [0, 0.5, 1], "ticktext": ["0 chance", "0.5", "1 perfect"]},
        colors={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 1},
        quiet=lambda experiment, modality: False,
        stacked=True,
    )
    return Figure(
        name="factors",
        title="Every factor by itself",
        caption="Score of a linear probe, as above, for each factor that the modality carries. Mean over seeds.",
        alt="Heat maps of single factors; the table has all numbers.",
        plot=plot,
        numbers=pd.concat(tables, axis=1).rename_axis(index="experiment").round(3),
    )


def _columns_in_words(summary: StudySummary) -> str:
    """What the columns are, and what the letters of the world's factor groups mean."""
    if not any(group in WORLD_GROUPS for group in factor_groups(summary.subjects("retention"))):
        return "factors"
    return "factor groups, named by the modalities that carry them (v: video alone, va: video and audio, …)"


def _holds(modality: str, group: str) -> bool:
    """Whether a modality can hold something of a factor group; further views may hold parts of any."""
    return modality not in MODALITIES or modality in carriers(group)


def _group(subject: str) -> str:
    """Factor group of a retention subject."""
    return _factor(subject).split(".")[0]


def _factor(subject: str) -> str:
    """Factor of a retention subject."""
    return subject.split(":", 1)[1]


def retention_scores(summary: StudySummary) -> dict[str, pd.DataFrame]:
    """Mean score per experiment and factor group, for every modality; the last row is the untrained model.

    Args:
        summary: the study.

    Returns:
        modality → table with experiments as rows and factor groups as columns.
    """
    subjects = summary.subjects("retention")
    tables: dict[str, pd.DataFrame] = {}
    for modality in summary.modalities:
        own = [group for group in factor_groups(subjects) if f"{modality}:{group}" in subjects]
        columns = {group: Column(group, "retention", (f"{modality}:{group}",), "score") for group in own}
        cells = {group: summary.means(column) for group, column in columns.items()}
        before = {group: summary.level("retention", f"{modality}:{group}", "untrained") for group in own}
        if own:
            table = pd.DataFrame(cells).reindex(list(summary.experiments))
            table.loc[UNTRAINED] = pd.Series(before, dtype=float)
            tables[modality] = table
    return tables


def _heat_maps(
    tables: Mapping[str, pd.DataFrame],
    *,
    bar: dict[str, Any],
    colors: dict[str, Any],
    quiet: Quiet,
    signed: bool = False,
    stacked: bool = False,
) -> go.Figure:
    """Annotated heat maps, one per modality, beside each other where they fit, else each with the rows that it has."""
    abreast = not stacked and sum(table.shape[1] for table in tables.values()) <= CELLS_ABREAST
    rows, cols = (1, len(tables)) if abreast else (len(tables), 1)
    if not abreast:  # with names of its own each, a map needs no empty rows
        tables = {name: table.dropna(how="all") for name, table in tables.items()}
    counts = [len(table) for table in tables.values()]
    height = (max(counts) if abreast else sum(counts)) * ROW_PX + rows * FRAME_PX
    plot = make_subplots(
        rows=rows,
        cols=cols,
        vertical_spacing=GAP_PX / (height - FRAME_PX) if rows > 1 else 0,
        shared_yaxes=abreast,
        subplot_titles=[f"{name} embedding" for name in tables],
        horizontal_spacing=0.025,
        row_heights=None if abreast else counts,
        column_widths=[table.shape[1] for table in tables.values()] if abreast else None,
    )
    grouped = any(group in WORLD_GROUPS for table in tables.values() for group in table.columns)
    for number, (modality, table) in enumerate(tables.items()):
        place = {"row": 1, "col": number + 1} if abreast else {"row": number + 1, "col": 1}
        plot.add_trace(_heat_map(modality, table, quiet, signed), **place)
        names = [safe(shortened(name, longest=40)) for name in table.index]
        plot.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", **place)
        groups = [safe(shortened(group, longest=14)) for group in table.columns]
        plot.update_xaxes(tickvals=list(range(len(groups))), ticktext=groups, side="bottom", **place)
    plot.update_xaxes(
        showgrid=False,
        zeroline=False,
        ticks="",
        title_font_size=11,
        title_font_color=QUIET,
    )
    words = "factor group" if grouped and not stacked else "factor"
    plot.update_xaxes(title_text=words, row=rows)  # of maps below each other the last one says it for all
    plot.update_yaxes(showgrid=False, zeroline=False, ticks="")
    size = {"lenmode": "pixels", "len": min(300, max(SHORTEST_BAR_PX, height - FRAME_PX)), "y": 1, "yanchor": "top"}
    shown_bar = {"thickness": 12, "outlinewidth": 0, **size, **bar}
    plot.update_layout(coloraxis={**colors, "colorbar": shown_bar})
    return styled(plot, height=height)


def _heat_map(modality: str, table: pd.DataFrame, quiet: Quiet, signed: bool) -> go.Heatmap:
    """One annotated heat map."""
    words = [
        [_cell_text(value, quiet=quiet(name, modality), signed=signed) for value in table.loc[name]]
        for name in table.index
    ]
    hover = [[[safe(name), safe(group)] for group in table.columns] for name in table.index]
    return go.Heatmap(
        z=table.to_numpy(dtype=float),
        x=list(range(table.shape[1])),
        y=list(range(table.shape[0])),
        text=words,
        texttemplate="%{text}",
        textfont_size=11,
        customdata=hover,
        hovertemplate=f"{modality} embedding of %{{customdata[0]}}<br>%{{customdata[1]}}: %{{z:.3f}}<extra></extra>",
        coloraxis="coloraxis",
        xgap=2,
        ygap=2,
        hoverongaps=False,
    )


def _cell_text(value: float, *, quiet: bool, signed: bool) -> str:
    """A number between -1 and 1 in as few characters as two digits need."""
    if not np.isfinite(value):
        return ""
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    text = text.replace("0.", ".", 1) if abs(value) < 0.995 else text[:-1]
    text = text.replace("-", "−")
    if text in (".00", "+.00", "−.00"):
        text = "0"
    return f"({text})" if quiet else text


def _retention_numbers(summary: StudySummary) -> pd.DataFrame:
    """Every cell of the retention map with its interval, as text."""
    groups = factor_groups(summary.subjects("retention"))
    columns = [
        Column(f"{modality}:{group}", "retention", (f"{modality}:{group}",), "score")
        for modality in summary.modalities
        for group in groups
        if _holds(modality, group)
    ]
    return interval_table(summary, columns).dropna(axis=1, how="all")


def _retention_in_words(summary: StudySummary, scores: Mapping[str, pd.DataFrame]) -> str:
    """Where each group is held best."""
    words = []
    for modality, table in scores.items():
        for group in table.columns:
            if _holds(modality, group):
                column = table[group].drop(UNTRAINED).dropna()
                if len(column):
                    words.append(f"{group} in {modality}: most in {column.idxmax()} ({column.max():.2f})")
    return "; ".join(words) + "."
