"""Rows of embeddings as every retrieval needs them: refused where not finite, known where equal. In little memory."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcnlab.errors import NonFiniteError, ShapeError

NUMBERS_AT_ONCE = 2**19
"""Numbers of embeddings looked at at a time (4 MiB in the widest copy)."""


def check_embeddings(queries: Tensor, gallery: Tensor) -> None:
    """Both sides live in one space, and every number is finite.

    Args:
        queries: (N, D).
        gallery: (M, D).

    Raises:
        ShapeError: widths differ, or there is nothing to rank.
        NonFiniteError: an embedding is not finite.
    """
    if queries.shape[1] != gallery.shape[1]:
        raise ShapeError(f"queries are {queries.shape[1]} wide but the gallery is {gallery.shape[1]} wide")
    if len(queries) == 0 or len(gallery) == 0:
        raise ShapeError(f"retrieval needs at least one query and one candidate, got {len(queries)} and {len(gallery)}")
    for name, embeddings in (("query", queries), ("candidate", gallery)):
        bad = _by_parts(embeddings, lambda part: ~part.isfinite().all(dim=1), torch.bool).nonzero()
        if len(bad):
            share = f"{len(bad)} of {len(embeddings)} {name} embeddings"
            raise NonFiniteError(f"{share} are not finite, first in row {int(bad[0])}")


def may_overflow(queries: Float[Tensor, "query width"], gallery: Float[Tensor, "candidate width"]) -> bool:
    """Whether a dot product, or a part of its sum, could be larger than its type can hold.

    Args:
        queries: (N, D), finite.
        gallery: (M, D), finite.

    Returns:
        False where no score can be infinite or NaN, because every partial sum is at most the product of two lengths.
    """
    largest = (max(float(part.double().norm(dim=1).max()) for _, part in _parts(side)) for side in (queries, gallery))
    first, second = largest
    return first * second >= 0.5 * torch.finfo(score_type(queries, gallery)).max


def check_scores(scores: Tensor, *, first_query: int) -> None:
    """A NaN would silently count as a miss of the others and a hit of ours."""
    bad = scores.isnan().any(dim=1).nonzero()
    if len(bad):
        raise NonFiniteError(f"query {first_query + int(bad[0])} has a similarity that is NaN")


def score_type(queries: Tensor, gallery: Tensor) -> torch.dtype:
    """Type of the scores: half precision is widened to float32, float64 stays."""
    return torch.promote_types(torch.promote_types(queries.dtype, gallery.dtype), torch.float32)


def first_equal_row(rows: Float[Tensor, "row width"]) -> Int[Tensor, " row"]:
    """For each row the number of the first row that holds the same numbers; its own where there is none before it.

    Rows are compared by a sum of their bits under random weights, and then, where those agree, number by number.

    Args:
        rows: (N, D), finite. Zeros are equal whatever their sign.

    Returns:
        (N,), int64.

    Example:
        >>> first_equal_row(torch.tensor([[1.0], [2.0], [1.0]]))
        tensor([0, 1, 0])
    """
    with torch.no_grad(), torch.autocast(device_type=rows.device.type, enabled=False):
        sums = _by_parts(rows, _sums_of_bits, torch.int64)
        first = _first_of_equal(sums)
        later = (first != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        if all(bool((rows[some] == rows[first[some]]).all()) for _, some in _parts(later, width=rows.shape[1])):
            return first
        return _first_of_equal(torch.unique(rows.detach(), dim=0, return_inverse=True)[1])


def distinct_rows(gallery: Float[Tensor, "row width"]) -> tuple[Tensor, Tensor, Tensor]:
    """Each different row once, where every row went, and how often each occurs.

    Args:
        gallery: (M, D), finite.

    Returns:
        (d, D), in the order of their first occurrence, the very gallery where all rows differ; (M,), a row of those
        for each candidate; (d,), counts.
    """
    kept, place, copies = torch.unique(first_equal_row(gallery), return_inverse=True, return_counts=True)
    return gallery if len(kept) == len(gallery) else gallery.detach()[kept], place, copies


def _sums_of_bits(rows: Tensor) -> Tensor:
    """(N,) int64, equal for equal rows and hardly ever for others."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32)) + 0.0  # -0.0 becomes 0.0
    bits = wide.contiguous().view(torch.int64 if wide.dtype == torch.float64 else torch.int32)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator) * 2 + 1
    return (bits * weights.to(rows.device)).sum(dim=1)


def _first_of_equal(values: Tensor) -> Tensor:
    """For each value the place where it occurs first."""
    known, group = torch.unique(values, return_inverse=True)
    places = torch.arange(len(values), device=values.device)
    first = torch.full((len(known),), len(values), device=values.device).scatter_reduce_(0, group, places, "amin")
    return first[group]


def _by_parts(rows: Tensor, number_of: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
    """(N,): one number per row. Written in place: small results among large ones would keep memory in use."""
    found = torch.empty(len(rows), dtype=dtype, device=rows.device)
    for start, part in _parts(rows):
        found[start : start + len(part)] = number_of(part)
    return found


def _parts(rows: Tensor, *, width: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """Some rows at a time with the number of the first of them; `width`: numbers that each row stands for."""
    step = max(1, NUMBERS_AT_ONCE // max(1, rows.shape[1] if width is None else width))
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step]
