"""Recordings seen frame by frame: the windows that a model looks through when it searches a video for steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mcnlab.batch import Batch
from mcnlab.data.cutting import ROUNDING
from mcnlab.data.loading import ClipWindow, input_dim, mel_frames, pooled_video
from mcnlab.data.raw_frames import frame_shape
from mcnlab.data.store import Recording, Store
from mcnlab.errors import DataError

LONGEST_HOP_S = 1.0
"""Frames are a second apart, or a quarter of a clip where clips are shorter."""
MEL_PER_S = 100
"""Log-mel frames per second."""


@dataclass(frozen=True)
class FrameGrid:
    """Where the frames of a recording lie, and what each one sees."""

    hop_s: float
    """Frame i begins at i · hop_s."""
    video_s: tuple[float, float]
    """Window of video, in seconds from the begin of the frame; shifted inward at the ends of the recording."""
    audio_s: tuple[float, float]
    """Window of audio, likewise."""

    def frames(self, duration_s: float) -> int:
        """How many frames a recording has, at least 1."""
        return max(1, math.ceil(duration_s / self.hop_s - ROUNDING))

    def covered(self, start_s: float, end_s: float, duration_s: float) -> slice:
        """Frames [⌊start⌋, ⌈end⌉) that an interval touches, at least one."""
        total = self.frames(duration_s)
        first = min(math.floor(start_s / self.hop_s + ROUNDING), total - 1)
        return slice(first, max(first + 1, min(math.ceil(end_s / self.hop_s - ROUNDING), total)))


def frame_grid(store: Store) -> FrameGrid:
    """How a store wants to be seen frame by frame.

    Args:
        store: one that an importer has given its published protocol, or any other.

    Returns:
        The published grid; else frames a second apart that see the second around their middle. Where the median clip
        is shorter than four seconds, frames are a quarter of it apart, and where it is shorter than two, they see half
        of it: most frames should see one step alone.
    """
    known = store.info.get("action_frames")
    if known:
        return FrameGrid(float(known["hop_s"]), _pair(known["video_s"]), _pair(known["audio_s"]))
    clips = store.clips()
    length_s = float((clips["end_s"] - clips["start_s"]).median())
    hop_s = min(LONGEST_HOP_S, length_s / 4)
    half = min(1.0, length_s / 2) / 2
    around = (hop_s / 2 - half, hop_s / 2 + half)
    return FrameGrid(hop_s, around, around)


class FrameSource:
    """All frames of some recordings, one after the other, cut when they are asked for.

    Args:
        store: where the recordings lie.
        recordings: their rows in the store.
        grid: the frames.
        window: how a clip is cut; audio takes the length of the grid's window instead.

    Raises:
        DataError: the video of the store is a track of raw frames, which no step can be searched in yet.
    """

    def __init__(self, store: Store, recordings: Sequence[int], grid: FrameGrid, *, window: ClipWindow) -> None:
        if frame_shape(store) is not None:
            raise DataError(f"{store.path}: steps are searched in features, but its video is raw frames")
        self.store = store
        self.grid = grid
        self.recordings = list(recordings)
        mel = max(1, math.ceil((grid.audio_s[1] - grid.audio_s[0]) * MEL_PER_S))
        self.window = replace(window, audio_frames=mel)
        counts = [grid.frames(store[row].duration_s) for row in self.recordings]
        self.ends = np.cumsum(counts)
        self._rates = {track.name: track.rate_hz for track in store.tracks.values() if track.modality == "video"}
        self._opened: tuple[int, Recording] | None = None

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def slices(self) -> list[slice]:
        """The places of each recording's frames."""
        return [slice(int(a), int(b)) for a, b in zip([0, *self.ends[:-1]], self.ends, strict=True)]

    def batch(self, places: np.ndarray) -> Batch:
        """The frames at the given places; none has text.

        Args:
            places: (frames,), int.

        Returns:
            The batch, on the CPU, float32.
        """
        inputs: dict[str, torch.Tensor] = {}
        lengths: dict[str, torch.Tensor] = {}
        cuts = [self._cut(int(place)) for place in places]
        for number, modality in enumerate(m for m in ("video", "audio") if m in self.store.modalities):
            arrays, real = zip(*(cut[number] for cut in cuts), strict=True)
            stacked = np.stack(arrays)
            stacked = stacked.transpose(0, 2, 1) if modality == "audio" else stacked  # (frames, bands, time)
            inputs[modality] = torch.from_numpy(np.ascontiguousarray(stacked, dtype=np.float32))
            lengths[modality] = torch.tensor(real)
        if "text" in self.store.modalities:
            inputs["text"] = torch.zeros(len(places), self.window.words, input_dim(self.store, "text"))
            lengths["text"] = torch.zeros(len(places), dtype=torch.int64)
        present = {modality: count > 0 for modality, count in lengths.items()}
        return Batch(inputs, lengths, present, torch.from_numpy(np.asarray(places, dtype=np.int64)))

    def _cut(self, place: int) -> list[tuple[np.ndarray, int]]:
        """What a frame sees and hears, and how much of it is real."""
        number = int(np.searchsorted(self.ends, place, side="right"))
        row = self.recordings[number]
        if self._opened is None or self._opened[0] != row:
            self._opened = (row, self.store[row])
        recording = self._opened[1]
        start_s = (place - (int(self.ends[number - 1]) if number else 0)) * self.grid.hop_s
        missing = _missing_at(recording, start_s + self.grid.hop_s / 2)
        found = []
        if "video" in self.store.modalities:
            seen = _inward(start_s, self.grid.video_s, recording.duration_s)
            array, real = pooled_video(recording.tracks, self._rates, *seen, input_dim(self.store, "video"))
            found.append((array, 0 if "video" in missing else real))
        if "audio" in self.store.modalities:
            heard = _inward(start_s, self.grid.audio_s, recording.duration_s)
            array, real = mel_frames(recording.tracks.get("audio_mel"), *heard, window=self.window)
            found.append((array, 0 if "audio" in missing else real))
        return found


