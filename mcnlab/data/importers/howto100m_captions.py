"""HowTo100M captions: JSON, pickle or one CSV per video, checked caption by caption."""

import csv
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from mcnlab.data.importers.howto100m_list import ListedVideo
from mcnlab.data.importers.indexed_json import IndexedJson
from mcnlab.data.text import MAX_CAPTION_CHARACTERS
from mcnlab.errors import DataError

FIELDS = ("start", "end", "text")


@dataclass(frozen=True)
class Captions:
    """The captions of one video, in time order."""

    start_s: tuple[float, ...] = ()
    end_s: tuple[float, ...] = ()
    """Each after its start; may lie past the end of the video and overlap the next start."""
    text: tuple[str, ...] = ()
    """May be empty."""
    problems: tuple[str, ...] = ()
    """What was left out, and why."""


@dataclass(frozen=True)
class CaptionFile:
    """All captions of a data set, read video by video; only a pickle is in memory."""

    path: Path
    known: Mapping[str, Any] = field(default_factory=dict)
    """Id to captions, of a JSON or a pickle."""
    twice: tuple[str, ...] = ()
    """Names that stand in the file more than once; the first counts."""

    def raw(self, video: ListedVideo) -> Any:
        """What is written about a video, as plain values that `checked_captions` takes; None without captions."""
        if not self.path.is_dir():
            return _plain(self.known.get(video.id))
        for name in (f"{video.id}.csv", f"{video.path}.csv"):
            if (self.path / name).is_file():
                return _read_csv(self.path / name)
        return None

    def foreign(self, listed: Collection[str]) -> list[str]:
        """Ids that have captions but are not in the list; only of a file, a folder is not looked through."""
        return sorted(id_ for id_ in self.known if id_ not in listed)


def open_captions(path: Path) -> CaptionFile:
    """Open the captions of a data set.

    Args:
        path: `{id: {"start": […], "end": […], "text": […]}}` as JSON or pickle; or a folder with one CSV per video.

    Returns:
        The captions. Of a JSON only the ids are in memory, a pickle is as a whole.

    Raises:
        DataError: the file is missing, damaged, or of another form.
    """
    if path.is_dir():
        return CaptionFile(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder of captions")
    twice: list[str] = []
    if path.suffix.lower() in {".pickle", ".pkl"}:
        # late: pickles are the rare case, and their reader is built for nothing else
        from mcnlab.data.importers.unpickling import (  # type: ignore[import-not-found, unused-ignore]
            load_published_pickle,
        )

        known = load_published_pickle(path)
    else:
        known = IndexedJson(path)
        twice = known.twice
    if not isinstance(known, Mapping) or not all(isinstance(id_, str) for id_ in known):
        raise DataError(f"{path}: expected a mapping from ids to captions, got {type(known).__name__}")
    return CaptionFile(path, known, tuple(twice))


def checked_captions(raw: Any) -> Captions:
    """The usable captions of a video.

    Args:
        raw: a mapping with `start`, `end` (seconds; numbers or their text) and `text`, of equal lengths.

    Returns:
        Captions in time order. Those without times, or whose end is not after their start, are left out and said in
        `problems`; so is everything where the three lists do not fit each other.
    """
    if not isinstance(raw, Mapping) or not all(isinstance(raw.get(name), list) for name in FIELDS):
        return Captions(problems=(_UNREADABLE,))
    if len({len(raw[name]) for name in FIELDS}) != 1:
        return Captions(problems=("captions with unequal numbers of starts, ends and texts",))
    problems: dict[str, None] = {}
    kept = []
    for start, end, text in zip(*(raw[name] for name in FIELDS), strict=True):
        caption, problem = _checked(start, end, text)
        if problem:
            problems[problem] = None
        if caption is not None:
            kept.append(caption)
    if any(later[0] < earlier[0] for earlier, later in pairwise(kept)):
        problems["captions that were not in time order"] = None
        kept.sort(key=lambda caption: caption[0])
    starts, ends, texts = zip(*kept, strict=True) if kept else ((), (), ())
    return Captions(starts, ends, texts, tuple(problems))


_UNREADABLE = "captions without readable start, end and text"


def _checked(start: Any, end: Any, text: Any) -> tuple[tuple[float, float, str] | None, str]:
    """A caption, and what is wrong with it; None where it cannot be used."""
    start_s, end_s = _seconds(start), _seconds(end)
    if not (math.isfinite(start_s) and math.isfinite(end_s)) or start_s < 0:
        return None, "captions without a time"
    if end_s <= start_s:
        return None, "captions whose end is not after their start"
    if not isinstance(text, str):
        return (start_s, end_s, ""), "captions whose text is no text"
    if len(text) > MAX_CAPTION_CHARACTERS:
        return (start_s, end_s, text[:MAX_CAPTION_CHARACTERS]), "captions that were cut, being too long"
    return (start_s, end_s, text), ""


def _seconds(value: Any) -> float:
    """A time, NaN where it is none."""
    try:
        return float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _read_csv(path: Path) -> dict[str, list[str]] | str:
    """The three columns of a video's CSV; a text where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error):
        return _UNREADABLE
    if not set(FIELDS) <= set(reader.fieldnames or ()):
        return _UNREADABLE
    return {name: [row[name] or "" for row in rows] for name in FIELDS}


def _plain(raw: Any) -> Any:
    """Captions as JSON takes them: arrays and series of a pickle become lists."""
    if not isinstance(raw, Mapping):
        return raw if raw is None else _UNREADABLE
    return {name: _plain_list(raw[name]) for name in FIELDS if name in raw}


def _plain_list(values: Any) -> Any:
    """A list of plain values, or whatever else there was as a text."""
    values = values.tolist() if hasattr(values, "tolist") else values
    return list(values) if isinstance(values, list | tuple) else str(values)
