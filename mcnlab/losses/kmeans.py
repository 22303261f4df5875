"""K-means of the clustering term in both modes: rows are read where they lie, and scored again only where need be."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mcnlab.errors import NonFiniteError, ShapeError
from mcnlab.numerics import l2_normalize

BLOCK_ROWS = 8192
"""Rows scored or summed at a time, which bounds what is copied."""
MOSTLY = 0.5
"""Share of rows from which all of them are taken, which needs no copy."""
SLACK = 32
"""Rounding errors of a dtype by which two scores must differ to count as different."""

Rows = Float[Tensor, "_ dim"] | Sequence[Float[Tensor, "_ dim"]]
"""Rows in one piece or in several, in order."""


class KMeansFit(NamedTuple):
    """What k-means ends with."""

    centroids: Float[Tensor, "clusters dim"]
    """Arithmetic means of their rows."""
    assignment: Int[Tensor, " rows"]
    """Own centroid of each row, from before the last update, as published."""
    rounds: int
    """Updates that were made."""


def _as_it_is(x: Tensor) -> Tensor:
    """The sum over one holder of rows."""
    return x


@dataclass(frozen=True)
class Share:
    """Which of all rows the caller holds, where several hold different ones and must end with the same centroids."""

    first: int = 0
    """Place of the first held row among all."""
    total: int | None = None
    """Number of all rows; None: those that the caller holds."""
    reduce: Callable[[Tensor], Tensor] = _as_it_is
    """A tensor → its sum over all holders, the same bits for each."""


ALL_ROWS = Share()
"""The caller holds every row."""


def faithful_kmeans(
    rows: Rows,
    start: Float[Tensor, "clusters dim"],
    *,
    max_rounds: int = 100,
    tolerance: float = 1e-4,
    dtype: torch.dtype | None = None,
    share: Share = ALL_ROWS,
) -> KMeansFit:
    """K-means as published: cosine assignment, arithmetic-mean centroids of raw rows, in the dtype of the rows.

    An empty cluster becomes the zero vector. In half precision the sum of many rows overflows; that is kept, since it
    is the reported fault. As in a matmul, the sum is added up in float32 and overflows when it is written down.

    Args:
        rows: (rows, dim), any float dtype.
        start: (clusters, dim). First centroids.
        max_rounds: most updates.
        tolerance: stop once the summed squared change of the centroids is at most this.
        dtype: what to compute in, where the rows are kept in a wider type; None: that of the rows.
        share: which of all rows these are.

    Returns:
        The fit; the assignment of the held rows.

    Source: fast-pytorch-kmeans 0.1.6 (2021), which MCN's release used. Difference: rows whose centroid cannot have
    changed are not scored again, and clusters without a coming or going row are not summed again; float32 and wider
    compare x·c/|c| instead of x/|x|·c/|c|, which has the same largest entry.
    """
    parts = _parts(rows)
    dtype = parts[0].dtype if dtype is None else dtype
    centroids = start.to(dtype)
    own, sums = OwnCentroids(parts, dtype=dtype), ClusterSums(parts, clusters=len(start))
    for done in range(1, max_rounds + 1):
        assignment = own.update(functional.normalize(centroids, dim=1))
        counts = share.reduce(_counts(assignment, len(start))).to(dtype)[:, None]
        total = share.reduce(sums.update(assignment)).to(dtype)
        means = torch.where(counts > 0, total / counts, 0)
        change = (means - centroids).square().sum()
        centroids = means
        if change <= tolerance:
            return KMeansFit(centroids, assignment, done)
    return KMeansFit(centroids, assignment, max_rounds)


def unit_kmeans(
    rows: Rows,
    start: Float[Tensor, "clusters dim"],
    *,
    max_rounds: int = 10,
    tolerance: float = 1e-4,
    share: Share = ALL_ROWS,
) -> KMeansFit:
    """Spherical k-means in float32 whose clusters are never empty.

    A cluster that loses all its rows moves to the row that is farthest from its own centroid.

    Args:
        rows: (rows, dim), in all at least as many as clusters, of unit length as `l2_normalize` gives them, so that no
            sum overflows; they are not copied.
        start: (clusters, dim). First centroids.
        max_rounds: most updates; warm-started fits need few.
        tolerance: stop once the summed squared change of the centroids is at most this.
        share: which of all rows these are.

    Returns:
        The fit; centroids are means of unit rows, so their length is at most 1; the assignment of the held rows.

    Raises:
        ShapeError: fewer rows than clusters.
        NonFiniteError: a centroid is not finite; it names the cluster.
    """
    parts, clusters = _parts(rows), len(start)
    total_rows = sum(map(len, parts)) if share.total is None else share.total
    if total_rows < clusters:
        raise ShapeError(f"k-means needs at least as many rows as clusters, got {total_rows} rows, {clusters} clusters")
    centroids, assignment = start.to(parts[0].dtype), torch.zeros(0, dtype=torch.int64, device=start.device)
    own, sums = OwnCentroids(parts, dtype=centroids.dtype, unit_rows=True), ClusterSums(parts, clusters=clusters)
    rounds, change = 0, math.inf
    while rounds < max_rounds and change > tolerance:
        directions = l2_normalize(centroids)
        assignment = own.update(directions)
        counts = share.reduce(_counts(assignment, clusters))
        means = share.reduce(sums.update(assignment)) / counts.clamp_min(1)[:, None].to(centroids.dtype)
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            worst = _worst_served(parts, own.exact_scores(directions), len(empty), total=total_rows, share=share)
            means = means.index_copy(0, empty, worst)
        change = float((means - centroids).square().sum())
        centroids, rounds = means, rounds + 1
    broken = (~centroids.isfinite()).any(dim=1).nonzero().flatten()
    if len(broken):
        raise NonFiniteError(f"cluster {int(broken[0])}: its centroid is not finite")
    return KMeansFit(centroids, assignment, rounds)


class OwnCentroids:
    """The centroid with the largest cosine to each row; the first wins a tie, and NaN wins over everything.

    A centroid that turns by a vector of length δ changes no cosine by more than δ. So every row keeps an upper bound
    of its cosine with each other centroid and a lower one with its own, as Elkan (2003) does with distances, and is
    scored again only when they meet.

    Args:
        rows: (rows, dim), in pieces, float32 or wider unless `dtype` is narrower.
        dtype: what cosines are computed in.
        unit_rows: the rows have unit length, or less.
    """

    def __init__(self, rows: Sequence[Float[Tensor, "_ dim"]], *, dtype: torch.dtype, unit_rows: bool = False) -> None:
        self.rows, self.dtype = rows, dtype
        self.narrow = torch.finfo(dtype).bits < 32
        self.lengths = None if unit_rows or self.narrow else [_lengths(part) for part in rows]
        self.slack = SLACK * torch.finfo(dtype).eps
        self.directions: Tensor | None = None

    def update(self, directions: Float[Tensor, "clusters dim"]) -> Int[Tensor, " rows"]:
        """Own centroid of every row.

        Args:
            directions: (clusters, dim), unit or zero vectors, in the dtype of the cosines.
        """
        if self.directions is None:
            self._score_all(directions)
        else:
            turn = (directions - self.directions).to(self.others.dtype).norm(dim=1)  # (clusters,)
            self.directions = directions
            self.others += turn
            self.own -= turn[self.assignment]
            self._score(~(self.others.amax(dim=1) + self.slack < self.own), directions)
        return self.assignment.clone()

    def exact_scores(self, directions: Float[Tensor, "clusters dim"]) -> Float[Tensor, " rows"]:
        """Cosine of every row with its own centroid, after an update with the same directions."""
        if not self.exact:
            self._score_all(directions)
        return self.own

    def _score_all(self, directions: Tensor) -> None:
        """Score every row."""
        total, kind = sum(map(len, self.rows)), torch.promote_types(self.dtype, torch.float32)
        self.directions = directions
        self.others = directions.new_empty(total, len(directions), dtype=kind)
        self.own = directions.new_empty(total, dtype=kind)
        self.assignment = torch.zeros(total, dtype=torch.int64, device=directions.device)
        self._score(None, directions)

    def _score(self, stale: Bool[Tensor, " rows"] | None, directions: Tensor) -> None:
        """Score the stale rows, or all."""
        self.exact = stale is None or bool(stale.float().mean() > MOSTLY)
        for number, places, block, target in _blocks(self.rows, None if self.exact else stale):
            scores = self._cosines(number, places, block, directions)
            best, assignment = scores.max(dim=1)
            self.own[target], self.assignment[target] = best, assignment
            self.others[target] = scores.scatter_(1, assignment[:, None], -torch.inf)

    def _cosines(self, number: int, places: slice | Tensor, block: Tensor, directions: Tensor) -> Tensor:
        """Cosines of some rows of a piece with all centroids."""
        if self.narrow:
            return (functional.normalize(block.to(self.dtype), dim=1) @ directions.T).float()
        scores = block.to(self.dtype) @ directions.T
        return scores if self.lengths is None else scores.div_(self.lengths[number][places][:, None])


class ClusterSums:
    """Sum of the rows of every cluster, in float32 or wider; only clusters whose rows changed are summed again.

    Rows are added in their order, so that the sum does not depend on what was known before.

    Args:
        rows: (rows, dim), in pieces.
        clusters: how many.
    """

    def __init__(self, rows: Sequence[Float[Tensor, "_ dim"]], *, clusters: int) -> None:
        self.rows = rows
        wide = torch.promote_types(rows[0].dtype, torch.float32)
        self.sums = rows[0].new_zeros(clusters, rows[0].shape[1], dtype=wide)
        self.assignment: Tensor | None = None

    def update(self, assignment: Int[Tensor, " rows"]) -> Float[Tensor, "clusters dim"]:
        """(clusters, dim), zero for a cluster without rows; to be read, not changed."""
        touched = self._touched(assignment)
        stale = touched[assignment]
        everything = bool(stale.float().mean() > MOSTLY)
        self.sums[slice(None) if everything else touched] = 0
        for _, _, block, target in _blocks(self.rows, None if everything else stale):
            self.sums.index_add_(0, assignment[target], block.to(self.sums.dtype))
        self.assignment = assignment
        return self.sums

    def _touched(self, assignment: Tensor) -> Tensor:
        """Clusters that some row joined or left."""
        touched = torch.zeros(len(self.sums), dtype=torch.bool, device=assignment.device)
        if self.assignment is None:
            return ~touched
        moved = assignment != self.assignment
        touched[assignment[moved]] = True
        touched[self.assignment[moved]] = True
        return touched


def _blocks(
    rows: Sequence[Tensor], chosen: Tensor | None
) -> Iterator[tuple[int, slice | Tensor, Tensor, slice | Tensor]]:
    """Chosen rows, or all, in blocks: number of the piece, places in it, the rows, places among all pieces."""
    offset = 0
    for number, part in enumerate(rows):
        places: Tensor | None = None if chosen is None else chosen[offset : offset + len(part)].nonzero().flatten()
        for first in range(0, len(part) if places is None else len(places), BLOCK_ROWS):
            if places is None:
                window = slice(first, min(first + BLOCK_ROWS, len(part)))
                yield number, window, part[window], slice(offset + window.start, offset + window.stop)
            else:
                some = places[first : first + BLOCK_ROWS]
                yield number, some, part[some], some + offset
        offset += len(part)


def rows_at(rows: Sequence[Float[Tensor, "_ dim"]], places: Int[Tensor, " places"]) -> Float[Tensor, "places dim"]:
    """Rows of several pieces by their places among all of them; zeros for places outside."""
    found = rows[0].new_zeros(len(places), rows[0].shape[1])
    offset = 0
    for part in rows:
        here = ((places >= offset) & (places < offset + len(part))).nonzero().flatten()
        found[here] = part[places[here] - offset].to(found.dtype)
        offset += len(part)
    return found


def _worst_served(rows: Sequence[Tensor], scores: Tensor, count: int, *, total: int, share: Share) -> Tensor:
    """The rows with the smallest scores among those of all holders, each once."""
    everywhere = scores.new_zeros(total)
    everywhere[share.first : share.first + len(scores)] = scores
    places = share.reduce(everywhere).argsort(stable=True)[:count] - share.first
    return share.reduce(rows_at(rows, places))


def _parts(rows: Rows) -> list[Tensor]:
    """The rows in pieces that are not empty; one empty piece where there are none."""
    pieces = [rows] if isinstance(rows, Tensor) else list(rows)
    return [piece for piece in pieces if len(piece)] or pieces[:1]


def _lengths(rows: Tensor) -> Tensor:
    """Length of every row, at least what `normalize` divides by."""
    return rows.norm(dim=1).clamp_min(1e-12)


def _counts(assignment: Tensor, clusters: int) -> Tensor:
    """Rows of every cluster, as float64, which every kind of reduction takes."""
    return torch.bincount(assignment, minlength=clusters).double()
