"""Reading npy and npz files of unknown origin: no pickle, and the header is checked before memory is taken."""

import functools
import zipfile
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np
from numpy.lib import format as npy_format

from mcnlab.errors import DataError

_MAX_MEMBERS = 64
_MAX_RATIO = 200


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file, memory-mapped and read-only.

    Args:
        path: the file.

    Returns:
        The array; any plain dtype.

    Raises:
        DataError: the file is missing, cut short, holds Python objects, or is no npy file.
    """
    try:
        with path.open("rb") as file:
            _checked_header(file, path.stat().st_size, str(path))
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable npy file ({_reason(error)})") from error


def read_npz_member(path: Path, name: str) -> np.ndarray:
    """One array of an `.npz` file; the four read last are kept in memory.

    Args:
        path: the file.
        name: exact name of the array, without `.npy`.

    Returns:
        The array, read-only.

    Raises:
        DataError: the file is missing or damaged, has too many members, unpacks to more than 200 times its size, or
            lacks the array; or the array holds Python objects.
    """
    try:
        return _npz_member(path, name, path.stat().st_mtime_ns)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: array {name!r} cannot be read ({_reason(error)})") from error


@functools.lru_cache(maxsize=4)
def _npz_member(path: Path, name: str, _changed_ns: int) -> np.ndarray:
    """An array out of a zip archive; zipfile checks its CRC while reading."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise ValueError(f"{len(archive.infolist())} members, at most {_MAX_MEMBERS}")
        member = members.get(f"{name}.npy")
        if member is None:
            known = ", ".join(repr(key.removesuffix(".npy")) for key in members)
            raise ValueError(f"there is no such array, only {known:.200}")
        if member.file_size > _MAX_RATIO * max(member.compress_size, 1):
            raise ValueError(f"{member.compress_size} bytes that unpack to {member.file_size}")
        with archive.open(member) as file:
            _checked_header(cast(BufferedIOBase, file), member.file_size, name)
        with archive.open(member) as file:
            array = npy_format.read_array(file, allow_pickle=False)
    array.flags.writeable = False
    return array


def _checked_header(file: BufferedIOBase, total_bytes: int, name: str) -> None:
    """Raise when the array that a header promises is not what the bytes hold."""
    version = npy_format.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"{name}: npy version {version}")
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    promised = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if promised != total_bytes - file.tell():
        raise ValueError(f"the header promises {promised} bytes, there are {total_bytes - file.tell()}")


def _reason(error: Exception) -> str:
    """An error's text in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