class TextSource:
    """Texts without media, in batches: the steps that are searched for.

    Args:
        store: whose words are used.
        texts: one per place.
        window: how many words count.
    """

    def __init__(self, store: Store, texts: Sequence[str], *, window: ClipWindow) -> None:
        self.store = store
        self.texts = list(texts)
        self.window = window

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, places: np.ndarray) -> Batch:
        """The texts at the given places; none has video or audio.

        Args:
            places: (texts,), int.

        Returns:
            The batch, on the CPU, float32.
        """
        words = self.store.word_vectors
        known = [words.ids(self.texts[int(place)], self.window.words) for place in places]
        text = np.zeros((len(places), self.window.words, words.dim), dtype=np.float32)
        for row, ids in enumerate(known):
            text[row, : len(ids)] = words.vectors[ids]
        none = torch.zeros(len(places), dtype=torch.int64)
        inputs, lengths = {"text": torch.from_numpy(text)}, {"text": torch.tensor([len(ids) for ids in known])}
        if "video" in self.store.modalities:
            inputs["video"], lengths["video"] = torch.zeros(len(places), input_dim(self.store, "video")), none
        if "audio" in self.store.modalities:
            inputs["audio"], lengths["audio"] = torch.zeros(len(places), input_dim(self.store, "audio"), 8), none
        present = {modality: count > 0 for modality, count in lengths.items()}
        return Batch(inputs, lengths, present, torch.from_numpy(np.asarray(places, dtype=np.int64)))


def _pair(values: Sequence[float]) -> tuple[float, float]:
    """Two numbers from JSON."""
    return float(values[0]), float(values[1])


def _inward(start_s: float, window_s: tuple[float, float], duration_s: float) -> tuple[float, float]:
    """A window around a time, shifted into the recording and cut to it where it is longer."""
    length = window_s[1] - window_s[0]
    begin = max(0.0, min(start_s + window_s[0], duration_s - length))
    return begin, min(begin + length, duration_s)


def _missing_at(recording: Recording, time_s: float) -> tuple[str, ...]:
    """Modalities that the clip at a time lacks although its recording has the track."""
    clips = [clip for clip in recording.clips if clip.start_s <= time_s < clip.end_s]
    return clips[0].missing if clips else ()
