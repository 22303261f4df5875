"""The CSV that describes someone's own media: read and checked before any work starts."""

import csv
import difflib
import hashlib
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from mcnlab.config import nearest
from mcnlab.errors import DataError, reading_error

COLUMNS = ("id", "recording", "video", "audio", "start", "end", "fps", "caption", "label", "split")
LONGEST_ID = 200
_FACTOR = "factor:"
_VAL_SHARE = 0.2


@dataclass(frozen=True)
class MediaRow:
    """One row of the manifest: one clip."""

    id: str
    recording: str
    video: str = ""
    audio: str = ""
    start_s: float = 0.0
    end_s: float | None = None
    fps: float | None = None
    caption: str = ""
    label: str | None = None
    split: str = "train"
    factors: Mapping[str, float | str] = field(default_factory=dict)
    line: int = 0
    """Its row in the file, comments and header counted."""


@dataclass(frozen=True)
class MediaManifest:
    """All rows of a manifest, in its order."""

    path: Path
    rows: tuple[MediaRow, ...]
    notes: tuple[str, ...] = ()
    """What was decided for the user, in sentences."""

    @property
    def folder(self) -> Path:
        """What relative media paths are relative to."""
        return self.path.parent

    def recordings(self) -> dict[str, list[MediaRow]]:
        """Rows by recording, both in the order of the manifest."""
        groups: dict[str, list[MediaRow]] = {}
        for row in self.rows:
            groups.setdefault(row.recording, []).append(row)
        return groups


def read_media_manifest(path: Path, *, categorical: Sequence[str] = ()) -> MediaManifest:
    """Read and check a manifest.

    A factor column whose every value is a number is continuous; any other is categorical. Without a split column a
    fifth of the recordings become `val`: those whose ids have the smallest hashes, so that more rows move few of them.

    Args:
        path: CSV, or TSV by its suffix; lines in front of the header that begin with # are comments. Relative media
            paths are relative to its folder.
        categorical: factors whose numbers are names.

    Returns:
        The rows.

    Raises:
        DataError: naming file, row, column and value of the first thing that is wrong.
    """
    table, first = _read_table(path)
    _check_columns(path, table, categorical)
    factors = _factor_values(table, categorical)
    rows = tuple(
        replace(_row(f"{path}: row {first + number}", number, values, factors), line=first + number)
        for number, values in enumerate(table.to_dict("records"))
    )
    notes: list[str] = []
    if "split" not in table:
        recordings = dict.fromkeys(row.recording for row in rows)
        held = _a_fifth(recordings)
        rows = tuple(replace(row, split="val" if row.recording in held else "train") for row in rows)
        notes.append(f"no split column: {len(held)} of {len(recordings)} recordings became val, the others train")
    _check_ids(path, rows, first)
    return MediaManifest(path, rows, tuple(notes))


def without_strange_ids(table: MediaManifest) -> tuple[MediaManifest, list[tuple[str, str]]]:
    """The rows whose id and recording can be file names, as those of published data sets are.

    Args:
        table: a manifest.

    Returns:
        It without the other rows, and their reason and id.

    Raises:
        DataError: no row is left.
    """
    faults = [id_fault(row.id) or id_fault(row.recording) for row in table.rows]
    refused = [(fault, row.id) for fault, row in zip(faults, table.rows, strict=True) if fault]
    kept = tuple(row for fault, row in zip(faults, table.rows, strict=True) if not fault)
    if not kept:
        reason, id_ = refused[0]
        raise DataError(f"{table.path}: no row can be used: {len(refused)} rows refused, first {id_!r}: {reason}")
    return replace(table, rows=kept), refused


def id_fault(id_: str) -> str:
    """Why an id cannot be used; empty where it can.

    Example:
        >>> id_fault("../secret")
        'an id with a slash, a dot in front, or ..'
        >>> id_fault("take 2.b")
        ''
    """
    if len(id_) > LONGEST_ID:
        return f"an id of more than {LONGEST_ID} characters"
    strange = any(part in id_ for part in ("/", "\\", "..")) or id_.startswith(".")
    if strange:
        return "an id with a slash, a dot in front, or .."
    return "" if id_.isprintable() else "an id with characters that cannot be printed"


