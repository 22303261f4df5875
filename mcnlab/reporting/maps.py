"""What the spaces look like: aligned maps of the same clips in every experiment, colored by what is known of them."""

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int
from PIL import Image
from plotly.subplots import make_subplots
from sklearn.cluster import KMeans

from mcnlab.errors import DataError
from mcnlab.modalities import MODALITIES, in_order
from mcnlab.reporting.layout import DEFAULT, MapSettings
from mcnlab.reporting.projection import FEWEST_CLIPS, Maps, aligned_maps, stratified_sample
from mcnlab.reporting.style import CLASS_COLORS, GRID, INK, Figure, class_scale, safe, shortened, styled
from mcnlab.reporting.summary import StudySummary
from mcnlab.runs import RunFolder

MOST_POINTS, MOST_CLIPS, FEWEST_SHOWN = 8_000, 400, 60
"""Points of all maps together, and clips per map: what a browser draws and a person reads without waiting."""
MAPS_PER_ROW, PANEL_PX = 5, 225
SCALE_PX = 320
"""Height of the scale of colors: room for the names of twenty classes."""
MOST_CLASSES = 20
THUMBNAIL_PX = 48
STACK = "modalities"
"""Name of the maps on which every clip stands once per modality."""
MOST_STACKED = 80
"""Clips per map when every clip stands on it once per modality."""
FURTHER_SYMBOLS = ("square", "cross", "x", "star", "pentagon", "hourglass")
"""Of views beside video, audio and text, in order; their colors are those of classes."""
MODALITY_SYMBOLS = {"video": "circle", "audio": "diamond", "text": "triangle-up"}
JOINT = "joint"
ANCHOR = "anchor"
"""Owner of the invisible trace that keeps a panel's axes in place."""


@dataclass(frozen=True)
class StudyMaps:
    """The maps of a study with their clips."""

    clips: pd.DataFrame
    """The clips that are drawn: id, caption, label, factors, thumbnail."""
    panels: Mapping[str, tuple[str, ...]]
    """Modality (or `joint`) → experiments that have a map of it."""
    embeddings: Mapping[str, np.ndarray]
    """What is drawn, named `modality of experiment`, see `map_name`; rows as in `clips`."""
    maps: Maps
    """Named the same; `modalities of experiment` holds the clips `few` once per modality."""
    few: Int[np.ndarray, " few"]
    """Rows of `clips` that stand on the maps of all modalities."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that stand on such a map, those that nobody trained among them."""
        return _stacked(self.panels)


@dataclass(frozen=True)
class Coloring:
    """One way to color the clips."""

    title: str
    values: tuple[float | None, ...]
    axis: dict[str, Any]
    """Plotly's color axis: scale, range, and the words of its bar."""


def map_name(modality: str, experiment: str) -> str:
    """Key of a map.

    Example:
        >>> map_name("video", "V+T")
        'video of V+T'
    """
    return f"{modality} of {experiment}"


