"""How clips are colored on maps: by label, factor or cluster."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from mcnlab.reporting.style import class_scale, safe, shortened

SCALE_PX = 320
"""Height of the scale of colors: room for the names of twenty classes."""
MOST_CLASSES = 20


@dataclass(frozen=True)
class Coloring:
    """One way to color the clips."""

    title: str
    values: tuple[float | None, ...]
    axis: dict[str, Any]
    """Plotly's color axis: scale, range, and the words of its bar."""


def colorings_of(clips: pd.DataFrame) -> list[Coloring]:
    """Ways to color clips: by label, then by each known factor.

    Args:
        clips: with `label` and `factor:…` columns.

    Returns:
        At least one coloring; columns without two values, or with too many classes, are left out.
    """
    columns = ["label", *(column for column in clips if column.startswith("factor:"))]
    found = [_coloring(column.removeprefix("factor:"), clips[column]) for column in columns if column in clips]
    return [one for one in found if one is not None] or [Coloring("clip", (0.0,) * len(clips), {"showscale": False})]


def clusters_of(embedding: np.ndarray, labels: pd.Series) -> np.ndarray:
    """K-means cluster of each clip.

    Args:
        embedding: (clips, dim); NaN in rows of clips that lack the modality.
        labels: of the clips; as many clusters as there are labels, at most 20.

    Returns:
        (clips,), numbers of clusters; NaN for clips that lack the modality.
    """
    present = np.isfinite(embedding).all(axis=1)
    unit = embedding[present].astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    count = min(max(2, labels.nunique()), MOST_CLASSES, len(unit))
    found = np.full(len(embedding), np.nan)
    found[present] = KMeans(count, n_init=3, random_state=0).fit_predict(unit)
    return found


def known(values: np.ndarray) -> tuple[float | None, ...]:
    """Numbers, with None for NaN.

    Example:
        >>> known(np.array([1.0, np.nan]))
        (1.0, None)
    """
    return tuple(None if np.isnan(value) else float(value) for value in values)


def _coloring(title: str, values: pd.Series) -> Coloring | None:
    """Colors of a column: a scale for numbers, flat steps for classes."""
    bar: dict[str, Any] = {
        "title": {"text": safe(title), "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "lenmode": "pixels",
        "y": 1,
        "yanchor": "top",
        "len": SCALE_PX,
    }
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        if values.nunique() < 2:
            return None
        low, high = float(values.min()), float(values.max())
        axis = {"colorscale": "Viridis", "cmin": low, "cmax": high, "colorbar": {**bar, "tickmode": "auto"}}
        return Coloring(title, known(values.to_numpy(dtype=float).round(4)), axis)
    numbers, classes = pd.factorize(values.astype("object"), sort=True)
    if not 2 <= len(classes) <= MOST_CLASSES:
        return None
    ticks = {"tickmode": "array", "tickvals": list(range(len(classes)))}
    words = {"ticktext": [safe(shortened(str(one), longest=18)) for one in classes]}
    axis = {"colorscale": class_scale(len(classes)), "cmin": -0.5, "cmax": len(classes) - 0.5}
    return Coloring(
        title, tuple(None if n < 0 else float(n) for n in numbers), {**axis, "colorbar": {**bar, **ticks, **words}}
    )
