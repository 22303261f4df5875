"""From a world to a store: render, extract, write; and render a stored clip once more."""

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.audio import log_mel
from mcnlab.data.extract import AUDIO_TRACK, Extractor, seeded_backbones
from mcnlab.data.raw_frames import RawFrames
from mcnlab.data.records import Clip, Recording
from mcnlab.data.store import Store, StoreWriter, open_store
from mcnlab.data.text import WordVectors, train_word_vectors
from mcnlab.data.world.frames import FRAMES_PER_S, SIZE_PX, bounce
from mcnlab.data.world.recordings import (
    CLIP_S,
    Event,
    RenderedClip,
    clip_window_s,
    recording_events,
    render_clip,
    render_frames_of,
    render_sound_of,
)
from mcnlab.data.world.settings import WORLD_VERSION, WorldSettings
from mcnlab.data.world.views import VIEWS, render_view, view_names, view_tracks
from mcnlab.errors import DataError
from mcnlab.numerics import one_torch_thread
from mcnlab.processes import die_with_parent

CALIBRATION_CLIPS = 300
"""Clips of the train split that the untrained visual features are calibrated on."""

RECORDINGS_PER_TASK = 8
"""Recordings that a rendering process makes before it hands them over."""

Frozen = Extractor | RawFrames
"""What makes the video tracks of a clip out of its frames."""
Progress = Callable[[int, int], None]
"""Told the number of recordings done and the number of all."""


def build_world(
    settings: WorldSettings, out: Path | str, *, progress: Progress | None = None, workers: int = 1
) -> Store:
    """Render a world and put it into a new store.

    Args:
        settings: the world.
        out: folder of the store; it must not exist.
        progress: called after every recording.
        workers: processes that render; the bytes do not depend on it.

    Returns:
        The store, opened.

    Raises:
        DataError: no sentence is left to train word vectors on.
        StorageError: the folder exists, or the disk or the permissions do not allow it.

    Example:
        >>> build_world(WorldSettings(train_recordings=20), "stores/small-world")  # doctest: +SKIP
    """
    with one_torch_thread():  # the last bit of a sum depends on the number of threads
        _write_world(settings, Path(out), progress or (lambda done, total: None), workers=workers)
    return open_store(Path(out))


def render_again(store: Store, clip: int) -> RenderedClip:
    """The frames, waveform and caption that a stored clip was made from.

    Args:
        store: a store that `build_world` wrote.
        clip: place of the clip in the whole store.

    Returns:
        The same bytes as when the store was made.

    Raises:
        DataError: the store does not hold a world that this version renders, or has no such clip.
    """
    values = dict(store.info.get("world", {}))
    version = values.pop("version", None)
    if version != WORLD_VERSION:
        raise DataError(f"{store.path}: expected a world of version {WORLD_VERSION}, got {version}")
    clips = store.clips()
    if not 0 <= clip < len(clips):
        raise DataError(f"{store.path}: clip {clip} of {len(clips)}")
    row = int(clips["recording"].iloc[clip])
    number = int(str(clips["id"].iloc[clip]).rpartition(":")[2])
    media = store[row].media
    settings = WorldSettings.parse(values, source=str(store.path))
    return render_clip(settings, media["split"], media["recording"], number)


def _write_world(settings: WorldSettings, out: Path, progress: Progress, *, workers: int) -> None:
    """Render and write all recordings."""
    places = [(split, number) for split, count in settings.recordings_of_split.items() for number in range(count)]
    frames = RawFrames(SIZE_PX, SIZE_PX, FRAMES_PER_S, color=True)
    extractor = frames if settings.video == "frames" else _calibrated(settings)
    with StoreWriter(
        out,
        name="narrated world",
        tracks=[*extractor.tracks(), AUDIO_TRACK, *view_tracks(settings.views, clip_s=CLIP_S)],
        words=_word_vectors(settings),
        info={
            "world": {"version": WORLD_VERSION, **settings.plain},
            "visual": extractor.info(),
            **_views_info(settings),
        },
        calibration=extractor.arrays(),
    ) as writer:
        for done, recording in enumerate(_rendered(settings, places, extractor, workers=workers), start=1):
            writer.add(recording)
            progress(done, len(places))


