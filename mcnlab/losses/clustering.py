"""The clustering term's arithmetic: contrast against centroids, k-means in both modes, the queue of past rows."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mcnlab.errors import NonFiniteError, ShapeError
from mcnlab.numerics import l2_normalize


def centroid_contrast(
    embeddings: Float[Tensor, "rows dim"],
    centroids: Float[Tensor, "clusters dim"],
    assignment: Int[Tensor, " assigned"],
    *,
    margin: float = 0.001,
    temperature: float | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of every row against the centroids, its own centroid being right.

    Args:
        embeddings: (rows, dim), at least one row.
        centroids: (clusters, dim). They carry no gradient.
        assignment: (rows,), int64, from 0 to clusters - 1. Own centroid of each row.
        margin: taken off the score of the own centroid, at least 0.
        temperature: divides cosine scores; None compares raw dot products, as published.

    Returns:
        Mean loss in nats, at least 0 for margin 0.

    Raises:
        ShapeError: `assignment` has not one entry per row, or margin or temperature are out of range.

    Source: MCN (Chen et al., 2021), arXiv 2104.12671, equation 4, as in the released `cluster_contrast`. Difference:
    with a temperature, unit rows and centroids in float32 (ours, the sound mode).
    """
    if len(assignment) != len(embeddings):
        raise ShapeError(f"{len(embeddings)} rows but {len(assignment)} assignments")
    if margin < 0:
        raise ShapeError(f"margin must not be negative, got {margin}")
    if temperature is not None and temperature <= 0:
        raise ShapeError(f"temperature must be positive, got {temperature}")
    fixed = centroids.detach()
    if temperature is None:
        scores = embeddings @ fixed.to(embeddings.dtype).T  # (rows, clusters)
        scale = 1.0
    else:
        with torch.autocast(embeddings.device.type, enabled=False):
            scores = l2_normalize(embeddings) @ l2_normalize(fixed).to(l2_normalize(embeddings).dtype).T
        scale = temperature
    own = functional.one_hot(assignment, len(centroids)).to(scores.dtype)  # (rows, clusters)
    return functional.cross_entropy((scores - margin * own) / scale, assignment)


def assign_to_centroids(
    rows: Float[Tensor, "rows dim"], centroids: Float[Tensor, "clusters dim"]
) -> Int[Tensor, " rows"]:
    """The centroid with the largest cosine to each row; the first wins a tie, a zero centroid is never chosen over
    a positive cosine.

    Args:
        rows: (rows, dim).
        centroids: (clusters, dim).

    Returns:
        (rows,), int64.
    """
    return cosine_scores(rows, centroids).argmax(dim=1)


def cosine_scores(
    rows: Float[Tensor, "rows dim"], centroids: Float[Tensor, "clusters dim"]
) -> Float[Tensor, "rows clusters"]:
    """Cosine of every row with every centroid, in the dtype of the rows, as the published k-means computes it."""
    return functional.normalize(rows, dim=1) @ functional.normalize(centroids.to(rows.dtype), dim=1).T


class KMeansFit(NamedTuple):
    """What k-means ends with."""

    centroids: Float[Tensor, "clusters dim"]
    """Arithmetic means of their rows."""
    assignment: Int[Tensor, " rows"]
    """Own centroid of each row, from before the last update, as published."""
    rounds: int
    """Updates that were made."""


def faithful_kmeans(
    rows: Float[Tensor, "rows dim"],
    start: Float[Tensor, "clusters dim"],
    *,
    max_rounds: int = 100,
    tolerance: float = 1e-4,
) -> KMeansFit:
    """K-means as published: cosine assignment, arithmetic-mean centroids of raw rows, in the dtype of the rows.

    An empty cluster becomes the zero vector. In half precision the sum of many rows overflows; that is kept, since it
    is the reported fault.

    Args:
        rows: (rows, dim), any float dtype.
        start: (clusters, dim). First centroids.
        max_rounds: most updates.
        tolerance: stop once the summed squared change of the centroids is at most this.

    Returns:
        The fit.

    Source: fast-pytorch-kmeans 0.1.6 (2021), which MCN's release used.
    """
    centroids = start.to(rows.dtype)
    assignment = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for done in range(1, max_rounds + 1):
        assignment = assign_to_centroids(rows, centroids)
        members = functional.one_hot(assignment, len(centroids)).to(rows.dtype).T  # (clusters, rows)
        counts = members.sum(dim=1)[:, None]
        means = torch.where(counts > 0, (members @ rows) / counts, 0)
        change = (means - centroids).square().sum()
        centroids = means
        if change <= tolerance:
            return KMeansFit(centroids, assignment, done)
    return KMeansFit(centroids, assignment, max_rounds)


