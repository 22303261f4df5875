"""Exact nearest neighbors by cosine distance, and how much of them a map in two dimensions keeps."""

from importlib.util import find_spec

import numpy as np
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

SPARE = 8
"""Candidates beyond those asked for: rounding may put the last of them in another order."""
GROUP = 64
"""Columns of which only the best value is looked at first."""
BLOCK_ENTRIES = 8_000_000
"""Similarities held at a time, 32 MB."""
EVERY_ROW = slice(None)
MOST_JUDGED = 2_000
"""Points by which a map is judged, each against all others; more change the third digit by less than one."""


def unit_rows(points: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
    """Points at length 1, as float32; those of length 0 stay where they are.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.ascontiguousarray(points / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def nearest(
    queries: Float[np.ndarray, "queries dim"], points: Float[np.ndarray, "points dim"], *, count: int
) -> tuple[Int[np.ndarray, "queries count"], Float[np.ndarray, "queries count"]]:
    """The nearest points of each query, exactly and the same whichever library searches.

    Candidates come from inner products in float32, whose last digits depend on the library and its threads; they are
    sorted by the distance of the unit rows themselves, equal ones by row.

    Args:
        queries: (queries, dim) float32 at length 1.
        points: (points, dim) float32 at length 1.
        count: neighbors per query, at most the number of points.

    Returns:
        Rows of `points`, nearest first, and their cosine distance from 0 to 2; it is 0 for equal rows.
    """
    search = _by_faiss if find_spec("faiss") is not None else _by_blocks
    lost = np.where(queries.any(axis=1), 0, 0.5)[:, None]  # without a length: distance 1 from all that have one
    nowhere = np.where(points.any(axis=1), 0, 0.5)
    found = search(queries, points, min(count + SPARE, len(points)))
    distances = np.empty(found.shape, dtype=np.float32)
    for rows in _blocks(len(queries), found.shape[1] * queries.shape[1]):
        apart = queries[rows, None] - points[found[rows]]  # (block, candidate, dim)
        distances[rows] = np.einsum("qcd,qcd->qc", apart, apart) / 2 + lost[rows] + nowhere[found[rows]]
    order = np.lexsort((found, distances), axis=1)[:, :count]
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(distances, order, axis=1)


def neighbors_of(
    points: Float[np.ndarray, "points dim"], *, count: int, rows: slice = EVERY_ROW
) -> tuple[Int[np.ndarray, "rows count"], Float[np.ndarray, "rows count"]]:
    """The nearest other points of each point, itself first at distance 0, as UMAP wants them.

    Args:
        points: (points, dim) float32 at length 1.
        count: how many per point, itself among them; at most the number of points.
        rows: whose neighbors are wanted, from a first row on; all of them where not given.

    Returns:
        Rows, nearest first, and their cosine distance from 0 to 2.
    """
    found, distances = nearest(points[rows], points, count=count)
    own = np.arange(len(points))[rows][:, None]
    others = _others(found, own)
    near = np.concatenate([own, found[others].reshape(len(own), count - 1)], axis=1)
    away = distances[others].reshape(len(own), count - 1)
    return near, np.concatenate([np.zeros((len(own), 1), dtype=np.float32), away], axis=1)


def trust_and_overlap(
    points: Float[np.ndarray, "points dim"], places: Float[np.ndarray, "points 2"], *, count: int, seed: int = 0
) -> tuple[float, float]:
    """How far a map can be trusted: trustworthiness, and the share of neighbors that stay neighbors.

    Args:
        points: (points, dim) float32 at length 1.
        places: where they are on the map.
        count: neighbors per point, fewer than half of the points.
        seed: of the choice of points to judge by where there are more than 2,000.

    Returns:
        Trustworthiness, 1 is best, and overlap from 0 to 1.

    Source:
        Venna and Kaski 2001, "Neighborhood preservation in nonlinear projection methods", by cosine distance. Above
        2,000 points the mean over the points is that over a sample of them; each rank is still among all points.
    """
    total = len(points)
    chosen = np.random.default_rng(seed).permutation(total)[:MOST_JUDGED]
    found = NearestNeighbors(n_neighbors=count + 1).fit(places).kneighbors(places[chosen], return_distance=False)
    shown = found[_others(found, chosen[:, None])].reshape(len(chosen), count)
    ranks = np.concatenate([_ranks(points, chosen[rows], shown[rows]) for rows in _blocks(len(chosen), total)])
    missed = np.maximum(ranks - count, 0).sum() / len(chosen)
    return float(1 - 2 * missed / (count * (2 * total - 3 * count - 1))), float((ranks <= count).mean())


def _ranks(points: np.ndarray, rows: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Place of each shown point in the row's list of all others, nearest first, from 1."""
    similarity = points[rows] @ points.T
    similarity[np.arange(len(rows)), rows] = -np.inf
    own = np.take_along_axis(similarity, shown, axis=1)
    closer = [np.count_nonzero(similarity > column[:, None], axis=1) for column in own.T]
    return 1 + np.stack(closer, axis=1)


def _others(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Mask over found neighbors: all but the point itself, or but the last where equal points crowd it out."""
    others: np.ndarray = found != own
    others[:, -1] &= ~others.all(axis=1)
    return others


def _by_faiss(queries: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    """Rows of the largest inner products."""
    import faiss  # loaded late: an extra, and half a second

    index = faiss.IndexFlatIP(points.shape[1])
    index.add(points)
    found: np.ndarray = index.search(queries, count)[1]
    return found


def _by_blocks(queries: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    """Rows of the largest inner products, without the whole matrix and without sorting its rows.

    The largest `count` of a row lie in the `count` groups of columns with the largest maxima.
    """
    groups = -(-len(points) // GROUP)
    found = np.empty((len(queries), count), dtype=np.int64)
    for rows in _blocks(len(queries), groups * GROUP):
        similarity = np.full((rows.stop - rows.start, groups * GROUP), -np.inf, dtype=np.float32)
        np.matmul(queries[rows], points.T, out=similarity[:, : len(points)])
        best = _largest(similarity.reshape(-1, GROUP, groups).max(axis=1), min(count, groups))
        columns = (best[:, None] + groups * np.arange(GROUP)[:, None]).reshape(len(best), -1)
        inside = _largest(np.take_along_axis(similarity, columns, axis=1), count)
        found[rows] = np.take_along_axis(columns, inside, axis=1)
    return found


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Columns of the largest values of each row, in no order."""
    return np.argpartition(values, -count, axis=1)[:, -count:]


def _blocks(rows: int, entries_per_row: int) -> list[slice]:
    """Slices of rows whose entries fit into one block."""
    step = max(1, BLOCK_ENTRIES // max(1, entries_per_row))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
