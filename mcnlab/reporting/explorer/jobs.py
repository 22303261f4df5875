"""Slow work beside the kernel: it shows that it works, can be cancelled, and fails in one line."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import ipywidgets

from mcnlab.errors import CancelledError, McnlabError


@dataclass
class Task:
    """What a piece of slow work is told, and what it tells."""

    tell: Callable[[float | None, str], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def progress(self, part: float | None = None, words: str = "") -> None:
        """Say how far the work is.

        Args:
            part: from 0 to 1; None when that is not known.
            words: what is being done.

        Raises:
            CancelledError: nobody waits for it.
        """
        if self.stop.is_set():
            raise CancelledError("cancelled")
        self.tell(part, words)

    def count(self, done: int, total: int) -> None:
        """Say how much of how much is done; does not end the work."""
        self.tell(done / max(1, total), "")

    def cancelled(self) -> bool:
        """Whether nobody waits for the work."""
        return self.stop.is_set()


class Jobs(ipywidgets.HBox):
    """One line that runs work in a thread of its own: words, bar, button; empty while nothing is done.

    A new piece of work replaces the one before, whose result is thrown away.

    Args:
        patient: False for tests: work is done at once, in the calling thread.
    """

    def __init__(self, *, patient: bool = True) -> None:
        self._words = ipywidgets.Label(layout={"flex": "0 1 auto", "min_width": "0"})
        self._bar = ipywidgets.FloatProgress(max=1.0, layout={"width": "160px", "flex": "0 0 auto"})
        self._button = ipywidgets.Button(description="Cancel", tooltip="Stop this work", layout={"width": "80px"})
        self._button.on_click(lambda _: self.cancel())
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explorer") if patient else None
        self._task: Task | None = None
        super().__init__([self._words, self._bar, self._button], layout={"min_height": "34px", "flex_flow": "row wrap"})
        self.add_class("mcnlab-jobs")
        self._idle("")

    @property
    def words(self) -> str:
        """What the line says."""
        return str(self._words.value)

    @property
    def busy(self) -> bool:
        """Whether work is being done."""
        return self._task is not None

    def start(self, words: str, work: Callable[[Task], Any], done: Callable[[Any], None]) -> None:
        """Do work, then hand its result on.

        Args:
            words: what is being done.
            work: gets the task, to tell progress and to ask whether it should stop.
            done: gets the result; not called when the work failed or was cancelled.
        """
        self.cancel()
        task = Task(tell=lambda part, said: None)
        task.tell = lambda part, said: self._tell(task, part, said)
        self._task = task
        self._show(words, "info")
        self._tell(task, None, words)
        if self._pool is None:
            future: Future[Any] = Future()
            self._now(future, task, work, done)
        else:
            future = self._pool.submit(self._run, task, work, done)
        future.add_done_callback(lambda ended: self._ended(task, ended))

    def cancel(self) -> None:
        """Throw away what is being done."""
        if self._task is not None:
            self._task.stop.set()
            self._task = None
            self._idle("cancelled")

    def say(self, words: str) -> None:
        """Show a line, such as what is wrong with what was asked."""
        self._idle(words)

    @staticmethod
    def _run(task: Task, work: Callable[[Task], Any], done: Callable[[Any], None]) -> None:
        """In the thread: the work, and what is done with its result."""
        if task.cancelled():
            raise CancelledError("cancelled")
        result = work(task)
        if not task.cancelled():
            done(result)

    def _now(self, future: "Future[Any]", task: Task, work: Callable[[Task], Any], done: Callable[[Any], None]) -> None:
        """Without a thread."""
        try:
            future.set_result(self._run(task, work, done))
        except McnlabError as error:
            future.set_exception(error)

    def _ended(self, task: Task, future: "Future[Any]") -> None:
        """Clear the line, or say in it what went wrong."""
        if self._task is not task:
            return
        self._task = None
        error = future.exception()
        if error is None:
            self._idle("")
        else:
            said = " ".join(str(error).split()) or type(error).__name__
            self._idle(said if isinstance(error, McnlabError) else f"{type(error).__name__}: {said}")

    def _tell(self, task: Task, part: float | None, words: str) -> None:
        """Bring the line up to date."""
        if self._task is not task:
            return
        if words:
            self._words.value = words + " …"
        self._bar.value = 1.0 if part is None else min(1.0, max(0.0, part))
        self._bar.bar_style = "info" if part is None else ""

    def _show(self, words: str, style: str) -> None:
        """Show that work is being done."""
        self._words.value, self._bar.bar_style = words, style
        self._bar.layout.visibility = self._button.layout.visibility = "visible"

    def _idle(self, words: str) -> None:
        """Show that nothing is being done, with what is to be said."""
        self._words.value = words
        self._bar.layout.visibility = self._button.layout.visibility = "hidden"
