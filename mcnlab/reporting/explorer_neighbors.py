"""Neighbors for the explorer: whose changed, who is near in another modality, and which clips a query finds."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from mcnlab.errors import CancelledError, ConfigError, DataError, ShapeError
from mcnlab.reporting.examples import compared_embeddings
from mcnlab.reporting.neighbors import neighbors_of, unit_rows

Arrays = Mapping[str, np.ndarray]
"""Embedding name, such as `video`, `video@va`, `joint` → (clips, dim); rows of NaN are clips without the modality."""
BLOCK = 2_000
"""Clips whose neighbors are searched at a time."""


def neighbors_to_compare(
    left: Float[np.ndarray, "left _"], right: Float[np.ndarray, "right _"], *, most: int = 10
) -> int:
    """How many neighbors per clip are worth comparing: fewer where there are few clips.

    All neighbors of a clip are the same everywhere once they are all clips, so at most half of the others are taken.

    Args:
        left: (clips, dim); rows of NaN are left out.
        right: (clips, dim), the same clips; the width may differ.
        most: neighbors per clip where there are enough clips.

    Returns:
        From 1 to `most`.

    Raises:
        ShapeError: the numbers of clips differ.
        DataError: fewer than three clips are on both sides.

    Example:
        >>> neighbors_to_compare(np.ones((8, 2)), np.ones((8, 3)))
        3
    """
    if len(left) != len(right):
        raise ShapeError(f"{len(left)} clips on one side, {len(right)} on the other")
    clips = int((_present(left) & _present(right)).sum())
    if clips < 3:
        raise DataError(f"neighbors are compared from three clips on that both sides have, there are {clips}")
    return min(most, (clips - 1) // 2)


def changed_neighbors(
    left: Float[np.ndarray, "left _"],
    right: Float[np.ndarray, "right _"],
    *,
    count: int = 10,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> pd.DataFrame:
    """Clips by how many of their nearest neighbors they keep from one embedding to another.

    Neighbors are the nearest by cosine distance, found exactly, among the clips that both embeddings have.

    Args:
        left: (clips, dim); rows of NaN are left out.
        right: (clips, dim), the same clips; the width may differ.
        count: neighbors per clip.
        progress: told clips done and all.
        cancelled: asked every 2,000 clips, a second or two where there are 50,000.

    Returns:
        Columns row (of the clip) and kept (share of its neighbors, 0 to 1); most changed first, equal ones by row.

    Raises:
        ShapeError: the numbers of clips differ.
        ConfigError: `count` is not positive.
        DataError: fewer clips than neighbors.
        CancelledError: `cancelled` said so.

    Example:
        >>> turned = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> changed_neighbors(turned, turned, count=1)["kept"].tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if len(left) != len(right):
        raise ShapeError(f"{len(left)} clips on one side, {len(right)} on the other")
    if count < 1:
        raise ConfigError(f"count of neighbors must be at least 1, got {count}")
    rows = np.flatnonzero(_present(left) & _present(right))
    if len(rows) <= count:
        raise DataError(f"{count} neighbors need more than {count} clips that both sides have, there are {len(rows)}")
    units = [unit_rows(values[rows].astype(np.float32)) for values in (left, right)]
    kept = np.zeros(len(rows))
    for start in range(0, len(rows), BLOCK):
        if cancelled is not None and cancelled():
            raise CancelledError("comparing neighbors was cancelled")
        block = slice(start, min(start + BLOCK, len(rows)))
        before, after = (neighbors_of(points, count=count + 1, rows=block)[0][:, 1:] for points in units)
        for column in after.T:
            kept[block] += (before == column[:, None]).any(axis=1)
        if progress is not None:
            progress(block.stop, len(rows))
    order = np.argsort(kept, kind="stable")
    return pd.DataFrame({"row": rows[order], "kept": kept[order] / count})


def neighbors_elsewhere(
    embeddings: Arrays, row: int, query: str, gallery: str, *, count: int = 5, space: str | None = None
) -> pd.DataFrame:
    """The clips that are nearest to one clip, in its own modality or in another.

    Args:
        embeddings: of a run.
        row: of the clip that asks.
        query: what it asks with: an embedding's name.
        gallery: what is searched.
        count: clips at most.
        space: where the two meet, where the run's graph says so: see `mcnlab.reporting.examples.meeting_space`.

    Returns:
        Columns row, score (dot product, as the run compares), right (whether it is the asking clip, whose score in its
        own modality is left out); nearest first.

    Raises:
        DataError: the two never meet, or the clip lacks the modality.
    """
    asked, searched = _sides(embeddings, query, gallery, space=space)
    if not 0 <= row < len(asked):
        raise DataError(f"clip {row} of {len(asked)}")
    if not bool(np.isfinite(asked[row]).all()):
        raise DataError(f"the clip has no {query}")
    return _best(asked[row], searched, count=count, right=row, without=row if query == gallery else None)


