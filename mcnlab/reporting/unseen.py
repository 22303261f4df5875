"""Figures, table and words of classes that were not trained on: are they found, and do classes lie as language says?"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.reporting.bars import bars_figure
from mcnlab.reporting.intervals import half_width_text
from mcnlab.reporting.style import DIVERGING, Figure, evenly, safe, shortened, styled
from mcnlab.reporting.summary import Column, StudySummary
from mcnlab.runs import RunFolder

TASK = "unseen"
MEASURES = {
    "recall_at_1": "R@1",
    "recall_at_2": "R@2",
    "recall_at_4": "R@4",
    "recall_at_8": "R@8",
    "map_at_r": "mAP@R",
    "nmi": "NMI",
    "agreement": "agreement, seen",
    "agreement_unseen": "agreement, unseen",
}
"""Metric to its words."""
MAIN_MEASURES = ("recall_at_1", "map_at_r", "nmi", "agreement")
"""Those that a report begins with."""
CELL_PX, HEAD_PX, FOOT_PX = 14, 40, 150
MOST_PANELS, MOST_ACROSS = 12, 4


def unseen_columns(summary: StudySummary, metric: str = "recall_at_1") -> list[Column]:
    """One measure of each embedding.

    Args:
        summary: the study.
        metric: one of `MEASURES`.

    Returns:
        A column for each subject; empty where the task was not measured.
    """
    subjects = summary.subjects(TASK)
    ending = {subject: f", {subject}" if len(subjects) > 1 else "" for subject in subjects}
    return [Column(MEASURES[metric] + ending[subject], TASK, (subject,), metric) for subject in subjects]


def unseen_figure(summary: StudySummary) -> Figure | None:
    """How often the nearest clip is of the same, unseen class.

    Args:
        summary: the study.

    Returns:
        Bars with chance and the untrained model; None where the task was not measured.
    """
    columns = unseen_columns(summary)
    return bars_figure(
        summary,
        columns,
        name="unseen-found",
        title="How often the nearest clip is of the same class, for classes that were never trained on",
        caption="R@1 among held-out clips of unseen classes (share of clips, larger is better). Bars: mean over seeds; "
        "whiskers: 95 % interval. Dashed line: chance. Diamond: the same tower before training.",
        unit="share of clips",
        suffix="_recall_at_1",
    )


def agreement_figure(summary: StudySummary) -> Figure | None:
    """How far the seen classes lie to each other as language says.

    Args:
        summary: the study.

    Returns:
        Bars with the untrained model; None where language knows too few classes, or the task was not measured.
    """
    columns = unseen_columns(summary, "agreement")
    if not any(summary.intervals(column) for column in columns):
        return None
    return bars_figure(
        summary,
        columns,
        name="unseen-agreement",
        title="How far the seen classes lie to each other as language says",
        caption="Spearman's correlation of the similarities of seen classes, on clips held out, with those of their "
        "names (1: the same order; 0: chance). Diamond: the same tower before training.",
        unit="rank correlation",
        suffix="_agreement",
        least=-1.0,
    )


def similarity_figure(summary: StudySummary) -> Figure | None:
    """How alike the seen classes are to language and to each experiment, class by class.

    Args:
        summary: the study; of each experiment the first run is shown.

    Returns:
        A table of colors for language and for every experiment, classes in one order; None where no run has them.
    """
    known = _first_tables(summary)
    if not known:
        return None
    subject = next(iter(next(iter(known.values()))))
    tables = {name: found[subject] for name, found in known.items() if subject in found}
    reference = next(iter(tables.values()))
    order = _order(np.array(reference["language"]))
    classes = [safe(shortened(reference["classes"][place], longest=24)) for place in order]
    panels = {"language": reference["language"], **{name: one["embedding"] for name, one in tables.items()}}
    drawn = {name: np.array(table)[np.ix_(order, order)] for name, table in panels.items()}
    return Figure(
        name="unseen-similarities",
        title="Which classes are alike: to language, and to each experiment",
        caption=f"Cosine similarity of every two of the {len(classes)} seen classes, less the mean of the panel and "
        "over its largest deviation (violet: more alike than most; brown: less). Left: what language says of their "
        "names. Classes stand in one order, those with similar names side by side: blocks along the diagonal as on the "
        "left mean that the embedding has them too. First seed of each experiment.",
        alt="; ".join(f"{name}: rank correlation with language {_agrees(drawn, name):.2f}" for name in tables),
        plot=_panels(drawn, classes),
        numbers=_most_alike(drawn, [reference["classes"][place] for place in order]),
    )


def unseen_table(summary: StudySummary) -> pd.DataFrame:
    """All measures of every experiment, with rows for chance and the untrained towers.

    Args:
        summary: the study.

    Returns:
        One row per experiment, then chance and untrained; empty where the task was not measured.
    """
    columns = [column for metric in MEASURES for column in unseen_columns(summary, metric)]
    columns = [column for column in columns if summary.intervals(column)]
    rows: dict[str, dict[str, str]] = {name: {} for name in summary.experiments}
    for column in columns:
        for name, interval in summary.intervals(column).items():
            rows[name]["seeds"] = str(interval.n)
            rows[name][column.title] = half_width_text(interval)
        for level in ("chance", "untrained"):
            value = summary.level(TASK, column.subjects[0], f"{level}_{column.metric}")
            if value is not None:
                rows.setdefault(level, {})[column.title] = f"{value:.3f}"
    titles = ["seeds", *(column.title for column in columns)] if columns else []
    table = pd.DataFrame.from_dict({name: row for name, row in rows.items() if row}, orient="index", columns=titles)
    return table.fillna("").rename_axis(index="experiment")


def unseen_in_words(summary: StudySummary) -> tuple[str, ...]:
    """The experiments by how well they find unseen classes, and how far seen ones lie as language says.

    Args:
        summary: the study.

    Returns:
        A few sentences; none where the task was not measured.
    """
    said: list[str] = []
    for column in unseen_columns(summary):
        found = summary.intervals(column)
        ordered = sorted(found, key=lambda name: -found[name].value)
        chance = summary.level(TASK, column.subjects[0], "chance_recall_at_1")
        listed = "; ".join(f"{name} {half_width_text(found[name])}" for name in ordered)
        said.append(f"{column.title} of unseen classes: {listed}; chance {chance:.3f}.")
    for column in unseen_columns(summary, "agreement"):
        found = summary.intervals(column)
        if found:
            listed = "; ".join(f"{name} {half_width_text(one)}" for name, one in found.items())
            said.append(f"Agreement of the seen classes with language: {listed}; chance 0.")
    return tuple(said)


def _first_tables(summary: StudySummary) -> dict[str, dict[str, Any]]:
    """By experiment: what `unseen.json` of its first finished run holds."""
    found: dict[str, dict[str, Any]] = {}
    for run in summary.finished():
        if run.experiment not in found and (known := RunFolder(run.folder).read_json("unseen.json")):
            found[run.experiment] = known
    return {name: found[name] for name in summary.experiments if name in found}


def _order(similarity: np.ndarray) -> list[int]:
    """An order in which similar classes stand side by side: leaves of the tree of average linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage  # late: a second of start-up
    from scipy.spatial.distance import squareform  # late: as above

    apart = np.clip(1.0 - (similarity + similarity.T) / 2, 0.0, None)
    np.fill_diagonal(apart, 0.0)
    return [int(place) for place in leaves_list(linkage(squareform(apart, checks=False), "average"))]


