"""Is the right clip first? Recall in every direction, beside chance, ceiling and an untrained model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, Shaped

from mcnlab.errors import DataError, ShapeError
from mcnlab.evaluation.rows import ResultRow, present_rows
from mcnlab.metrics.retrieval import same_label_share, summary_of_ranks
from mcnlab.metrics.statistics import bootstrap_of_mean, bootstrap_of_ranks
from mcnlab.metrics.tiles import ranks_both_ways
from mcnlab.metrics.video_retrieval import chance_by_video, ranks_by_video

TASK = "retrieval"


@dataclass(frozen=True)
class Direction:
    """One way of asking: row i of `gallery` is the right answer to row i of `queries`; rows of NaN are missing."""

    subject: str
    """As in the results: `text->video`, `text->video+audio`."""
    queries: Float[np.ndarray, "clips width"]
    gallery: Float[np.ndarray, "candidates gallery_width"]
    keys: Shaped[np.ndarray, " keys"] | None = None
    """What query and candidate have in common, as one hashable value per clip. Clips with the same key cannot be told
    apart in this direction by anybody. None: no ceiling is known."""


@dataclass(frozen=True)
class RetrievalResult:
    """Rows for the results, and the rank of every clip's true match in every direction (`<NA>`: one side missing)."""

    rows: tuple[ResultRow, ...]
    ranks: pd.DataFrame


def evaluate_retrieval(
    directions: Sequence[Direction],
    *,
    untrained: Sequence[Direction] = (),
    labels: Sequence[str | None] | np.ndarray | None = None,
    ks: Sequence[int] = (1, 5, 10),
    videos: Sequence[str] | np.ndarray | None = None,
    queries_total: int | None = None,
    seed: int = 0,
    draws: int = 1000,
    device: str = "cpu",
) -> RetrievalResult:
    """Recall at k, median and mean rank by dot product, in every direction.

    A query is asked if it and its true match are there. All candidates that are there stand in the gallery, also those
    whose own query is missing. Ties count against us.

    Args:
        directions: What to compare; subjects differ. Normalize first if cosines are meant.
        untrained: The same subjects from a model before training; adds `untrained_at_K`.
        labels: One class per clip, None where there is none; adds `same_label_at_1` with its chance. None: left out.
        ks: Places that still count as found.
        videos: Which video each clip is of. Adds, for queries by text, `any_clip_recall_at_K` (any clip of the right
            video will do) and `video_recall_at_K` (videos are ranked by their best clip), with chance. None: left out.
        queries_total: Adds `strict_recall_at_K`: hits divided by this many queries, so that clips which could not be
            asked count as mistakes. None: left out.
        seed: Of the bootstrap. Each direction draws for itself, so adding one changes no other.
        draws: Resamples of the queries for the 95 % intervals.
        device: Where the scores are computed.

    Returns:
        Rows (`recall_at_K`, `median_rank`, `mean_rank`, `chance_at_K`, `ceiling_at_K` where keys are given,
        `untrained_at_K`, `same_label_at_1`, `chance_same_label_at_1`), and the ranks, one row per clip.

    Raises:
        ShapeError: Two sides of a direction differ in shape, or labels do not fit.
        DataError: In some direction no clip has both sides.
        NonFiniteError: An embedding is infinite, or NaN in part.

    Source:
        Chance is min(k, M)/M for M candidates. The ceiling is that of an oracle which knows the key and picks at
        random among the g candidates that share it: mean of min(k, g)/g.

    Example:
        >>> found = evaluate_retrieval([Direction("text->video", np.eye(4), np.eye(4))], ks=(1,))
        >>> {row.metric: row.value for row in found.rows}
        {'recall_at_1': 1.0, 'median_rank': 1.0, 'mean_rank': 1.0, 'chance_at_1': 0.25}
    """
    counted, counted_before = (_ranks(some, device) for some in (directions, untrained))
    rows: list[ResultRow] = []
    ranks: dict[str, pd.Series] = {}
    for direction in directions:
        asked, candidates = _asked_and_candidates(direction)
        found = counted[direction.subject]
        ranks[direction.subject] = _column(found, asked)
        rows += _rank_rows(direction.subject, found, ks=ks, seed=seed, draws=draws)
        rows += _rows(direction.subject, "chance_at", chance_of_recall(int(candidates.sum()), ks=ks))
        if direction.keys is not None:
            ceiling = ceiling_of_recall(direction.keys, asked=asked, candidates=candidates, ks=ks)
            rows += _rows(direction.subject, "ceiling_at", ceiling)
        if direction.subject in counted_before:
            rows += _rows(direction.subject, "untrained_at", _recall(counted_before[direction.subject], ks))
        if queries_total is not None:
            rows += _strict_rows(direction.subject, found, queries_total, ks=ks)
        if videos is not None and direction.subject.startswith("text->"):
            rows += _video_rows(direction, asked, candidates, videos, ks=ks, seed=seed, draws=draws, device=device)
        if labels is not None:
            rows += _label_rows(direction, asked, candidates, labels, seed=seed, draws=draws, device=device)
    return RetrievalResult(tuple(rows), pd.DataFrame(ranks))


