"""From settings to a store of named kinds: looks, short-cuts, names and the vectors of their words."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mcnlab.data.kinds.names import NOUNS, TRAITS
from mcnlab.data.kinds.settings import KindSettings
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store import Store, StoreWriter, open_store
from mcnlab.data.text import WordVectors
from mcnlab.numerics import key_generator

KINDS_VERSION = 1
"""Raised whenever the same settings would give other bytes than before."""
CAUSES = 8
"""Numbers that decide what a class looks like, and what its name means."""
LOOKS, SHORT_CUT = 24, 8
"""Components of the pictures that show the causes, and of the short-cut."""
WORD_DIM = 32
TRAIT_SHARE = 0.7
"""How much a trait weighs beside a noun."""
WORD_NOISE = 0.05
"""Standard deviation of what a word's vector holds beside its meaning."""
SHORT_CUT_NOISE = 0.2
"""Standard deviation of the short-cut of a seen class from clip to clip; that between classes is 1."""
CLIP_S = 1.0
CLIPS_PER_RECORDING = 10
CAPTION = "a photo of a {}"


@dataclass(frozen=True)
class _Causes:
    """What words mean, and how meaning is seen."""

    nouns: Float[np.ndarray, "nouns causes"]
    traits: Float[np.ndarray, "traits causes"]
    to_words: Float[np.ndarray, "causes width"]
    to_looks: Float[np.ndarray, "causes looks"]
    mixing: Float[np.ndarray, "width width"]
    """Turns looks and short-cut so that no component of a picture is one of the two alone."""

    def of(self, name: str) -> Float[np.ndarray, " causes"]:
        """The causes of a class, of length 1."""
        trait, noun = name.split()
        found = self.nouns[NOUNS.index(noun)] + TRAIT_SHARE * self.traits[TRAITS.index(trait)]
        return found / np.linalg.norm(found)


def build_kinds(
    settings: KindSettings, out: Path | str, *, progress: Callable[[int, int], None] | None = None
) -> Store:
    """Draw a set of named kinds and put it into a new store.

    A class is a trait and a noun. Its pictures, given as the features of video, show what the words mean, plus noise,
    plus a short-cut: of each seen class another fixed pattern, of any other clip a random one. The splits: `train` and
    `val` (seen classes), `test` (unseen ones), `further` (yet others). The vectors of the words are made from their
    meaning, not learned from text.

    Args:
        settings: the set.
        out: folder of the store; it must not exist.
        progress: told recordings done and all.

    Returns:
        The store, opened.

    Raises:
        StorageError: the folder exists, or the disk or the permissions do not allow it.
    """
    causes, places = _causes(settings.seed), list(_places(settings))
    with StoreWriter(
        Path(out),
        name="named kinds",
        tracks=[kinds_track()],
        words=_words(settings, causes),
        info={"kinds": {"version": KINDS_VERSION, **settings.model_dump()}},
    ) as writer:
        for done, (split, name, number, clips) in enumerate(places, start=1):
            writer.add(_recording(settings, causes, split, name, number, clips))
            if progress is not None:
                progress(done, len(places))
    return open_store(Path(out))


def kinds_track() -> Track:
    """The one track of the set."""
    return Track("video_2d", "video", LOOKS + SHORT_CUT, 1.0 / CLIP_S)


def kinds_fingerprint(settings: KindSettings) -> str:
    """Sixteen hexadecimal digits that name a set: equal settings, equal name."""
    text = json.dumps({"version": KINDS_VERSION, **settings.model_dump()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def names_of_splits(settings: KindSettings) -> dict[str, tuple[str, ...]]:
    """The classes of each split, drawn from all traits and nouns.

    Returns:
        `train`, `val`, `test`, `further`; the first two have the same.
    """
    every = [f"{trait} {noun}" for noun in NOUNS for trait in TRAITS]
    order = [every[place] for place in key_generator(settings.seed, "kinds", "classes").permutation(len(every))]
    ends = np.cumsum([settings.seen, settings.unseen, settings.further])
    seen, unseen, further, _ = (tuple(part) for part in np.split(np.array(order, dtype=object), ends))
    return {"train": seen, "val": seen, "test": unseen, "further": further}


def _places(settings: KindSettings) -> Iterator[tuple[str, str, int, int]]:
    """Split, class, number of the recording within both, and its clips."""
    for split, names in names_of_splits(settings).items():
        total = -(-settings.clips_per_class // 3) if split == "val" else settings.clips_per_class
        for name in names:
            for number, first in enumerate(range(0, total, CLIPS_PER_RECORDING)):
                yield split, name, number, min(CLIPS_PER_RECORDING, total - first)


def _causes(seed: int) -> _Causes:
    """Meanings and ways of seeing, drawn."""
    draw, width = key_generator(seed, "kinds", "causes"), LOOKS + SHORT_CUT
    return _Causes(
        draw.standard_normal((len(NOUNS), CAUSES)),
        draw.standard_normal((len(TRAITS), CAUSES)),
        draw.standard_normal((CAUSES, WORD_DIM)) / np.sqrt(CAUSES),
        draw.standard_normal((CAUSES, LOOKS)),
        np.linalg.qr(draw.standard_normal((width, width)))[0],
    )


def _words(settings: KindSettings, causes: _Causes) -> WordVectors:
    """The words of all names and of the captions; those without a meaning are noise."""
    draw = key_generator(settings.seed, "kinds", "words")
    meanings = dict(zip(NOUNS, causes.nouns, strict=True))
    meanings |= {trait: TRAIT_SHARE * row for trait, row in zip(TRAITS, causes.traits, strict=True)}
    words = (*meanings, "a", "photo", "of")
    vectors = WORD_NOISE * draw.standard_normal((len(words), WORD_DIM))
    for row, word in enumerate(words):
        vectors[row] += meanings.get(word, np.zeros(CAUSES)) @ causes.to_words
    return WordVectors(words, vectors.astype(np.float32), "made from the meaning of the words")


def _recording(settings: KindSettings, causes: _Causes, split: str, name: str, number: int, clips: int) -> Recording:
    """Some clips of one class."""
    draw = key_generator(settings.seed, "kinds", split, name, number)
    looks = causes.of(name) @ causes.to_looks + settings.noise * draw.standard_normal((clips, LOOKS))
    glance = draw.standard_normal((clips, SHORT_CUT))
    if split in ("train", "val"):
        own = key_generator(settings.seed, "kinds", "short cut", name).standard_normal(SHORT_CUT)
        glance = own + SHORT_CUT_NOISE * glance
    rows = np.concatenate((looks, settings.short_cut * glance), axis=1) @ causes.mixing
    trait, noun = name.split()
    factors = {"class.name": name, "class.noun": noun, "class.trait": trait}
    return Recording(
        id=f"{split}-{trait}-{noun}-{number}",
        split=split,
        duration_s=clips * CLIP_S,
        tracks={"video_2d": rows.astype(np.float16)},
        clips=tuple(Clip(k * CLIP_S, (k + 1) * CLIP_S, CAPTION.format(name), name, factors) for k in range(clips)),
        media={"source": "kinds"},
        thumbnails=None,
    )
