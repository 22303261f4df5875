"""Faults of several processes: one is lost, or the launcher; nobody is left behind, and the run ends as undisturbed."""

import signal
import time
from pathlib import Path

import psutil

from tests.faults.commands import Command, left_alive, run, start
from tests.faults.registry import Trial, fault
from tests.faults.training import experiment, fingerprint

TIMEOUT_S = 8
GONE_S, STOPPED_GONE_S = 30.0, TIMEOUT_S + 35.0
PATIENCE_S = 240.0
KINDS = ("other rank killed", "other rank stopped", "launcher killed", "rank 0 killed", "rank 0 stopped")
PROCESSES = (2, 4)


def words(shared: Path, folder: Path, *, processes: int) -> list[object]:
    """The command of a trial."""
    given = ["--devices", processes, "--rank-timeout-s", TIMEOUT_S]
    return ["train", experiment(shared, epochs=12), "--run", folder, "--seed", 3, *given]


def undisturbed(shared: Path, *, processes: int) -> Path:
    """A run by so many processes that nothing happened to."""
    folder = shared / f"by-{processes}"
    run(words(shared, folder, processes=processes), shared / "log")  # at once where it is finished
    return folder


def ranks_at_step(command: Command, folder: Path, step: int) -> list[psutil.Process]:
    """The ranks in their order, once the run has come to a step; none when the command has ended before."""
    log, deadline = folder / "metrics.jsonl", time.monotonic() + PATIENCE_S
    while not log.exists() or log.read_bytes().count(b"\n") < step:
        if command.poll() is not None:
            return []
        assert time.monotonic() < deadline, command.said()
        time.sleep(0.005)
    below = psutil.Process(command.pid).children(recursive=True)
    return sorted(
        (one for one in below if "spawn_main" in " ".join(one.cmdline())), key=lambda one: (one.create_time(), one.pid)
    )


@fault(
    "ranks",
    "rank 0 or another one killed or stopped, or the launcher killed, at a random step of a run by 2 or 4 processes",
    "all processes gone in 30 s (stopped: timeout + 35 s), no second writer while one is stopped, the lost rank named "
    "(exit 8), and the same command ends bit-identical to the undisturbed run",
    trials=len(KINDS) * 5 * len(PROCESSES),
    few=1,
)
def lose_rank(trial: Trial) -> str:
    """Do it once, then let the same command end."""
    kind = KINDS[trial.number % len(KINDS)]
    processes = PROCESSES[trial.number // len(KINDS) % len(PROCESSES)]
    folder, log = trial.folder / "run", trial.folder / "log"
    known, asked = undisturbed(trial.shared, processes=processes), words(trial.shared, folder, processes=processes)
    command = start(asked, log)
    ranks = ranks_at_step(command, folder, trial.random.randint(1, 30))
    assert len(ranks) == processes, f"{len(ranks)} ranks: {command.said()}"
    began, stopped = time.monotonic(), kind.endswith("stopped")
    number = 0 if kind.startswith("rank 0") else trial.random.randrange(1, processes)
    lost = None if kind.startswith("launcher") else ranks[number]
    if lost is None:
        command.kill_alone()
    else:
        lost.send_signal(signal.SIGSTOP if stopped else signal.SIGKILL)
    if stopped:
        second = run(asked[:-4], trial.folder / "second.log", expected=None)
        assert second.code == 6, f"a second writer ended with {second.code}: {second.said()}"
        assert f"held by process {ranks[0].pid} on" in second.said(), second.said()
    limit_s = STOPPED_GONE_S if stopped else GONE_S
    alive = left_alive(ranks, limit_s - (time.monotonic() - began))
    assert not alive, f"{kind}: {len(alive)} ranks are left after {limit_s:.0f} s"
    if lost is not None:
        assert command.wait(limit_s) == 8, f"ended with {command.code}: {command.said()}"
        assert f"rank {number} (process {lost.pid})" in command.said(), command.said()
    run(asked, log)
    found, wanted = fingerprint(folder), fingerprint(known)
    different = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
    assert not different, f"{kind}: differs from the undisturbed run in {', '.join(different)}"
    return f"{kind}, of {processes}"
