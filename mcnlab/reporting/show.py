"""Showing our figures and tables in a notebook: live in JupyterLab, and readable on the exported page."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML, display

from mcnlab.reporting.clip_player import player, recordings_with_heat
from mcnlab.reporting.examples import Retrieved
from mcnlab.reporting.export import PLOTLY
from mcnlab.reporting.graph_figure import graph_figure
from mcnlab.reporting.render import fragment, table_view
from mcnlab.reporting.style import Figure, safe
from mcnlab.runs import RunFolder

TITLE_PX = 44


FACTORS = (
    "factors in the store (of your own recordings, columns factor:NAME with two values or more), and retention in "
    "evaluation.tasks"
)
NEEDS = {
    "": ("this was not measured", "a task that evaluation.tasks in the settings names"),
    "additions": ("no experiment adds to contrast alone", f"experiments with more terms or stages, {FACTORS}"),
    "bound": (
        "what two views share was not measured for three pairs",
        "three experiments or more that compare one common view with one other each, and bound in "
        "evaluation.tasks, as in studies/mutual_information.yaml",
    ),
    "clusters": ("clusters were not measured", "labels in the store, and clusters in evaluation.tasks"),
    "growth": (
        "what a view keeps beside more and more others was not measured",
        f"experiments with two, three and more views, as in studies/number_of_views.yaml, {FACTORS}",
    ),
    "maps": ("there are no maps", "finished runs with 8 measured clips or more"),
    "private": (
        "what one modality has for itself was not measured",
        "factors that it alone has, as in the narrated world, and retention in evaluation.tasks",
    ),
    "retention": ("retention was not measured", FACTORS),
    "retrieval": ("how often the right clip is found was not measured", "retrieval in evaluation.tasks"),
    "tradeoff": (
        "finding and keeping were not both measured",
        "factors that one modality alone has, as in the narrated world, and retrieval and retention in "
        "evaluation.tasks",
    ),
}
"""Kind of figure → what was not there, and what it takes to have it."""


def show(figure: Figure | None, *, thumbnails: dict[str, Any] | None = None, needs: str = "") -> None:
    """Display a figure with its title, words and numbers.

    JupyterLab draws the plotly part; the exporter takes words and numbers from beside it.

    Args:
        figure: what to show; None says that there is nothing to draw.
        thumbnails: as `maps.sprite` gives them, when its points are clips; shown on hover on the exported page.
        needs: one of `NEEDS`: what is told of a figure that is None.
    """
    if figure is None:
        missing, wanted = NEEDS[needs]
        say(f"Nothing to draw here: {missing}. It needs {wanted}.")
        return
    display(bundle(figure, thumbnails=thumbnails), raw=True)


def bundle(figure: Figure, *, thumbnails: dict[str, Any] | None = None) -> dict[str, Any]:
    """A figure in the forms that a notebook keeps: plotly's JSON, its numbers as HTML, its title as text.

    Args:
        figure: what to show.
        thumbnails: see `show`.

    Returns:
        MIME type → content.
    """
    plot = go.Figure(figure.plot)
    top = plot.layout.margin.t if plot.layout.margin.t is not None else 28
    height = plot.layout.height or 400
    told = {"alt": figure.alt, "caption": figure.caption, "margin_t": top, "height": height}
    if thumbnails is not None:
        told |= {"clips": True, "thumbnails": thumbnails}
    plot.update_layout(title={"text": safe(figure.title), "x": 0.01, "font": {"size": 15}}, meta=told)
    plot.update_layout(margin_t=top + TITLE_PX, height=height + TITLE_PX)
    numbers = str(fragment("numbers", table_view(figure.numbers))) if len(figure.numbers) else ""
    offline = {"displaylogo": False, "responsive": True, "showSendToCloud": False, "plotlyServerURL": ""}
    return {PLOTLY: {**plot.to_plotly_json(), "config": offline}, "text/html": numbers, "text/plain": figure.title}


def show_table(table: pd.DataFrame) -> None:
    """Display a table; everything in it is escaped.

    Args:
        table: any table; one without columns is not shown.
    """
    if table.shape[1]:
        _display(fragment("table", table_view(table)))


def show_folded(table: pd.DataFrame, words: str) -> None:
    """Display a long table that opens on a click; everything in it is escaped.

    Args:
        table: any table.
        words: what to read while it is closed.
    """
    _display(fragment("numbers", table_view(table), words))


def show_graph(settings: Mapping[str, Any]) -> None:
    """Display the graph of an experiment; in JupyterLab it takes the color of the text.

    Args:
        settings: resolved, as a run folder holds them.
    """
    drawn = graph_figure(settings)
    if drawn is not None:
        _display(fragment("graph", drawn))


def show_retrieved(rows: Sequence[Retrieved]) -> None:
    """Display queries with the clips that came first.

    Args:
        rows: as `examples.retrieved_examples` gives them.
    """
    _display(fragment("retrieved", rows))


def show_players(run: RunFolder, *, most: int = 4) -> None:
    """Display players of the recordings that a run has kept with heat maps, or say that there are none.

    Args:
        run: an evaluated run.
        most: players at most.
    """
    kept = recordings_with_heat(run)[:most]
    if not kept:
        say("This run kept no heat maps: the task localization was not measured.")
        return
    _display("".join(player(one, title=f"{run.experiment}, {one['recording']}") for one in kept))


def say(*sentences: str) -> None:
    """Display sentences as text: the answer of a notebook, with its numbers.

    Args:
        sentences: plain text; escaped. Without one it says that nothing was measured.
    """
    sentences = sentences or ("There is no answer here: what would give one was not measured.",)
    _display(fragment("sentences", sentences))


def _display(markup: str) -> None:
    """Display HTML of ours; JupyterLab typesets no mathematics in it, so that captions with dollar signs stay words."""
    display(HTML(f'<div class="mathjax_ignore">{markup}</div>'))
