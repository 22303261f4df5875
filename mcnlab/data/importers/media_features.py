"""The frozen parts that someone's media go through: word vectors, and calibrated visual backbones."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.calibration import Calibration
from mcnlab.data.extract import Extractor, VisualBackbone, seeded_backbones
from mcnlab.data.importers.media_decoding import Decoder
from mcnlab.data.importers.media_manifest import MediaManifest, MediaRow
from mcnlab.data.media_files import Size, is_array, is_image
from mcnlab.data.raw_frames import RawFrames, frames_of
from mcnlab.data.store import Store
from mcnlab.data.text import WordVectors, load_word_vectors, tokens, train_word_vectors
from mcnlab.errors import DataError

CALIBRATION_CLIPS = 300


Frozen = Extractor | RawFrames
"""What makes the video tracks of a clip out of its frames."""


def extractor_of(store: Store) -> Frozen | None:
    """The extractor with which a store was made, so that more media become the same features.

    Args:
        store: an open store.

    Returns:
        The extractor; None where the store has no pictures.

    Raises:
        DataError: the store keeps no calibration, or a ResNet that it names is not there.
    """
    facts = store.info.get("visual", {})
    if not facts:
        return None
    if (frames := frames_of(store)) is not None:
        return frames
    first = next(iter(facts.values()))
    backbones = {track: _named_backbone(track, **_names(fact)) for track, fact in facts.items()}
    calibrations = {
        track: Calibration.from_arrays(store.calibration, track) for track in facts if not facts[track]["trained"]
    }
    return Extractor(backbones, calibrations, first["frames_per_s"], first["mean_s"])


def parts_of(store: Store, table: MediaManifest) -> tuple[WordVectors, Frozen | None]:
    """Word vectors and extractor of an earlier store, for the rows of a new manifest.

    Args:
        store: the earlier store.
        table: the new manifest.

    Returns:
        Both; no extractor where neither has pictures.

    Raises:
        DataError: the manifest has pictures and the store has none, so that they could not be made alike.
    """
    extractor = extractor_of(store)
    if extractor is None and any(row.video for row in table.rows):
        raise DataError(f"{store.path}: has no pictures, but {table.path} does: their features cannot be made alike")
    return store.word_vectors, extractor


def notes_on_words(table: MediaManifest, vectors: WordVectors) -> list[str]:
    """A sentence on the words of the captions that have no vector.

    Args:
        table: the manifest.
        vectors: the vocabulary.

    Returns:
        One sentence, or none when every word is known.
    """
    unknown = vectors.oov(row.caption for row in table.rows)
    if not unknown:
        return []
    often = ", ".join(repr(word[:40]) for word, _ in unknown.most_common(5))
    return [f"{len(unknown)} different words of the captions have no vector ({unknown.total()} times in all): {often}"]


def _names(fact: Mapping[str, Any]) -> dict[str, Any]:
    """What a backbone is built from again."""
    return {name: fact[name] for name in ("backbone", "size_px", "frames_per_row")}


def _named_backbone(track: str, *, backbone: str, size_px: int, frames_per_row: int) -> VisualBackbone:
    """A backbone by the name that it gave itself."""
    kind, _, rest = backbone.partition(" ")
    if kind == "resnet":
        from mcnlab.data.resnet import ResNetFeatures  # late: transformers is an extra and heavy

        return ResNetFeatures(rest, frames_per_row=frames_per_row, size_px=size_px)
    return seeded_backbones(int(backbone.rpartition("-")[2]), size_px=size_px)[track]


def word_vectors(table: MediaManifest, words: Path | None, *, dim: int, seed: int) -> WordVectors:
    """Vectors from a file, or trained on the train split's captions.

    Args:
        table: the manifest.
        words: the file, or None to train.
        dim: width of trained vectors.
        seed: of the training.

    Returns:
        The vectors; an empty vocabulary where there are no captions to train on.

    Raises:
        DataError: the file cannot be read, or knows no word of the captions.
    """
    captions = [row.caption for row in table.rows if row.split == "train" and tokens(row.caption)]
    everything = {word for row in table.rows for word in tokens(row.caption)}
    if not everything or (words is None and not captions):
        return WordVectors((), np.zeros((0, dim), np.float32), "no captions")
    if words is not None:
        return load_word_vectors(words, everything)
    return train_word_vectors(captions, dim=dim, seed=seed)


def backbones_for(
    table: MediaManifest, video: str, frames_per_s: float, size_px: int, seed: int
) -> dict[str, VisualBackbone]:
    """The frozen backbones that a manifest's pictures need.

    Args:
        table: the manifest.
        video: `seeded`, or a folder or hub id of a ResNet.
        frames_per_s: rate of the frames; a ResNet looks at one per second.
        size_px: side of the square that untrained backbones see.
        seed: of the untrained backbones.

    Returns:
        By track; empty without pictures, without `video_3d` where all of them are still.
    """
    sources = [row.video for row in table.rows if row.video]
    if not sources:
        return {}
    backbones = seeded_backbones(seed, size_px=size_px)
    if video != "seeded":
        from mcnlab.data.resnet import ResNetFeatures  # late: transformers is an extra and heavy

        backbones["video_2d"] = ResNetFeatures(video, frames_per_row=max(1, round(frames_per_s)))
    if all(_is_still(row) for row in table.rows if row.video):
        del backbones["video_3d"]
    return backbones


def _is_still(row: MediaRow) -> bool:
    """Whether a row's picture is one image: an image file, or an array without a rate."""
    return is_image(row.video) or (is_array(row.video) and row.fps is None)


def decode_size(extractor: Frozen | None, backbones: Mapping[str, VisualBackbone], size_px: int) -> Size:
    """The size in which frames are kept.

    Args:
        extractor: one that is known already; may be None.
        backbones: by track; may be empty.
        size_px: the answer when there are none.

    Returns:
        The size of a track of frames; else the side of the largest square that a backbone wants.
    """
    if isinstance(extractor, RawFrames):
        return extractor.height, extractor.width
    return max((backbone.size_px for backbone in backbones.values()), default=size_px)


def calibration_rows(table: MediaManifest) -> list[MediaRow]:
    """The rows that untrained backbones are calibrated on.

    Args:
        table: the manifest.

    Returns:
        At most 300 train rows with a picture, evenly spread; rows of any split where train has no picture.
    """
    rows = [row for row in table.rows if row.video and row.split == "train"]
    rows = rows or [row for row in table.rows if row.video]
    places = np.unique(np.linspace(0, len(rows) - 1, min(CALIBRATION_CLIPS, len(rows))).astype(int))
    return [rows[place] for place in places]


def calibrated(
    table: MediaManifest,
    decoder: Decoder,
    backbones: dict[str, VisualBackbone],
    video_dim: int,
    advance: Callable[[int], None],
) -> Extractor | None:
    """The extractor, calibrated on train rows.

    Args:
        table: the manifest.
        decoder: reads the pictures, and keeps some for later.
        backbones: by track; may be empty.
        video_dim: width of each untrained track.
        advance: told of every row.

    Returns:
        The extractor; None where no picture can be read.
    """
    if not backbones:
        return None

    def frames() -> Iterator[np.ndarray]:
        for row in calibration_rows(table):
            picture = decoder.picture(row, [])
            advance(1)
            if picture is not None:
                decoder.keep(row, picture)
                yield picture.frames

    samples = frames()
    first = next(samples, None)
    if first is None:
        return None
    return Extractor.fit(backbones, chain([first], samples), frames_per_s=decoder.frames_per_s, dim=video_dim)
