"""JSON files with one large mapping: only where each value stands is kept in memory, values are read one at a time."""

import codecs
import json
import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mcnlab.errors import DataError, reading_error

LARGEST_VALUE = 2**28
"""Characters of one value at most."""
_READ_AT_ONCE = 2**22
_SPACE = re.compile(r"[ \t\n\r]*")
_KINDS = {"[": "list", '"': "str", "t": "bool", "f": "bool", "n": "NoneType"}


class IndexedJson(Mapping[str, Any]):
    """The mapping at the top of a JSON file.

    Making one reads the file once, in pieces, and checks all of it. What stays in memory is the keys and where their
    values stand; a value is read again when it is asked for. Of a key that stands twice, at the top or in a value, the
    first counts.
    """

    def __init__(self, path: Path) -> None:
        """Look through a file.

        Args:
            path: the file.

        Raises:
            DataError: it is missing, not JSON, not a mapping, or one of its values is larger than `LARGEST_VALUE`.
        """
        self.path = path
        self.twice: list[str] = []
        """Keys that stand more than once, as often as they are repeated."""
        self._places: dict[str, int] = {}
        self._begin, self._length = array("q"), array("q")
        try:
            with path.open("rb") as file:
                for key, begin, length, value_twice in _entries(file):
                    self.twice += value_twice
                    if key in self._places:
                        self.twice.append(key)
                    else:
                        self._places[key] = len(self._begin)
                        self._begin.append(begin)
                        self._length.append(length)
        except _OtherKindError as error:
            raise DataError(f"{path}: expected a mapping from ids to captions, got {error}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise reading_error(error)(f"{path}: not readable JSON ({error})") from error

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Any:
        place = self._places[key]
        with self.path.open("rb") as file:
            file.seek(self._begin[place])
            content = file.read(self._length[place])
        try:
            return json.loads(content, object_pairs_hook=_FirstOfEach([]))
        except ValueError as error:
            raise DataError(f"{self.path}: has changed while it was read ({error})") from error


class _OtherKindError(Exception):
    """The file holds something other than a mapping."""


class _FirstOfEach:
    """Makes a dictionary of pairs, the first of equal keys counts, and notes the others."""

    def __init__(self, twice: list[str]) -> None:
        self._twice = twice

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, value in pairs:
            if name in kept:
                self._twice.append(name)
            kept.setdefault(name, value)
        return kept


class _Window:
    """A piece of a text file that moves on; `at` is where the reader stands in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._known_at, self._known_byte = 0, 0
        self.text, self.at, self.ended = "", 0, False

    def more(self) -> None:
        """Drop what was read and read on, at least as much as is there already."""
        self.byte(self.at)
        self.text, self.at, self._known_at = self.text[self.at :], 0, 0
        if len(self.text) > LARGEST_VALUE:
            raise ValueError(f"a value of more than {LARGEST_VALUE} characters")
        content = self._file.read(max(_READ_AT_ONCE, len(self.text)))
        self.ended = not content
        self.text += self._decoder.decode(content, final=self.ended)

    def byte(self, place: int) -> int:
        """Where in the file a place of the text stands; asked for places in rising order."""
        passed = self.text[self._known_at : place]
        self._known_byte += len(passed) if passed.isascii() else len(passed.encode("utf-8"))
        self._known_at = place
        return self._known_byte

    def skip_space(self) -> str:
        """Go to the next character that is no space, and return it; empty at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def take(self, mark: str) -> None:
        """Go past a mark, which must come next."""
        if (found := self.skip_space()) != mark:
            raise ValueError(f"{found!r} where {mark!r} was expected, at byte {self.byte(self.at)}")
        self.at += 1

    def value(self, decoder: json.JSONDecoder, twice: list[str]) -> tuple[Any, int, int]:
        """The next value, the byte where it begins, and how many bytes it has; what the decoder notes is in `twice`."""
        self.skip_space()
        while True:
            twice.clear()  # of an attempt that came too early
            try:
                found, end = decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended:  # else a number could go on
                    break
            except json.JSONDecodeError:
                if self.ended:
                    raise
            self.more()
        begin = self.byte(self.at)
        length = self.byte(end) - begin
        self.at = end
        return found, begin, length


def _entries(file: BinaryIO) -> Iterator[tuple[str, int, int, list[str]]]:
    """Key, first byte and length of the value, and the keys that stand twice in it."""
    twice: list[str] = []
    decoder = json.JSONDecoder(object_pairs_hook=_FirstOfEach(twice))
    window = _Window(file)
    first = window.skip_space()
    if first in _KINDS or first in {*"-0123456789"}:
        raise _OtherKindError(_KINDS.get(first, "number"))
    window.take("{")
    while window.skip_space() != "}":
        key, _, _ = window.value(decoder, twice)
        if not isinstance(key, str):
            raise ValueError(f"a key of type {type(key).__name__} at byte {window.byte(window.at)}")
        window.take(":")
        _, begin, length = window.value(decoder, twice)
        yield key, begin, length, twice.copy()
        if window.skip_space() == ",":
            window.at += 1
            if window.skip_space() == "}":
                raise ValueError(f"a comma without an entry, at byte {window.byte(window.at)}")
        elif window.skip_space() != "}":
            window.take(",")
    window.at += 1
    if window.skip_space():
        raise ValueError(f"more text after the end, at byte {window.byte(window.at)}")
