"""K-means of the clustering term against faiss: seconds and inertia on the same rows, from the same start.

Both do spherical k-means on the same unit rows from the same first centroids with the same number of rounds: ours is
`mcnlab.losses.kmeans.unit_kmeans`, the other `faiss.Kmeans(spherical=True)`. Inertia is the summed squared distance of
the rows to the nearest centroid scaled to unit length, counted by the same code for both.

    python benchmarks/kmeans.py
    python benchmarks/kmeans.py --rows 41088 --dim 6144 --clusters 256 --rounds 5 --repeats 1
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import faiss
import torch
from rows import Row, report
from torch import Tensor

from mcnlab.losses.kmeans import unit_kmeans
from mcnlab.numerics import l2_normalize


def drawn_rows(count: int, dim: int, topics: int) -> Tensor:
    """Unit rows around topics that overlap, (count, dim)."""
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(topics, dim, generator=generator)
    rows = center[torch.randint(topics, (count,), generator=generator)]
    return l2_normalize(rows + torch.randn(rows.shape, generator=generator))


def with_faiss(rows: Tensor, start: Tensor, rounds: int) -> Tensor:
    """Centroids by faiss."""
    search = faiss.Kmeans(
        rows.shape[1],
        len(start),
        niter=rounds,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    search.train(rows.numpy(), init_centroids=start.numpy())
    return torch.from_numpy(search.centroids)


def inertia(rows: Tensor, centroids: Tensor) -> float:
    """Summed squared distance to the nearest centroid on the sphere."""
    unit = l2_normalize(centroids)
    return sum(float((2 - 2 * (block @ unit.T).amax(dim=1)).double().sum()) for block in rows.split(8192))


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds, and the centroids."""
    began = time.perf_counter()
    centroids = work()
    return time.perf_counter() - began, centroids


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Time and inertia, alternating."""
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    rows = drawn_rows(options.rows, options.dim, topics=2 * options.clusters)
    start, rounds = rows[: options.clusters].clone(), options.rounds
    ours, theirs = [], []
    for _ in range(options.repeats):
        ours.append(timed(lambda: unit_kmeans(rows, start, max_rounds=rounds, tolerance=0.0).centroids))
        theirs.append(timed(lambda: with_faiss(rows, start, rounds)))
    seconds, other_s = (statistics.median(time_s for time_s, _ in side) for side in (ours, theirs))
    tightness, other = inertia(rows, ours[-1][1]), inertia(rows, theirs[-1][1])
    size = f"{options.rows:,} × {options.dim}, {options.clusters} clusters, {rounds} rounds"
    yield Row(
        f"k-means, inertia, {size}",
        "faiss",
        tightness / other,
        goal=1.005,
        at_most=True,
        detail=f"{tightness:.2f} against {other:.2f}",
    )
    yield Row(f"k-means, {size}", "faiss", other_s / seconds, detail=f"{other_s:.3f} s against {seconds:.3f} s")


def options(parser: argparse.ArgumentParser) -> None:
    """Sizes; the paper's stand in the description."""
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--clusters", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())


if __name__ == "__main__":
    report(measure, __doc__, options)
