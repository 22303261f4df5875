"""Whether the files of a media manifest are there, looked at before anything is decoded."""

import shlex
from collections.abc import Sequence

from mcnlab.data.importers.media_manifest import MediaManifest, MediaRow
from mcnlab.data.media_files import file_of
from mcnlab.errors import DataError

FEWEST_GONE = 2
"""Files of a column that have to be missing, all of them, where another column has files that are there."""


def refuse_absent_files(table: MediaManifest) -> None:
    """Refuse a manifest of which no file is there, or a column of which none is: its paths are wrong, not its files.

    Args:
        table: the manifest.

    Raises:
        DataError: so it is; the first entry is named with its row, its value, and where it was looked for.
    """
    named = {column: [row for row in table.rows if getattr(row, column)] for column in ("video", "audio")}
    gone = {column: rows for column, rows in named.items() if rows and not _any_there(table, column, rows)}
    for column, rows in gone.items():
        if len(rows) < FEWEST_GONE and any(named[other] and other not in gone for other in named):
            continue
        value = getattr(rows[0], column)
        raise DataError(
            f"{table.path}: row {rows[0].line}: {column}: no such file: {value!r}, looked for as "
            f"{shlex.quote(str(file_of(table.folder.absolute(), value)))}; {_missing(len(rows))}. "
            "Relative paths begin at the folder of the table. Mend the column, or put the files there, and type the "
            "same command again"
        )


def _any_there(table: MediaManifest, column: str, rows: Sequence[MediaRow]) -> bool:
    """Whether a column has a file that is there; the first one ends the search."""
    return any(file_of(table.folder, getattr(row, column)).is_file() for row in rows)


def _missing(count: int) -> str:
    """That none of so many entries is there."""
    return f"none of the {count} files of this column is there" if count > 1 else "it is the only one of this column"
