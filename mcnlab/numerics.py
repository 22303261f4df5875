"""Shared maths: safe normalization, and randomness that depends on nothing but its key."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor

from mcnlab.errors import ConfigError

NORM_FLOOR = 1e-6
"""Smallest length that a vector is divided by."""
_BYTES_LOOKED_AT = 2**18
"""Of an array at a time, so that what is made on the way stays in the cache."""
_HALF_EXPONENT = 0x7C00
"""The bits of a half that are all set where it is infinite or NaN."""


def l2_normalize(x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Rows scaled to unit length in float32, whatever the dtype; a row shorter than 1e-6 stays shorter than 1.

    A row whose square overflows (longer than 1.8e19 in float32) becomes NaN: divided by infinity it would be zero, and
    nobody would notice.

    Args:
        x: (..., dim), any float dtype.

    Returns:
        Same shape; float64 stays, everything else becomes float32.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    length = wide.square().sum(dim=-1, keepdim=True).clamp_min(NORM_FLOOR**2).sqrt()
    return wide / length.masked_fill(length.isinf(), torch.nan)


def first_non_finite_row(values: np.ndarray) -> int | None:
    """The first row that holds NaN or infinity; beside the array it takes no more memory than for a few rows.

    Args:
        values: (rows, …), any dtype.

    Returns:
        Its place; None when all is finite, as whole numbers always are.

    Example:
        >>> first_non_finite_row(np.array([[0.0, 1.0], [2.0, np.nan]]))
        1
    """
    if values.dtype.kind != "f" or not values.size:
        return None
    rows = max(1, _BYTES_LOOKED_AT * len(values) // values.nbytes)
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        if not _all_finite(block):
            return start + next(row for row, one in enumerate(block) if not _all_finite(one))
    return None


def _all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite; of halves the bits are looked at, which is five times as fast."""
    if values.dtype == np.float16:
        return int((values.view(np.uint16) & _HALF_EXPONENT).max()) < _HALF_EXPONENT
    return bool(np.isfinite(values).all())


def key_seed(*key: str | int) -> int:
    """A 63-bit seed that depends on the key alone: not on the process, the machine or the order of calls.

    Args:
        key: names and numbers, such as (seed, "epoch order", 3).

    Returns:
        From 0 to 2^63 - 1.
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def key_generator(*key: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose, keyed like `key_seed`."""
    return np.random.Generator(np.random.Philox(key_seed(*key)))


@contextmanager
def seeded(*key: str | int) -> Iterator[None]:
    """Draws of torch inside depend on the key alone; the generator outside is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_seed(*key))
        yield


class LimitedThreads:
    """A context in which torch, BLAS and OpenMP use at most so many threads; entered and never left, it lasts.

    Args:
        count: threads; None leaves them as they are.
    """

    def __init__(self, count: int | None) -> None:
        self.count = count
        self._before = torch.get_num_threads()
        self._others: threadpool_limits | None = None

    def __enter__(self) -> None:
        if self.count is not None:
            self._before = torch.get_num_threads()
            torch.set_num_threads(self.count)
            self._others = threadpool_limits(limits=self.count)

    def __exit__(self, *error: object) -> None:
        if self._others is not None:
            self._others.restore_original_limits()
            torch.set_num_threads(self._before)


def limited_threads(count: int | None) -> LimitedThreads:
    """At most so many threads inside, so that numbers do not hang on how many cores there are.

    Args:
        count: threads; None leaves them as they are.

    Returns:
        A context.
    """
    return LimitedThreads(count)


WORKSPACE, WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
"""Variable that cuBLAS reads when it starts, and its values with which it adds in one order."""


@contextmanager
def deterministic_torch(wanted: bool = True) -> Iterator[None]:
    """Inside, torch takes the algorithms that always add in the same order, and refuses those that have none.

    Enter it before CUDA starts. What was set is put back, but for the variable of cuBLAS, which is read only once.

    Args:
        wanted: nothing happens when False.

    Raises:
        ConfigError: CUDA has started already, without the variable; or torch has only an algorithm with another order.
    """
    if not wanted:
        yield
        return
    if os.environ.get(WORKSPACE) not in WORKSPACES:
        if torch.cuda.is_initialized():
            raise ConfigError(f"training.deterministic: CUDA has started already; start anew with {WORKSPACE}=:4096:8")
        os.environ[WORKSPACE] = WORKSPACES[0]
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    tried = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        said = " ".join(str(error).split()).split(", but you set")[0]
        raise ConfigError(f"training.deterministic: torch cannot do it here: {said}") from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = tried


def one_torch_thread() -> LimitedThreads:
    """One thread inside: many small operations are fastest so, above all beside other processes."""
    return LimitedThreads(1)
