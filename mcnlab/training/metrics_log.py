"""The log of a run: one JSON line per step, cut back to the checkpoint when a run goes on."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from mcnlab.files import write_text_atomically
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
        path: the log; nothing happens when absent.
        step: steps of the run that the checkpoint has done.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break  # a kill tore this line; nothing after it can be older
    write_text_atomically(path, "".join(f"{line}\n" for line in kept))
