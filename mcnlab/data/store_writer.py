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
from safetensors.numpy import save

from mcnlab.data.boxes import BOXES_FILE, box_rows, check_boxes, write_boxes
from mcnlab.data.records import Recording, Track
from mcnlab.data.shards import file_checksum, shard_file
from mcnlab.data.store_rows import (
    RECORDINGS_PER_GROUP,
    OpenShard,
    check_values,
    join_manifest,
    joined_schema,
    manifest_table,
    stored_tracks,
)
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError
from mcnlab.files import new_folder_atomically, write_bytes_atomically, write_json_atomically
from mcnlab.modalities import NAME

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

        Raises:
            DataError: a track's modality is text, or is no lower-case name.
        """
        for track in tracks:
            if track.modality == "text" or not NAME.fullmatch(track.modality):
                raise DataError(f"track {track.name}: {track.modality!r} is no modality of a track")
        self.path = Path(path)
        self.name = name
        self.tracks = {track.name: track for track in tracks}
        self.words = words
        self.info = dict(info or {})
        self.calibration = dict(calibration or {})
        self.report: dict[str, Any] = dict(report or {})
        self._shard_bytes = shard_bytes
        self._unwritten = False
        self._stack = ExitStack()
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._splits: dict[str, int] = {}
        self._ids: set[str] = set()
        self._content = hashlib.sha256()
        self._open = OpenShard(0, self.tracks)
        self._files: dict[str, dict[str, Any]] = {}
        self._thumbnails = _ThumbnailSpool()
        self._boxes: list[dict[str, Any]] = []

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
        tracks = stored_tracks(recording, self.tracks)
        if recording.id in self._ids:
            raise DataError(f"{recording.id!r}: the id of a recording must be unique and not empty")
        check_values(recording)
        check_boxes(recording.id, recording.boxes, recording.duration_s)
        row = self._open.add(recording, tracks, self.words.index) | {"checksum": self._checksum(tracks)}
        self._add_boxes(recording)
        self._ids.add(recording.id)
        self._content.update(json.dumps({k: v for k, v in row.items() if k != "media"}, sort_keys=True).encode())
        self._rows.append(row)
        self._splits[row["split"]] = self._splits.get(row["split"], 0) + len(row["caption"])
        if len(self._rows) == RECORDINGS_PER_GROUP:
            self._pack_rows()
        self._thumbnails.add(recording)
        self._unwritten = True
        if self._open.bytes >= self._shard_bytes:
            self._close_shard()

    def _add_boxes(self, recording: Recording) -> None:
        """Keep the boxes of the recording that is added next; they are part of what a store is known by."""
        rows = box_rows(recording.boxes, len(self._ids))
        self._boxes += rows
        if rows:
            self._content.update(json.dumps(rows).encode())

    def _checksum(self, tracks: Mapping[str, np.ndarray]) -> str:
        """The sha256 of a recording's rows, in hex."""
        checksum = hashlib.sha256()
        for name in self.tracks:
            checksum.update(tracks[name].data if name in tracks and tracks[name].size else b"")
        return checksum.hexdigest()

    def _pack_rows(self) -> None:
        """Turn the rows so far into columns, which take a tenth of the memory."""
        self._tables.append(manifest_table(self._rows, list(self.tracks)))
        self._rows = []

    def _close_shard(self) -> None:
        """Write what has gathered as one shard."""
        name = shard_file(self._open.number)
        self._files[name] = self._open.write(self._folder / name)
        self._open = OpenShard(self._open.number + 1, self.tracks)
        self._unwritten = False

    def _finish(self) -> None:
        """Write all that stands beside the shards."""
        if not self._ids:
            raise DataError(f"{self.path}: no recording to store")
        if self._unwritten:  # also of recordings without any feature, whose rows name the shard
            self._close_shard()
        self._thumbnails.close()
        if self._rows:
            self._pack_rows()
        schema = joined_schema([table.schema for table in self._tables])
        join_manifest(self._tables, schema, self._folder / "manifest.parquet")
        vectors = save({"vectors": np.ascontiguousarray(self.words.vectors)})
        write_bytes_atomically(self._folder / "words.safetensors", vectors)  # save_file lets nobody else read it
        words = {"words": list(self.words.words), "source": self.words.source}
        write_json_atomically(self._folder / "words.json", words)
        if self._boxes:
            write_boxes(self._folder / BOXES_FILE, self._boxes)
        if self.calibration:
            write_bytes_atomically(self._folder / "calibration.safetensors", save(self.calibration))
        write_json_atomically(self._folder / "import_report.json", self.report)
        write_json_atomically(self._folder / "store.json", self._info())

    def _info(self) -> dict[str, Any]:
        """Content of `store.json`."""
        files = {
            name: self._files.get(name) or {"bytes": path.stat().st_size, "sha256": file_checksum(path)}
            for path in sorted(self._folder.rglob("*"))
            if path.is_file() and (name := str(path.relative_to(self._folder)))
        }
        counts = {"recordings": len(self._ids), "splits": self._splits}
        return store_json(self.name, counts, list(self.tracks.values()), self.words, self._content, files) | self.info


def store_json(
    name: str,
    counts: Mapping[str, Any],
    tracks: Sequence[Track],
    words: WordVectors,
    content: "hashlib._Hash",
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Content of `store.json`.

    Args:
        name: what reports call the store.
        counts: `recordings`, and clips by split under `splits`.
        tracks: of the store.
        words: vocabulary and vectors.
        content: has seen the rows of the manifest; is given the checksums of shards and words here.
        files: by name inside the store: `bytes` and `sha256`.

    Returns:
        Plain values.
    """
    for file in sorted(files):
        if file.startswith(("shards/", "words")):
            content.update(f"{file} {files[file]['sha256']}".encode())
    return {
        "format": FORMAT,
        "name": name,
        **counts,
        "tracks": [vars(track) for track in tracks],
        "words": {"count": len(words), "dim": words.dim, "source": words.source},
        "fingerprint": content.hexdigest(),
        "files": dict(files),
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
