"""UMAP of one embedding or, held together, of several: exact neighbors in, compiled code kept on disk."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from threadpoolctl import threadpool_limits

from mcnlab.reporting.neighbors import nearest, neighbors_of, unit_rows

Ids = Mapping[str, Sequence[str]]
Rows = dict[str, np.ndarray]
Told = Callable[[float], None]
"""Told the share of the work that is done, from 0 to 1."""
SEARCH = 0.2
"""Share of the work that goes into neighbors, before the first epoch."""


@dataclass(frozen=True)
class MapSettings:
    """How maps are drawn."""

    neighbors: int = 10
    """Clips whose distance counts, per clip, itself among them."""
    epochs: int = 80
    """Rounds of the layout."""
    window: int = 2
    """Maps before and after one that it is held close to."""
    pull: float = 0.01
    """Strength of that hold."""
    seed: int | None = 0
    """Of every random draw. None: a single map is laid out by all cores, and never twice the same."""
    most: int = 50_000
    """Clips per map that are laid out together; the others are placed among them."""


DEFAULT = MapSettings()
"""How the maps of a study are drawn."""


def lay_out(
    arrays: Mapping[str, np.ndarray], ids: Ids, settings: MapSettings, *, told: Told = lambda share: None
) -> dict[str, np.ndarray]:
    """Places of the clips on each map; the maps are held together where they show the same clips.

    Args:
        arrays: map name → (points, dim) float32; rows that are not finite take no part.
        ids: map name → what each row is.
        settings: of the layout.
        told: how far it has come.

    Returns:
        Map name → (points, 2), within -1.1 to 1.1; NaN for rows that took no part.
    """
    rows = {name: np.flatnonzero(np.isfinite(values).all(axis=1)) for name, values in arrays.items()}
    chosen = _sampled(rows, ids, settings)
    units = {name: unit_rows(values[chosen[name]]) for name, values in arrays.items()}
    umap = umap_library()
    with warnings.catch_warnings(), threadpool_limits(limits=None):  # numba sets torch's number of threads, too
        warnings.simplefilter("ignore")  # that a seed means one thread; sparse eigenvectors of small graphs
        fitted = _fit(umap, units, _relations(ids, chosen), settings, told)
        return {name: _everywhere(fitted[name], arrays[name], rows[name], chosen[name]) for name in arrays}


def umap_library() -> ModuleType:
    """The library, told to keep what it compiles on disk: two seconds to load, half a minute to compile."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_numba_cache()))  # read when numba is first imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tensorflow is not there
        # only maps that are not on disk yet need them
        import umap
        import umap.aligned_umap
        from numba.core.dispatcher import Dispatcher

    for module in (umap.umap_, umap.aligned_umap, umap.layouts, umap.utils):
        for function in vars(module).values():
            if isinstance(function, Dispatcher) and not function.signatures:
                _keep_compiled(function)
    return umap


def _keep_compiled(function: Any) -> None:
    """Keep on disk what numba compiles, under a name of its own where it runs in parallel.

    numba files code by name and argument types alone: a function compiled both ways, as UMAP's loop is, would be
    loaded the other way, and a seeded map would come out of several threads.
    """
    source, parallel = function.py_func, function.targetoptions.get("parallel")
    name = source.__qualname__
    try:
        source.__qualname__ = f"{name}_parallel" if parallel else name
        function.enable_caching()
    finally:
        source.__qualname__ = name


def _fit(
    umap: ModuleType, units: Rows, relations: list[dict[int, int]], settings: MapSettings, told: Told
) -> dict[str, Any]:
    """A fitted model per map."""
    neighbors = min(settings.neighbors, min(map(len, units.values())) - 1)
    found: list[tuple[Any, ...]] = []
    for points in units.values():
        found.append((*neighbors_of(points, count=neighbors), None))
        told(SEARCH * len(found) / len(units))
    common = {"n_neighbors": neighbors, "metric": "cosine", "n_epochs": settings.epochs, "random_state": settings.seed}
    if len(units) == 1:
        (points,) = units.values()
        with _counted(umap, told):
            models = [umap.UMAP(**common, precomputed_knn=found[0]).fit(points)]
    else:
        pull = {"alignment_window_size": settings.window, "alignment_regularisation": settings.pull}
        most = max(map(len, units.values()))
        with _graphs_from(found, umap), _related(umap, points=most), _compiled_once(umap), _counted(umap, told):
            aligned = umap.AlignedUMAP(**common, **pull, transform_seed=settings.seed)
            aligned.fit(list(units.values()), relations=relations)
        models = aligned.mappers_
        for model, places in zip(models, aligned.embeddings_, strict=True):
            model.embedding_, model.transform_mode = np.asarray(places), "embedding"
    return dict(zip(units, models, strict=True))


