"""The list of HowTo100M videos: which there are, and where their features lie."""

import csv
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from mcnlab.errors import DataError, reading_error

PATH_COLUMNS = ("path", "video_path", "video_id", "feature_path")
"""Headers under which published lists name their videos, the most telling first."""
_TRACK_COLUMNS = {"2d": "video_2d", "3d": "video_3d", "audio": "audio_mel", "spec": "audio_mel"}
"""A column whose name holds the first names files of the second."""
_MEDIA_SUFFIXES = {".mp4", ".webm", ".mkv", ".avi", ".npy", ".npz"}
_ID = re.compile(r"[A-Za-z0-9_-]+")


_NO_FILES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """One row of the list."""

    id: str
    """Last component of the path; 11 characters in the published lists."""
    path: str
    """Where its features lie, relative to their folder and without an ending."""
    files: Mapping[str, str] = field(default_factory=lambda: _NO_FILES)
    """By track: a file that the list names."""


@dataclass(frozen=True)
class VideoList:
    """All videos of a list, in its order."""

    videos: tuple[ListedVideo, ...]
    refused: tuple[tuple[str, str], ...] = ()
    """(reason, row) of every row that names no video."""


def read_video_list(path: Path) -> VideoList:
    """Read a published list leniently.

    Args:
        path: CSV or TXT with a header such as `path` or `video_path`, or one id or path a line without a header. A
            stray `None/` in front and an ending such as `.mp4` are removed. More columns may name files by track
            (`2d`, `3d`, `audio` in their names).

    Returns:
        The videos; rows with an empty, repeated or impossible id are in `refused`.

    Raises:
        DataError: the file is missing or unreadable, has no column of paths, or names no video at all.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: the list is empty")
    column, tracks, is_header = _columns(path, first)
    videos: dict[str, ListedVideo] = {}
    refused, example = [], None
    for row in rows if is_header else itertools.chain([first], rows):
        example = row if example is None else example
        video, reason = _video(row, column, tracks)
        if video is None or video.id in videos:
            refused.append((reason or "the id stands in the list before", row[column] if column < len(row) else ""))
        else:
            videos[video.id] = video
    if not videos:
        raise DataError(f"{path}: names no video; its first row is {','.join(example or ())!r}")
    return VideoList(tuple(videos.values()), tuple(refused))


def held_out_ids(path: Path) -> frozenset[str]:
    """The ids of a list of videos that are not to be trained on.

    Args:
        path: as for `read_video_list`.

    Returns:
        The ids.
    """
    return frozenset(video.id for video in read_video_list(path).videos)


def split_by_hash(id_: str, val_share: float) -> str:
    """`val` for a fixed share of all ids, else `train`; the same id always gets the same split.

    Args:
        id_: of a video.
        val_share: from 0 to 1.

    Returns:
        Name of the split.
    """
    return "val" if int(hashlib.sha256(id_.encode("utf-8")).hexdigest()[:8], 16) < val_share * 2**32 else "train"


def _rows(path: Path) -> Iterator[list[str]]:
    """The cells of all lines that are not empty."""
    if not path.is_file():
        raise DataError(f"{path}: no such list of videos")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            yield from ([cell.strip() for cell in line] for line in lines if line)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise reading_error(error)(f"{path}: not a readable list ({error})") from error


def _columns(path: Path, first: list[str]) -> tuple[int, dict[int, str], bool]:
    """Which column holds the path, which ones name files of a track, and whether the first row is a header."""
    header = [cell.lower() for cell in first]
    known = [name for name in PATH_COLUMNS if name in header]
    if known:
        column = header.index(known[0])
        tracks = {
            place: track
            for mark, track in _TRACK_COLUMNS.items()
            for place, name in enumerate(header)
            if mark in name and place != column
        }
        return column, tracks, True
    if len(header) > 1:
        raise DataError(
            f"{path}: none of the columns {', '.join(PATH_COLUMNS)} is there, only {', '.join(header):.200}"
        )
    return 0, {}, False


def _video(row: list[str], column: int, tracks: Mapping[int, str]) -> tuple[ListedVideo | None, str]:
    """The video of a row; or None and why not."""
    written = row[column] if column < len(row) else ""
    whole = PurePosixPath(written.removeprefix("None/"))
    if whole.suffix.lower() in _MEDIA_SUFFIXES:
        whole = whole.with_suffix("")
    if not whole.name:
        return None, "an empty id"
    files = {track: row[place] for place, track in tracks.items() if place < len(row) and row[place]}
    if not all(_stays_inside(name) for name in (str(whole), *files.values())):
        return None, "a path that leaves the folder"
    if not _ID.fullmatch(whole.name):
        return None, "an id with other characters than letters, digits, - and _"
    path = str(whole)
    return ListedVideo(whole.name if whole.name != path else path, path, files or _NO_FILES), ""


def _stays_inside(name: str) -> bool:
    """Whether a relative path cannot lead out of its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and "\\" not in name