def _panels(drawn: dict[str, np.ndarray], classes: Sequence[str]) -> go.Figure:
    """One table of colors per panel."""
    shown = dict(list(drawn.items())[:MOST_PANELS])
    across = evenly(len(shown), most=MOST_ACROSS)
    down = math.ceil(len(shown) / across)
    tall = down * (CELL_PX * len(classes) + HEAD_PX) + FOOT_PX
    plot = make_subplots(
        rows=down,
        cols=across,
        subplot_titles=[safe(shortened(name, longest=30)) for name in shown],
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=HEAD_PX / (tall - FOOT_PX) if down > 1 else None,
    )
    for number, table in enumerate(shown.values()):
        heat = go.Heatmap(
            z=_centered(table), x=list(classes), y=list(classes), zmin=-1, zmax=1, colorscale=DIVERGING, showscale=False
        )
        heat.hovertemplate = "%{y} and %{x}: %{z:.2f}<extra></extra>"
        lowest = number + across >= len(shown)
        place = {"row": number // across + 1, "col": number % across + 1}
        plot.add_trace(heat, **place)
        plot.update_xaxes(tickfont_size=8, tickangle=-90, showticklabels=lowest, **place)
    plot.update_yaxes(tickfont_size=9, autorange="reversed")
    return styled(plot, height=tall)


def _centered(table: np.ndarray) -> np.ndarray:
    """Similarities of different classes less their mean, over the largest deviation; the diagonal is left empty."""
    above = table[np.triu_indices(len(table), 1)]
    found = (table - above.mean()) / max(float(np.abs(above - above.mean()).max()), 1e-9)
    np.fill_diagonal(found, np.nan)
    return found


def _agrees(drawn: dict[str, np.ndarray], name: str) -> float:
    """Rank correlation of a panel with that of language."""
    above = np.triu_indices(len(drawn[name]), 1)
    one, other = (pd.Series(drawn[key][above]).rank() for key in ("language", name))
    return float(one.corr(other))


def _most_alike(drawn: dict[str, np.ndarray], classes: Sequence[str]) -> pd.DataFrame:
    """For every class the one that each panel calls most alike."""
    nearest = {}
    for name, table in drawn.items():
        apart = table.copy()
        np.fill_diagonal(apart, -np.inf)
        nearest[name] = [classes[int(place)] for place in apart.argmax(axis=1)]
    return pd.DataFrame(nearest, index=pd.Index(list(classes), name="class"))
