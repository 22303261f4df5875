"""Shared maths: safe normalization, and randomness that depends on nothing but its key."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor

NORM_FLOOR = 1e-6
"""Smallest length that a vector is divided by."""


def l2_normalize(x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Rows scaled to unit length in float32, whatever the dtype; a row shorter than 1e-6 stays shorter than 1.

    Args:
        x: (..., dim), any float dtype.

    Returns:
        Same shape; float64 stays, everything else becomes float32.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    length = wide.square().sum(dim=-1, keepdim=True).clamp_min(NORM_FLOOR**2).sqrt()
    return wide / length


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


def one_torch_thread() -> LimitedThreads:
    """One thread inside: many small operations are fastest so, above all beside other processes."""
    return LimitedThreads(1)
