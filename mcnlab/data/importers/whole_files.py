"""Whole media files to the published feature layout: a row per second, log-mel, clips on the file's own clock."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mcnlab.data.audio import SAMPLES_PER_S, log_mel
from mcnlab.data.extract import AUDIO_TRACK
from mcnlab.data.frame_stream import FrameSampling, FrameStream
from mcnlab.data.importers.media_features import notes_on_words, word_vectors
from mcnlab.data.importers.media_manifest import MediaManifest, MediaRow, read_media_manifest, without_strange_ids
from mcnlab.data.importers.recordings import Reading, import_recordings
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.media_files import is_video_file, read_sound
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.resnet import ResNetFeatures
from mcnlab.data.video_models import VideoModelFeatures
from mcnlab.errors import DataError
from mcnlab.files import refuse_occupied

SHORT_SIDE_PX = 224
BATCH = 16
"""Frames that go through the 2D network together."""
LONGEST_SOUND_S = 6 * 3600.0
Source = tuple[str, list[MediaRow]]
"""A recording's id and its clips."""


@dataclass(frozen=True)
class Networks:
    """The frozen networks, used by one thread at a time while others decode."""

    video_2d: ResNetFeatures | None
    video_3d: VideoModelFeatures | None
    turn: threading.Lock

    def tracks(self) -> list[Track]:
        """The tracks that they give."""
        tracks = []
        if self.video_2d is not None:
            tracks.append(Track("video_2d", "video", self.video_2d.dim, 1.0))
        if self.video_3d is not None:
            tracks.append(Track("video_3d", "video", self.video_3d.dim, self.video_3d.rows_per_s))
        return tracks

    def samplings(self) -> dict[str, FrameSampling]:
        """The frames that they look at."""
        wanted = {}
        if self.video_2d is not None:
            wanted["video_2d"] = FrameSampling(1.0, self.video_2d.size_px)
        if self.video_3d is not None:
            wanted["video_3d"] = FrameSampling(self.video_3d.rate_hz, self.video_3d.size_px, crop=True)
        return wanted

    def rows(self, name: str, frames: Sequence[np.ndarray]) -> np.ndarray:
        """(rows, dim) float32 of unit length: some frames through one of the networks."""
        network = self.video_2d if name == "video_2d" else self.video_3d
        if network is None:
            raise KeyError(name)
        with self.turn:
            rows = network(np.stack(frames))
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)

    def batch(self, name: str) -> int:
        """How many frames of a sampling go through at once."""
        return BATCH if name == "video_2d" or self.video_3d is None else self.video_3d.frames


