"""Faults of files: whatever a disk or a stranger did to one, it is read right or named; nothing crashes or hangs."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults.children import in_child
from tests.faults.readers import KINDS, Kind, sound_copy
from tests.faults.registry import Trial, fault

NUMBERS = (
    b"1e999",
    b"-1",
    b"0",
    b"99999999999999999999999",
    b"NaN",
    b"-Infinity",
    b"1e308",
    b"2147483648",
    b"0x1F",
    b"",
)


def flip(content: bytes, dice: random.Random) -> bytes:
    """Some bits."""
    found = bytearray(content)
    for _ in range(dice.choice([1, 1, 4, 32])):
        found[dice.randrange(len(found))] ^= 1 << dice.randrange(8)
    return bytes(found)


def flip_front(content: bytes, dice: random.Random) -> bytes:
    """Bits of the first bytes, where headers are."""
    return flip(content[:128], dice) + content[128:]


def truncate(content: bytes, dice: random.Random) -> bytes:
    """The end is missing."""
    return content[: dice.randrange(len(content))]


def insert(content: bytes, dice: random.Random) -> bytes:
    """Bytes that do not belong there."""
    at = dice.randrange(len(content))
    return content[:at] + dice.randbytes(dice.choice([1, 8, 200])) + content[at:]


def swap(content: bytes, dice: random.Random) -> bytes:
    """Two blocks in each other's place."""
    size = max(1, min(512, len(content) // 4))
    one, two = sorted(dice.randrange(len(content) - size + 1) for _ in range(2))
    two = max(two, one + size)
    first, second = content[one : one + size], content[two : two + size]
    return content[:one] + second + content[one + size : two] + first + content[two + size :]


def zeros(content: bytes, dice: random.Random) -> bytes:
    """A run of zeros, as after a crash of a file system."""
    at, size = dice.randrange(len(content)), dice.choice([4, 64, 512])
    return content[:at] + bytes(min(size, len(content) - at)) + content[at + size :]


def ones(content: bytes, dice: random.Random) -> bytes:
    """Four or eight bytes of all ones: the largest length, or NaN."""
    at, size = dice.randrange(len(content)), dice.choice([4, 8])
    return content[:at] + b"\xff" * min(size, len(content) - at) + content[at + size :]


def double(content: bytes, dice: random.Random) -> bytes:
    """A line, or a piece, twice: doubled keys and rows."""
    lines = content.splitlines(keepends=True)
    at = dice.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def huge(content: bytes, dice: random.Random) -> bytes:
    """Another number in place of one that is written in digits."""
    places = list(re.finditer(rb"(?<![\w.])\d+(?:\.\d+)?", content))
    if not places:
        return ones(content, dice)
    place = dice.choice(places)
    return content[: place.start()] + dice.choice(NUMBERS) + content[place.end() :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip,
    flip_front,
    truncate,
    insert,
    swap,
    zeros,
    ones,
    double,
    huge,
)


def look(kind: Kind, path: Path, file: Path) -> str:
    """Read it, and say what came of it; raise when it is none of what may come."""
    from mcnlab.errors import McnlabError

    caught: McnlabError | OSError | None = None
    found: object = None
    try:
        found = kind.read(path)
    except (McnlabError, OSError) as error:
        caught = error
    if caught is not None:
        check_error(caught, set() if kind.named_by_caller else names_of(path, file))
        return "named"
    for values in found if isinstance(found, list) else []:
        for array in values.values() if isinstance(values, dict) else [values]:
            assert array is None or np.isfinite(array).all(), "holds NaN that nobody named"
    return "read"


def names_of(path: Path, file: Path) -> set[str]:
    """What an error may name: the file, its checkpoint, or the one beside it that it contradicts."""
    beside = {one.name for one in path.rglob("*")} if path.is_dir() else set()
    return {file.name, *beside}


def check_error(error: Exception, names: set[str]) -> None:
    """One line, the name of the file, and an exit code that says what it is."""
    from mcnlab.errors import McnlabError

    if isinstance(error, McnlabError):
        assert error.exit_code != 1, f"{type(error).__name__} has exit code 1"
        assert "\n" not in str(error), f"more than one line: {error}"
    else:
        assert isinstance(error, OSError), repr(error)
        assert error.filename is not None, f"unnamed: {error!r}"
    assert not names or any(name in str(error) for name in names), f"unnamed: {error}"


@fault(
    "mutated-files",
    "files of every kind with flipped bits, cut off, swapped, doubled, zeroed, with huge numbers",
    "read right, or one error that names the file; no crash, no wait over 5 s, no silent NaN",
    trials=1000,
    few=60,
)
def mutated_file(trial: Trial) -> str:
    """Damage one file, and read it in a process of its own."""
    names = list(KINDS)
    kind = KINDS[names[trial.number % len(names)]]
    path = file = sound_copy(kind, trial.shared, trial.folder)
    if kind.inside:
        file = sorted(path.glob(kind.inside[trial.number // len(names) % len(kind.inside)]))[-1]
    mutation = trial.random.choice(MUTATIONS)
    file.write_bytes(mutation(file.read_bytes(), trial.random))
    try:
        return in_child(lambda: look(kind, path, file))
    except AssertionError as error:
        raise AssertionError(f"{file.relative_to(trial.folder)}, {mutation.__name__}: {error}") from error
