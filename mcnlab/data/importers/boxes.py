"""Boxes of what sounds in real media: from a CSV of one's own, VGG-SS's JSON, or SoundNet-Flickr's XML files."""

import csv
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcnlab.data.boxes import Box
from mcnlab.errors import DataError, reading_error
from mcnlab.files import read_json

SIDES = ("left", "top", "right", "bottom")
COLUMNS = ("id", *SIDES, "start", "end", "label", "sounding", "thing", "annotator")
"""Columns of a CSV of boxes; the first five must be there."""
FLICKR_SIDE_PX = 256.0
"""Height and width of the frames in which SoundNet-Flickr's boxes were drawn."""
LARGEST_XML_BYTES = 2**20
WORDS_OF_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class RowBox:
    """A box of one row of a manifest, in seconds from the row's own begin; an end of None is the row's end."""

    box: Box
    """Its `end_s` counts only where `until_end` is not set."""
    until_end: bool

    def placed(self, start_s: float, duration_s: float) -> Box | None:
        """The box on the time of a recording in which the row begins at `start_s`; None where it lies behind its end.

        Args:
            start_s: begin of the row in its recording.
            duration_s: of the row.
        """
        first = self.box.start_s
        last = duration_s if self.until_end else min(self.box.end_s, duration_s)
        return replace(self.box, start_s=start_s + first, end_s=start_s + last) if first < last else None


def read_box_files(path: Path) -> dict[str, list[RowBox]]:
    """The boxes of media, by the id of the row of the manifest that they belong to.

    Args:
        path: a CSV with the columns id, left, top, right, bottom (shares of the frame) and, as wanted, start, end
            (seconds from the row's begin), label, sounding, thing, annotator; or VGG-SS's JSON, a list of `file`,
            `class` and `bbox` in shares of the frame; or a folder of SoundNet-Flickr's XML files, one for each id, with
            a box by each annotator in pixels of 256.

    Returns:
        By id, in the order of the file.

    Raises:
        DataError: the file is missing or not of its kind, or a box cannot be; file, place and value are named.
    """
    if path.is_dir():
        return _flickr(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file of boxes")
    return _vgg_ss(path) if path.suffix.lower() == ".json" else _own(path)


def _own(path: Path) -> dict[str, list[RowBox]]:
    """A CSV of boxes."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise reading_error(error)(f"{path}: not a readable CSV ({error})") from error
    absent = [name for name in ("id", *SIDES) if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if absent or unknown:
        what = f"lacks the column {absent[0]!r}" if absent else f"has an unknown column {unknown[0]!r}"
        raise DataError(f"{path}: {what}; columns are {', '.join(COLUMNS)}")
    found: dict[str, list[RowBox]] = {}
    for number, row in enumerate(rows, start=2):
        found.setdefault(row["id"], []).append(_own_row(f"{path}: line {number}", row))
    return found


def _own_row(place: str, row: Mapping[str, str | None]) -> RowBox:
    """One line of a CSV of boxes."""
    given = {name: (row.get(name) or "").strip() for name in COLUMNS}
    left, top, right, bottom = _sides(place, [given[name] for name in SIDES], scale=1.0)
    sounding = WORDS_OF_TRUTH.get(given["sounding"].lower() or "1")
    if sounding is None:
        raise DataError(f"{place}: sounding must be 1 or 0, got {given['sounding']!r}")
    start_s = _number(f"{place}: start", given["start"] or "0")
    end_s = _number(f"{place}: end", given["end"]) if given["end"] else start_s
    if given["end"] and not 0 <= start_s < end_s:
        raise DataError(f"{place}: from {start_s} to {end_s} s")
    thing, annotator = (int(_number(f"{place}: {name}", given[name] or "0")) for name in ("thing", "annotator"))
    box = Box(start_s, end_s, left, top, right, bottom, thing, given["label"] or None, sounding, annotator)
    return RowBox(box, until_end=not given["end"])


def _vgg_ss(path: Path) -> dict[str, list[RowBox]]:
    """VGG-SS's list of files: the union of a file's boxes is where it sounds."""
    try:
        entries = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise reading_error(error)(f"{path}: not readable JSON ({error})") from error
    if not isinstance(entries, list) or not all(isinstance(one, dict) and "file" in one for one in entries):
        raise DataError(f"{path}: expected a list of entries with file, class and bbox")
    found: dict[str, list[RowBox]] = {}
    for number, entry in enumerate(entries):
        place, boxes = f"{path}: entry {number} ({entry['file']})", entry.get("bbox")
        if not isinstance(boxes, list) or not all(isinstance(box, list) and len(box) == 4 for box in boxes):
            raise DataError(f"{place}: bbox must be a list of four numbers each, got {str(boxes)[:80]}")
        label = entry.get("class")
        name = label[0] if isinstance(label, list) and label else label
        found[str(entry["file"])] = [
            _whole(_sides(f"{place}: box {thing}", box, scale=1.0), thing, None if name is None else str(name), 0)
            for thing, box in enumerate(boxes)
        ]
    return found


def _flickr(folder: Path) -> dict[str, list[RowBox]]:
    """SoundNet-Flickr's annotations, one file for each frame and sound."""
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise DataError(f"{folder}: no XML file of boxes")
    return {file.stem: _flickr_file(file) for file in files}


def _flickr_file(path: Path) -> list[RowBox]:
    """The boxes of all annotators in one file: the last four numbers of each element `bbox`."""
    text = _plain_xml(path)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not readable XML ({error})") from error
    found = []
    for number, element in enumerate(root.iter("bbox")):
        values = [child.text or "" for child in element][-4:]
        if len(values) < 4:
            raise DataError(f"{path}: box {number} has {len(values)} numbers, expected xmin, ymin, xmax, ymax")
        sides = _sides(f"{path}: box {number}", values, scale=FLICKR_SIDE_PX)
        found.append(_whole(sides, 0, None, number))
    if not found:
        raise DataError(f"{path}: holds no element bbox")
    return found


def _plain_xml(path: Path) -> str:
    """The text of an XML file that defines nothing of its own.

    Raises:
        DataError: it cannot be read, is larger than a file of boxes can be, or defines entities.
    """
    try:
        if path.stat().st_size > LARGEST_XML_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes, more than a file of boxes has")
        text = path.read_text(encoding="utf-8", errors="strict")
    except (OSError, UnicodeDecodeError) as error:
        raise reading_error(error)(f"{path}: cannot be read ({error})") from error
    if "<!" in text.replace("<!--", ""):
        raise DataError(f"{path}: holds definitions of its own (<!…), which are not read")
    return text


def _whole(sides: tuple[float, float, float, float], thing: int, label: str | None, annotator: int) -> RowBox:
    """A box that lasts as long as its row and sounds."""
    return RowBox(Box(0.0, 0.0, *sides, thing, label, True, annotator), until_end=True)


def _sides(place: str, values: Sequence[Any], *, scale: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom as shares of the frame; what lies up to 2 % outside is drawn in."""
    numbers = [_number(f"{place}: {side}", value) / scale for side, value in zip(SIDES, values, strict=True)]
    if not all(-0.02 <= number <= 1.02 for number in numbers):
        raise DataError(f"{place}: sides {list(values)} lie outside of the frame, which is {scale:g} wide and high")
    left, top, right, bottom = (min(1.0, max(0.0, number)) for number in numbers)
    if not (left < right and top < bottom):
        raise DataError(f"{place}: sides {list(values)}, expected left < right and top < bottom")
    return left, top, right, bottom


def _number(place: str, value: Any) -> float:
    """A finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place} must be a number, got {value!r}")
    return number
