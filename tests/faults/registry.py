"""What a fault is, how it is tried, and what becomes of its trials."""

import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One row of the table in docs/reliability.md."""

    name: str
    words: str
    """What happens, for the table."""
    passes: str
    """What must hold after it, for the table."""
    trial: Callable[["Trial"], str | None]
    """Tries it once, and raises when a promise was broken; gives a word on what happened, which the table counts."""
    trials: int | Callable[[Path], int]
    """As many as the table asks for; counted in the shared folder where it asks for all."""
    few: int
    """As many as `make test` has time for; 0 leaves it out of a short call."""


@dataclass(frozen=True)
class Trial:
    """Where and how one trial happens."""

    number: int
    random: random.Random
    """Seeded by the fault's name, the seed of the call and the number."""
    folder: Path
    """Empty; removed when the trial has passed."""
    shared: Path
    """For what all trials of a fault have in common."""


@dataclass
class Outcome:
    """How the trials of a fault went."""

    fault: Fault
    seed: int
    trials: int = 0
    failures: list[str] = field(default_factory=list)
    """A line each: number of the trial and what was broken."""
    counts: dict[str, int] = field(default_factory=dict)
    """By what happened, how often."""
    seconds: float = 0.0


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, words: str, passes: str, *, trials: int | Callable[[Path], int], few: int
) -> Callable[..., Callable[[Trial], str | None]]:
    """Register a function as the trial of a fault."""

    def add(trial: Callable[[Trial], str | None]) -> Callable[[Trial], str | None]:
        FAULTS[name] = Fault(name, words, passes, trial, trials, few)
        return trial

    return add


def try_fault(one: Fault, *, trials: int | None, seed: int, say: Callable[[str], None], first: int = 0) -> Outcome:
    """Try a fault so many times.

    Args:
        one: the fault.
        trials: how often; as often as the table asks for when None.
        seed: of all random choices.
        say: takes a line on each failure.
        first: number of the first trial, so that a failed one can be tried again alone.

    Returns:
        What happened.
    """
    outcome, began = Outcome(one, seed), time.monotonic()
    root = Path(tempfile.mkdtemp(prefix=f"mcnlab-fault-{one.name}-"))
    (root / "shared").mkdir()
    wanted = one.trials if trials is None else trials
    wanted = wanted if isinstance(wanted, int) else wanted(root / "shared")
    for number in range(first, first + wanted):
        folder = root / f"trial-{number}"
        folder.mkdir()
        trial = Trial(number, random.Random(f"{one.name} {seed} {number}"), folder, root / "shared")
        outcome.trials += 1
        try:
            happened = one.trial(trial)
        except Exception as error:
            line = (
                f"{one.name}, seed {seed}, trial {number}: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
            )
            outcome.failures.append(line)
            say(f"{line}\n{traceback.format_exc(limit=-3)}kept in {folder}")
            continue
        if happened:
            outcome.counts[happened] = outcome.counts.get(happened, 0) + 1
        shutil.rmtree(folder, ignore_errors=True)
    if not outcome.failures:
        shutil.rmtree(root, ignore_errors=True)
    outcome.seconds = time.monotonic() - began
    return outcome
