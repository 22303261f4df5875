"""Our widgets: a view of plain values that a script of ours draws, and messages from the page.

Loaded only where a front end looks.
"""

import anywidget
import traitlets

from mcnlab.reporting.render import TEMPLATES


def _text(*names: str) -> str:
    """Some of our scripts or style sheets, one behind the other."""
    return "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


class DrawnWidget(anywidget.AnyWidget):
    """A widget whose state is one mapping of plain values."""

    view = traitlets.Dict().tag(sync=True)
    every_ms = traitlets.Int(1000).tag(sync=True)
    """Pause between two questions of the page for news."""


class RunView(DrawnWidget):
    """Curves of a run, and what is known of it."""

    _esm = _text("widgets.js", "watch.js")
    _css = _text("widgets.css")


class BoardView(DrawnWidget):
    """All runs of a study side by side."""

    _esm = _text("widgets.js", "board.js")
    _css = _text("widgets.css", "board.css")
