"""Figures of steps in time: how often they are found, and one video with its scores, its truth and what was found."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mcnlab.reporting.bars import bars_figure
from mcnlab.reporting.style import INK, SEQUENTIAL, Figure, safe, shortened, styled
from mcnlab.reporting.summary import Column, StudySummary, short_direction
from mcnlab.runs import RunFolder

TASK = "actions"
FOUND_COLOR = "#E69F00"
"""Of the found frames, on blue scores (Okabe and Ito 2008)."""
STEP_PX, HEAD_PX = 34, 120
MOST_ROWS = 24
"""Steps of a picture; the rest is left out."""
TITLES = {
    "step_recall": "How often a step is found, its order being known",
    "step_recall_unordered": "How often the best frame of a step is inside it, whatever the order",
}
CAPTIONS = {
    "step_recall": "All steps of a video are placed at once, one frame each, in their order. ",
    "step_recall_unordered": "Each step is searched by itself, so that its place in the order gives nothing away. ",
}
SHOWN = {
    "step_recall": "step recall",
    "step_recall_pooled": "pooled",
    "step_recall_unordered": "unordered",
    "mean_average_precision": "mAP",
    "frame_accuracy": "frames",
    "iou": "IoU",
    "iod": "IoD",
    "temporal_iou": "interval",
    "recall_at_iou_0.5": "IoU ≥ 0.5",
}
"""Columns of the table."""
LEVELS = {"untrained": "before training", "chance": "chance: random scores", "uniform": "evenly spread"}


@dataclass(frozen=True)
class StepExample:
    """One video of one run: scores of frames and steps, and where the steps are and were found."""

    experiment: str
    seed: int
    video: str
    subject: str
    hop_s: float
    steps: tuple[str, ...]
    scores: np.ndarray
    """(frames, steps)."""
    spans: tuple[tuple[int, float, float], ...]
    """(step, start, end) in seconds."""
    found_s: tuple[float, ...]
    """Middle of the found frame of each step, in seconds."""
    hits: tuple[bool, ...]
    """By step: whether that frame lies in a true interval."""


def step_subjects(summary: StudySummary) -> list[str]:
    """What was searched by text, without the groups of videos that are also reported by themselves."""
    return [subject for subject in summary.subjects(TASK) if ":" not in subject]


def step_recall_figure(summary: StudySummary, *, metric: str = "step_recall") -> Figure | None:
    """Step recall of every experiment beside chance and the untrained model.

    Args:
        summary: the study.
        metric: `step_recall` or `step_recall_unordered`.

    Returns:
        Small multiples of horizontal bars, a panel per way of searching; None when steps were not searched.
    """
    columns = [Column(short_direction(one), TASK, (one,), metric) for one in step_subjects(summary)]
    return bars_figure(
        summary,
        columns,
        name=metric.replace("_", "-"),
        title=TITLES[metric],
        caption=CAPTIONS[metric] + "Recall: share of the annotated steps whose frame lies inside a true interval, mean "
        "over the videos of a task, then over tasks; larger is better. Bars: mean over seeds; whiskers: 95 % interval. "
        "Dashed line: chance (random scores). Diamond: the same model before training.",
        unit="recall (share of steps)",
        suffix=f"_{metric}",
    )


def step_table(summary: StudySummary) -> pd.DataFrame:
    """All metrics: for each way of searching a row per experiment, and below what to compare with.

    Args:
        summary: the study.

    Returns:
        Means over seeds, between 0 and 1, larger is better; `before training` is the mean over experiments.
    """
    tables = [_table_of(summary, subject) for subject in step_subjects(summary)]
    return pd.concat(tables).round(3) if tables else pd.DataFrame()


def scored_in_words(summary: StudySummary) -> list[str]:
    """How many videos the numbers speak of, and why others were not scored.

    Args:
        summary: the study.

    Returns:
        Sentences, from the first run that was searched; empty where none was.
    """
    for run in summary.finished():
        told = RunFolder(run.folder).read_json("actions.json").get("not_scored", {})
        if told:
            left = {reason: ids for by_reason in told.values() for reason, ids in by_reason.items()}
            scored = summary.level(TASK, next(iter(told)), "videos_scored") or 0.0
            words = [f"{len(ids)} not scored: {reason} ({', '.join(ids[:3])})." for reason, ids in left.items()]
            return [f"{scored:.0f} videos were searched.", *words]
    return []


def best_example(summary: StudySummary) -> StepExample | None:
    """A video of the run that finds most steps.

    Args:
        summary: the study.

    Returns:
        The first video that the run of the best experiment kept for a picture; None when there is none.
    """
    found = summary.results
    rows = found[(found.task == TASK) & (found.metric == "step_recall_unordered") & ~found.subject.str.contains(":")]
    for row in rows.sort_values("value", ascending=False, kind="stable").itertuples():
        for run in summary.finished():
            if (run.experiment, run.seed) == (row.experiment, row.seed):
                examples = RunFolder(run.folder).read_json("actions.json").get("examples", [])
                if examples:
                    return _example(run.experiment, run.seed, examples[0])
    return None


def step_scores_figure(example: StepExample | None) -> Figure | None:
    """Scores of every frame of one video for each of its steps, with the true intervals and the found frames.

    Args:
        example: the video; None when there is none.

    Returns:
        A heat map: seconds to the right, steps downward; None without an example.
    """
    if example is None:
        return None
    count = min(len(example.steps), MOST_ROWS)
    names = [f"{number + 1}. {safe(shortened(text, longest=34))}" for number, text in enumerate(example.steps[:count])]
    plot = go.Figure([_heat(example, names), *_true_boxes(example, count), _found_marks(example, count)])
    seconds = len(example.scores) * example.hop_s
    plot.update_xaxes(title_text="time in the video (s)", range=[0, seconds], showgrid=False)
    plot.update_yaxes(tickvals=list(range(count)), ticktext=names, range=[count - 0.5, -0.5], showgrid=False)
    annotated = len({number for number, _, _ in example.spans})
    words = f"{sum(example.hits)} of {annotated} steps found in {example.video}, by {example.experiment}"
    return Figure(
        name="step-scores",
        title=f"Does each step stand out where it happens? {shortened(words, longest=80)}",
        caption=f"Score of each step's text with each frame ({short_direction(example.subject)}), one step a row; each "
        "row goes from its own lowest (as the page) to its own highest score. Boxes: where the step really is. "
        "Orange marks: the frame that was chosen for it, all steps in order.",
        alt=f"{words}. " + "; ".join(_in_words(example, number) for number in range(count)),
        plot=styled(plot, height=HEAD_PX + count * STEP_PX),
        numbers=_numbers(example),
    )


def _table_of(summary: StudySummary, subject: str) -> pd.DataFrame:
    """The rows of one way of searching."""
    cells = {words: summary.means(Column("", TASK, (subject,), name)) for name, words in SHOWN.items()}
    table = pd.DataFrame(cells).reindex(list(summary.experiments))
    for level, words in LEVELS.items():
        values = [summary.level(TASK, subject, f"{level}_{name}") for name in SHOWN]
        table.loc[words] = pd.Series(values, index=list(SHOWN.values()), dtype=float)
    table.index = [f"{short_direction(subject)}: {name}" for name in table.index]
    return table.rename_axis(index="searched by: experiment")


def _example(experiment: str, seed: int, given: dict[str, Any]) -> StepExample:
    """An example from JSON."""
    return StepExample(
        experiment=experiment,
        seed=seed,
        video=str(given["id"]),
        subject=str(given["subject"]),
        hop_s=float(given["hop_s"]),
        steps=tuple(map(str, given["steps"])),
        scores=np.array(given["scores"], dtype=float),
        spans=tuple((int(number), float(start), float(end)) for number, start, end in given["spans"]),
        found_s=tuple(map(float, given["found_s"])),
        hits=tuple(map(bool, given["hit"])),
    )


def _heat(example: StepExample, names: list[str]) -> go.Heatmap:
    """The scores, every step from its lowest to its highest."""
    scores = example.scores[:, : len(names)].T  # (steps, frames)
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    return go.Heatmap(
        z=(scores - low) / np.maximum(high - low, 1e-12),
        x=(np.arange(scores.shape[1]) + 0.5) * example.hop_s,
        y=list(range(len(names))),
        customdata=np.dstack([scores, np.tile(np.array(names, dtype=object)[:, None], scores.shape[1])]),
        hovertemplate="%{customdata[1]}<br>%{x:.1f} s: score %{customdata[0]:.3f}<extra></extra>",
        colorscale=SEQUENTIAL,
        zmin=0,
        zmax=1,
        ygap=3,
        colorbar={"thickness": 12, "outlinewidth": 0, "tickvals": [0, 1], "ticktext": ["lowest", "highest"]},
    )


def _true_boxes(example: StepExample, count: int) -> list[go.Scatter]:
    """Boxes around the true intervals; one entry in the legend."""
    shown = [span for span in example.spans if span[0] < count]
    x = [value for _, start, end in shown for value in (start, end, end, start, start, None)]
    y = [value for n, _, _ in shown for value in (n - 0.46, n - 0.46, n + 0.46, n + 0.46, n - 0.46, None)]
    line = {"color": INK, "width": 2}
    return [go.Scatter(x=x, y=y, mode="lines", line=line, name="true interval", hoverinfo="skip")]


def _found_marks(example: StepExample, count: int) -> go.Scatter:
    """Where the steps were found."""
    return go.Scatter(
        x=list(example.found_s[:count]),
        y=list(range(count)),
        mode="markers",
        name="found",
        marker={"symbol": "diamond", "size": 12, "color": FOUND_COLOR, "line": {"color": "white", "width": 1.5}},
        hovertemplate="found at %{x:.1f} s<extra></extra>",
    )


def _numbers(example: StepExample) -> pd.DataFrame:
    """The same as a table."""
    rows = [
        {"step": text, "true (s)": _spans_text(example, number), "found (s)": round(example.found_s[number], 2)}
        for number, text in enumerate(example.steps)
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="number"))


def _spans_text(example: StepExample, number: int) -> str:
    """The true intervals of a step."""
    return ", ".join(f"{start:.1f} to {end:.1f}" for n, start, end in example.spans if n == number) or "not shown"


def _in_words(example: StepExample, number: int) -> str:
    """A step with its truth and where it was found."""
    return f"{example.steps[number]}: {_spans_text(example, number)} s, found at {example.found_s[number]:.1f} s"
