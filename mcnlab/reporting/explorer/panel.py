"""The controls of one map: which run, which embedding, which color; and how far to trust it."""

import html
from collections.abc import Callable, Sequence

import ipywidgets

from mcnlab.errors import McnlabError
from mcnlab.reporting.explorer.colors import color_choices
from mcnlab.reporting.explorer.data import ExplorerData

WIDE = {"width": "auto"}
STYLE = {"description_width": "78px"}


class PanelControls(ipywidgets.VBox):
    """What is shown on one side.

    Args:
        data: the runs.
        side: `left` or `right`.
        run: shown first.
        embedding: shown first; the first of the run where it has no such.
        moved: called when another map is wanted.
        colored: called when another color is wanted.
        failed: called with a line on a run that cannot be read.
    """

    def __init__(
        self,
        data: ExplorerData,
        side: str,
        run: str,
        embedding: str,
        *,
        moved: Callable[[], None],
        colored: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self._data, self.side, self._moved, self._failed = data, side, moved, failed
        self._quiet = False
        self._words = ""
        self.run = ipywidgets.Dropdown(
            options=data.names, value=run, description=f"{side} run", layout=WIDE, style=STYLE
        )
        choices = data.choices(run)
        self.embedding = ipywidgets.Dropdown(
            options=choices,
            value=embedding if embedding in choices else choices[0],
            description="embedding",
            layout=WIDE,
            style=STYLE,
        )
        colors = color_choices(data, run)
        self.color = ipywidgets.Dropdown(options=colors, description="color by", layout=WIDE, style=STYLE)
        self._trust = ipywidgets.HTML()
        self.run.observe(lambda _: self._other_run(), "value")
        self.embedding.observe(lambda _: None if self._quiet else moved(), "value")
        self.color.observe(lambda _: None if self._quiet else colored(), "value")
        super().__init__(
            [self.run, self.embedding, self.color, self._trust], layout={"flex": "1 1 0", "min_width": "0"}
        )

    @property
    def trust(self) -> str:
        """The sentence on how far to trust the map."""
        return self._words

    @trust.setter
    def trust(self, words: str) -> None:
        self._words = words
        self._trust.value = f'<div style="line-height:1.35">{html.escape(words)}</div>'

    def _other_run(self) -> None:
        """Offer what the chosen run has, keep what was chosen where it has that too, and ask for the map."""
        self._quiet = True
        try:
            offer(self.embedding, self._data.choices(self.run.value))
            offer(self.color, color_choices(self._data, self.run.value))
        except McnlabError as error:
            self._failed(str(error))
        else:
            self._moved()
        finally:
            self._quiet = False


def offer(dropdown: ipywidgets.Dropdown, options: Sequence[str]) -> None:
    """Offer other options, and keep the choice where it is among them.

    Args:
        dropdown: changed.
        options: at least one.
    """
    chosen = dropdown.value
    if tuple(dropdown.options) != tuple(options):
        dropdown.options = options
    dropdown.value = chosen if chosen in options else options[0]
