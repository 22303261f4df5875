"""Training clips that are drawn anew every epoch, straight from the store's memory maps."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from mcnlab.batch import Batch
from mcnlab.data import cutting
from mcnlab.data.cutting import NewArray
from mcnlab.data.loading import (
    DEALT,
    ClipCutter,
    ClipWindow,
    batch_of,
    epoch_order,
    non_finite_clip,
    picked_rows,
    word_table,
)
from mcnlab.data.sampling import captions_inside, joined_words, merged_captions, window_starts, windows_in
from mcnlab.data.store import Store
from mcnlab.data.text import tokens
from mcnlab.errors import DataError
from mcnlab.numerics import first_non_finite_row, key_generator

_DRAWS_KEPT = 4096
"""Recordings whose draws are remembered within an epoch."""
_CAPTIONS_KEPT = 2**15
"""Recordings whose captions are remembered as word numbers; about 10 kB each."""


@dataclass(frozen=True)
class CaptionTimes:
    """The captions of one recording and the words of them that have a vector."""

    start_s: np.ndarray
    end_s: np.ndarray
    words: np.ndarray
    """Rows of the word table, one caption after the other."""
    offsets: np.ndarray
    """(captions + 1,): where each caption begins in `words`."""
    length_s: float
    """How long the longest track of the recording is."""
    max_words: int
    """Words of a clip at most."""


@dataclass(frozen=True)
class Drawn:
    """The clips of one recording in one epoch."""

    start_s: np.ndarray
    end_s: np.ndarray
    words: np.ndarray
    """(clips, words): rows of the word table, -1 after the last."""
    captions: np.ndarray
    """(clips, steps): the captions in each clip, -1 for none."""


@dataclass(frozen=True)
class PublishedDraws:
    """Captions drawn uniformly with replacement and widened by their neighbors.

    A clip sees the row in which it ends, and the clips of a recording stay together in the order of an epoch.

    Source:
        Chen et al. 2021 (arXiv 2104.12671), released data loader; there 32 clips of at least 10 s. Difference: a clip
        that starts at 0 s has its sound, see `mcnlab.data.loading.mel_frame`.
    """

    clips_per_video: int = 32
    """Clips of a recording in every epoch."""
    min_time_s: float = 10.0
    """Captions are widened until they last this long."""

    def clips_of(self, length_s: float) -> int:
        """As many of every recording."""
        return self.clips_per_video

    def prepare(self, captions: CaptionTimes) -> Drawn:
        """The clip of every caption, should it be drawn."""
        merged = merged_captions(captions.start_s, captions.end_s, min_time_s=self.min_time_s)
        words, _ = joined_words(merged.order, captions.words, captions.offsets, max_words=captions.max_words)
        return Drawn(merged.start_s, merged.end_s, words.astype(np.int32), merged.order)

    def draw(self, prepared: Drawn, generator: np.random.Generator) -> Drawn:
        """The clips of one epoch."""
        seeds = generator.integers(len(prepared.start_s), size=self.clips_per_video)
        return Drawn(prepared.start_s[seeds], prepared.end_s[seeds], prepared.words[seeds], prepared.captions[seeds])


@dataclass(frozen=True)
class WindowDraws:
    """Windows of one length that do not overlap; where the first begins is drawn every epoch."""

    window_s: float = 10.0
    """Length of every window."""

    def clips_of(self, length_s: float) -> int:
        """As many as fit."""
        return windows_in(length_s, self.window_s)

    def prepare(self, captions: CaptionTimes) -> CaptionTimes:
        """The captions as they are: the windows are not known before."""
        return captions

    def draw(self, captions: CaptionTimes, generator: np.random.Generator) -> Drawn:
        """Windows and the captions whose middle is in them."""
        starts = window_starts(captions.length_s, self.window_s, shift=float(generator.random()))
        order = captions_inside(captions.start_s, captions.end_s, starts, window_s=self.window_s)
        words, _ = joined_words(order, captions.words, captions.offsets, max_words=captions.max_words)
        return Drawn(starts, starts + self.window_s, words, order)


@dataclass(frozen=True)
class _Chosen:
    """Some clips of an epoch."""

    recordings: np.ndarray
    """(clips,): rows of the store."""
    start_s: np.ndarray
    end_s: np.ndarray
    words: np.ndarray
    """(clips, words): rows of the word table, -1 after the last."""
    has: dict[str, np.ndarray]
    """By modality: (clips,), whether the clip's captions, or without any its recording, may have it."""


