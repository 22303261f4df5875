"""Embeddings in two dimensions for the eye: aligned UMAP, computed once and kept on disk by content."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file, save

from mcnlab.errors import ConfigError, DataError, ShapeError
from mcnlab.files import write_bytes_atomically
from mcnlab.reporting.layout import DEFAULT, MapSettings, Told, lay_out
from mcnlab.reporting.neighbors import trust_and_overlap, unit_rows

FORMAT = 4
"""Raise when the same embeddings and settings would give another picture."""
FEWEST_CLIPS = 8
"""Below this there is nothing to lay out."""
LAYOUT = 0.9
"""Share of the work that is done when maps are laid out, and not yet judged."""


@dataclass(frozen=True)
class Maps:
    """Positions of the same clips in several maps, and how far to trust them."""

    positions: Mapping[str, Float[np.ndarray, "clips 2"]]
    """Map name → place of each clip; NaN where the clip lacks the modality. Axes have no unit."""
    trust: Mapping[str, float]
    """Map name → trustworthiness, 1 is best: whether neighbors on the map are neighbors in the embedding."""
    overlap: Mapping[str, float]
    """Map name → share of a clip's nearest neighbors in the embedding that are so on the map, from 0 to 1."""
    repeatable: bool = True
    """Whether the same embeddings and settings give these positions again; not so without a seed."""


def aligned_maps(
    embeddings: Mapping[str, Float[np.ndarray, "points _"]],
    *,
    ids: Mapping[str, Sequence[str]] | None = None,
    settings: MapSettings = DEFAULT,
    cache: Path | None = None,
    told: Told = lambda share: None,
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
        told: how far it has come; not called for what was kept.

    Returns:
        The maps, identical for identical input unless the seed is None; what was kept is shown again either way.

    Raises:
        ConfigError: a setting makes no map.
        ShapeError: ids do not fit the rows.
        DataError: there is no embedding, or one has fewer than 8 points.

    Source:
        McInnes, Healy, Melville 2018 (arXiv 1802.03426), and the aligned variant of umap-learn.
    """
    arrays, named = _named(embeddings, ids)
    _check(arrays, named, settings)
    path = None if cache is None else _place(arrays, named, settings, cache)
    if path is not None and path.exists():
        return _read(path)
    positions = lay_out(arrays, named, settings, told=lambda share: told(LAYOUT * share))
    judged: dict[str, tuple[float, float]] = {}
    for name, values in arrays.items():
        judged[name] = _judge(values, positions[name], settings)
        told(LAYOUT + (1 - LAYOUT) * len(judged) / len(arrays))
    trust, overlap = ({name: pair[place] for name, pair in judged.items()} for place in (0, 1))
    maps = Maps(positions, trust, overlap, repeatable=settings.seed is not None)
    if path is not None:
        _write(path, maps)
    return maps


def kept_maps(
    embeddings: Mapping[str, Float[np.ndarray, "points _"]],
    *,
    ids: Mapping[str, Sequence[str]] | None = None,
    settings: MapSettings = DEFAULT,
    cache: Path,
) -> Maps | None:
    """What `aligned_maps` kept for the same arguments.

    Args:
        embeddings: map name → (points, dim).
        ids: map name → what each row is.
        settings: of the layout.
        cache: folder where results are kept.

    Returns:
        The maps; None where they were not laid out yet.

    Raises:
        ConfigError: a setting makes no map.
        ShapeError: ids do not fit the rows.
        DataError: there is no embedding, or one has fewer than 8 points.
    """
    arrays, named = _named(embeddings, ids)
    _check(arrays, named, settings)
    path = _place(arrays, named, settings, cache)
    return _read(path) if path.exists() else None


def compile_ahead() -> None:
    """Compile what the first map on a machine has to wait for, about half a minute; for a set-up step."""
    random = np.random.default_rng(0)
    aligned_maps({name: random.normal(size=(4 * FEWEST_CLIPS, 4)) for name in "ab"})
    aligned_maps({"single": random.normal(size=(4 * FEWEST_CLIPS, 4))})


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


def _named(
    embeddings: Mapping[str, np.ndarray], ids: Mapping[str, Sequence[str]] | None
) -> tuple[dict[str, np.ndarray], Mapping[str, Sequence[str]]]:
    """Embeddings as float32, and what each row is."""
    arrays = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in embeddings.items()}
    return arrays, ids or {name: [str(row) for row in range(len(values))] for name, values in arrays.items()}


def _place(
    arrays: Mapping[str, np.ndarray], ids: Mapping[str, Sequence[str]], settings: MapSettings, cache: Path
) -> Path:
    """The file that keeps maps."""
    return cache / f"maps-{_key(arrays, ids, settings)}.safetensors"


def _check(arrays: Mapping[str, np.ndarray], ids: Mapping[str, Sequence[str]], settings: MapSettings) -> None:
    """Enough points, a name for each, and settings that lay out enough of them."""
    for field, fewest in (("neighbors", 2), ("epochs", 1), ("most", FEWEST_CLIPS)):
        if getattr(settings, field) < fewest:
            raise ConfigError(f"{field} of a map must be at least {fewest}, got {getattr(settings, field)}")
    for name, values in arrays.items():
        if len(values) != len(ids[name]):
            raise ShapeError(f"{name}: {len(values)} points but {len(ids[name])} ids")
    fewest = min((int(np.isfinite(values).all(axis=1).sum()) for values in arrays.values()), default=0)
    if fewest < FEWEST_CLIPS:
        raise DataError(f"a map needs at least {FEWEST_CLIPS} clips, got {fewest}")


def _judge(embedding: np.ndarray, places: np.ndarray, settings: MapSettings) -> tuple[float, float]:
    """Trustworthiness and neighbor overlap of one map."""
    present = np.isfinite(embedding).all(axis=1)
    count = min(settings.neighbors, (int(present.sum()) - 1) // 2)
    return trust_and_overlap(unit_rows(embedding[present]), np.nan_to_num(places[present]), count=count)


def _key(arrays: Mapping[str, np.ndarray], ids: Mapping[str, Sequence[str]], settings: MapSettings) -> str:
    """A hash of all that a picture depends on."""
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **asdict(settings)}, sort_keys=True).encode())
    for name, values in arrays.items():
        digest.update(f"{name}\0{values.shape}\0".encode())
        digest.update(values.data)
        digest.update(json.dumps(list(ids[name])).encode())
    return digest.hexdigest()[:32]


def _write(path: Path, maps: Maps) -> None:
    """Keep maps on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"order": list(maps.positions), "trust": dict(maps.trust), "overlap": dict(maps.overlap)}
    written = np.frombuffer(json.dumps({**facts, "repeatable": maps.repeatable}).encode(), dtype=np.uint8).copy()
    numbered = {str(number): values for number, values in enumerate(maps.positions.values())}
    write_bytes_atomically(path, save({**numbered, "facts": written}))


def _read(path: Path) -> Maps:
    """Maps from disk."""
    stored = load_file(path)
    facts = json.loads(stored.pop("facts").tobytes())
    positions = {name: stored[str(number)] for number, name in enumerate(facts["order"])}
    return Maps(positions, facts["trust"], facts["overlap"], repeatable=facts["repeatable"])
