"""Whole videos, frame by frame at fixed rates: one pass over the file, memory for a few frames."""

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.media_files import opened_media, origin_of, upright
from mcnlab.errors import DataError

_REORDERED = 16
"""Frames may leave a decoder out of order by this many places."""
_ROUNDING_S = 1e-3
"""A frame counts as on screen this much before its time: times are rounded in the file."""


@dataclass(frozen=True)
class FrameSampling:
    """Which frames are wanted, and how large."""

    rate_hz: float
    """Frames per second of the result."""
    short_side_px: int
    """The shorter side after resizing."""
    crop: bool = False
    """Whether the middle square is cut out; the whole frame otherwise."""


@dataclass(frozen=True)
class _Timed:
    """A decoded frame and when it is on screen, in seconds from the beginning of the file."""

    frame: Any
    start_s: float
    end_s: float


class FrameStream:
    """The frames of a video file that are on screen at the ticks of one or more clocks.

    Iterating decodes the file once and gives `(name, frame)` in the order of the ticks, the frame (height, width, 3)
    uint8, turned as the file's metadata says. Tick k of a clock is at k / rate_hz seconds; ticks go on while the last
    frame is on screen, and there is at least one. Files whose frames come at a varying rate, or out of order, are
    read by the times that they state.

    Args:
        path: the video file.
        samplings: what is wanted, by name.

    Raises:
        DataError: while iterating: the file cannot be decoded, or holds no frame.
    """

    def __init__(self, path: Path, samplings: Mapping[str, FrameSampling]) -> None:
        self.path = path
        self.samplings = dict(samplings)
        self.duration_s = 0.0
        """End of the last frame that was read, in seconds; final once the iteration has ended."""

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        from av.video.reformatter import VideoReformatter  # late: start-up time

        reformatter = VideoReformatter()  # shared by all frames: setting one up costs more than a frame
        ticks = dict.fromkeys(self.samplings, 0)
        for timed in self._timed():
            for name, sampling in self.samplings.items():
                last = math.ceil((timed.end_s - _ROUNDING_S) * sampling.rate_hz)
                if last > ticks[name]:
                    picture = _resized(reformatter, timed.frame, sampling)
                    yield from ((name, picture) for _ in range(ticks[name], last))
                    ticks[name] = last
            self.duration_s = timed.end_s

    def _timed(self) -> Iterator[_Timed]:
        """All frames in the order of their times, each until the next one begins."""
        with opened_media(self.path) as container:
            if not container.streams.video:
                raise DataError("no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            origin_s = origin_of(container)
            step_s = float(1 / stream.average_rate) if stream.average_rate else 0.04
            before = None
            for time_s, frame in in_order(container.decode(stream)):
                if before is not None:
                    if time_s - origin_s <= before.start_s:
                        continue
                    yield _Timed(before.frame, before.start_s, time_s - origin_s)
                shown_s = float(frame.duration * frame.time_base) if frame.duration else step_s
                before = _Timed(frame, time_s - origin_s, time_s - origin_s + shown_s)
            if before is None:
                raise DataError("no frames")
            yield before


def in_order(frames: Iterator[Any]) -> Iterator[tuple[float, Any]]:
    """Frames by rising time; frames without a time are left out.

    Args:
        frames: of PyAV, out of order by at most 16 places.

    Yields:
        Time in seconds, and the frame.
    """
    waiting: list[tuple[float, int, Any]] = []
    numbers = count()
    for frame in frames:
        if frame.time is None:
            continue
        heapq.heappush(waiting, (frame.time, next(numbers), frame))
        if len(waiting) > _REORDERED:
            time_s, _, first = heapq.heappop(waiting)
            yield time_s, first
    while waiting:
        time_s, _, first = heapq.heappop(waiting)
        yield time_s, first


def _resized(reformatter: Any, frame: Any, sampling: FrameSampling) -> np.ndarray:
    """(height, width, 3) uint8: the frame with its shorter side as wanted, upright."""
    scale = sampling.short_side_px / min(frame.width, frame.height)
    width, height = (max(sampling.short_side_px, int(side * scale)) for side in (frame.width, frame.height))
    small = reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation="AREA")
    picture = upright(small.to_ndarray(), frame.rotation)
    if not sampling.crop:
        return picture
    top, left = ((side - sampling.short_side_px) // 2 for side in picture.shape[:2])
    return picture[top : top + sampling.short_side_px, left : left + sampling.short_side_px]
