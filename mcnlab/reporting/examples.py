"""Retrieval clip by clip: which queries find their clip, and what comes first when they do not."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mcnlab.reporting.addresses import picture_address
from mcnlab.reporting.asked import asked, compared_embeddings
from mcnlab.reporting.graph_figure import graph_of_settings
from mcnlab.reporting.style import QUIET, Figure, family_color, safe, shortened, styled
from mcnlab.reporting.summary import StudySummary, short_direction
from mcnlab.runs import RunFolder

LINES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


@dataclass(frozen=True)
class Found:
    """One clip that was retrieved."""

    caption: str
    picture: str
    """Data address of its thumbnail; empty without one."""
    right: bool


@dataclass(frozen=True)
class Retrieved:
    """One query and what came first."""

    query: str
    rank: int
    found: tuple[Found, ...]


def retrieved_examples(run: RunFolder, direction: str, *, queries: int = 6, shown: int = 5) -> list[Retrieved]:
    """A few queries of one run with the clips that came first, from easy to hard.

    Args:
        run: an evaluated run.
        direction: from one modality to another, `text->video`.
        queries: how many queries, evenly spread over the ranks.
        shown: how many clips of each.

    Returns:
        Queries by rank of their right clip.

    Raises:
        DataError: the run has no space for the direction.
    """
    clips = run.clips()
    told = asked(*compared_embeddings(run.embeddings(), direction, space=meeting_space(run, direction)))
    by_rank = np.argsort(told.ranks, kind="stable")
    chosen = by_rank[np.linspace(0, len(by_rank) - 1, min(queries, len(by_rank))).round().astype(int)]
    return [
        Retrieved(
            _words(clips, told.places[row]),
            int(told.ranks[row]),
            tuple(_found(clips, place, told.places[row]) for place in told.found(row, shown=shown)),
        )
        for row in chosen
    ]


def meeting_space(run: RunFolder, direction: str) -> str | None:
    """Where a run's graph lets two single modalities meet.

    Args:
        run: any.
        direction: from one modality to another.

    Returns:
        Name of the space; None where the graph does not say.
    """
    graph, (query, _, gallery) = graph_of_settings(run.settings), direction.partition("->")
    known = () if graph is None else {modality for space in graph.spaces.values() for modality in space.heads}
    return graph.common_space(query, gallery) if graph is not None and {query, gallery} <= set(known) else None


def hardest_queries(summary: StudySummary, direction: str, *, shown: int = 8) -> pd.DataFrame:
    """Queries by how often their clip comes first, over all experiments and seeds but the control.

    Args:
        summary: the study.
        direction: `text->video`.
        shown: rows of each end.

    Returns:
        The easiest and the hardest queries with their caption.
    """
    own = {key: table for key, table in summary.ranks.items() if direction in table and not _control(summary, key[0])}
    if not own:
        return pd.DataFrame()
    ranks = pd.DataFrame({key: table[direction] for key, table in own.items()}).dropna()
    clips = RunFolder(summary.finished()[0].folder).clips().set_index("id")
    table = pd.DataFrame({"first in (share of runs)": (ranks <= 1).mean(axis=1), "median rank": ranks.median(axis=1)})
    table.insert(0, "caption", [shortened(str(clips["caption"].get(clip, ""))) for clip in table.index])
    table = table.sort_values(["first in (share of runs)", "median rank"], ascending=[False, True], kind="stable")
    return pd.concat([table.head(shown), table.tail(shown)]).round(3).rename_axis(index="clip")


def rank_figure(summary: StudySummary, direction: str) -> Figure | None:
    """Share of queries found within the first k, for every k and experiment.

    Args:
        summary: the study.
        direction: `text->video`.

    Returns:
        Rising lines, from recall at 1 on the left to everything on the right; None without ranks.
    """
    plot, halves = go.Figure(), {}
    count = 1
    for number, name in enumerate(summary.experiments):
        tables = [
            table[direction].dropna() for key, table in summary.ranks.items() if key[0] == name and direction in table
        ]
        if not tables:
            continue
        ranks = np.sort(np.concatenate([table.to_numpy() for table in tables]))
        count = max(count, int(max(len(table) for table in tables)))
        k = np.unique(np.geomspace(1, count, 60).round().astype(int))
        share = np.searchsorted(ranks, k, side="right") / len(ranks)
        line = {
            "color": family_color(summary.family(name)),
            "dash": LINES[number % len(LINES)],
            "width": 1.8,
        }
        hover = f"{safe(name)}: %{{y:.2f}} among the first %{{x}}<extra></extra>"
        plot.add_trace(go.Scatter(x=k, y=share, mode="lines", name=safe(name), line=line, hovertemplate=hover))
        halves[name] = float(np.median(ranks))
    if not halves:
        return None
    chance = np.unique(np.geomspace(1, count, 60).round().astype(int))
    dotted = {"color": QUIET, "dash": "dot", "width": 1}
    plot.add_trace(go.Scatter(x=chance, y=chance / count, mode="lines", name="chance", line=dotted, hoverinfo="skip"))
    plot.update_xaxes(type="log", title_text="k (clips looked at)").update_yaxes(
        title_text="found within k (share of queries)"
    )
    plot.update_layout(legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"})
    return Figure(
        name="ranks",
        title=f"How far down one has to look, {short_direction(direction)}",
        caption="Share of queries whose right clip is among the first k; higher and further left is better. All seeds.",
        alt="; ".join(f"{name}: median rank {rank:.0f}" for name, rank in halves.items()),
        plot=styled(plot, height=400),
        numbers=pd.DataFrame({"median rank": halves}).rename_axis(index="experiment"),
    )


def _control(summary: StudySummary, experiment: str) -> bool:
    """Whether an experiment is the shuffled control."""
    return experiment in summary.recipes and summary.recipes[experiment].shuffled


def _found(clips: pd.DataFrame, place: int, right: int) -> Found:
    """A retrieved clip."""
    content = clips["thumbnail"].iloc[place] if "thumbnail" in clips else None
    return Found(_words(clips, place), picture_address(content), bool(place == right))


def _words(clips: pd.DataFrame, place: int) -> str:
    """Caption of a clip, else its id."""
    caption = clips["caption"].iloc[place]
    return shortened(str(caption or clips["id"].iloc[place]), longest=60)