def study_maps(
    summary: StudySummary,
    *,
    seed: int | None = None,
    settings: MapSettings = DEFAULT,
    cache: Path | None = None,
) -> StudyMaps | None:
    """Lay out the embeddings of one run per experiment, all maps aligned with each other.

    Args:
        summary: the study.
        seed: whose runs are drawn; the smallest seed of each experiment when None.
        settings: of the layout.
        cache: folder where positions are kept.

    Returns:
        The maps; None when fewer than 8 clips were evaluated, or nothing was.
    """
    runs = {row.experiment: RunFolder(row.folder) for row in reversed(summary.finished(seed=seed))}
    runs = {name: runs[name] for name in summary.experiments if name in runs and _has_embeddings(runs[name])}
    if not runs:
        return None
    clips = next(iter(runs.values())).clips()
    alike = {name: run for name, run in runs.items() if run.clip_ids() == list(clips["id"])}
    found = {name: run.embeddings() for name, run in alike.items()}
    panels = _panels({name: whole_embeddings(own) for name, own in found.items()})
    if len(clips) < FEWEST_CLIPS or not panels:
        return None
    most = max(FEWEST_SHOWN, min(MOST_CLIPS, MOST_POINTS // sum(map(len, panels.values()))))
    rows = stratified_sample(list(clips["label"]), most=most)
    drawn = clips.iloc[rows].reset_index(drop=True)
    single = {
        map_name(m, name): whole_embeddings(found[name])[m][rows] for m, names in panels.items() for name in names
    }
    few = np.arange(0, len(rows), math.ceil(len(rows) / MOST_STACKED))
    shared = {name: own for name, own in found.items() if _one_space(own)}
    stacks = {map_name(STACK, name): _stack(own, rows[few], _stacked(panels)) for name, own in shared.items()}
    ids = {key: list(drawn["id"]) for key in single}
    ids |= {key: _stack_ids(list(drawn["id"].iloc[few]), _stacked(panels)) for key in stacks}
    maps = aligned_maps({**single, **stacks}, ids=ids, settings=settings, cache=cache)
    return StudyMaps(drawn, panels, single, maps, few)


def whole_embeddings(embeddings: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One embedding per modality: those of several spaces are set side by side.

    Example:
        >>> list(whole_embeddings({"video@va": np.zeros((2, 3)), "video@vt": np.zeros((2, 3))}))
        ['video']
    """
    whole: dict[str, np.ndarray] = {}
    for modality in _kinds(embeddings):
        own = [values for name, values in sorted(embeddings.items()) if name.split("@")[0] == modality]
        plain = embeddings.get(modality)
        if own:
            whole[modality] = plain if plain is not None else np.concatenate(own, axis=1)
    return whole


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
    clustered = {key: _clusters(values, maps.clips["label"]) for key, values in maps.embeddings.items()}
    count = int(max(np.nanmax(found) for found in clustered.values())) + 1
    axis = {"colorscale": class_scale(count), "cmin": -0.5, "cmax": count - 0.5, "showscale": False}
    colorings = {key: Coloring("cluster", _known(found), axis) for key, found in clustered.items()}
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


def _once(maps: Maps) -> str:
    """What a caption adds where the positions cannot be computed again."""
    return "" if maps.repeatable else " Laid out without a seed: computed again, the picture differs."


def trust_table(maps: StudyMaps, modalities: Sequence[str]) -> pd.DataFrame:
    """Trustworthiness and neighbor overlap of every map.

    Args:
        maps: the study's maps.
        modalities: rows of which modalities.

    Returns:
        A row per map.
    """
    rows = [
        {
            "embedding": modality,
            "experiment": experiment,
            "trustworthiness (1 is best)": round(maps.maps.trust[map_name(modality, experiment)], 3),
            "neighbor overlap (share)": round(maps.maps.overlap[map_name(modality, experiment)], 3),
        }
        for modality in modalities
        for experiment in maps.panels[modality]
    ]
    return pd.DataFrame(rows).set_index(["embedding", "experiment"])


def trust_summary(maps: StudyMaps | None) -> dict[str, float | int | str]:
    """How far to trust all maps together.

    Args:
        maps: the study's maps; None when there are none.

    Returns:
        Number of maps and clips, means of trustworthiness and neighbor overlap, and the least trusted map.
    """
    if maps is None:
        return {"maps": 0, "clips": 0, "trustworthiness": 0.0, "neighbor_overlap": 0.0, "least_trusted": "none"}
    trust, overlap = maps.maps.trust, maps.maps.overlap
    worst = min(trust, key=lambda key: trust[key])
    return {
        "maps": len(trust),
        "clips": len(maps.clips),
        "trustworthiness": sum(trust.values()) / len(trust),
        "neighbor_overlap": sum(overlap.values()) / len(overlap),
        "least_trusted": f"{worst} ({trust[worst]:.3f})",
    }


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


def sprite(clips: pd.DataFrame) -> dict[str, Any] | None:
    """All thumbnails in one picture, for the hover of a page.

    Args:
        clips: with a column `thumbnail` of image bytes or None.

    Returns:
        `uri`, `columns`, `size` in px; None when no clip has a thumbnail.

    Raises:
        DataError: the bytes are not an image.
    """
    if "thumbnail" not in clips or clips["thumbnail"].isna().all():
        return None
    across = math.ceil(math.sqrt(len(clips)))
    sheet = Image.new("RGB", (across * THUMBNAIL_PX, math.ceil(len(clips) / across) * THUMBNAIL_PX), (235, 238, 241))
    for place, content in enumerate(clips["thumbnail"]):
        if content is not None:
            sheet.paste(_thumbnail(content), (place % across * THUMBNAIL_PX, place // across * THUMBNAIL_PX))
    buffer = io.BytesIO()
    sheet.save(buffer, format="WEBP", quality=70)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"uri": uri, "columns": across, "size": THUMBNAIL_PX}


def _thumbnail(content: bytes) -> Image.Image:
    """One picture in the sheet's size."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB").resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    except OSError as error:
        raise DataError(f"thumbnail: not an image ({error})") from error


def _has_embeddings(run: RunFolder) -> bool:
    """Whether a run was embedded."""
    return (run.path / "embeddings.safetensors").exists() and (run.path / "clips.parquet").exists()


def _shown_experiments(maps: StudyMaps, modalities: Sequence[str]) -> list[str]:
    """Experiments that have a map of one of the modalities."""
    return list(dict.fromkeys(name for m in modalities for name in maps.panels[m]))


def _owners(maps: StudyMaps, modalities: Sequence[str]) -> list[str]:
    """Modality of each trace of a grid; the traces that keep a panel in place come last, one per panel."""
    anchors = [ANCHOR for _ in _shown_experiments(maps, modalities)]
    return [m for m in modalities for _ in maps.panels[m]] + anchors


def _grid(maps: StudyMaps, modalities: Sequence[str], coloring: Callable[[str], Coloring]) -> go.Figure:
    """A panel per experiment; of several modalities the first is shown."""
    experiments = _shown_experiments(maps, modalities)
    plot, places = _empty_panels(experiments)
    for m in modalities:
        for experiment in maps.panels[m]:
            trace = _points(maps, m, experiment, coloring(map_name(m, experiment)), shown=m == modalities[0])
            plot.add_trace(trace, **places[experiment])
    for place in places.values():  # an axis without any visible trace is drawn at NaN, which the browser reports
        plot.add_trace(go.Scatter(x=[0], y=[0], mode="markers", marker={"opacity": 0}, hoverinfo="skip"), **place)
    return plot


def _empty_panels(experiments: Sequence[str]) -> tuple[go.Figure, dict[str, dict[str, int]]]:
    """Framed panels without ticks, and the place of each experiment's."""
    across = min(MAPS_PER_ROW, len(experiments))
    down = math.ceil(len(experiments) / across)
    height = max(down * PANEL_PX, SCALE_PX) + 100
    plot = make_subplots(
        rows=down,
        cols=across,
        subplot_titles=[safe(shortened(one, longest=34)) for one in experiments],
        horizontal_spacing=0.012,
        vertical_spacing=28 / (height - 100),
    )
    frame = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False, "showline": True}
    plot.update_xaxes(**frame, mirror=True, range=[-1.15, 1.15])
    plot.update_yaxes(**frame, mirror=True, range=[-1.15, 1.15])
    styled(plot, height=height).update_layout(showlegend=False, margin={"t": 88, "b": 10})
    return plot, {one: {"row": n // across + 1, "col": n % across + 1} for n, one in enumerate(experiments)}


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


def _panels(found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, tuple[str, ...]]:
    """Modality → experiments that have an embedding of it."""
    known = _kinds(name for own in found.values() for name in own)
    return {m: tuple(name for name, own in found.items() if m in own) for m in known}


def _kinds(names: Iterable[str]) -> tuple[str, ...]:
    """What embeddings are of: modalities in the usual order, then `joint`."""
    kinds = {name.split("@")[0] for name in names}
    return (*in_order(kinds - {JOINT}), *([JOINT] if JOINT in kinds else []))


def _stacked(panels: Mapping[str, object]) -> tuple[str, ...]:
    """Modalities of the maps on which every clip stands once per modality."""
    return in_order([*MODALITIES, *(name for name in panels if name != JOINT)])


def _one_space(embeddings: Mapping[str, np.ndarray]) -> bool:
    """Whether two or more modalities live in the same single space."""
    own = [values for name, values in embeddings.items() if "@" not in name and name != JOINT]
    apart = any("@" in name for name in embeddings)
    return len(own) > 1 and not apart and len({values.shape[1] for values in own}) == 1


def _stack(embeddings: Mapping[str, np.ndarray], rows: np.ndarray, modalities: Sequence[str]) -> np.ndarray:
    """Rows of all modalities below each other; NaN for a modality that was not trained."""
    width = next(embeddings[name].shape[1] for name in modalities if name in embeddings)
    empty = np.full((len(rows), width), np.nan, dtype=np.float16)
    return np.concatenate([embeddings[name][rows] if name in embeddings else empty for name in modalities])


def _stack_ids(ids: Sequence[str], modalities: Sequence[str]) -> list[str]:
    """What the rows of a stack are."""
    return [f"{one} {modality}" for modality in modalities for one in ids]


def _clusters(embedding: np.ndarray, labels: pd.Series) -> np.ndarray:
    """K-means cluster of each clip, as many as there are labels; NaN for clips that lack the modality."""
    present = np.isfinite(embedding).all(axis=1)
    unit = embedding[present].astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    count = min(max(2, labels.nunique()), MOST_CLASSES, len(unit))
    found = np.full(len(embedding), np.nan)
    found[present] = KMeans(count, n_init=3, random_state=0).fit_predict(unit)
    return found


def _known(values: np.ndarray) -> tuple[float | None, ...]:
    """Numbers, with None for NaN."""
    return tuple(None if np.isnan(value) else float(value) for value in values)


def _points(maps: StudyMaps, modality: str, experiment: str, coloring: Coloring, *, shown: bool) -> go.Scatter:
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
        visible=shown,
        name=safe(experiment),
    )


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
        return Coloring(title, _known(values.to_numpy(dtype=float).round(4)), axis)
    numbers, classes = pd.factorize(values.astype("object"), sort=True)
    if not 2 <= len(classes) <= MOST_CLASSES:
        return None
    ticks = {"tickmode": "array", "tickvals": list(range(len(classes)))}
    words = {"ticktext": [safe(shortened(str(one), longest=18)) for one in classes]}
    axis = {"colorscale": class_scale(len(classes)), "cmin": -0.5, "cmax": len(classes) - 0.5}
    return Coloring(
        title, tuple(None if n < 0 else float(n) for n in numbers), {**axis, "colorbar": {**bar, **ticks, **words}}
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
