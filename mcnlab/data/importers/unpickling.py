"""Reading published pickles safely: a closed list of instructions and names, and nothing of the file is ever called."""

import pickle
import pickletools
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcnlab.data.importers.reconstructions import (
    RECONSTRUCTIONS,
    PendingArray,
    PendingDtype,
    Reconstruction,
    Storage,
)
from mcnlab.errors import DataError, reading_error

MOST_LEVELS = 32
"""Containers inside containers; the published files have three."""
_MEGABYTE = 10**6
_LARGE_BYTES = 4096
_MOST_GROWTH = 4
_LARGEST_KEY = 2**60
"""Whole numbers from here on could be chosen so that all have the same hash."""
_OPCODES = frozenset(
    word
    for line in (
        "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT",
        "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8",
        "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST LIST APPEND APPENDS",
        "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS",
        "GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL INST REDUCE BUILD",
    )
    for word in line.split()
)
"""The pickle instructions that plain data need. Left out: objects of classes, persistent ids, extension codes, sets,
buffers outside of the file, and what only serves to copy or drop values."""


def load_published_pickle(path: Path | str, *, progress: Callable[[int, int], None] | None = None) -> Any:
    """The content of a published feature pickle: lists and dicts of numbers, texts, arrays and tensors.

    An ordinary pickle can run any program when it is read. Here only a closed list of instructions is followed and
    only a closed list of names is known; each name stands for a function of ours that checks what it is given, so that
    a file which names anything else is refused before it could be called. Tensors in such files hold a torch file of
    their own, which is read with weights-only loading. The file is streamed, and its numbers are held in memory once.

    Args:
        path: a pickle of protocol 0 to 5, also one that Python 2 wrote.
        progress: called with megabytes read and all, once for each.

    Returns:
        The content. Arrays may be read-only; tensors lie on the CPU; keys of type bytes become text; ordered
        dictionaries become plain ones. Texts that Python 2 wrote are decoded as latin1.

    Raises:
        DataError: the file is missing, damaged, asks for something that is not plain data (which is named), nests too
            deeply, or promises more than its bytes hold.

    Example:
        >>> rows = load_published_pickle("youcook_val_audio.pkl")  # doctest: +SKIP
        >>> rows[0]["2d"].shape  # doctest: +SKIP
        (2048,)
    """
    return read_pickle(Path(path), PlainDataUnpickler, progress=progress)


def read_pickle(
    path: Path, machine: "type[PlainDataUnpickler]", *, progress: Callable[[int, int], None] | None = None
) -> Any:
    """The content of a pickle, as one of the closed machines reads it.

    Args:
        path: of a file.
        machine: `PlainDataUnpickler`, or one that knows a little more.
        progress: as in `load_published_pickle`.

    Returns:
        Plain data.

    Raises:
        DataError: as `load_published_pickle`.
    """
    if not path.is_file():  # nor a pipe, which could be waited for without end
        raise DataError(f"{path}: cannot be read (no such file)")
    try:
        with path.open("rb") as file:
            return _plain(machine(file, path.stat().st_size, progress).load(), {}, 0)
    except OSError as error:
        raise reading_error(error)(f"{path}: cannot be read ({error.strerror or error})") from error
    except DataError as error:
        raise DataError(f"{path}: refused, since it is more than plain data: {error}") from error
    except Exception as error:  # whatever damaged bytes lead to, said in one line
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a readable pickle ({reason:.200})") from error


