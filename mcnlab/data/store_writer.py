"""Writing a store: under a temporary name, checked row by row, renamed when it is whole."""

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from mcnlab.data.arrays import to_float16
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.shards import file_checksum, shard_file
from mcnlab.data.text import WordVectors, tokens
from mcnlab.errors import DataError
from mcnlab.files import new_folder_atomically, write_json_atomically

FORMAT = 1
SHARD_BYTES = 512 * 2**20


class StoreWriter:
    """Collects recordings into a new store; use it as a context manager.

    The store appears under its own name when the block ends without an error; otherwise nothing is left behind.

    Example:
        >>> with StoreWriter(path, name="demo", tracks=tracks, words=words) as writer:  # doctest: +SKIP
        ...     writer.add(recording)
    """

    def __init__(
        self,
        path: Path | str,
        *,
        name: str,
        tracks: Sequence[Track],
        words: WordVectors,
        info: Mapping[str, Any] | None = None,
        calibration: Mapping[str, np.ndarray] | None = None,
        report: Mapping[str, Any] | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Prepare to write; nothing touches the disk before the block is entered.

        Args:
            path: the folder of the store; it must not exist.
            name: what reports call it.
            tracks: the feature sequences that recordings may have.
            words: vocabulary and vectors.
            info: more plain values for `store.json`, such as the visual backbone and the world's settings.
            calibration: arrays that later media need to go through the same extraction.
            report: content of `import_report.json`; may be set later through `report`.
            shard_bytes: a shard that has grown to this size is closed.
        """
        self.path = Path(path)
        self.name = name
        self.tracks = {track.name: track for track in tracks}
        self.words = words
        self.info = dict(info or {})
        self.calibration = dict(calibration or {})
        self.report: dict[str, Any] = dict(report or {})
        self._shard_bytes = shard_bytes
        self._stack = ExitStack()
        self._rows: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._content = hashlib.sha256()
        self._shard = 0
        self._open: dict[str, list[np.ndarray]] = {name: [] for name in self.tracks}
        self._open_rows = dict.fromkeys(self.tracks, 0)
        self._thumbnails = _ThumbnailSpool()

    def __enter__(self) -> Self:
        self._folder = self._stack.enter_context(new_folder_atomically(self.path))
        (self._folder / "shards").mkdir()
        self._stack.enter_context(self._thumbnails.opened(self._folder / "thumbnails.safetensors"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            return self._stack.__exit__(kind, error, traceback)
        with self._stack:
            self._finish()
        return None

    def add(self, recording: Recording) -> None:
        """Put one recording into the store.

        Args:
            recording: its tracks may be of any float type; they are stored as float16.

        Raises:
            DataError: something in it is impossible; the text names the recording and the field.
        """
        tracks = {name: self._checked_track(recording, name) for name in recording.tracks}
        self._check(recording)
        self._ids.add(recording.id)
        row = self._manifest_row(recording, tracks)
        self._content.update(json.dumps({k: v for k, v in row.items() if k != "media"}, sort_keys=True).encode())
        self._rows.append(row)
        self._thumbnails.add(recording)
        for name, values in tracks.items():
            self._open[name].append(values)
            self._open_rows[name] += len(values)
        if sum(2 * track.dim * self._open_rows[name] for name, track in self.tracks.items()) >= self._shard_bytes:
            self._close_shard()

    def _checked_track(self, recording: Recording, name: str) -> np.ndarray:
        """(rows, dim) float16: a track as it is stored."""
        track = self.tracks.get(name)
        if track is None:
            raise DataError(f"{recording.id}: unknown track {name!r}; this store has {', '.join(self.tracks)}")
        values = np.asarray(recording.tracks[name])
        if values.ndim != 2 or values.shape[1] != track.dim:
            raise DataError(f"{recording.id}: {name} has shape {values.shape}, expected (rows, {track.dim})")
        try:
            return to_float16(values)
        except DataError as error:
            raise DataError(f"{recording.id}: {name} {error}") from error

    def _check(self, recording: Recording) -> None:
        """Raise when a recording's plain values are impossible."""
        if not recording.id or recording.id in self._ids:
            raise DataError(f"{recording.id!r}: the id of a recording must be unique and not empty")
        if not recording.split:
            raise DataError(f"{recording.id}: no split")
        if not recording.clips:
            raise DataError(f"{recording.id}: no clips")
        if not math.isfinite(recording.duration_s) or recording.duration_s <= 0:
            raise DataError(f"{recording.id}: duration {recording.duration_s} s")
        for clip in recording.clips:
            if not 0 <= clip.start_s < clip.end_s <= recording.duration_s + 1e-6:
                window = f"{clip.start_s} to {clip.end_s} s"
                raise DataError(f"{recording.id}: a clip from {window} in {recording.duration_s} s")

    def _manifest_row(self, recording: Recording, tracks: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The manifest's row for a recording, as plain values."""
        clips = recording.clips
        row: dict[str, Any] = {
            "id": recording.id,
            "split": recording.split,
            "duration_s": float(recording.duration_s),
            "shard": self._shard,
            "clip_start_s": [float(clip.start_s) for clip in clips],
            "clip_end_s": [float(clip.end_s) for clip in clips],
            "caption": [clip.caption for clip in clips],
            "label": [clip.label for clip in clips],
            "missing": [list(clip.missing) for clip in clips],
            "known_words": [self._known_words(clip) for clip in clips],
            "factors": [{name: _plain_factor(recording.id, name, clip) for name in clip.factors} for clip in clips],
            "media": json.dumps(dict(recording.media), sort_keys=True),
        }
        checksum = hashlib.sha256()
        for name in self.tracks:
            values = tracks.get(name)
            row[f"{name}_start"] = self._open_rows[name]
            row[f"{name}_rows"] = 0 if values is None else len(values)
            checksum.update(b"" if values is None else values.tobytes())
        return row | {"checksum": checksum.hexdigest()}

    def _known_words(self, clip: Clip) -> int:
        """How many words of a caption have a vector."""
        return sum(word in self.words.index for word in tokens(clip.caption))

    def _close_shard(self) -> None:
        """Write what has gathered as one shard."""
        arrays = {
            name: np.concatenate(parts) if parts else np.zeros((0, self.tracks[name].dim), np.float16)
            for name, parts in self._open.items()
        }
        save_file(arrays, self._folder / shard_file(self._shard))
        self._open = {name: [] for name in self.tracks}
        self._open_rows = dict.fromkeys(self.tracks, 0)
        self._shard += 1

    def _finish(self) -> None:
        """Write all that stands beside the shards."""
        if not self._rows:
            raise DataError(f"{self.path}: no recording to store")
        if any(self._open.values()) or self._shard == 0:
            self._close_shard()
        self._thumbnails.close()
        pq.write_table(_manifest(self._rows, list(self.tracks)), self._folder / "manifest.parquet")
        save_file({"vectors": np.ascontiguousarray(self.words.vectors)}, self._folder / "words.safetensors")
        words = {"words": list(self.words.words), "source": self.words.source}
        write_json_atomically(self._folder / "words.json", words)
        if self.calibration:
            save_file(self.calibration, self._folder / "calibration.safetensors")
        write_json_atomically(self._folder / "import_report.json", self.report)
        write_json_atomically(self._folder / "store.json", self._info())

    def _info(self) -> dict[str, Any]:
        """Content of `store.json`."""
        files = {
            str(path.relative_to(self._folder)): {"bytes": path.stat().st_size, "sha256": file_checksum(path)}
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }
        for name in sorted(files):
            if name.startswith(("shards/", "words")):
                self._content.update(f"{name} {files[name]['sha256']}".encode())
        splits: dict[str, int] = {}
        for row in self._rows:
            splits[row["split"]] = splits.get(row["split"], 0) + len(row["caption"])
        return {
            "format": FORMAT,
            "name": self.name,
            "recordings": len(self._rows),
            "splits": splits,
            "tracks": [vars(track) for track in self.tracks.values()],
            "words": {"count": len(self.words), "dim": self.words.dim, "source": self.words.source},
            "fingerprint": self._content.hexdigest(),
            "files": files,
            **self.info,
        }


class _ThumbnailSpool:
    """Pictures of one size, appended to a file as they come, so that memory does not grow with the store."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._present: list[bool] = []

    def opened(self, path: Path) -> ExitStack:
        """Begin to write; pictures lie behind a header of fixed length that is filled in at the end."""
        self._path = path
        self._file = path.open("w+b")
        self._file.write(b"\0" * _THUMBNAIL_HEADER)
        stack = ExitStack()
        stack.callback(self._file.close)
        return stack

    def add(self, recording: Recording) -> None:
        """Append one picture per clip, black where a clip lacks it."""
        pictures = recording.thumbnails
        if pictures is not None:
            self._check(recording.id, pictures, len(recording.clips))
        for number, clip in enumerate(recording.clips):
            present = pictures is not None and "video" not in clip.missing
            if pictures is not None and self._shape is None:
                self._shape = pictures.shape[1:]
                self._file.write(bytes(math.prod(self._shape)) * len(self._present))
            if self._shape is not None:
                picture = pictures[number] if pictures is not None and present else np.zeros(self._shape, np.uint8)
                self._file.write(np.ascontiguousarray(picture).tobytes())
            self._present.append(present)

    def close(self) -> None:
        """Fill in the header, or remove the file where no clip had a picture."""
        if self._shape is None:
            self._file.close()
            self._path.unlink()
            return
        pictures = len(self._present) * math.prod(self._shape)
        self._file.write(np.array(self._present, dtype=np.bool_).tobytes())
        header = {
            "thumbnails": _entry("U8", [len(self._present), *self._shape], 0, pictures),
            "present": _entry("BOOL", [len(self._present)], pictures, pictures + len(self._present)),
        }
        text = json.dumps(header).encode().ljust(_THUMBNAIL_HEADER - 8)
        self._file.seek(0)
        self._file.write(struct.pack("<Q", len(text)) + text)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _check(self, recording: str, pictures: np.ndarray, clips: int) -> None:
        """Raise when pictures do not fit their clips or the pictures before them."""
        fits = pictures.dtype == np.uint8 and pictures.ndim == 4 and pictures.shape[3] == 3 and len(pictures) == clips
        if not fits or self._shape not in (None, pictures.shape[1:]):
            wanted = f"({clips}, {', '.join(map(str, self._shape)) if self._shape else 'height, width, 3'})"
            raise DataError(f"{recording}: thumbnails {pictures.dtype} {pictures.shape}, expected uint8 {wanted}")


_THUMBNAIL_HEADER = 512


def _entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """One tensor's entry in a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _plain_factor(recording: str, name: str, clip: Clip) -> float | str:
    """A factor value as a plain float or text."""
    value = clip.factors[name]
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise DataError(f"{recording}: factor {name} is {value}")
    return float(value)


def _manifest(rows: list[dict[str, Any]], tracks: list[str]) -> pa.Table:
    """The manifest as a table with a fixed type per column."""
    types: dict[str, pa.DataType] = {
        "id": pa.string(),
        "split": pa.string(),
        "duration_s": pa.float64(),
        "shard": pa.int32(),
        **{f"{track}_{what}": pa.int64() for track in tracks for what in ("start", "rows")},
        "clip_start_s": pa.list_(pa.float64()),
        "clip_end_s": pa.list_(pa.float64()),
        "caption": pa.list_(pa.string()),
        "label": pa.list_(pa.string()),
        "missing": pa.list_(pa.list_(pa.string())),
        "known_words": pa.list_(pa.int32()),
        "media": pa.string(),
        "checksum": pa.string(),
    }
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
    for name in dict.fromkeys(name for row in rows for clip in row["factors"] for name in clip):
        columns[f"factor:{name}"] = _factor_column(name, [[clip.get(name) for clip in row["factors"]] for row in rows])
    return pa.table(columns)


def _factor_column(name: str, values: list[list[float | str | None]]) -> pa.Array:
    """A factor's values per clip, all numbers or all texts."""
    kinds = {type(value) for row in values for value in row if value is not None}
    if len(kinds) > 1:
        raise DataError(f"factor {name} is a number in some clips and a text in others")
    return pa.array(values, pa.list_(pa.string() if kinds == {str} else pa.float64()))
