"""The color of each point: a code per point, and the legend that says what the codes mean."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from mcnlab.reporting.coloring import MOST_CLASSES, clusters_of
from mcnlab.reporting.explorer.data import ExplorerData, Panel
from mcnlab.reporting.map_figures import modality_mark
from mcnlab.reporting.style import CLASS_COLORS, shortened

NONE = 255
"""Code of a point without a value; it is gray."""
SHADES = 64
VIRIDIS = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
"""Of numbers, from low to high; equal to the eye in equal steps, also without color vision."""
FURTHER = ("#882255", "#44AA99", "#999933", "#DDCC77", "#661100", "#88CCEE", "#AA4499", "#117733", "#6699CC", "#CC6677")
"""Tol 2021; of the eleventh class and further."""
CLUSTER, MODALITY, RANK = "cluster (k-means)", "modality", "rank of true match, "
NOT_COLORS = ("thumbnail", "caption", "id")
OTHER = "other"


@dataclass(frozen=True)
class PointColors:
    """Codes of the points and what they mean."""

    codes: UInt8[np.ndarray, " points"]
    legend: dict[str, Any]
    """`title` and `palette`, with `entries` for classes, or `low` and `high` for numbers."""


def color_choices(data: ExplorerData, run: str) -> tuple[str, ...]:
    """All that points can be colored by: label, factors, cluster, modality, ranks, then any other column.

    Args:
        data: the runs.
        run: whose ranks are known.
    """
    columns = [str(one) for one in data.clips if one not in NOT_COLORS]
    first = [one for one in columns if one == "label"]
    factors = [one for one in columns if one.startswith("factor:")]
    ranks = [RANK + str(direction) for direction in data.ranks(run)]
    rest = [one for one in columns if one not in (*first, *factors)]
    return (*first, *factors, CLUSTER, MODALITY, *ranks, *rest)


def point_colors(data: ExplorerData, panel: Panel, choice: str) -> PointColors:
    """Colors of the points of a map.

    Args:
        data: the runs.
        panel: the map's points.
        choice: one of `color_choices`; one that this run lacks leaves all points gray.
    """
    title = choice.removeprefix("factor:")
    if choice == MODALITY:
        kinds = np.repeat(np.arange(len(panel.modalities)), len(panel))
        palette = [modality_mark(one, panel.modalities)[0] for one in panel.modalities]
        return PointColors(kinds.astype(np.uint8), _legend(title, palette, panel.modalities))
    if choice == CLUSTER:
        # each map has clusters of its own: their numbers mean nothing between maps
        labels = data.clips["label"] if "label" in data.clips else pd.Series([""] * len(data.clips))
        return _classes(title, pd.Series(clusters_of(panel.vectors, labels)).astype("Int64"))
    if choice.startswith(RANK):
        ranks = data.ranks(panel.run)
        direction = choice.removeprefix(RANK)
        known = ranks[direction] if direction in ranks else pd.Series([None] * len(data.clips))
        return _numbers(title, pd.to_numeric(known).iloc[panel.clips], logarithmic=True)
    if choice not in data.clips:
        return PointColors(np.full(len(panel.clips), NONE, np.uint8), _legend(f"{title}: not known here", [], []))
    values = data.clips[choice].iloc[panel.clips]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return _numbers(title, values)
    return _classes(title, values)


def _numbers(title: str, values: pd.Series, *, logarithmic: bool = False) -> PointColors:
    """Shades from the least to the largest value."""
    plain = values.to_numpy(dtype=float, na_value=np.nan)
    known = np.isfinite(plain)
    codes = np.full(len(plain), NONE, np.uint8)
    if not known.any():
        return PointColors(codes, _legend(f"{title}: no values", [], []))
    low, high = float(plain[known].min()), float(plain[known].max())
    scaled = np.log(np.maximum(plain, 1)) if logarithmic else plain
    bottom, top = scaled[known].min(), scaled[known].max()
    codes[known] = np.round((scaled[known] - bottom) / ((top - bottom) or 1) * (SHADES - 1))
    ends = (f"{low:g} (best)", f"{high:g}") if logarithmic else (f"{low:.4g}", f"{high:.4g}")
    return PointColors(codes, {"title": title, "palette": _shades(), "low": ends[0], "high": ends[1]})


def _classes(title: str, values: pd.Series) -> PointColors:
    """A color per class; beyond 20 the rarest share one."""
    words = [None if pd.isna(one) else str(one) for one in values]
    counted = pd.Series(words, dtype=object).value_counts()
    names = sorted(counted.index[: MOST_CLASSES if len(counted) <= MOST_CLASSES else MOST_CLASSES - 1], key=_natural)
    numbers = {name: number for number, name in enumerate(names)}
    many = len(counted) > len(names)
    codes = [NONE if one is None else numbers.get(one, len(names)) for one in words]
    shown = [*names, *([f"{OTHER} ({len(counted) - len(names)})"] if many else [])]
    palette = [(*CLASS_COLORS, *FURTHER)[number] for number in range(len(shown))]
    return PointColors(np.array(codes, np.uint8), _legend(title, palette, shown))


def _natural(name: str) -> tuple[int, float, str]:
    """Sorts numbers by value and before words."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _legend(title: str, palette: Any, entries: Any) -> dict[str, Any]:
    """The legend of classes."""
    return {"title": title, "palette": list(palette), "entries": [shortened(one, longest=28) for one in entries]}


def _shades() -> list[str]:
    """Viridis in as many steps as there are codes."""
    anchors = np.array([[int(one[at : at + 2], 16) for at in (1, 3, 5)] for one in VIRIDIS], dtype=float)
    places = np.linspace(0, len(anchors) - 1, SHADES)
    parts = np.stack([np.interp(places, np.arange(len(anchors)), column) for column in anchors.T], axis=1)
    return ["#" + "".join(f"{round(part):02x}" for part in shade) for shade in parts]
