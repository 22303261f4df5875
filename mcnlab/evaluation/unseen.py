"""Classes that were not trained on: are their clips found, and do classes lie as language says?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mcnlab.errors import DataError
from mcnlab.evaluation.clusters import check_labels, evaluate_clusters
from mcnlab.evaluation.rows import ResultRow, present_rows
from mcnlab.metrics.classes import agreement, average_precision_at_r, chance_of_class, class_hits, class_similarities
from mcnlab.metrics.statistics import bootstrap_of_mean
from mcnlab.numerics import key_generator

TASK = "unseen"
KS = (1, 2, 4, 8)
MOST_CLIPS = 5000
"""Clips that are ranked at most; more are drawn from by seed."""


@dataclass(frozen=True)
class ClassClips:
    """Some clips with their classes, and what language says of these."""

    embeddings: Mapping[str, Float[np.ndarray, "clips _"]]
    """By subject; rows of NaN are missing clips."""
    untrained: Mapping[str, Float[np.ndarray, "clips _"]]
    """The same before training."""
    labels: np.ndarray
    """(clips,): names; None where there is none."""
    language: Mapping[str, Float[np.ndarray, " width"]]
    """By class that language knows: its vector."""


def evaluate_unseen(unseen: ClassClips, seen: ClassClips, *, seed: int) -> list[ResultRow]:
    """How well clips of unseen classes are found by their class, and how far classes lie as language says.

    Args:
        unseen: held-out clips of classes that were not trained on.
        seen: clips of classes that were.
        seed: of the resampling and the clusters.

    Returns:
        By subject rows `recall_at_K`, `map_at_r`, `nmi`, with `untrained_` and `chance_`; `agreement` (Spearman's
        correlation of class similarities with those of language) of the seen classes and `agreement_unseen`, with
        `untrained_`; chance is 0. No agreement where language knows fewer than three classes.

    Raises:
        DataError: fewer than two classes, or a class that was trained on is among the unseen ones.
    """
    shared = sorted({str(one) for one in unseen.labels if one is not None} & {str(one) for one in seen.labels if one})
    if shared:
        raise DataError(f"the task unseen needs classes that were not trained on, but {shared[0]!r} was")
    rows: list[ResultRow] = []
    for subject, x in unseen.embeddings.items():
        rows += _found(subject, x, unseen.untrained[subject], unseen.labels, seed=seed)
        for ending, clips in (("", seen), ("_unseen", unseen)):
            for prefix, known in (("", clips.embeddings), ("untrained_", clips.untrained)):
                value = class_agreement(known[subject], clips.labels, clips.language)
                if np.isfinite(value):
                    rows.append(ResultRow(TASK, subject, f"{prefix}agreement{ending}", value))
    return rows


def class_agreement(
    embeddings: Float[np.ndarray, "clips dim"],
    labels: Sequence[str | None] | np.ndarray,
    language: Mapping[str, np.ndarray],
) -> float:
    """Spearman's correlation of class similarities in an embedding with those of language; NaN with too few classes.

    Args:
        embeddings: (clips, dim); rows of NaN are left out.
        labels: (clips,): names or None.
        language: vector by class; clips of others are left out.
    """
    kept = ~np.isnan(embeddings).all(axis=1) & np.array([one in language for one in labels])
    names = np.unique(np.asarray(labels, dtype=object)[kept].astype(str))
    if len(names) < 3:
        return float("nan")
    numbers = np.searchsorted(names, np.asarray(labels, dtype=object)[kept].astype(str))
    told = np.stack([language[name] for name in names])
    return agreement(class_similarities(embeddings[kept], numbers), class_similarities(told, np.arange(len(names))))


def similarities_of_classes(clips: ClassClips) -> dict[str, dict[str, list[str] | list[list[float]]]]:
    """How alike classes are, in each embedding and in language: what the reports draw.

    Args:
        clips: with their classes; those that language does not know are left out.

    Returns:
        By subject: `classes`, and (classes, classes) as lists of `embedding`, `untrained` and `language`; empty where
        fewer than three classes are left.
    """
    found = {}
    for subject in clips.embeddings:
        tables = {"embedding": clips.embeddings[subject], "untrained": clips.untrained[subject]}
        kept = ~np.isnan(tables["embedding"]).all(axis=1) & np.array([one in clips.language for one in clips.labels])
        names, numbers = np.unique(np.asarray(clips.labels, dtype=object)[kept].astype(str), return_inverse=True)
        if len(names) < 3:
            continue
        told = np.stack([clips.language[name] for name in names])
        known = {name: class_similarities(x[kept], numbers) for name, x in tables.items()}
        known["language"] = class_similarities(told, np.arange(len(names)))
        found[subject] = {"classes": names.tolist(), **{name: x.round(4).tolist() for name, x in known.items()}}
    return found


def _found(
    subject: str, embeddings: np.ndarray, untrained: np.ndarray, labels: np.ndarray, *, seed: int
) -> list[ResultRow]:
    """Rows of how clips are found by their class."""
    numbers = check_labels(labels, column="label")
    part = np.flatnonzero(present_rows(subject, embeddings) & (numbers >= 0))
    if len(part) > MOST_CLIPS:
        part = np.sort(key_generator(seed, "unseen", subject).choice(part, MOST_CLIPS, replace=False))
    y, draw, rows = numbers[part], key_generator(seed, "unseen", "intervals", subject), list[ResultRow]()
    before = class_hits(untrained[part], y, ks=KS)
    for k, hits in class_hits(embeddings[part], y, ks=KS).items():
        interval = bootstrap_of_mean(hits, generator=draw)
        rows.append(ResultRow(TASK, subject, f"recall_at_{k}", float(hits.mean()), *interval))
        rows.append(ResultRow(TASK, subject, f"untrained_recall_at_{k}", float(before[k].mean())))
        rows.append(ResultRow(TASK, subject, f"chance_recall_at_{k}", chance_of_class(y, k)))
    for prefix, x in (("", embeddings), ("untrained_", untrained)):
        rows.append(
            ResultRow(TASK, subject, f"{prefix}map_at_r", float(np.nanmean(average_precision_at_r(x[part], y))))
        )
        found = evaluate_clusters({subject: x[part]}, labels[part], seed=seed).rows
        rows += [ResultRow(TASK, subject, f"{prefix}nmi", row.value) for row in found if row.metric == "nmi"]
    return rows
