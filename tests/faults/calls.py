"""Kill at every call that makes something last: strace ends the command at the k-th rename, fsync or unlink.

A random moment rarely falls between a rename and the fsync before it; this falls into every such gap, also into those
of libraries that are not Python.
"""

import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.faults.commands import Command, run, start
from tests.faults.registry import Trial, fault
from tests.faults.training import experiment, same_as_undisturbed, undisturbed, words

CALLS = "rename,renameat,renameat2,fsync,fdatasync,unlink,unlinkat,rmdir"
EPOCHS = 2
ATTACHED_S = 10.0


def count_calls(shared: Path) -> int:
    """How many such calls a thread of a short run makes at most, as strace counts; 0 where there is no strace."""
    known, trace = shared / "calls", shared / "trace"
    if not known.exists():
        experiment(shared, epochs=EPOCHS)
        undisturbed(shared)
        known.write_text("0")
        if shutil.which("strace"):
            command = traced(
                words(shared, shared / "counted"), shared / "log", "-o", str(trace), "-e", f"trace={CALLS}"
            )
            assert command.wait() == 0, command.said()
            call = re.compile(rf"^(?:(\d+) +)?(?:{CALLS.replace(',', '|')})\(", re.MULTILINE)
            known.write_text(str(max(Counter(call.findall(trace.read_text())).values())))
    return int(known.read_text())


def traced(words: list[object], log: Path, *options: str) -> Command:
    """A command under strace, which is attached before it does anything."""
    command = start(words, log, held=True)
    _wait_for_state(command, "T")
    subprocess.Popen(["strace", "-f", "-qq", *options, "-p", str(command.pid)], stderr=subprocess.DEVNULL)
    _wait_for_tracer(command)
    command.kill(signal.SIGCONT)
    return command


@fault(
    "kill-at-every-call",
    "kill -9 at every rename, fsync and unlink of a short run, one after another",
    "as kill-training",
    trials=count_calls,
    few=3,
)
def kill_at_call(trial: Trial) -> str:
    """End the command at its k-th call, then let it end."""
    total = count_calls(trial.shared)
    if not total:
        return "not tried: strace is not there"
    number = trial.number % total + 1
    folder = trial.folder / "run"
    inject = f"inject={CALLS}:signal=KILL:when={number}"
    command = traced(words(trial.shared, folder), trial.folder / "log", "-e", f"trace={CALLS}", "-e", inject)
    code = command.wait()
    assert code in (0, -signal.SIGKILL), f"ended with {code}: {command.said()}"
    run(words(trial.shared, folder), trial.folder / "log")
    same_as_undisturbed(trial, folder)
    return "killed" if code else "had fewer calls"


def _status(command: Command, field: str) -> str:
    """A field of what the kernel says of a process."""
    text = Path(f"/proc/{command.pid}/status").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:"))


def _wait_for_state(command: Command, state: str) -> None:
    """Until a process has stopped itself."""
    deadline = time.monotonic() + ATTACHED_S
    while _status(command, "State") != state:
        assert time.monotonic() < deadline, "it did not stop"
        time.sleep(0.002)


def _wait_for_tracer(command: Command) -> None:
    """Until strace is attached."""
    deadline = time.monotonic() + ATTACHED_S
    while _status(command, "TracerPid") == "0":
        assert time.monotonic() < deadline, "strace did not attach"
        time.sleep(0.002)
    time.sleep(0.05)
