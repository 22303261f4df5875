"""Batches of clips from a store, in an order that depends on the seed and the epoch alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch

from mcnlab.batch import MODALITIES, Batch
from mcnlab.data.records import Track
from mcnlab.data.store import Recording, Store
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError
from mcnlab.numerics import key_generator

SILENCE_DB = -80.0
"""Padding of a log-mel in sound mode: the quietest level."""
PUBLISHED_PAD_DB = 0.0
"""Padding of a log-mel as published: the loudest level."""
ROUNDING = 1e-6
"""Times that are this close to a row's border are on it."""
SAMPLES_PER_S, WINDOW, HOP = 16000, 400, 160
SOUND = "audio_mel"
"""The track that audio towers read."""


@dataclass(frozen=True)
class ClipWindow:
    """How a clip is cut out of its recording."""

    audio_frames: int = 1000
    """Log-mel frames per clip; longer is cut, shorter is padded."""
    words: int = 20
    """Words per caption; longer is cut, shorter is padded."""
    pad_db: float = SILENCE_DB
    """Value of padded log-mel frames."""


@runtime_checkable
class TrainingClips(Protocol):
    """What a training loop draws its batches from."""

    def __len__(self) -> int:
        """How many clips an epoch has."""

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """Begin an epoch: what is drawn depends on the key alone.

        Args:
            key: seed, stage, epoch.
            batch: clips per step; with fewer clips than that, one batch holds all.

        Returns:
            Places of each batch's clips, until the next epoch begins.
        """

    def batch(self, places: np.ndarray) -> Batch:
        """The clips at the given places."""

    def clip_name(self, place: int) -> str:
        """What errors call the clip at a place."""


class ClipSource:
    """All clips of one split of a store, pooled once and kept in memory.

    Args:
        store: where the clips lie.
        split: which of them.
        window: how a clip is cut.
        shuffle_seed: when given, audio and text are dealt to other clips at random, each once: the control in which
            pairs mean nothing.

    Raises:
        DataError: the split does not exist or is empty.
    """

    def __init__(self, store: Store, split: str, *, window: ClipWindow, shuffle_seed: int | None = None) -> None:
        if split not in store.splits or store.splits[split] == 0:
            raise DataError(f"{store.path}: no clips in split {split!r}; splits are {dict(store.splits)}")
        self.store = store
        self.window = window
        self.clips: pd.DataFrame = store.clips(split)
        self._words = store.word_vectors
        self._word_table = word_table(self._words)
        self._video_rates = {track.name: track.rate_hz for track in store.tracks.values() if track.modality == "video"}
        self._video_dim = input_dim(store, "video")
        self._sound = store.tracks.get(SOUND)
        columns: dict[str, list[np.ndarray]] = {modality: [] for modality in store.modalities}
        lengths: dict[str, list[int]] = {modality: [] for modality in store.modalities}
        opened, recording = -1, store[0]
        names = ["recording", "start_s", "end_s", "caption", *(f"has_{modality}" for modality in store.modalities)]
        for row, start_s, end_s, caption, *has in self.clips[names].itertuples(index=False, name=None):
            if row != opened:
                opened, recording = row, store[row]
            for modality, present in zip(store.modalities, has, strict=True):
                array, length = self._cut(modality, recording, start_s, end_s, caption)
                columns[modality].append(array)
                lengths[modality].append(length if present else 0)
        self._arrays = {modality: np.stack(arrays) for modality, arrays in columns.items()}
        self._lengths = {modality: np.array(values) for modality, values in lengths.items()}
        if shuffle_seed is not None:
            self._shuffle(shuffle_seed)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that some clip of the split has."""
        return tuple(m for m in MODALITIES if m in self._lengths and bool((self._lengths[m] > 0).any()))

    def present(self, modality: str) -> np.ndarray:
        """Which clips have a modality: (clips,), bool."""
        return self._lengths[modality] > 0

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """The batches of one epoch: the same clips every time, see `epoch_order`."""
        return epoch_order(len(self), key=key, batch=batch)

    def clip_name(self, place: int) -> str:
        """The id of the clip at a place of this source."""
        return str(self.clips["id"].iloc[place])

    def batch(self, places: np.ndarray) -> Batch:
        """The clips at the given places, ready for the towers.

        Args:
            places: (clips,), int.

        Returns:
            The batch, on the CPU, float32.
        """
        inputs, lengths, present = {}, {}, {}
        for modality, arrays in self._arrays.items():
            picked = arrays[places]
            if modality == "text":
                picked = self._word_table[picked]  # (clips, words, dim)
            elif modality == "audio":
                picked = picked.transpose(0, 2, 1)  # (clips, bands, frames)
            inputs[modality] = torch.from_numpy(np.ascontiguousarray(picked, dtype=np.float32))
            counts = torch.from_numpy(self._lengths[modality][places])
            lengths[modality], present[modality] = counts, counts > 0
        return Batch(inputs, lengths, present, torch.from_numpy(np.asarray(places, dtype=np.int64)))

    def _cut(
        self, modality: str, recording: Recording, start_s: float, end_s: float, caption: str
    ) -> tuple[np.ndarray, int]:
        """A clip's array for one modality and how much of it is real; 0 means that the clip lacks it."""
        if modality == "video":
            return pooled_video(recording.tracks, self._video_rates, start_s, end_s, self._video_dim)
        if modality == "audio":
            return mel_frames(recording.tracks.get(SOUND), start_s, end_s, window=self.window, track=self._sound)
        return self._word_ids(caption)

    def _word_ids(self, caption: str) -> tuple[np.ndarray, int]:
        """Rows of a caption's known words in the word table; the last row is all zeros."""
        known = self._words.ids(caption, self.window.words)
        ids = np.full(self.window.words, len(self._words.words), dtype=np.int32)
        ids[: len(known)] = known
        return ids, len(known)

    def _shuffle(self, seed: int) -> None:
        """Deal audio and text to other clips."""
        for modality in self._arrays:
            if modality != "video":
                dealt = key_generator(seed, "shuffled pairs", modality).permutation(len(self))
                self._arrays[modality] = self._arrays[modality][dealt]
                self._lengths[modality] = self._lengths[modality][dealt]


