"""What a published pickle may ask for, each rebuilt by our own code: arrays, their types, tensors, storages."""

import io
import math
import pickle
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from mcnlab.errors import DataError

_DTYPE = re.compile(r"[<>|=]?([biufc](1|2|4|8|16)|[SU]\d{1,6}|\?)")
_TENSOR_DTYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
}
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How bytes begin in the layout that torch gives to a storage inside a pickle: its magic number, pickled."""
_ALLOWED_SPELLING = "latin1"


class Reconstruction:
    """Something that a pickle may call: one of our own functions, closed against being changed by the file."""

    __slots__ = ("_rebuild",)

    def __init__(self, rebuild: Callable[..., Any]) -> None:
        self._rebuild = rebuild

    def __call__(self, *args: Any) -> Any:
        return self._rebuild(*args)

    def __setstate__(self, state: object) -> None:
        raise DataError("it tries to change a function")


class PendingDtype:
    """An array's type that waits for its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __setstate__(self, state: object) -> None:
        """Take the byte order; fields, shapes and metadata of a type are refused."""
        known = isinstance(state, tuple) and len(state) >= 5 and state[1] in ("<", ">", "|", "=")
        if not known or any(part is not None for part in state[2:5]):  # type: ignore[index]
            raise DataError("an array of a structured type")
        self.dtype = self.dtype.newbyteorder(state[1])  # type: ignore[index]


class PendingArray:
    """An array that waits for its content."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        """Take shape, type, order and bytes."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):  # the first of five is a version number
            raise DataError("an array with a state of an unknown form")
        shape, dtype, fortran, data = state[-4:]
        self.array = array_of(data, dtype, shape, order="F" if fortran else "C")


class Storage:
    """The numbers that a tensor lays its shape over."""

    __slots__ = ("flat",)

    def __init__(self, flat: torch.Tensor) -> None:
        self.flat = flat


def array_of(data: Any, dtype: Any, shape: Any, *, order: str) -> np.ndarray:
    """The array over some bytes, which are not copied.

    Args:
        data: bytes, or text in which Python 2 kept them.
        dtype: a `PendingDtype`.
        shape: of whole numbers that are not negative.
        order: C or F.

    Returns:
        The array; read-only where the bytes are.

    Raises:
        DataError: the bytes are not as many as the shape promises, or the array holds Python objects.
    """
    if not isinstance(dtype, PendingDtype):
        raise DataError("an array without a type")
    _check_sizes(shape, "shape")
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise DataError(f"an array whose content is of type {type(data).__name__}")
    promised = math.prod(shape) * dtype.dtype.itemsize
    if promised != len(data):
        raise DataError(f"an array of shape {shape} promises {promised} bytes, there are {len(data)}")
    if not data:
        return np.zeros(shape, dtype.dtype)
    return np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _dtype(text: Any, *_align_and_copy: Any) -> PendingDtype:
    """A plain type by its name; numbers, truth values and texts of fixed length."""
    if isinstance(text, bytes):
        text = text.decode("latin1")
    if isinstance(text, str) and text.lstrip("<>|=").startswith("O"):
        raise DataError("an array of Python objects")
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise DataError(f"an array of type {text!r:.40}")
    return PendingDtype(np.dtype(text))


def _begin_array(kind: Any, _shape: Any, _code: Any) -> PendingArray:
    """An empty array, to be filled by the state that follows."""
    if kind is not NDARRAY:
        raise DataError("an array of a class of its own")
    return PendingArray()


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array as protocol 5 writes it."""
    if order not in ("C", "F"):
        raise DataError(f"an array of order {order!r:.20}")
    return array_of(data, dtype, shape, order=order)


def _scalar(dtype: Any, data: Any = b"") -> np.generic:
    """One number of an array's type."""
    return array_of(data, dtype, (1,), order="C")[0]


def _refuse_to_make(*_: Any) -> None:
    """The class of arrays stands in a pickle as an argument; nobody calls it."""
    raise DataError("an array that is made without its content")


def _bytes_of_text(text: Any, spelling: Any) -> bytes:
    """Bytes as protocols 0 to 2 write them."""
    if not isinstance(text, str) or spelling != _ALLOWED_SPELLING:
        raise DataError(f"a text in the spelling {spelling!r:.20}, expected {_ALLOWED_SPELLING}")
    return text.encode("latin1")


