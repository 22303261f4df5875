"""Published files of word vectors, read as a stream: only the wanted words ever take memory."""

from collections.abc import Collection, Iterator
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from mcnlab.errors import DataError

_LONGEST_WORD = 1000
_WIDEST = 100_000


def read_wanted_vectors(path: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The vectors of some words.

    Args:
        path: word2vec binary (`.bin`), word2vec text (first line: words, width), or GloVe text (no such line).
        wanted: the words to keep.

    Returns:
        Word to (width,) float32; a word that stands twice keeps its first vector.

    Raises:
        DataError: the file is missing, empty, damaged, or a pickle by its name.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of word vectors")
    if path.suffix in {".kv", ".model", ".pkl"}:
        raise DataError(f"{path}: a pickle may run code when it is read; save the vectors in word2vec format")
    found: dict[str, np.ndarray] = {}
    try:
        with path.open("rb") as file:
            for word, vector in (_binary if path.suffix == ".bin" else _text)(file, wanted):
                found.setdefault(word, vector)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable file of word vectors ({error})") from error
    return found


def _text(file: BufferedIOBase, wanted: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Lines `word number number …`; a first line of two whole numbers is a header."""
    width = None
    for number, line in enumerate(file, start=1):
        word, _, rest = line.decode("utf-8", errors="replace").rstrip().partition(" ")
        cells = rest.split()
        if number == 1 and len(cells) == 1 and word.isdigit():
            continue
        width = len(cells) if width is None else width
        if len(cells) != width or not cells:
            raise ValueError(f"line {number}: {len(cells)} numbers, expected {width}")
        if word in wanted:
            yield word, _finite(word, np.array(cells, dtype=np.float32))
    if width is None:
        raise ValueError("it is empty")


def _binary(file: BufferedIOBase, wanted: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
    """A header line `words width`, then word, space, width float32 numbers, maybe a line end."""
    count, width = (int(cell) for cell in file.readline(100).split())
    if not 0 < width <= _WIDEST:
        raise ValueError(f"a width of {width}")
    for number in range(count):
        word = _word(file)
        vector = file.read(4 * width)
        if len(vector) < 4 * width:
            raise ValueError(f"it ends in word {number + 1} of {count}")
        if word in wanted:
            yield word, _finite(word, np.frombuffer(vector, dtype="<f4").astype(np.float32))


def _word(file: BufferedIOBase) -> str:
    """The bytes up to the next space."""
    letters = bytearray()
    while (letter := file.read(1)) not in {b" ", b""}:
        letters += letter
        if len(letters) > _LONGEST_WORD:
            raise ValueError(f"a word of more than {_LONGEST_WORD} bytes")
    return letters.lstrip(b"\n").decode("utf-8", errors="replace")


def _finite(word: str, vector: np.ndarray) -> np.ndarray:
    """The vector when all of it is finite."""
    if not np.isfinite(vector).all():
        raise ValueError(f"the vector of {word!r} is not finite")
    return vector