def sound_kmeans(
    rows: Float[Tensor, "rows dim"],
    start: Float[Tensor, "clusters dim"],
    *,
    max_rounds: int = 10,
    tolerance: float = 1e-4,
) -> KMeansFit:
    """Spherical k-means in float32 whose clusters are never empty.

    Rows are scaled to unit length first, so no sum can overflow. A cluster that loses all its rows moves to the row
    that is farthest from its own centroid.

    Args:
        rows: (rows, dim), at least as many as clusters.
        start: (clusters, dim). First centroids.
        max_rounds: most updates; warm-started fits need few.
        tolerance: stop once the summed squared change of the centroids is at most this.

    Returns:
        The fit; centroids are means of unit rows, so their length is at most 1.

    Raises:
        ShapeError: fewer rows than clusters.
        NonFiniteError: a centroid is not finite; it names the cluster.
    """
    if len(rows) < len(start):
        raise ShapeError(
            f"k-means needs at least as many rows as clusters, got {len(rows)} rows, {len(start)} clusters"
        )
    unit = l2_normalize(rows)  # (rows, dim)
    centroids = start.to(unit.dtype)
    assignment = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    rounds, change = 0, math.inf
    while rounds < max_rounds and change > tolerance:
        scores = unit @ l2_normalize(centroids).T  # (rows, clusters)
        best, assignment = scores.max(dim=1)
        means = _refilled(unit, assignment, best, clusters=len(start))
        change = float((means - centroids).square().sum())
        centroids, rounds = means, rounds + 1
    broken = (~centroids.isfinite()).any(dim=1).nonzero().flatten()
    if len(broken):
        raise NonFiniteError(f"cluster {int(broken[0])}: its centroid is not finite")
    return KMeansFit(centroids, assignment, rounds)


def _refilled(unit: Tensor, assignment: Tensor, best: Tensor, *, clusters: int) -> Tensor:
    """Mean row of every cluster; an empty cluster gets the row worst served by its centroid, each row once."""
    counts = torch.bincount(assignment, minlength=clusters)  # (clusters,)
    sums = unit.new_zeros(clusters, unit.shape[1]).index_add_(0, assignment, unit)
    means = sums / counts.clamp_min(1)[:, None]
    empty = (counts == 0).nonzero().flatten()
    worst = best.argsort(stable=True)[: len(empty)]
    return means.index_copy(0, empty, unit[worst])


def start_centroids(
    rows: Float[Tensor, "rows dim"], clusters: int, *, generator: torch.Generator
) -> Float[Tensor, "clusters dim"]:
    """Different rows, drawn at random, as first centroids.

    Args:
        rows: (rows, dim), at least as many as clusters.
        clusters: how many to draw.
        generator: source of the draw.

    Returns:
        (clusters, dim).
    """
    return rows[torch.randperm(len(rows), generator=generator)[:clusters].to(rows.device)].clone()


def push_rows(queue: Float[Tensor, "slots dim"], rows: Float[Tensor, "new dim"]) -> Float[Tensor, "slots dim"]:
    """The queue with new rows at its front; the oldest ones fall off its end.

    Args:
        queue: (slots, dim), newest first.
        rows: (new, dim), at most as many as slots.

    Returns:
        (slots, dim).

    Source: `update_queue` of MCN's release (2021).
    """
    return torch.cat([rows[: len(queue)].to(queue.dtype), queue])[: len(queue)]