@contextmanager
def _graphs_from(found: Sequence[tuple[Any, ...]], umap: ModuleType) -> Iterator[None]:
    """Let AlignedUMAP take the neighbors of each map, and not lay out each by itself before all together."""
    left = iter(found)

    def graph(**settings: Any) -> Any:
        return umap.UMAP(**settings, precomputed_knn=next(left), transform_mode="graph")

    with mock.patch.object(umap.aligned_umap, "UMAP", graph):
        yield


@contextmanager
def _related(umap: ModuleType, *, points: int) -> Iterator[None]:
    """Let AlignedUMAP know of every point what it is related to.

    Its own table ends with the last related point, and its compiled loop reads behind that end without a check: where
    the last points of a map have no counterpart, numbers are arbitrary, and where no point has one, the process ends.
    """
    expand = umap.aligned_umap.expand_relations

    def expanded(relations: Sequence[Mapping[int, int]], window_size: int = 3) -> np.ndarray:
        table = expand(relations, window_size)  # (maps, window, points up to the last related one)
        return np.pad(table, [(0, 0), (0, 0), (0, max(0, points - table.shape[2]))], constant_values=-1)

    with mock.patch.object(umap.aligned_umap, "expand_relations", expanded):
        yield


@contextmanager
def _compiled_once(umap: ModuleType) -> Iterator[None]:
    """Keep on disk what AlignedUMAP compiles anew for each fit; its loop has nothing for several threads to do."""
    numba = umap.layouts.numba

    def njit(function: Callable[..., Any], **options: Any) -> Any:
        return numba.njit(function, **{**options, "parallel": False, "cache": True})

    with mock.patch.object(umap.layouts, "numba", SimpleNamespace(njit=njit, typed=numba.typed, types=numba.types)):
        yield


@contextmanager
def _counted(umap: ModuleType, told: Told) -> Iterator[None]:
    """Tell of every epoch of a layout: the library counts them for a bar of its own, which nobody sees."""

    def counted(epochs: range, **options: Any) -> Iterator[int]:
        for done in epochs:
            yield done
            told(SEARCH + (1 - SEARCH) * (done + 1) / len(epochs))

    with mock.patch.object(umap.layouts, "tqdm", counted):
        yield


def _sampled(rows: Rows, ids: Ids, settings: MapSettings) -> Rows:
    """The rows of each map that are laid out together; maps of the same clips take the same ones."""
    if all(len(found) <= settings.most for found in rows.values()):
        return rows
    distinct = list(dict.fromkeys(name for named in ids.values() for name in named))
    order = np.random.default_rng(settings.seed).permutation(len(distinct))
    turn = dict(zip(distinct, order.tolist(), strict=True))
    chosen = {}
    for name, found in rows.items():
        turns = np.array([turn[ids[name][row]] for row in found])
        chosen[name] = np.sort(found[np.argsort(turns, kind="stable")[: settings.most]])
    return chosen


class _Search:
    """Stands where UMAP expects an index of the fitted points, and searches them exactly."""

    _angular_trees = True

    def __init__(self, points: np.ndarray) -> None:
        self._points = points

    def query(self, queries: np.ndarray, k: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows and distances of the nearest fitted points."""
        return nearest(queries, self._points, count=k)


def _everywhere(model: Any, values: np.ndarray, rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Places of all clips: of the fitted ones, then of the rest among them."""
    places = np.full((len(values), 2), np.nan, dtype=np.float32)
    places[chosen] = model.embedding_
    rest = np.setdiff1d(rows, chosen)
    if len(rest):
        model._knn_search_index = _Search(model._raw_data)
        places[rest] = model.transform(unit_rows(values[rest]))
    return _scaled(places)


def _scaled(places: np.ndarray) -> np.ndarray:
    """Positions that fill the square from -1 to 1, but for the outermost; clips that stand nowhere are left out."""
    low, high = np.nanquantile(places, [0.005, 0.995], axis=0)
    reach = float((high - low).max()) / 2 or 1.0
    return np.clip((places - (low + high) / 2) / reach, -1.1, 1.1).astype(np.float32)


def _relations(ids: Ids, rows: Rows) -> list[dict[int, int]]:
    """For each map but the last: row in it → row with the same id in the next."""
    found = []
    for first, second in pairwise(ids):
        places = {ids[second][row]: place for place, row in enumerate(rows[second])}
        here = {place: ids[first][row] for place, row in enumerate(rows[first])}
        same = {place: places[name] for place, name in here.items() if name in places}
        found.append(same or {0: 0})  # umap wants one; a single point holds nothing in place
    return found


def _numba_cache() -> Path:
    """Where compiled code is kept between processes."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mcnlab" / "numba"
