"""Queries to a run from outside: a sentence, the sound or the picture of a clip, a file, as the run's own vectors."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mcnlab.batch import Batch
from mcnlab.data.audio import SAMPLES_PER_S, log_mel
from mcnlab.data.importers.media_features import decode_size, extractor_of
from mcnlab.data.loading import ClipSource, mel_frames, pooled_video
from mcnlab.data.media_files import read_picture, read_sound
from mcnlab.data.raw_frames import RawFrames
from mcnlab.data.store import Store
from mcnlab.data.text import tokens
from mcnlab.errors import DataError
from mcnlab.experiment.build import build_source
from mcnlab.experiment.checks import evaluation_split
from mcnlab.experiment.loaded import Run, load_run
from mcnlab.experiment.measure import subjects_of
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.numerics import one_torch_thread

Vectors = dict[str, np.ndarray]
"""Embedding name, as in the run's own file, to a vector (dim,), float32."""


class Asking:
    """Turns queries into the vectors that a trained run gives them; model and clips are loaded when first needed.

    Args:
        run: a trained run, or its folder.

    Example:
        >>> Asking("runs/tiny").text("a red ball bounces")["text"].shape  # doctest: +SKIP
        (32,)
    """

    def __init__(self, run: Run | str | Path) -> None:
        self.run = run if isinstance(run, Run) else load_run(run)

    @cached_property
    def store(self) -> Store:
        """The clips that the run was trained and evaluated on."""
        return self.run.store()

    @cached_property
    def model(self) -> MultimodalModel:
        """The trained model."""
        return self.run.model(self.store)

    @cached_property
    def source(self) -> ClipSource:
        """The evaluated clips, as the model reads them."""
        settings = self.run.settings
        return build_source(settings, self.store, evaluation_split(settings, self.store), shuffle_seed=None)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        """Id of an evaluated clip to its place."""
        return {clip: place for place, clip in enumerate(self.source.clips["id"].tolist())}

    def unknown_words(self, sentence: str) -> tuple[str, ...]:
        """The words of a sentence that have no vector, and are passed over; case counts.

        Args:
            sentence: any text.

        Returns:
            Each once, in order.
        """
        return tuple(dict.fromkeys(word for word in tokens(sentence) if word not in self.store.word_vectors.index))

    def text(self, sentence: str) -> Vectors:
        """A sentence as the run's text.

        Args:
            sentence: any text; words that are not known are passed over, see `unknown_words`.

        Returns:
            `text`, and `text@SPACE` where text is in several spaces.

        Raises:
            DataError: the run reads no text, or no word is known; the unknown ones are named.
        """
        self._require("text")
        words, most = self.store.word_vectors, self.run.settings.model.words
        known = words.ids(sentence, most)
        if not len(known):
            unknown = ", ".join(repr(word[:40]) for word in self.unknown_words(sentence)[:8])
            raise DataError(f"no word of the sentence is known to the run: {unknown}" if unknown else "no words")
        vectors = np.zeros((most, words.dim), dtype=np.float32)
        vectors[: len(known)] = words.vectors[known]
        return self._embedded("text", vectors, len(known))

    def sound(self, clip: str) -> Vectors:
        """The sound of an evaluated clip.

        Args:
            clip: its id.

        Raises:
            DataError: there is no such clip, or it has no sound.
        """
        return self.clip(clip, "audio")

    def frame(self, clip: str) -> Vectors:
        """The picture of an evaluated clip: all of the video that the run sees of it.

        Args:
            clip: its id.

        Raises:
            DataError: there is no such clip, or it has no video.
        """
        return self.clip(clip, "video")

    def clip(self, clip: str, modality: str) -> Vectors:
        """One modality of an evaluated clip.

        Args:
            clip: its id.
            modality: which.

        Returns:
            The vectors that the run's embeddings have in the clip's row, up to their rounding to float16.

        Raises:
            DataError: there is no such clip, or it lacks the modality.
        """
        self._require(modality)
        if clip not in self._places:
            raise DataError(f"{self.run.folder.path}: no evaluated clip {clip!r}")
        batch = self.source.batch(np.array([self._places[clip]]))
        if not bool(batch.present[modality][0]):
            raise DataError(f"clip {clip} has no {modality}")
        return self._vectors(batch, modality)

    def sound_file(self, path: str | Path) -> Vectors:
        """A sound file, or the sound of a video file, as the run would hear it as a clip.

        Args:
            path: wav, flac, ogg, mp3, mp4 and the like.

        Raises:
            DataError: it cannot be read, or the store's sound came from features that somebody published.
        """
        self._require("audio")
        self._require_own_extraction("audio")
        path = Path(path).absolute()
        heard = read_sound(path.parent, path.name, start_s=0.0, end_s=None)
        if heard is None:
            raise DataError(f"{path}: has no sound")
        mel = log_mel(heard).astype(np.float16)
        frames, real = mel_frames(mel, 0.0, len(heard) / SAMPLES_PER_S, window=self.source.window)
        return self._embedded("audio", np.ascontiguousarray(frames.T, dtype=np.float32), real)

    def picture_file(self, path: str | Path, *, fps: float | None = None) -> Vectors:
        """A picture or video file as the run would see it as a clip.

        Args:
            path: png, jpg, mp4 and the like, or `x.npy` with frames.
            fps: rate of frames in an array.

        Raises:
            DataError: it cannot be read, or the store's video came from features that somebody published.
        """
        self._require("video")
        self._require_own_extraction("video")
        extractor = extractor_of(self.store)
        if extractor is None:
            raise DataError(f"{self.store.path}: has no pictures")
        path = Path(path).absolute()
        picture = read_picture(
            path.parent,
            path.name,
            start_s=0.0,
            end_s=None,
            fps=fps,
            frames_per_s=extractor.frames_per_s,
            size_px=decode_size(extractor, extractor.backbones, 0),
        )
        with one_torch_thread():
            tracks = extractor(picture.frames)
        if isinstance(extractor, RawFrames):
            (rows,) = tracks.values()
            seen = rows[: self.source.window.video_frames].reshape(-1, *extractor.shape).astype(np.float32)
            padded = np.concatenate([seen, np.repeat(seen[-1:], self.source.window.video_frames - len(seen), axis=0)])
            return self._embedded("video", padded, len(seen))
        used = {track.name: track.rate_hz for track in self.source.store.tracks.values() if track.modality == "video"}
        length_s = max(len(tracks[name]) / rate for name, rate in used.items())
        dim = sum(tracks[name].shape[1] for name in used)
        pooled, real = pooled_video(tracks, used, 0.0, length_s, dim)
        return self._embedded("video", pooled, real)

    def _require(self, modality: str) -> None:
        """The run was trained on a modality, which its own embeddings therefore have.

        Raises:
            DataError: it was not.
        """
        trained = self.run.settings.trained_modalities
        if modality not in trained:
            raise DataError(f"{self.run.folder.path}: was not trained on {modality}, only on {', '.join(trained)}")

    def _require_own_extraction(self, modality: str) -> None:
        """The store's features of a modality can be made again from a file.

        Raises:
            DataError: they cannot; the text says why.
        """
        info = self.store.info
        if modality == "video" and "visual" in info:
            return
        if modality == "audio" and ("world" in info or "scenes" in info or "media_folder" in info):
            return
        raise DataError(
            f"{self.store.path}: holds {modality} features that were made elsewhere, so a file cannot be turned into "
            "the same; ask with a clip of the store"
        )

    def _embedded(self, modality: str, values: np.ndarray, real: int) -> Vectors:
        """One input through its tower."""
        inputs = {modality: torch.from_numpy(values)[None]}
        present, place = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.int64)
        return self._vectors(Batch(inputs, {modality: torch.tensor([real])}, {modality: present}, place), modality)

    @torch.no_grad()
    def _vectors(self, batch: Batch, modality: str) -> Vectors:
        """Named as the run names its embeddings."""
        one = Batch(
            {modality: batch.inputs[modality]},
            {modality: batch.lengths[modality]},
            {modality: batch.present[modality]},
            batch.clips,
        )
        outputs = self.model(one, [modality])
        arrays = {key: x.float().numpy() for key, x in outputs.embeddings.items()}
        return {name: x[0] for name, x in subjects_of(self.model.graph, arrays, modality).items()}
