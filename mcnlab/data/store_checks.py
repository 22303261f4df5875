"""Checks that stand between a folder on disk and a `Store`: files, columns, widths and row ranges."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mcnlab.data.shards import mapped_tensors, shard_file
from mcnlab.data.store_writer import FORMAT
from mcnlab.errors import DataError

CLIP_COLUMNS = ("clip_start_s", "clip_end_s", "caption", "label", "missing", "known_words")
"""Manifest columns that hold a list with one entry per clip."""


def read_info(path: Path) -> dict[str, Any]:
    """The checked content of `store.json`.

    Args:
        path: folder of the store.

    Returns:
        Its plain values.

    Raises:
        DataError: there is no store, or its `store.json` is damaged, of another format, or lacks a field.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such store")
    file = path / "store.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: not a store (it has no store.json)") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable JSON ({error})") from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        found = info.get("format") if isinstance(info, dict) else type(info).__name__
        raise DataError(f"{file}: format {found!r}, expected {FORMAT}")
    absent = [name for name in ("name", "fingerprint", "tracks", "files", "words") if name not in info]
    if absent:
        raise DataError(f"{file}: the field {absent[0]!r} is missing")
    return info


def read_manifest(file: Path, tracks: list[str]) -> pa.Table:
    """The manifest with all the columns that a store must have.

    Args:
        file: `manifest.parquet`.
        tracks: names of the tracks of the store.

    Returns:
        One row per recording, at least one.

    Raises:
        DataError: the file is damaged or empty, or a column is missing.
    """
    try:
        manifest = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: not a readable Parquet file ({error})") from error
    wanted = ["id", "split", "duration_s", "shard", "media", "checksum", *CLIP_COLUMNS]
    wanted += [f"{track}_{what}" for track in tracks for what in ("start", "rows")]
    absent = [name for name in wanted if name not in manifest.column_names]
    if absent:
        raise DataError(f"{file}: the column {absent[0]!r} is missing")
    if manifest.num_rows == 0:
        raise DataError(f"{file}: the store is empty")
    return manifest


def check_rows(path: Path, info: Mapping[str, Any], manifest: pa.Table) -> None:
    """Compare the manifest with the shards.

    Args:
        path: folder of the store.
        info: content of `store.json`.
        manifest: one row per recording.

    Raises:
        DataError: a row points outside its shard, or a shard has another width than its track.
    """
    shards = manifest["shard"].to_numpy()
    for shard in np.unique(shards):
        tensors = mapped_tensors(path / shard_file(int(shard)))
        rows = np.flatnonzero(shards == shard)
        for track in info["tracks"]:
            name = track["name"]
            if name not in tensors or tensors[name].ndim != 2 or tensors[name].shape[1] != track["dim"]:
                shape = tensors[name].shape if name in tensors else "missing"
                raise DataError(f"{path / shard_file(int(shard))}: {name} is {shape}, expected (rows, {track['dim']})")
            start = manifest[f"{name}_start"].to_numpy()[rows]
            end = start + manifest[f"{name}_rows"].to_numpy()[rows]
            outside = np.flatnonzero((start < 0) | (end < start) | (end > len(tensors[name])))
            if len(outside):
                culprit = manifest["id"][int(rows[outside[0]])].as_py()
                raise DataError(f"{path / 'manifest.parquet'}: {culprit}: {name} rows lie outside the shard")
