"""Numbers from the literature, to stand beside a study's own; each is marked as published or measured."""

from dataclasses import dataclass

import pandas as pd

from mcnlab.reporting.summary import Column, StudySummary, short_direction


@dataclass(frozen=True)
class Published:
    """Zero-shot results of one model after training on HowTo100M; None where the publication has no number."""

    model: str
    source: str
    numbers: tuple[float | None, float | None, float | None, float | None]
    """T→V recall at 1, 5 and 10 in percent, median rank."""
    doubtful: bool = False
    """Not yet compared with the paper: whoever quotes it should look it up."""


MIECH, MIL_NCE = "Miech et al. 2019", "Miech et al. 2020"
MMV, MCN, TACO, VIDEO_CLIP = "Alayrac et al. 2020", "Chen et al. 2021", "Yang et al. 2021", "Xu et al. 2021"
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "youcook2": (
        Published("HowTo100M (R152+RX101)", MIECH, (6.1, 17.3, 24.8, 46.0)),
        Published("MIL-NCE (S3D, batch 8192)", MIL_NCE, (15.1, 38.0, 51.2, 10.0)),
        Published("MMV (TSM-50×2)", MMV, (11.7, 33.4, 45.4, 13.0)),
        Published("MCN (R152+RX101)", MCN, (18.1, 35.5, 45.2, None)),
        Published("TACo", TACO, (19.9, 43.2, 55.7, 8.0)),
        Published("VideoCLIP", VIDEO_CLIP, (22.7, 50.4, 63.1, None)),
    ),
    "msrvtt": (
        Published("HowTo100M (R152+RX101)", MIECH, (7.5, 21.2, 29.6, 38.0)),
        Published("MIL-NCE (S3D, batch 8192)", MIL_NCE, (9.9, 24.0, 32.4, 29.5)),
        Published("MMV (TSM-50×2)", MMV, (None, None, 31.1, 38.0)),
        Published("MCN (R152+RX101)", MCN, (10.5, 25.2, 33.8, None), doubtful=True),
        Published("TACo", TACO, (9.8, 25.0, 33.4, 29.0)),
    ),
}
"""By the name that a study gives the store in `evaluation.also`."""
NAMES = {"youcook2": "YouCook2", "msrvtt": "MSR-VTT"}
METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank")
HEADS = ("R@1 (%)", "R@5 (%)", "R@10 (%)", "median rank")
ASKED = ("text->video", "text->video+audio")


def published_tables(summary: StudySummary) -> tuple[tuple[str, pd.DataFrame], ...]:
    """Zero-shot retrieval of the study beside published numbers, a table for every known data set it was measured on.

    Args:
        summary: the study.

    Returns:
        Title and table; the index names the model, columns kind (`published` or `measured`), asked, recall in percent,
        median rank and source. Published numbers come first.
    """
    found = []
    for dataset, published in PUBLISHED.items():
        task = f"retrieval@{dataset}"
        if summary.subjects(task):
            rows = [_published_row(one) for one in published] + _measured_rows(summary, task)
            found.append(
                (f"Zero-shot on {NAMES[dataset]}, beside published numbers", pd.DataFrame(rows).set_index("model"))
            )
    return tuple(found)


def _published_row(one: Published) -> dict[str, str | float | None]:
    """A line of the literature."""
    numbers = dict(zip(HEADS, one.numbers, strict=True))
    source = f"{one.source}, not checked against the paper" if one.doubtful else one.source
    return {"model": one.model, "kind": "published", "asked": "T→V", **numbers, "source": source}


def _measured_rows(summary: StudySummary, task: str) -> list[dict[str, str | float | None]]:
    """The study's own lines: mean over seeds."""
    rows: list[dict[str, str | float | None]] = []
    for subject in (one for one in ASKED if one in summary.subjects(task)):
        by_metric = {metric: summary.intervals(Column("", task, (subject,), metric)) for metric in METRICS}
        for experiment in (one for one in summary.experiments if one in by_metric["recall_at_1"]):
            numbers = {}
            for head, metric in zip(HEADS, METRICS, strict=True):
                scale = 100 if metric.startswith("recall") else 1
                numbers[head] = round(scale * by_metric[metric][experiment].value, 1)
            seeds = by_metric["recall_at_1"][experiment].n
            source = f"this study, {seeds} seed{'s' if seeds > 1 else ''}"
            asked = short_direction(subject)
            rows.append({"model": experiment, "kind": "measured", "asked": asked, **numbers, "source": source})
    return rows
