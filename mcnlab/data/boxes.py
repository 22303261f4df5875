"""Where things are in the frames of a recording, and when they sound: the truth that localization is scored by."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mcnlab.errors import DataError
from mcnlab.files import new_file_atomically
from mcnlab.parquet import read_parquet

BOXES_FILE = "boxes.parquet"
"""Name inside a store; a store without truth of this kind has no such file."""
SIDES = ("left", "top", "right", "bottom")
"""Columns of a box: shares of the frame's width and height, from its upper left corner."""
_SCHEMA = pa.schema(
    [
        ("recording", pa.int64()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("thing", pa.int64()),
        ("label", pa.string()),
        *((side, pa.float64()) for side in SIDES),
        ("sounding", pa.bool_()),
        ("annotator", pa.int64()),
    ]
)
BOX_COLUMNS = tuple(_SCHEMA.names)
"""Columns of the table."""


@dataclass(frozen=True)
class Box:
    """One thing during a short time: a frame, or as long as its place is known not to change.

    A thing that is heard but not seen has no sides: all four are None.
    """

    start_s: float
    end_s: float
    left: float | None
    """Shares of the frame's width and height, 0 to 1."""
    top: float | None
    right: float | None
    bottom: float | None
    thing: int = 0
    """Number of the thing within its recording: the same thing keeps it over time."""
    label: str | None = None
    """Its class."""
    sounding: bool = True
    """Whether it is heard during this time."""
    annotator: int = 0
    """Who drew the box, where several people did."""


def check_boxes(recording: str, boxes: Sequence[Box], duration_s: float) -> None:
    """Refuse boxes that cannot be.

    Args:
        recording: its id, for errors.
        boxes: of the recording.
        duration_s: of the recording.

    Raises:
        DataError: a time lies outside of the recording, or sides are missing, outside of the frame, or in the wrong
            order.
    """
    for number, box in enumerate(boxes):
        place = f"{recording}: box {number}"
        if not 0 <= box.start_s < box.end_s <= duration_s + 1e-6:
            raise DataError(f"{place}: from {box.start_s} to {box.end_s} s in {duration_s} s")
        sides = (box.left, box.top, box.right, box.bottom)
        known = [side for side in sides if side is not None]
        if not known and box.sounding:
            continue  # heard, not seen
        if len(known) < len(sides) or not all(math.isfinite(side) and 0 <= side <= 1 for side in known):
            raise DataError(f"{place}: sides {sides}, expected shares of the frame from 0 to 1")
        if not (known[0] < known[2] and known[1] < known[3]):
            raise DataError(f"{place}: sides {sides}, expected left < right and top < bottom")


def box_rows(boxes: Sequence[Box], recording: int) -> list[dict[str, object]]:
    """The boxes of a recording as rows of the table."""
    return [{"recording": recording, **asdict(box)} for box in boxes]


def write_boxes(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Put a table of boxes in place.

    Args:
        path: the Parquet file.
        rows: as `box_rows` gives them.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=_SCHEMA)
    with new_file_atomically(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_boxes(path: Path) -> pd.DataFrame:
    """A table of boxes.

    Args:
        path: the Parquet file.

    Returns:
        The columns of `BOX_COLUMNS`, one row per box, in store order; no row where there is no file.

    Raises:
        DataError: the file is damaged, or lacks a column.
    """
    if not path.exists():
        return _SCHEMA.empty_table().to_pandas()
    table = read_parquet(path)
    absent = [name for name in BOX_COLUMNS if name not in table]
    if absent:
        raise DataError(f"{path}: the column {absent[0]!r} is missing")
    return table[list(BOX_COLUMNS)]
