"""Safetensors files as a store uses them: named, checksummed, and read under memory maps."""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np

from mcnlab.errors import reading_error
from mcnlab.files import new_file_atomically

_TYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "U8": np.uint8, "BOOL": np.bool_, "I64": np.int64}
_MAX_HEADER_BYTES = 16 * 2**20


def shard_file(number: int) -> str:
    """Name of a shard inside its store.

    Args:
        number: from 0.

    Returns:
        Such as `shards/00000.safetensors`.
    """
    return f"shards/{number:05d}.safetensors"


def file_checksum(path: Path) -> str:
    """The sha256 of a file, in hex.

    Args:
        path: an existing file.

    Returns:
        64 hex digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tensors(path: Path, parts: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Any]:
    """Put a safetensors file in place in one step, piece by piece, and take its checksum on the way.

    The bytes are those that the safetensors library writes for the joined arrays, without its copies of them.

    Args:
        path: the file; its folder exists.
        parts: float16 arrays in C order by name of the tensor; they are joined along the first axis. At least one each.

    Returns:
        `bytes` and `sha256` of the file.

    Raises:
        StorageError: the disk or the permissions do not allow it.
    """
    ordered = {name: parts[name] for name in sorted(parts)}
    arrays = [memoryview(cast(bytes, array)) for name in ordered for array in ordered[name] if array.size]
    pieces = [memoryview(_header_of(ordered)), *arrays]
    checksum = hashlib.sha256()
    with new_file_atomically(path) as file, ThreadPoolExecutor(1) as beside:  # hashing takes as long as writing
        hashed = beside.submit(_update_with, checksum, pieces)
        for piece in pieces:
            file.write(piece)
        hashed.result()
    return {"bytes": sum(piece.nbytes for piece in pieces), "sha256": checksum.hexdigest()}


def _update_with(checksum: "hashlib._Hash", pieces: Sequence[memoryview]) -> None:
    """Let a checksum see all pieces; other threads run meanwhile."""
    for piece in pieces:
        checksum.update(piece)


def _header_of(parts: Mapping[str, Sequence[np.ndarray]]) -> bytes:
    """The header of a file of float16 tensors, filled with spaces to whole eights."""
    entries, begin = {}, 0
    for name, arrays in parts.items():
        rows = sum(len(array) for array in arrays)
        end = begin + sum(array.nbytes for array in arrays)
        entries[name] = {"dtype": "F16", "shape": [rows, *arrays[0].shape[1:]], "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return struct.pack("<Q", len(text)) + text


def mapped_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, read only when touched.

    The header is checked against the bytes that are there before anything is mapped.

    Args:
        path: the file.

    Returns:
        Read-only arrays by name.

    Raises:
        DataError: the file is missing, cut short, or not a safetensors file of plain numbers.
    """
    try:
        header, start = _header(path)
        total = path.stat().st_size - start
        names = [name for name in header if name != "__metadata__"]
        return {name: _mapped(path, header[name], start, total) for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise reading_error(error)(f"{path}: not a readable safetensors file ({error})") from error


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a safetensors file, after the same checks as `mapped_tensors`; nothing is mapped.

    Args:
        path: the file.

    Returns:
        Shapes by name.

    Raises:
        DataError: the file is missing, cut short, or not a safetensors file of plain numbers.
    """
    try:
        header, start = _header(path)
        total = path.stat().st_size - start
        return {name: _place(header[name], total)[1] for name in header if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise reading_error(error)(f"{path}: not a readable safetensors file ({error})") from error


def _header(path: Path) -> tuple[dict, int]:
    """The JSON header of a safetensors file and the place where its numbers begin."""
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ValueError(f"{len(prefix)} bytes long")
        (length,) = struct.unpack("<Q", prefix)
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header is not a mapping")
    return header, 8 + length


def _mapped(path: Path, entry: dict, start: int, total: int) -> np.ndarray:
    """One tensor of a file as a read-only memory map."""
    dtype, shape, begin = _place(entry, total)
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start + begin, shape=shape)


def _place(entry: dict, total: int) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and first byte of a tensor, when its bytes are there."""
    dtype = np.dtype(_TYPES[entry["dtype"]])
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = entry["data_offsets"]
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= total or end - begin != count * dtype.itemsize:
        raise ValueError(f"bytes {begin} to {end} of {total} do not hold {shape} {dtype}")
    return dtype, shape, begin
