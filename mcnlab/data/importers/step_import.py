"""From videos with annotated steps to a store, resumable: what the importers of CrossTask and MiningYouTube share."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from mcnlab.data.importers.recordings import Reading
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.sharded import RECORDINGS_PER_SHARD, import_sharded
from mcnlab.data.importers.step_features import FeatureFolder, folder_sketch
from mcnlab.data.importers.steps import Step, StepVideo, read_step_video, store_tracks, words_of
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError

VERSION = 1
"""Of what this module makes of a file; a higher one does not go on with imports of a lower."""
Planned = StepVideo | Reading
"""A video with its annotation, or why it has none that can be used."""


@dataclass(frozen=True)
class WordChoice:
    """Where word vectors come from."""

    path: Path | None
    """A published file of word vectors; None trains them on the texts."""
    dim: int
    """Width when trained."""
    seed: int
    """Of the training."""


def import_step_videos(
    videos: Sequence[Planned],
    out: Path,
    *,
    features: FeatureFolder,
    audio: Path | None,
    texts: Sequence[str],
    words: WordChoice,
    name: str,
    info: Mapping[str, Any],
    notes: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    recordings_per_shard: int = RECORDINGS_PER_SHARD,
    executor: Executor | None = None,
) -> ImportReport:
    """Read the features of videos whose steps are known into a store; an interrupted import goes on where it stopped.

    Args:
        videos: all listed ones, in the order of the store.
        out: folder of the new store. When it holds the result of this very import, nothing is done.
        features: where their video features lie.
        audio: folder of their log-mels; None where there are none.
        texts: that word vectors are looked up for, or trained on.
        words: where word vectors come from.
        name: what reports call the store.
        info: more plain values for `store.json`.
        notes: what the reader should know of the import as a whole.
        progress: called with videos done and all.
        workers: processes; the bytes of the store do not depend on it.
        recordings_per_shard: videos of one shard; a process holds as many in memory.
        executor: runs the tasks in place of own processes.

    Returns:
        What became of every video.

    Raises:
        ConfigError: an unfinished import from something else lies there.
        DataError: nothing can be used, or no text has a vector.
        BusyError: another process is at it.
        RankError: a process was killed.
        StorageError: the store cannot be written, or exists.
    """
    sources = [_source(one) for one in without_doubles(videos)]
    tracks = store_tracks(features, audio)
    return import_sharded(
        StepSources(sources, list(texts), words, list(notes)),
        StepReader(features, audio),
        out,
        key={
            "videos": hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest(),
            "features": str(features.path.absolute()),
            "audio": None if audio is None else str(audio.absolute()),
            "words": [_state(words.path), words.dim, words.seed],
            "texts": hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest(),
            "name": name,
            "version": VERSION,
        },
        name=name,
        tracks=tracks,
        info=info,
        progress=progress,
        workers=workers,
        recordings_per_shard=recordings_per_shard,
        executor=executor,
    )


def without_doubles(videos: Sequence[Planned]) -> Iterator[Planned]:
    """The same videos; one whose id stood before is refused.

    Args:
        videos: in order.

    Yields:
        As many.
    """
    seen: set[str] = set()
    for video in videos:
        yield Reading(video.id, None, ("it stands in the list a second time",)) if video.id in seen else video
        seen.add(video.id)


def refuse_strange_annotations(folder: Path, videos: Sequence[Planned], looked_for: str) -> None:
    """Say before any work that a folder is not what it was taken for.

    Args:
        folder: of annotations.
        videos: what was found in it.
        looked_for: the files that it should hold, in words.

    Raises:
        DataError: not one video has a step.
    """
    if any(isinstance(one, StepVideo) and one.steps for one in videos):
        return
    reasons = Counter(reason for one in videos for reason in (one.problems or ("no step in it",)))
    often = ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common(2))
    raise DataError(
        f"{folder}: holds usable annotations of none of {len(videos)} videos ({often}); looked for {looked_for}; "
        f"{folder_sketch(folder)}"
    )


@dataclass
class StepSources:
    """What `StepReader` takes of every video, and the words of all."""

    videos: list[dict[str, Any]]
    """Plain values of `StepVideo`, or `id` and `refused`."""
    texts: list[str]
    words: WordChoice
    told: list[str]
    """Notes on the import as a whole; one on texts without a vector is added."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The videos in order."""
        return iter(self.videos)

    def word_vectors(self) -> WordVectors:
        """The vectors of the words of all texts.

        Raises:
            DataError: no text holds a word, or the file knows none of them.
        """
        vectors = words_of(self.texts, self.words.path, dim=self.words.dim, seed=self.words.seed)
        said = Counter(chain.from_iterable(map(_annotated_texts, self.videos)))
        unread = Counter({text: count for text, count in said.items() if text and not len(vectors.ids(text, 1))})
        if unread:
            often = ", ".join(repr(text[:40]) for text, _ in unread.most_common(3))
            self.told.append(
                f"{unread.total()} annotated steps have a text without a single word in {vectors.source!r}, so no "
                f"text: {often}"
            )
        return vectors

    def notes(self) -> list[str]:
        """What the reader should know of the import as a whole."""
        return self.told


@dataclass(frozen=True)
class StepReader:
    """Reads one video's features; can be sent to another process."""

    features: FeatureFolder
    audio: Path | None

    def __call__(self, source: Mapping[str, Any]) -> Reading:
        """A recording of plain values, or why there is none."""
        if "refused" in source:
            return Reading(source["id"], None, tuple(source["refused"]))
        video = StepVideo(
            source["id"],
            tuple(source["names"]),
            source["split"],
            tuple(source["texts"]),
            tuple(Step(**step) for step in source["steps"]),
            source["media"],
            rows=source["rows"],
            problems=tuple(source["problems"]),
        )
        return read_step_video(video, self.features, self.audio)


def _source(video: Planned) -> dict[str, Any]:
    """Plain values of a video."""
    return {"id": video.id, "refused": list(video.problems)} if isinstance(video, Reading) else asdict(video)


def _annotated_texts(source: Mapping[str, Any]) -> list[str]:
    """The text of every annotated interval of a video."""
    return [source["texts"][step["number"]] for step in source.get("steps", ())]


def _state(path: Path | None) -> list[Any] | None:
    """What tells whether a file has changed: its place, size and time of change."""
    if path is None or not path.exists():
        return None if path is None else [str(path.absolute())]
    return [str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns]