def _views_info(settings: WorldSettings) -> Mapping[str, Any]:
    """The factors that each further view sees; nothing where there is none."""
    return {"views": {name: list(VIEWS[name]) for name in view_names(settings.views)}} if settings.views else {}


def _rendered(
    settings: WorldSettings, places: list[tuple[str, int]], extractor: Frozen, *, workers: int
) -> Iterator[Recording]:
    """All recordings in order, rendered here or in processes that end with this one."""
    if workers == 1:
        yield from (_recording(settings, split, number, extractor) for split, number in places)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        yield from pool.map(
            functools.partial(_recording_at, settings, extractor), places, chunksize=RECORDINGS_PER_TASK
        )


def _start_worker() -> None:
    """A rendering process: one thread for good, and no longer alive than its owner."""
    die_with_parent()
    one_torch_thread().__enter__()


def _recording_at(settings: WorldSettings, extractor: Frozen, place: tuple[str, int]) -> Recording:
    """`_recording` with its place as one argument."""
    return _recording(settings, *place, extractor)


def _calibrated(settings: WorldSettings) -> Extractor:
    """Untrained visual backbones, calibrated on the first clips of the train split."""
    return Extractor.fit(
        seeded_backbones(size_px=SIZE_PX),
        _calibration_frames(settings),
        frames_per_s=FRAMES_PER_S,
        dim=settings.video_dim,
        mean_s=CLIP_S,
    )


def _calibration_frames(settings: WorldSettings) -> Iterator[np.ndarray]:
    """Frames of the first train clips."""
    recordings = -(-CALIBRATION_CLIPS // settings.clips_per_recording)
    for number in range(min(recordings, settings.train_recordings)):
        yield from render_frames_of(settings, "train", number, recording_events(settings, "train", number))


def _word_vectors(settings: WorldSettings) -> WordVectors:
    """Word vectors trained on the narration of the train split."""
    captions = [
        event.caption
        for number in range(settings.train_recordings)
        for event in recording_events(settings, "train", number)
    ]
    return train_word_vectors(captions, dim=settings.word_dim, seed=settings.seed)


def _recording(settings: WorldSettings, split: str, number: int, extractor: Frozen) -> Recording:
    """One recording, rendered and extracted."""
    events = recording_events(settings, split, number)
    frames = render_frames_of(settings, split, number, events)
    return Recording(
        id=f"{split}-{number:06d}",
        split=split,
        duration_s=len(events) * CLIP_S,
        tracks={
            **_video_tracks(frames, extractor),
            AUDIO_TRACK.name: log_mel(render_sound_of(settings, split, number, events)).astype(np.float16),
            **_further_views(settings, split, number, events),
        },
        clips=tuple(_clip(settings, clip, event) for clip, event in enumerate(events)),
        media={"source": "world", "split": split, "recording": number},
        thumbnails=np.stack([_picture(event, seen) for event, seen in zip(events, frames, strict=True)]),
    )


def _video_tracks(frames: list[np.ndarray], extractor: Frozen) -> Mapping[str, np.ndarray]:
    """Visual features event by event, joined in time: no window sees two events."""
    parts = [extractor(clip) for clip in frames]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _further_views(
    settings: WorldSettings, split: str, number: int, events: Sequence[Event]
) -> Mapping[str, np.ndarray]:
    """The tracks of the views beside video, audio and text."""
    key, factors = (settings.seed, split, number), [event.factors for event in events]
    return {
        name: render_view(name, factors, key=key, noise=settings.noise_views) for name in view_names(settings.views)
    }


def _clip(settings: WorldSettings, number: int, event: Event) -> Clip:
    """A clip as the store has it."""
    factors = dict(event.factors)
    if settings.mismatch > 0.0:
        factors["narration.matches"] = "yes" if event.narration_matches else "no"
    start_s, end_s = clip_window_s(settings, number)
    return Clip(start_s, end_s, event.caption, str(event.factors["vat.object"]), factors, event.missing)


def _picture(event: Event, frames: np.ndarray) -> np.ndarray:
    """The frame with the least deformed object."""
    return frames[np.abs(bounce(event.factors, event.phase).stretch - 1.0).argmin()]
