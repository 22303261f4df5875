"""Writing that survives a crash: a file or a folder is there whole, or not at all."""

import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from mcnlab.errors import BusyError, ConfigError, StorageError

OWNER = ".owner"
"""Ending of the file that names the process which builds a folder; the lock beside it would be emptied by who asks."""


def process_name() -> str:
    """This process for a person who looks for it."""
    return f"process {os.getpid()} on {platform.node()}"


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Put a file in place in one step: temporary name, fsync, rename, fsync of the folder.

    Args:
        path: the file; its folder exists.
        content: all of its bytes; may be empty.

    Raises:
        StorageError: the disk or the permissions do not allow it; an older file is then untouched.
    """
    with new_file_atomically(path) as file:
        file.write(content)


@contextmanager
def new_file_atomically(path: Path) -> Iterator[BinaryIO]:
    """Write a file piece by piece; it is there in one step when the block ends without an error.

    Args:
        path: the file; its folder exists.

    Yields:
        The file to write to, under a temporary name.

    Raises:
        StorageError: the disk or the permissions do not allow it; an older file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Put a UTF-8 text file in place in one step.

    Args:
        path: the file; its folder exists.
        text: all of its text.

    Raises:
        StorageError: the disk or the permissions do not allow it.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


MOST_JSON_BYTES = 2**28
"""A JSON file that is larger than this is none of ours."""


def read_json(path: Path) -> Any:
    """The content of a JSON file, read strictly: what two readers could take for two things is refused.

    Args:
        path: the file.

    Returns:
        Plain values.

    Raises:
        ValueError: it is no JSON or no UTF-8, is larger than `MOST_JSON_BYTES`, or see `parse_json`.
        RecursionError: it is nested too deep.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_JSON_BYTES + 1)
    if len(content) > MOST_JSON_BYTES:
        raise ValueError(f"more than {MOST_JSON_BYTES} bytes")
    return parse_json(content.decode("utf-8"))


MOST_LINE_BYTES = 2**20
"""A line of JSON that is longer than this is none of ours."""


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, one after another.

    Args:
        path: the file.

    Yields:
        Each with its end.

    Raises:
        ValueError: one is no UTF-8, or longer than `MOST_LINE_BYTES`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_LINE_BYTES + 1):
            number += 1
            if len(line) > MOST_LINE_BYTES:
                raise ValueError(f"line {number} has more than {MOST_LINE_BYTES} bytes")
            yield line.decode("utf-8")


def parse_json(text: str) -> Any:
    """The values of a JSON text.

    Args:
        text: all of it.

    Returns:
        Plain values.

    Raises:
        ValueError: it is no JSON, a key stands twice in one object, or a number is NaN or infinite.
        RecursionError: it is nested too deep.
    """
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_with_different_keys)


def write_json_atomically(path: Path, value: Any) -> None:
    """Put a JSON file in place in one step; NaN and infinity are refused.

    Args:
        path: the file; its folder exists.
        value: plain lists, mappings, numbers, texts.

    Raises:
        StorageError: the disk or the permissions do not allow it.
        ValueError: a number is not finite.
    """
    write_text_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_folder_atomically(path: Path) -> Iterator[Path]:
    """Build a folder under a temporary name; it takes its own name when the block ends without an error.

    One process at a time builds a given folder. What a killed process left behind is removed first; on an error
    nothing is left behind.

    Args:
        path: the folder to make. It must not exist, or be empty.

    Yields:
        The temporary folder to fill. Its files are flushed to disk before the rename.

    Raises:
        BusyError: another process is building the same folder.
        StorageError: the folder exists and holds something, or the disk does not allow it.
    """
    path = path.absolute()
    refuse_occupied(path)
    lock = _locked_beside(path)
    try:
        for stale in path.parent.glob(f".{path.name}.partial-*"):
            shutil.rmtree(stale, ignore_errors=True)
        temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            temporary.mkdir()
            yield temporary
            put_in_place(temporary, path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    finally:
        _unlock(lock)


@contextmanager
def resumable_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` in which long work gathers; it stays when the work is interrupted.

    One process at a time. Who is done puts the result in place and removes the folder.

    Args:
        path: what is being made.

    Yields:
        The folder, with whatever an earlier attempt left in it.

    Raises:
        BusyError: another process is at it.
        StorageError: the disk does not allow it.
    """
    path = path.absolute()
    lock = _locked_beside(path)
    try:
        working = path.with_name(f".{path.name}.unfinished")
        working.mkdir(exist_ok=True)
        yield working
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        _unlock(lock)


