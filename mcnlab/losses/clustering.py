"""The clustering term's arithmetic: contrast against centroids, first centroids, the ring of past rows."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mcnlab.errors import ShapeError
from mcnlab.losses.kmeans import rows_at
from mcnlab.numerics import l2_normalize

NO_CENTROID = -1
"""Assignment of a row that takes no part."""


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
        assignment: (rows,), int64, from 0 to clusters - 1. Own centroid of each row; -1: the row takes no part.
        margin: taken off the score of the own centroid, at least 0.
        temperature: divides cosine scores; None compares raw dot products, as published.

    Returns:
        Mean loss in nats over the rows that take part, at least 0 for margin 0; NaN when none does.

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
    own = torch.zeros_like(scores).scatter_(1, assignment.clamp_min(0)[:, None], margin)  # (rows, clusters)
    return functional.cross_entropy((scores - own) / scale, assignment, ignore_index=NO_CENTROID)


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


def start_centroids(
    rows: Sequence[Float[Tensor, "_ dim"]], clusters: int, *, generator: torch.Generator
) -> Float[Tensor, "clusters dim"]:
    """Different rows, drawn at random, as first centroids.

    Args:
        rows: (rows, dim), in pieces, together at least as many as clusters.
        clusters: how many to draw.
        generator: source of the draw.

    Returns:
        (clusters, dim).
    """
    drawn = torch.randperm(sum(map(len, rows)), generator=generator)[:clusters]
    return rows_at(rows, drawn.to(rows[0].device))


def push_rows(queue: Float[Tensor, "slots dim"], rows: Float[Tensor, "new dim"], *, first: int) -> int:
    """Write rows over the oldest ones of a ring, in place.

    Args:
        queue: (slots, dim). Read from slot `first` on and around its end, it is newest first.
        rows: (new, dim). Of more than there are slots the first ones are taken.
        first: slot of the newest row.

    Returns:
        Slot of the newest row after that.

    Source: `update_queue` of MCN's release (2021), which moves all rows instead.
    """
    new = rows[: len(queue)]
    if not len(new):
        return first
    first = (first - len(new)) % len(queue)
    until_end = min(len(new), len(queue) - first)
    queue[first : first + until_end] = new[:until_end]
    queue[: len(new) - until_end] = new[until_end:]
    return first


def newest_rows(queue: Float[Tensor, "slots dim"], count: int, *, first: int) -> list[Float[Tensor, "_ dim"]]:
    """The newest rows of a ring, newest first, where they lie.

    Args:
        queue: (slots, dim).
        count: how many, at most as many as slots.
        first: slot of the newest row.

    Returns:
        Two views, of which one or both may be empty.
    """
    end = first + count
    return [queue[first:end], queue[: max(0, end - len(queue))]]
