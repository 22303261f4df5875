"""Many clips at once, cut out of a store's shards into arrays that are there already.

Which rows each clip sees is worked out for all clips together. Then every clip takes one call per track, which reads
its rows where they lie under the memory map, at the speed of memory: a segmented maximum over all clips is 200 times as
slow in NumPy, and a table of maxima over 2, 4, 8 … rows reads a recording three times to save one reading. These calls
let other threads run, so large batches are cut by a few of them.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mcnlab.data.store import Store

ROUNDING = 1e-6
"""Times that are this close to a row's border are on it."""
SAMPLES_PER_S, WINDOW, HOP = 16000, 400, 160
SHORTEST = 1e-6
"""A maximum is divided by its length, but by no less than this."""
_CLIPS_AT_ONCE = 64
"""Clips that one thread takes at a time: their maxima stay in its cache."""
_MOST_THREADS = 8

Spans = tuple[np.ndarray, np.ndarray]
"""(clips,) each: a clip sees rows [first, last) of its recording; none where last ≤ first."""
SpanRule = Callable[[np.ndarray, np.ndarray, float, np.ndarray], Spans]
"""From starts and ends in seconds, rows per second, and rows of the recordings to the rows that each clip sees."""


NewArray = Callable[[tuple[int, ...], type[np.generic]], np.ndarray]
"""Where the memory of a batch comes from: `np.empty`, or something that hands out pinned memory."""


def spans_between(start_s: np.ndarray, end_s: np.ndarray, rate_hz: float, rows: np.ndarray) -> Spans:
    """Rows [⌊start · rate⌋, ⌈end · rate⌉), at least one.

    Args:
        start_s: (clips,), seconds, at least 0.
        end_s: (clips,), seconds.
        rate_hz: rows per second.
        rows: (clips,): rows of each clip's recording.

    Returns:
        First row, and the row after the last; none of a recording without rows.

    Source: MCN's released loader (2021). Difference: there the last row is ⌊end · rate⌋ even when the clip ends where
    that row begins, which shows a clip the start of the next one when clips follow each other without a gap.
    """
    first = np.minimum(_whole(start_s * rate_hz + ROUNDING), np.maximum(rows - 1, 0))
    last = np.maximum(first + 1, _whole(np.ceil(end_s * rate_hz - ROUNDING)))
    return first, np.minimum(last, rows)


def spans_inside(start_s: np.ndarray, end_s: np.ndarray, rate_hz: float, rows: np.ndarray) -> Spans:
    """As `spans_between`, but none where the clip begins after the recording's end."""
    first, last = spans_between(start_s, end_s, rate_hz, rows)
    begins_inside = _whole(start_s * rate_hz + ROUNDING) < rows
    return first, np.where(begins_inside, last, first)


def published_spans(start_s: np.ndarray, end_s: np.ndarray, rate_hz: float, rows: np.ndarray) -> Spans:
    """Rows [⌊start · rate⌋, ⌊end · rate⌋ + 1); none where the clip begins after the recording's end.

    Source: MCN's released loader (2021), without any difference.
    """
    return _whole(start_s * rate_hz), np.minimum(_whole(end_s * rate_hz) + 1, rows)


def mel_spans(start_s: np.ndarray, end_s: np.ndarray, rows: np.ndarray, *, most: int) -> Spans:
    """Log-mel frames from the one at a clip's start to the one at its end, at least one where there are that many.

    Args:
        start_s: (clips,), seconds.
        end_s: (clips,), seconds.
        rows: (clips,): frames of each clip's recording.
        most: frames per clip at most.

    Returns:
        First frame, and the frame after the last.
    """
    first, last = mel_frame(start_s), mel_frame(end_s)
    return first, np.minimum(np.minimum(np.maximum(first + 1, last), first + most), rows)


def sound_spans(start_s: np.ndarray, end_s: np.ndarray, rate_hz: float, rows: np.ndarray, *, most: int) -> Spans:
    """The frames of a spectrogram: `mel_spans` at the rate of the published log-mel, else `spans_between`.

    Args:
        start_s: (clips,), seconds.
        end_s: (clips,), seconds.
        rate_hz: frames per second.
        rows: (clips,): frames of each clip's recording.
        most: frames per clip at most.

    Returns:
        First frame, and the frame after the last.
    """
    if rate_hz == SAMPLES_PER_S / HOP:
        return mel_spans(start_s, end_s, rows, most=most)
    first, last = spans_between(start_s, end_s, rate_hz, rows)
    return first, np.minimum(last, first + most)


