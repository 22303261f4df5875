"""What the spaces look like: grids of aligned maps, colored by what is known of the clips."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.modalities import MODALITIES
from mcnlab.reporting.coloring import SCALE_PX, Coloring, clusters_of, colorings_of, known
from mcnlab.reporting.maps import STACK, StudyMaps, map_name, trust_table
from mcnlab.reporting.projection import Maps
from mcnlab.reporting.style import (
    CLASS_COLORS,
    GRID,
    INK,
    QUIET,
    Figure,
    class_scale,
    evenly,
    panel_titles,
    safe,
    shortened,
    styled,
)

MAPS_PER_ROW, PANEL_PX = 5, 225
FURTHER_SYMBOLS = ("square", "cross", "x", "star", "pentagon", "hourglass")
"""Of views beside video, audio and text, in order; their colors are those of classes."""
MODALITY_SYMBOLS = {"video": "circle", "audio": "diamond", "text": "triangle-up"}
ANCHOR = "anchor"
"""Owner of the invisible trace that keeps a panel's axes in place."""


def maps_figure(maps: StudyMaps, *, modality: str | None = None, name: str = "space") -> Figure:
    """A grid of maps, one per experiment; the same clip has the same color everywhere.

    Args:
        maps: the study's maps.
        modality: draw only this one; else a menu chooses among them.
        name: anchor of the figure.

    Returns:
        The figure; menus choose the modality and the coloring.
    """
    modalities = [modality] if modality else list(maps.panels)
    colorings = colorings_of(maps.clips)
    plot = _grid(maps, modalities, lambda key: colorings[0])
    menus = _menus(modalities, _owners(maps, modalities), colorings)
    plot.update_layout(coloraxis=colorings[0].axis, updatemenus=menus)
    return Figure(
        name=name,
        title="The same clips in every space",
        caption=f"Aligned UMAP of {len(maps.clips)} held-out clips, cosine distance, one run per experiment. Axes "
        "have no unit, and only neighborhoods mean something. Menus: which embedding, which color. Hover for the "
        "caption; the same clip lights up in all maps. Numbers are never computed on these maps." + _once(maps.maps),
        alt="Maps of the same clips, one per experiment; the table says how far each can be trusted.",
        plot=plot,
        numbers=trust_table(maps, modalities),
    )


def cluster_figure(maps: StudyMaps) -> Figure:
    """The maps colored by the k-means cluster of the full embedding; each map has clusters of its own.

    Args:
        maps: the study's maps.

    Returns:
        The figure; a menu chooses the embedding.
    """
    modalities = list(maps.panels)
    clustered = {key: clusters_of(values, maps.clips["label"]) for key, values in maps.embeddings.items()}
    count = int(max(np.nanmax(found) for found in clustered.values())) + 1
    axis = {"colorscale": class_scale(count), "cmin": -0.5, "cmax": count - 0.5, "showscale": False}
    colorings = {key: Coloring("cluster", known(found), axis) for key, found in clustered.items()}
    plot = _grid(maps, modalities, lambda key: colorings[key])
    plot.update_layout(coloraxis=axis, updatemenus=_menus(modalities, _owners(maps, modalities), []))
    return Figure(
        name="clusters-on-maps",
        title="K-means clusters of the full space, on the maps",
        caption=f"Color: one of {count} clusters of the full embedding. Colors differ in meaning between maps.",
        alt="Maps colored by cluster.",
        plot=plot,
    )


