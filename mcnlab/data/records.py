"""What a store holds: tracks, clips and recordings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from mcnlab.data.boxes import Box
from mcnlab.modalities import MODALITIES

__all__ = ["MODALITIES", "Box", "Clip", "Recording", "Track"]

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Track:
    """One feature sequence that every recording may have."""

    name: str
    """Such as `video_2d`."""
    modality: str
    """`video`, `audio`, or any other view, such as `depth`, whose rows are features like those of video."""
    dim: int
    """Width of a row."""
    rate_hz: float
    """Rows per second."""

    def window(self, start_s: float, end_s: float, rows: int) -> slice:
        """Rows that a time window covers.

        Args:
            start_s: begin of the window.
            end_s: its end, not included.
            rows: how many rows the recording has.

        Returns:
            At least one row wherever there are rows at all.

        Example:
            >>> Track("audio_mel", "audio", 40, 100.0).window(0.0, 1.92, 193)
            slice(0, 192, None)
        """
        begin = min(math.floor(start_s * self.rate_hz + _ROUNDING), max(rows - 1, 0))
        end = min(math.ceil(end_s * self.rate_hz - _ROUNDING), rows)
        return slice(begin, max(end, min(begin + 1, rows)))


@dataclass(frozen=True)
class Clip:
    """A time window of a recording with what is said and known about it."""

    start_s: float
    end_s: float
    caption: str = ""
    """Empty: no text."""
    label: str | None = None
    factors: Mapping[str, float | str] = field(default_factory=lambda: MappingProxyType({}))
    """Known causes by name, `va.rate`; numbers are continuous, texts are categories."""
    missing: tuple[str, ...] = ()
    """Modalities that this clip lacks although its recording has the track."""


@dataclass(frozen=True)
class Recording:
    """One source of media with its feature tracks and clips."""

    id: str
    """Never a feature: it may spell the answer."""
    split: str
    duration_s: float
    tracks: Mapping[str, np.ndarray]
    """(rows, dim) float16 by track name; a missing track has no key."""
    clips: tuple[Clip, ...]
    media: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Where the original media are: plain JSON values."""
    thumbnails: np.ndarray | None = None
    """(clips, height, width, 3) uint8."""
    boxes: tuple[Box, ...] = ()
    """Where things are, as far as that is known."""
