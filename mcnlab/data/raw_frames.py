"""Frames as a track: small pictures, flattened, for video backbones that train on them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcnlab.data.cutting import NewArray, Spans, StoredTrack
from mcnlab.data.extract import VisualBackbone, checked_frames
from mcnlab.data.records import Track
from mcnlab.data.seeded import resized
from mcnlab.data.store import Store
from mcnlab.errors import DataError

FRAMES_TRACK = "video_frames"
"""The name of the track."""
RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Shares of the colors in a gray value, as in ITU-R BT.601."""

FrameShape = tuple[int, int, int]
"""Channels, height, width."""


@dataclass(frozen=True)
class RawFrames:
    """Keeps frames as they are, small: the way from frames to a track where a backbone shall train on them."""

    height: int
    width: int
    frames_per_s: float
    """Rate of the frames that come in, and of the track."""
    color: bool = False
    """Three channels; else one."""

    @property
    def shape(self) -> FrameShape:
        """Channels, height, width of a frame."""
        return 3 if self.color else 1, self.height, self.width

    @property
    def backbones(self) -> Mapping[str, VisualBackbone]:
        """None: nothing looks at the frames before the model does."""
        return {}

    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """The track of one clip.

        Args:
            frames: (frames, height, width, 3), uint8, of any height and width.

        Returns:
            By track name: (frames, channels · height · width) float16, 0 to 1: a byte divided by 255, and so near that
            it can be told again.

        Raises:
            DataError: the frames have another shape or type, or there are none.
        """
        pixels = resized(checked_frames(frames), (self.height, self.width))  # (frames, height, width, 3), 0 to 1
        if not self.color:
            pixels = pixels @ np.array([[RED], [GREEN], [BLUE]], np.float32)
        bytes_ = np.round(pixels * 255)
        rows = np.moveaxis(bytes_, 3, 1).reshape(len(frames), -1) / 255
        return {FRAMES_TRACK: rows.astype(np.float16)}

    def tracks(self) -> list[Track]:
        """The one track that this gives."""
        return [Track(FRAMES_TRACK, "video", math.prod(self.shape), self.frames_per_s)]

    def info(self) -> dict[str, Any]:
        """Plain values for `store.json`: what a row of the track is."""
        facts = {"backbone": "raw frames", "trained": True, "shape": list(self.shape)}
        return {FRAMES_TRACK: {**facts, "frames_per_s": self.frames_per_s}}

    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing was calibrated."""
        return {}


def frames_of(store: Store) -> RawFrames | None:
    """How the frames of a store were made, so that more media become the same.

    Args:
        store: an open store.

    Returns:
        None where it has no track of frames.

    Raises:
        DataError: the shape of a frame is impossible.
    """
    shape = frame_shape(store)
    if shape is None:
        return None
    return RawFrames(shape[1], shape[2], store.tracks[FRAMES_TRACK].rate_hz, color=shape[0] == 3)


def frame_shape(store: Store) -> FrameShape | None:
    """The shape of a frame, where the video of a store is frames.

    Args:
        store: an open store, with the video tracks that are used.

    Returns:
        Channels, height, width; None where its video is features.

    Raises:
        DataError: frames stand beside features, or their shape does not fit the width of a row.
    """
    if FRAMES_TRACK not in store.tracks:
        return None
    others = [t.name for t in store.tracks.values() if t.modality == "video" and t.name != FRAMES_TRACK]
    if others:
        raise DataError(
            f"{store.path}: the track {FRAMES_TRACK} cannot be used together with {', '.join(others)}; "
            f"choose with data.video_tracks, such as [{FRAMES_TRACK}]"
        )
    known = store.info.get("visual", {}).get(FRAMES_TRACK, {}).get("shape")
    dim = store.tracks[FRAMES_TRACK].dim
    if not _is_shape(known) or math.prod(known) != dim:
        raise DataError(
            f"{store.path / 'store.json'}: visual.{FRAMES_TRACK}.shape: expected channels, height and width of a row "
            f"with {dim} numbers, got {known!r}"
        )
    return int(known[0]), int(known[1]), int(known[2])


def cut_frames(out: np.ndarray, track: StoredTrack, recordings: np.ndarray, spans: Spans) -> np.ndarray:
    """The first frames of every clip; where a clip is shorter, its last frame again.

    Args:
        out: (clips, frames, channels, height, width), float16; written over. Zeros where a clip has no frame.
        track: the frames of a store.
        recordings: (clips,): rows of the store.
        spans: what each clip sees.

    Returns:
        (clips,): how many frames are real.
    """
    rows = out.reshape(*out.shape[:2], -1)
    counts = np.clip(spans[1] - spans[0], 0, out.shape[1])
    for clip, count in enumerate(counts.tolist()):
        if count == 0:
            rows[clip] = 0
            continue
        rows[clip, :count] = track.rows_of(recordings, spans, clip)[:count]
        rows[clip, count:] = rows[clip, count - 1]
    return counts


def new_frames(clips: int, frames: int, shape: FrameShape, *, new: NewArray) -> np.ndarray:
    """Room for the frames of some clips: (clips, frames, channels, height, width), float16."""
    return new((clips, frames, *shape), np.float16)


def parsed_size(text: str) -> tuple[int, int]:
    """Height and width from a text such as `24x40`.

    Args:
        text: two whole numbers above 0 with an `x` between them.

    Returns:
        Height, width.

    Raises:
        DataError: it is none.

    Example:
        >>> parsed_size("24x40")
        (24, 40)
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 0 < int(part) <= LARGEST_SIDE for part in parts):
        raise DataError(f"--frame-size: expected HEIGHTxWIDTH of 1 to {LARGEST_SIDE} pixels, as in 24x40; got {text!r}")
    return int(parts[0]), int(parts[1])


LARGEST_SIDE = 512
"""Frames of a track are small: a second of 512 × 512 in color is 39 MB."""


def _is_shape(value: Any) -> bool:
    """Whether a plain value from a file is three whole numbers above 0."""
    is_list: Collection[Any] = value if isinstance(value, list) else ()
    return len(is_list) == 3 and all(isinstance(size, int) and size > 0 for size in is_list)
