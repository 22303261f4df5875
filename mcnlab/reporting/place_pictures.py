"""Pictures with heat maps and boxes over them: what a person judges localization by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.parquet import read_parquet
from mcnlab.reporting.addresses import picture_address
from mcnlab.reporting.places import DETECTION, EXPLANATION, measured
from mcnlab.reporting.style import CLASS_COLORS, QUIET, Figure, safe, styled
from mcnlab.reporting.summary import StudySummary

HEAT: Sequence[Sequence[float | str]] = [
    [0.0, "rgba(255,255,255,0)"],
    [0.5, "rgba(255,140,0,0.25)"],
    [1.0, "rgba(220,20,20,0.65)"],
]
"""From nothing to red: the picture shows through."""
SPOTLIGHT: Sequence[Sequence[float | str]] = [
    [0.0, "rgba(12,16,24,0.58)"],
    [0.35, "rgba(12,16,24,0.28)"],
    [1.0, "rgba(12,16,24,0)"],
]
"""From dark to clear: what counts is lit."""
HALO = "#14161a"
"""Below the outline of a box, on pages of any color."""
SILENT, SOUNDING, FOUND = "#ffffff", "#00e5ff", "#ffd400"
COLUMNS, MOST_CLIPS = 6, 12
EXPLAINED_CLIPS = 4
SURE = 0.5
"""Boxes are drawn whose score is at least this share of the picture's surest one."""


