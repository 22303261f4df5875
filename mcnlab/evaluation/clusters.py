"""Do clips of a class lie together? K-means in each space, held against labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

from mcnlab.errors import ConfigError, DataError, ShapeError
from mcnlab.evaluation.rows import ResultRow, present_rows, unit_rows
from mcnlab.losses.kmeans import BLOCK_ROWS, ClusterSums
from mcnlab.metrics.clustering import adjusted_rand_index, cluster_purity, normalized_mutual_information

TASK = "clusters"
ITERATIONS = 100
STARTED_FROM = 256
"""Clips per cluster that at most take part in choosing the first centroids."""
SHUFFLES = 20
"""Times that labels are shuffled for the purity by chance."""


@dataclass(frozen=True)
class ClusterResult:
    """Rows for the results, and the cluster of every clip per subject (`<NA>`: modality missing)."""

    rows: tuple[ResultRow, ...]
    assignments: pd.DataFrame


def evaluate_clusters(
    embeddings: Mapping[str, Float[np.ndarray, "clips _"]],
    labels: Sequence[str | None] | np.ndarray,
    *,
    untrained: Mapping[str, Float[np.ndarray, "clips _"]] | None = None,
    column: str = "label",
    clusters: int | None = None,
    restarts: int = 5,
    seed: int = 0,
) -> ClusterResult:
    """K-means on unit-length embeddings; purity, NMI and ARI against labels.

    Args:
        embeddings: Subject (`video`, `joint`, `video:t.filler`) -> (N, D); rows of NaN are missing clips.
        labels: One class per clip; None where there is none. Clips without a label are left out altogether.
        untrained: The same subjects from a model before training; adds `untrained_purity`.
        column: Name of the label column, for errors.
        clusters: K. None: the number of classes among the clips that take part.
        restarts: K-means runs per subject; the tightest one counts.
        seed: Of the first centroids and the shuffles.

    Returns:
        Rows (`purity`, `nmi`, `ari`, `chance_purity`: labels shuffled over the same clusters, `untrained_purity`), and
        the cluster of each clip.

    Raises:
        DataError: The labels have fewer than two classes, or fewer clips than clusters take part.
        ShapeError: Not one label per clip.
        NonFiniteError: An embedding is infinite, or NaN in part.
        ConfigError: `clusters` or `restarts` below 1.

    Source:
        FORMULAS 7. K equals the number of classes, so that purity can be compared between subjects.

    Example:
        >>> found = evaluate_clusters({"video": np.eye(2).repeat(3, axis=0)}, ["cat"] * 3 + ["dog"] * 3)
        >>> {row.metric: row.value for row in found.rows if row.metric != "chance_purity"}
        {'purity': 1.0, 'nmi': 1.0, 'ari': 1.0}
    """
    classes = check_labels(labels, column=column)
    rows: list[ResultRow] = []
    assignments: dict[str, pd.Series] = {}
    for subject, vectors in embeddings.items():
        part = _taking_part(subject, vectors, classes)
        found, count = _clustered(subject, vectors[part], classes[part], clusters, restarts, seed)
        rows += _score_rows(subject, found, classes[part], seed)
        if untrained is not None and subject in untrained:
            before = _taking_part(subject, untrained[subject], classes)
            first, _ = _clustered(subject, untrained[subject][before], classes[before], count, restarts, seed)
            rows.append(ResultRow(TASK, subject, "untrained_purity", cluster_purity(first, classes[before])))
        assignments[subject] = pd.Series(pd.NA, index=range(len(part)), dtype="Int64")
        assignments[subject][part] = found
    return ClusterResult(tuple(rows), pd.DataFrame(assignments))


def check_labels(labels: Sequence[str | None] | np.ndarray, *, column: str) -> Int[np.ndarray, " clips"]:
    """Class numbers of a label column that can be used for scoring.

    Args:
        labels: One value per clip; None or NaN where there is none.
        column: Name of the column, for the error.

    Returns:
        (N,), class numbers from 0 in sorted order of the labels, -1 where there is none.

    Raises:
        DataError: Fewer than two classes.

    Example:
        >>> check_labels(["dog", None, "cat"], column="label")
        array([ 1, -1,  0])
    """
    numbers, classes = pd.factorize(pd.Series(labels, dtype=object), sort=True)
    if len(classes) < 2:
        got = f"only {classes[0]!r}" if len(classes) else "no label at all"
        raise DataError(f"{column}: at least two classes are needed, got {got} in {len(numbers)} clips")
    return numbers.astype(np.int64)


def kmeans(
    vectors: Float[np.ndarray, "clips width"],
    *,
    clusters: int,
    restarts: int = 5,
    seed: int = 0,
    backend: str = "auto",
) -> Int[np.ndarray, " clips"]:
    """Cluster of each clip by Euclidean k-means, the tightest of several starts.

    Args:
        vectors: (N, D), finite, N >= clusters.
        clusters: K.
        restarts: Number of starts, each from other first centroids.
        seed: Of the first centroids.
        backend: "faiss", which uses the GPUs that its build knows, "torch", or "auto": faiss where it is installed.

    Returns:
        (N,), from 0 to K - 1. The same for the same seed.

    Raises:
        DataError: Fewer clips than clusters.
        ConfigError: `clusters` or `restarts` below 1, or an unknown backend.

    Source:
        Lloyd 1982 from the first centroids of k-means++ (Arthur and Vassilvitskii 2007, greedy as in scikit-learn). The
        random starts of faiss miss one of ten well separated clusters nearly always, five restarts or not; so both
        backends begin from the same centroids.

    Example:
        >>> kmeans(np.array([[0.0], [0.1], [9.0]]), clusters=2).tolist() in ([0, 0, 1], [1, 1, 0])
        True
    """
    if clusters < 1 or restarts < 1:
        raise ConfigError(f"k-means needs at least one cluster and one start, got {clusters} and {restarts}")
    if len(vectors) < clusters:
        raise DataError(f"{len(vectors)} clips cannot make {clusters} clusters")
    lloyd = _lloyd(backend)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    found = [lloyd(vectors, _first_centroids(vectors, clusters, seed + start)) for start in range(restarts)]
    return min(found, key=lambda pair: pair[0])[1]


def _taking_part(subject: str, vectors: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Clips that have both an embedding and a label."""
    if len(vectors) != len(classes):
        raise ShapeError(f"{subject}: {len(vectors)} clips but {len(classes)} labels")
    return present_rows(subject, vectors) & (classes >= 0)