def modality_figure(maps: StudyMaps) -> Figure | None:
    """All modalities of the same clips in one map per experiment with a shared space.

    Args:
        maps: the study's maps.

    Returns:
        The figure; None when no experiment has two modalities in one space.
    """
    placed = {key: spots for key, spots in maps.maps.positions.items() if key.startswith(map_name(STACK, ""))}
    if not placed:
        return None
    captions = [safe(shortened(str(text or "(no caption)"))) for text in maps.clips["caption"].iloc[maps.few]]
    by_experiment = {key.removeprefix(map_name(STACK, "")): spots for key, spots in placed.items()}
    plot, places = _empty_panels(list(by_experiment))
    for number, (experiment, spots) in enumerate(by_experiment.items()):
        for modality, own in zip(maps.modalities, np.split(spots, len(maps.modalities)), strict=True):
            trace = _modality_points(modality, own, captions, maps.modalities).update(showlegend=number == 0)
            plot.add_trace(trace, **places[experiment])
    plot.update_layout(showlegend=True, legend={"yref": "container", "y": 1, "yanchor": "top"}, margin={"t": 64})
    trust = {
        "trustworthiness (1 is best)": {name: maps.maps.trust[map_name(STACK, name)] for name in by_experiment},
        "neighbor overlap (share)": {name: maps.maps.overlap[map_name(STACK, name)] for name in by_experiment},
    }
    return Figure(
        name="modalities",
        title="The modalities of the same clips in one space",
        caption=f"Aligned UMAP of {len(maps.few)} clips, each once per trained modality. Axes have no unit."
        + _once(maps.maps),
        alt="Maps with a color per modality.",
        plot=plot,
        numbers=pd.DataFrame(trust).round(3).rename_axis(index="experiment"),
    )


def modality_mark(modality: str, modalities: Sequence[str]) -> tuple[str, str]:
    """Color and symbol of a modality among others.

    Args:
        modality: drawn.
        modalities: all that are drawn, in order.

    Returns:
        Those of video, audio and text are always the same; further views take what comes next.

    Example:
        >>> modality_mark("audio", ["video", "audio"]), modality_mark("depth", ["video", "depth"])
        (('#E69F00', 'diamond'), ('#CC79A7', 'square'))
    """
    if modality in MODALITIES:
        return CLASS_COLORS[MODALITIES.index(modality)], MODALITY_SYMBOLS[modality]
    place = [name for name in modalities if name not in MODALITIES].index(modality)
    rest = CLASS_COLORS[len(MODALITIES) :]
    return rest[place % len(rest)], FURTHER_SYMBOLS[place % len(FURTHER_SYMBOLS)]


def _once(maps: Maps) -> str:
    """What a caption adds where the positions cannot be computed again."""
    return "" if maps.repeatable else " Laid out without a seed: computed again, the picture differs."


def _shown_experiments(maps: StudyMaps, modalities: Sequence[str]) -> list[str]:
    """Experiments that have a map of one of the modalities, in the order of the study."""
    ordered = dict.fromkeys(name for names in sorted(maps.panels.values(), key=len, reverse=True) for name in names)
    return [name for name in ordered if any(name in maps.panels[m] for m in modalities)]


def _owners(maps: StudyMaps, modalities: Sequence[str]) -> list[str]:
    """Modality of each trace of a grid; the traces that keep a panel in place come last, one per panel."""
    experiments = _shown_experiments(maps, modalities)
    return [m for m in modalities for _ in experiments] + [ANCHOR for _ in experiments]


def _grid(maps: StudyMaps, modalities: Sequence[str], coloring: Callable[[str], Coloring]) -> go.Figure:
    """A panel per experiment; of several modalities the first is shown."""
    experiments = _shown_experiments(maps, modalities)
    plot, places = _empty_panels(experiments)
    for m in modalities:
        for experiment in experiments:
            drawn = experiment in maps.panels[m]
            trace = _points(maps, m, experiment, coloring(map_name(m, experiment))) if drawn else _nothing(m)
            plot.add_trace(trace.update(visible=m == modalities[0]), **places[experiment])
    for place in places.values():  # an axis without any visible trace is drawn at NaN, which the browser reports
        plot.add_trace(go.Scatter(x=[0], y=[0], mode="markers", marker={"opacity": 0}, hoverinfo="skip"), **place)
    return plot