def top_clips(
    vectors: Mapping[str, Float[np.ndarray, " _"]],
    embeddings: Arrays,
    gallery: str,
    *,
    count: int = 12,
    space: str | None = None,
) -> pd.DataFrame:
    """The clips that a query from outside finds.

    Args:
        vectors: of the query, by embedding name, all of one modality: `text`, or `text@vt`, `text@at`, `text`.
        embeddings: of the run.
        gallery: what is searched: an embedding's name.
        count: clips at most.
        space: where the two meet, where the run's graph says so.

    Returns:
        Columns row and score, best first.

    Raises:
        DataError: the two never meet, or the query has no vector.
    """
    modalities = {name.split("@")[0] for name in vectors}
    if len(modalities) != 1:
        raise DataError(f"expected vectors of one modality, got {', '.join(sorted(modalities)) or 'none'}")
    clips = len(next(iter(embeddings.values())))
    asked = {name: np.broadcast_to(vector, (clips, len(vector))) for name, vector in vectors.items()}
    (modality,) = modalities
    if gallery.split("@")[0] == modality:
        found, searched = asked.get(gallery), embeddings.get(gallery)
        if found is None or searched is None or found.shape != searched.shape:
            raise DataError(f"no vector of the query for {gallery}; there are {', '.join(vectors)}")
    else:
        others = {name: values for name, values in embeddings.items() if name.split("@")[0] != modality}
        found, searched = _sides({**others, **asked}, modality, gallery, space=space)
    vector = np.asarray(found[0], dtype=np.float32)
    if not bool(np.isfinite(vector).all()):
        raise DataError(f"the query has no {modality} that the run knows")
    return _best(vector, np.asarray(searched, dtype=np.float32), count=count).drop(columns="right")


def _sides(
    embeddings: Arrays, query: str, gallery: str, *, space: str | None
) -> tuple[Float[np.ndarray, "clips dim"], Float[np.ndarray, "clips dim"]]:
    """Both sides where they can be compared, float32."""
    for name in (query, gallery):
        if not any(name in (known, known.split("@")[0]) for known in embeddings):
            raise DataError(f"no embedding {name!r}; there are {', '.join(embeddings)}")
    if query == gallery:
        own = embeddings.get(query)
        if own is None:
            raise DataError(f"{query}: lives in several spaces; name one of {', '.join(embeddings)}")
        return own.astype(np.float32), own.astype(np.float32)
    several = any("@" in name for name in embeddings)
    if several and "joint" in (query, gallery):
        raise DataError(f"{query} and {gallery}: with several spaces, joint is compared with joint alone")
    named = {name.split("@")[1] for name in (query, gallery) if "@" in name}
    if not named:
        return compared_embeddings(embeddings, f"{query}->{gallery}", space=space)
    if len(named) == 1:
        (place,) = named
        first, second = (_in_space(embeddings, name.split("@")[0], place) for name in (query, gallery))
        if first is not None and second is not None and first.shape == second.shape:
            return first.astype(np.float32), second.astype(np.float32)
    raise DataError(f"{query} and {gallery} meet in no space; there are {', '.join(embeddings)}")


def _in_space(embeddings: Arrays, modality: str, space: str) -> np.ndarray | None:
    """A modality in a space; one that lives in a single space goes without its name."""
    alone = not any(name.startswith(f"{modality}@") for name in embeddings)
    return embeddings.get(f"{modality}@{space}", embeddings.get(modality) if alone else None)


def _best(
    vector: np.ndarray, searched: np.ndarray, *, count: int, right: int | None = None, without: int | None = None
) -> pd.DataFrame:
    """Rows with the largest dot products, equal ones by row."""
    scores = np.where(_present(searched), np.nan_to_num(searched) @ vector, -np.inf)
    if without is not None:
        scores[without] = -np.inf
    order = np.argsort(-scores, kind="stable")[: max(0, count)]
    order = order[np.isfinite(scores[order])]
    return pd.DataFrame({"row": order, "score": scores[order], "right": order == right})


def _present(values: np.ndarray) -> np.ndarray:
    """(clips,), bool: which clips have the modality."""
    return np.asarray(np.isfinite(values).all(axis=1))
