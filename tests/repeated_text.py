"""Parquet files in which one long text stands once and is repeated."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def texts_of(column: pa.Array) -> pa.Array | None:
    """The texts of a column, also of one of lists; None where it holds others."""
    texts = column.values if isinstance(column, pa.ListArray) else column
    return texts if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type) else None


def columns_of_texts(path: Path) -> list[str]:
    """Names of the columns that can be repeated."""
    table = pq.read_table(path)
    return [name for name in table.column_names if texts_of(table[name].combine_chunks()) is not None]


def repeat_text(path: Path, name: str, *, length: int, store_schema: bool = False) -> None:
    """Make all texts of a column one.

    Args:
        path: the Parquet file; is written again.
        name: of the column.
        length: of the text.
        store_schema: whether the file says that its texts are a dictionary.
    """
    table = pq.read_table(path)
    column = table[name].combine_chunks()
    codes = pa.array(np.zeros(len(texts_of(column)), np.int32))
    texts = pa.DictionaryArray.from_arrays(codes, pa.array(["x" * length]))
    if isinstance(column, pa.ListArray):
        texts = pa.ListArray.from_arrays(column.offsets, texts)
    table = table.set_column(table.column_names.index(name), name, texts)
    pq.write_table(table, path, compression="zstd", store_schema=store_schema)
