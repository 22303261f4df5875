"""The media of one clip, for a person to see and hear: rendered again, or read from the files that it came from."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.audio import SAMPLES_PER_S
from mcnlab.data.media_files import is_video_file, read_picture, read_sound
from mcnlab.data.recording_sound import LONGEST_S, as_wav
from mcnlab.data.scenes import render_scene_again
from mcnlab.data.store import Store
from mcnlab.data.thumbnails import as_png
from mcnlab.data.world import render_again
from mcnlab.errors import DataError

MOST_FRAMES = 8
"""Frames of a clip that are shown, evenly spread over it."""
HEIGHT_PX = 144
"""Of frames from files."""
FILES_PER_S = 4.0
"""Frames per second that are taken from files, before the shown ones are chosen."""


@dataclass(frozen=True)
class ClipMedia:
    """A clip to look at, listen to and read."""

    clip: str
    """Its id."""
    frames: tuple[bytes, ...]
    """PNG files in order of time, at most 8; empty where nothing can be seen."""
    frames_per_s: float
    """Rate at which they last as long as the clip; 0 for a single picture."""
    wav: bytes | None
    """One channel at 16 kHz, at most 30 s; None where nothing can be heard."""
    caption: str
    label: str | None
    duration_s: float
    note: str = ""
    """Why there is only a small picture, or less; empty where all is there."""


def clip_media(store: Store, clip: str) -> ClipMedia:
    """What a clip of a store looks and sounds like.

    Clips of rendered worlds are rendered again, with the bytes that the store was made from. Clips of own media are
    read from the files that the store names, where these are still there. Other stores hold features: their clips
    have the small picture of the store, where there is one. The last 64 clips are kept in memory.

    Args:
        store: where the clip lies.
        clip: its id.

    Returns:
        Frames, sound and caption.

    Raises:
        DataError: there is no such clip.
    """
    return _clip_media(_Known(store), clip)


class _Known:
    """A store that equals another one on the same files."""

    def __init__(self, store: Store) -> None:
        self.store, self.key = store, (str(store.path), store.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@functools.lru_cache(maxsize=64)
def _clip_media(known: _Known, clip: str) -> ClipMedia:
    """One clip."""
    store, table = known.store, _clips(known)
    if clip not in table:
        raise DataError(f"{store.path}: no clip {clip!r}")
    place, row, start_s, end_s, caption, label = table[clip]
    try:
        frames, waveform = _seen_and_heard(store, store.media(row), place, row, (start_s, end_s), _number(clip))
        note = "" if len(frames) or waveform is not None else "the store holds features, and does not say of what files"
    except DataError as error:
        frames, waveform, note = np.zeros((0, 1, 1, 3), np.uint8), None, str(error)
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, min(MOST_FRAMES, len(frames))).astype(int))]
    pictures = tuple(as_png(frame) for frame in chosen)
    if not pictures and (small := store.thumbnail(place)) is not None:
        pictures = (as_png(small),)
    return ClipMedia(
        clip=clip,
        frames=pictures,
        frames_per_s=len(chosen) / (end_s - start_s) if len(chosen) > 1 else 0.0,
        wav=None if waveform is None else as_wav(waveform[: round(LONGEST_S * SAMPLES_PER_S)]),
        caption=caption,
        label=label,
        duration_s=end_s - start_s,
        note=note,
    )


@functools.lru_cache(maxsize=4)
def _clips(known: _Known) -> dict[str, tuple[int, int, float, float, str, str | None]]:
    """Id → place in the whole store, recording, start, end, caption, label."""
    table = known.store.clips()
    columns = (table[name].tolist() for name in ("recording", "start_s", "end_s", "caption", "label"))
    rows = zip(table.index.tolist(), *columns, strict=True)
    return dict(zip(table["id"].tolist(), rows, strict=True))


def _number(clip: str) -> int:
    """A clip's number within its recording."""
    return int(clip.rpartition(":")[2])


def _seen_and_heard(
    store: Store, media: dict[str, Any], place: int, row: int, span_s: tuple[float, float], number: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """(frames, height, width, 3) uint8 and (samples,) at 16 kHz; no frames where nobody knows.

    Raises:
        DataError: a file is gone, or this version renders another world.
    """
    if media.get("source") == "world":
        again = render_again(store, place)
        return again.frames, again.waveform
    if media.get("source") == "scenes":
        scene = render_scene_again(store, row)
        first, last = (round(second * scene.frames_per_s) for second in span_s)
        begin, end = (round(second * SAMPLES_PER_S) for second in span_s)
        return scene.frames[first : max(last, first + 1)], scene.waveform[begin:end]
    folder, pointers = store.info.get("media_folder"), media.get("clips", [])
    if folder is None or number >= len(pointers):
        return np.zeros((0, 1, 1, 3), np.uint8), None
    return _from_files(Path(folder), pointers[number])


def _from_files(folder: Path, pointer: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """What the files of a clip of own media show and sound like; one of both may be missing.

    Raises:
        DataError: neither is there.
    """
    span: dict[str, Any] = {"start_s": pointer["start_s"], "end_s": pointer["end_s"]}
    seen, heard, problems = np.zeros((0, 1, 1, 3), np.uint8), None, list[str]()
    if source := pointer.get("video"):
        try:
            size = (HEIGHT_PX, HEIGHT_PX)
            picture = read_picture(folder, source, **span, fps=pointer["fps"], frames_per_s=FILES_PER_S, size_px=size)
            seen = _in_shape(picture.frames, picture.aspect)
        except DataError as error:
            problems.append(f"{folder / source}: {error}")
    if source := pointer.get("audio") or (source if source and is_video_file(source) else ""):
        try:
            heard = read_sound(folder, source, **span)
        except DataError as error:
            problems.append(f"{folder / source}: {error}")
    if problems and not len(seen) and heard is None:
        raise DataError("; ".join(problems))
    return seen, heard


def _in_shape(frames: np.ndarray, aspect: float) -> np.ndarray:
    """Frames that were stretched to a square, as wide as they should be shown."""
    from PIL import Image  # late: start-up time

    width = min(4 * HEIGHT_PX, max(HEIGHT_PX // 4, round(HEIGHT_PX * aspect)))
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, min(MOST_FRAMES, len(frames))).astype(int))]
    return np.stack([np.asarray(Image.fromarray(one).resize((width, HEIGHT_PX))) for one in chosen])
