"""The parts that the browser draws: the pair of maps, a table of clips, one clip."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from mcnlab.reporting.explorer.colors import PointColors

HERE = Path(__file__).parent
SIDES = ("left", "right")


class MapsView(anywidget.AnyWidget):
    """Two maps side by side that share selection, pointer and, if wished, the view.

    The browser tells of clicks, lassos and pointed-at clips; `heard` is called with what it tells.
    """

    _esm = HERE / "maps.js"
    _css = HERE / "maps.css"
    places_left = traitlets.Bytes().tag(sync=True)
    places_right = traitlets.Bytes().tag(sync=True)
    clips_left = traitlets.Bytes().tag(sync=True)
    clips_right = traitlets.Bytes().tag(sync=True)
    codes_left = traitlets.Bytes().tag(sync=True)
    codes_right = traitlets.Bytes().tag(sync=True)
    legend_left = traitlets.Dict().tag(sync=True)
    legend_right = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Bytes().tag(sync=True)
    filtered = traitlets.Bool().tag(sync=True)
    count = traitlets.Int().tag(sync=True)
    marks = traitlets.List(traitlets.Int()).tag(sync=True)
    opened = traitlets.Int(-1).tag(sync=True)

    def __init__(self, heard: Callable[[dict[str, Any], list[Any]], None], **values: Any) -> None:
        super().__init__(**values)
        self.on_msg(lambda _, content, buffers: heard(content, buffers))

    def place(self, side: str, places: np.ndarray, clips: np.ndarray, colors: PointColors) -> None:
        """Show points on one side; where as many were before, they move to their new places."""
        with self.hold_sync():
            setattr(self, f"clips_{side}", np.ascontiguousarray(clips, dtype=np.int32).tobytes())
            setattr(self, f"places_{side}", np.ascontiguousarray(places, dtype=np.float32).tobytes())
            self.color(side, colors)

    def color(self, side: str, colors: PointColors) -> None:
        """Color the points of one side."""
        with self.hold_sync():
            setattr(self, f"codes_{side}", colors.codes.tobytes())
            setattr(self, f"legend_{side}", colors.legend)

    def places(self, side: str) -> np.ndarray:
        """What is shown on one side, (points, 2)."""
        return np.frombuffer(getattr(self, f"places_{side}"), dtype=np.float32).reshape(-1, 2)


class ClipTable(anywidget.AnyWidget):
    """A table of clips; a click on a row opens its clip."""

    _esm = HERE / "clips.js"
    _css = HERE / "clips.css"
    title = traitlets.Unicode().tag(sync=True)
    columns = traitlets.List(traitlets.Unicode()).tag(sync=True)
    rows = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, opened: Callable[[int], None], **values: Any) -> None:
        super().__init__(**values)
        self.on_msg(lambda _, content, buffers: opened(int(content["clip"])) if content.get("kind") == "open" else None)

    def fill(self, title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        """Show other rows: `clip` (row number), `picture` (data address), `cells`, and perhaps `right`."""
        with self.hold_sync():
            self.title, self.columns, self.rows = title, list(columns), list(rows)


class CardView(anywidget.AnyWidget):
    """One clip with its frames, sound and caption, and its neighbors in the other modalities."""

    _esm = HERE / "card.js"
    _css = HERE / "card.css"
    card = traitlets.Dict().tag(sync=True)
    hint = traitlets.Unicode("Click on a point to look at its clip, hear it, and see what is near.").tag(sync=True)

    def __init__(self, opened: Callable[[int], None], **values: Any) -> None:
        super().__init__(**values)
        self.on_msg(lambda _, content, buffers: opened(int(content["clip"])) if content.get("kind") == "open" else None)
