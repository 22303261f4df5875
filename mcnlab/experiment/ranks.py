"""One run by several processes: started here, or by torchrun; what is lost is named, and nobody is left behind."""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import mcnlab.errors
from mcnlab.distributed import process_group
from mcnlab.errors import ConfigError, McnlabError, RankError, StoppedError, one_line_warnings
from mcnlab.experiment.run import run_experiment
from mcnlab.numerics import limited_threads
from mcnlab.processes import Terminated, die_with_parent, stopping_interrupts
from mcnlab.progress import TrainingProgress
from mcnlab.runs import RunFolder

NOTICING_S = 20.0
"""Seconds in which the other ranks notice by themselves that one is lost."""
STOPPING_S = 60.0
"""Seconds that all ranks have for their checkpoint when a run is stopped."""


@dataclass(frozen=True)
class Order:
    """What a rank is asked to do; all ranks get the same."""

    settings: Path
    run_dir: Path
    seed: int
    overrides: Sequence[str]


@dataclass
class Rank:
    """One process of a run, as the one that started it sees it."""

    number: int
    process: SpawnProcess
    connection: Connection

    @property
    def failed(self) -> bool:
        """Whether it has ended otherwise than well."""
        return self.process.exitcode not in (None, 0)

    def error(self) -> McnlabError | None:
        """The error that it reported; None when it had no time to."""
        try:
            name, message, code = self.connection.recv() if self.connection.poll() else ("", "", 0)
        except EOFError:
            return None
        if name == StoppedError.__name__:
            return StoppedError(message, signal_number=code - 128)
        return getattr(mcnlab.errors, name)(message) if name else None


def train_on(
    devices: int, settings: Path, run_dir: Path, seed: int, overrides: Sequence[str], *, timeout_s: float
) -> RunFolder | None:
    """Train and evaluate one experiment by as many processes as asked for, or as one of those that torchrun started.

    Args:
        devices: processes to start, each with its share of every batch; 1 trains here.
        settings: YAML file of the experiment.
        run_dir: the run folder; made when absent.
        seed: of every random draw.
        overrides: flags laid over the file.
        timeout_s: seconds until a process that does not answer counts as lost.

    Returns:
        The finished run; None in a process that only helps rank 0.

    Raises:
        ConfigError: `devices` was given to a process of torchrun's, which has its own number.
        RankError: a process failed or was lost; it is named, and the newest checkpoint stays.
        McnlabError: what `run_experiment` raises.
    """
    order = Order(settings, run_dir, seed, overrides)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and devices > 1:
        raise ConfigError(f"--devices {devices}: torchrun has already started {launched} processes")
    if launched > 1:
        die_with_parent()
        return _train_as(int(os.environ["RANK"]), launched, order, meet="env://", timeout_s=timeout_s)
    return _train_here(order, shown=True) if devices == 1 else _start(devices, order, timeout_s=timeout_s)


def _train_here(order: Order, *, shown: bool) -> RunFolder:
    """The run in this process, with a progress bar where it is to be seen."""
    if not shown:
        return run_experiment(order.settings, order.run_dir, seed=order.seed, overrides=order.overrides)
    with TrainingProgress() as bar:
        return run_experiment(
            order.settings,
            order.run_dir,
            seed=order.seed,
            overrides=order.overrides,
            on_step=bar.step,
            on_start=bar.start,
        )


def _train_as(number: int, processes: int, order: Order, *, meet: str, timeout_s: float) -> RunFolder | None:
    """The run as one rank of several."""
    with process_group(number, processes, meet=meet, timeout_s=timeout_s):
        folder = _train_here(order, shown=number == 0)
    return folder if number == 0 else None


def _start(devices: int, order: Order, *, timeout_s: float) -> RunFolder:
    """Start all ranks and wait for them; a signal goes on to them, so that they leave a checkpoint."""
    with tempfile.TemporaryDirectory(prefix="mcnlab-ranks-") as place:
        ranks: list[Rank] = []
        try:
            for number in range(devices):
                ranks.append(_started(number, devices, order, meet=f"file://{place}/meet", timeout_s=timeout_s))
            _wait_for(ranks)
        except (KeyboardInterrupt, Terminated) as stop:
            _ask_to_stop(ranks, signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
            if ranks and (error := ranks[0].error()) is not None:
                raise error from stop
            raise
        finally:
            for rank in ranks:
                rank.process.kill()
                rank.process.join()
    return RunFolder(order.run_dir.absolute())


def _started(number: int, processes: int, order: Order, *, meet: str, timeout_s: float) -> Rank:
    """A process that has begun to be one rank."""
    context = multiprocessing.get_context("spawn")  # a fork after OpenMP was used hangs
    near_end, far_end = context.Pipe(duplex=False)
    process = context.Process(target=_rank_process, args=(far_end, number, processes, order, meet, timeout_s))
    process.start()
    far_end.close()
    return Rank(number, process, near_end)


def _rank_process(
    connection: Connection, number: int, processes: int, order: Order, meet: str, timeout_s: float
) -> None:
    """What a started process does; it ends with its owner, who alone hears Ctrl-C and passes it on."""
    os.setpgrp()
    die_with_parent()
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks are on this machine
    try:
        threads, shown = max(1, (os.cpu_count() or 1) // processes), "--debug" not in sys.argv
        with stopping_interrupts(), one_line_warnings(shown), limited_threads(threads):
            _train_as(number, processes, order, meet=meet, timeout_s=timeout_s)
    except McnlabError as error:
        connection.send((type(error).__name__, str(error), error.exit_code))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, Terminated):
        sys.exit(1)


def _wait_for(ranks: Sequence[Rank]) -> None:
    """Wait until all ranks have ended well, or raise what went wrong first."""
    ended: list[Rank] = []
    deadline = float("inf")
    while len(ended) < len(ranks) and time.monotonic() < deadline:
        running = {rank.process.sentinel: rank for rank in ranks if rank not in ended}
        left = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        for sentinel in wait(list(running), left):
            rank = running[sentinel]  # type: ignore[index]
            rank.process.join()
            ended.append(rank)
            if rank.failed and deadline == float("inf"):
                deadline = time.monotonic() + NOTICING_S
    failed = [rank for rank in ended if rank.failed]
    if failed:
        raise _cause(failed)


def _cause(failed: Sequence[Rank]) -> McnlabError:
    """What ended a run: rank 0's own error, else that of the first rank which did not just lose another one."""
    errors = {rank.number: rank.error() for rank in failed}
    own = errors.get(0)
    if own is not None and not isinstance(own, RankError):
        return own
    first = next((rank for rank in failed if not isinstance(errors[rank.number], RankError)), failed[0])
    code = first.process.exitcode or 0
    how = errors[first.number] or (f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
    return RankError(
        f"rank {first.number} (process {first.process.pid}): {how}; "
        "the newest checkpoint stays, and the same command goes on from there"
    )


def _ask_to_stop(ranks: Sequence[Rank], number: signal.Signals) -> None:
    """Pass a signal on and wait for the checkpoint; a second signal ends the wait."""
    for rank in ranks:
        if rank.process.is_alive() and rank.process.pid is not None:
            os.kill(rank.process.pid, number)
    deadline = time.monotonic() + STOPPING_S
    for rank in ranks:
        rank.process.join(max(0.0, deadline - time.monotonic()))
