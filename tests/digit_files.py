"""A store of written digits as single frames, from the real ones where they are on this machine."""

import os
from pathlib import Path

import numpy as np

from mcnlab.data.raw_frames import RawFrames
from mcnlab.data.store import Clip, Recording, StoreWriter, open_store
from mcnlab.data.text import WordVectors

DIGITS = Path(os.environ.get("MCNLAB_DIGITS", Path(__file__).parents[2] / "shared" / "data" / "digits"))
"""Folder with `images_train.npz` and `images_val.npz`: images (n, 28, 28) uint8 and label (n,)."""
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLIP_S = 1.0
AT_ONCE = 50


def write_digits(path, *, train, test):
    """The first so many pictures of both splits, each a clip of one frame."""
    frames = RawFrames(28, 28, 1.0 / CLIP_S)
    words = WordVectors(NAMES, np.eye(10, dtype=np.float32), "one of ten")
    with StoreWriter(path, name="digits", tracks=frames.tracks(), words=words, info={"visual": frames.info()}) as out:
        for split, source, count in (("train", "train", train), ("test", "val", test)):
            known = np.load(DIGITS / f"images_{source}.npz")
            images, labels = known["images"][:count], known["label"][:count]
            for start in range(0, len(images), AT_ONCE):
                own = slice(start, start + AT_ONCE)
                pictures = np.repeat(images[own, :, :, None], 3, axis=3)
                clips = [NAMES[label] for label in labels[own].tolist()]
                out.add(
                    Recording(
                        id=f"{split}-{start}",
                        split=split,
                        duration_s=len(clips) * CLIP_S,
                        tracks=frames(pictures),
                        clips=tuple(Clip(k * CLIP_S, (k + 1) * CLIP_S, name, name, {}) for k, name in enumerate(clips)),
                        media={},
                        thumbnails=None,
                    )
                )
    return open_store(path)
