"""Putting clips that were decoded one by one into one recording."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from mcnlab.data.audio import FLOOR_DB
from mcnlab.data.records import Track

_ROUNDING = 1e-6


def on_one_timeline(
    clips: Sequence[Mapping[str, np.ndarray]], durations_s: Sequence[float], tracks: Sequence[Track]
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Tracks of several clips one after the other, each beginning on a whole row of every track.

    A row of rest lies between two clips, because published readers take the row after a clip's end too. It repeats
    the clip's last row. Where a clip lacks a modality its place is filled (silence, zeros) and must be marked missing.

    Args:
        clips: per clip its tracks by name, each (rows, dim).
        durations_s: how long each clip is.
        tracks: the tracks that there may be.

    Returns:
        The tracks of the recording by name, only those that some clip has; and where each clip starts, in seconds.
    """
    if len(clips) == 1:
        return dict(clips[0]), [0.0]
    slowest_s = max(1 / track.rate_hz for track in tracks)
    places_s = [(math.ceil(duration / slowest_s - _ROUNDING) + 1) * slowest_s for duration in durations_s]
    starts_s = [float(start) for start in np.concatenate([[0.0], np.cumsum(places_s)])]
    spans = list(pairwise(starts_s))
    joined = {
        track.name: np.concatenate(
            [_placed(clip.get(track.name), track, *span) for clip, span in zip(clips, spans, strict=True)]
        )
        for track in tracks
        if any(track.name in clip for clip in clips)
    }
    return joined, starts_s[:-1]


def _placed(rows: np.ndarray | None, track: Track, start_s: float, end_s: float) -> np.ndarray:
    """A clip's rows, cut or continued to fill its place."""
    length = math.floor(end_s * track.rate_hz + _ROUNDING) - math.floor(start_s * track.rate_hz + _ROUNDING)
    if rows is None:
        return np.full((length, track.dim), FLOOR_DB if track.modality == "audio" else 0.0, np.float16)
    filled = rows[np.minimum(np.arange(length), len(rows) - 1)]
    return filled.astype(np.float16)
