"""What every benchmark hands out: one row per ratio, all of it measured in one run; and the way it is printed.

A benchmark is a script with a function that yields rows, and ends with `report(rows, __doc__)`. It prints them as text,
or with `--json FILE` appends them as lines of JSON, which `make bench` turns into docs/performance.md.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measured ratio."""

    part: str
    """What was measured, with its size: `retrieval ranks, 10,000 × 10,000 × 6144`."""
    against: str
    """What it is compared with: `sort of the whole matrix`, `bare matmul`."""
    ratio: float
    goal: float | None = None
    """What was asked for; None where nothing was."""
    at_most: bool = False
    """Whether a small ratio is the good one."""
    detail: str = ""
    """The two seconds (or bytes) that the ratio is made of, as measured."""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


def report(
    measure: Callable[[argparse.Namespace], Iterable[Row]],
    description: str | None,
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Run a benchmark from the command line.

    Args:
        measure: gets the parsed options and yields rows.
        description: the script's docstring, for `--help`.
        options: adds the script's own options.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="append the rows to this file, a line of JSON each")
    options(parser)
    chosen = parser.parse_args()
    command = "python benchmarks/" + " ".join([Path(sys.argv[0]).name, *_without_json(sys.argv[1:])])
    for row in measure(chosen):
        print(line(row), flush=True)
        if chosen.json:
            with chosen.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**asdict(row), "reached": row.reached, "command": command.strip()}) + "\n")


def line(row: Row) -> str:
    """A row in words."""
    goal = "" if row.goal is None else f" (goal: at {'most' if row.at_most else 'least'} {row.goal:g})"
    return f"{row.part} | {row.against}: {row.ratio:.3g}{goal} | {row.detail}"


def _without_json(arguments: list[str]) -> list[str]:
    """The arguments that belong to the measurement."""
    if "--json" not in arguments:
        return arguments
    place = arguments.index("--json")
    return arguments[:place] + arguments[place + 2 :]
