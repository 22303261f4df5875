"""Published features of videos whose steps are annotated: which layout a folder has, and one video's rows."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcnlab.data.arrays import read_npy, read_npz_member
from mcnlab.data.extract import AUDIO_TRACK
from mcnlab.data.records import Track
from mcnlab.errors import DataError

JOINED = {"video_3d": slice(0, 1024), "video_2d": slice(1024, 3072)}
"""Columns of CrossTask's own features: I3D, ResNet-152, and 128 of VGGish behind them."""
JOINED_WIDTH = 3200
PROBED = 50
"""Videos that are looked at to tell the widths of a folder."""
SHOWN = 3
"""Names that an error on a folder gives."""
_AUDIO_ENDINGS = (".npz", "_spec.npz", ".npy", "_spec.npy")
_PAIR = {"video_2d": "_2d", "video_3d": "_3d"}
_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True)
class FeatureFolder:
    """A folder of published features; make one with `open_features`."""

    path: Path
    widths: dict[str, int]
    """By track."""
    joined: bool
    """All features in one array of 3200 columns."""
    rate_hz: float
    """Rows per second of what `read` gives."""

    @property
    def tracks(self) -> list[Track]:
        """The video tracks of the store."""
        return [Track(name, "video", width, self.rate_hz) for name, width in self.widths.items()]

    def read(self, names: Sequence[str], *, rows: int | None = None) -> dict[str, np.ndarray]:
        """The video features of one video.

        Args:
            names: what its files may be called, without endings; the first that is there counts.
            rows: rows wanted; None takes those of the first track. Others are pooled to it by their maximum.

        Returns:
            Track to (rows, width) float32, rows of length 1.

        Raises:
            DataError: nothing is there, or it cannot be used; the text names no id and no path.
        """
        arrays = {track: self._array(names, track) for track in self.widths}
        rows = len(next(iter(arrays.values()))) if rows is None else rows
        return {track: unit_length(pooled_to(array, rows)) for track, array in arrays.items()}

    def _array(self, names: Sequence[str], track: str) -> np.ndarray:
        """One track's array as the file has it, checked."""
        ending = "" if self._single else _PAIR[track]
        array = _first_array(self.path, [f"{name}{ending}" for name in names], track)
        if self.joined and array.ndim == 2 and array.shape[1] == JOINED_WIDTH:
            array = array[:, JOINED[track]]
        return checked_rows(array, self.widths[track], track)

    @property
    def _single(self) -> bool:
        """Whether a video has one file for all its tracks."""
        return self.joined or len(self.widths) == 1


def open_features(path: Path, videos: Sequence[Sequence[str]], *, rate_hz: float = 1.0) -> FeatureFolder:
    """Tell the layout of a folder of features from what lies in it.

    Args:
        path: the folder: `ID_2d.npy` and `ID_3d.npy` (or `.npz` with `features`), or `ID.npy` of 3200 columns as
            CrossTask published them, or `ID.npy` of any other width.
        videos: names that each video's files may have.
        rate_hz: rows per second of the 2D features.

    Returns:
        The folder, with the width that most of the first files have.

    Raises:
        DataError: there is no such folder, or it holds features of none of the videos.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder of features")
    pair: Counter[tuple[int, int]] = Counter()
    single: Counter[int] = Counter()
    for names in (safe for video in videos if (safe := safe_names(video))):
        widths = [_width(path, [f"{name}{ending}" for name in names]) for ending in ("_2d", "_3d", "")]
        if widths[0] is not None and widths[1] is not None:
            pair[widths[0], widths[1]] += 1
        elif widths[2] is not None:
            single[widths[2]] += 1
        if pair.total() + single.total() >= PROBED:
            break
    if not pair and not single:
        example = next((safe[0] for video in videos if (safe := safe_names(video))), "ID")
        raise DataError(
            f"{path}: holds readable features of none of {len(videos)} videos; looked for ID_2d.npy and ID_3d.npy, or "
            f"ID.npy, such as {example}.npy; {folder_sketch(path)}"
        )
    if pair.total() >= single.total():
        widest = pair.most_common(1)[0][0]
        return FeatureFolder(path, dict(zip(_PAIR, widest, strict=True)), joined=False, rate_hz=rate_hz)
    width = single.most_common(1)[0][0]
    if width == JOINED_WIDTH:
        widths_of = {track: columns.stop - columns.start for track, columns in JOINED.items()}
        return FeatureFolder(path, widths_of, joined=True, rate_hz=rate_hz)
    return FeatureFolder(path, {"video_2d": width}, joined=False, rate_hz=rate_hz)


def check_audio(path: Path, videos: Sequence[Sequence[str]]) -> None:
    """Say before any work that a folder is not the one of the sound.

    Args:
        path: as for `read_audio`.
        videos: names that each video's files may have.

    Raises:
        DataError: there is no such folder, or it holds a file of none of the videos.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder of audio")
    safe = [name for video in videos for name in safe_names(video)]
    if not any((path / f"{name}{ending}").is_file() for name in safe for ending in _AUDIO_ENDINGS):
        raise DataError(
            f"{path}: holds log-mels of none of {len(videos)} videos; looked for ID.npz or ID_spec.npz, such as "
            f"{safe[0] if safe else 'ID'}.npz; {folder_sketch(path)}"
        )


