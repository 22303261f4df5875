"""Tables of a run on disk."""

import io
from pathlib import Path

import pandas as pd

from mcnlab.files import write_bytes_atomically


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Put a Parquet file in place."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_bytes_atomically(path, buffer.getvalue())