def _read_table(path: Path) -> tuple[pd.DataFrame, int]:
    """The file as texts, and the number of its first row; an empty cell is an empty text, and `nan` is the word."""
    if not path.is_file():
        tables = [file.name for pattern in ("*.csv", "*.tsv") for file in path.parent.glob(pattern)]
        what_to_do = nearest(path.name, tables) or "; `mcnlab init my_study --template media` makes one to fill in"
        raise DataError(f"{path}: no such manifest{what_to_do}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            comments, text = _comments_and_rest(file)
            lines = list(csv.reader(text, delimiter=delimiter, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise reading_error(error)(f"{path}: not a readable CSV file ({error})") from error
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise DataError(f"{path}: no rows")
    header = [name.strip() for name in lines[0]]
    for number, line in enumerate(lines[1:], start=comments + 2):
        if len(line) != len(header):
            raise DataError(f"{path}: row {number}: {len(line)} cells under {len(header)} columns")
    return pd.DataFrame(lines[1:], columns=header, dtype=str), comments + 2


def _comments_and_rest(lines: Iterable[str]) -> tuple[int, Iterator[str]]:
    """How many lines in front of the header are comments, which begin with #; and all lines after them."""
    rest = iter(lines)
    for comments, line in enumerate(rest):
        if not line.startswith("#"):
            return comments, itertools.chain([line], rest)
    return 0, iter(())


def _check_columns(path: Path, table: pd.DataFrame, categorical: Sequence[str]) -> None:
    """Raise when a column is unknown, stands twice, or the id is missing."""
    names = list(table.columns)
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: the column {name!r} stands twice")
        if name not in COLUMNS and not (name.startswith(_FACTOR) and len(name) > len(_FACTOR)):
            raise DataError(f"{path}: unknown column {name!r}{_nearest(name, [*COLUMNS, 'factor:NAME'])}")
    if "id" not in names:
        raise DataError(f"{path}: the column 'id' is missing")
    if not {"video", "audio", "caption"} & set(names):
        raise DataError(f"{path}: none of the columns 'video', 'audio', 'caption' is there")
    known = [name.removeprefix(_FACTOR) for name in names if name.startswith(_FACTOR)]
    for name in categorical:
        if name not in known:
            raise DataError(f"{path}: no factor {name!r}{_nearest(name, known)}")


def _factor_values(table: pd.DataFrame, categorical: Sequence[str]) -> dict[str, list[float | str | None]]:
    """Per factor its value in every row; None where the cell is empty."""
    factors: dict[str, list[float | str | None]] = {}
    for column in table.columns:
        if column.startswith(_FACTOR):
            name, cells = column.removeprefix(_FACTOR), [cell.strip() for cell in table[column]]
            continuous = name not in categorical and all(_is_number(cell) for cell in cells if cell)
            factors[name] = [(float(cell) if continuous else cell) if cell else None for cell in cells]
    return factors


def _row(
    place: str, number: int, values: Mapping[str, str], factors: Mapping[str, Sequence[float | str | None]]
) -> MediaRow:
    """One checked row."""
    id_ = values["id"].strip()
    if not id_:
        raise DataError(f"{place}: id: is empty")
    recording = values.get("recording", "").strip() or id_
    start_s = _number(place, "start", values) or 0.0
    end_s = _number(place, "end", values)
    fps = _number(place, "fps", values)
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise DataError(f"{place}: end: expected 0 <= start < end, got start {start_s:g} and end {end_s}")
    if fps is not None and fps <= 0:
        raise DataError(f"{place}: fps: must be positive, got {fps:g}")
    split = values["split"].strip() if "split" in values else "train"
    if not split:
        raise DataError(f"{place}: split: is empty")
    return MediaRow(
        id=id_,
        recording=recording,
        video=values.get("video", "").strip(),
        audio=values.get("audio", "").strip(),
        start_s=start_s,
        end_s=end_s,
        fps=fps,
        caption=values.get("caption", "").strip(),
        label=values.get("label", "").strip() or None,
        split=split,
        factors={name: value for name, cells in factors.items() if (value := cells[number]) is not None},
    )


def _check_ids(path: Path, rows: Sequence[MediaRow], start: int) -> None:
    """Raise when an id stands twice or a recording is in two splits."""
    first: dict[str, int] = {}
    splits: dict[str, str] = {}
    for number, row in enumerate(rows, start=start):
        if row.id in first:
            raise DataError(f"{path}: row {number}: id: {row.id!r} stands in row {first[row.id]} already")
        first[row.id] = number
        if splits.setdefault(row.recording, row.split) != row.split:
            both = f"{splits[row.recording]!r} and {row.split!r}"
            raise DataError(f"{path}: row {number}: split: recording {row.recording!r} is in {both}")


def _number(place: str, column: str, values: Mapping[str, str]) -> float | None:
    """A cell as a finite number; None where it is empty or there is no such column."""
    text = values.get(column, "").strip()
    if not text:
        return None
    if not _is_number(text):
        raise DataError(f"{place}: {column}: expected a number, got {text!r:.80}")
    return float(text)


def _is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _a_fifth(recordings: Collection[str]) -> set[str]:
    """The fifth of all recordings that is measured, the same in every process; one at least where there are two."""
    by_hash = sorted(recordings, key=lambda id_: hashlib.sha256(id_.encode("utf-8")).digest())
    return set(by_hash[: max(round(_VAL_SHARE * len(by_hash)), int(len(by_hash) > 1))])


def _nearest(name: str, known: Sequence[str]) -> str:
    """The end of a message that names what was probably meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
