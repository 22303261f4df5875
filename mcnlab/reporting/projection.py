"""Embeddings in two dimensions for the eye: aligned UMAP, computed once and kept on disk by content."""

import functools
import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file, save
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from mcnlab.errors import DataError, ShapeError
from mcnlab.files import write_bytes_atomically

FORMAT = 2
"""Raise when the same embeddings and settings would give another picture."""
FEWEST_CLIPS = 8
"""Below this there is nothing to lay out."""


@dataclass(frozen=True)
class MapSettings:
    """How maps are drawn."""

    neighbors: int = 10
    """Clips whose distance counts, per clip."""
    epochs: int = 80
    """Rounds of the layout."""
    window: int = 2
    """Maps before and after one that it is held close to."""
    pull: float = 0.01
    """Strength of that hold."""
    seed: int = 0


@dataclass(frozen=True)
class Maps:
    """Positions of the same clips in several maps, and how far to trust them."""

    positions: Mapping[str, Float[np.ndarray, "clips 2"]]
    """Map name → place of each clip; NaN where the clip lacks the modality. Axes have no unit."""
    trust: Mapping[str, float]
    """Map name → trustworthiness, 1 is best: whether neighbors on the map are neighbors in the embedding."""
    overlap: Mapping[str, float]
    """Map name → share of a clip's nearest neighbors in the embedding that are so on the map, from 0 to 1."""


def aligned_maps(
    embeddings: Mapping[str, Float[np.ndarray, "points _"]],
    *,
    ids: Mapping[str, Sequence[str]] | None = None,
    settings: MapSettings = MapSettings(),
    cache: Path | None = None,
) -> Maps:
    """Lay out several embeddings of the same clips so that the maps can be compared by eye.

    All maps are fitted together: each clip is pulled towards its own place in the neighboring maps. Maps fitted
    one by one turn, mirror and tear differently even for equal data. Distances are cosine, neighbors exact.

    Args:
        embeddings: map name → (points, dim), in the order in which maps are neighbors. Rows of NaN are clips without
            the modality.
        ids: map name → what each row is; equal ids in neighboring maps are held together. None: the same clips in the
            same order everywhere.
        settings: of the layout.
        cache: folder where results are kept, by a hash of embeddings and settings; None keeps nothing.

    Returns:
        The maps, identical for identical input.

    Raises:
        ShapeError: ids do not fit the rows.
        DataError: there is no embedding, or one has fewer than 8 points.

    Source:
        McInnes, Healy, Melville 2018 (arXiv 1802.03426), and the aligned variant of umap-learn.
    """
    arrays = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in embeddings.items()}
    named = ids or {name: [str(row) for row in range(len(values))] for name, values in arrays.items()}
    _check(arrays, named)
    path = None if cache is None else cache / f"maps-{_key(arrays, named, settings)}.safetensors"
    if path is not None and path.exists():
        return _read(path)
    positions = _fit(arrays, named, settings)
    present = {name: np.isfinite(values).all(axis=1) for name, values in arrays.items()}
    judged = {name: _judge(arrays[name][rows], positions[name][rows], settings) for name, rows in present.items()}
    maps = Maps(positions, {k: v[0] for k, v in judged.items()}, {k: v[1] for k, v in judged.items()})
    if path is not None:
        _write(path, maps)
    return maps


def compile_ahead() -> None:
    """Compile what the first map on a machine has to wait for, about half a minute; for a set-up step."""
    random = np.random.default_rng(0)
    aligned_maps({name: random.normal(size=(4 * FEWEST_CLIPS, 4)) for name in "ab"})


def stratified_sample(labels: list[str | None], *, most: int, seed: int = 0) -> Int[np.ndarray, " chosen"]:
    """Rows to draw when there are too many: every class keeps its share.

    Args:
        labels: class of each row; None counts as a class of its own.
        most: number of rows to keep at most.
        seed: of the choice.

    Returns:
        Sorted row numbers; all of them when there are no more than `most`.

    Example:
        >>> stratified_sample(["a", "b", "a"], most=5).tolist()
        [0, 1, 2]
    """
    count = len(labels)
    if count <= most:
        return np.arange(count)
    order = np.random.default_rng(seed).permutation(count)
    by_class = order[np.argsort(np.array([str(labels[row]) for row in order]), kind="stable")]
    return np.sort(by_class[np.linspace(0, count - 1, most).round().astype(int)])


def _check(arrays: Mapping[str, np.ndarray], ids: Mapping[str, Sequence[str]]) -> None:
    """Enough points, and a name for each."""
    for name, values in arrays.items():
        if len(values) != len(ids[name]):
            raise ShapeError(f"{name}: {len(values)} points but {len(ids[name])} ids")
    fewest = min((int(np.isfinite(values).all(axis=1).sum()) for values in arrays.values()), default=0)
    if fewest < FEWEST_CLIPS:
        raise DataError(f"a map needs at least {FEWEST_CLIPS} clips, got {fewest}")


