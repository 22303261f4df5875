"""The command of the harness: tries faults, says what was broken, and keeps the figures for docs/reliability.md."""

import argparse
import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any library is loaded: forked processes share no threads

from tests.faults import (  # noqa: F401  they register their faults
    armed,
    around,
    audit,
    calls,
    clocks,
    code_like,
    disks,
    half_run,
    mutated,
    names,
    numbers,
    ranks,
    shown,
    shown_live,
    shown_notebooks,
    stores,
    studies,
    training,
    writers,
)
from tests.faults.registry import FAULTS, try_fault
from tests.faults.table import keep, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"


def main() -> int:
    """Try the faults that were named, all by default; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FAULT", help=f"some of {', '.join(FAULTS)}; all by default")
    parser.add_argument("--trials", type=int, help="of each; as many as the table asks for by default")
    parser.add_argument("--short", action="store_true", help="as many trials as a test suite has time for")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial; to try a failed one again")
    parser.add_argument("--plant", metavar="DEFECT", help="put a defect into mcnlab, which the faults should find")
    parser.add_argument("--keep", action="store_true", help=f"write the figures into {PAGE.relative_to(ROOT)}")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in FAULTS]:
        parser.error(f"no fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
    load()
    if asked.plant:
        from tests.faults.plants import plant

        plant(asked.plant)
    broken = 0
    for name in asked.names or [name for name, one in FAULTS.items() if one.few or not asked.short]:
        one = FAULTS[name]
        trials = asked.trials or (one.few or 1 if asked.short else None)
        outcome = try_fault(
            one, trials=trials, seed=asked.seed, first=asked.first, say=lambda line: print(line, file=sys.stderr)
        )
        broken += len(outcome.failures)
        print(table([outcome]).splitlines()[-1], flush=True)
        if asked.keep:
            keep(PAGE, outcome)
    return 1 if broken else 0


def load() -> None:
    """Load what the commands need, so that a fork has it; nothing is computed here."""
    for name in ("torch._dynamo", "mcnlab.experiment.ranks", "mcnlab.experiment.verify", "mcnlab.reporting.terminal"):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
