"""Parquet files that may come from others: none is read that would take far more memory than disk.

A value stands once in such a file, however often a column repeats it, so that a few kilobytes can unpack to gigabytes.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mcnlab.errors import DataError, reading_error

MOST_UNPACKED, ALWAYS_READ = 50, 2**26
"""A file that unpacks to more than so many times its size, and so many bytes besides, would fill the memory."""
WIDEST_NUMBER = 12
"""Bytes of the widest number that the format knows."""


def read_parquet(path: Path, *, columns: list[str] | None = None) -> pd.DataFrame:
    """A whole table.

    Args:
        path: a Parquet file.
        columns: those to read; all when None.

    Raises:
        DataError: there is no such file, it cannot be read, or it unpacks to far more than its bytes.
        StorageError: it may not be read.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; has the run been evaluated?")
    try:
        unpacking = Unpacking(path, pq.read_metadata(path))
        unpacking.refuse_too_much(range(unpacking.metadata.num_row_groups), columns)
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise reading_error(error)(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


class Unpacking:
    """How much memory a file takes: what is read of it is counted first, each part of it once."""

    def __init__(self, path: Path, metadata: pq.FileMetaData) -> None:
        """Nothing is counted yet.

        Args:
            path: the file.
            metadata: its own.
        """
        self.path, self.metadata = path, metadata
        self._size = path.stat().st_size
        self._most = MOST_UNPACKED * self._size + ALWAYS_READ
        self._bytes: dict[tuple[int, int], int] = {}
        names = metadata.schema.to_arrow_schema().names
        paths = [metadata.schema.column(leaf).path for leaf in range(metadata.num_columns)]
        self._roots = [_root(path, names) for path in paths]

    def refuse_too_much(self, groups: Iterable[int], columns: Sequence[str] | None) -> None:
        """Count parts that are about to be read.

        Args:
            groups: row groups.
            columns: names; all when None.

        Raises:
            DataError: together with what was counted before they take far more memory than the file has bytes.
        """
        leaves = [leaf for leaf, root in enumerate(self._roots) if columns is None or root in columns]
        for part in ((group, leaf) for group in groups for leaf in leaves):
            if part not in self._bytes:
                self._bytes[part] = self._bytes_of(*part)

    def _bytes_of(self, group: int, leaf: int) -> int:
        """What a part takes: its pages, its numbers, and texts that stand once and are repeated."""
        chunk = self.metadata.row_group(group).column(leaf)
        width = max(WIDEST_NUMBER, self.metadata.schema.column(leaf).length)
        pages = max(int(chunk.total_uncompressed_size), int(chunk.num_values) * width)
        self._refuse(pages)
        if chunk.physical_type != "BYTE_ARRAY" or not chunk.num_values:
            return pages
        path = chunk.path_in_schema
        with pq.ParquetFile(self.path, metadata=self.metadata, read_dictionary=[path]) as file:
            batches = file.iter_batches(batch_size=1, row_groups=[group], columns=[path], use_threads=False)
            longest = max((_longest(texts) for row in islice(batches, 1) for texts in _texts(row.column(0))), default=0)
            repeated = int(chunk.num_values) * longest  # at most; by far too much where one of many is long
            if self._leaves_room_for(pages + repeated):
                return pages + repeated
            table = file.read_row_group(group, columns=[path], use_threads=False)
        repeated = sum(_all_bytes(texts) for piece in table.column(0).chunks for texts in _texts(piece))
        self._refuse(pages + repeated)
        return pages + repeated

    def _leaves_room_for(self, more: int) -> bool:
        """Whether so many bytes may be added to what was counted."""
        return sum(list(self._bytes.values())) + more <= self._most  # a list, since other threads count too

    def _refuse(self, more: int) -> None:
        """Raise where they may not."""
        if not self._leaves_room_for(more):
            raise DataError(f"{self.path}: {self._size} bytes that unpack to more than {self._most}")


def _root(path: str, names: Sequence[str]) -> str:
    """The column that a leaf belongs to; names may have dots of their own."""
    return max((name for name in names if path == name or path.startswith(name + ".")), key=len, default=path)


def _texts(column: pa.Array) -> list[pa.DictionaryArray]:
    """The repeated texts in a column of texts, of lists of them, or of structures."""
    if isinstance(column, pa.DictionaryArray):
        return [column]
    if isinstance(column, pa.StructArray):
        return [texts for number in range(column.type.num_fields) for texts in _texts(column.field(number))]
    return _texts(column.values) if hasattr(column, "values") else []


def _longest(texts: pa.DictionaryArray) -> int:
    """Bytes of the longest text that can be repeated."""
    return max(pc.binary_length(texts.dictionary).to_pylist(), default=0)


def _all_bytes(texts: pa.DictionaryArray) -> int:
    """Bytes of all texts once each stands for itself."""
    times = np.bincount(texts.indices.drop_null().to_numpy(), minlength=len(texts.dictionary))
    return int(times @ pc.binary_length(texts.dictionary).to_numpy(zero_copy_only=False).astype(np.int64))
