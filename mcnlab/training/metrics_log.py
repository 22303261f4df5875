"""The log of a run: one JSON line per step, cut back to the checkpoint when a run goes on."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from mcnlab.errors import DataError
from mcnlab.files import read_lines, write_text_atomically
from mcnlab.training.step import StepRecord


class MetricsLog:
    """Appends to `metrics.jsonl`.

    Args:
        path: the file; made when absent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: StepRecord) -> None:
        """Write one line; it reaches the operating system at once, the disk at the next `sync`."""
        line = asdict(record)
        line |= {f"term.{name}": value for name, value in line.pop("terms").items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Make all lines durable; called before a checkpoint that relies on them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_back(path: Path, *, step: int) -> None:
    """Drop the lines of steps that a checkpoint does not know, and a torn last line.

    Args:
        path: the log; it may be absent before the first step.
        step: steps of the run that the checkpoint has done.

    Raises:
        DataError: a line up to that step is not there; training goes on after it and could not write it again.
    """
    lines = _sound_lines(path) if path.exists() else []
    kept = [line for number, line in lines if number <= step]
    missing = next((n for n, (number, _) in enumerate([*lines, (None, "")], start=1) if number != n), 0)
    if missing <= step:
        raise DataError(
            f"{path}: the line of step {missing} is missing or damaged, but the checkpoint is of step {step}, and "
            f"training goes on after that; put the file back, or remove {path.parent} to begin anew"
        )
    if path.exists():
        write_text_atomically(path, "".join(kept))


def _sound_lines(path: Path) -> list[tuple[int, str]]:
    """Steps and their lines, up to the first that is not one: a kill tore it, and nothing after it can be older."""
    found = []
    try:
        for line in read_lines(path):
            found.append((int(json.loads(line)["step"]), line))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return [(step, line if line.endswith("\n") else f"{line}\n") for step, line in found]
