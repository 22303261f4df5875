"""HowTo100M features on disk: where they may lie, and how each kind of file is read."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mcnlab.data.arrays import read_npy, read_npz_array, to_float16
from mcnlab.data.importers.howto100m_list import ListedVideo
from mcnlab.data.records import Track
from mcnlab.errors import DataError

BANDS = 40
"""Bands of a published log-mel."""
RATES_HZ = {"video_2d": 1.0, "video_3d": 1.5, "audio_mel": 100.0}
"""Published rows per second by track."""
_ENDINGS = {"video_2d": ("_2d",), "video_3d": ("_3d", ""), "audio_mel": ("_spec",)}
_SUFFIXES = (".npz", ".npy", ".pth", ".pt")
_ARRAYS = ("features", "arr_0")
_FIRST = 5
"""Videos whose tracks must not all contradict each other before the work starts."""
_LOOKED_AT = 1000
"""Videos with features that are looked at in search of a kind of track."""
_SLACK_S, _SLACK = 5.0, 0.1
"""Tracks of one video may differ in length by this, or by this share of it."""


def feature_file(folder: Path, video: ListedVideo, track: str) -> Path | None:
    """Where a video's features lie.

    Args:
        folder: of all features.
        video: a row of the list.
        track: `video_2d`, `video_3d` or `audio_mel`.

    Returns:
        The first of `PATH/ID_2d.npz`, `PATH_2d.npz`, `ID_2d.npz` that is there (`_3d` or nothing, `_spec` for the other
        tracks; also `.npy`, `.pth`, `.pt`); where the list names a file, that one. None where there is none.
    """
    if track in video.files:
        named = folder / video.files[track]
        return named if named.is_file() else None
    stems = (folder / video.path / video.id, folder / video.path, folder / video.id)
    for stem in dict.fromkeys(stems):
        if not stem.parent.is_dir():  # one look instead of many: the videos that are gone are the slow ones
            continue
        for ending in _ENDINGS[track]:
            for suffix in _SUFFIXES:
                path = stem.with_name(stem.name + ending + suffix)
                if path.is_file():
                    return path
    return None


def read_rows(path: Path, track: Track) -> np.ndarray:
    """A video's features as a store keeps them.

    Args:
        path: npz with an array `features` or `arr_0`, npy, or a tensor saved by torch.
        track: what they are to be.

    Returns:
        (rows, dim) float16, at least one row; a log-mel of (bands, frames) is turned.

    Raises:
        DataError: the file is damaged, holds objects, NaN, infinity or nothing, or has another width. The text names
            neither the file nor a number that changes from file to file.
    """
    try:
        values = _read(path)
        if track.modality == "audio" and values.ndim == 2 and values.shape[0] == track.dim:
            values = values.T
        if values.ndim != 2 or values.shape[1] != track.dim:
            raise DataError(f"is {_form(values)}, expected (rows, {track.dim})")
        if not len(values):
            raise DataError("has no rows")
        return to_float16(values)
    except DataError as error:
        raise DataError(_without_names(str(error), path)) from error


def tracks_of(
    folder: Path, videos: Iterable[ListedVideo], *, rates_hz: Mapping[str, float] = RATES_HZ
) -> tuple[Track, ...]:
    """The tracks that the videos have, with the widths of the first files that can be read.

    Args:
        folder: of all features.
        videos: the list.
        rates_hz: rows per second by track.

    Returns:
        In the order of `rates_hz`; a kind of which the first thousand videos with features have no file is left out.

    Raises:
        DataError: the folder is not there or holds features of no video; or the tracks of the first videos all
            contradict each other in length, as wrong rates do.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of features")
    found: dict[str, Track] = {}
    lengths: list[dict[str, float]] = []
    looked_at, asked, wrong = 0, 0, ""
    for video in videos:
        asked += 1
        files = {name: path for name in rates_hz if (path := feature_file(folder, video, name)) is not None}
        looked_at += bool(files)
        wanted = files if len(lengths) < _FIRST else {name: files[name] for name in files.keys() - found.keys()}
        seconds = {}
        for name, path in wanted.items():
            try:
                rows, dim = _shape(path, name)
                found.setdefault(name, Track(name, "audio" if name == "audio_mel" else "video", dim, rates_hz[name]))
                seconds[name] = rows / rates_hz[name]
            except DataError as error:
                wrong = wrong or str(error)
        if len(seconds) > 1:
            lengths.append(seconds)
        if looked_at >= _LOOKED_AT or (len(found) == len(rates_hz) and len(lengths) >= _FIRST):
            break
    if not found:
        raise DataError(f"{folder}: no usable features of {asked} listed videos{f' ({wrong})' if wrong else ''}")
    _refuse_contradiction(folder, lengths)
    return tuple(found[name] for name in rates_hz if name in found)


def of_other_length(seconds: Mapping[str, float]) -> list[str]:
    """Tracks that do not last as long as the first one.

    Args:
        seconds: by track: how long it lasts.

    Returns:
        Names of tracks that differ by more than 5 s and more than a tenth.
    """
    if not seconds:
        return []
    first = next(iter(seconds.values()))
    return [name for name, own in seconds.items() if abs(own - first) > max(_SLACK_S, _SLACK * max(own, first))]


def _refuse_contradiction(folder: Path, lengths: list[dict[str, float]]) -> None:
    """Raise when the tracks of every one of the first videos differ in length: then the rates are wrong."""
    if lengths and all(of_other_length(seconds) for seconds in lengths):
        example = ", ".join(f"{name} {own:.0f} s" for name, own in lengths[0].items())
        raise DataError(f"{folder}: the tracks of a video do not last equally long ({example}); are the rates right?")


def _shape(path: Path, name: str) -> tuple[int, int]:
    """Rows and width of a file's features."""
    values = _read(path)
    if values.ndim != 2 or not values.size:
        raise DataError(f"{path}: {_form(values)}, expected two axes")
    if name == "audio_mel":
        if BANDS not in values.shape:
            raise DataError(f"{path}: {_form(values)}, expected ({BANDS}, frames)")
        return (values.shape[1] if values.shape[0] == BANDS else values.shape[0]), BANDS
    return values.shape[0], values.shape[1]


def _read(path: Path) -> np.ndarray:
    """The array of a file, by its ending."""
    if path.suffix == ".npz":
        return read_npz_array(path, _ARRAYS)
    return read_npy(path) if path.suffix == ".npy" else _read_tensor(path)


def _read_tensor(path: Path) -> np.ndarray:
    """The tensor of a file that torch saved, alone or under `features`; no code of the file is run."""
    import pickle  # for the name of an error; nothing is unpickled here

    import torch  # late: two seconds of start-up that the usual npz files do not need

    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        raise DataError(f"{path}: not a file of plain tensors") from None
    value = value.get("features") if isinstance(value, dict) else value
    if not isinstance(value, torch.Tensor) or value.is_sparse or value.is_quantized:
        raise DataError(f"{path}: no tensor in it, alone or under 'features'")
    value = value.detach()
    return (value if value.dtype in {torch.float16, torch.float64} else value.float()).numpy()


def _form(values: np.ndarray) -> str:
    """The shape of an array as reports say it: the number of rows of each video is no news."""
    return f"of shape (…, {values.shape[1]})" if values.ndim == 2 else f"an array of {values.ndim} axes"


def _without_names(text: str, path: Path) -> str:
    """An error's text without its file and its byte counts, so that equal ones can be counted together."""
    text = text.removeprefix(f"{path}: ")
    return text if text.startswith("is of shape") else re.sub(r"\b\d{2,}\b", "…", text)
