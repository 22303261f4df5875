"""Training clips that look and sound a little different in every epoch, so that they are not learned by heart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcnlab.batch import Batch
from mcnlab.data.cutting import NewArray
from mcnlab.data.loading import SILENCE_DB, TrainingClips
from mcnlab.data.wrapped import WrappedClips
from mcnlab.numerics import key_generator


@dataclass(frozen=True)
class FrameChanges:
    """What may happen to the frames of a clip: the same to all of them, so that motion stays what it was."""

    shift_px: int = 0
    """The picture moves by up to so many pixels in both directions; its border is repeated."""
    shift_frames: int = 0
    """The clip begins up to so many frames earlier or later; its first or last frame is repeated."""
    mirror: bool = False
    """Left and right change places in half of the clips."""
    brightness: float = 0.0
    """Contrast (a factor around the middle gray) and brightness change by up to this, from 0 to 1."""


@dataclass(frozen=True)
class SoundChanges:
    """What may happen to the log-mel of a clip."""

    roll: bool = False
    """The clip begins anywhere, and what stood before comes after its end."""
    gain_db: float = 0.0
    """It becomes louder or quieter by up to this."""
    masked_frames: int = 0
    """Up to so many frames that follow each other fall silent."""
    masked_bands: int = 0
    """Up to so many bands that follow each other fall silent."""


class ChangedClips(WrappedClips):
    """The clips of another source, changed anew in every epoch.

    What happens to a clip depends on the epoch's key, its place and the modality alone: not on the order of batches, on
    the number of processes, or on where a run was resumed. How long clips are and what they lack stays as it was.

    Args:
        source: the clips.
        frames: changes of videos that are frames; None leaves them alone.
        sound: changes of log-mels; None leaves them alone.

    Source: shifts, mirroring and brightness are common practice; silent bands and frames as in Park et al. (2019),
    arXiv 1904.08779, without their warping of time.
    """

    def __init__(
        self, source: TrainingClips, *, frames: FrameChanges | None = None, sound: SoundChanges | None = None
    ) -> None:
        super().__init__(source)
        self.frames, self.sound = frames, sound
        self._key: tuple[str | int, ...] = ("first",)

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """Begin an epoch of the source, with other changes."""
        self._key = tuple(key)
        return self.source.epoch(key, batch=batch)

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The same in the form in which the source keeps it; see `TrainingClips`."""
        batch = self.source.kept_batch(places, new=new)
        inputs = dict(batch.inputs)
        if self.frames is not None and inputs["video"].ndim == 5:
            for clip, generator in self._present(batch, "video"):
                picture = inputs["video"][clip].numpy()  # memory of this batch alone
                picture[:] = changed_frames(picture, int(batch.lengths["video"][clip]), self.frames, generator)
        if self.sound is not None:
            for clip, generator in self._present(batch, "audio"):
                mel, real = inputs["audio"][clip].numpy(), int(batch.lengths["audio"][clip])  # (bands, frames)
                mel[:, :real] = changed_sound(mel[:, :real], self.sound, generator)
        return replace(batch, inputs=inputs)

    def _present(self, batch: Batch, modality: str) -> list[tuple[int, np.random.Generator]]:
        """The clips of a batch that have a modality, each with a generator of its own."""
        rows = batch.present[modality].nonzero().flatten().tolist()
        return [(row, key_generator(*self._key, "changed", modality, int(batch.clips[row]))) for row in rows]


def changed_frames(frames: np.ndarray, real: int, changes: FrameChanges, generator: np.random.Generator) -> np.ndarray:
    """The frames of one clip, moved, mirrored, brighter or darker.

    Args:
        frames: (frames, channels, height, width), 0 to 1.
        real: how many of them are real, at least 1; the others repeat the last real one, before and after.
        changes: how much of what.
        generator: moves on.

    Returns:
        The same shape, 0 to 1.
    """
    height, width = frames.shape[2:]
    down, right = (int(generator.integers(-changes.shift_px, changes.shift_px + 1)) for _ in range(2))
    later = int(generator.integers(-changes.shift_frames, changes.shift_frames + 1))
    mirrored = changes.mirror and generator.random() < 0.5
    factor, offset = 1 + generator.uniform(-1, 1) * changes.brightness, generator.uniform(-1, 1) * changes.brightness
    times = np.clip(np.arange(len(frames)) - later, 0, real - 1)
    rows, columns = (np.clip(np.arange(s) - d, 0, s - 1) for s, d in ((height, down), (width, right)))
    out = frames[times][:, :, rows][..., columns[::-1] if mirrored else columns]
    return np.clip((out - 0.5) * factor + 0.5 + offset, 0, 1) if changes.brightness else out


def changed_sound(mel: np.ndarray, changes: SoundChanges, generator: np.random.Generator) -> np.ndarray:
    """The sound of one clip: begun elsewhere, louder or quieter, with silent bands and frames.

    Args:
        mel: (bands, frames), real frames in dB, at least one.
        changes: how much of what; fewer bands fall silent than there are.
        generator: moves on.

    Returns:
        (bands, frames), float32, not below the quietest level; nor above 0, the loudest, where the gain changed.
    """
    out = mel.astype(np.float32)
    turn, gain_db = int(generator.integers(mel.shape[1])), generator.uniform(-1, 1) * changes.gain_db
    if changes.roll:
        out = np.roll(out, turn, axis=1)
    if changes.gain_db:
        out = np.clip(out + gain_db, SILENCE_DB, 0)
    for axis, most in ((0, changes.masked_bands), (1, min(changes.masked_frames, mel.shape[1] - 1))):
        count = int(generator.integers(most + 1))
        first = int(generator.integers(mel.shape[axis] - count + 1))
        np.moveaxis(out, axis, 0)[first : first + count] = SILENCE_DB
    return out
