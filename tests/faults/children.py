"""A piece of work in a forked process that has a limit of time and memory: whatever it does, this process goes on."""

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

HANGING_S = 5.0
"""Seconds after which reading counts as hanging."""
MEMORY_MB = 1024
"""More memory than this, beyond what the libraries take, counts as unbounded."""


def in_child(work: Callable[[], str], *, patience_s: float = HANGING_S, memory_mb: int | None = MEMORY_MB) -> str:
    """What a piece of work says.

    Args:
        work: what to do; it may raise.
        patience_s: processor and wall seconds that it has.
        memory_mb: memory that it may take; None for any.

    Returns:
        Its words.

    Raises:
        AssertionError: it raised, was killed by a signal, or hung.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            os.setpgid(0, 0)
            _quiet()
            if memory_mb is not None:
                _limit_memory(memory_mb)
            said = f"+{work()}"
        except BaseException as error:  # whatever it is, the parent tells it
            said = f"-{type(error).__name__}: {error}"[:2000]
        with os.fdopen(writing, "w", encoding="utf-8", errors="replace") as pipe:
            pipe.write(said[:60000])
        os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + patience_s
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reading)
            raise AssertionError(f"hung for {patience_s:.0f} s")
        time.sleep(0.001)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"ended by signal {-code}" if code < 0 else f"ended with {code}"
    assert said.startswith("+"), said[1:]
    return said[1:]


def _quiet() -> None:
    """Let libraries talk to nobody."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _limit_memory(megabytes: int) -> None:
    """So much more than this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
