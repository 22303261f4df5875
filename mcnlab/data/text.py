"""Sentences: from text to tokens, and from tokens to frozen word vectors."""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mcnlab.data.word_files import read_wanted_vectors
from mcnlab.errors import ConfigError, DataError

MAX_CAPTION_CHARACTERS = 10_000
"""Longer captions are cut here when a store is made; the published models read 20 words."""

_TOKEN = re.compile(r"[\w']+")


def tokens(sentence: str) -> list[str]:
    """The words of a sentence: runs of word characters and apostrophes, case kept.

    Args:
        sentence: any text, also empty.

    Returns:
        Its words in order.

    Source:
        Miech et al. 2019 (HowTo100M), `re.findall(r"[\\w']+", sentence)`.

    Example:
        >>> tokens("Don't fry - stir!")
        ["Don't", 'fry', 'stir']
    """
    return _TOKEN.findall(sentence)


@dataclass(frozen=True)
class WordVectors:
    """A vocabulary and its frozen vectors; word number i has row i."""

    words: tuple[str, ...]
    vectors: np.ndarray
    """(words, dim), float32, finite."""
    source: str = "unnamed"
    """Where the vectors come from, for the report."""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words):
            raise DataError(f"{len(self.words)} words but word vectors of shape {self.vectors.shape}")
        if len(set(self.words)) != len(self.words):
            twice = next(word for word, times in Counter(self.words).items() if times > 1)
            raise DataError(f"the word {twice!r} stands in the vocabulary twice")
        if not np.isfinite(self.vectors).all():
            raise DataError("the word vectors hold values that are not finite")

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.vectors.shape[1]

    @cached_property
    def index(self) -> dict[str, int]:
        """Word to row; case-sensitive."""
        return {word: row for row, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def ids(self, sentence: str, max_words: int = 20) -> np.ndarray:
        """Rows of the first known words of a sentence.

        Args:
            sentence: any text.
            max_words: how many known words to keep at most.

        Returns:
            (words,), int64; unknown words are left out, so it may be empty.
        """
        known = (self.index[word] for word in tokens(sentence) if word in self.index)
        return np.fromiter((row for row, _ in zip(known, range(max_words), strict=False)), dtype=np.int64)

    def oov(self, sentences: Iterable[str]) -> Counter[str]:
        """How often each word without a vector occurs.

        Args:
            sentences: texts.

        Returns:
            Unknown word to number of occurrences.
        """
        return Counter(word for sentence in sentences for word in tokens(sentence) if word not in self.index)


def train_word_vectors(
    sentences: Sequence[str], *, dim: int = 64, seed: int = 0, epochs: int = 30, window: int = 5
) -> WordVectors:
    """Word vectors learned from the sentences themselves: skip-gram, then spread apart.

    Every word is kept, however rare. In a small corpus words of the same kind stand in the same places, so skip-gram
    alone gives them almost one vector; the result is therefore centered, its directions are brought most of the way to
    equal variance, and the mean norm is set to 1. The same sentences and seed give the same bytes in every process.

    Args:
        sentences: the corpus.
        dim: width of a vector.
        seed: of the initial vectors and of the negative draws.
        epochs: passes over the corpus.
        window: words to each side that count as context.

    Returns:
        The vectors, words in order of falling frequency, equally frequent ones in alphabetical order.

    Raises:
        DataError: no sentence holds a word.
        ConfigError: a size is not positive.

    Source:
        Mikolov et al. 2013, arXiv 1310.4546, skip-gram with negative sampling, through gensim; without the
        subsampling of frequent words, which would empty a small corpus. The spreading is ours.
    """
    if min(dim, epochs, window) < 1:
        raise ConfigError(f"dim, epochs and window must be positive, got {dim}, {epochs} and {window}")
    corpus = [words for words in map(tokens, sentences) if words]
    if not corpus:
        raise DataError("no caption holds a word, so no word vectors can be trained")
    frequency = Counter(word for words in corpus for word in words)
    vocabulary = tuple(sorted(frequency, key=lambda word: (-frequency[word], word)))
    raw = _skip_gram(corpus, vocabulary, dim=dim, seed=seed, epochs=epochs, window=window)
    return WordVectors(vocabulary, _spread_apart(raw), f"skip-gram trained on {len(corpus)} captions, seed {seed}")


def load_word_vectors(path: Path, vocabulary: Iterable[str]) -> WordVectors:
    """The vectors of some words from a published file.

    Args:
        path: word2vec text or binary (`.bin`), GloVe text, or gensim's own `.kv` with what lies beside it.
        vocabulary: the words that are wanted; others are not kept.

    Returns:
        The wanted words that the file knows, in alphabetical order.

    Raises:
        DataError: the file is missing or unreadable, or knows none of the words.
    """
    wanted = set(vocabulary)
    found = read_wanted_vectors(path, wanted)
    if not found:
        raise DataError(f"{path}: knows none of the {len(wanted)} words of the captions")
    known = tuple(sorted(found))
    return WordVectors(known, np.stack([found[word] for word in known]), path.name)


def _skip_gram(
    corpus: list[list[str]], vocabulary: tuple[str, ...], *, dim: int, seed: int, epochs: int, window: int
) -> np.ndarray:
    """(words, dim): raw skip-gram vectors of the vocabulary."""
    from gensim.models import Word2Vec  # late: a second of start-up

    model = Word2Vec(
        corpus,
        vector_size=dim,
        window=window,
        min_count=1,
        sample=0,
        sg=1,
        negative=5,
        epochs=epochs,
        seed=seed % 2**32,
        workers=1,
        hashfxn=_stable_hash,
    )
    return np.stack([model.wv[word] for word in vocabulary]).astype(np.float32)


def _stable_hash(text: str) -> int:
    """A hash of a text that does not change from process to process."""
    return zlib.crc32(text.encode("utf-8"))


def _spread_apart(vectors: np.ndarray) -> np.ndarray:
    """(words, dim) -> (words, dim): centered, directions brought near to equal variance, mean norm 1."""
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, scale, right = np.linalg.svd(centered, full_matrices=False)
    spread = (left * scale**0.25) @ right  # (words, dim)
    norm = np.linalg.norm(spread, axis=1).mean()
    if norm == 0:  # a single word has no direction of its own
        return np.ones_like(vectors) / np.sqrt(vectors.shape[1], dtype=np.float32)
    return (spread / norm).astype(np.float32)
