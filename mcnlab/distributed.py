"""What several training processes do together; with one process, everything here does nothing.

The rule that makes many processes equal one: rows are gathered with their gradients, every process computes the whole
loss from all rows, and gradients are averaged.
"""

import datetime
import os
import platform
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch
import torch.distributed
from jaxtyping import Float, Num, Shaped
from torch import Tensor

from mcnlab.errors import RankError

LOST_SOON_S = 2.0
"""Seconds after a broken connection within which a process that was killed is seen to be gone."""
_peers: list[tuple[int, int]] = []
"""By rank: process number, and a number for its machine."""
_own_way: list[torch.distributed.ProcessGroup] = []
"""The group of all processes a second time, for sums that do not wait for other messages."""


def world_size() -> int:
    """Number of training processes; 1 when none were started together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


@contextmanager
def process_group(rank: int, processes: int, *, meet: str, timeout_s: float) -> Iterator[None]:
    """Be one of several training processes inside.

    Tensors on the CPU travel by gloo, those on a GPU by NCCL, which is untested.

    Args:
        rank: number of this process, from 0.
        processes: how many there are.
        meet: where they find each other, as torch writes it: `env://` or `file:///path`.
        timeout_s: seconds to wait for another process before it counts as lost.

    Raises:
        RankError: not all of them came, or one was lost; it is named where it ran on this machine.
    """
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
    with _everybody():
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            init_method=meet,
            rank=rank,
            world_size=processes,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
    try:
        with _everybody():
            _own_way[:] = [torch.distributed.new_group(timeout=datetime.timedelta(seconds=timeout_s))]
        here = torch.tensor([[os.getpid(), zlib.crc32(platform.node().encode())]])
        _peers[:] = [(pid, machine) for pid, machine in gather_rows(here, [1] * processes).tolist()]
        yield
    finally:
        _peers.clear()
        _own_way.clear()
        torch.distributed.destroy_process_group()


def own_rows(total: int) -> slice:
    """The rows of the global batch that this process takes: ranks share them out in order, as evenly as can be."""
    return slice(rank() * total // world_size(), (rank() + 1) * total // world_size())


def rows_by_rank(local: int) -> list[int]:
    """How many rows every process has."""
    return gather_rows(torch.tensor([local]), [1] * world_size()).tolist()


def gather_rows(rows: Shaped[Tensor, "local ..."], counts: Sequence[int]) -> Shaped[Tensor, "total ..."]:
    """The rows of all processes, in the order of their ranks; gradients flow back to where the rows came from.

    Args:
        rows: (local, ...), of any type.
        counts: how many rows each process has; some may have none.

    Returns:
        (sum of counts, ...); the very same tensor with one process. The gradient of a row is the sum of what it gets
        on all processes.
    """
    return rows if world_size() == 1 else _GatherRows.apply(rows, counts)


def sum_over_ranks(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Sum of a tensor over all processes; its gradient is summed as well."""
    return x if world_size() == 1 else _SumOverRanks.apply(x)


def largest_over_ranks(x: Num[Tensor, "..."]) -> Num[Tensor, "..."]:
    """The largest value of every component over all processes."""
    return x if world_size() == 1 else _reduced(x, torch.distributed.ReduceOp.MAX)


def from_first(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """What rank 0 has, for everybody."""
    if world_size() == 1:
        return x
    with _everybody():
        same = x.detach().clone()
        torch.distributed.broadcast(same, src=0)
    return same


def wait_for_all() -> None:
    """Go on once every process has come this far."""
    largest_over_ranks(torch.zeros(1))


def start_sum(x: Float[Tensor, "..."]) -> Callable[[], None]:
    """Begin to replace a tensor by its sum over all processes, while other work goes on.

    Such sums go their own way, so that only their order among themselves must be the same on every process.

    Args:
        x: contiguous; left alone until the sum is there.

    Returns:
        Waits until it is.
    """
    with _everybody():
        work = torch.distributed.all_reduce(x, group=_own_way[0] if _own_way else None, async_op=True)

    def wait() -> None:
        with _everybody():
            work.wait()

    return wait


class _GatherRows(torch.autograd.Function):
    """Rows of all processes, padded to equal numbers on the way."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: Sequence[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        with _everybody():
            torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = _reduced(gradients[0], torch.distributed.ReduceOp.SUM)
        return total.split(list(ctx.counts))[rank()], None


class _SumOverRanks(torch.autograd.Function):
    """Sum over all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _reduced(x, torch.distributed.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _reduced(gradients[0], torch.distributed.ReduceOp.SUM)


def _reduced(x: Tensor, how: torch.distributed.ReduceOp.RedOpType) -> Tensor:
    """A new tensor, put together from those of all processes."""
    total = x.detach().clone(memory_format=torch.contiguous_format)
    with _everybody():
        torch.distributed.all_reduce(total, op=how)
    return total


@contextmanager
def _everybody() -> Iterator[None]:
    """A broken connection inside becomes an error that names the rank."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RankError(_lost_rank() or f"contact with another rank is lost ({reason})") from error


def _lost_rank() -> str:
    """Which rank of this machine is gone or stopped, in words; empty when none is."""
    deadline = time.monotonic() + LOST_SOON_S
    while True:
        states = {number: _state(pid) for number, (pid, machine) in enumerate(_peers) if machine == _peers[rank()][1]}
        for sign in ("has ended", "is stopped"):
            for number, state in states.items():
                if state == sign:
                    return f"rank {number} (process {_peers[number][0]}) {state}"
        if not states or time.monotonic() > deadline:
            return ""
        time.sleep(0.02)


def _state(pid: int) -> str:
    """What keeps a process from answering, if anything."""
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "has ended"
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return "has ended"
    return "is stopped" if status == psutil.STATUS_STOPPED else ""
