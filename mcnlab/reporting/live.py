"""Loss curves that move while a run trains, where somebody is looking."""

import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import plotly.graph_objects as go

from mcnlab.reporting.style import INK, TERM_COLORS, safe, styled

MOST_LINES = 8


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

    In JupyterLab a figure appears with the first step and grows. Where nobody looks, under papermill or in a script, it
    only collects.

    Args:
        every_s: seconds between two updates of the figure.
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
        """Bring the figure up to date; it is made and displayed the first time."""
        if self._widget is None:
            # needs anywidget and a front end; a script has neither
            from IPython.display import display

            self._widget = go.FigureWidget(styled(go.Figure(), height=300))
            self._widget.update_layout(xaxis_title="step", yaxis_title="loss (nats)")
            display(self._widget)
        with self._widget.batch_update():
            for name, line in list(self.values.items())[:MOST_LINES]:
                self._line(name).update(x=self.steps[: len(line)], y=line)
        self._drawn_at = time.monotonic()

    def _line(self, name: str) -> Any:
        """The line of a term in the figure; made when absent."""
        for line in self._widget.data:
            if line.name == safe(name):
                return line
        color = TERM_COLORS.get(name, INK)
        self._widget.add_scatter(x=[], y=[], mode="lines", name=safe(name), line={"color": color, "width": 1.5})
        return self._widget.data[-1]


def somebody_looks() -> bool:
    """Whether the running cell was sent by a front end that can show a moving figure.

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
