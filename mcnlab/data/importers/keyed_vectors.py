"""Word vectors as gensim itself saves them (`.kv`): the vocabulary from a closed pickle, the numbers memory-mapped."""

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.importers.reconstructions import Reconstruction
from mcnlab.data.importers.unpickling import PlainDataUnpickler, read_pickle
from mcnlab.errors import DataError, reading_error

_CLASS = ("gensim.models.keyedvectors", "KeyedVectors")


def read_keyed_vectors(path: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The vectors of some words out of a file that gensim 4 saved.

    The file is a pickle of one object. It is read by the same closed machine as published features; the object's class
    is never looked up nor called, only the plain values in it are taken. Numbers that gensim put into a file beside
    (`NAME.kv.vectors.npy`) are memory-mapped: only the wanted rows are read.

    Args:
        path: the file; the one beside it is found by its name.
        wanted: the words to keep.

    Returns:
        Word to (width,) float32.

    Raises:
        DataError: a file is missing, damaged, or asks for anything that is not plain data.
    """
    state = read_pickle(path, _KeyedVectorsUnpickler)
    words = state.get("index_to_key")
    vectors = _beside(path) if "vectors" in (state.get("__numpys") or ()) else state.get("vectors")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{path}: holds no list of words")
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise DataError(f"{path}: holds no table of numbers for its words")
    if len(vectors) < len(words):
        raise DataError(f"{path}: {len(words)} words, but {len(vectors)} vectors")
    rows = {word: row for row, word in reversed(list(enumerate(words))) if word in wanted}
    found = {word: np.array(vectors[row], dtype=np.float32) for word, row in rows.items()}
    for word, vector in found.items():
        if not np.isfinite(vector).all():
            raise DataError(f"{path}: the vector of {word!r:.80} is not finite")
    return found


def _beside(path: Path) -> Any:
    """The numbers in the file that gensim puts beside the vocabulary, under a memory map."""
    numbers = path.with_name(path.name + ".vectors.npy")
    try:
        return np.load(numbers, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise reading_error(error)(f"{numbers}: not a readable table of numbers ({error})") from error


class _State:
    """Stands for the one object in the file; holds its plain values, and nothing of it is ever run."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[Any, Any] | None = None


def _never(*_: Any) -> None:
    """The class stands in the file as an argument; nobody calls it."""
    raise DataError("it calls a class")


_KEYED_VECTORS = Reconstruction(_never)


class _KeyedVectorsUnpickler(PlainDataUnpickler):
    """The closed machine, with one more name, which it only compares, and with sets of texts, which become tuples."""

    def find_class(self, module: str, name: str) -> Reconstruction:
        return _KEYED_VECTORS if (module, name) == _CLASS else super().find_class(module, name)

    def load(self) -> Any:
        made = super().load()
        if not isinstance(made, _State) or made.values is None:
            raise DataError("no word vectors of gensim")
        return made.values

    def load_newobj(self) -> None:
        """The object, empty."""
        args, kind = self.stack.pop(), self.stack[-1]
        if kind is not _KEYED_VECTORS or args != ():
            raise DataError("it makes an object of a class")
        self.stack[-1] = _State()

    def load_build(self) -> None:
        """The object's plain values, once; or those of an array."""
        if len(self.stack) < 2 or not isinstance(self.stack[-2], _State):
            super().load_build()
            return
        values, target = self.stack.pop(), self.stack[-1]
        if type(values) is not dict or target.values is not None:
            raise DataError("it changes an object in another way than word vectors need")
        target.values = values

    def load_frozenset(self) -> None:
        """Texts, as a tuple."""
        items = self.pop_mark()
        if not all(type(item) is str for item in items):
            raise DataError("a set of something other than texts")
        self.append(tuple(items))


_OWN: dict[int, Any] = {
    pickle.NEWOBJ[0]: _KeyedVectorsUnpickler.load_newobj,
    pickle.BUILD[0]: _KeyedVectorsUnpickler.load_build,
    pickle.FROZENSET[0]: _KeyedVectorsUnpickler.load_frozenset,
}
_KeyedVectorsUnpickler.dispatch = {**PlainDataUnpickler.dispatch, **_OWN}
