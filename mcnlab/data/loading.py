"""Batches of clips from a store, in an order that depends on the seed and the epoch alone."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch

from mcnlab.batch import Batch
from mcnlab.data import cutting
from mcnlab.data.candidates import near_captions
from mcnlab.data.cutting import NewArray, StoredTrack
from mcnlab.data.raw_frames import cut_frames, frame_shape, new_frames
from mcnlab.data.store import Store
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError
from mcnlab.modalities import in_order
from mcnlab.numerics import first_non_finite_row, key_generator

SILENCE_DB = -80.0
"""Padding of a log-mel in sound mode: the quietest level."""
PUBLISHED_PAD_DB = 0.0
"""Padding of a log-mel as published: the loudest level."""
DEALT = ("audio", "text")
"""Modalities that a shuffled control deals to other clips: after that no pair means anything."""


@dataclass(frozen=True)
class ClipWindow:
    """How a clip is cut out of its recording."""

    audio_frames: int = 1000
    """Log-mel frames per clip; longer is cut, shorter is padded."""
    words: int = 20
    """Words per caption; longer is cut, shorter is padded."""
    pad_db: float = SILENCE_DB
    """Value of padded log-mel frames."""
    video_frames: int = 16
    """Frames per clip where the video is a track of frames; longer is cut, shorter gets its last frame again."""


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
        """The clips at the given places, ready for the towers, on the CPU."""

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The same as `batch`, in the form in which the source keeps it: what the numbers are before `Batch.to`.

        Args:
            places: (clips,), int.
            new: where the memory comes from.

        Returns:
            The batch, on the CPU; log-mels as (clips, bands, frames) float16 with the bands of a frame side by side.
        """

    def clip_name(self, place: int) -> str:
        """What errors call the clip at a place."""


class ClipSource:
    """All clips of one split of a store, pooled once and kept in memory.

    Args:
        store: where the clips lie.
        split: which of them.
        window: how a clip is cut.
        shuffle_seed: when given, some modalities are dealt to other clips at random, each once: the control in which
            pairs mean nothing.
        shuffled: the modalities that are dealt then.
        candidates: captions of each clip, its own and the nearest in time; a clip's candidates are dealt with its own.

    Raises:
        DataError: the split does not exist or is empty, or a clip's features are not finite.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        *,
        window: ClipWindow,
        shuffle_seed: int | None = None,
        shuffled: Collection[str] = DEALT,
        candidates: int = 1,
    ) -> None:
        if split not in store.splits or store.splits[split] == 0:
            raise DataError(f"{store.path}: no clips in split {split!r}; splits are {dict(store.splits)}")
        self.store = store
        self.window = window
        self.clips: pd.DataFrame = store.clips(split)
        self._words = store.word_vectors
        self._word_table = word_table(self._words)
        self._arrays: dict[str, np.ndarray] = {}
        self._lengths: dict[str, np.ndarray] = {}
        for modality in store.modalities:
            self._arrays[modality], lengths = self._cut(modality)
            self._refuse_non_finite(modality)
            self._lengths[modality] = np.where(self.clips[f"has_{modality}"], lengths, 0)
        self._near = near_captions(self.clips, candidates) if candidates > 1 and "text" in self._arrays else None
        if shuffle_seed is not None:
            self._shuffle(shuffle_seed, shuffled)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that some clip of the split has."""
        return in_order(m for m, lengths in self._lengths.items() if bool((lengths > 0).any()))

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
        return self.kept_batch(places).to(torch.device("cpu"))

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The clips at the given places, log-mels as the halves that they are kept as; see `TrainingClips`."""
        inputs, lengths = {}, {}
        for modality, arrays in self._arrays.items():
            rows, picked = (self._word_table, arrays[places]) if modality == "text" else (arrays, places)
            inputs[modality] = picked_rows(rows, picked, new=new)
            lengths[modality] = self._lengths[modality][places]
        near = None
        if self._near is not None:
            near = self._near.of(places, self._arrays["text"], self._lengths["text"], self._word_table, new=new)
        return replace(batch_of(inputs, lengths, places), candidates=near)

    def _cut(self, modality: str) -> tuple[np.ndarray, np.ndarray]:
        """All clips' inputs of one modality, and how much of each is real; 0 means that the clip lacks it."""
        if modality == "text":
            found = [self._word_ids(caption) for caption in self.clips["caption"]]
            return np.stack([ids for ids, _ in found]), np.array([count for _, count in found])
        cutter = ClipCutter(self.store, modality, window=self.window, rule=cutting.spans_between)
        recordings, start_s, end_s = (self.clips[name].to_numpy() for name in ("recording", "start_s", "end_s"))
        return cutter.cut(recordings, start_s, end_s, new=np.empty)

    def _refuse_non_finite(self, modality: str) -> None:
        """Raise when a clip holds NaN or infinity: an import lets none in, so the store was changed since."""
        if (place := first_non_finite_row(self._arrays[modality])) is not None:
            raise non_finite_clip(self.store, self.clip_name(place), modality)

    def _word_ids(self, caption: str) -> tuple[np.ndarray, int]:
        """Rows of a caption's known words in the word table; the last row is all zeros."""
        known = self._words.ids(caption, self.window.words)
        ids = np.full(self.window.words, len(self._words.words), dtype=np.int32)
        ids[: len(known)] = known
        return ids, len(known)

    def _shuffle(self, seed: int, shuffled: Collection[str]) -> None:
        """Deal some modalities to other clips."""
        for modality in self._arrays:
            if modality in shuffled:
                dealt = key_generator(seed, "shuffled pairs", modality).permutation(len(self))
                self._arrays[modality] = self._arrays[modality][dealt]
                self._lengths[modality] = self._lengths[modality][dealt]
                if modality == "text" and self._near is not None:
                    self._near = self._near.dealt(dealt)


