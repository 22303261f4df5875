"""The table of clips that a store hands out, put together from the columns of its manifest."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mcnlab.data.manifest import CLIP_COLUMNS, Manifest, flat, lists_with
from mcnlab.data.records import Track
from mcnlab.modalities import MODALITIES, in_order


def clip_table(manifest: Manifest, tracks: Sequence[Track], split: str | None) -> pd.DataFrame:
    """One row per clip, see `mcnlab.data.store.Store.clips`.

    Args:
        manifest: of the store.
        tracks: of the store.
        split: a split that the manifest has; all where None.

    Returns:
        Captions, ids and splits stand in arrow's memory, not as Python objects.
    """
    chosen = None if split is None else manifest.split_codes == manifest.splits.index(split)
    names = (*CLIP_COLUMNS, *(f"factor:{name}" for name in manifest.factors))
    parts = [_columns(manifest, tracks, rows, table) for rows, table in manifest.batches(names, chosen)]
    joined = {name: _joined([part.pop(name) for part in parts]) for name in list(parts[0])}
    places = joined.pop("place")
    clips = pd.DataFrame(joined, copy=False)
    if split is not None:
        clips.index = pd.Index(places)
    return clips


def modalities_of(manifest: Manifest, tracks: Sequence[Track]) -> tuple[str, ...]:
    """Modalities that at least one clip has.

    Args:
        manifest: of the store.
        tracks: of the store.

    Returns:
        In the usual order.
    """
    found = set[str]()
    for rows, table in manifest.batches(("missing", "known_words")):
        recording = np.repeat(rows, manifest.clip_counts[rows])
        found.update(name for name, has in _presence(manifest, tracks, recording, table).items() if has.any())
    return in_order(name.removeprefix("has_") for name in found)


def labels_of(manifest: Manifest) -> tuple[str, ...]:
    """The classes of the clips, sorted.

    Args:
        manifest: of the store.

    Returns:
        Empty without labels.
    """
    found = [pc.unique(flat(table["label"])).to_pylist() for _, table in manifest.batches(("label",))]
    return tuple(sorted({label for labels in found for label in labels if label is not None}))


def _columns(manifest: Manifest, tracks: Sequence[Track], rows: np.ndarray, table: pa.Table) -> dict[str, Any]:
    """The columns of the clips of some recordings, and under `place` where each clip stands in the store."""
    counts = manifest.clip_counts[rows]
    recording = np.repeat(rows, counts)
    number = np.arange(len(recording)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = manifest.ids.take(pa.array(recording))
    return {
        "place": manifest.clip_offsets[recording] + number,
        "recording": recording,
        "id": pc.binary_join_element_wise(ids, pa.array(number).cast(pa.string()), ":"),
        "split": pa.array(manifest.splits).take(pa.array(manifest.split_codes[recording])),
        "start_s": flat(table["clip_start_s"]).to_numpy(zero_copy_only=False),
        "end_s": flat(table["clip_end_s"]).to_numpy(zero_copy_only=False),
        "caption": flat(table["caption"]),
        "label": _objects(flat(table["label"])),
        **_presence(manifest, tracks, recording, table),
        **{f"factor:{name}": flat(table[f"factor:{name}"]) for name in manifest.factors},
    }


def _presence(
    manifest: Manifest, tracks: Sequence[Track], recording: np.ndarray, table: pa.Table
) -> dict[str, np.ndarray]:
    """Per modality, which clips have it; `recording` is the row of each clip's recording."""
    missing = flat(table["missing"])
    present = {}
    further = [name for name in in_order(track.modality for track in tracks) if name not in MODALITIES]
    for modality in ("video", "audio", *further):
        some = np.zeros(len(manifest), dtype=bool)
        for track in tracks:
            if track.modality == modality:
                some |= manifest.numbers[f"{track.name}_rows"] > 0
        present[f"has_{modality}"] = some[recording] & ~lists_with(missing, modality)
    known = flat(table["known_words"]).to_numpy(zero_copy_only=False) > 0
    present["has_text"] = known & ~lists_with(missing, "text")
    return {f"has_{name}": present[f"has_{name}"] for name in (*MODALITIES, *further)}


def _objects(texts: pa.Array) -> np.ndarray:
    """Texts that repeat as objects, one object for all equal ones; None where there is none."""
    codes = texts.dictionary_encode()
    known = np.array([*codes.dictionary.to_pylist(), None], dtype=object)
    return known[codes.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]


def _joined(parts: Iterable[Any]) -> Any:
    """The pieces of a column as one."""
    parts = list(parts)
    if not isinstance(parts[0], pa.Array):
        whole = np.concatenate(parts)
        return pd.Series(whole, dtype=object) if whole.dtype == object else whole
    return pa.chunked_array(parts).to_pandas()
