"""Ranks in both directions from one pass over tiles of scores: counted, never sorted, never all scores at once."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.metrics.vectors import check_embeddings, check_scores, first_equal_row, may_overflow, score_type

TILE_BYTES = {"cpu": 2**22, "cuda": 2**28}
"""Memory of one tile of scores by device: what stays in a core's cache, and what fills a GPU."""


class _Span(NamedTuple):
    """Rows of one side that a tile takes."""

    number: int
    start: int
    """First row that is multiplied; before `first` in the last span, so that all tiles have one shape."""
    first: int
    """First row that is counted."""
    stop: int


def ranks_both_ways(
    x: Float[Tensor, "x_row width"],
    y: Float[Tensor, "y_row y_width"],
    *,
    pairs: int | None = None,
    tile: int | None = None,
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Rank of each true match by dot product, when x asks among y and when y asks among x.

    Every tile of scores is counted by rows and by columns. A pair's own score is taken from the tile in which it
    lies, those tiles come first, and all have one shape: scores are compared with scores of the same arithmetic, and
    the ranks are those of the whole matrix. Copies of a true match tie with it exactly, whatever the arithmetic.

    Args:
        x: (N, D), finite. Half precision is widened to float32; float64 stays.
        y: (M, D), finite, on the same device.
        pairs: The first so many rows of both belong together, at least 1; the rest are candidates only. None: all
            do, and N = M.
        tile: Rows and columns of a tile. None: as many as `TILE_BYTES` holds.

    Returns:
        (pairs,) each, int64: ranks of y's rows for x, and of x's rows for y. From 1 (best) to M and to N; ties count
        against us.

    Raises:
        ShapeError: Widths differ, there are no pairs, or more than rows.
        NonFiniteError: An embedding or a score is not finite.
        ConfigError: `tile` below 1.

    Source:
        As `mcnlab.metrics.retrieval.ranks_of_true_match`.

    Example:
        >>> ranks_both_ways(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [1.0]]))
        (tensor([2, 2]), tensor([2, 1]))
    """
    pairs, side = _checked_pairs(x, y, pairs), _side_of_tile(x, y, tile)
    check_embeddings(x, y)
    overflow = may_overflow(x, y)
    same_x, same_y = (_copies(side, pairs) for side in (x, y))
    own = torch.empty(pairs, dtype=score_type(x, y), device=x.device)  # the score of each pair
    of_y, of_x = (torch.zeros(pairs, dtype=torch.int64, device=x.device) for _ in range(2))
    for rows, columns, scores in _tiles(x, y, side, pairs):
        if overflow:
            check_scores(scores, first_query=rows.first)
        if rows.number == columns.number:
            home = slice(rows.first, min(rows.stop, columns.stop, pairs))
            own[home] = scores.diagonal()[: home.stop - home.start]
        _count(of_y, scores, own, same_y, rows, columns)
        _count(of_x, scores.T, own, same_x, columns, rows)
    return of_y, of_x


def _count(ranks: Tensor, scores: Tensor, own: Tensor, same: Tensor | None, queries: _Span, candidates: _Span) -> None:
    """Add the candidates of one tile that score at least as well as the true match."""
    asked = slice(queries.first, min(queries.stop, len(ranks)))
    if asked.stop <= asked.start:
        return
    ahead = scores[: asked.stop - asked.start] >= own[asked, None]
    if same is not None:
        ahead |= same[asked, None] == same[None, candidates.first : candidates.stop]
    ranks[asked] += ahead.sum(dim=1, dtype=torch.int32)


def _tiles(x: Tensor, y: Tensor, side: int, pairs: int) -> Iterator[tuple[_Span, _Span, Tensor]]:
    """Tiles of scores in full precision, those with the pairs first; each is gone when the next one comes."""
    spans_x, spans_y, dtype = _spans(len(x), side), _spans(len(y), side), score_type(x, y)
    scores = torch.empty(min(side, len(x)), min(side, len(y)), dtype=dtype, device=x.device)
    home = [(a, b) for a, b in zip(spans_x, spans_y, strict=False) if a.first < pairs]
    other = [(a, b) for a in spans_x for b in spans_y if a.number != b.number and min(a.first, b.first) < pairs]
    with torch.no_grad(), torch.autocast(device_type=x.device.type, enabled=False):
        for rows, columns in (*home, *other):
            left, right = x[rows.start : rows.stop].to(dtype), y[columns.start : columns.stop].to(dtype)
            torch.mm(left, right.T, out=scores)
            yield rows, columns, scores[rows.first - rows.start :, columns.first - columns.start :]


def _spans(total: int, side: int) -> list[_Span]:
    """All rows in spans of one length; the last one reaches back over rows that were counted before."""
    length = min(side, total)
    ends = [(first, min(first + length, total)) for first in range(0, total, length)]
    return [_Span(number, stop - length, first, stop) for number, (first, stop) in enumerate(ends)]


def _copies(rows: Tensor, pairs: int) -> Tensor | None:
    """For each row the first one equal to it; None where no row of a pair has a copy."""
    first = first_equal_row(rows)
    counts = torch.bincount(first, minlength=len(rows))
    return first if bool((counts[first[:pairs]] > 1).any()) else None


def _checked_pairs(x: Tensor, y: Tensor, pairs: int | None) -> int:
    """How many rows belong together."""
    if pairs is None and len(x) != len(y):
        raise ShapeError(f"{len(x)} queries but {len(y)} candidates, and no target")
    pairs = len(x) if pairs is None else pairs
    if len(x) and len(y) and not 1 <= pairs <= min(len(x), len(y)):
        raise ShapeError(f"pairs must lie between 1 and {min(len(x), len(y))}, got {pairs}")
    return pairs


def _side_of_tile(x: Tensor, y: Tensor, tile: int | None) -> int:
    """Rows of a tile: what was asked for, or what memory allows."""
    if tile is not None and tile < 1:
        raise ConfigError(f"tile must be at least 1, got {tile}")
    if tile is not None:
        return tile
    most = math.isqrt(TILE_BYTES.get(x.device.type, TILE_BYTES["cpu"]) // score_type(x, y).itemsize)
    longest = max(len(x), len(y), 1)
    even = math.ceil(longest / math.ceil(longest / most))  # no short last tile, which would score rows twice
    return min(most, -16 * (-even // 16))