def detection_pictures(summary: StudySummary) -> Figure | None:
    """Held-out pictures with heat map, true boxes, and the boxes that the detector finds without sound.

    Args:
        summary: the study.

    Returns:
        Of the first run of the first experiment that has some; None without any.
    """
    table, name = _pictures(summary, DETECTION)
    if table is None:
        return None
    rows = table.head(MOST_CLIPS).to_dict("records")
    lines = -(-len(rows) // COLUMNS)
    plot = make_subplots(rows=lines, cols=COLUMNS, horizontal_spacing=0.01, vertical_spacing=0.06)
    for place, row in enumerate(rows):
        cell = (place // COLUMNS + 1, place % COLUMNS + 1)
        heat_picture(plot, row["picture"], _square(row["heat"]), cell)
        outlined_boxes(plot, row["things"], [SOUNDING if one else SILENT for one in row["sounding"]], cell)
        scores = np.asarray(row["scores"], dtype=float)
        chosen = np.flatnonzero(scores >= SURE * scores.max(initial=0.0))
        corners = [row["found"][number] for number in chosen]
        kinds = [row["kinds"][number] for number in chosen]
        outlined_boxes(plot, corners, [FOUND] * len(chosen), cell, dash="dot", words=[f"{kind}" for kind in kinds])
    caption = (
        f"Held-out clips of {name}. Red: the heat map, cosine of every place with the sound. Blue boxes: things that "
        "sound; white: silent ones, the truth. Yellow, dotted: what the detector finds in the picture alone, with the "
        f"number of its pseudo-class; boxes with at least {SURE:.0%} of the score of the surest one."
    )
    facts = pd.DataFrame(
        {
            "what sounds": [_named(row["labels"], row["sounding"]) for row in rows],
            "what is silent": [_named(row["labels"], [not one for one in row["sounding"]]) for row in rows],
        },
        index=pd.Index([row["clip"] for row in rows], name="clip"),
    )
    alt = "; ".join(f"{clip}: {one['what sounds']} sounds" for clip, one in facts.iterrows())
    title = "Where sound points, and what the detector finds"
    return Figure("found", title, caption, alt, styled(plot, height=190 * lines), facts)


def explanation_pictures(summary: StudySummary) -> Figure | None:
    """Held-out clips part by part, with attention in space over the pictures and attention in time below.

    Args:
        summary: the study.

    Returns:
        Of the first run of the first experiment that has some; None without any.
    """
    table, name = _pictures(summary, EXPLANATION)
    if table is None:
        return None
    rows = table.head(EXPLAINED_CLIPS).to_dict("records")
    parts = len(rows[0]["time"])
    titles = [f"{safe(row['class'])}{'' if row['right'] else ' (told wrong)'}" for row in rows]
    plot = make_subplots(
        rows=2 * len(rows),
        cols=parts,
        row_heights=[0.78, 0.22] * len(rows),
        horizontal_spacing=0.006,
        vertical_spacing=0.01,
        column_titles=[f"part {part + 1}" for part in range(parts)],
        row_titles=[one for title in titles for one in (title, "")],
    )
    for line, row in enumerate(rows):
        for part in range(parts):
            cell = (2 * line + 1, part + 1)
            space = _square(row["space"][part]) * float(row["time"][part])
            top = max(float(np.max(_square(s)) * t) for s, t in zip(row["space"], row["time"], strict=True))
            heat_picture(plot, row["pictures"][part], space, cell, top=top, colors=SPOTLIGHT)
            here = row["sounding"][part]
            outlined_boxes(plot, row["things"][part], [SOUNDING if one else SILENT for one in here], cell)
            own = [label for label, sounds in zip(row["labels"][part], here, strict=True) if sounds]
            _strip(plot, float(row["time"][part]), row["class"] in own, (2 * line + 2, part + 1))
    caption = (
        f"Held-out clips of {name}, a line each, their parts from left to right. Lit: attention in space and time "
        "together; dark: what counts for nothing. Blue boxes: what sounds; white: silent things. Bars: attention in "
        "time, blue where the thing of the class sounds in sight."
    )
    facts = pd.DataFrame(
        [[f"{float(one):.2f}" for one in row["time"]] for row in rows],
        index=pd.Index([f"{row['clip']} ({row['class']})" for row in rows], name="attention in time"),
        columns=[f"part {part + 1}" for part in range(parts)],
    )
    alt = "; ".join(
        f"{clip}: most in part {1 + int(np.argmax(row['time']))}" for clip, row in zip(facts.index, rows, strict=True)
    )
    title = "Where and when attention looks"
    return Figure("attended", title, caption, alt, styled(plot, height=44 + 198 * len(rows)), facts)


def _pictures(summary: StudySummary, task: str) -> tuple[pd.DataFrame | None, str]:
    """The kept pictures of the first run that has some, and what it is called."""
    for row in summary.finished():
        path = Path(row.folder) / f"{task}.parquet"
        if row.experiment in measured(summary, task) and path.exists():
            return read_parquet(path), f"{row.experiment}, seed {row.seed}"
    return None, ""


def _square(values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """(height, width) of what Parquet gives as rows of rows."""
    return np.stack([np.asarray(line, dtype=float) for line in values])


def _named(labels: Sequence[str] | np.ndarray, chosen: Sequence[bool] | np.ndarray) -> str:
    """Some labels, joined."""
    return ", ".join(label for label, one in zip(labels, chosen, strict=True) if one) or "nothing"


def heat_picture(
    plot: go.Figure,
    png: bytes,
    heat: np.ndarray,
    cell: tuple[int, int],
    *,
    top: float | None = None,
    colors: Sequence[Sequence[float | str]] = HEAT,
) -> None:
    """A picture with a heat map over it; both fill 0 to 1, y down."""
    height, width = heat.shape
    plot.add_trace(
        go.Heatmap(
            z=heat,
            x0=0.5 / width,
            dx=1 / width,
            y0=0.5 / height,
            dy=1 / height,
            zmin=0,
            zmax=max(float(heat.max()) if top is None else top, 1e-9),
            zsmooth="best",
            colorscale=colors,
            showscale=False,
            hovertemplate="%{z:.2f}<extra></extra>",
        ),
        row=cell[0],
        col=cell[1],
    )
    frame = {"x": 0, "y": 0, "sizex": 1, "sizey": 1, "sizing": "stretch", "layer": "below", "yanchor": "top"}
    plot.add_layout_image({"source": picture_address(png), **frame}, row=cell[0], col=cell[1])
    plot.update_xaxes(visible=False, range=[0, 1], constrain="domain", row=cell[0], col=cell[1])
    anchor = next(plot.select_traces(row=cell[0], col=cell[1])).xaxis or "x"
    plot.update_yaxes(visible=False, range=[1, 0], scaleanchor=anchor, constrain="domain", row=cell[0], col=cell[1])


def outlined_boxes(
    plot: go.Figure,
    corners: Any,
    colors: Sequence[str],
    cell: tuple[int, int],
    *,
    dash: str = "solid",
    words: Sequence[str] = (),
) -> None:
    """Outlines of boxes; a dark one below each, so that they can be seen on any picture."""
    for number, (box, color) in enumerate(zip(corners, colors, strict=True)):
        left, top, right, bottom = (float(side) for side in box)
        sides = {"x0": left, "x1": right, "y0": top, "y1": bottom, "type": "rect"}
        if dash == "solid":
            plot.add_shape(**sides, line={"color": HALO, "width": 3.4}, row=cell[0], col=cell[1])
        plot.add_shape(**sides, line={"color": color, "width": 1.8, "dash": dash}, row=cell[0], col=cell[1])
        if words:
            font = {"color": color, "size": 11}
            said = {"text": safe(words[number]), "x": right, "y": top, "showarrow": False, "font": font}
            plot.add_annotation(**said, xanchor="right", yanchor="bottom", row=cell[0], col=cell[1])


def _strip(plot: go.Figure, weight: float, sounds: bool, cell: tuple[int, int]) -> None:
    """A bar of attention in time."""
    color = CLASS_COLORS[0] if sounds else QUIET
    bar = go.Bar(
        x=[0.5],
        y=[weight],
        width=[0.9],
        marker={"color": color},
        showlegend=False,
        text=[f"{weight:.2f}"],
        textposition="outside",
        cliponaxis=False,
    )
    plot.add_trace(bar, row=cell[0], col=cell[1])
    plot.update_xaxes(visible=False, range=[0, 1], row=cell[0], col=cell[1])
    plot.update_yaxes(visible=False, range=[0, 1.3], row=cell[0], col=cell[1])