DrawingRule = PublishedDraws | WindowDraws
"""How the clips of a recording are chosen."""


class DrawnClips:
    """The clips of one split, drawn anew at the beginning of every epoch.

    What is drawn depends on the epoch's key and the recording alone: not on the order of batches, on workers, or on
    where a run was resumed. Features are read from the store when a batch asks for them.

    Args:
        store: where the recordings lie.
        split: which of them.
        window: how a clip is cut.
        rule: how the clips of a recording are chosen.
        shuffle_seed: when given, some modalities are dealt to other clips, each once: the control in which pairs mean
            nothing.
        shuffled: the modalities that are dealt then.

    Raises:
        DataError: the split does not exist or is empty.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        *,
        window: ClipWindow,
        rule: DrawingRule,
        shuffle_seed: int | None = None,
        shuffled: Collection[str] = DEALT,
    ) -> None:
        if not store.splits.get(split):
            raise DataError(f"{store.path}: no clips in split {split!r}; splits are {dict(store.splits)}")
        self.store, self.window, self.rule = store, window, rule
        self._published = isinstance(rule, PublishedDraws)
        table = store.clips(split)
        self._recordings, first = np.unique(table["recording"].to_numpy(), return_index=True)
        self._borders = np.append(first, len(table))  # clips of a recording lie together in a store
        self._starts, self._ends = table["start_s"].to_numpy(), table["end_s"].to_numpy()
        self._captions: list[str] = table["caption"].tolist()
        self._has = {m: table[f"has_{m}"].to_numpy() for m in store.modalities}
        self._lengths_s = store.lengths_s[self._recordings]
        counts = [rule.clips_of(float(length)) for length in self._lengths_s]
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        rows = cutting.published_spans if self._published else cutting.spans_inside
        self._cutters = {m: ClipCutter(store, m, window=window, rule=rows) for m in store.modalities if m != "text"}
        self._word_table = word_table(store.word_vectors)
        self._dealt = {
            modality: key_generator(shuffle_seed, "shuffled pairs", modality).permutation(len(self))
            for modality in store.modalities
            if shuffle_seed is not None and modality in shuffled
        }
        self._prepared = functools.lru_cache(maxsize=_CAPTIONS_KEPT)(self._prepare)
        self._begin(("first",))

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """Draw the clips of an epoch.

        Args:
            key: seed, stage, epoch: all that the draws depend on.
            batch: clips per step.

        Returns:
            Places of each batch's clips. As published the clips of a recording stand together; windows stand in a
            random order.
        """
        self._begin(key)
        if not self._published:
            return epoch_order(len(self), key=key, batch=batch)
        order = key_generator(*key, "order").permutation(len(self._recordings))
        places = np.concatenate([np.arange(*self._offsets[one : one + 2]) for one in order])
        size = min(batch, len(self))
        return [places[start : start + size] for start in range(0, len(self) - size + 1, size)]

    def clip_name(self, place: int) -> str:
        """The recording and the time of the clip at a place of this epoch."""
        recording, slot = self._located(place)
        drawn = self._drawn(recording)
        name = self.store.recording_id(int(self._recordings[recording]))
        return f"{name} from {drawn.start_s[slot]:.2f} to {drawn.end_s[slot]:.2f} s"

    def batch(self, places: np.ndarray) -> Batch:
        """The clips at the given places of this epoch, ready for the towers.

        Args:
            places: (clips,), int.

        Returns:
            The batch, on the CPU, float32.
        """
        return self.kept_batch(places).to(torch.device("cpu"))

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The clips at the given places of this epoch, log-mels as the halves that they are stored as.

        See `mcnlab.data.loading.TrainingClips`.
        """
        inputs, lengths = {}, {}
        own = self._chosen(places)
        for modality in self.store.modalities:
            clips = self._chosen(self._dealt[modality][places]) if modality in self._dealt else own
            if modality == "text":
                inputs[modality], counts = (
                    picked_rows(self._word_table, clips.words, new=new),
                    (clips.words >= 0).sum(1),
                )
            else:
                cutter = self._cutters[modality]
                inputs[modality], counts = cutter.cut(clips.recordings, clips.start_s, clips.end_s, new=new)
                if (row := first_non_finite_row(inputs[modality])) is not None:
                    dealt = self._dealt[modality][places] if modality in self._dealt else places
                    raise non_finite_clip(self.store, self.clip_name(int(dealt[row])), modality)
            lengths[modality] = np.where(clips.has[modality], counts, 0)
        return batch_of(inputs, lengths, places)

    def _chosen(self, places: np.ndarray) -> _Chosen:
        """What was drawn at some places: one look per recording, not per clip."""
        count = len(places)
        start_s, end_s, words = np.empty(count), np.empty(count), np.empty((count, self.window.words), np.int64)
        has = {modality: np.ones(count, dtype=bool) for modality in self.store.modalities}
        recordings = np.searchsorted(self._offsets, places, side="right") - 1
        slots = places - self._offsets[recordings]
        order = np.argsort(recordings, kind="stable")
        borders = np.flatnonzero(np.diff(recordings[order], prepend=-1, append=-1))
        for first, last in pairwise(borders.tolist()):
            clips = order[first:last]
            recording, own = int(recordings[clips[0]]), slots[clips]
            drawn = self._drawn(recording)
            start_s[clips], end_s[clips], words[clips] = drawn.start_s[own], drawn.end_s[own], drawn.words[own]
            for modality in has.keys() - {"text"}:
                has[modality][clips] = self._present(modality, recording, drawn.captions[own])
        return _Chosen(self._recordings[recordings], start_s, end_s, words, has)

    def _begin(self, key: Sequence[str | int]) -> None:
        """Forget the last epoch's draws."""
        self._key = tuple(key)
        self._drawn = functools.lru_cache(maxsize=_DRAWS_KEPT)(self._draw)

    def _located(self, place: int) -> tuple[int, int]:
        """The recording of a clip, counted within the split, and which of its clips it is."""
        recording = int(np.searchsorted(self._offsets, place, side="right")) - 1
        return recording, place - int(self._offsets[recording])

    def _prepare(self, recording: int) -> Drawn | CaptionTimes:
        """What the rule draws from: the captions of one recording, the same in every epoch."""
        first, last = self._borders[recording : recording + 2]
        index = self.store.word_vectors.index
        ids = [[index[word] for word in tokens(text) if word in index] for text in self._captions[first:last]]
        times = CaptionTimes(
            self._starts[first:last],
            self._ends[first:last],
            np.array([row for one in ids for row in one], dtype=np.int64),
            np.cumsum([0, *(len(one) for one in ids)]),
            float(self._lengths_s[recording]),
            self.window.words,
        )
        return self.rule.prepare(times)

    def _draw(self, recording: int) -> Drawn:
        """One recording's clips in this epoch."""
        generator = key_generator(*self._key, "clips", int(self._recordings[recording]))
        return self.rule.draw(self._prepared(recording), generator)  # type: ignore[arg-type]  # its own preparation

    def _present(self, modality: str, recording: int, captions: np.ndarray) -> np.ndarray:
        """Whether some caption of each clip has a modality; a clip without captions has what its recording has.

        Args:
            modality: not text.
            recording: counted within the split.
            captions: (clips, steps), -1 for none.

        Returns:
            (clips,), bool.
        """
        has = self._has[modality][self._borders[recording] : self._borders[recording + 1]]
        joined = captions >= 0
        return ~joined.any(axis=1) | (has[captions] & joined).any(axis=1)