def _fit(
    arrays: Mapping[str, np.ndarray], ids: Mapping[str, Sequence[str]], settings: MapSettings
) -> dict[str, np.ndarray]:
    """Positions by aligned UMAP; clips that lack a modality take no part in its map."""
    umap = _umap()
    rows = {name: np.flatnonzero(np.isfinite(values).all(axis=1)) for name, values in arrays.items()}
    names = list(arrays)
    neighbors = min(settings.neighbors, min(len(found) for found in rows.values()) - 1)
    common = {"n_neighbors": neighbors, "metric": "cosine", "n_epochs": settings.epochs, "random_state": settings.seed}
    present = [arrays[name][rows[name]] for name in names]
    with warnings.catch_warnings(), _graphs_only(umap):
        warnings.simplefilter("ignore")  # that a seed means one thread; sparse eigenvectors of small graphs
        if len(names) == 1:
            found = [umap.UMAP(**common).fit_transform(present[0])]
        else:
            pull = {"alignment_window_size": settings.window, "alignment_regularisation": settings.pull}
            aligned = umap.AlignedUMAP(**common, **pull, transform_seed=settings.seed)
            found = aligned.fit(present, relations=_relations(ids, rows)).embeddings_
    placed = zip(names, found, strict=True)
    return {name: _placed(np.asarray(places), rows[name], len(arrays[name])) for name, places in placed}


def _umap() -> ModuleType:
    """The library, told to keep on disk what it compiles: two seconds to load, twenty to compile without that."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_numba_cache()))  # read when numba is first imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tensorflow is not there
        # only maps that are not on disk yet need them
        import umap
        import umap.aligned_umap
        from numba.core.dispatcher import Dispatcher

    for module in (umap.umap_, umap.aligned_umap, umap.utils):
        for function in vars(module).values():
            if isinstance(function, Dispatcher) and not function.signatures:
                function.enable_caching()
    return umap


def _graphs_only(umap: ModuleType) -> AbstractContextManager[object]:
    """Keep AlignedUMAP from laying out each map by itself before it lays out all together: half of its time."""
    graphs = functools.partial(umap.UMAP, transform_mode="graph")
    return mock.patch.object(umap.aligned_umap, "UMAP", graphs)


def _relations(ids: Mapping[str, Sequence[str]], rows: Mapping[str, np.ndarray]) -> list[dict[int, int]]:
    """For each map but the last: row in it → row with the same id in the next."""
    found = []
    for first, second in itertools.pairwise(ids):
        places = {ids[second][row]: place for place, row in enumerate(rows[second])}
        here = {place: ids[first][row] for place, row in enumerate(rows[first])}
        same = {place: places[name] for place, name in here.items() if name in places}
        found.append(same or {0: 0})  # umap wants one; a single point holds nothing in place
    return found


def _placed(places: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Positions of all clips, NaN for those that are not on the map; each map fills the square from -1 to 1."""
    low, high = np.nanquantile(places, [0.005, 0.995], axis=0)
    reach = float((high - low).max()) / 2 or 1.0
    placed = np.full((count, 2), np.nan, dtype=np.float32)
    placed[rows] = np.clip((places - (low + high) / 2) / reach, -1.1, 1.1)
    return placed


def _judge(embedding: np.ndarray, places: np.ndarray, settings: MapSettings) -> tuple[float, float]:
    """Trustworthiness and neighbor overlap of one map."""
    k = min(settings.neighbors, (len(places) - 1) // 2)
    shown = np.nan_to_num(places)
    near = NearestNeighbors(n_neighbors=k, metric="cosine").fit(embedding).kneighbors(return_distance=False)
    near_on_map = NearestNeighbors(n_neighbors=k).fit(shown).kneighbors(return_distance=False)
    common = [len(np.intersect1d(*pair)) for pair in zip(near, near_on_map, strict=True)]
    return float(trustworthiness(embedding, shown, n_neighbors=k, metric="cosine")), float(np.mean(common) / k)


def _key(arrays: Mapping[str, np.ndarray], ids: Mapping[str, Sequence[str]], settings: MapSettings) -> str:
    """A hash of all that a picture depends on."""
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **asdict(settings)}, sort_keys=True).encode())
    for name, values in arrays.items():
        digest.update(f"{name}\0{values.shape}\0".encode() + values.tobytes() + json.dumps(list(ids[name])).encode())
    return digest.hexdigest()[:32]


def _write(path: Path, maps: Maps) -> None:
    """Keep maps on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"order": list(maps.positions), "trust": dict(maps.trust), "overlap": dict(maps.overlap)}
    numbered = {str(number): values for number, values in enumerate(maps.positions.values())}
    written = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8).copy()
    write_bytes_atomically(path, save({**numbered, "facts": written}))


def _read(path: Path) -> Maps:
    """Maps from disk."""
    stored = load_file(path)
    facts = json.loads(stored.pop("facts").tobytes())
    positions = {name: stored[str(number)] for number, name in enumerate(facts["order"])}
    return Maps(positions, facts["trust"], facts["overlap"])


def _numba_cache() -> Path:
    """Where compiled code is kept between processes."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mcnlab" / "numba"
