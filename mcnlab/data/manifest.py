"""The manifest of an open store: one value per recording in memory, what belongs to clips read when it is asked for."""

import functools
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mcnlab.errors import DataError, reading_error
from mcnlab.parquet import Unpacking

CLIP_COLUMNS = ("clip_start_s", "clip_end_s", "caption", "label", "missing", "known_words")
"""Columns that hold a list with one entry per clip."""
_FACTOR = "factor:"
_READ_AT_ONCE = 2**14
"""Recordings whose clips are in memory at the same time while all are looked through."""
_GROUPS_KEPT = 4
"""Row groups that are remembered for reading recording by recording."""


class Manifest:
    """One row per recording.

    Its size in memory does not depend on the number of clips; lists of clips, captions and media stay in the file.
    """

    def __init__(self, file: Path, tracks: Sequence[str]) -> None:
        """Open a manifest.

        Args:
            file: `manifest.parquet`.
            tracks: names of the tracks of the store.

        Raises:
            DataError: the file is damaged or empty, or a column is missing.
        """
        self.file = file
        try:
            self._metadata = pq.read_metadata(file)
            names = self._metadata.schema.to_arrow_schema().names
            self._check(names, tracks)
            self._unpacking = Unpacking(file, self._metadata)
            numbers = ["duration_s", "shard", *(f"{track}_{what}" for track in tracks for what in ("start", "rows"))]
            table = self._read(range(self._metadata.num_row_groups), ["id", "split", *numbers])
        except (OSError, pa.ArrowException) as error:
            said = " ".join(str(error).split())
            raise reading_error(error)(f"{file}: not a readable Parquet file ({said})") from error
        self.ids: pa.Array = table["id"].combine_chunks()
        """(recordings,): the ids."""
        codes = table["split"].combine_chunks().dictionary_encode()
        self.splits: tuple[str, ...] = tuple(codes.dictionary.to_pylist())
        """Names of the splits in order of first appearance."""
        self.split_codes: np.ndarray = codes.indices.to_numpy()
        """(recordings,): place of each recording's split in `splits`."""
        self.numbers: dict[str, np.ndarray] = {name: table[name].to_numpy() for name in numbers}
        """(recordings,) by column: `duration_s`, `shard`, and by track where its rows start and how many there are."""
        self.factors: tuple[str, ...] = tuple(n.removeprefix(_FACTOR) for n in names if n.startswith(_FACTOR))
        self._group = functools.lru_cache(maxsize=_GROUPS_KEPT)(self._read_group)

    def __len__(self) -> int:
        return int(self._metadata.num_rows)

    def _check(self, names: Sequence[str], tracks: Sequence[str]) -> None:
        """Raise when a column or every row is missing."""
        wanted = ["id", "split", "duration_s", "shard", "media", "checksum", *CLIP_COLUMNS]
        wanted += [f"{track}_{what}" for track in tracks for what in ("start", "rows")]
        absent = [name for name in wanted if name not in names]
        if absent:
            raise DataError(f"{self.file}: the column {absent[0]!r} is missing")
        if len(self) == 0:
            raise DataError(f"{self.file}: the store is empty")

    @cached_property
    def clip_counts(self) -> np.ndarray:
        """(recordings,), int64: how many clips each recording has."""
        counts = [pc.list_value_length(table["known_words"]).to_numpy() for _, table in self.batches(("known_words",))]
        return np.concatenate(counts).astype(np.int64)

    @cached_property
    def clip_offsets(self) -> np.ndarray:
        """(recordings + 1,), int64: where the clips of each recording begin."""
        return np.concatenate([[0], np.cumsum(self.clip_counts)]).astype(np.int64)

    def clips_of(self, row: int) -> dict[str, list[Any]]:
        """What stands of the clips of one recording.

        Args:
            row: of the recording.

        Returns:
            By column a list with one entry per clip: `CLIP_COLUMNS` and `factor:NAME`.
        """
        return self._row(row, (*CLIP_COLUMNS, *(_FACTOR + name for name in self.factors)))

    def media_of(self, row: int) -> str:
        """The JSON text on a recording's media."""
        return str(self._row(row, ("media",))["media"])

    def batches(
        self, columns: Sequence[str], chosen: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Columns of the file, some thousand recordings at a time.

        Args:
            columns: their names.
            chosen: (recordings,), bool: which to keep; None keeps all.

        Yields:
            Rows of the recordings, (n,), and a table of as many rows.
        """
        starts, first = self._group_starts, 0
        while first < len(starts) - 1:
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + _READ_AT_ONCE, side="right")) - 1)
            rows = np.arange(starts[first], starts[last])
            if chosen is None or chosen[rows].any():
                table = self._read(range(first, last), columns)
                if chosen is not None and not chosen[rows].all():
                    table, rows = table.filter(pa.array(chosen[rows])), rows[chosen[rows]]
                yield rows, table
            first = last

    @cached_property
    def _group_starts(self) -> np.ndarray:
        """(row groups + 1,): the first recording of each row group."""
        sizes = [self._metadata.row_group(number).num_rows for number in range(self._metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def _row(self, row: int, columns: tuple[str, ...]) -> dict[str, Any]:
        """Some columns of one recording as plain values."""
        group = int(np.searchsorted(self._group_starts, row, side="right")) - 1
        own: dict[str, Any] = self._group(group, columns).slice(row - int(self._group_starts[group]), 1).to_pylist()[0]
        return own

    def _read_group(self, group: int, columns: tuple[str, ...]) -> pa.Table:
        """Some columns of one row group."""
        return self._read([group], columns)

    def _read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of some row groups, by a reader of this call alone: none is made for several threads."""
        self._unpacking.refuse_too_much(groups, columns)
        file = pq.ParquetFile(self.file, metadata=self._metadata, memory_map=True)
        return file.read_row_groups(list(groups), list(columns), use_threads=False)


def flat(column: pa.ChunkedArray) -> pa.Array:
    """The entries of a column of lists, one after the other.

    Args:
        column: (recordings,) of lists.

    Returns:
        (clips,).
    """
    return pa.chunked_array(column).combine_chunks().flatten() if column.num_chunks != 1 else column.chunk(0).flatten()


def lists_with(lists: pa.Array, text: str) -> np.ndarray:
    """Which lists of texts hold a text.

    Args:
        lists: (clips,) of lists of texts.
        text: looked for.

    Returns:
        (clips,), bool.
    """
    holds = np.zeros(len(lists), dtype=bool)
    found = pc.equal(lists.flatten(), text).to_numpy(zero_copy_only=False)
    holds[pc.list_parent_indices(lists).to_numpy()[found.astype(bool)]] = True
    return holds
