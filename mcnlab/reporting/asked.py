"""Which clip comes first for which query, from the embeddings that a run has kept."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mcnlab.errors import DataError

EXTREMES = ("best", "median", "worst")
"""Queries that are shown of a direction, by the rank of their right clip."""


AT_ONCE = 512
"""Queries that are scored together: memory grows with the clips, not with their square."""


@dataclass(frozen=True)
class Asked:
    """Queries of one direction, and where their right clips came."""

    places: Int[np.ndarray, " queries"]
    """Which clips were asked: those that have both sides."""
    ranks: Int[np.ndarray, " queries"]
    """Place of the right clip, 1 being best; ties count against it."""
    margins: Float[np.ndarray, " queries"]
    """Score of the right clip above that of the best other one."""
    query: Float[np.ndarray, "queries dim"]
    gallery: Float[np.ndarray, "clips dim"]

    def scores(self, row: int) -> Float[np.ndarray, " clips"]:
        """Cosine of a query with every clip; -inf where a clip lacks the side."""
        return _scores(self.query[row : row + 1], self.gallery)[0]

    def found(self, row: int, *, shown: int) -> Int[np.ndarray, " shown"]:
        """The clips that come first for a query."""
        return np.argsort(-self.scores(row), kind="stable")[:shown]

    def extremes(self) -> dict[str, int]:
        """Rows of the best, the median and the worst query; among equal ranks the margin decides.

        Returns:
            `EXTREMES` to rows; without entries when nothing was asked.
        """
        if not len(self.places):
            return {}
        by_ease = np.lexsort((-self.margins, self.ranks))
        rows = (by_ease[0], by_ease[(len(by_ease) - 1) // 2], by_ease[-1])
        return {name: int(row) for name, row in zip(EXTREMES, rows, strict=True)}


def asked(
    query: Float[np.ndarray, "clips dim"], gallery: Float[np.ndarray, "clips dim"], *, most: int | None = None
) -> Asked:
    """Ask with every clip that has both sides.

    Args:
        query: embeddings of one side; NaN where a clip lacks it.
        gallery: of the other.
        most: queries at most, evenly spread over the clips; all when None.

    Returns:
        Ranks and margins.
    """
    places = np.flatnonzero(np.isfinite(query).all(axis=1) & np.isfinite(gallery).all(axis=1))
    if most is not None and len(places) > most:
        places = places[np.linspace(0, len(places) - 1, most).round().astype(int)]
    ranks, margins = np.zeros(len(places), int), np.zeros(len(places), np.float32)
    for start in range(0, len(places), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        scores, own = _scores(query[places[rows]], gallery), places[rows]
        right = scores[np.arange(len(own)), own]
        ranks[rows] = (scores >= right[:, None]).sum(axis=1)
        scores[np.arange(len(own)), own] = -np.inf
        margins[rows] = right - scores.max(axis=1)
    return Asked(places, ranks, margins, query[places], gallery)


def _scores(
    query: Float[np.ndarray, "queries dim"], gallery: Float[np.ndarray, "clips dim"]
) -> Float[np.ndarray, "queries clips"]:
    """Cosines; -inf for clips that lack the side."""
    return np.where(np.isfinite(gallery).all(axis=1), query @ np.nan_to_num(gallery).T, -np.inf)


def compared_embeddings(
    embeddings: Mapping[str, np.ndarray], direction: str, *, space: str | None = None
) -> tuple[Float[np.ndarray, "clips dim"], Float[np.ndarray, "clips dim"]]:
    """The two sides of a direction, in the space where they can be compared.

    Args:
        embeddings: as a run has them.
        direction: from one modality to another.
        space: where they meet; a modality that lives in one space alone goes without its name. None: any space whose
            name both have, or the only one.

    Returns:
        Query and gallery, float32.

    Raises:
        DataError: there is no such space.
    """
    query, _, gallery = direction.partition("->")
    if space is not None:
        sides = [embeddings.get(f"{side}@{space}", embeddings.get(side)) for side in (query, gallery)]
        if sides[0] is not None and sides[1] is not None and sides[0].shape == sides[1].shape:
            return sides[0].astype(np.float32), sides[1].astype(np.float32)
    spaces = [name.split("@")[1] for name in embeddings if name.startswith(f"{query}@")]
    common = [f"@{space}" for space in spaces if f"{gallery}@{space}" in embeddings]
    for ending in [*common, ""]:
        first, second = embeddings.get(query + ending), embeddings.get(gallery + ending)
        if first is not None and second is not None and first.shape == second.shape and (ending or not spaces):
            return first.astype(np.float32), second.astype(np.float32)
    raise DataError(f"{direction}: no space where both were embedded; there are {', '.join(embeddings)}")
