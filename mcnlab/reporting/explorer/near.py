"""What is near a clip, or near a question, in the spaces of one run."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mcnlab.errors import DataError
from mcnlab.modalities import in_order
from mcnlab.reporting.examples import meeting_space
from mcnlab.reporting.explorer.data import ALL_MODALITIES
from mcnlab.reporting.explorer_neighbors import Arrays, neighbors_elsewhere, top_clips
from mcnlab.reporting.maps import JOINT
from mcnlab.runs import RunFolder


@dataclass(frozen=True)
class Near:
    """The clips that come first for one clip or question."""

    gallery: str
    """Where they were searched, such as `text (space vt)`."""
    rows: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    """Dot products, the largest first."""
    rank: int | None = None
    """Rank of the right clip, equal scores counted against it; None where there is no right one."""
    note: str = ""
    """Why there is nothing."""


def kinds_of(embeddings: Arrays) -> tuple[str, ...]:
    """The modalities that a run has embeddings of."""
    return in_order({name.split("@")[0] for name in embeddings} - {JOINT})


def near_clip(run: RunFolder, embeddings: Arrays, row: int, shown: str, *, count: int) -> list[Near]:
    """The clips nearest to a clip in every other modality.

    Args:
        run: whose spaces are searched.
        embeddings: of the run.
        row: the clip.
        shown: embedding whose point was opened; of `joint`, the joint embedding itself is searched.
        count: clips of each modality.

    Returns:
        One for each other modality; with a note where the two were never compared, or the clip lacks one.
    """
    kind = shown.split("@")[0]
    others = [JOINT] if kind == JOINT else [one for one in kinds_of(embeddings) if one != kind]
    found = []
    for other in others:
        try:
            found.append(found_by_clip(run, embeddings, row, shown, other, count=count))
        except DataError as error:
            found.append(Near(other, note=str(error)))
    return found


def found_by_clip(run: RunFolder, embeddings: Arrays, row: int, query: str, gallery: str, *, count: int) -> Near:
    """The clips that one modality of a clip finds in another, or in its own.

    Args:
        run: whose spaces are searched.
        embeddings: of the run.
        row: the clip.
        query: embedding that asks. Where it does not meet the gallery in its own space, its modality does elsewhere.
        gallery: modality that is searched.
        count: clips at most.

    Raises:
        DataError: the two never meet, or the clip lacks the modality.
    """
    kind = query.split("@")[0]
    own = query.partition("@")[2]
    space: str | None
    if own and f"{gallery}@{own}" in embeddings:
        space, asking = own, query
    else:
        space, asking = _space(run, kind, gallery), kind
    clips = len(next(iter(embeddings.values())))
    table = neighbors_elsewhere(embeddings, row, asking, gallery, count=clips, space=space)
    right = table.loc[table["right"], "score"]
    rank = int((table["score"] >= right.iloc[0]).sum()) if len(right) else None
    return _near(_named(gallery, space), table.head(count), rank)


def found_by_vectors(
    run: RunFolder, embeddings: Arrays, vectors: Mapping[str, np.ndarray], gallery: str, *, count: int
) -> Near:
    """The clips that a sentence finds.

    Args:
        run: whose spaces are searched.
        embeddings: of the run.
        vectors: of the sentence, by embedding name.
        gallery: modality that is searched.
        count: clips at most.

    Raises:
        DataError: text and the gallery never meet.
    """
    kind = next(iter(vectors), "text").split("@")[0]
    space = _space(run, kind, gallery)
    return _near(_named(gallery, space), top_clips(vectors, embeddings, gallery, count=count, space=space), None)


def whole(embedding: str, vectors: np.ndarray, clips: int) -> np.ndarray:
    """One row per clip also where a clip stands on the map once per modality."""
    if embedding != ALL_MODALITIES:
        return vectors
    return np.concatenate(np.split(vectors, len(vectors) // clips), axis=1)


def _space(run: RunFolder, query: str, gallery: str) -> str | None:
    """Where two modalities meet; None where the run does not say."""
    return None if JOINT in (query, gallery) or query == gallery else meeting_space(run, f"{query}->{gallery}")


def _named(gallery: str, space: str | None) -> str:
    """A gallery with its space."""
    return f"{gallery} (space {space})" if space else gallery


def _near(gallery: str, table: pd.DataFrame, rank: int | None) -> Near:
    """From a table with the columns row and score."""
    return Near(gallery, tuple(map(int, table["row"])), tuple(map(float, table["score"])), rank)
