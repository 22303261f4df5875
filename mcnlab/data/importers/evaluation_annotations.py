"""What official annotation files know about the clips of YouCook2 and MSR-VTT."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mcnlab.data.text import tokens
from mcnlab.errors import DataError, reading_error
from mcnlab.files import parse_json

_MOST_BYTES = 2**30
MSRVTT_CATEGORIES = (
    "music",
    "people",
    "gaming",
    "sports/actions",
    "news/events/politics",
    "education",
    "tv shows",
    "movie/comedy",
    "animation",
    "vehicles/autos",
    "howto",
    "travel",
    "science/technology",
    "animals/pets",
    "kids/family",
    "documentary",
    "food/drink",
    "cooking",
    "beauty/fashion",
    "advertisement",
)
"""Names of the numbers 0 to 19, from the official `category.txt`."""


@dataclass(frozen=True)
class Segment:
    """One annotated step of a cooking video."""

    start_s: float
    end_s: float
    sentence: str
    number: int | None = None
    """Its place among the steps of the video, where the file says so."""


@dataclass(frozen=True)
class CookingVideo:
    """A video of YouCook2."""

    recipe: str | None
    subset: str | None
    """`train` or `val`."""
    segments: tuple[Segment, ...]

    def segment(self, caption: str, *, start_s: float | None, number: int | None) -> Segment | None:
        """The segment that a caption describes; start or number decide among equal captions.

        Args:
            caption: compared by its words, whatever their case.
            start_s: where the clip is known to start.
            number: place among the video's steps.

        Returns:
            The one that fits; None where none does, or it cannot be decided.
        """
        fitting = [one for one in self.segments if _words(one.sentence) == _words(caption)]
        if len(fitting) > 1 and start_s is not None:
            fitting = [min(fitting, key=lambda one: abs(one.start_s - start_s))]
        if len(fitting) > 1:
            fitting = [one for one in fitting if one.number == number and number is not None]
        return fitting[0] if len(fitting) == 1 else None


@dataclass(frozen=True)
class WebVideo:
    """A video of MSR-VTT."""

    category: str | None
    split: str | None
    url: str | None
    start_s: float | None
    end_s: float | None
    sentences: tuple[str, ...]


def read_youcook2_annotations(path: Path) -> dict[str, CookingVideo]:
    """The videos of an annotation file of YouCook2.

    Args:
        path: the official JSON (`youcookii_annotations_trainval.json`), or the CSV of the retrieval benchmark
            (`validation_youcook.csv` with end, start, task, text, video_id).

    Returns:
        Video id to what is known.

    Raises:
        DataError: the file is missing or damaged, or of another layout.
    """
    if path.suffix == ".csv":
        table = read_table(path, ("video_id", "start", "end", "text", "task"))
        return {str(video): _from_table(path, rows) for video, rows in table.groupby("video_id", sort=False)}
    videos = _field(path, _read_json(path), "database", dict)
    return {video: _from_json(path, video, entry) for video, entry in videos.items()}


def read_msrvtt_annotations(path: Path) -> dict[str, WebVideo]:
    """The videos of an annotation file of MSR-VTT.

    Args:
        path: an official `*_videodatainfo.json`, or a CSV with `video_id` and maybe `sentence`.

    Returns:
        Number of the video, as text, to what is known: files spell it `video9770` or `msr9770`.

    Raises:
        DataError: the file is missing or damaged, or of another layout.
    """
    if path.suffix == ".csv":
        table = read_table(path, ("video_id",))
        sentences = table["sentence"] if "sentence" in table else [""] * len(table)
        known = _grouped(zip(table["video_id"], sentences, strict=True))
        return {video: WebVideo(None, None, None, None, None, said) for video, said in known.items()}
    content = _read_json(path)
    said = _grouped((one.get("video_id"), one.get("caption", "")) for one in _entries(path, content, "sentences"))
    return {
        video_number(str(one.get("video_id"))): _web_video(one, said.get(video_number(str(one.get("video_id"))), ()))
        for one in _entries(path, content, "videos")
    }


def video_number(id_: str) -> str:
    """The digits of an MSR-VTT id: `video9770` and `msr9770` are the same video."""
    return re.sub(r"\D", "", id_)


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file with every cell as text.

    Args:
        path: the file.
        columns: those that it must have.

    Returns:
        The table; empty cells are empty texts.

    Raises:
        DataError: it is missing, damaged or empty, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise reading_error(error)(f"{path}: not a readable CSV file ({' '.join(str(error).split()):.200})") from error
    absent = [column for column in columns if column not in table]
    if absent or table.empty:
        raise DataError(f"{path}: {f'the column {absent[0]!r} is missing' if absent else 'no rows'}")
    return table


def _read_json(path: Path) -> Any:
    """Content of a JSON file of reasonable size, without NaN and without keys that stand twice."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        content = parse_json(text)
        json.dumps(content, ensure_ascii=False).encode()  # a lone surrogate could not be stored
        return content
    except (OSError, ValueError, RecursionError) as error:
        raise reading_error(error)(f"{path}: not a readable JSON file ({' '.join(str(error).split()):.200})") from error