def word_table(words: WordVectors) -> np.ndarray:
    """Word vectors with a row of zeros at the end, for places without a word.

    Args:
        words: the vocabulary.

    Returns:
        (words + 1, dim), float32.
    """
    return np.vstack([words.vectors, np.zeros((1, words.dim), dtype=words.vectors.dtype)])


def input_dim(store: Store, modality: str) -> int:
    """Width of what a modality's tower reads from a store.

    Args:
        store: the store.
        modality: one of its modalities.

    Returns:
        Sum of the video tracks' widths, mel bands, or width of a word vector.
    """
    if modality == "text":
        return int(store.word_vectors.vectors.shape[1])
    return sum(track.dim for track in store.tracks.values() if track.modality == modality)


RowRule = Callable[[np.ndarray, float, float, float], np.ndarray]
"""From a track, the start and the end of a clip in seconds and the rows per second to the rows that the clip sees."""


def rows_between(track: np.ndarray, start_s: float, end_s: float, rate_hz: float) -> np.ndarray:
    """The rows of a track that a clip sees, at least one.

    Args:
        track: (rows, dim).
        start_s: start of the clip in seconds.
        end_s: end of the clip in seconds.
        rate_hz: rows per second.

    Returns:
        Rows [⌊start · rate⌋, ⌈end · rate⌉).

    Source: MCN's released loader (2021). Difference: there the last row is ⌊end · rate⌋ even when the clip ends where
    that row begins, which shows a clip the start of the next one when clips follow each other without a gap.
    """
    first = min(int(start_s * rate_hz + ROUNDING), len(track) - 1)
    return track[first : max(first + 1, math.ceil(end_s * rate_hz - ROUNDING))]


def rows_inside(track: np.ndarray, start_s: float, end_s: float, rate_hz: float) -> np.ndarray:
    """As `rows_between`, but none where the clip begins after the track's end."""
    begins_inside = int(start_s * rate_hz + ROUNDING) < len(track)
    return rows_between(track, start_s, end_s, rate_hz) if begins_inside else track[:0]


def published_rows_between(track: np.ndarray, start_s: float, end_s: float, rate_hz: float) -> np.ndarray:
    """Rows [⌊start · rate⌋, ⌊end · rate⌋ + 1) of a track; none where the clip begins after its end.

    Source: MCN's released loader (2021), without any difference.
    """
    return track[int(start_s * rate_hz) : int(end_s * rate_hz) + 1]