def mel_frame(time_s: np.ndarray) -> np.ndarray:
    """The log-mel frames at some times, at least 0.

    Source: librosa's `time_to_frames` as MCN's release (2021) calls it. Difference: clamped at 0; unclamped, a clip
    that starts at 0 s gets no sound.
    """
    return np.maximum(0, (_whole(SAMPLES_PER_S * time_s) - WINDOW // 2) // HOP)


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Numbers without what stands after their point."""
    return numbers.astype(np.int64)


class StoredTrack:
    """One track of a store: where the rows of each recording lie.

    Args:
        store: the store.
        name: of the track.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.dim = store.tracks[name].dim
        self.rate_hz = store.tracks[name].rate_hz
        self.shards, self.starts, self.rows = store.places_of(name)
        self._store = store
        self._arrays: dict[int, np.ndarray] = {}

    def array(self, shard: int) -> np.ndarray:
        """All rows of a shard: (rows, dim), under a memory map, as a plain array."""
        if shard not in self._arrays:
            self._arrays[shard] = np.asarray(self._store.shard(shard)[self.name])
        return self._arrays[shard]

    def rows_of(self, recordings: np.ndarray, spans: Spans, clip: int) -> np.ndarray:
        """The rows that one of the clips sees, where they lie."""
        recording = int(recordings[clip])
        start = int(self.starts[recording])
        return self.array(int(self.shards[recording]))[start + int(spans[0][clip]) : start + int(spans[1][clip])]


def rows_seen(spans: Sequence[Spans]) -> np.ndarray:
    """(clips,): how many rows each clip sees of the track that shows it the fewest."""
    return np.maximum(0, np.min([last - first for first, last in spans], axis=0))


def pool_video(out: np.ndarray, tracks: Sequence[StoredTrack], recordings: np.ndarray, spans: Sequence[Spans]) -> None:
    """Every video track's maximum over each clip, L2-normalized by itself, side by side.

    Args:
        out: (clips, dim of all tracks), float32; written over. Zeros where a track shows a clip no row.
        tracks: of the store.
        recordings: (clips,): rows of the store.
        spans: by track: what each clip sees of it.

    Source: MCN's released loader (2021).
    """
    seen = rows_seen(spans) > 0

    def pool_part(part: slice) -> None:
        clips = np.arange(len(out))[part][seen[part]]
        column = 0
        for track, span in zip(tracks, spans, strict=True):
            rows = [track.rows_of(recordings, span, int(clip)) for clip in clips]
            out[clips, column : column + track.dim] = normalized_peaks(rows, track.dim)
            column += track.dim

    _in_parts(len(out), pool_part)
    out[~seen] = 0


def cut_mel(out: np.ndarray, track: StoredTrack, recordings: np.ndarray, spans: Spans, *, pad_db: float) -> None:
    """Every clip's log-mel frames, and padding after them.

    Args:
        out: (clips, frames, bands), float16; written over.
        track: the log-mels of the store.
        recordings: (clips,): rows of the store.
        spans: what each clip sees, no more frames than fit.
        pad_db: value of the frames after the last.
    """
    counts = rows_seen([spans])

    def cut_part(part: slice) -> None:
        for clip in range(part.start, part.stop):
            if count := int(counts[clip]):
                out[clip, :count] = track.rows_of(recordings, spans, clip)
            out[clip, count:] = pad_db

    _in_parts(len(out), cut_part)


def normalized_peaks(rows: Sequence[np.ndarray], dim: int) -> np.ndarray:
    """The largest value of each column, divided by the length of all of them.

    Args:
        rows: by clip: (rows, dim), finite, at least one row.
        dim: columns.

    Returns:
        (clips, dim), float32.
    """
    peaks = largest_rows(rows, dim)
    lengths = np.sqrt(np.vecdot(peaks, peaks))
    return np.divide(peaks, np.maximum(lengths, np.float32(SHORTEST))[:, None], out=peaks)


def largest_rows(rows: Sequence[np.ndarray], dim: int) -> np.ndarray:
    """The largest value of each column of each clip's rows.

    The bits of halves are compared as whole numbers, which is several times as fast. Those that are not negative keep
    their order, and beat the negative ones; in columns of nothing but negative ones the order runs the other way.

    Args:
        rows: by clip: (rows, dim), finite, at least one row.
        dim: columns.

    Returns:
        (clips, dim), float32.
    """
    if any(one.dtype != np.float16 for one in rows):
        return np.array([one.max(axis=0) for one in rows], dtype=np.float32)
    peaks = np.empty((len(rows), dim), dtype=np.int16)
    for clip, one in enumerate(rows):
        np.maximum.reduce(one.view(np.int16), axis=0, out=peaks[clip])
    for clip in np.flatnonzero(peaks.min(axis=1, initial=0) < 0).tolist():
        below = np.flatnonzero(peaks[clip] < 0)
        peaks[clip, below] = rows[clip].view(np.int16)[:, below].min(axis=0)
    return peaks.view(np.float16).astype(np.float32)


def _in_parts(clips: int, work: Callable[[slice], None]) -> None:
    """Do some work for all clips, a few at once, in as many threads as that many clips are worth."""
    parts = [slice(start, min(start + _CLIPS_AT_ONCE, clips)) for start in range(0, clips, _CLIPS_AT_ONCE)]
    threads = min(_MOST_THREADS, os.cpu_count() or 1, len(parts))
    if threads <= 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, parts):  # an error of a thread comes out here
            pass