class PlainDataUnpickler(pickle._Unpickler):
    """The machine of the standard library, written in Python, with its table of instructions closed.

    The machine in C cannot be used: it follows extension codes and touches objects without asking.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    readinto: Callable[[bytearray], int]
    readline: Callable[[], bytes]

    def __init__(
        self, file: BufferedReader, size_bytes: int, progress: Callable[[int, int], None] | None = None
    ) -> None:
        super().__init__(_BoundedFile(file, size_bytes, progress), fix_imports=False, encoding="latin1")
        self.memo: _Memo = _Memo()
        self._room = _MOST_GROWTH * size_bytes + _LARGE_BYTES

    def find_class(self, module: str, name: str) -> Reconstruction:
        """One of our own functions; never what the file names."""
        known = RECONSTRUCTIONS.get((module, name))
        if known is None:
            raise DataError(f"it wants {f'{module}.{name}'!r:.120}")
        return known

    def persistent_load(self, pid: object) -> None:
        """A reference to something outside of the file."""
        raise DataError("it wants something that lies outside of the file")

    def load_reduce(self) -> None:
        """Call one of our own functions."""
        args, function = self.stack.pop(), self.stack[-1]
        if not isinstance(function, Reconstruction) or not isinstance(args, tuple):
            raise DataError("it calls something that is no function")
        self.stack[-1] = function(*args)
        self._account(args, self.stack[-1])

    def load_inst(self) -> None:
        """An object of a class in the oldest spelling; the class is named in the refusal."""
        self.find_class(*(self.readline()[:-1].decode("ascii") for _ in range(2)))
        raise DataError("it makes an object of a class")

    def load_build(self) -> None:
        """Fill an array or its type."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, PendingArray | PendingDtype):
            raise DataError("it changes an object that is no array")
        target.__setstate__(state)
        self._account(state, target)

    def load_setitem(self) -> None:
        """One entry of a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        """Several entries of a dictionary."""
        items = self.pop_mark()
        _put(self.stack[-1], items)

    def load_dict(self) -> None:
        """A dictionary with its entries."""
        items = self.pop_mark()
        self.append(_put({}, items))

    def load_bytearray8(self) -> None:
        """Bytes that may be written, taken from the file without a copy on the way."""
        length = int.from_bytes(self.read(8), "little")
        if length > self._room:
            raise DataError(f"it promises {length} bytes, more than the file holds")
        content = bytearray(length)
        self.readinto(content)
        self.append(content)

    def _account(self, args: Any, made: Any) -> None:
        """Let go of bytes that have been used, and stop files that unpack one piece again and again."""
        self.memo.forget(args)
        self._room -= _bytes_in(made)
        if self._room < 0:
            raise DataError("it unpacks to much more than it holds")


def _closed_table() -> dict[int, Callable[[PlainDataUnpickler], None]]:
    """By instruction: what is done; a refusal where it is none of plain data's."""
    table: dict[int, Callable[[Any], None]] = {}
    for opcode in pickletools.opcodes:
        code = ord(opcode.code)
        inherited = pickle._Unpickler.dispatch[code]
        own = getattr(PlainDataUnpickler, inherited.__name__)
        table[code] = own if opcode.name in _OPCODES else _refusal(opcode.name)
    return table


def _refusal(name: str) -> Callable[[Any], None]:
    """What is done at an instruction that plain data do not need."""

    def refuse(_machine: Any) -> None:
        raise DataError(f"it uses the pickle instruction {name}")

    return refuse


PlainDataUnpickler.dispatch = _closed_table()  # type: ignore[assignment]


