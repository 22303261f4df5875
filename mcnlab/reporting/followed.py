"""Following the log of a run while somebody else writes it: only what was appended is read."""

import json
import math
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.errors import DataError
from mcnlab.files import MOST_LINE_BYTES

MOST_DRAWN = 500
"""Points of a curve that are drawn; longer logs are averaged over blocks."""
RECENT = 50
"""Steps whose speed counts as the present one."""
COMPARED_BYTES = 256
"""Bytes before the place of reading that must still be what they were: else the log was cut back and is read anew."""


class FollowedLog:
    """The log of a run, as far as it was read.

    Args:
        path: `metrics.jsonl`; it may appear later.

    Example:
        >>> FollowedLog("nowhere/metrics.jsonl").read()
        0
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._before = b""
        self._forget()

    def read(self) -> int:
        """Take in what was appended since the last time; everything when the log was cut back.

        Half a line at the end is left for the next time.

        Returns:
            Lines that are new.

        Raises:
            DataError: a whole line is not a step in JSON; it is named.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self._offset - len(self._before)))
                if file.read(len(self._before)) != self._before:
                    self._forget()
                    file.seek(0)
                fresh = file.read()
        except FileNotFoundError:
            self._forget()
            return 0
        whole = fresh[: fresh.rfind(b"\n") + 1]
        lines = whole.splitlines()
        for line in lines:
            self._take(line)
        self._offset += len(whole)
        self._before = (self._before + whole)[-COMPARED_BYTES:]
        return len(lines)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.steps[-1] if self.steps else 0

    def clips_per_s(self) -> float | None:
        """Clips per second over the last steps; None before the first."""
        recent = [value for value in self._speeds if value > 0]
        return len(recent) / sum(1 / value for value in recent) if recent else None

    def seconds_left(self, total: int | None) -> float | None:
        """Seconds that the other steps take at the pace of the last ones; None where that is not known."""
        recent = self._elapsed
        if total is None or len(recent) < 2:
            return None
        return max(0, total - self.step) * (recent[-1] - recent[0]) / (len(recent) - 1)

    def stage_starts(self) -> list[int]:
        """Steps at which a stage after the first begins."""
        return self._stage_starts[1:]

    def curve(self, name: str, *, most: int = MOST_DRAWN) -> tuple[list[float], list[float]]:
        """A curve for drawing.

        Args:
            name: `loss`, `term.contrast`, `grad_norm`, …
            most: points.

        Returns:
            Steps and values, averaged over blocks of equally many steps; what is not finite stays out.
        """
        if name not in self.values:
            return [], []
        steps, values = (np.array(one) for one in self.values[name])  # a copy: the log goes on growing
        return thinned(steps, values, most=most)

    def _forget(self) -> None:
        """As before the first read."""
        self._offset, self._lines, self._before = 0, 0, b""
        self.steps = array("q")
        self.values: dict[str, tuple[array[int], array[float]]] = {}
        """Loss, terms, their parts, norm of the gradient: steps and values."""
        self.stage = ""
        self.broken: tuple[str, float, int] | None = None
        """The first loss or term that was not finite: name, value, step."""
        self._speeds: deque[float] = deque(maxlen=RECENT)
        self._elapsed: deque[float] = deque(maxlen=RECENT + 1)
        self._stage_starts: list[int] = []

    def _take(self, line: bytes) -> None:
        """One line."""
        self._lines += 1
        try:
            if len(line) > MOST_LINE_BYTES:
                raise ValueError(f"more than {MOST_LINE_BYTES} bytes")
            record = json.loads(line)
            step = int(record["step"])
        except (ValueError, KeyError, TypeError) as error:
            number = self._lines
            self._forget()
            raise DataError(f"{self.path}: line {number} is not a step in JSON ({error})") from error
        self.steps.append(step)
        self._speeds.append(float(record.get("clips_per_s") or 0))
        self._elapsed.append(float(record.get("elapsed_s") or 0))
        if (stage := str(record.get("stage", ""))) != self.stage:
            self._stage_starts.append(step)
            self.stage = stage
        for name, value in watched_values(record).items():
            if self.broken is None and name != "grad_norm" and not math.isfinite(value):
                self.broken = (name.removeprefix("term."), value, step)
            steps, values = self.values.setdefault(name, (array("q"), array("d")))
            steps.append(step)
            values.append(value)


def watched_values(record: Mapping[str, Any]) -> dict[str, float]:
    """What is drawn and watched of a line: loss, terms with their parts, norm of the gradient.

    Example:
        >>> watched_values({"step": 3, "loss": 1.0, "lr": 0.1, "term.contrast": 1})
        {'loss': 1.0, 'term.contrast': 1.0}
    """
    return {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, int | float) and (name in ("loss", "grad_norm") or name.startswith("term."))
    }


def thinned(
    steps: Sequence[int] | np.ndarray, values: Sequence[float] | np.ndarray, *, most: int
) -> tuple[list[float], list[float]]:
    """A curve averaged over blocks, so that few points remain.

    Args:
        steps: where.
        values: what; those that are not finite stay out.
        most: points, at least 1.

    Returns:
        Mean steps and mean values.

    Example:
        >>> thinned([1, 2, 3, 4], [1.0, 3.0, 5.0, 7.0], most=2)
        ([1.5, 3.5], [2.0, 6.0])
    """
    at, what = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    kept = np.isfinite(what)
    at, what = at[kept], what[kept]
    if len(at) > most:
        starts = np.linspace(0, len(at), most, endpoint=False).astype(int)
        counts = np.diff([*starts, len(at)])
        at, what = np.add.reduceat(at, starts) / counts, np.add.reduceat(what, starts) / counts
    return at.tolist(), what.tolist()
