"""Training clips that are composed anew every epoch: no background, place or noise is ever seen twice."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch

from mcnlab.batch import Batch
from mcnlab.data.cutting import NewArray
from mcnlab.data.labels import UNKNOWN
from mcnlab.data.loading import DEALT, ClipWindow, batch_of, epoch_order
from mcnlab.data.raw_frames import new_frames
from mcnlab.data.scenes.layout import Key, Scene, draw_scene
from mcnlab.data.scenes.pictures import render_frames
from mcnlab.data.scenes.settings import SceneSettings
from mcnlab.data.scenes.sounds import heard_mel, render_sound
from mcnlab.numerics import key_generator

_SCENES_KEPT = 256
"""Scenes that are remembered within an epoch: sound and frames of a clip ask for the same one."""


class ComposedClips:
    """As many clips as a store of scenes has to train on, each of them in a scene that is drawn for one epoch alone.

    What a clip shows depends on the epoch's key and the clip's place alone: not on the order of batches, on workers, or
    on where a run was resumed.

    Args:
        settings: the scene world; a clip is a part of a scene, or all of it.
        window: how a clip is cut.
        shuffle_seed: when given, some modalities are dealt to other clips, each once: the control in which pairs mean
            nothing.
        shuffled: the modalities that are dealt then.
        classes: when given, batches hold the place of each clip's label among them, -1 for any other.
    """

    def __init__(
        self,
        settings: SceneSettings,
        *,
        window: ClipWindow,
        shuffle_seed: int | None = None,
        shuffled: Collection[str] = DEALT,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.settings, self.window, self.classes = settings, window, classes
        self.parts = range(1) if settings.clips == "segments" else range(settings.segments)
        """Parts of every clip: that of a longer scene is none other than that of a scene of one part."""
        count = settings.train_scenes * (settings.segments if settings.clips == "segments" else 1)
        self._one = settings.model_copy(update={"segments": len(self.parts)})
        own = np.arange(count)
        self._dealt = {
            modality: key_generator(shuffle_seed, "shuffled pairs", modality).permutation(count)
            if shuffle_seed is not None and modality in shuffled
            else own
            for modality in ("video", "audio")
        }
        self._count = count
        self._begin(("first",))

    def __len__(self) -> int:
        return self._count

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """Begin an epoch with scenes of its own; see `TrainingClips`."""
        self._begin(key)
        return epoch_order(len(self), key=key, batch=batch)

    def clip_name(self, place: int) -> str:
        """The scene that a clip of this epoch was drawn as."""
        return f"composed {'/'.join(map(str, self._key))}:{place}"

    def scene(self, place: int) -> Scene:
        """The scene of the clip at a place of this epoch."""
        return self._drawn(place)

    def batch(self, places: np.ndarray) -> Batch:
        """The clips at the given places of this epoch, ready for the towers; see `TrainingClips`."""
        return self.kept_batch(places).to(torch.device("cpu"))

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The clips at the given places of this epoch; see `TrainingClips`."""
        size, window = self.settings.size_px, self.window
        frames = new_frames(len(places), window.video_frames, (3, size, size), new=new)
        sound = new((len(places), window.audio_frames, 40), np.float16)
        real = np.zeros((2, len(places)), np.int64)
        for clip, place in enumerate(places.tolist()):
            real[0, clip] = self._see(int(self._dealt["video"][place]), frames[clip])
            real[1, clip] = self._hear(int(self._dealt["audio"][place]), sound[clip])
        batch = batch_of({"video": frames, "audio": sound}, {"video": real[0], "audio": real[1]}, places)
        return batch if self.classes is None else replace(batch, labels=self._labels(places, self.classes))

    def _labels(self, places: np.ndarray, classes: Sequence[str]) -> torch.Tensor:
        """Numbers of the clips' classes."""
        number = {kind: place for place, kind in enumerate(classes)}
        labels = [self._drawn(place).label(self.parts) for place in places.tolist()]
        return torch.tensor([UNKNOWN if label is None else number.get(label, UNKNOWN) for label in labels])

    def _begin(self, key: Sequence[str | int]) -> None:
        """Forget the last epoch's scenes."""
        self._key = tuple(key)
        self._drawn = functools.lru_cache(maxsize=_SCENES_KEPT)(
            lambda place: draw_scene(self._one, self._scene_key(place))
        )

    def _scene_key(self, place: int) -> Key:
        """What the draws of a clip depend on."""
        return (self.settings.seed, "composed", *self._key, place)

    def _see(self, place: int, out: np.ndarray) -> int:
        """Fill in the frames of a clip; returns how many are real."""
        key, scene, own = self._scene_key(place), self._drawn(place), self.settings.frames_per_segment
        parts = self.parts[: -(-len(out) // own)]
        frames = [render_frames(self._one, scene, part, key, most=len(out) - part * own) for part in parts]
        shown = np.concatenate(frames)
        out[: len(shown)] = (np.moveaxis(shown, 3, 1) / np.float32(255)).astype(np.float16)
        out[len(shown) :] = out[len(shown) - 1]
        return len(shown)

    def _hear(self, place: int, out: np.ndarray) -> int:
        """Fill in the log-mel of a clip; returns how many frames are real."""
        key, scene = self._scene_key(place), self._drawn(place)
        heard = np.concatenate([heard_mel(render_sound(self._one, scene, part, key)) for part in self.parts])
        heard = heard[: len(out)]
        out[: len(heard)] = heard
        out[len(heard) :] = self.window.pad_db
        return len(heard)
