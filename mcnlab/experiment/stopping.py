"""How a run is asked to stop: by a signal to its process, or by a request in its folder."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mcnlab.distributed import rank
from mcnlab.processes import STOPPING, Terminated
from mcnlab.runs import STOP_FILE
from mcnlab.training.loop import Trainer

LOOK_EVERY_S = 1.0
"""Seconds between two looks for a request to stop."""
TOGETHER_S = 2.0
"""SLURM signals every process of a job, and a launcher passes it on to its own: within so many seconds that is one
request, not an impatient second one."""


@contextmanager
def stop_on_signal(trainer: Trainer) -> Iterator[None]:
    """SIGTERM, SIGUSR1, SIGINT and a request in the run folder end the run at its next step, after a checkpoint.

    A second signal ends it at once, unless it is a second SIGTERM or SIGUSR1 of the same moment.
    """
    requested = stop_request(trainer.folder) if rank() == 0 else lambda: None
    trainer.stop_signal = requested
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    impatient_s = float("inf")

    def ask(number: int, frame: object) -> None:
        nonlocal impatient_s
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if asked and time.monotonic() > impatient_s:
            raise Terminated
        if not asked:
            asked.append(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
            impatient_s = time.monotonic() + TOGETHER_S

    before = {number: signal.signal(number, ask) for number in (*STOPPING, signal.SIGINT)}
    trainer.stop_signal = lambda: asked[0] if asked else requested()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_request(folder: Path) -> Callable[[], int | None]:
    """What tells whether a run was asked to stop through its folder: SIGTERM's number, or None; it looks once a second.

    Args:
        folder: the run folder.

    Returns:
        To be called at every step.
    """
    next_look_s = 0.0

    def look() -> int | None:
        nonlocal next_look_s
        if time.monotonic() < next_look_s:
            return None
        next_look_s = time.monotonic() + LOOK_EVERY_S
        return int(signal.SIGTERM) if (folder / STOP_FILE).exists() else None

    return look
