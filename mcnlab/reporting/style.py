"""How all figures look: colors that color-blind readers tell apart, a quiet template, text made safe for plotly."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from mcnlab.reporting.recipe import ALL_PAIRS, CONTROL, MORE_TERMS, ONE_PAIR, PREDICTION, STAGED

INK, QUIET, GRID = "#1d2733", "#5d6b7a", "#e3e7ec"
FAMILY_COLORS = {
    ONE_PAIR: "#0072B2",
    ALL_PAIRS: "#56B4E9",
    PREDICTION: "#009E73",
    MORE_TERMS: "#E69F00",
    STAGED: "#D55E00",
    CONTROL: "#8c959f",
}
"""Okabe and Ito 2008."""
FAMILY_WORDS = {
    ONE_PAIR: "one pair, contrast alone",
    ALL_PAIRS: "several pairs, contrast alone",
    PREDICTION: "prediction instead of contrast",
    MORE_TERMS: "with more terms",
    STAGED: "with more terms, in stages",
    CONTROL: "control: shuffled",
}
TERM_COLORS = {"loss": INK, "contrast": "#0072B2", "cluster": "#E69F00", "reconstruct": "#009E73", "predict": "#CC79A7"}
CLASS_COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#332288",
    "#8c959f",
    "#000000",
)
"""Okabe and Ito, with two more; repeated when there are more classes."""
SEQUENTIAL = ((0.0, "#f7f9fb"), (0.25, "#c6dbef"), (0.5, "#6baed6"), (0.75, "#2171b5"), (1.0, "#08306b"))
"""One hue from light to dark: 0 is nearly the page."""
DIVERGING = ((0.0, "#b35806"), (0.25, "#fdb863"), (0.5, "#f7f7f7"), (0.75, "#8073ac"), (1.0, "#2d004b"))
"""Brown below, violet above, white at zero."""
DARK_TWINS = {
    "white": "#12181f",
    INK: "#e4e9ef",
    QUIET: "#a3afbb",
    GRID: "#303a45",
    "#000000": "#ffffff",
    "#332288": "#a396ff",
    "#0072B2": "#2f8fd0",
    "#9ecae1": "#22506f",
    "#f7f9fb": "#18222d",
    "#c6dbef": "#143d63",
    "#6baed6": "#2171b5",
    "#2171b5": "#6baed6",
    "#08306b": "#deebf7",
    "#b35806": "#f5a742",
    "#fdb863": "#8f5312",
    "#f7f7f7": "#202a35",
    "#8073ac": "#5d4f94",
    "#2d004b": "#c9b8f0",
}
"""What a color becomes on a dark page: text, axes, and scales turned around, so that zero is again nearly the page."""
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": list(CLASS_COLORS),
        "xaxis": {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True},
        "yaxis": {
            "gridcolor": GRID,
            "zerolinecolor": GRID,
            "linecolor": GRID,
            "automargin": True,
            "ticklabelstandoff": 4,
        },
        "margin": {"l": 8, "r": 12, "t": 28, "b": 40},
        "hoverlabel": {"align": "left", "font": {"family": FONT, "size": 12}},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
    }
)


LONG_TITLE = 24
"""Characters from which the title of a panel is set smaller."""
ROW_LETTERS = 100
"""Characters that fit beside each other over a row of panels on a narrow page."""


@dataclass(frozen=True)
class Figure:
    """A picture with all that makes it readable: what to see, what it says without eyes, and its numbers."""

    name: str
    """Its anchor on a page."""
    title: str
    """What to see, in a sentence."""
    caption: str
    """What is drawn, with unit and direction."""
    alt: str
    """What a reader who cannot see it should know."""
    plot: go.Figure
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The drawn values, for the table beside it."""


def safe(text: object) -> str:
    """Text that plotly draws as it is: no markup, no TeX, no control characters.

    Example:
        >>> safe("a <b> & $x$")
        'a &lt;b&gt; &amp; &#36;x&#36;'
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in str(text))
    for letter, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("$", "&#36;")):
        plain = plain.replace(letter, written)
    return plain


def shortened(text: str, *, longest: int = 90) -> str:
    """Text of at most so many characters, with an ellipsis where it was cut."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def family_color(kind: str) -> str:
    """Color of a kind of experiments; a quiet one for a kind that is not known."""
    return FAMILY_COLORS.get(kind, QUIET)


def evenly(count: int, *, most: int) -> int:
    """Panels per row, at most so many, with which the rows are about equally full.

    Example:
        >>> [evenly(count, most=5) for count in (4, 6, 7, 10, 11)]
        [4, 3, 4, 5, 4]
    """
    return math.ceil(count / math.ceil(count / most)) if count else 1


def broken(name: str, letters: int, *, lines: int = 2) -> str:
    """Untrusted text in lines of at most so many letters, escaped; an ellipsis where it was cut.

    Example:
        >>> broken("margin loss, own names", 12)
        'margin loss,<br>own names'
    """
    return "<br>".join(safe(line) for line in textwrap.wrap(name, letters, max_lines=lines, placeholder="…"))


def panel_titles(names: Sequence[str], *, across: int) -> tuple[list[str], int]:
    """Titles of panels, in two lines where one would not fit over its panel.

    Args:
        names: untrusted text.
        across: panels per row.

    Returns:
        A title per name, escaped, and the px by which a second line makes them higher.
    """
    titles = [broken(name, ROW_LETTERS // across) for name in names]
    return titles, 15 * any("<br>" in one for one in titles)


def class_scale(count: int) -> list[tuple[float, str]]:
    """A color scale of flat steps, one for each of `count` classes numbered from 0.

    Args:
        count: number of classes, at least 1.

    Returns:
        Pairs of (place between 0 and 1, color), to be used from -0.5 to count - 0.5.
    """
    colors = [CLASS_COLORS[number % len(CLASS_COLORS)] for number in range(count)]
    steps = [((place + end) / count, color) for place, color in enumerate(colors) for end in (0, 1)]
    return steps


def styled(plot: go.Figure, *, height: int) -> go.Figure:
    """A figure in our style.

    Args:
        plot: the figure; it is changed.
        height: in px; the width is that of the page.

    Returns:
        The same figure.
    """
    lines = [line for title in plot.layout.annotations for line in (title.text or "").split("<br>")]
    longest = max(map(len, lines), default=0)
    for title in plot.layout.annotations:  # all alike, so that none looks less important
        title.font.size = 13 if longest < LONG_TITLE else 11
    return plot.update_layout(template=TEMPLATE, height=height)
