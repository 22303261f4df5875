"""What a recording becomes in a store: checked values, rows of a shard, a row of the manifest."""

import json
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mcnlab.data.arrays import to_float16
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.shards import write_tensors
from mcnlab.data.text import tokens
from mcnlab.errors import DataError
from mcnlab.files import new_file_atomically

RECORDINGS_PER_GROUP = 256
"""Least recordings of a row group of the manifest: what is read to look at one of them."""


def check_values(recording: Recording) -> None:
    """Refuse a recording whose plain values are impossible.

    Args:
        recording: its tracks are not looked at.

    Raises:
        DataError: naming the recording and what is wrong.
    """
    for name, text in _texts(recording):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise DataError(f"{recording.id!a}: {name} {text!a:.80} is a text that is no Unicode")
    if not recording.id:
        raise DataError(f"{recording.id!r}: the id of a recording must be unique and not empty")
    if not recording.split:
        raise DataError(f"{recording.id}: no split")
    if not recording.clips:
        raise DataError(f"{recording.id}: no clips")
    if not math.isfinite(recording.duration_s) or recording.duration_s <= 0:
        raise DataError(f"{recording.id}: duration {recording.duration_s} s")
    for clip in recording.clips:
        if not 0 <= clip.start_s < clip.end_s <= recording.duration_s + 1e-6:
            window = f"{clip.start_s} to {clip.end_s} s"
            raise DataError(f"{recording.id}: a clip from {window} in {recording.duration_s} s")


def _texts(recording: Recording) -> Iterator[tuple[str, str]]:
    """All texts that a recording brings along, by what they are."""
    yield from (("the id", recording.id), ("the split", recording.split))
    for clip in recording.clips:
        yield from (("the caption", clip.caption), ("the label", clip.label or ""))
        for name, value in clip.factors.items():
            yield from (("the name of a factor", name), (f"factor {name!a}", str(value)))
    yield from (("the label of a box", box.label or "") for box in recording.boxes)


def stored_tracks(recording: Recording, tracks: Mapping[str, Track]) -> dict[str, np.ndarray]:
    """The tracks of a recording as they are stored.

    Args:
        recording: its tracks may be of any type of plain numbers.
        tracks: those of the store, by name.

    Returns:
        (rows, dim) float16 by track name.

    Raises:
        DataError: a track is unknown, of another width, or not finite in float16.
    """
    return {name: _stored_track(recording, name, tracks) for name in recording.tracks}


def _stored_track(recording: Recording, name: str, tracks: Mapping[str, Track]) -> np.ndarray:
    """One track as it is stored."""
    if name not in tracks:
        raise DataError(f"{recording.id}: unknown track {name!r}; this store has {', '.join(tracks)}")
    values = np.asarray(recording.tracks[name])
    if values.ndim != 2 or values.shape[1] != tracks[name].dim:
        raise DataError(f"{recording.id}: {name} has shape {values.shape}, expected (rows, {tracks[name].dim})")
    try:
        return to_float16(values)
    except DataError as error:
        raise DataError(f"{recording.id}: {name} {error}") from error


class OpenShard:
    """Gathers the rows of recordings until they are written as one shard.

    Args:
        number: of the shard.
        tracks: those of the store, by name.
    """

    def __init__(self, number: int, tracks: Mapping[str, Track]) -> None:
        self.number = number
        self._tracks = tracks
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in tracks}
        self._rows = dict.fromkeys(tracks, 0)

    @property
    def bytes(self) -> int:
        """Size of the rows so far."""
        return sum(2 * track.dim * self._rows[name] for name, track in self._tracks.items())

    def add(self, recording: Recording, arrays: Mapping[str, np.ndarray], words: Container[str]) -> dict[str, Any]:
        """Take a recording.

        Args:
            recording: checked by `check_values`.
            arrays: its tracks, made by `stored_tracks`.
            words: words that have a vector.

        Returns:
            Its row of the manifest as plain values, without a checksum.

        Raises:
            DataError: a factor is not finite.
        """
        row = _values(recording, words) | {"shard": self.number}
        for name in self._tracks:
            row[f"{name}_start"] = self._rows[name]
            row[f"{name}_rows"] = len(arrays[name]) if name in arrays else 0
        for name, values in arrays.items():
            self._parts[name].append(values)
            self._rows[name] += len(values)
        return row

    def write(self, path: Path) -> dict[str, Any]:
        """Put the shard in place in one step.

        Args:
            path: the file.

        Returns:
            Its `bytes` and `sha256`.
        """
        empty = {name: np.zeros((0, track.dim), np.float16) for name, track in self._tracks.items()}
        return write_tensors(path, {name: parts or [empty[name]] for name, parts in self._parts.items()})


