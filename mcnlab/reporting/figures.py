"""The figures of a study's index: recall, purity, what is kept, and one against the other."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from mcnlab.metrics.statistics import Interval
from mcnlab.modalities import MODALITIES
from mcnlab.reporting.bars import bars_figure
from mcnlab.reporting.beside_points import Named, Panel, name_points
from mcnlab.reporting.intervals import cut, whiskers
from mcnlab.reporting.recipe import FAMILIES
from mcnlab.reporting.style import FAMILY_COLORS, FAMILY_WORDS, QUIET, Figure, family_color, safe, shortened, styled
from mcnlab.reporting.summary import Column, StudySummary, short_direction

BAR_DIRECTIONS = ("text->video", "text->audio", "text->video+audio", "video->audio", "video->text", "audio->text")
TRADEOFF_PX = 440
FRAME_PX = 80
"""Height of a figure that its panel does not have."""


def recall_figure(summary: StudySummary, *, k: int = 1) -> Figure | None:
    """Recall at k of every experiment in the main directions, beside chance, ceiling and the untrained model.

    Args:
        summary: the study.
        k: places that count as found.

    Returns:
        Small multiples of horizontal bars, one panel per direction that some experiment trained; None without any.
    """
    has = [subject for subject in summary.subjects("retrieval") if summary.trained_by_some(subject)]
    directions = [subject for subject in BAR_DIRECTIONS if subject in has] or has[:6]
    columns = [
        Column(short_direction(one), "retrieval", (one,), f"recall_at_{k}", trained_only=True) for one in directions
    ]
    return bars_figure(
        summary,
        columns,
        name="recall",
        title="How often the right clip comes first" if k == 1 else f"How often the right clip is among the first {k}",
        caption=f"Recall at {k}: share of queries, larger is better. Bars: mean over seeds; whiskers: 95 % interval. "
        "Dashed line: chance. Dotted line: ceiling, what an oracle that knows the shared factors could reach. "
        "Diamond: the same model before training. No bar: a side of the direction was not trained.",
        unit=f"recall at {k} (share of queries)",
        suffix=f"_at_{k}",
    )


def purity_figure(summary: StudySummary) -> Figure | None:
    """Purity of the clusters per modality and joint, beside chance and the untrained model.

    Args:
        summary: the study.

    Returns:
        Small multiples of horizontal bars, one panel per embedding; None when clusters were not measured.
    """
    has = summary.subjects("clusters")
    columns = [Column(one, "clusters", (one,), "purity") for one in (*summary.modalities, "joint") if one in has]
    return bars_figure(
        summary,
        columns,
        name="purity",
        title="How clean the clusters are",
        caption="Purity of k-means clusters against the labels: share of clips in the majority class of their cluster, "
        "larger is better. Bars: mean over seeds; whiskers: 95 % interval. Dashed line: chance (shuffled labels). "
        "Diamond: the same model before training.",
        unit="purity (share of clips)",
        suffix="_purity",
    )


def tradeoff_figure(summary: StudySummary) -> Figure | None:
    """Finding against keeping: recall at 1 beside what is left of private factors.

    Args:
        summary: the study.

    Returns:
        A point per experiment; None when recall or private factors were not measured.
    """
    asked = [one for one in BAR_DIRECTIONS if one in summary.subjects("retrieval")]
    direction = next((one for one in asked if summary.trained_by_some(one)), None)
    private = tuple(f"{modality}:{modality[0]}" for modality in MODALITIES)
    score = Column("", "retention", private, "score", trained_only=True)
    kept = {name: cut(one, least=-1.0) for name, one in summary.intervals(score).items()}
    if direction is None or not kept:
        return None
    recall = Column("", "retrieval", (direction,), "recall_at_1", trained_only=True)
    found = {name: cut(one, least=0.0) for name, one in summary.intervals(recall).items()}
    names = [name for name in summary.experiments if name in kept and name in found]
    table = pd.DataFrame({"found": summary.means(recall), "kept": summary.means(score)}).reindex(names)
    table.index.name = "experiment"
    plot = go.Figure(
        go.Scatter(
            x=table["found"],
            y=table["kept"],
            mode="markers",
            text=[safe(name) for name in names],
            marker={"color": [family_color(summary.family(name)) for name in names], "size": 11},
            error_x=whiskers([found[name] for name in names], color=QUIET, thickness=1.0, width=2),
            error_y=whiskers([kept[name] for name in names], color=QUIET, thickness=1.0, width=2),
            hovertemplate="%{text}<br>found %{x:.3f}, kept %{y:.3f}<extra></extra>",
        )
    )
    panel = Panel(float(TRADEOFF_PX - FRAME_PX), _range_of(found, names), _range_of(kept, names))
    plot.update_xaxes(title_text=f"{short_direction(direction)} recall at 1 (share of queries)", range=panel.x)
    plot.update_yaxes(title_text="private factors kept (score)", range=panel.y)
    styled(plot, height=TRADEOFF_PX)
    named = [Named(safe(shortened(name, longest=30)), found[name].value, kept[name].value) for name in names]
    name_points(plot, named, panel, lines=_crosses(found, kept, names))
    return Figure(
        name="tradeoff",
        title="Finding the clip against keeping what is private",
        caption="Right: found more often. Up: more is left of the factors that one modality has for itself, mean over "
        "the trained modalities. Whiskers: 95 % interval over seeds. Experiments that did not train both sides of the "
        "direction are left out.",
        alt="; ".join(f"{name}: found {row.found:.2f}, kept {row.kept:.2f}" for name, row in table.iterrows()),
        plot=plot,
        numbers=table.round(3),
    )


def _crosses(
    across: Mapping[str, Interval], up: Mapping[str, Interval], names: Sequence[str]
) -> list[tuple[float, float, float, float]]:
    """The whiskers of points that have two of them."""
    lines = []
    for name in names:
        x, y = across[name].value, up[name].value
        (left, right), (low, high) = _ends(across[name]), _ends(up[name])
        lines += [(left, y, right, y), (x, low, x, high)]
    return lines


def _ends(interval: Interval) -> tuple[float, float]:
    """Where the whiskers of a mean end; at itself without any."""
    low = interval.value if interval.low is None else interval.low
    return low, interval.value if interval.high is None else interval.high


def _range_of(intervals: Mapping[str, Interval], names: Sequence[str]) -> tuple[float, float]:
    """An axis that starts at 0, or below what is negative, and has room for all whiskers."""
    ends = [end for name in names for end in _ends(intervals[name])]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.08 * ((high - low) or 1.0)
    return low - room * (low < 0), high + room


def private_figure(summary: StudySummary) -> Figure | None:
    """What is left of the factors that one modality has for itself, beside the untrained tower.

    Args:
        summary: the study.

    Returns:
        Small multiples of bars; None when no private factor was probed.
    """
    has = summary.subjects("retention")
    columns = [
        Column(f"{modality[0]} in {modality}", "retention", (f"{modality}:{modality[0]}",), "score")
        for modality in MODALITIES
        if f"{modality}:{modality[0]}" in has
    ]
    return bars_figure(
        summary,
        columns,
        name="private",
        title="What is left of private factors",
        caption="Score of a linear probe for factors that one modality alone has: 0 is chance, 1 perfect. Diamond: "
        "the same tower before training.",
        unit="score (R² or accuracy above chance)",
        suffix="",
        least=-1.0,
    )


def legend_of_families(summary: StudySummary) -> list[tuple[str, str]]:
    """Color and words of each kind of experiment that the study has."""
    used = [kind for kind in FAMILIES if any(summary.family(name) == kind for name in summary.experiments)]
    return [(FAMILY_COLORS[kind], FAMILY_WORDS[kind]) for kind in used]
