"""The slider over the checkpoints of a run: how its map came to be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import ipywidgets
import numpy as np

from mcnlab.errors import DataError
from mcnlab.reporting.explorer.data import ExplorerData, Panel
from mcnlab.reporting.explorer.jobs import Jobs, Task
from mcnlab.reporting.explorer.together import LayOut
from mcnlab.reporting.explorer_maps import maps_apart
from mcnlab.runs import RunFolder

OFF = "The course of training cannot be shown here: this explorer was opened without a model."

HOW = (
    "Moves the left map through the checkpoints of its run. A run keeps them when it was trained with "
    "training.keep_every=N (steps), for example training.keep_every=50; then load them here."
)


@runtime_checkable
class Checkpoints(Protocol):
    """Embeds the clips of a run by each checkpoint that it kept."""

    def __call__(
        self, run: RunFolder, *, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
    ) -> Mapping[int, Mapping[str, np.ndarray]]:
        """Step → embedding name → (clips, dim), in the order of the run's own clips."""


@dataclass(frozen=True)
class Course:
    """Places of the same points at each step."""

    panel: Panel
    steps: tuple[int, ...]
    places: tuple[np.ndarray, ...]
    trust: tuple[float, ...]


class CourseSlider(ipywidgets.VBox):
    """Moves the left map through the checkpoints of its run.

    Args:
        data: the runs.
        panel: what the left map shows now.
        checkpoints: embeds by each checkpoint; None: the control says why it is off.
        moved: called with the panel, its places, and what to say of them.
        back: called when the last state is wanted again.
        cache: folder where positions are kept.
        lay_out: lays out the maps of all steps.
        patient: False for tests.
    """

    def __init__(
        self,
        data: ExplorerData,
        *,
        panel: Callable[[], Panel],
        checkpoints: Checkpoints | None,
        moved: Callable[[Panel, np.ndarray, str], None],
        back: Callable[[], None],
        cache: Path | None,
        lay_out: LayOut = maps_apart,
        patient: bool = True,
    ) -> None:
        self._data, self._panel, self._checkpoints, self._cache = data, panel, checkpoints, cache
        self._lay_out = lay_out
        self._moved = moved
        self._course: Course | None = None
        self.load = ipywidgets.Button(
            description="Load the checkpoints", button_style="primary", disabled=checkpoints is None,
            layout={"width": "auto"}, tooltip="Embed the clips of the left run by each checkpoint that it kept",
        )  # fmt: skip
        self.back = ipywidgets.Button(description="Back to the trained map", layout={"width": "auto"}, disabled=True)
        self.slider = ipywidgets.SelectionSlider(
            options=[("none", -1)], description="step", disabled=True, continuous_update=True,
            layout={"width": "auto", "flex": "1 1 auto"}, style={"description_width": "40px"},
        )  # fmt: skip
        self.slider.add_class("mx-steps")
        self.jobs = Jobs(patient=patient)
        self.load.on_click(lambda _: self.load_steps())
        self.back.on_click(lambda _: back())
        self.slider.observe(lambda _: self._show(), "value")
        self._row = ipywidgets.HBox([self.slider], layout={"width": "100%"})
        self.hint = ipywidgets.HTML(f'<div style="line-height:1.35">{HOW}</div>')
        buttons = ipywidgets.HBox([self.load, self.back], layout={"flex_flow": "row wrap"})
        super().__init__([self.hint, buttons, self._row, self.jobs])
        self._offer_steps(False)
        if checkpoints is None:
            self.jobs.say(OFF)

    def load_steps(self) -> None:
        """Embed and lay out all checkpoints, in a thread of its own."""
        if self._checkpoints is None:
            self.jobs.say(OFF)
            return
        panel = self._panel()
        self.jobs.start(
            f"embedding by the checkpoints of {panel.run}", lambda task: self._work(task, panel), self._opened
        )

    def forget(self) -> None:
        """Forget the checkpoints: another map is shown."""
        self._course = None
        self.jobs.cancel()
        self._offer_steps(False)

    def _offer_steps(self, some: bool) -> None:
        """Show the slider where there are steps, else how to get some."""
        self.slider.disabled = self.back.disabled = not some
        self._row.layout.display = None if some else "none"
        self.hint.layout.display = "none" if some else None

    def _work(self, task: Task, panel: Panel) -> Course:
        """All positions, held together from step to step."""
        if self._checkpoints is None:
            raise DataError(OFF)
        run = self._data.runs[panel.run]
        found = self._checkpoints(run, progress=task.count, cancelled=task.cancelled)
        if not found:
            raise DataError(f"{run.path}: kept no checkpoint that can be shown")
        panels = {step: self._data.panel_of(panel.run, panel.embedding, own) for step, own in sorted(found.items())}
        task.progress(None, f"laying out {len(panels)} checkpoints")
        names = {f"step {step}": one for step, one in panels.items()}
        maps = self._lay_out(
            {name: one.vectors for name, one in names.items()},
            ids={name: one.ids(one) for name, one in names.items()},
            cache=self._cache,
            progress=task.count,
            cancelled=task.cancelled,
        )
        places = tuple(maps.positions[name] for name in names)
        return Course(panel, tuple(panels), places, tuple(maps.trust[name] for name in names))

    def _opened(self, course: Course) -> None:
        """Let the slider move the map; it begins at the first checkpoint."""
        self._course = course
        stages = stage_at(self._data.runs[course.panel.run], course.steps)
        words = [f"{step} · {stage}" if stage else str(step) for step, stage in zip(course.steps, stages, strict=True)]
        self.slider.options = [(word, number) for number, word in enumerate(words)]
        self._offer_steps(True)
        self.slider.value = 0
        self._show()

    def _show(self) -> None:
        """Move the map to the chosen step."""
        course, at = self._course, self.slider.value
        if course is not None and at is not None and 0 <= at < len(course.steps):
            words = f"After step {self.slider.label}: trustworthiness {course.trust[at]:.3f} (1 is best)."
            self._moved(course.panel, course.places[at], words)


def stage_at(run: RunFolder, steps: tuple[int, ...]) -> list[str]:
    """The stage that was trained at each step; empty where the run does not say."""
    metrics = run.metrics()
    if "stage" not in metrics or "step" not in metrics:
        return ["" for _ in steps]
    by_step = dict(zip(metrics["step"], metrics["stage"], strict=True))
    return [f"stage {by_step[step]}" if step in by_step else "" for step in steps]
