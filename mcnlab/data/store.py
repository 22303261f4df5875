"""Reading a store: safetensors shards under memory maps, and a Parquet manifest."""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcnlab.data.boxes import BOXES_FILE, read_boxes
from mcnlab.data.clip_table import clip_table, labels_of, modalities_of
from mcnlab.data.manifest import Manifest
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.shards import file_checksum, mapped_tensors, shard_file
from mcnlab.data.store_checks import check_rows, read_info
from mcnlab.data.store_writer import StoreWriter
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError, reading_error
from mcnlab.files import read_json
from mcnlab.modalities import MODALITIES, in_order

__all__ = ["Clip", "Recording", "Store", "StoreWriter", "Track", "describe", "open_store"]


class Store:
    """A store on disk, opened for reading; make one with `open_store`.

    It can be sent to another process: only its path travels.
    """

    def __init__(
        self, path: Path, info: Mapping[str, Any], manifest: Manifest, *, words: WordVectors | None = None
    ) -> None:
        self.path = path
        self._words = words
        self.info: dict[str, Any] = dict(info)
        self.name: str = info["name"]
        self.fingerprint: str = info["fingerprint"]
        self.tracks: Mapping[str, Track] = {row["name"]: Track(**row) for row in info["tracks"]}
        self.factors: tuple[str, ...] = manifest.factors
        self._manifest = manifest
        self._shards: dict[int, Mapping[str, np.ndarray]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (self.path, tuple(self.tracks), self._words)

    def __len__(self) -> int:
        return len(self._manifest)

    def __getitem__(self, row: int) -> Recording:
        if not 0 <= row < len(self):
            raise IndexError(f"{self.path}: recording {row} of {len(self)}")
        return Recording(
            id=self.recording_id(row),
            split=self._manifest.splits[self._manifest.split_codes[row]],
            duration_s=float(self._numbers["duration_s"][row]),
            tracks=self.tracks_of(row),
            clips=self._clips_of(row),
            media=self.media(row),
        )

    def with_video_tracks(self, names: Sequence[str]) -> "Store":
        """The same store as if it had only some of its video tracks.

        Args:
            names: the video tracks to keep; tracks of sound stay.

        Returns:
            A store on the same files. Whether a clip has video is what the whole store says.

        Raises:
            DataError: the store has no such video track.
        """
        known = [track.name for track in self.tracks.values() if track.modality == "video"]
        for name in names:
            if name not in known:
                raise DataError(f"{self.path}: no video track {name!r}; it has {', '.join(known) or 'none'}")
        return self._with_tracks([track.name for track in self.tracks.values() if track.modality != "video"] + [*names])

    def with_words(self, words: WordVectors) -> "Store":
        """The same store as if its captions had been read with another vocabulary.

        Args:
            words: the vocabulary and its vectors.

        Returns:
            A store on the same files. Whether a clip has text is what the whole store says; a clip none of whose words
            is known gives a batch no text.
        """
        return Store(self.path, self.info, self._manifest, words=words)

    def _with_tracks(self, names: Collection[str]) -> "Store":
        """A store with only these tracks, in the store's own order."""
        rows = [row for row in self.info["tracks"] if row["name"] in names]
        return Store(self.path, {**self.info, "tracks": rows}, self._manifest, words=self._words)

    def tracks_of(self, row: int) -> dict[str, np.ndarray]:
        """The tracks of a recording, under memory maps: what `store[row].tracks` holds, without its clips.

        Args:
            row: of the recording, from 0.

        Returns:
            (rows, dim) float16 by track name; a missing track has no key.
        """
        return {name: self._track(name, row) for name in self.tracks if self._numbers[f"{name}_rows"][row]}

    def places_of(self, track: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the rows of every recording's track lie: (recordings,) each: shard, first row in it, number of rows."""
        return self._numbers["shard"], self._numbers[f"{track}_start"], self._numbers[f"{track}_rows"]

    def shard(self, number: int) -> Mapping[str, np.ndarray]:
        """All tracks of a shard under memory maps: (rows, dim) float16 by track name."""
        if number not in self._shards:
            self._shards[number] = mapped_tensors(self.path / shard_file(number))
        return self._shards[number]

    def recording_id(self, row: int) -> str:
        """The id of a recording; never a feature."""
        return str(self._manifest.ids[int(row)].as_py())

    @cached_property
    def lengths_s(self) -> np.ndarray:
        """(recordings,): how long the longest track of each recording lasts, in seconds; 0 without any."""
        lengths = [self._numbers[f"{track.name}_rows"] / track.rate_hz for track in self.tracks.values()]
        return np.max([np.zeros(len(self)), *lengths], axis=0)

    @cached_property
    def word_vectors(self) -> WordVectors:
        """The vocabulary of the store and its frozen vectors."""
        if self._words is not None:
            return self._words
        vocabulary = self._json("words.json")
        vectors = mapped_tensors(self.path / "words.safetensors").get("vectors", np.zeros(0))
        words, source = vocabulary.get("words"), vocabulary.get("source", "unnamed")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError(f"{self.path / 'words.json'}: expected a list of words")
        try:
            return WordVectors(tuple(words), np.array(vectors), str(source))
        except DataError as error:
            raise DataError(f"{self.path / 'words.json'}: {error}") from error

    @cached_property
    def calibration(self) -> Mapping[str, np.ndarray]:
        """Arrays of the frozen extraction; empty where the store has none."""
        path = self.path / "calibration.safetensors"
        return {name: np.array(value) for name, value in mapped_tensors(path).items()} if path.exists() else {}

    @cached_property
    def import_report(self) -> dict[str, Any]:
        """What was kept and dropped when the store was made."""
        return self._json("import_report.json")

    def _json(self, name: str) -> dict[str, Any]:
        """The mapping in a JSON file of the store."""
        path = self.path / name
        try:
            values = read_json(path)
        except (OSError, ValueError, RecursionError) as error:
            raise reading_error(error)(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}: expected a mapping, got {type(values).__name__}")
        return values

    @cached_property
    def splits(self) -> Mapping[str, int]:
        """Split to number of clips, in order of first appearance."""
        counts = np.bincount(self._manifest.split_codes, weights=self._manifest.clip_counts)
        return {name: int(count) for name, count in zip(self._manifest.splits, counts, strict=True)}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes of the clips, sorted; empty without labels."""
        return labels_of(self._manifest)

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that at least one clip has."""
        return modalities_of(self._manifest, tuple(self.tracks.values()))

    def clips(self, split: str | None = None) -> pd.DataFrame:
        """One row per clip, in store order.

        Args:
            split: keep only this split; all where None.

        Returns:
            Columns recording (row in the store), id (recording, colon, number; never a feature), split, start_s, end_s,
            caption, label, has_video, has_audio, has_text, one `has_NAME` per further view, and one `factor:NAME` per
            factor. The index is the clip's place in the whole store, which `thumbnail` takes.

        Raises:
            DataError: the store has no such split.
        """
        if split is not None and split not in self.splits:
            raise DataError(f"{self.path}: no split {split!r}; there are {', '.join(self.splits)}")
        return clip_table(self._manifest, tuple(self.tracks.values()), split)

    @cached_property
    def boxes(self) -> pd.DataFrame:
        """Where things are and when they sound, as far as that is known; without rows where nothing is known.

        Columns recording (row in the store), start_s, end_s, thing, label, left, top, right, bottom (shares of the
        frame's width and height; NaN for what is heard but not seen), sounding, annotator.
        """
        return read_boxes(self.path / BOXES_FILE)

    def media(self, row: int) -> dict[str, Any]:
        """Where the original media of a recording are, as its importer noted it.

        Args:
            row: place of the recording in the store.

        Returns:
            Plain values.
        """
        return json.loads(self._manifest.media_of(row))

    def thumbnail(self, clip: int) -> np.ndarray | None:
        """A small picture of a clip.

        Args:
            clip: place of the clip in the whole store.

        Returns:
            (height, width, 3), uint8; None where the clip has no picture.
        """
        if self._thumbnails is None or not self._thumbnails["present"][clip]:
            return None
        return np.array(self._thumbnails["thumbnails"][clip])

    def verify(self) -> list[str]:
        """Compare every file with its recorded size and checksum, and every number with finiteness.

        Returns:
            One line per problem; empty when all is well.
        """
        problems = []
        for name, known in self.info["files"].items():
            path = self.path / name
            if not path.is_file():
                problems.append(f"{name}: missing")
            elif path.stat().st_size != known["bytes"]:
                problems.append(f"{name}: {path.stat().st_size} bytes, expected {known['bytes']}")
            elif file_checksum(path) != known["sha256"]:
                problems.append(f"{name}: its content has changed (sha256 differs)")
        return problems or self._rows_that_are_not_finite()

    def _rows_that_are_not_finite(self) -> list[str]:
        """One line per recording and track that holds NaN or infinity."""
        return [
            f"{recording.id}: {name} holds values that are not finite"
            for recording in (self[row] for row in range(len(self)))
            for name, rows in recording.tracks.items()
            if not np.isfinite(rows).all()
        ]

    @property
    def _numbers(self) -> Mapping[str, np.ndarray]:
        """The columns of numbers that have one value per recording."""
        return self._manifest.numbers

    def _clips_of(self, row: int) -> tuple[Clip, ...]:
        """The clips of a recording."""
        values = self._manifest.clips_of(row)
        clips = []
        for number, start_s in enumerate(values["clip_start_s"]):
            factors = {name: values[f"factor:{name}"][number] for name in self.factors}
            clips.append(
                Clip(
                    start_s=start_s,
                    end_s=values["clip_end_s"][number],
                    caption=values["caption"][number],
                    label=values["label"][number],
                    factors={name: value for name, value in factors.items() if value is not None},
                    missing=tuple(values["missing"][number]),
                )
            )
        return tuple(clips)

    @cached_property
    def _thumbnails(self) -> Mapping[str, np.ndarray] | None:
        """The pictures and which clips have one; None where there are none at all."""
        path = self.path / "thumbnails.safetensors"
        return mapped_tensors(path) if path.exists() else None

    def _track(self, name: str, row: int) -> np.ndarray:
        """(rows, dim) float16: one recording's track under a memory map."""
        start = int(self._numbers[f"{name}_start"][row])
        return self.shard(int(self._numbers["shard"][row]))[name][
            start : start + int(self._numbers[f"{name}_rows"][row])
        ]


def _opened_again(path: Path, tracks: tuple[str, ...], words: WordVectors | None) -> Store:
    """A store in another process, with the tracks and the words that it had in the first."""
    store = open_store(path)
    return (store if words is None else store.with_words(words))._with_tracks(tracks)


def open_store(path: Path | str) -> Store:
    """Open a store for reading.

    Sizes, widths and row ranges are checked here; checksums and finiteness by `Store.verify`.

    Args:
        path: its folder.

    Returns:
        The store.

    Raises:
        DataError: a file is missing, cut short, empty, or contradicts another; the text names it.

    Example:
        >>> store = open_store("stores/world")  # doctest: +SKIP
        >>> store[0].tracks["video_2d"].shape  # doctest: +SKIP
        (75, 512)
    """
    path = Path(path)
    info = read_info(path)
    for name, known in info["files"].items():
        file = path / name
        if not file.is_file():
            raise DataError(f"{file}: missing from the store")
        if file.stat().st_size != known["bytes"]:
            raise DataError(f"{file}: {file.stat().st_size} bytes, expected {known['bytes']}")
    manifest = Manifest(path / "manifest.parquet", [track["name"] for track in info["tracks"]])
    check_rows(path, info, manifest)
    return Store(path, info, manifest)


def describe(store: Store) -> dict[str, Any]:
    """What is in a store, as plain values for a table or JSON.

    Args:
        store: an open store.

    Returns:
        Counts, dims, rates, splits, missing modalities per split, labels, factors, words, what the import dropped,
        and the state of the checksums.
    """
    clips = store.clips()
    problems = store.verify()
    known = in_order([*MODALITIES, *(track.modality for track in store.tracks.values())])
    return {
        "path": str(store.path),
        "name": store.name,
        "fingerprint": store.fingerprint,
        "recordings": len(store),
        "clips": len(clips),
        "hours": round(float((clips["end_s"] - clips["start_s"]).sum()) / 3600, 4),
        "bytes": sum(known["bytes"] for known in store.info["files"].values()),
        "tracks": {track.name: vars(track) for track in store.tracks.values()},
        "modalities": list(store.modalities),
        "splits": {
            split: {"clips": len(rows), **{f"without_{m}": int((~rows[f"has_{m}"]).sum()) for m in known}}
            for split, rows in clips.groupby("split", sort=False)
        },
        "labels": {name: int(count) for name, count in clips["label"].value_counts().sort_index().items()},
        "factors": {name: _factor_summary(clips[f"factor:{name}"]) for name in store.factors},
        "words": {**store.info["words"]},
        "visual": store.info.get("visual", {}),
        "dropped": {reason: len(ids) for reason, ids in store.import_report.get("dropped", {}).items()},
        "lost": {reason: len(ids) for reason, ids in store.import_report.get("lost", {}).items()},
        "checksums": problems or "as recorded",
    }


def _factor_summary(values: pd.Series) -> dict[str, Any]:
    """Kind, number of known values, and range or number of categories of a factor."""
    known = values.dropna()
    if pd.api.types.is_numeric_dtype(values):
        span = [float(known.min()), float(known.max())] if len(known) else []
        return {"kind": "continuous", "clips": len(known), "range": span}
    return {"kind": "categorical", "clips": len(known), "categories": int(known.nunique())}
