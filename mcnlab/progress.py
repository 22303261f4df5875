"""What a person sees in the terminal while something takes longer than a second."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from mcnlab.training.step import StepRecord

console = Console(stderr=True)
MEGABYTE = 10**6
LOADING_S = 2.0
"""Seconds of loading after which a log has to say so."""


def bar() -> Progress:
    """A progress bar with counts, time spent and time left; in a terminal only, a log file has no use for it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


def say_in_log(line: str) -> None:
    """Tell what a bar shows in a terminal where there is none; a log that stands still for a minute looks broken.

    Args:
        line: plain text.
    """
    if not console.is_terminal:
        say(line)


def say(line: str) -> None:
    """Tell a person something, in a terminal and in a log.

    Args:
        line: plain text; what cannot be printed becomes a space.
    """
    console.print(_printable(line), markup=False, highlight=False, soft_wrap=True)


def duration_text(seconds: float) -> str:
    """A time in the units in which one would say it.

    Args:
        seconds: not negative.

    Returns:
        Two digits below ten seconds, else two units at most.

    Example:
        >>> [duration_text(seconds) for seconds in (0.42, 38.2, 754.0, 11560.0)]
        ['0.42 s', '38 s', '12 min 34 s', '3 h 13 min']
    """
    if seconds < 59.5:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3599.5:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02} s"
    return f"{round(seconds / 60) // 60} h {round(seconds / 60) % 60:02} min"


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Tell that libraries are loaded, at once or in many seconds: a line that moves; a log has one when they take long.

    Args:
        what: plain text.
    """
    timer = threading.Timer(LOADING_S, say_in_log, [what])
    timer.daemon = True
    timer.start()
    try:
        with console.status(escape(_printable(what))):
            yield
    finally:
        timer.cancel()


class Counted:
    """A bar for work that reports (done, total), with more bars for its parts."""

    def __init__(self, progress: Progress, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=None, note="")

    def __call__(self, done: int | float, total: int, note: str = "") -> None:
        """So much is done, perhaps a part of the next too, and what is being done now."""
        self._progress.update(self._task, completed=done, total=total, note=escape(_printable(note)))

    def reading(self, path: Path) -> Callable[[int, int], None]:
        """Another bar for a large file that is about to be read; a log, which has no bars, gets a line.

        Args:
            path: the file.

        Returns:
            Takes megabytes read and all.
        """
        size_mb = path.stat().st_size // MEGABYTE if path.is_file() else 0
        say_in_log(f"reading {path.name} ({size_mb} MB)")
        return Counted(self._progress, f"reading {_printable(path.name)} (MB)")


@contextmanager
def counted(description: str) -> Iterator[Counted]:
    """A bar for work that reports (done, total).

    Args:
        description: what is being done.

    Yields:
        The callback.
    """
    with bar() as progress:
        yield Counted(progress, description)


class TrainingProgress:
    """A bar over training steps with stage, loss terms and clips per second; use it as a context."""

    def __init__(self) -> None:
        self._bar = bar()
        self._task = self._bar.add_task("training", total=None, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def start(self, total_steps: int) -> None:
        """Say how many steps there are."""
        say_in_log(f"training: {total_steps} steps")
        self._bar.update(self._task, total=total_steps)

    def step(self, record: "StepRecord") -> None:
        """Show one step."""
        terms = "  ".join(f"{name} {value:.3f}" for name, value in record.terms.items() if "." not in name)
        note = f"{terms}  {record.clips_per_s:.0f} clips/s"
        self._bar.update(self._task, completed=record.step, description=f"stage {record.stage}", note=note)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print nested facts as a two-column table on standard output."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _flat(facts):
        table.add_row(name, value)
    Console().print(table)


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested facts."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name} · ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{before}{name}", _printable(text)


def _printable(text: str) -> str:
    """A text that leaves the terminal as it is."""
    return "".join(c if c.isprintable() else " " for c in text)
