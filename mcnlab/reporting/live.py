"""Curves that move while a run trains: in the same kernel, or in any run folder."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from IPython.display import display

from mcnlab.errors import DataError, McnlabError
from mcnlab.reporting.followed import MOST_DRAWN, FollowedLog, thinned
from mcnlab.reporting.style import CLASS_COLORS, INK, TERM_COLORS
from mcnlab.reporting.summary import finite_or_none, short_direction
from mcnlab.runs import RunFolder, ask_to_stop, holder, newest_run

MOST_LINES = 8
"""Curves of one panel that LiveCurves draws."""
SILENT_S = 10.0
"""Seconds without a new step after which it is asked whether anybody still holds the run."""
LONG_SILENCE_S = 60.0
"""Seconds without a new step from which on it is said."""
WAITING_S = 0.5
"""Pause between two looks where nobody sees the widget."""


@runtime_checkable
class Step(Protocol):
    """What a training step tells."""

    @property
    def step(self) -> int:
        """Number of the step."""

    @property
    def loss(self) -> float:
        """The objective's value."""

    @property
    def terms(self) -> Mapping[str, float]:
        """Its terms by name, `term` or `term.part`."""


class LiveCurves:
    """A callback for `on_step` that draws loss and terms as they come.

    In JupyterLab curves appear with the first step and grow. Where nobody looks, under papermill or in a script, it
    only collects.

    Args:
        every_s: seconds between two updates of the curves.
        watched: whether somebody looks; found out from the kernel when None.

    Example:
        >>> curves = LiveCurves(watched=False)
        >>> curves.steps
        []
    """

    def __init__(self, *, every_s: float = 0.4, watched: bool | None = None) -> None:
        self.steps: list[int] = []
        self.values: dict[str, list[float]] = {"loss": []}
        self.every_s = every_s
        self.watched = somebody_looks() if watched is None else watched
        self._widget: Any = None
        self._drawn_at = 0.0

    def __call__(self, record: Step) -> None:
        """Take in one step.

        Args:
            record: the step.
        """
        whole = {name: value for name, value in record.terms.items() if "." not in name}
        self.steps.append(record.step)
        for name, value in {"loss": record.loss, **whole}.items():
            line = self.values.setdefault(name, [])
            line += [float("nan")] * (len(self.steps) - 1 - len(line))  # a term may begin in a later stage
            line.append(value)
        if self.watched and time.monotonic() - self._drawn_at > self.every_s:
            self._draw()

    def _draw(self) -> None:
        """Bring the curves up to date; they are made and displayed the first time."""
        curves = {
            name: thinned(self.steps[: len(line)], line, most=MOST_DRAWN)
            for name, line in list(self.values.items())[:MOST_LINES]
        }
        view = {"panels": [_panel("loss and terms", "nats", curves)], "marks": []}
        if self._widget is None:
            self._widget = _run_view(view)
            display(self._widget)
        else:
            self._widget.view = view
        self._drawn_at = time.monotonic()