def _field(path: Path, content: Any, name: str, kind: type) -> Any:
    """A part of a JSON object."""
    if not isinstance(content, dict) or not isinstance(content.get(name), kind):
        raise DataError(f"{path}: expected an object with {name!r}")
    return content[name]


def _entries(path: Path, content: Any, name: str) -> list[dict[str, Any]]:
    """A list of objects in a JSON object."""
    entries = _field(path, content, name, list)
    if not all(isinstance(entry, dict) and isinstance(entry.get("video_id"), str) for entry in entries):
        raise DataError(f"{path}: an entry of {name!r} has no video_id")
    return entries


def _from_json(path: Path, video: str, entry: Any) -> CookingVideo:
    """A video of the official file."""
    try:
        segments = tuple(_segment(one["segment"], one["sentence"], one["id"]) for one in entry["annotations"])
        subset = {"training": "train", "validation": "val", "testing": "test"}.get(entry["subset"])
        return CookingVideo(str(entry["recipe_type"]), subset, segments)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: video {video!r:.40}: not an annotated video ({type(error).__name__} {error})"
        ) from error


def _segment(times: Any, sentence: Any, number: Any) -> Segment:
    """One entry of the official file."""
    start, end = times
    return Segment(float(start), float(end), str(sentence), int(number))


def _from_table(path: Path, rows: pd.DataFrame) -> CookingVideo:
    """A video of the benchmark's table."""
    cells = rows[["start", "end", "text"]].itertuples(index=False, name=None)
    try:
        segments = tuple(Segment(float(start), float(end), text) for start, end, text in cells)
    except ValueError as error:
        raise DataError(
            f"{path}: video {rows['video_id'].iloc[0]!r:.40}: a time that is no number ({error})"
        ) from error
    return CookingVideo(rows["task"].iloc[0] or None, None, segments)


def _web_video(entry: dict[str, Any], sentences: tuple[str, ...]) -> WebVideo:
    """A video of the official file."""
    number = entry.get("category")
    named = isinstance(number, int) and 0 <= number < len(MSRVTT_CATEGORIES)
    category = MSRVTT_CATEGORIES[number] if named else None if number is None else str(number)  # type: ignore[index]
    start, end = entry.get("start time"), entry.get("end time")
    timed = all(isinstance(time, int | float) for time in (start, end)) and 0 <= start < end  # type: ignore[operator]
    start_s, end_s = (float(start), float(end)) if timed else (None, None)  # type: ignore[arg-type]
    return WebVideo(category, entry.get("split"), entry.get("url"), start_s, end_s, sentences)


def _grouped(pairs: Any) -> dict[str, tuple[str, ...]]:
    """Sentences by number of the video, in the order of the file."""
    found: dict[str, list[str]] = {}
    for video, sentence in pairs:
        found.setdefault(video_number(str(video)), []).extend([sentence] if sentence else [])
    return {video: tuple(sentences) for video, sentences in found.items()}


def _words(sentence: str) -> list[str]:
    """What two spellings of a sentence have in common."""
    return tokens(sentence.lower())
