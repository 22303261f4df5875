"""Reading npy and npz files of unknown origin: no pickle, and the header is checked before memory is taken."""

import functools
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import cast

import numpy as np
from numpy.lib import format as npy_format

from mcnlab.errors import DataError

_MAX_MEMBERS = 64
_MAX_RATIO = 200
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""What stands before a member of a zip archive: its mark, and how long its name and its extra field are."""


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
    except _DAMAGED_HEADER as error:
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
        return _kept_member(path, name, path.stat().st_mtime_ns)
    except _UNREADABLE as error:
        raise DataError(f"{path}: array {name!r} cannot be read ({_reason(error)})") from error


def read_npz_array(path: Path, names: Sequence[str]) -> np.ndarray:
    """The array of an `.npz` file that bears the first of some names; nothing is kept in memory.

    An array that is stored without compression, as NumPy's `savez` does, is read and checked in one pass.

    Args:
        path: the file.
        names: exact names without `.npy`, the most wanted first.

    Returns:
        The array, read-only.

    Raises:
        DataError: as `read_npz_member`; or none of the arrays is there.
    """
    try:
        return _member(path, names)
    except _UNREADABLE as error:
        raise DataError(f"{path}: array {names[0]!r} cannot be read ({_reason(error)})") from error


def to_float16(values: np.ndarray) -> np.ndarray:
    """Numbers as a store keeps them.

    Args:
        values: any shape; any type of plain numbers.

    Returns:
        The same numbers, float16, in C order; no copy where they are that already.

    Raises:
        DataError: they are no plain numbers, or one is NaN, infinite, or too large for float16.
    """
    if values.dtype.kind not in "fiu":
        raise DataError(f"holds {values.dtype} values, expected plain numbers")
    if values.size and not _fits_float16(values):
        raise DataError("holds values that are not finite in float16")
    return np.ascontiguousarray(values, dtype=np.float16)


def _fits_float16(values: np.ndarray) -> bool:
    """Whether all numbers are finite in float16; halves are looked at as bits, which is many times as fast."""
    if values.dtype == np.float16:  # 7C00 to 7FFF are infinity and NaN, FC00 to FFFF those with a minus
        return bool(values.view(np.int16).max() < 0x7C00 and values.view(np.uint16).max() < 0xFC00)
    with np.errstate(invalid="ignore"):
        least, most, limit = values.min(), values.max(), np.finfo(np.float16).max
    return bool(least >= -limit and most <= limit)  # never true of NaN


_DAMAGED_HEADER = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    TypeError,
    OverflowError,
    RecursionError,
    tokenize.TokenError,
)
"""What numpy raises on damaged headers, which are Python text."""
_UNREADABLE = (*_DAMAGED_HEADER, zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error, zlib.error)
"""What damaged archives raise."""


@functools.lru_cache(maxsize=4)
def _kept_member(path: Path, name: str, _changed_ns: int) -> np.ndarray:
    """An array out of a zip archive, kept."""
    return _member(path, [name])


def _member(path: Path, names: Sequence[str]) -> np.ndarray:
    """An array out of a zip archive; its CRC is checked while reading."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise ValueError(f"{len(archive.infolist())} members, at most {_MAX_MEMBERS}")
        member = next((members[f"{name}.npy"] for name in names if f"{name}.npy" in members), None)
        if member is None:
            known = ", ".join(repr(key.removesuffix(".npy")) for key in members)
            raise ValueError(f"there is no such array, only {known:.200}")
        if member.file_size > _MAX_RATIO * max(member.compress_size, 1):
            raise ValueError(f"{member.compress_size} bytes that unpack to {member.file_size}")
        stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 0x1  # 0x1: encrypted
        array = _stored_array(path, member) if stored else _packed_array(archive, member)
    array.flags.writeable = False
    return array


def _packed_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """A compressed member; zipfile checks its CRC."""
    with archive.open(member) as file:
        _checked_header(cast(BufferedIOBase, file), member.file_size, member.filename)
    with archive.open(member) as file:
        return npy_format.read_array(file, allow_pickle=False)


def _stored_array(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """A member that is not compressed: one read, one CRC, no copy."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        mark, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        begin = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        if mark != b"PK\x03\x04" or begin + member.file_size > path.stat().st_size:
            raise ValueError("the archive is cut short")
        file.seek(begin)
        content = np.empty(member.file_size, dtype=np.uint8)
        if file.readinto(content.data) != member.file_size or zlib.crc32(content.data) != member.CRC:
            raise ValueError("its content does not fit its checksum")
    header = BytesIO(content[: 2**16 + 16].tobytes())
    shape, in_columns, dtype = _checked_header(header, member.file_size, member.filename)
    return np.frombuffer(content, dtype, offset=header.tell()).reshape(shape, order="F" if in_columns else "C")


def _checked_header(file: BufferedIOBase, total_bytes: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array; raise when what its header promises is not what the bytes hold."""
    version = npy_format.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"{name}: npy version {version}")
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, in_columns, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    promised = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if promised != total_bytes - file.tell():
        raise ValueError(f"the header promises {promised} bytes, there are {total_bytes - file.tell()}")
    return shape, in_columns, dtype


def _reason(error: Exception) -> str:
    """An error's text in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
