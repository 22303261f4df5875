"""Retrieval: where the true match stands among all candidates, counted exactly and never sorted."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.metrics.tiles import ranks_both_ways
from mcnlab.metrics.vectors import check_embeddings, check_scores, distinct_rows, score_type

SCORES_AT_ONCE = 2**24
"""Scores held in memory at a time (64 MiB in float32)."""
Rule = Literal["mcn", "mil_nce", "averaged", "optimistic"]
"""How a published table broke ties; see `published_retrieval_metrics`."""


def ranks_of_true_match(
    similarity: Float[Tensor, "query candidate"], target: Int[Tensor, " targets"]
) -> Int[Tensor, " query"]:
    """Place of the right candidate in each query's sorted list, 1 being best.

    Ties count against us: equal scores push the true match down.

    Args:
        similarity: (query, candidate), float. Larger is closer. Any range, also negative or infinite.
        target: (query,), integers. Column of the right candidate for each query.

    Returns:
        (query,), int64. Ranks from 1 to the number of candidates.

    Raises:
        ShapeError: `target` has not one entry per query, or points outside the candidates.
        NonFiniteError: A score is NaN, which has no place in any order.

    Source:
        Rank = 1 + number of other candidates with a score >= that of the true match.

    Example:
        >>> ranks_of_true_match(torch.tensor([[-0.1, -0.5]]), torch.tensor([0]))
        tensor([1])
    """
    _check_target(target, len(similarity), similarity.shape[1])
    check_scores(similarity, first_query=0)
    true_score = similarity.gather(1, target[:, None])  # (query, 1)
    return (similarity >= true_score).sum(dim=1)


def retrieval_ranks(
    queries: Float[Tensor, "query width"],
    gallery: Float[Tensor, "candidate gallery_width"],
    *,
    target: Int[Tensor, " targets"] | None = None,
    block: int | None = None,
) -> Int[Tensor, " query"]:
    """Rank of each query's true match by dot product, without ever holding all scores.

    Copies of the true match tie with it exactly, whatever the order in which the machine adds up the products.

    Args:
        queries: (N, D), finite, N >= 1. Half precision is widened to float32; float64 stays.
        gallery: (M, D), finite.
        target: (N,), row of the gallery that belongs to each query. None: row i belongs to query i.
        block: Queries scored at a time, with the whole gallery. None: tiles of a few MiB where row i belongs to query
            i, else as many queries as fit into 64 MiB of scores.

    Returns:
        (N,), int64. Ranks from 1 (best) to M; ties count against us.

    Raises:
        ShapeError: Widths differ, nothing to rank, or `target` does not fit.
        NonFiniteError: An embedding or a score is not finite.

    Source:
        As `ranks_of_true_match`.

    Example:
        >>> retrieval_ranks(torch.eye(3), torch.eye(3))
        tensor([1, 1, 1])
    """
    if target is None and block is None:
        return ranks_both_ways(queries, gallery)[0]
    better, equal = _better_and_equal(queries, gallery, target, block)
    return better + equal


def retrieval_metrics(
    queries: Float[Tensor, "query width"],
    gallery: Float[Tensor, "candidate gallery_width"],
    *,
    target: Int[Tensor, " targets"] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    ties: Literal["against", "published"] = "against",
) -> dict[str, float]:
    """Recall at k, median and mean rank of the true match by dot product.

    Args:
        queries: (N, D), finite, N >= 1. Normalize first if cosines are meant.
        gallery: (M, D), finite.
        target: (N,), row of the gallery that belongs to each query. None: row i belongs to query i.
        ks: Places that still count as found.
        ties: "against": equal scores push the true match down. "published": the rule of the MCN tables, only to
            reproduce them; a k-fold tie is counted k times and recall can exceed 1.

    Returns:
        `recall_at_K` for each of `ks` (share of queries, higher is better), `median_rank`, `mean_rank` (1 is best).

    Raises:
        ShapeError: Widths differ, nothing to rank, or `target` does not fit.
        NonFiniteError: An embedding or a score is not finite.
        ConfigError: A `k` below 1.

    Source:
        Chen et al. 2021, arXiv 2104.12671, section 4; with its ties counted against us unless asked otherwise.

    Example:
        >>> retrieval_metrics(torch.eye(2), torch.eye(2), ks=(1,))
        {'recall_at_1': 1.0, 'median_rank': 1.0, 'mean_rank': 1.0}
    """
    if ties == "published":
        return published_retrieval_metrics(queries, gallery, target=target, ks=ks, rule="mcn")
    return summary_of_ranks(retrieval_ranks(queries, gallery, target=target).cpu().numpy(), ks=ks)


def summary_of_ranks(ranks: Int[np.ndarray, " query"], *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recall at k, median and mean of ranks that were counted before.

    Args:
        ranks: (N,), from 1, N >= 1.
        ks: Places that still count as found, each at least 1.

    Returns:
        `recall_at_K` for each of `ks`, `median_rank` (the mean of the two middle ranks if N is even), `mean_rank`.

    Raises:
        ShapeError: No ranks.
        ConfigError: A `k` below 1.

    Source:
        Definitions.

    Example:
        >>> summary_of_ranks(np.array([1, 4]), ks=(1,))
        {'recall_at_1': 0.5, 'median_rank': 2.5, 'mean_rank': 2.5}
    """
    if len(ranks) == 0:
        raise ShapeError("recall needs at least one query, got 0")
    _check_ks(ks)
    recalls = {f"recall_at_{k}": float(np.mean(ranks <= k)) for k in ks}
    return {**recalls, "median_rank": float(np.median(ranks)), "mean_rank": float(np.mean(ranks))}