def _no_bytes(*args: Any) -> bytes:
    """Empty bytes, as protocols 0 to 2 write them."""
    if args:
        raise DataError("bytes that are made from something else")
    return b""


def _empty_dict(*args: Any) -> dict[Any, Any]:
    """A dictionary in order, filled by what follows."""
    if args not in ((), ([],)):
        raise DataError("an ordered dictionary that is made from something else")
    return {}


def _storage(data: Any) -> Storage:
    """A tensor's numbers out of the bytes of a nested torch file, read without running anything."""
    if not isinstance(data, bytes | bytearray) or not data.startswith(_LEGACY_START):
        raise DataError("a tensor's storage that is not in torch's layout")
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile file makes torch raise; its text tells how to switch safety off
        raise DataError(f"a tensor's storage that {_what_torch_refused(error)}") from None
    if isinstance(loaded, torch.storage.TypedStorage) and loaded.dtype in _TENSOR_DTYPES:
        untyped = loaded._untyped_storage  # its public name warns that typed storages will go
        loaded = torch.empty(0, dtype=loaded.dtype).set_(untyped)
    if not isinstance(loaded, torch.Tensor) or loaded.dtype not in _TENSOR_DTYPES or loaded.nbytes > len(data):
        raise DataError("a tensor's storage that holds something else")
    return Storage(loaded.reshape(-1))


def _what_torch_refused(error: Exception) -> str:
    """Which global stood in a nested file, or that it is damaged."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return f"wants {named.group(1)!r}" if named else f"cannot be read ({type(error).__name__})"


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_grad_and_hooks: Any) -> torch.Tensor:
    """A tensor over a storage, when every element of it lies inside."""
    if not isinstance(storage, Storage):
        raise DataError("a tensor without a storage")
    _check_sizes(size, "size")
    _check_sizes(stride, "stride")
    _check_sizes((offset,), "offset")
    numbers = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=False))
    there = storage.flat.numel()
    if len(size) != len(stride) or numbers > there or (numbers and last >= there):
        raise DataError(f"a tensor of size {tuple(size)} and stride {tuple(stride)} over {there} numbers")
    return torch.as_strided(storage.flat, size, stride, offset if numbers else 0)


def _parameter(data: Any, *_grad_and_hooks: Any) -> torch.Tensor:
    """A parameter is its tensor."""
    if not isinstance(data, torch.Tensor):
        raise DataError("a parameter without a tensor")
    return data


def _check_sizes(values: Any, what: str) -> None:
    """Raise when something is not a short tuple of whole numbers from 0 up."""
    if (
        not isinstance(values, tuple)
        or len(values) > 8
        or not all(type(value) is int and 0 <= value < 2**48 for value in values)
    ):
        raise DataError(f"an array or tensor of {what} {values!r:.60}")


NDARRAY = Reconstruction(_refuse_to_make)
_NUMPY_HOMES = ("numpy.core", "numpy._core")
RECONSTRUCTIONS: Mapping[tuple[str, str], Reconstruction] = MappingProxyType(
    {
        **{(f"{home}.multiarray", "_reconstruct"): Reconstruction(_begin_array) for home in _NUMPY_HOMES},
        **{(f"{home}.multiarray", "scalar"): Reconstruction(_scalar) for home in _NUMPY_HOMES},
        **{(f"{home}.numeric", "_frombuffer"): Reconstruction(_array_from_buffer) for home in _NUMPY_HOMES},
        ("numpy", "ndarray"): NDARRAY,
        ("numpy", "dtype"): Reconstruction(_dtype),
        ("_codecs", "encode"): Reconstruction(_bytes_of_text),
        ("__builtin__", "bytes"): Reconstruction(_no_bytes),
        ("builtins", "bytes"): Reconstruction(_no_bytes),
        ("collections", "OrderedDict"): Reconstruction(_empty_dict),
        ("torch.storage", "_load_from_bytes"): Reconstruction(_storage),
        ("torch._utils", "_rebuild_tensor"): Reconstruction(_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Reconstruction(_tensor),
        ("torch._utils", "_rebuild_parameter"): Reconstruction(_parameter),
    }
)
"""All that may be named: exact pairs of module and name, as numpy 1 and 2, Python 2 and 3, and torch spell them."""