def _empty_panels(experiments: Sequence[str]) -> tuple[go.Figure, dict[str, dict[str, int]]]:
    """Framed panels without ticks, and the place of each experiment's."""
    across = evenly(len(experiments), most=MAPS_PER_ROW)
    down = math.ceil(len(experiments) / across)
    titles, second_px = panel_titles(experiments, across=across)
    height = max(down * (PANEL_PX + second_px), SCALE_PX) + 100
    plot = make_subplots(
        rows=down,
        cols=across,
        subplot_titles=titles,
        horizontal_spacing=0.012,
        vertical_spacing=(28 + second_px) / (height - 100),
    )
    frame = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False, "showline": True}
    plot.update_xaxes(**frame, mirror=True, range=[-1.15, 1.15])
    plot.update_yaxes(**frame, mirror=True, range=[-1.15, 1.15])
    styled(plot, height=height).update_layout(showlegend=False, margin={"t": 88, "b": 10})
    return plot, {one: {"row": n // across + 1, "col": n % across + 1} for n, one in enumerate(experiments)}


def _modality_points(
    modality: str, spots: np.ndarray, captions: Sequence[str], modalities: Sequence[str]
) -> go.Scatter:
    """The points of one modality."""
    color, symbol = modality_mark(modality, modalities)
    mark = {"color": color, "symbol": symbol, "size": 5, "opacity": 0.8}
    return go.Scatter(
        x=spots[:, 0],
        y=spots[:, 1],
        mode="markers",
        marker=mark,
        name=modality,
        legendgroup=modality,
        customdata=[[caption] for caption in captions],
        hovertemplate=f"{modality}: %{{customdata[0]}}<extra></extra>",
    )


def _nothing(modality: str) -> go.Scatter:
    """What stands in the panel of an experiment without an embedding of the modality."""
    words = f"no {safe(shortened(modality))} embedding"
    return go.Scatter(x=[0], y=[0], mode="text", text=[words], textfont={"color": QUIET}, hoverinfo="skip")


def _points(maps: StudyMaps, modality: str, experiment: str, coloring: Coloring) -> go.Scatter:
    """One map as points; the caption stands in `customdata` alone."""
    places = maps.maps.positions[map_name(modality, experiment)]
    captions = [safe(shortened(str(caption or "(no caption)"))) for caption in maps.clips["caption"]]
    colors = np.array(coloring.values, dtype=float)  # NaN where there is none: gray
    return go.Scatter(
        x=places[:, 0],
        y=places[:, 1],
        mode="markers",
        marker={"color": colors, "coloraxis": "coloraxis", "size": 4.5, "opacity": 0.85},
        customdata=[[number, caption] for number, caption in enumerate(captions)],
        hovertemplate="%{customdata[1]}<extra></extra>",
        name=safe(experiment),
    )


def _menus(modalities: Sequence[str], owners: Sequence[str], colorings: Sequence[Coloring]) -> list[dict[str, Any]]:
    """A menu for the embedding and one for the color."""
    look = {
        "type": "dropdown",
        "direction": "down",
        "yanchor": "bottom",
        "y": 1.0,
        "pad": {"b": 34},
        "bgcolor": "white",
    }
    look |= {"bordercolor": GRID, "font": {"color": INK}, "xanchor": "left", "showactive": True}
    which = [
        {
            "label": f"{m} embedding",
            "method": "restyle",
            "args": [{"visible": [owner in (m, ANCHOR) for owner in owners]}],
        }
        for m in modalities
    ]
    colors = [
        {
            "label": f"color: {safe(one.title)}",
            "method": "update",
            "args": [{"marker.color": [list(one.values)]}, {"coloraxis": one.axis}],
        }
        for one in colorings
    ]
    menus = [{**look, "x": 0.0, "buttons": which}] if len(which) > 1 else []
    return (
        [*menus, {**look, "x": 1.0 if menus else 0.0, "xanchor": "right" if menus else "left", "buttons": colors}]
        if len(colors) > 1
        else menus
    )
