"""Published files of word vectors, read as a stream: only the wanted words ever take memory."""

import mmap
from collections.abc import Collection, Iterator
from io import BufferedReader
from pathlib import Path

import numpy as np

from mcnlab.errors import DataError, reading_error

_LONGEST_WORD = 1000
_WIDEST = 100_000


def read_wanted_vectors(path: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The vectors of some words.

    Args:
        path: word2vec binary (`.bin`), word2vec text (first line: words, width), GloVe text (no such line), or what
            gensim 4 saves (`.kv`).
        wanted: the words to keep.

    Returns:
        Word to (width,) float32; a word that stands twice keeps its first vector.

    Raises:
        DataError: the file is missing, empty, damaged, compressed, or a pickle with more than word vectors in it.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of word vectors")
    if path.suffix in {".model", ".pkl"}:
        raise DataError(f"{path}: a pickle may run code when it is read; save the vectors in word2vec format")
    if path.suffix in {".gz", ".bz2", ".xz", ".zip"}:
        raise DataError(f"{path}: unpack it first, so that only the wanted words are read")
    if path.suffix == ".kv":
        # late: pickles are the rare case, and their reader needs torch
        from mcnlab.data.importers.keyed_vectors import read_keyed_vectors

        return read_keyed_vectors(path, wanted)
    found: dict[str, np.ndarray] = {}
    try:
        with path.open("rb") as file:
            for word, vector in (_binary if path.suffix == ".bin" else _text)(file, wanted):
                found.setdefault(word, vector)
    except (OSError, ValueError) as error:
        raise reading_error(error)(f"{path}: not a readable file of word vectors ({error})") from error
    return found


def _text(file: BufferedReader, wanted: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Lines `word number number …`; a first line of two whole numbers is a header."""
    known, width = {word.encode("utf-8") for word in wanted}, None
    for number, line in enumerate(file, start=1):
        word, _, rest = line.rstrip().partition(b" ")
        if width is not None and word not in known and rest.count(b" ") == width - 1:
            continue
        cells = rest.split()
        if number == 1 and len(cells) == 1 and word.isdigit():
            continue
        width = len(cells) if width is None else width
        if len(cells) != width or not cells:
            raise ValueError(f"line {number}: {len(cells)} numbers, expected {width}")
        if word in known:
            yield word.decode("utf-8"), _finite(word.decode("utf-8"), np.array(cells, dtype=np.float32))
    if width is None:
        raise ValueError("it is empty")


def _binary(file: BufferedReader, wanted: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
    """A header line `words width`, then word, space, width float32 numbers, maybe a line end."""
    count, width = (int(cell) for cell in file.readline(100).split())
    if not 0 < width <= _WIDEST:
        raise ValueError(f"a width of {width}")
    at, known = file.tell(), {word.encode("utf-8") for word in wanted}
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for number in range(count):
            space = content.find(b" ", at, at + _LONGEST_WORD + 1)
            if space < 0 and at + _LONGEST_WORD < len(content):
                raise ValueError(f"a word of more than {_LONGEST_WORD} bytes")
            word, at = content[at:space].lstrip(b"\n"), space + 1 + 4 * width
            if space < 0 or at > len(content):
                raise ValueError(f"it ends in word {number + 1} of {count}")
            if word in known:
                vector = np.frombuffer(content[space + 1 : at], dtype="<f4").astype(np.float32)
                yield word.decode("utf-8"), _finite(word.decode("utf-8"), vector)


def _finite(word: str, vector: np.ndarray) -> np.ndarray:
    """The vector when all of it is finite."""
    if not np.isfinite(vector).all():
        raise ValueError(f"the vector of {word!r} is not finite")
    return vector