def pooled_video(
    tracks: Mapping[str, np.ndarray],
    rates_hz: Mapping[str, float],
    start_s: float,
    end_s: float,
    dim: int,
    *,
    rows: RowRule = rows_between,
) -> tuple[np.ndarray, int]:
    """Every video track's maximum over the clip, L2-normalized by itself, side by side.

    Args:
        tracks: of the recording, by name.
        rates_hz: by track: rows per second.
        start_s: start of the clip in seconds.
        end_s: end of the clip in seconds.
        dim: width of all tracks together.
        rows: which rows the clip sees.

    Returns:
        (dim,) float32 of length √(number of tracks), and how many rows the shortest track gave; zeros and 0 when a
        track is missing or has no row in the clip.

    Source: MCN's released loader (2021).
    """
    pooled, fewest = [], np.iinfo(np.int64).max
    for name, rate in rates_hz.items():
        seen = rows(tracks[name], start_s, end_s, rate) if name in tracks else ()
        if len(seen) == 0:
            return np.zeros(dim, dtype=np.float32), 0
        peak = peak_of_rows(np.asarray(seen))
        pooled.append(peak / max(float(np.linalg.norm(peak)), 1e-6))
        fewest = min(fewest, len(seen))
    return np.concatenate(pooled), int(fewest)


def peak_of_rows(rows: np.ndarray) -> np.ndarray:
    """The largest value of each column, in float32.

    Finite halves are compared as whole numbers, which keeps their order and is several times as fast.

    Args:
        rows: (rows, dim), finite, at least one row.

    Returns:
        (dim,), float32.
    """
    if rows.dtype != np.float16:
        return rows.max(axis=0).astype(np.float32)
    peak = _in_order(_in_order(rows.view(np.int16)).max(axis=0))
    return peak.view(np.float16).astype(np.float32)


def _in_order(bits: np.ndarray) -> np.ndarray:
    """The bits of halves as whole numbers of the same order, and back: negative ones run the other way."""
    return bits ^ ((bits >> 15) & np.int16(0x7FFF))


def mel_frame(time_s: float) -> int:
    """The log-mel frame at a time, at least 0.

    Source: librosa's `time_to_frames` as MCN's release (2021) calls it. Difference: clamped at 0; unclamped, a clip
    that starts at 0 s gets no sound.
    """
    return max(0, (int(SAMPLES_PER_S * time_s) - WINDOW // 2) // HOP)


def mel_frames(
    mel: np.ndarray | None, start_s: float, end_s: float, *, window: ClipWindow, track: Track | None = None
) -> tuple[np.ndarray, int]:
    """A clip's spectrogram, cut or padded, and how many of its frames are real.

    Args:
        mel: (frames, bands) of the recording, or None.
        start_s: start of the clip in seconds.
        end_s: end of the clip in seconds.
        window: length and padding.
        track: its width and rate; None means the published log-mel: 40 bands, a frame per `HOP` samples.

    Returns:
        (frames, bands) float16, and the real frames; 0 when there is no sound.
    """
    bands = track.dim if track is not None else 40 if mel is None else mel.shape[1]
    out = np.full((window.audio_frames, bands), window.pad_db, dtype=np.float16)
    if mel is None:
        return out, 0
    if track is None or track.rate_hz == SAMPLES_PER_S / HOP:
        first = mel_frame(start_s)
        frames = mel[first : max(first + 1, mel_frame(end_s))][: window.audio_frames]
    else:
        frames = rows_between(mel, start_s, end_s, track.rate_hz)[: window.audio_frames]
    out[: len(frames)] = frames
    return out, len(frames)


def epoch_order(clips: int, *, key: Sequence[str | int], batch: int) -> list[np.ndarray]:
    """The batches of one epoch: a permutation that depends on the key alone, cut into equal parts.

    Args:
        clips: how many there are.
        key: seed, stage, epoch.
        batch: clips per step; with fewer clips than that, one batch holds all.

    Returns:
        Places of each batch's clips. What is left over after the last full batch waits for another epoch's order.
    """
    order = key_generator(*key, "order").permutation(clips)
    size = min(batch, clips)
    return [order[start : start + size] for start in range(0, clips - size + 1, size)]
