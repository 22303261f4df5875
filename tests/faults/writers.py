"""Faults of two writers: the second command on a run or a store is told who holds it, the first ends undisturbed."""

import signal
import time
from pathlib import Path

from tests.faults import stores
from tests.faults.commands import run, start
from tests.faults.registry import Trial, fault
from tests.faults.training import same_as_undisturbed, undisturbed, words


@fault(
    "two-writers",
    "a second command on a run that is being trained, or on a store that is being imported or extracted, in turn",
    "exit 6, and it is told who holds the run or store; the first one ends undisturbed",
    trials=20,
    few=2,
)
def two_writers(trial: Trial) -> str:
    """Train or import."""
    if trial.number % 2 == 0:
        folder = trial.folder / "run"
        _, seconds = undisturbed(trial.shared)
        said = _second(trial, words(trial.shared, folder), folder / ".owner", seconds)
        same_as_undisturbed(trial, folder)
        return f"run: {said}"
    kind = list(stores.KINDS)[trial.number // 2 % len(stores.KINDS)]
    folder = trial.folder / "store"
    known, seconds = stores.undisturbed(trial.shared, kind)
    said = _second(trial, stores.KINDS[kind](trial.shared, folder), trial.folder / ".store.owner", seconds)
    assert stores.content(folder) == stores.content(known), f"{kind}: differs from the undisturbed store"
    return f"store: {said}"


def _second(trial: Trial, asked: list[object], owner: Path, seconds: float) -> str:
    """Stop the first one in its tracks, call the second, let the first go on."""
    first = start(asked, trial.folder / "first.log")
    while not (owner.exists() and owner.read_text()):
        assert first.poll() is None, first.said()
        time.sleep(0.002)
    time.sleep(trial.random.uniform(0, seconds / 3))
    first.kill(signal.SIGSTOP)
    there = owner.exists()
    second = run(asked, trial.folder / "second.log", expected=None) if there else None
    first.kill(signal.SIGCONT)
    assert first.wait() == 0, first.said()
    if second is None:
        return "the first had ended"
    assert second.code == 6, f"ended with {second.code}: {second.said()}"
    assert f"held by process {first.pid} on" in second.said(), second.said()
    return "refused"
