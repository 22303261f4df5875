"""Faults of the clock: whatever it shows, the numbers are the same, since nothing is ordered or decided by it."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.registry import Trial, fault
from tests.faults.training import same_as_undisturbed, undisturbed, words

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)
CLOCKS = {"set back": ("+3d", "-3d"), "at 1970": ("@1970-01-01 00:00:10",), "100 times too fast": ("+0 x100",)}
"""What libfaketime is told, call after call: all but the last are killed."""
PATIENCE_S = 240


def begin(words: list[object], log: Path, *, library: str, clock: str) -> subprocess.Popen[bytes]:
    """A command in a process of its own, which sees another clock."""
    environment = {**os.environ, "LD_PRELOAD": library, "FAKETIME": clock, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "mcnlab", *(str(word) for word in words)]
    with log.open("wb") as said:
        return subprocess.Popen(command, stdout=said, stderr=said, env=environment)


@fault(
    "clock",
    "the clock is set back between two calls, shows 1970, or runs 100 times too fast (libfaketime)",
    "weights, metrics and results bit-identical",
    trials=len(CLOCKS),
    few=1,
)
def clock(trial: Trial) -> str:
    """Kill it under one clock where there are two, let it end under the last."""
    library = next((one for one in LIBRARIES if Path(one).exists()), None)
    if library is None:
        return "not tried: libfaketime is not there"
    name = list(CLOCKS)[trial.number % len(CLOCKS)]
    undisturbed(trial.shared)
    folder, log = trial.folder / "run", trial.folder / "log"
    *killed, last = CLOCKS[name]
    for one in killed:
        process = begin(words(trial.shared, folder), log, library=library, clock=one)
        deadline = time.monotonic() + PATIENCE_S
        while not list(folder.glob("checkpoints/step_*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert list(folder.glob("checkpoints/step_*")), log.read_text()[-600:]
    process = begin(words(trial.shared, folder), log, library=library, clock=last)
    assert process.wait(PATIENCE_S) == 0, log.read_text()[-600:]
    same_as_undisturbed(trial, folder)
    return name