def published_retrieval_metrics(
    queries: Float[Tensor, "query width"],
    gallery: Float[Tensor, "candidate gallery_width"],
    *,
    target: Int[Tensor, " targets"] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    rule: Rule = "mcn",
    queries_total: int | None = None,
) -> dict[str, float]:
    """Retrieval metrics with the tie rule of a released program; only for reproducing its tables.

    Args:
        queries: (N, D), finite, N >= 1.
        gallery: (M, D), finite.
        target: (N,), row of the gallery that belongs to each query. None: row i belongs to query i.
        ks: Places that still count as found.
        rule: "mcn": every place of a tie counts as a hit of its own, divided by the queries. "mil_nce": the same,
            divided by the number of places. "averaged": the middle place of the tie; a middle of k + 1/2 still
            counts at k, except at 1. "optimistic": its first.
        queries_total: What hits are divided by instead of N, for tables that count queries that could not be asked
            (MSR-VTT: 1000, of which 968 have sound). Not with "mil_nce".

    Returns:
        `recall_at_K`, `median_rank`, `mean_rank`; the latter two over the places that the rule keeps.

    Raises:
        ShapeError: Widths differ, nothing to rank, or `target` does not fit.
        NonFiniteError: An embedding or a score is not finite. (The released programs go on and drop the query.)
        ConfigError: A `k` below 1, or `queries_total` below the queries.

    Source:
        Released metrics of MCN (arXiv 2104.12671) and AVLnet; MIL-NCE (arXiv 1912.06430); Everything at Once
        (arXiv 2112.04446), where the last two rules are called averaging and optimistically.

    Example:
        >>> published_retrieval_metrics(torch.ones(2, 1), torch.ones(2, 1), ks=(5,), rule="mcn")["recall_at_5"]
        2.0
    """
    _check_ks(ks)
    if queries_total is not None and (queries_total < len(queries) or rule == "mil_nce"):
        raise ConfigError(f"queries_total={queries_total} does not go with {len(queries)} queries and rule {rule!r}")
    found = _better_and_equal(queries, gallery, target, None)
    better, equal = (count.cpu().numpy() for count in found)
    total = len(better) if queries_total is None else queries_total
    if rule in ("averaged", "optimistic"):
        ranks = better + 1 if rule == "optimistic" else better + (equal + 1) / 2
        recalls = {f"recall_at_{k}": float(np.sum(ranks < k + 1 if k > 1 else ranks == 1) / total) for k in ks}
        return {**recalls, "median_rank": float(np.median(ranks)), "mean_rank": float(np.mean(ranks))}
    total = int(equal.sum()) if rule == "mil_nce" else total
    recalls = {f"recall_at_{k}": float(np.clip(k - better, 0, equal).sum() / total) for k in ks}
    return {**recalls, **_middle_of_places(better, equal)}


