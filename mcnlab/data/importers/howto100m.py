"""HowTo100M as MCN and AVLnet train on it: extracted features and captions of a million videos."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.importers.howto100m_captions import Captions, checked_captions, open_captions
from mcnlab.data.importers.howto100m_features import RATES_HZ, feature_file, of_other_length, read_rows, tracks_of
from mcnlab.data.importers.howto100m_list import ListedVideo, VideoList, held_out_ids, read_video_list, split_by_hash
from mcnlab.data.importers.recordings import Reading
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.sharded import RECORDINGS_PER_SHARD, import_sharded
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.text import WordVectors, load_word_vectors, tokens
from mcnlab.errors import ConfigError, DataError

VERSION = 1
"""Of what this module makes of a file; a higher one does not go on with imports of a lower."""
VAL_SHARE = 0.01
"""Part of the videos that becomes `val` where no list says which."""


def import_howto100m(
    videos: Path | str,
    out: Path | str,
    *,
    features: Path | str,
    captions: Path | str,
    words: Path | str,
    held_out: Path | str | None = None,
    val_share: float = VAL_SHARE,
    rate_2d_hz: float = RATES_HZ["video_2d"],
    rate_3d_hz: float = RATES_HZ["video_3d"],
    name: str = "HowTo100M",
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    recordings_per_shard: int = RECORDINGS_PER_SHARD,
    executor: Executor | None = None,
) -> ImportReport:
    """Make a store from extracted HowTo100M features; an interrupted import goes on where it stopped.

    Every caption becomes a clip with its own times, so that training can draw clips as published. A video of which
    nothing is there, as about a quarter are, is left out and counted; a file that cannot be read costs its video that
    track; a caption that cannot be used costs only itself.

    Args:
        videos: the list, CSV or TXT.
        out: folder of the new store. When it holds the result of this very import, nothing is done.
        features: folder of the features.
        captions: JSON, pickle, or a folder with one CSV per video.
        words: file of word vectors, such as GoogleNews' `.bin`; only words of the captions are kept.
        held_out: list of videos that become `val`; None takes a share of them by the hash of their ids.
        val_share: that share, from 0 to below 1.
        rate_2d_hz: rows per second of the 2D features.
        rate_3d_hz: rows per second of the 3D features.
        name: what reports call the store.
        progress: called with videos done and in all.
        workers: processes; the bytes of the store do not depend on it.
        recordings_per_shard: videos of one shard; a process holds as many in memory.
        executor: runs the tasks in place of own processes, as any `concurrent.futures.Executor` does.

    Returns:
        What became of every video; the same is in the store's `import_report.json`.

    Raises:
        ConfigError: a share or a rate is out of range, or an unfinished import from something else lies there.
        DataError: list, captions, words or folder are wrong as a whole, or nothing can be used.
        BusyError: another process is at it.
        RankError: a process was killed.
        StorageError: the store cannot be written, or exists.

    Source:
        Miech et al. 2019 (arXiv 1906.03327) and Chen et al. 2021 (arXiv 2104.12671), as their released loaders read
        it. Differences: features are kept as float16; captions without length or time are left out; a part of the
        videos is held out.
    """
    if not 0 <= val_share < 1 or min(rate_2d_hz, rate_3d_hz) <= 0:
        raise ConfigError(
            f"expected 0 <= val_share < 1 and positive rates, got {val_share}, {rate_2d_hz} and {rate_3d_hz}"
        )
    listed = read_video_list(Path(videos))
    rates_hz = {**RATES_HZ, "video_2d": rate_2d_hz, "video_3d": rate_3d_hz}
    tracks = tracks_of(Path(features), listed.videos, rates_hz=rates_hz)
    held = held_out_ids(Path(held_out)) if held_out is not None else None
    return import_sharded(
        Sources(listed, Path(captions), Path(words), held, val_share),
        VideoReader(str(Path(features).absolute()), tracks),
        Path(out),
        key={
            "list": _state(Path(videos)),
            "features": str(Path(features).absolute()),
            "captions": _state(Path(captions)),
            "words": _state(Path(words)),
            "held_out": None if held_out is None else _state(Path(held_out)),
            "val_share": val_share,
            "name": name,
            "version": VERSION,
        },
        name=name,
        tracks=tracks,
        info={"source": "howto100m"},
        progress=progress,
        workers=workers,
        recordings_per_shard=recordings_per_shard,
        executor=executor,
    )


def _state(path: Path) -> list[Any]:
    """What tells whether a file has changed: its place, and its size and time of change; of a folder its place."""
    if not path.is_file():
        return [str(path.absolute())]
    return [str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns]


@dataclass
class Sources:
    """What `VideoReader` takes of every video, one by one; what is learned on the way is there afterwards."""

    listed: VideoList
    captions: Path
    words: Path
    held_out: frozenset[str] | None
    """Ids of `val`; None takes a share of all."""
    val_share: float
    vocabulary: set[str] = field(default_factory=set)
    """Words of all captions."""
    videos_with_captions: int = 0
    _notes: list[str] = field(default_factory=list)
    _splits: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The videos of the list, then the rows that name none."""
        spoken = open_captions(self.captions)
        foreign = len(spoken.foreign({video.id for video in self.listed.videos}))
        if foreign:
            self._notes.append(f"{foreign} videos have captions but are not in the list")
        if spoken.twice:
            self._notes.append(f"{len(spoken.twice)} names stand twice in {self.captions.name}; the first counts")
        for video in self.listed.videos:
            raw = spoken.raw(video)
            self.videos_with_captions += raw is not None
            self.vocabulary.update(word for text in checked_captions(raw).text for word in tokens(text))
            common = {"id": video.id, "path": video.path, "files": dict(video.files)}
            yield {**common, "split": self._split(video.id), "captions": raw}
        for reason, row in self.listed.refused:
            yield {"id": row, "refused": reason}

    def word_vectors(self) -> WordVectors:
        """The vectors of the words of the captions.

        Raises:
            DataError: no listed video has captions, or the file knows none of their words.
        """
        if not self.videos_with_captions:
            raise DataError(f"{self.captions}: no captions of any of {len(self.listed.videos)} listed videos")
        vectors = load_word_vectors(self.words, self.vocabulary)
        unknown = len(self.vocabulary) - len(vectors)
        self._notes.append(f"{unknown} of {len(self.vocabulary)} different words of the captions have no vector")
        return vectors

    def notes(self) -> list[str]:
        """What the reader should know of the captions and the splits as a whole."""
        if "val" not in self._splits:
            return [*self._notes, "no video became val: name some with held_out, or raise val_share"]
        return self._notes

    def _split(self, id_: str) -> str:
        """`train` or `val`."""
        held = split_by_hash(id_, self.val_share) if self.held_out is None else None
        split = held or ("val" if id_ in (self.held_out or ()) else "train")
        self._splits.add(split)
        return split


