"""Which clip comes first for which query, from the embeddings that a run has kept."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mcnlab.errors import DataError

EXTREMES = ("best", "median", "worst")
"""Queries that are shown of a direction, by the rank of their right clip."""


@dataclass(frozen=True)
class Asked:
    """All queries of one direction."""

    places: Int[np.ndarray, " queries"]
    """Which clips were asked: those that have both sides."""
    scores: Float[np.ndarray, "queries clips"]
    """Cosine of each query with every clip; -inf where a clip lacks the side."""
    ranks: Int[np.ndarray, " queries"]
    """Place of the right clip, 1 being best; ties count against it."""

    def found(self, row: int, *, shown: int) -> np.ndarray:
        """The clips that come first for a query."""
        return np.argsort(-self.scores[row], kind="stable")[:shown]

    def extremes(self) -> dict[str, int]:
        """Rows of the best, the median and the worst query; among equal ranks the margin to the next clip decides.

        Returns:
            `EXTREMES` to rows; without entries when nothing was asked.
        """
        if not len(self.places):
            return {}
        others = self.scores.copy()
        others[np.arange(len(self.places)), self.places] = -np.inf
        right = self.scores[np.arange(len(self.places)), self.places]
        by_ease = np.lexsort((-(right - others.max(axis=1)), self.ranks))
        rows = (by_ease[0], by_ease[(len(by_ease) - 1) // 2], by_ease[-1])
        return {name: int(row) for name, row in zip(EXTREMES, rows, strict=True)}


def asked(query: Float[np.ndarray, "clips dim"], gallery: Float[np.ndarray, "clips dim"]) -> Asked:
    """Ask with every clip that has both sides.

    Args:
        query: embeddings of one side; NaN where a clip lacks it.
        gallery: of the other.

    Returns:
        Scores and ranks.
    """
    known = np.isfinite(gallery).all(axis=1)
    places = np.flatnonzero(np.isfinite(query).all(axis=1) & known)
    scores = np.where(known, np.nan_to_num(query[places]) @ np.nan_to_num(gallery).T, -np.inf)
    ranks = (scores >= scores[np.arange(len(places)), places][:, None]).sum(axis=1)
    return Asked(places, scores, ranks)


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