def folder_sketch(path: Path) -> str:
    """What lies in a folder, in a few words: for an error that says why it is not the wanted one.

    Args:
        path: an existing folder.

    Returns:
        `it holds 'a.jpg', 'b.jpg' and 3 more`, or `it is empty`.
    """
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"it holds {', '.join(f'{name!r:.60}' for name in names[:SHOWN])}{more}"


def read_audio(path: Path, names: Sequence[str]) -> np.ndarray:
    """The log-mel of one video.

    Args:
        path: folder of `ID.npz` with `arr_0`, or `ID_spec.npz`, or `ID.npy`.
        names: what the video's files may be called.

    Returns:
        (frames, 40) float16, dB, 100 frames per second.

    Raises:
        DataError: nothing is there, or it cannot be used; the text names no id and no path.
    """
    array = _first_array(path, [f"{name}{ending}" for name in names for ending in ("", "_spec")], "audio", "arr_0")
    if array.ndim == 2 and array.shape[0] == AUDIO_TRACK.dim:
        array = array.T
    return checked_rows(array, AUDIO_TRACK.dim, "audio").astype(np.float16)


def checked_rows(array: np.ndarray, width: int, what: str) -> np.ndarray:
    """Rows that a store can hold.

    Args:
        array: as a file has it.
        width: columns that it must have.
        what: its name in an error.

    Returns:
        (rows, width) float32, at least one row.

    Raises:
        DataError: wrong shape or type, no rows, or values that are not finite.
    """
    if array.ndim != 2 or array.shape[1] != width:
        raise DataError(f"{what}: another shape than (rows, {width})")
    if array.dtype.kind not in "fiu":
        raise DataError(f"{what}: values that are no numbers")
    if len(array) == 0:
        raise DataError(f"{what}: no rows")
    values = np.asarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{what}: values that are not finite")
    return values


def pooled_to(array: np.ndarray, rows: int) -> np.ndarray:
    """As many rows as wanted, each the maximum over its share of the given ones.

    Args:
        array: (n, width), n >= 1.
        rows: rows wanted, at least 1.

    Returns:
        (rows, width): row i is the maximum over rows ⌊i·n/rows⌋ to ⌈(i+1)·n/rows⌉ - 1, as torch's adaptive pooling
        cuts; more rows than there are repeat some.
    """
    if len(array) == rows:
        return array
    borders = [(i * len(array) // rows, -(-(i + 1) * len(array) // rows)) for i in range(rows)]
    return np.stack([array[begin:end].max(axis=0) for begin, end in borders])


def unit_length(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their length; rows of zeros stay zeros."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def safe_names(names: Sequence[str]) -> list[str]:
    """The names that can be file names and lead nowhere else.

    Example:
        >>> safe_names(["-YtYoSwdUf8", "../secret"])
        ['-YtYoSwdUf8']
    """
    return [name for name in names if _SAFE_ID.fullmatch(name)]


def _first_array(folder: Path, stems: Sequence[str], what: str, member: str = "features") -> np.ndarray:
    """The array of the first file that is there."""
    for stem in stems:
        for ending, read in ((".npy", read_npy), (".npz", lambda path: read_npz_member(path, member))):
            path = folder / f"{stem}{ending}"
            if path.is_file():
                try:
                    return read(path)
                except DataError as error:
                    raise DataError(f"{what}: a file that cannot be read") from error
    raise DataError(f"{what}: no file")


def _width(folder: Path, stems: Sequence[str]) -> int | None:
    """Columns of a video's array; None where there is none that can be read."""
    try:
        array = _first_array(folder, stems, "")
    except DataError:
        return None
    return int(array.shape[1]) if array.ndim == 2 and array.dtype.kind in "fiu" else None