@dataclass(frozen=True)
class VideoReader:
    """Reads one video's features; can be sent to another process."""

    features: str
    """Folder of the features."""
    tracks: tuple[Track, ...]

    def __call__(self, source: Mapping[str, Any]) -> Reading:
        """What is there of a video.

        Args:
            source: plain values of it: `id`, `path`, `files`, `split`, `captions`; or `id` and `refused`.

        Returns:
            Its recording, or None where it has no features or no captions.
        """
        if "refused" in source:
            return Reading(source["id"], None, (source["refused"],))
        arrays, problems = self._arrays(ListedVideo(source["id"], source["path"], source["files"]))
        if not arrays:
            return Reading(source["id"], None, tuple(problems) or ("no features",))
        if source["captions"] is None:
            return Reading(source["id"], None, ("no captions",))
        captions = checked_captions(source["captions"])
        if not captions.start_s:
            return Reading(source["id"], None, captions.problems or ("no captions",))
        return self._reading(source, arrays, captions, problems)

    def _arrays(self, video: ListedVideo) -> tuple[dict[str, np.ndarray], list[str]]:
        """The tracks that can be used, and what is wrong or missing."""
        arrays, problems, missing = {}, [], []
        for track in self.tracks:
            path = feature_file(Path(self.features), video, track.name)
            if path is None:
                missing.append(f"no {track.name}")
                continue
            try:
                arrays[track.name] = read_rows(path, track)
            except DataError as error:
                problems.append(f"{track.name}: {error}")
        seconds = {track.name: len(arrays[track.name]) / track.rate_hz for track in self.tracks if track.name in arrays}
        for name in of_other_length(seconds):
            del arrays[name]
            problems.append(f"{name} does not last as long as the other features")
        return arrays, problems + (missing if arrays or problems else [])

    def _reading(
        self, source: Mapping[str, Any], arrays: dict[str, np.ndarray], captions: Captions, problems: list[str]
    ) -> Reading:
        """A recording with one clip per caption."""
        ends_s = {modality: self._end_s(arrays, modality) for modality in ("video", "audio")}
        clips = tuple(
            Clip(start, end, text, missing=tuple(m for m, until in ends_s.items() if 0 < until <= start))
            for start, end, text in zip(captions.start_s, captions.end_s, captions.text, strict=True)
        )
        late = ["captions after the end of the features"] if any(clip.missing for clip in clips) else []
        recording = Recording(
            id=source["id"],
            split=source["split"],
            duration_s=max(*ends_s.values(), *captions.end_s),
            tracks=arrays,
            clips=clips,
            media={"source": "howto100m", "path": source["path"]},
        )
        return Reading(source["id"], recording, (*problems, *captions.problems, *late), as_stored=True)

    def _end_s(self, arrays: Mapping[str, np.ndarray], modality: str) -> float:
        """When the shortest track of a modality ends; 0 where there is none."""
        own = [t for t in self.tracks if t.modality == modality and t.name in arrays]
        return min((len(arrays[track.name]) / track.rate_hz for track in own), default=0.0)