def same_label_share(
    queries: Float[Tensor, "query width"],
    gallery: Float[Tensor, "candidate gallery_width"],
    query_labels: Int[Tensor, " query_labels"],
    gallery_labels: Int[Tensor, " gallery_labels"],
) -> Float[Tensor, " query"]:
    """Probability that the best candidate of each query carries the query's label.

    Args:
        queries: (N, D), finite, N >= 1.
        gallery: (M, D), finite.
        query_labels: (N,), class numbers from 0.
        gallery_labels: (M,), class numbers; -1 for a candidate without a label, which is never right.

    Returns:
        (N,), float64, from 0 to 1. Among candidates that tie for the best, one is drawn at random, hence a share.

    Raises:
        ShapeError: Widths differ, nothing to rank, or labels do not fit.
        NonFiniteError: An embedding or a score is not finite.

    Source:
        Precision at 1 by class, as in metric learning (Musgrave et al. 2020, arXiv 2003.08505).

    Example:
        >>> same_label_share(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 0]))
        tensor([1., 0.], dtype=torch.float64)
    """
    if len(query_labels) != len(queries) or len(gallery_labels) != len(gallery):
        labels = f"{len(query_labels)} and {len(gallery_labels)} labels"
        raise ShapeError(f"{len(queries)} queries and {len(gallery)} candidates but {labels}")
    check_embeddings(queries, gallery)
    shares = []
    for rows, scores in score_blocks(queries, gallery, None):
        best = scores == scores.amax(dim=1, keepdim=True)
        same = query_labels[rows, None] == gallery_labels[None, :]
        shares.append((best & same).sum(dim=1).double() / best.sum(dim=1))
    return torch.cat(shares)


def _better_and_equal(
    queries: Tensor, gallery: Tensor, target: Tensor | None, block: int | None
) -> tuple[Tensor, Tensor]:
    """For each query, how many candidates score above its true match, and how many score the same, itself included."""
    if target is None:
        if len(queries) != len(gallery):
            raise ShapeError(f"{len(queries)} queries but {len(gallery)} candidates, and no target")
        target = torch.arange(len(queries), device=queries.device)
    _check_target(target, len(queries), len(gallery))
    check_embeddings(queries, gallery)
    distinct, column, copies = distinct_rows(gallery)
    weight = None if len(distinct) == len(gallery) else copies.to(torch.int32)
    better, equal = [], []
    for rows, scores in score_blocks(queries, distinct, block):
        true_score = scores.gather(1, column[target[rows], None])  # (block, 1)
        better.append(_count(scores > true_score, weight))
        equal.append(_count(scores == true_score, weight))
    return torch.cat(better), torch.cat(equal)


def _count(chosen: Tensor, weight: Tensor | None) -> Tensor:
    """Candidates that are chosen in each row, each as often as it occurs in the gallery."""
    if weight is None:
        return chosen.sum(dim=1)
    return torch.where(chosen, weight, torch.zeros_like(weight)).sum(dim=1)


def score_blocks(queries: Tensor, gallery: Tensor, block: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Dot products of some queries at a time with the whole gallery, in full precision."""
    if block is not None and block < 1:
        raise ConfigError(f"block must be at least 1, got {block}")
    step = block or max(1, SCORES_AT_ONCE // len(gallery))
    with torch.no_grad(), torch.autocast(device_type=queries.device.type, enabled=False):
        dtype = score_type(queries, gallery)
        columns = gallery.to(dtype).T
        for start in range(0, len(queries), step):
            scores = queries[start : start + step].to(dtype) @ columns
            check_scores(scores, first_query=start)
            yield slice(start, start + len(scores)), scores


def _middle_of_places(better: np.ndarray, equal: np.ndarray) -> dict[str, float]:
    """Median and mean over all places of all ties, from a histogram of places."""
    steps = np.zeros(int((better + equal).max()) + 1, dtype=np.int64)
    np.add.at(steps, better, 1)
    np.add.at(steps, better + equal, -1)
    up_to = np.cumsum(np.cumsum(steps))  # how many places lie at or before each
    total = int(up_to[-1])
    middle = [int(np.searchsorted(up_to, half)) + 1 for half in ((total - 1) // 2 + 1, total // 2 + 1)]
    mean = float((equal * (better + (equal + 1) / 2)).sum() / total)
    return {"median_rank": sum(middle) / 2, "mean_rank": mean}


def _check_ks(ks: Sequence[int]) -> None:
    """Recall at 0 means nothing."""
    if wrong := [k for k in ks if k < 1]:
        raise ConfigError(f"k of recall at k must be at least 1, got {wrong[0]}")


def _check_target(target: Tensor, queries: int, candidates: int) -> None:
    """Every query has one true match, and it is there."""
    if len(target) != queries:
        raise ShapeError(f"{queries} queries but {len(target)} targets")
    if queries == 0 or candidates == 0:
        raise ShapeError(f"retrieval needs at least one query and one candidate, got {queries} and {candidates}")
    low, high = int(target.min()), int(target.max())
    if low < 0 or high >= candidates:
        raise ShapeError(f"targets must lie between 0 and {candidates - 1}, got {low if low < 0 else high}")