def manifest_table(rows: Sequence[Mapping[str, Any]], tracks: Sequence[str]) -> pa.Table:
    """The manifest as a table with a fixed type per column.

    Args:
        rows: plain values by column; `factors` holds one mapping per clip.
        tracks: names of the store's tracks.

    Returns:
        One row per recording.

    Raises:
        DataError: a factor is a number in some clips and a text in others.
    """
    types: dict[str, pa.DataType] = {
        "id": pa.string(),
        "split": pa.string(),
        "duration_s": pa.float64(),
        "shard": pa.int32(),
        **{f"{track}_{what}": pa.int64() for track in tracks for what in ("start", "rows")},
        "clip_start_s": pa.list_(pa.float64()),
        "clip_end_s": pa.list_(pa.float64()),
        "caption": pa.list_(pa.string()),
        "label": pa.list_(pa.string()),
        "missing": pa.list_(pa.list_(pa.string())),
        "known_words": pa.list_(pa.int32()),
        "media": pa.string(),
        "checksum": pa.string(),
    }
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
    for name in dict.fromkeys(name for row in rows for clip in row["factors"] for name in clip):
        columns[f"factor:{name}"] = _factor_column(name, [[clip.get(name) for clip in row["factors"]] for row in rows])
    return pa.table(columns)


def join_manifest(parts: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Put the rows of all parts into one file, in row groups small enough for reading a single recording.

    Args:
        parts: what `manifest_table` made; one after the other is looked at.
        schema: of all of them together, see `joined_schema`.
        path: the file; its folder exists.

    Raises:
        StorageError: the disk or the permissions do not allow it.
    """
    gathered: list[pa.Table] = []
    with new_file_atomically(path) as file, pq.ParquetWriter(file, schema) as writer:
        for part in parts:
            gathered.append(_completed(part, schema))
            if sum(map(len, gathered)) >= RECORDINGS_PER_GROUP:
                writer.write_table(pa.concat_tables(gathered), row_group_size=sum(map(len, gathered)))
                gathered = []
        if gathered:
            writer.write_table(pa.concat_tables(gathered), row_group_size=max(1, sum(map(len, gathered))))


def joined_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of all parts of a manifest.

    Args:
        schemas: of the parts, at least one.

    Returns:
        Columns in order of first appearance.

    Raises:
        DataError: a factor is a number in some clips and a text in others.
    """
    try:
        return pa.unify_schemas(list(schemas))
    except pa.ArrowTypeError as error:
        types: dict[str, set[str]] = {}
        for field in (field for schema in schemas for field in schema):
            types.setdefault(field.name, set()).add(str(field.type))
        name = next(name for name, kinds in types.items() if len(kinds) > 1).removeprefix("factor:")
        raise DataError(f"factor {name} is a number in some clips and a text in others") from error


def _completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A part with all columns; a factor that it lacks is empty."""
    for field in (field for field in schema if field.name not in table.column_names):
        counts = pc.list_value_length(table["clip_start_s"]).to_pylist()
        table = table.append_column(field, pa.array([[None] * count for count in counts], field.type))
    return table.select(schema.names)


def _factor_column(name: str, values: list[list[float | str | None]]) -> pa.Array:
    """A factor's values per clip, all numbers or all texts."""
    kinds = {type(value) for row in values for value in row if value is not None}
    if len(kinds) > 1:
        raise DataError(f"factor {name} is a number in some clips and a text in others")
    return pa.array(values, pa.list_(pa.string() if kinds == {str} else pa.float64()))


def _values(recording: Recording, words: Container[str]) -> dict[str, Any]:
    """The columns of the manifest that do not depend on a shard."""
    clips = recording.clips
    return {
        "id": recording.id,
        "split": recording.split,
        "duration_s": float(recording.duration_s),
        "clip_start_s": [float(clip.start_s) for clip in clips],
        "clip_end_s": [float(clip.end_s) for clip in clips],
        "caption": [clip.caption for clip in clips],
        "label": [clip.label for clip in clips],
        "missing": [list(clip.missing) for clip in clips],
        "known_words": [sum(word in words for word in tokens(clip.caption)) for clip in clips],
        "factors": [{name: _plain_factor(recording.id, name, clip) for name in clip.factors} for clip in clips],
        "media": json.dumps(dict(recording.media), sort_keys=True),
    }


def _plain_factor(recording: str, name: str, clip: Clip) -> float | str:
    """A factor value as a plain float or text."""
    value = clip.factors[name]
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise DataError(f"{recording}: factor {name} is {value}")
    return float(value)
