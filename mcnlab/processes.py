"""What processes owe each other: they end with their owner, and a signal to stop becomes an orderly end."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1
"""Number of the option of Linux' prctl that names the signal a process gets when its parent ends."""


def own_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


STOPPING = (signal.SIGTERM, signal.SIGUSR1) if hasattr(signal, "SIGUSR1") else (signal.SIGTERM,)
"""Signals that ask a process to end: that of the system, and the one that SLURM jobs choose for a warning."""


class Terminated(BaseException):
    """SIGTERM or SIGUSR1 arrived; as with Ctrl-C, no handler of ordinary errors swallows it."""


def kill_at_end_of_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_parent() -> None:
    """End this process with the thread that started it, also after kill -9, and now if that has ended; Linux only."""
    kill_at_end_of_parent()
    if sys.platform == "linux" and not _owner_lives():  # it ended before this process had come so far
        os._exit(1)


def _owner_lives() -> bool:
    """Whether the process that wanted this one is there, from those who write it down: multiprocessing and Jupyter."""
    owner = multiprocessing.parent_process()
    if owner is not None:
        return owner.is_alive()
    return os.getppid() == int(os.environ.get("JPY_PARENT_PID", os.getppid()))


@contextmanager
def stopping_interrupts() -> Iterator[None]:
    """SIGTERM or SIGUSR1 inside raises `Terminated`; does nothing in a thread, where Python delivers no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_it(number: int, frame: object) -> None:
        raise Terminated

    before = {number: signal.signal(number, raise_it) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
