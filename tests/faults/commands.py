"""The `mcnlab` command in a process that may be killed: forked from this one, which has loaded all libraries once."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE_S = 300.0
"""Seconds after which a command counts as hanging."""


@dataclass
class Command:
    """A command that runs."""

    pid: int
    log: Path
    code: int | None = None
    """Exit code once it has ended; minus the signal that killed it."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended; a command that hangs is killed and is an error."""
        deadline = time.monotonic() + patience_s
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"hung for {patience_s:.0f} s; it said: {self.said()}")
            time.sleep(0.005)
        assert self.code is not None
        return self.code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and to all that it has started, and wait for its end if that is deadly."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)
        if number == signal.SIGKILL:
            self.wait()

    def kill_alone(self) -> None:
        """Kill it, and nothing that it has started."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def said(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-600:]


def start(words: list[object], log: Path, *, held: bool = False, first: Callable[[], None] | None = None) -> Command:
    """Start `mcnlab` with these words.

    Args:
        words: after the name of the command.
        log: takes what it says.
        held: whether it waits, before it does anything, for a signal to continue.
        first: what its process does before the command, such as taking memory or rights from itself.

    Returns:
        The running command, leader of a process group of its own.
    """
    from mcnlab.cli import main  # here, since the parent must have set its thread limits before

    pid = os.fork()
    if pid:
        with suppress(OSError):
            os.setpgid(pid, pid)  # whoever of the two comes first
        return Command(pid, log)
    code = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if held:
            os.kill(os.getpid(), signal.SIGSTOP)
        if first is not None:
            first()
        code = main([str(word) for word in words])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def run(words: list[object], log: Path, *, expected: int | None = 0) -> Command:
    """Run `mcnlab` to its end.

    Args:
        words: after the name of the command.
        log: takes what it says.
        expected: exit code that it must have; None takes any.

    Returns:
        The command.
    """
    command = start(words, log)
    code = command.wait()
    if expected is not None:
        assert code == expected, f"ended with {code} instead of {expected}: {command.said()}"
    return command


def left_alive(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that have not ended in time; one that has, and whose parent has not yet asked how, counts as ended."""
    _, there = psutil.wait_procs(processes, timeout=max(0.0, timeout_s))
    left = []
    for one in there:
        with suppress(psutil.NoSuchProcess):
            if one.status() != psutil.STATUS_ZOMBIE:
                left.append(one)
    return left