def _clustered(
    subject: str, vectors: np.ndarray, classes: np.ndarray, clusters: int | None, restarts: int, seed: int
) -> tuple[np.ndarray, int]:
    """Clusters of the clips that take part, and how many were asked for."""
    count = len(np.unique(classes)) if clusters is None else clusters
    if len(vectors) == 0 or len(vectors) < count:
        raise DataError(f"{subject}: {len(vectors)} clips with a label cannot make {max(count, 1)} clusters")
    return kmeans(unit_rows(vectors), clusters=count, restarts=restarts, seed=seed), count


def _score_rows(subject: str, found: np.ndarray, classes: np.ndarray, seed: int) -> list[ResultRow]:
    """Agreement of clusters and labels, and the purity of shuffled labels."""
    generator = np.random.default_rng(seed)
    chance = np.mean([cluster_purity(found, generator.permutation(classes)) for _ in range(SHUFFLES)])
    scores = {
        "purity": cluster_purity(found, classes),
        "nmi": normalized_mutual_information(found, classes),
        "ari": adjusted_rand_index(found, classes),
        "chance_purity": float(chance),
    }
    return [ResultRow(TASK, subject, metric, value) for metric, value in scores.items()]


def _first_centroids(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Centroids far from each other, chosen from a sample of large sets."""
    generator = np.random.default_rng(seed)
    if len(vectors) > STARTED_FROM * clusters:
        vectors = vectors[generator.choice(len(vectors), STARTED_FROM * clusters, replace=False)]
    return kmeans_plusplus(vectors, clusters, random_state=int(generator.integers(2**31)))[0]


def _lloyd(backend: str) -> Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]:
    """The function that moves centroids until they rest."""
    if backend == "auto":
        backend = "faiss" if find_spec("faiss") is not None else "torch"
    if backend not in ("faiss", "torch"):
        raise ConfigError(f"backend must be 'auto', 'faiss' or 'torch', got {backend!r}")
    return _lloyd_of_faiss if backend == "faiss" else _lloyd_of_torch


def _lloyd_of_faiss(vectors: np.ndarray, centroids: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of squared distances, and the cluster of each clip."""
    import faiss  # loaded late: an extra, and half a second

    search = faiss.Kmeans(
        vectors.shape[1],
        len(centroids),
        niter=ITERATIONS,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
        gpu=gpus_of(faiss) > 0,
    )
    search.train(vectors, init_centroids=centroids)
    distance, assignment = search.index.search(vectors, 1)
    return float(distance.sum()), assignment[:, 0].astype(np.int64)


def gpus_of(faiss: ModuleType) -> int:
    """How many GPUs a build of faiss can use; 0 for a build without."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def _lloyd_of_torch(vectors: np.ndarray, centroids: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of squared distances, and the cluster of each clip."""
    rows, centers = torch.from_numpy(vectors), torch.from_numpy(np.asarray(centroids, dtype=np.float32))
    sums = ClusterSums([rows], clusters=len(centers))
    distance, own = _nearest(rows, centers)
    for _ in range(ITERATIONS):
        counts = torch.bincount(own, minlength=len(centers))
        centers = sums.update(own) / counts.clamp_min(1)[:, None]
        empty = (counts == 0).nonzero().flatten()
        centers[empty] = rows[distance.argsort(descending=True, stable=True)[: len(empty)]]
        before = own
        distance, own = _nearest(rows, centers)
        if torch.equal(own, before):
            break
    return float(distance.double().sum()), own.numpy()


def _nearest(rows: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of every row to its nearest center, and which one that is."""
    half = centers.square().sum(dim=1) / 2  # |x - c|² / 2 = |x|² / 2 - (x·c - |c|² / 2)
    found = [(block @ centers.T - half).max(dim=1) for block in rows.split(BLOCK_ROWS)]
    score, own = (torch.cat([getattr(block, part) for block in found]) for part in ("values", "indices"))
    return (rows.square().sum(dim=1) - 2 * score).clamp_min(0), own