def remove_unfinished(path: Path) -> None:
    """Remove the folder of `resumable_folder` when what it was for is there: a kill may come right after the rename.

    Args:
        path: what was made.

    Raises:
        BusyError: another process is at it.
        StorageError: the disk does not allow it.
    """
    if path.absolute().with_name(f".{path.name}.unfinished").exists():
        with resumable_folder(path) as left:
            shutil.rmtree(left)


def put_in_place(folder: Path, path: Path) -> None:
    """Flush a folder to disk and give it its own name.

    Args:
        folder: on the same disk.
        path: its name; must not exist, or be an empty folder.

    Raises:
        StorageError: something is there.
    """
    _sync_tree(folder)
    refuse_occupied(path)
    folder.replace(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Args:
        path: the folder.

    Raises:
        StorageError: a file is in the way, or the disk or the permissions do not allow it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be made ({error.strerror or error})") from error


def remove_partial_files(folder: Path, *, locks: bool = False) -> None:
    """Remove what writers of this module that were killed left in a folder; call it under the folder's lock.

    Args:
        folder: nothing happens when there is none.
        locks: whether the locks of folders that were being built are removed too.
    """
    for ending in (".lock", OWNER) if locks else ():
        for lock in sorted(folder.glob(f".*{ending}")):
            lock.unlink(missing_ok=True)
    for partial in sorted(folder.glob(".*.partial-*")):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Args:
        folder: an existing folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_address(path: str | Path) -> None:
    """Refuse `s3://…`, `https://…` and the like, also with the one slash that a `Path` leaves of two.

    Raises:
        ConfigError: the path is an address.
    """
    address = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", str(path))
    if address:
        raise ConfigError(f"{address[1]}://{address[2]}: is an address, expected a path on this machine")


def refuse_occupied(path: Path) -> None:
    """Say early that a new folder cannot be made there.

    Args:
        path: where it is to be.

    Raises:
        StorageError: a file is there, or a folder that holds something.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = f"`mcnlab inspect {quote(str(path))}` says what it is, " if (path / "store.json").is_file() else ""
        removes = "rm -r" if path.is_dir() else "rm"
        raise StorageError(
            f"{path}: exists already; {what}`{removes} {quote(str(path))}` removes it, or choose another name"
        )


def _refuse_constant(constant: str) -> None:
    """Called for NaN, Infinity and -Infinity, which are no JSON."""
    raise ValueError(f"the number {constant}")


def _with_different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless a key stands twice in it."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r:.80} stands twice in one object")
        values[key] = value
    return values


def _locked_beside(path: Path) -> FileLock:
    """The lock of whoever builds `path`, taken at once or not at all; the name of who holds it lies beside it."""
    owner = path.with_name(f".{path.name}{OWNER}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            f"{path}: held by {_holder(owner)}, which is building it; call again when that has ended"
        ) from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        owner.write_text(process_name(), encoding="utf-8")
    except OSError as error:
        _unlock(lock)
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
    return lock


def _unlock(lock: FileLock) -> None:
    """Take away the name of this process, and the lock."""
    path = Path(lock.lock_file)
    path.with_suffix(OWNER).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    lock.release()


def _holder(owner: Path) -> str:
    """The process that wrote its name there; in its first moment it has not yet."""
    try:
        return owner.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def _sync_tree(folder: Path) -> None:
    """Flush every file and folder below a folder to disk."""
    for inner in sorted(folder.rglob("*")):
        if inner.is_dir():
            sync_folder(inner)
        else:
            with inner.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