class RunWatch:
    """A run that is followed from its folder, whoever trains it: curves, pace, time left, state, and how to stop it.

    Args:
        run_dir: the run folder, or a folder of them for the newest; the run may begin later.

    Example:
        >>> RunWatch("nowhere").refresh()["state"]
        'pending'
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.path = Path(run_dir).absolute()
        self.log = FollowedLog(self.path / "metrics.jsonl")
        self.problem = ""
        self._asked = False
        self._holder: str | None = None
        self._heard_at = float("-inf")
        self._widget: Any = None
        self._reading = threading.Lock()

    def refresh(self) -> dict[str, Any]:
        """Read what is new.

        Returns:
            All that is shown, as plain values.
        """
        with self._reading:
            try:
                self._look_for_run()
                fresh, problem = self.log.read(), self.problem
                run = RunFolder(self.path)
                view = self._told(run, fresh)
            except (DataError, OSError) as error:
                return {**self._told_of_nothing(), "problem": str(error)}
        return {**view, "problem": problem}

    @property
    def waiting(self) -> str:
        """What is said before a run began; empty afterwards."""
        begun = any((self.path / name).exists() for name in ("settings.yaml", "status.json", "metrics.jsonl"))
        return "" if begun else f"no run has begun in {self.path}; this view starts when one does"

    def _look_for_run(self) -> None:
        """Turn to the newest run inside of the folder where the folder itself holds none."""
        if not self.waiting or not self.path.is_dir():
            return
        try:
            found = newest_run(self.path).path.absolute()
        except DataError:
            return
        self.path, self.log = found, FollowedLog(found / "metrics.jsonl")

    @property
    def running(self) -> bool:
        """Whether somebody is at work in the folder, or is about to begin."""
        return self.refresh()["state"] in ("pending", "running")

    def show(self) -> None:
        """Display the widget, which asks for news while it is looked at."""
        self._widget = _run_view(self.refresh())
        self._widget.on_msg(lambda widget, content, buffers: self._hear(content))
        display(self._widget)

    def stop(self) -> None:
        """Ask the run to end after a checkpoint; a refusal is shown."""
        try:
            ask_to_stop(self.path)
            self._asked, self.problem = True, ""
        except McnlabError as error:
            self.problem = str(error)

    def wait(self, longest_s: float) -> bool:
        """Wait until the run has ended.

        Args:
            longest_s: seconds after which it is given up.

        Returns:
            Whether the run has ended.
        """
        until = time.monotonic() + longest_s
        while self.running:
            if time.monotonic() > until:
                return False
            time.sleep(WAITING_S)
        return True

    def _hear(self, content: Mapping[str, Any]) -> None:
        """A message of the page: a question for news, or the second click on stop."""
        if content.get("kind") == "stop":
            self.stop()
        view = self.refresh()
        self._widget.every_ms = 1000 if view["state"] in ("pending", "running") else 5000
        if view != self._widget.view:
            self._widget.view = view
        self._widget.send({"kind": "news"})

    def _told(self, run: RunFolder, fresh: int) -> dict[str, Any]:
        """What is shown of a run."""
        state, reason = run.status["state"], str(run.status.get("reason") or run.outcome.get("reason") or "")
        state = self._looked_after(state, fresh)
        self._asked = self._asked and state == "running"
        log, total = self.log, run.provenance.get("steps")
        left_s = log.seconds_left(total) if state == "running" else None
        measuring = state == "running" and log.step == total
        return {
            "title": self.path.name if self.waiting else f"{run.experiment}, seed {run.seed}",
            "path": str(self.path),
            "state": state,
            "state_words": "measuring" if measuring else state,
            "reason": self.waiting or reason.removeprefix(f"{self.path}: "),
            "holder": self._holder if state == "running" else None,
            "can_stop": state == "running" and not measuring,
            "stop_asked": self._asked,
            "silent_s": _silence(self.log.path) if state == "running" and not measuring else None,
            "step": log.step,
            "total": total,
            "stage": log.stage,
            "clips_per_s": log.clips_per_s(),
            "left_s": None if left_s is None else round(left_s, 1),
            "finite": _finite_words(log, run),
            "broken": log.broken is not None or run.outcome.get("finite") is False,
            "panels": _panels(log),
            "marks": log.stage_starts(),
            "recall": _recall(run),
        }

    def _told_of_nothing(self) -> dict[str, Any]:
        """What is shown while the folder cannot be read."""
        nothing = dict.fromkeys(("total", "clips_per_s", "left_s", "holder", "silent_s"))
        words = {"state": "pending", "state_words": "cannot be read", "reason": "", "stage": "", "finite": "not known"}
        flags = dict.fromkeys(("can_stop", "stop_asked", "broken"), False)
        shown = {"title": self.path.name, "path": str(self.path), "step": 0, "panels": [], "marks": [], "recall": []}
        return {**nothing, **words, **flags, **shown}

    def _looked_after(self, state: str, fresh: int) -> str:
        """The state; `killed` when it says running and nobody holds the folder, which is asked in silence only."""
        now = time.monotonic()
        if state != "running":
            self._heard_at = float("-inf")
            return state
        if fresh == 0 or self._holder is None:
            if now - self._heard_at > SILENT_S or self._holder is None:
                self._holder, self._heard_at = holder(self.path), now
        else:
            self._heard_at = now
        return state if self._holder is not None else "killed"


def watch(run_dir: str | Path, *, longest_s: float = 600.0) -> RunWatch:
    """Follow a run, also one of another process or, over a shared disk, of another machine.

    In JupyterLab a widget appears and the cell ends at once. Where nobody looks, under papermill, the cell waits for
    the end of the run.

    Args:
        run_dir: the run folder.
        longest_s: seconds to wait for the end where nobody looks.

    Returns:
        The run that is followed.
    """
    followed = RunWatch(run_dir)
    if somebody_looks():
        followed.show()
    else:
        followed.wait(longest_s)
    return followed


def somebody_looks() -> bool:
    """Whether the running cell was sent by a front end that can show moving curves.

    JupyterLab, Notebook 7 and VS Code name the cell in each request; papermill and nbconvert do not.

    Returns:
        False outside of a kernel.
    """
    # a notebook has loaded it already; nobody else needs it
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return False
    metadata = kernel.get_parent().get("metadata") or {}
    return bool({"cellId", "cell_id"} & set(metadata))


def _run_view(view: Mapping[str, Any]) -> Any:
    """A widget that shows a run."""
    # needs anywidget and a front end; a script has neither
    from mcnlab.reporting.widgets import RunView

    return RunView(view=dict(view))


def _panels(log: FollowedLog) -> list[dict[str, Any]]:
    """The curves of a log: loss and terms, with the parts of terms switched off at first; norm of the gradient."""
    terms = {name: log.curve(name) for name in log.values if name != "grad_norm"}
    shown = {name.removeprefix("term."): curve for name, curve in terms.items()}
    found = [_panel("loss and terms", "nats", shown)] if shown else []
    if "grad_norm" in log.values:
        found.append(_panel("norm of the gradient", "", {"norm": log.curve("grad_norm")}))
    return found


def _panel(title: str, unit: str, curves: Mapping[str, tuple[list[float], list[float]]]) -> dict[str, Any]:
    """Curves under one title, in the colors of the reports; the loss takes the color of the text."""
    lines = []
    for number, (name, (steps, values)) in enumerate(curves.items()):
        known = TERM_COLORS.get(name)
        color = "currentColor" if known == INK else known or CLASS_COLORS[(number + 3) % len(CLASS_COLORS)]
        rounded = [float(f"{value:.5g}") for value in values]
        lines.append(
            {"name": name, "color": color, "x": [round(x, 1) for x in steps], "y": rounded, "quiet": "." in name}
        )
    return {"title": title, "unit": unit, "lines": lines}


def _silence(log: Path) -> float | None:
    """Seconds since the log was last written, when they are many; not a sign of death, some steps are long."""
    if not log.exists():
        return None
    seconds = time.time() - log.stat().st_mtime
    return float(round(seconds)) if seconds > LONG_SILENCE_S else None


def _finite_words(log: FollowedLog, run: RunFolder) -> str:
    """Whether every term was finite, or which one was not and when."""
    if log.broken is not None:
        name, value, step = log.broken
        return f"{name} is {value} at step {step}"
    if run.outcome.get("finite") is False:
        return str(run.outcome.get("reason") or "a term was not finite")
    return "all terms finite" if log.steps else "no step yet"


def _recall(run: RunFolder) -> list[dict[str, Any]]:
    """Recall in every direction, once it was measured."""
    rows = run.results()
    rows = rows[rows["task"] == "retrieval"]
    wide = rows.pivot_table(index="subject", columns="metric", values="value", sort=False)
    names = {"first": "recall_at_1", "ten": "recall_at_10", "chance": "chance_at_1"}
    return [
        {
            "subject": short_direction(str(subject)),
            **{key: finite_or_none(row.get(name)) for key, name in names.items()},
        }
        for subject, row in wide.iterrows()
    ]
