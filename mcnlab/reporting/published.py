"""Numbers from the literature, to stand beside a study's own; each is marked as published or measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mcnlab.reporting.evaluated import EvaluatedStore, measured_on, stores_named
from mcnlab.reporting.summary import Column, StudySummary, short_direction

Row = dict[str, str | int | float | None]
"""A line of a table, by column."""


@dataclass(frozen=True)
class PublishedTable:
    """A study's own numbers on one data set beside those of the literature."""

    title: str
    table: pd.DataFrame
    """The index names the model; the column `kind` says whether a line is published or measured."""
    measured_on: str
    """A sentence on the store that the study was measured on; empty where its runs do not say."""


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
CROSSTASK_RECALL = (
    ("HowTo100M (R152+RX101)", MIECH, 33.6, False),
    ("MIL-NCE (S3D, batch 8192)", MIL_NCE, 40.5, False),
    ("MCN (R152+RX101)", MCN, 35.1, True),
    ("TACo", TACO, 42.5, False),
)
"""Model, source, step recall in percent averaged over tasks, and whether that is not yet compared with the paper."""
MINING_YOUTUBE_OVERLAP = (
    ("linear split of the steps", "Kuehne et al. 2019", 5.45, 9.12),
    ("hierarchical", "Kuehne et al. 2019", 15.0, 26.83),
)
"""Model, source, IoU and IoD in percent."""
UNCHECKED = ", not checked against the paper"
NAMES = {"youcook2": "YouCook2", "msrvtt": "MSR-VTT"}
CLIPS = {"youcook2": 3350, "msrvtt": 1000}
"""Clips among which published numbers were found: a smaller gallery makes every recall larger."""
METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank")
HEADS = ("R@1 (%)", "R@5 (%)", "R@10 (%)", "median rank")
ASKED = ("text->video", "text->video+audio")


def published_tables(summary: StudySummary) -> tuple[PublishedTable, ...]:
    """The study's zero-shot numbers beside published ones, a table for every known data set it was measured on.

    Args:
        summary: the study.

    Returns:
        Title and table; the index names the model, columns kind (`published` or `measured`), asked, store (of measured
        lines), clips (size of the gallery), recall in percent, median rank and source. Published numbers come first.
    """
    found = []
    for dataset, published in PUBLISHED.items():
        task = f"retrieval@{dataset}"
        if summary.subjects(task):
            rows = [_published_row(one, CLIPS[dataset]) for one in published] + _measured_rows(summary, task)
            title = f"Zero-shot on {NAMES[dataset]}, beside published numbers"
            table = pd.DataFrame(rows).set_index("model")
            found.append(PublishedTable(title, table, measured_on(summary, dataset)))
    return (*found, *_action_tables(summary))


def _gallery(summary: StudySummary, task: str, subject: str) -> int | None:
    """Clips that a query is compared with, from chance."""
    chance = summary.level(task, subject, "chance_at_1")
    return round(1 / chance) if chance else None


def _action_tables(summary: StudySummary) -> Iterator[PublishedTable]:
    """Steps found in CrossTask and MiningYouTube, beside published numbers."""
    recall = [
        _action_row(model, "published", "T→V", f"{source}{UNCHECKED if doubtful else ''}", {"step recall (%)": value})
        for model, source, value, doubtful in CROSSTASK_RECALL
    ]
    overlap = [
        _action_row(model, "published", "T→V", source, {"IoU (%)": iou, "IoD (%)": iod})
        for model, source, iou, iod in MINING_YOUTUBE_OVERLAP
    ]
    for name, dataset, known, metrics in (
        ("CrossTask", "crosstask", recall, {"step recall (%)": "step_recall"}),
        ("MiningYouTube", "mining_youtube", overlap, {"IoU (%)": "iou", "IoD (%)": "iod"}),
    ):
        task = f"actions@{dataset}"
        if summary.subjects(task):
            rows = [*known, *_measured_actions(summary, task, metrics)]
            table = pd.DataFrame(rows).set_index("model")
            yield PublishedTable(
                f"Steps found in {name}, beside published numbers", table, measured_on(summary, dataset)
            )


def _measured_actions(summary: StudySummary, task: str, metrics: Mapping[str, str]) -> Iterator[Row]:
    """The study's own lines: mean over seeds."""
    stores = stores_named(summary, task.partition("@")[2])
    for subject in (one for one in ASKED if one in summary.subjects(task)):
        found = {head: summary.intervals(Column("", task, (subject,), metric)) for head, metric in metrics.items()}
        for experiment in (one for one in summary.experiments if all(one in by for by in found.values())):
            numbers = {head: round(100 * by[experiment].value, 1) for head, by in found.items()}
            source = _this_study(next(iter(found.values()))[experiment].n)
            clips = sum(one.clips for one in stores) if len(stores) == 1 else None
            yield _action_row(
                experiment,
                "measured",
                short_direction(subject),
                source,
                numbers,
                store=_store_names(stores),
                clips=clips,
            )


def _action_row(
    model: str,
    kind: str,
    asked: str,
    source: str,
    numbers: Mapping[str, float],
    *,
    store: str = "",
    clips: int | None = None,
) -> Row:
    """One line of a table of steps."""
    return {"model": model, "kind": kind, "asked": asked, "store": store, "clips": clips, **numbers, "source": source}


def _store_names(stores: Sequence[EvaluatedStore]) -> str:
    """The names of the stores behind a measured line."""
    return ", ".join(dict.fromkeys(one.store for one in stores))


def _this_study(seeds: int) -> str:
    """Source of a measured line."""
    return f"this study, {seeds} seed{'s' if seeds > 1 else ''}"


def _published_row(one: Published, clips: int) -> Row:
    """A line of the literature."""
    numbers = dict(zip(HEADS, one.numbers, strict=True))
    source = f"{one.source}{UNCHECKED}" if one.doubtful else one.source
    place: Row = {"kind": "published", "asked": "T→V", "store": "", "clips": clips}
    return {"model": one.model, **place, **numbers, "source": source}


def _measured_rows(summary: StudySummary, task: str) -> list[Row]:
    """The study's own lines: mean over seeds."""
    rows: list[Row] = []
    for subject in (one for one in ASKED if one in summary.subjects(task)):
        by_metric = {metric: summary.intervals(Column("", task, (subject,), metric)) for metric in METRICS}
        for experiment in (one for one in summary.experiments if one in by_metric["recall_at_1"]):
            numbers = {}
            for head, metric in zip(HEADS, METRICS, strict=True):
                scale = 100 if metric.startswith("recall") else 1
                numbers[head] = round(scale * by_metric[metric][experiment].value, 1)
            source = _this_study(by_metric["recall_at_1"][experiment].n)
            place: Row = {
                "kind": "measured",
                "asked": short_direction(subject),
                "store": _store_names(stores_named(summary, task.partition("@")[2])),
                "clips": _gallery(summary, task, subject),
            }
            rows.append({"model": experiment, **place, **numbers, "source": source})
    return rows