def extract_files(
    manifest: Path | str,
    out: Path | str,
    *,
    video: str = "resnet152",
    video_3d: str | None = None,
    words: Path | None = None,
    name: str | None = None,
    word_dim: int = 300,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Features of whole media files in the published layout.

    Rows of the manifest with the same `recording` are clips of one file, at their own times; a row without an end is
    a clip of the whole file. A file that cannot be read costs its recording that modality and is listed; a row whose
    id could lead out of a folder is dropped and listed.

    Args:
        manifest: CSV or TSV with the columns of `import_media`.
        out: folder of the new store; it must not exist.
        video: ResNet for `video_2d`, a row per second: `resnet152`, a local folder or a hub id.
        video_3d: video model of transformers for `video_3d`; none by default.
        words: file of word vectors; None trains them on the captions of the train split.
        name: what reports call the store; None takes the manifest's name.
        word_dim: width of trained word vectors.
        threads: files that are decoded at the same time; one per core by default.
        progress: called with recordings done and all.

    Returns:
        What became of every recording; the same is in the store's `import_report.json`.

    Raises:
        DataError: the manifest is wrong, a network is not there, or nothing can be used.
        StorageError: the store cannot be written, or exists.

    Source: Miech et al. 2019 (HowTo100M), released feature extractor: the whole frame, shorter side 224 pixels, every
    second, average-pooled ResNet-152, rows L2-normalized, float16; 3D windows of the middle square at 24 frames per
    second. Differences: row k shows the frame on screen at k seconds, where theirs takes the nearest one; the shorter
    side of 3D frames is what the model asks for; frames are made smaller by area.
    """
    refuse_occupied(Path(out))
    table, strange = without_strange_ids(read_media_manifest(Path(manifest)))
    sources = list(table.recordings().items())
    refused: list[Source | Reading] = [Reading(id_, None, (reason,)) for reason, id_ in strange]
    _check_one_file_each(table, sources)
    vectors = word_vectors(table, words, dim=word_dim, seed=0)
    pictures = any(row.video for row in table.rows)
    networks = Networks(
        ResNetFeatures(video, size_px=SHORT_SIDE_PX, keep_size=True) if pictures else None,
        VideoModelFeatures(video_3d) if pictures and video_3d is not None else None,
        threading.Lock(),
    )
    facts = {"video_2d": networks.video_2d, "video_3d": networks.video_3d}
    info = {
        "visual": {track: {"backbone": net.name, "trained": True} for track, net in facts.items() if net is not None},
        "media_folder": str(table.folder.absolute()),
    }
    with _ReadAhead(lambda source: read_files(source, table.folder, networks), threads or os.cpu_count() or 1) as read:
        return import_recordings(
            [*refused, *read.submitted(sources)],
            read,
            Path(out),
            name=name or Path(manifest).stem,
            tracks=[*networks.tracks(), AUDIO_TRACK],
            words=vectors,
            info=info,
            notes=[*table.notes, *notes_on_words(table, vectors)],
            progress=progress,
        )


def read_files(source: Source, folder: Path, networks: Networks) -> Reading:
    """All tracks of one recording.

    Args:
        source: its id and clips.
        folder: what relative paths are relative to.
        networks: what the frames go through.

    Returns:
        The recording, or why there is none.
    """
    id_, rows = source
    problems: list[str] = []
    tracks: dict[str, np.ndarray] = {}
    duration_s = 0.0
    try:
        if rows[0].video:
            tracks, duration_s = _video_tracks(folder / rows[0].video, networks)
    except DataError as error:
        problems.append(f"video: {error}")
    try:
        waveform = _sound(rows[0], folder)
        if waveform is None and rows[0].video:
            problems.append("audio: the video has no sound")
        if waveform is not None:
            tracks["audio_mel"] = log_mel(waveform).astype(np.float16)
            duration_s = max(duration_s, len(waveform) / SAMPLES_PER_S)
    except DataError as error:
        problems.append(f"audio: {error}")
    if not tracks:
        return Reading(id_, None, tuple(problems) or ("neither video nor sound",))
    clips = tuple(_clips(rows, duration_s, problems))
    if not clips:
        return Reading(id_, None, tuple(problems))
    first = rows[0]
    media = {"kind": "files", "video": first.video, "audio": first.audio}
    recording = Recording(id_, first.split, duration_s, tracks, clips, media=media)
    return Reading(id_, recording, tuple(problems))


def _video_tracks(path: Path, networks: Networks) -> tuple[dict[str, np.ndarray], float]:
    """The rows of all networks for one file, and how long it is."""
    if not path.is_file():
        raise DataError("no such file")
    stream = FrameStream(path, networks.samplings())
    waiting: dict[str, list[np.ndarray]] = {name: [] for name in stream.samplings}
    done: dict[str, list[np.ndarray]] = {name: [] for name in stream.samplings}
    for name, frame in stream:
        waiting[name].append(frame)
        if len(waiting[name]) == networks.batch(name):
            done[name].append(networks.rows(name, waiting[name]))
            waiting[name] = []
    for name, rest in waiting.items():
        if not rest:
            continue
        if name == "video_3d":  # the last window is filled with the last frame
            rest += [rest[-1]] * (networks.batch(name) - len(rest))
        done[name].append(networks.rows(name, rest))
    return {name: np.concatenate(rows).astype(np.float16) for name, rows in done.items()}, stream.duration_s


def _sound(row: MediaRow, folder: Path) -> np.ndarray | None:
    """The whole sound of a recording: its own file, or that of its video."""
    source = row.audio or (row.video if is_video_file(row.video) else "")
    return read_sound(folder, source, start_s=0.0, end_s=None, longest_s=LONGEST_SOUND_S) if source else None


def _clips(rows: Iterable[MediaRow], duration_s: float, problems: list[str]) -> Iterator[Clip]:
    """The clips that lie in the file, cut at its end."""
    for row in rows:
        if row.start_s >= duration_s:
            problems.append("a clip begins after the end of the file")
            continue
        end_s = duration_s if row.end_s is None else min(row.end_s, duration_s)
        yield Clip(row.start_s, end_s, caption=row.caption, label=row.label, factors=row.factors)


def _check_one_file_each(table: MediaManifest, sources: Iterable[Source]) -> None:
    """Raise when the clips of a recording lie in several files."""
    for id_, rows in sources:
        for column in ("video", "audio"):
            files = dict.fromkeys(getattr(row, column) for row in rows)
            if len(files) > 1:
                named = " and ".join(map(repr, islice(files, 2)))
                raise DataError(f"{table.path}: {column}: recording {id_!r} has {named}, but it must be one file")


class _ReadAhead:
    """Reads some recordings ahead in threads, in order; what is decoded waits for its turn in the store."""

    def __init__(self, read: Callable[[Source], Reading], threads: int) -> None:
        self._read, self._threads = read, threads
        self._running: deque[Future[Reading]] = deque()

    def __enter__(self) -> "_ReadAhead":
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mcnlab-extract")
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submitted(self, sources: Sequence[Source]) -> Sequence[Source]:
        """Begin with the first ones."""
        self._waiting = iter(sources)
        for source in islice(self._waiting, 2 * self._threads):
            self._submit(source)
        return sources

    def __call__(self, source: Source | Reading) -> Reading:
        """The recording whose turn it is; what is refused already stays so."""
        if isinstance(source, Reading):
            return source
        reading = self._running.popleft().result()
        for following in islice(self._waiting, 1):
            self._submit(following)
        return reading

    def _submit(self, source: Source) -> None:
        self._running.append(self._pool.submit(self._read, source))