class _BoundedFile:
    """A file that says so when more bytes are asked for than it has left, before memory is taken for them."""

    def __init__(self, file: BufferedReader, size_bytes: int, progress: Callable[[int, int], None] | None) -> None:
        self._file, self._left, self._size, self._progress = file, size_bytes, size_bytes, progress
        self._tell_at = size_bytes if progress is not None else -1
        """Bytes left at which somebody is told the next time."""

    def read(self, length: int) -> bytes:
        """So many bytes."""
        if length > self._left:
            raise EOFError(f"it promises {length} bytes where {self._left} are left")
        self._advance(length)
        return self._file.read(length)

    def readinto(self, buffer: bytearray) -> int:
        """Fill a buffer."""
        if len(buffer) > self._left:
            raise EOFError(f"it promises {len(buffer)} bytes where {self._left} are left")
        self._advance(len(buffer))
        return self._file.readinto(buffer)

    def readline(self) -> bytes:
        """The bytes up to the next line end."""
        line = self._file.readline()
        self._advance(len(line))
        return line

    def _advance(self, length: int) -> None:
        """So many bytes are gone."""
        self._left -= length
        if self._left <= self._tell_at and self._progress is not None:
            self._tell_at = max(self._left - _MEGABYTE, 0) if self._left else -1
            total = -(-self._size // _MEGABYTE)
            self._progress((self._size - self._left) // _MEGABYTE if self._left else total, total)


class _Memo(dict[int, Any]):
    """Values that the file may refer to again; large ones that were used up can be let go of."""

    _GONE = object()

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[int, int] = {}

    def __setitem__(self, place: int, value: Any) -> None:
        super().__setitem__(place, value)
        if _is_large(value) or isinstance(value, tuple):
            self._places[id(value)] = place

    def __getitem__(self, place: int) -> Any:
        value = super().__getitem__(place)
        if value is self._GONE:
            raise KeyError(place)
        return value

    def forget(self, args: Any) -> None:
        """Let go of large bytes and texts among some arguments, and of the tuple that holds them."""
        if isinstance(args, tuple) and any(map(_is_large, args)):
            for value in (args, *args):
                place = self._places.pop(id(value), None)
                if place is not None:
                    super().__setitem__(place, self._GONE)


def _is_large(value: Any) -> bool:
    """Whether holding on to a value a second time would matter."""
    return isinstance(value, bytes | bytearray | str) and len(value) > _LARGE_BYTES


def _bytes_in(made: Any) -> int:
    """Memory behind what one call made."""
    if isinstance(made, PendingArray):
        made = made.array
    elif isinstance(made, Storage):
        made = made.flat
    if isinstance(made, np.ndarray | torch.Tensor):
        return made.nbytes
    return len(made) if isinstance(made, bytes) else 0


def _put(target: Any, items: list[Any]) -> Any:
    """Entries into a dictionary; its keys are texts or whole numbers, which are harmless to hash."""
    if type(target) is not dict:
        raise DataError("it puts entries into something that is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, bytes, int) or (type(key) is int and abs(key) >= _LARGEST_KEY):
            raise DataError(f"a dictionary with a key of type {type(key).__name__} or too large a number")
        target[key] = value
    return target


def _plain(value: Any, known: dict[int, Any], level: int) -> Any:
    """The value with finished arrays in place of the stand-ins that they grew in."""
    if isinstance(value, PendingArray) and value.array is not None:
        return value.array
    if isinstance(value, str | bytes | int | float | np.ndarray | np.generic | torch.Tensor) or value is None:
        return value
    if type(value) not in (list, dict, tuple):
        raise DataError(f"it holds a bare {type(value).__name__}")
    if level == MOST_LEVELS:
        raise DataError(f"it nests more than {MOST_LEVELS} levels deep")
    if id(value) in known:
        if known[id(value)] is _UNDER_WAY:
            raise DataError("it holds a container that contains itself")
        return known[id(value)]
    known[id(value)] = _UNDER_WAY
    known[id(value)] = _finished(value, known, level + 1)
    return known[id(value)]


def _finished(value: Any, known: dict[int, Any], level: int) -> Any:
    """A container with all its parts plain; lists stay what they are."""
    if isinstance(value, list):
        value[:] = [_plain(part, known, level) for part in value]
        return value
    if isinstance(value, tuple):
        return tuple(_plain(part, known, level) for part in value)
    return {_text(key): _plain(part, known, level) for key, part in value.items()}


def _text(key: Any) -> Any:
    """A key as text where it came as bytes."""
    return key.decode("latin1") if isinstance(key, bytes) else key


_UNDER_WAY = object()