def chance_of_recall(candidates: int, *, ks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Expected recall at k when candidates are put in random order.

    Args:
        candidates: Size of the gallery, at least 1.
        ks: Places that still count as found.

    Returns:
        k -> share of queries.

    Raises:
        DataError: No candidates.

    Example:
        >>> chance_of_recall(4, ks=(1, 5))
        {1: 0.25, 5: 1.0}
    """
    if candidates < 1:
        raise DataError(f"chance needs at least one candidate, got {candidates}")
    return {k: min(k, candidates) / candidates for k in ks}


def ceiling_of_recall(
    keys: Shaped[np.ndarray, " clips"],
    *,
    asked: Bool[np.ndarray, " queries"] | None = None,
    candidates: Bool[np.ndarray, " gallery"] | None = None,
    ks: Sequence[int] = (1, 5, 10),
) -> dict[int, float]:
    """Expected recall at k of an oracle that knows the key of every clip and nothing else.

    Args:
        keys: (N,), any hashable values, None being one; candidates with the query's key are put first, in random order.
        asked: (N,), which clips are queries. None: all. Their candidates must be there.
        candidates: (N,), which clips stand in the gallery. None: all.
        ks: Places that still count as found.

    Returns:
        k -> mean over the queries of min(k, g)/g, where g candidates share the key.

    Raises:
        ShapeError: Masks do not fit the keys.
        DataError: Nothing is asked.

    Example:
        >>> ceiling_of_recall(np.array(["red", "red", "blue"]), ks=(1,))
        {1: 0.6666666666666666}
    """
    asked = np.ones(len(keys), dtype=bool) if asked is None else asked
    candidates = np.ones(len(keys), dtype=bool) if candidates is None else candidates
    if not len(keys) == len(asked) == len(candidates):
        raise ShapeError(f"{len(keys)} keys but {len(asked)} and {len(candidates)} flags")
    if not asked.any():
        raise DataError("a ceiling needs at least one query, got 0")
    numbers = pd.factorize(keys, use_na_sentinel=False)[0]
    group = np.bincount(numbers[candidates], minlength=int(numbers.max()) + 1)[numbers[asked]]
    return {k: float(np.mean(np.minimum(k, group) / group)) for k in ks}


def _asked_and_candidates(direction: Direction) -> tuple[np.ndarray, np.ndarray]:
    """Which clips are asked for, and which stand in the gallery."""
    queries, gallery = direction.queries, direction.gallery
    if queries.shape != gallery.shape:
        raise ShapeError(f"{direction.subject}: queries are {queries.shape} but the gallery is {gallery.shape}")
    candidates = present_rows(direction.subject, gallery)
    asked = present_rows(direction.subject, queries) & candidates
    if not asked.any():
        raise DataError(f"{direction.subject}: none of {len(queries)} clips has both sides")
    return asked, candidates


def _ranks(directions: Sequence[Direction], device: str) -> dict[str, Int[np.ndarray, " asked"]]:
    """By subject: ranks of the clips that are asked. Two directions that are each other's mirror share one pass."""
    found: dict[str, np.ndarray] = {}
    for direction in directions:
        if direction.subject in found:
            continue
        there, back = _both_ways(direction, device)
        found[direction.subject] = there
        for other in directions:
            if other.subject not in found and _mirrored(direction, other):
                found[other.subject] = back
    return found


def _both_ways(direction: Direction, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the clips that have both sides, asked this way and the other way round."""
    _, candidates = _asked_and_candidates(direction)
    queries = present_rows(direction.subject, direction.queries)
    both = queries & candidates
    sides = []
    for array, present in ((direction.queries, queries), (direction.gallery, candidates)):
        order = np.concatenate((np.flatnonzero(both), np.flatnonzero(present & ~both)))  # the pairs first
        sides.append(torch.from_numpy(array[order]).to(device))
    there, back = ranks_both_ways(*sides, pairs=int(both.sum()))
    return there.cpu().numpy(), back.cpu().numpy()


def _mirrored(one: Direction, other: Direction) -> bool:
    """Whether the other direction asks the same the other way round: its queries are this one's gallery."""
    return (
        other.subject.split("->") == one.subject.split("->")[::-1]
        and np.array_equal(one.queries, other.gallery, equal_nan=True)
        and np.array_equal(one.gallery, other.queries, equal_nan=True)
    )


def _tensors(
    direction: Direction, asked: np.ndarray, candidates: np.ndarray, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides without the missing clips."""
    queries = torch.from_numpy(direction.queries[asked]).to(device)
    return queries, torch.from_numpy(direction.gallery[candidates]).to(device)


def _recall(ranks: np.ndarray, ks: Sequence[int]) -> dict[int, float]:
    """Share of queries found among the first k."""
    summary = summary_of_ranks(ranks, ks=ks)
    return {k: summary[f"recall_at_{k}"] for k in ks}


def _rank_rows(subject: str, ranks: np.ndarray, *, ks: Sequence[int], seed: int, draws: int) -> list[ResultRow]:
    """The metrics of the contract with their intervals."""
    intervals = bootstrap_of_ranks(ranks, generator=_generator(seed, subject), ks=ks, draws=draws)
    values = summary_of_ranks(ranks, ks=ks)
    return [ResultRow(TASK, subject, metric, value, *intervals[metric]) for metric, value in values.items()]


def _rows(subject: str, prefix: str, values: Mapping[int, float]) -> list[ResultRow]:
    """Rows without an interval, one per k."""
    return [ResultRow(TASK, subject, f"{prefix}_{k}", value) for k, value in values.items()]


def _strict_rows(subject: str, ranks: np.ndarray, total: int, *, ks: Sequence[int]) -> list[ResultRow]:
    """Hits divided by all queries that there should have been."""
    if total < len(ranks):
        raise DataError(f"{subject}: {len(ranks)} queries were asked, more than queries_total = {total}")
    return _rows(
        subject, "strict_recall_at", {k: value * len(ranks) / total for k, value in _recall(ranks, ks).items()}
    )


def _video_rows(
    direction: Direction,
    asked: np.ndarray,
    candidates: np.ndarray,
    videos: Sequence[str] | np.ndarray,
    *,
    ks: Sequence[int],
    seed: int,
    draws: int,
    device: str,
) -> list[ResultRow]:
    """Both protocols that ask for a video, with intervals over queries and with chance."""
    if len(videos) != len(asked):
        raise ShapeError(f"{direction.subject}: {len(asked)} clips but {len(videos)} videos")
    numbers = pd.factorize(np.asarray(videos, dtype=object))[0]
    theirs = pd.factorize(numbers[candidates])
    mine = pd.Index(theirs[1]).get_indexer(numbers[asked])
    sides = _tensors(direction, asked, candidates, device)
    ranks = ranks_by_video(*sides, query_video=mine, gallery_video=theirs[0])
    chances = chance_by_video(mine, theirs[0], ks=ks)
    rows: list[ResultRow] = []
    for name, found, chance in zip(("any_clip", "video"), ranks, chances, strict=True):
        intervals = bootstrap_of_ranks(found, generator=_generator(seed, direction.subject + name), ks=ks, draws=draws)
        for metric, value in summary_of_ranks(found, ks=ks).items():
            rows.append(ResultRow(TASK, direction.subject, f"{name}_{metric}", value, *intervals[metric]))
        rows += _rows(direction.subject, f"chance_{name}_at", chance)
    return rows


def _label_rows(
    direction: Direction,
    asked: np.ndarray,
    candidates: np.ndarray,
    labels: Sequence[str | None] | np.ndarray,
    *,
    seed: int,
    draws: int,
    device: str,
) -> list[ResultRow]:
    """How often the best candidate has at least the right class; nothing if no query has a label."""
    if len(labels) != len(asked):
        raise ShapeError(f"{direction.subject}: {len(asked)} clips but {len(labels)} labels")
    numbers = _class_numbers(labels)
    asked = asked & (numbers >= 0)
    if not asked.any():
        return []
    mine, theirs = numbers[asked], numbers[candidates]
    sides = _tensors(direction, asked, candidates, device)
    classes = (torch.from_numpy(side).to(device) for side in (mine, theirs))
    share = same_label_share(*sides, *classes).cpu().numpy()
    interval = bootstrap_of_mean(share, generator=_generator(seed, direction.subject + " label"), draws=draws)
    chance = np.bincount(theirs[theirs >= 0], minlength=int(numbers.max()) + 1)[mine] / len(theirs)
    return [
        ResultRow(TASK, direction.subject, "same_label_at_1", float(share.mean()), *interval),
        ResultRow(TASK, direction.subject, "chance_same_label_at_1", float(chance.mean())),
    ]


def _class_numbers(labels: Sequence[str | None] | np.ndarray) -> Int[np.ndarray, " clips"]:
    """Classes as numbers from 0 in sorted order, -1 where there is none."""
    return pd.factorize(pd.Series(labels, dtype=object), sort=True)[0].astype(np.int64)


def _column(found: np.ndarray, asked: np.ndarray) -> pd.Series:
    """Ranks in the place of their clips, missing elsewhere."""
    column = pd.Series(pd.NA, index=range(len(asked)), dtype="Int64")
    column[asked] = found
    return column


def _generator(seed: int, name: str) -> np.random.Generator:
    """A source of draws of its own for each subject."""
    return np.random.default_rng([seed, crc32(name.encode())])