def non_finite_clip(store: Store, clip: str, modality: str) -> DataError:
    """The error of a clip whose features hold NaN or infinity.

    Args:
        store: where it lies.
        clip: what errors call it.
        modality: whose features.
    """
    return DataError(
        f"{store.path}: clip {clip}: {modality} holds values that are not finite; "
        "the store has changed since its import"
    )


class ClipCutter:
    """Cuts the clips of one modality with tracks, any but text, out of a store.

    Args:
        store: where the recordings lie.
        modality: `video`, `audio`, or another view, which is cut like video.
        window: how a clip is cut.
        rule: which rows of a video track a clip sees.
    """

    def __init__(self, store: Store, modality: str, *, window: ClipWindow, rule: cutting.SpanRule) -> None:
        self.modality, self.window, self.rule = modality, window, rule
        self.tracks = [StoredTrack(store, track.name) for track in store.tracks.values() if track.modality == modality]
        self._dim = input_dim(store, modality)
        self._frame = frame_shape(store) if modality == "video" else None

    def cut(
        self, recordings: np.ndarray, start_s: np.ndarray, end_s: np.ndarray, *, new: NewArray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Some clips.

        Args:
            recordings: (clips,): rows of the store.
            start_s: (clips,), seconds.
            end_s: (clips,), seconds.
            new: where the memory comes from.

        Returns:
            Video and further views: (clips, dim) float32, see `cutting.pool_video`, and the rows of the track that gave
            the fewest; or (clips, frames, channels, height, width) float16 and the real frames, where the track holds
            frames.
            Audio: (clips, frames, bands) float16, and the real frames. 0 where a clip lacks the modality.
        """
        if self.modality == "audio":
            track, most = self.tracks[0], self.window.audio_frames
            heard = cutting.sound_spans(start_s, end_s, track.rate_hz, track.rows[recordings], most=most)
            mel = new((len(recordings), most, track.dim), np.float16)
            cutting.cut_mel(mel, track, recordings, heard, pad_db=self.window.pad_db)
            return mel, cutting.rows_seen([heard])
        spans = [self.rule(start_s, end_s, track.rate_hz, track.rows[recordings]) for track in self.tracks]
        if self._frame is not None:
            frames = new_frames(len(recordings), self.window.video_frames, self._frame, new=new)
            return frames, cut_frames(frames, self.tracks[0], recordings, spans[0])
        pooled = new((len(recordings), self._dim), np.float32)
        cutting.pool_video(pooled, self.tracks, recordings, spans)
        return pooled, cutting.rows_seen(spans)


def picked_rows(rows: np.ndarray, picked: np.ndarray, *, new: NewArray) -> np.ndarray:
    """Some rows of an array, in memory from a given place.

    Args:
        rows: (rows, …).
        picked: (…), int, from 0 or, counted from the end, below.
        new: where the memory comes from.

    Returns:
        (*picked, …).
    """
    out = new((*picked.shape, *rows.shape[1:]), rows.dtype.type)
    return np.take(rows, np.where(picked < 0, picked + len(rows), picked), axis=0, out=out, mode="clip")


def batch_of(inputs: Mapping[str, np.ndarray], lengths: Mapping[str, np.ndarray], places: np.ndarray) -> Batch:
    """A batch of arrays.

    Args:
        inputs: by modality, as sources keep them: log-mels as (clips, frames, bands).
        lengths: by modality: (clips,), how much of each is real; 0 where the clip lacks it.
        places: (clips,), int.

    Returns:
        The batch, on the CPU, in the same memory.
    """
    tensors = {modality: torch.from_numpy(array) for modality, array in inputs.items()}
    if "audio" in tensors:
        tensors["audio"] = tensors["audio"].transpose(1, 2)  # (clips, bands, frames)
    counts = {modality: torch.from_numpy(np.asarray(count, dtype=np.int64)) for modality, count in lengths.items()}
    present = {modality: count > 0 for modality, count in counts.items()}
    return Batch(tensors, counts, present, torch.from_numpy(np.asarray(places, dtype=np.int64)))


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
        Sum of the widths of its tracks, which for audio are mel bands, or width of a word vector.
    """
    if modality == "text":
        return int(store.word_vectors.vectors.shape[1])
    return sum(track.dim for track in store.tracks.values() if track.modality == modality)


RowRule = Callable[[np.ndarray, float, float, float], np.ndarray]
"""From a track, the start and the end of a clip in seconds and the rows per second to the rows that the clip sees."""


def rows_between(track: np.ndarray, start_s: float, end_s: float, rate_hz: float) -> np.ndarray:
    """The rows of a track that a clip sees, at least one: see `mcnlab.data.cutting.spans_between`."""
    return _rows_of(cutting.spans_between, track, start_s, end_s, rate_hz)


def published_rows_between(track: np.ndarray, start_s: float, end_s: float, rate_hz: float) -> np.ndarray:
    """The rows of a track that a clip sees as published: see `mcnlab.data.cutting.published_spans`."""
    return _rows_of(cutting.published_spans, track, start_s, end_s, rate_hz)


def _rows_of(rule: cutting.SpanRule, track: np.ndarray, start_s: float, end_s: float, rate_hz: float) -> np.ndarray:
    """What a rule for many clips gives one."""
    first, last = rule(np.array([start_s]), np.array([end_s]), rate_hz, np.array([len(track)]))
    return track[first[0] : last[0]]


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
        seen = rows(tracks[name], start_s, end_s, rate) if name in tracks else np.empty((0, 0))
        if len(seen) == 0:
            return np.zeros(dim, dtype=np.float32), 0
        pooled.append(cutting.normalized_peaks([np.asarray(seen)], seen.shape[1])[0])
        fewest = min(fewest, len(seen))
    return np.concatenate(pooled), int(fewest)


def mel_frame(time_s: float) -> int:
    """The log-mel frame at a time, at least 0: see `mcnlab.data.cutting.mel_frame`."""
    return int(cutting.mel_frame(np.array([time_s]))[0])


def mel_frames(mel: np.ndarray | None, start_s: float, end_s: float, *, window: ClipWindow) -> tuple[np.ndarray, int]:
    """A clip's log-mel, cut or padded, and how many of its frames are real.

    Args:
        mel: (frames, bands) of the recording, or None.
        start_s: start of the clip in seconds.
        end_s: end of the clip in seconds.
        window: length and padding.

    Returns:
        (frames, bands) float16, and the real frames; 0 when there is no sound.
    """
    bands = 40 if mel is None else mel.shape[1]
    out = np.full((window.audio_frames, bands), window.pad_db, dtype=np.float16)
    if mel is None:
        return out, 0
    first = mel_frame(start_s)
    frames = mel[first : max(first + 1, mel_frame(end_s))][: window.audio_frames]
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
