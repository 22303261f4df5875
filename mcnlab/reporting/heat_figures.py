"""What a study says of where sounds come from: overlap, pointing, collapse, and pictures with heat maps."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcnlab.reporting.clip_player import recordings_with_heat, square
from mcnlab.reporting.intervals import whiskers
from mcnlab.reporting.place_pictures import SILENT, SOUNDING, heat_picture, outlined_boxes
from mcnlab.reporting.places import measured, number
from mcnlab.reporting.style import CLASS_COLORS, ROW_LETTERS, Figure, broken, safe, styled
from mcnlab.reporting.summary import Column, StudySummary
from mcnlab.runs import RunFolder

TASK, HEAT = "localization", "heat map"
COMPARED = {
    "": "trained",
    "_untrained": "before training",
    "_swapped": "sound of another clip",
    "_center": "middle of the picture",
    "_whole": "whole picture",
}
"""What the heat maps are compared with, by the ending of a metric."""
MEASURES = {
    "pointing": "points to what sounds (share of clips)",
    "ciou": "cIoU at least 0.5 (share of clips)",
    "auc": "area under the curve of cIoU",
}
LARGEST = 5
"""Pictures of each experiment that are shown."""
MOST_EXPERIMENTS = 4
FEWEST_LETTERS = 8
"""Of a line of a name below its bars."""


def localization_figure(summary: StudySummary) -> Figure | None:
    """Pointing and overlap of heat maps beside all that they must beat.

    Args:
        summary: the study.

    Returns:
        None where nothing was measured against boxes.
    """
    names = _scored(summary)
    if not names:
        return None
    plot = make_subplots(rows=1, cols=len(MEASURES), subplot_titles=[safe(one) for one in MEASURES.values()])
    cells: dict[str, dict[str, str]] = {name: {} for name in names}
    for column, metric in enumerate(MEASURES, start=1):
        for place, (ending, words) in enumerate(COMPARED.items()):
            found = summary.intervals(Column("", TASK, (HEAT,), f"{metric}{ending}"))
            there = [name for name in names if name in found]
            for name in there:
                cells[name][f"{metric}, {words}"] = number(summary, TASK, HEAT, f"{metric}{ending}", name)
            bars = go.Bar(
                x=[names.index(name) for name in there],
                hovertext=[safe(name) for name in there],
                y=[found[name].value for name in there],
                name=words,
                legendgroup=words,
                showlegend=column == 1,
                marker={"color": CLASS_COLORS[place % len(CLASS_COLORS)]},
                error_y=whiskers([found[name] for name in there], most=1.0),
                hovertemplate="%{hovertext}: %{y:.3f}<extra>" + words + "</extra>",
            )
            plot.add_trace(bars, row=1, col=column)
    plot.update_yaxes(range=[0, 1.02])
    plot.update_layout(barmode="group")
    letters = max(FEWEST_LETTERS, ROW_LETTERS // (len(names) * len(MEASURES)))
    below = [broken(name, letters, lines=3) for name in names]
    plot.update_xaxes(tickangle=0, tickvals=list(range(len(names))), ticktext=below)
    return Figure(
        name="localized",
        title="Where the sound comes from",
        caption="Held-out clips; larger is better. Pointing: the largest cell of the heat map lies in a box of what "
        "sounds; of the whole picture, what a random place would reach. cIoU: overlap of the map, from half its range "
        "on, with the boxes. Bars: mean over seeds; whiskers: 95 % interval over seeds, cut at 1.",
        alt=" ".join(localization_in_words(summary)),
        plot=styled(plot, height=420).update_layout(legend={"y": 1.2}, margin={"t": 84}),
        numbers=pd.DataFrame(cells).T.rename_axis(index="experiment"),
    )


def localization_pictures(summary: StudySummary) -> Figure | None:
    """The same held-out frames with the heat map of every experiment.

    Args:
        summary: the study.

    Returns:
        Of the first finished run of each experiment; None without any.
    """
    found = _first_recordings(summary)
    if not found:
        return None
    plot = make_subplots(
        rows=len(found),
        cols=LARGEST,
        row_titles=[safe(name) for name in found],
        horizontal_spacing=0.01,
        vertical_spacing=0.02,
    )
    facts: dict[str, dict[str, str]] = {}
    for line, (name, shown) in enumerate(found.items(), start=1):
        for place, (recording, frame) in enumerate(shown, start=1):
            heat, boxes = square(recording["heat"][frame]), recording["boxes"][frame]
            heat_picture(plot, recording["pictures"][frame], heat - heat.min(), (line, place))
            corners = [[one[side] for side in ("left", "top", "right", "bottom")] for one in boxes]
            outlined_boxes(plot, corners, [SOUNDING if one["sounding"] else SILENT for one in boxes], (line, place))
            sounding = ", ".join(str(one["label"]) for one in boxes if one["sounding"]) or "not known"
            facts.setdefault(name, {})[f"{recording['recording']} at {recording['times_s'][frame]:.1f} s"] = sounding
    return Figure(
        name="heat",
        title="Heat maps",
        caption="Held-out frames. Red: cosine of every place with the sound, from the least of the picture to the "
        "largest. Blue boxes: what sounds; white: silent things (the truth, where it is known).",
        alt="; ".join(f"{name}: {len(shown)} frames" for name, shown in found.items()),
        plot=styled(plot, height=40 + 175 * len(found)),
        numbers=pd.DataFrame(facts).rename_axis(index="what sounds"),
    )


def localization_in_words(summary: StudySummary) -> list[str]:
    """A sentence on each experiment.

    Args:
        summary: the study.
    """
    said = []
    for name in measured(summary, TASK):
        parts = [
            f"{words} {value}"
            for ending, words in COMPARED.items()
            if (value := number(summary, TASK, HEAT, f"pointing{ending}", name))
        ]
        watched = number(summary, TASK, "projections", "spread", name)
        first, last = (number(summary, TASK, "prediction", f"error_{end}", name) for end in ("first", "last"))
        told = [f"the peak lies in what sounds: {', '.join(parts)}"] if parts else []
        told += [f"spread of the projections {watched} (0 collapsed, 1 anywhere)"] if watched else []
        told += [f"prediction error {first} in the first pass, {last} in the last"] if first else []
        said.append(f"{name}: {'; '.join(told)}.")
    return said


def localization_answer(summary: StudySummary) -> tuple[str, str, tuple[str, ...]] | None:
    """Heading, lead and points on where sounds come from.

    Args:
        summary: the study.

    Returns:
        None where the study did not ask.
    """
    points = localization_in_words(summary)
    if not points:
        return None
    names = measured(summary, TASK)
    taught = [name for name in names if _learned_labels(summary, name)]
    found = {name: number(summary, TASK, HEAT, "pointing", name) for name in names}
    told = ", ".join(f"{name} {value}" for name, value in found.items() if value)
    lead = (
        (f"Share of clips in which the peak of attention lies in what sounds: {told}. " if told else "")
        + "Attention was learned without boxes, and no clip was compared with another. "
        + (f"The towers of {', '.join(taught)} had first learned from labels what kinds there are. " if taught else "")
        + "Pointing is held against the same model before training, the sound of another clip, the middle of the "
        "picture, and a random place."
    )
    return "Where the sound comes from", lead, tuple(points)


def _learned_labels(summary: StudySummary, experiment: str) -> bool:
    """Whether an experiment has a term that reads labels."""
    recipe = summary.recipes.get(experiment)
    return recipe is not None and "classify" in recipe.terms


def _scored(summary: StudySummary) -> list[str]:
    """Experiments whose heat maps were held against boxes."""
    found = summary.intervals(Column("", TASK, (HEAT,), "pointing"))
    return [name for name in measured(summary, TASK) if name in found]


def _first_recordings(summary: StudySummary) -> dict[str, list[tuple[dict, int]]]:
    """By experiment: some frames of its first finished run, one of each recording and then further ones."""
    found: dict[str, list[tuple[dict, int]]] = {}
    for row in summary.finished():
        kept = recordings_with_heat(RunFolder(Path(row.folder)))
        if row.experiment not in found and kept and len(found) < MOST_EXPERIMENTS:
            found[row.experiment] = _spread(kept)
    return found


def _spread(recordings: Sequence[dict]) -> list[tuple[dict, int]]:
    """Frames of several recordings, as far apart as can be."""
    rounds = -(-LARGEST // len(recordings))
    chosen = [
        (one, (2 * turn + 1) * len(one["times_s"]) // (2 * rounds)) for turn in range(rounds) for one in recordings
    ]
    return chosen[:LARGEST]
