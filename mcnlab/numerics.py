"""Shared maths: safe normalization, and randomness that depends on nothing but its key."""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

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


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """At most so many threads of torch, BLAS and OpenMP inside, so that numbers do not hang on how many there are.

    Args:
        count: threads; None leaves them as they are.
    """
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(limits=count):
            yield
    finally:
        torch.set_num_threads(before)


def one_torch_thread() -> AbstractContextManager[None]:
    """One thread inside: many small operations are fastest so, above all beside other processes."""
    return limited_threads(1)
