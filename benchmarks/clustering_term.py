"""The clustering term of a training step, averaged over one period of k-means, against the published way.

The published way, written from its formulas: the queue is moved by joining it with the new rows, queue and batch are
joined and all of them assigned at every step, though only the labels of the batch are read, and every 20 steps k-means
with one-hot matrices is fitted to all of them from where it was. Ours is `mcnlab.training.terms.ClusterTerm` in
faithful mode. Both get the same embeddings at every step of the period, one after the other, with a full queue and
centroids that were fitted before; both fit at the first step. Their losses are compared at every step.

Time is that of the forward pass: fused rows, queue, k-means, and the contrast of three modalities.

    python benchmarks/clustering_term.py
    python benchmarks/clustering_term.py --queue 4096 --dim 512 --clusters 64
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rows import Row, report
from torch import Tensor
from torch.nn import functional

from mcnlab.batch import MODALITIES, Batch, Outputs
from mcnlab.losses.kmeans import faithful_kmeans
from mcnlab.models.graph import shared_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.training.terms import Active, ClusterSizes, ClusterTerm, RingProgress

PAIRS = ("va", "vt", "at")
PERIOD = 20
MARGIN = 0.001
CLOSE = 1e-4
"""Largest relative difference of the two losses that counts as equal."""


@dataclass
class Published:
    """The term as published, step by step."""

    queue: Tensor
    centroids: Tensor
    new_rows: int
    rounds: int = 0
    """Rounds of the last fit."""

    def __call__(self, embeddings: dict[str, Tensor], step: int) -> Tensor:
        """The loss of a step."""
        fused = torch.stack(list(embeddings.values())).mean(dim=0)
        rows = torch.cat([self.queue, fused])
        labels = self._fit(rows) if step % PERIOD == 0 else self._nearest(rows)
        self.queue = torch.cat([fused[: self.new_rows], self.queue])[: len(self.queue)]
        own = labels[-len(fused) :]
        return torch.stack([self._contrast(x, own) for x in embeddings.values()]).mean()

    def _nearest(self, rows: Tensor) -> Tensor:
        """Centroid with the largest cosine to each row."""
        return (functional.normalize(rows, dim=1) @ functional.normalize(self.centroids, dim=1).T).argmax(dim=1)

    def _fit(self, rows: Tensor) -> Tensor:
        """K-means from the present centroids; the labels of its last round."""
        for self.rounds in range(1, 101):
            labels = self._nearest(rows)
            members = functional.one_hot(labels, len(self.centroids)).to(rows.dtype).T
            means = members @ rows / members.sum(dim=1, keepdim=True)
            means[means.isnan()] = 0
            change = (means - self.centroids).square().sum()
            self.centroids = means
            if change <= 1e-4:
                break
        return labels

    def _contrast(self, x: Tensor, labels: Tensor) -> Tensor:
        """Every row of a modality against the centroids."""
        scores = x @ self.centroids.T - MARGIN * functional.one_hot(labels, len(self.centroids))
        return functional.cross_entropy(scores, labels)


@dataclass(frozen=True)
class World:
    """Embeddings as a network in training makes them: topics, a direction in common, noise, a slow drift."""

    topics: Tensor
    drift: Tensor
    generator: torch.Generator

    @classmethod
    def drawn(cls, topics: int, dim: int) -> "World":
        """Topics and the way they drift."""
        generator = torch.Generator().manual_seed(0)
        common = torch.randn(dim, generator=generator)
        return cls(
            torch.randn(topics, dim, generator=generator) + 0.5 * common,
            torch.randn(topics, dim, generator=generator) * 0.005,
            generator,
        )

    def clips(self, count: int, step: int, *, noise: float) -> tuple[Tensor, Tensor]:
        """Which topics some clips have, and one view of them: (clips, dim), of length about 20 at 6144-d."""
        topic = torch.randint(len(self.topics), (count,), generator=self.generator)
        return topic, self.view(topic, step, noise=noise)

    def view(self, topic: Tensor, step: int, *, noise: float) -> Tensor:
        """Clips of these topics with noise of their own."""
        clean = (self.topics + step * self.drift)[topic]
        return 0.2 * (clean + noise * torch.randn(clean.shape, generator=self.generator))


def our_term(queue: Tensor, centroids: Tensor, new_rows: int) -> ClusterTerm:
    """The term in faithful mode, as a run has it once the queue is full."""
    sizes = ClusterSizes(len(centroids), len(queue), new_rows, PERIOD)
    term = ClusterTerm(
        weight=1.0,
        sizes=sizes,
        spaces={"joint": queue.shape[1]},
        faithful=True,
        temperature=0.1,
        margin=MARGIN,
        divide=True,
        seed=0,
    )
    term.get_buffer("queue_joint").copy_(queue)
    term.get_buffer("centroids_joint").copy_(centroids)
    term.progress["joint"] = RingProgress(0, len(queue), fitted=True)
    return term


def timed(work: Callable[[], Tensor]) -> tuple[float, float]:
    """Seconds, and the loss."""
    began = time.perf_counter()
    loss = work()
    return time.perf_counter() - began, float(loss)


def period(options: argparse.Namespace) -> Iterator[tuple[float, float, int]]:
    """Seconds of both ways at every step of a period, and the rounds that the published fit took."""
    world, new_rows = World.drawn(4 * options.clusters, options.dim), options.clips // 2
    queue = world.clips(options.queue, 0, noise=options.noise / len(MODALITIES) ** 0.5)[1]
    centroids = faithful_kmeans(queue, queue[: options.clusters].clone()).centroids
    term, published = our_term(queue, centroids, new_rows), Published(queue, centroids, new_rows)
    graph = shared_graph(MODALITIES, PAIRS)
    widths = dict.fromkeys(MODALITIES, 8)
    model = MultimodalModel(
        ModelSizes(widths, dim=8, audio_width=8), graph, faithful=True, decoders=False, seed=0
    )  # the term asks it for its graph alone
    space = graph.space_of_pair["va"]
    present = {m: torch.ones(options.clips, dtype=torch.bool) for m in MODALITIES}
    for step in range(PERIOD):
        topic = world.clips(options.clips, step + 1, noise=0.0)[0]
        views = {m: world.view(topic, step + 1, noise=options.noise) for m in MODALITIES}
        outputs = Outputs({}, {(m, space): x for m, x in views.items()}, present)
        batch, active = Batch({}, {}, present, torch.arange(options.clips)), Active(MODALITIES, PAIRS, step)
        theirs, their_loss = timed(lambda views=views, step=step: published(views, step))
        ours, our_loss = timed(lambda b=batch, o=outputs, a=active: term(model, b, o, a).total)
        if abs(our_loss - their_loss) > CLOSE * abs(their_loss):
            raise SystemExit(f"step {step}: our loss is {our_loss}, the published one {their_loss}")
        yield theirs, ours, published.rounds


def pass_seconds(options: argparse.Namespace) -> float:
    """Seconds of one bare matmul of all rows with the centroids, the best of three."""
    rows, centroids = torch.randn(options.queue, options.dim), torch.randn(options.clusters, options.dim)
    out = torch.empty(options.queue, options.clusters)
    found = []
    for _ in range(3):
        began = time.perf_counter()
        torch.matmul(rows, centroids.T, out=out)
        found.append(time.perf_counter() - began)
    return min(found)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The averaged step, its two kinds, and the floor."""
    torch.set_num_threads(options.threads)
    with torch.no_grad():
        steps = list(period(options))
        floor = pass_seconds(options)
    (their_fit, our_fit, rounds), rest = steps[0], steps[1:]
    theirs, ours = (sum(step[side] for step in rest) / len(rest) for side in (0, 1))
    their_mean, our_mean = ((fit + 19 * other) / PERIOD for fit, other in ((their_fit, theirs), (our_fit, ours)))
    size = f"{options.clips} clips, queue {options.queue:,} × {options.dim}, {options.clusters} clusters"
    rate = 2 * options.queue * options.dim * options.clusters / floor / 1e9
    way = "the published way"
    yield Row(
        f"clustering term per step, averaged over {PERIOD}, {size}",
        way,
        their_mean / our_mean,
        goal=10,
        detail=f"{their_mean:.3f} s against {our_mean:.4f} s, equal losses at every step",
    )
    yield Row(
        f"clustering term, step with a fit, {size}",
        way,
        their_fit / our_fit,
        detail=f"{their_fit:.2f} s ({rounds} rounds) against {our_fit:.3f} s",
    )
    yield Row(
        f"clustering term, step without a fit, {size}",
        way,
        theirs / ours,
        detail=f"{theirs:.3f} s against {ours * 1e3:.2f} ms",
    )
    yield Row(
        f"clustering term, step with a fit, {size}",
        "one bare matmul of queue and centroids",
        our_fit / floor,
        at_most=True,
        detail=f"{our_fit:.3f} s against {floor:.3f} s, {rate:.0f} GFLOP/s",
    )


def options(parser: argparse.ArgumentParser) -> None:
    """Sizes; the defaults are the paper's, but for the clips."""
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--queue", type=int, default=40_960)
    parser.add_argument("--dim", type=int, default=6144)
    parser.add_argument("--clusters", type=int, default=256)
    parser.add_argument("--noise", type=float, default=1.0, help="length of a view's noise against its topic's")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())


if __name__ == "__main__":
    report(measure, __doc__, options)
