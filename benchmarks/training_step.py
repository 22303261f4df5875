"""One training step at the paper's size, and at that of the default study, against the published way of doing it.

The published way, written from the paper and its release: float32; DaveNet as convolutions of pictures; a queue made
anew by `torch.cat` in every step; k-means with one-hot matmuls every 20 steps, and the whole queue assigned in every
step; Adam as torch makes it by default. Ours is `mcnlab.training.step.train_step` in faithful mode, on the same weights
and the same batch, so both losses must be equal; then the same in bfloat16.

A step with a fit and one without are measured by themselves and averaged as 1 to 19, as they come in 20 steps.
Forward and backward alone are compared with the highest rate that a bare matmul or convolution reaches here, in the
same run.
"""

import argparse
import copy
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from rows import Row, report
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mcnlab.batch import Batch, pair_modalities
from mcnlab.losses.contrastive import masked_margin_softmax
from mcnlab.models.graph import shared_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.training.contrast_term import ContrastTerm
from mcnlab.training.step import StepSettings, autocast, forward, gathered, train_step, weighted_sum
from mcnlab.training.terms import Active, ClusterSizes, ClusterTerm, ReconstructTerm, Term

MODALITIES, PAIRS = ("video", "audio", "text"), ("va", "vt", "at")
MARGIN, CLUSTERS, REFIT_EVERY, MOST_ROUNDS, TOLERANCE = 0.001, 256, 20, 100, 1e-4
RECONSTRUCT_WEIGHT, RATE = 50.0, 1e-4
FP32_GOAL, BF16_GOAL, SHARE_GOAL, SAME = 1.5, 3.5, 0.75, 1e-4


@dataclasses.dataclass(frozen=True)
class Size:
    """How large everything is."""

    name: str
    clips: int
    dim: int
    audio_width: int
    hidden: int
    frames: int
    queue: int
    inputs: tuple[int, int, int] = (4096, 40, 300)
    words: int = 20

    @property
    def words_of_it(self) -> str:
        """For the name of a row."""
        return (
            f"training step, {self.name}: {self.clips} clips, {self.dim}-d, DaveNet {self.audio_width} wide, "
            f"{self.frames} frames, queue {self.queue:,}"
        )


PAPER = Size("paper", 128, 6144, 1024, 1024, 1000, 40960)
DEFAULT = Size("default study", 128, 64, 64, 128, 128, 1280)


class PublishedBlock(nn.Module):
    """A basic block of DaveNet as two-dimensional convolutions; parts are called as ours."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(narrow, wide, (1, 9), stride=(1, stride), padding=(0, 4), bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, (1, 9), padding=(0, 4), bias=False),
            nn.BatchNorm2d(wide),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(narrow, wide, 1, stride=(1, stride), bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(rows, narrow, 1, frames) → (rows, wide, 1, steps)."""
        return functional.relu(self.body(x) + self.shortcut(x))


class PublishedDaveNet(nn.Module):
    """DaveNet over a one-channel picture of the spectrogram, as released."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        widths = [width // 8, width // 8, width // 4, width // 2, width]
        self.stem = nn.Conv2d(1, widths[0], (bands, 1), bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(PublishedBlock(narrow, wide, 2), PublishedBlock(wide, wide, 1))
                for narrow, wide in itertools.pairwise(widths)
            )
        )

    def forward(self, mel: Tensor) -> Tensor:
        """(rows, bands, frames) → (rows, width, steps)."""
        x = functional.relu(self.stem_norm(self.stem(mel.unsqueeze(1))))
        return self.stages(x).squeeze(2)

    def take(self, weights: dict[str, Tensor]) -> None:
        """Our DaveNet's weights in their places."""
        own = self.state_dict()
        self.load_state_dict({name: x.reshape(own[name].shape) for name, x in weights.items()})


class Published:
    """The published way: a model with our weights, its queue, its centroids, its optimizer."""

    def __init__(self, size: Size, ours: MultimodalModel, queue: Tensor, centroids: Tensor) -> None:
        self.model = copy.deepcopy(ours)
        audio = PublishedDaveNet(size.inputs[1], size.audio_width)
        audio.take(ours.backbones["audio"].state_dict())
        self.model.backbones["audio"] = audio
        self.queue, self.centroids = queue.clone(), centroids.clone()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.rounds = 0

    def step(self, batch: Batch, *, refit: bool) -> float:
        """One step.

        Returns:
            Its loss.
        """
        outputs = self.model(batch)
        x = {m: outputs.embeddings[m, "joint"] for m in MODALITIES}
        loss = sum(self._contrast(*(x[m] for m in pair_modalities(pair))) for pair in PAIRS)
        loss = loss + self._cluster(x, refit=refit) + RECONSTRUCT_WEIGHT * self._reconstruct(batch, outputs, x)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _contrast(self, x: Tensor, y: Tensor) -> Tensor:
        """Masked margin softmax of a pair."""
        scores = x @ y.T - MARGIN * torch.eye(len(x))
        own = torch.arange(len(x))
        return functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)

    def _cluster(self, x: dict[str, Tensor], *, refit: bool) -> Tensor:
        """Contrast of every modality against the centroids."""
        with torch.no_grad():
            fused = torch.stack(list(x.values())).mean(dim=0)
            rows = torch.cat([self.queue, fused])
            if refit:
                self._fit(rows)
            labels = self._assign(rows)[-len(fused) :]
            self.queue = torch.cat([fused[: len(fused) // 2], self.queue])[: len(self.queue)]
        shift = MARGIN * functional.one_hot(labels, CLUSTERS)
        losses = [functional.cross_entropy(z @ self.centroids.T - shift, labels) for z in x.values()]
        return torch.stack(losses).mean()

    def _assign(self, rows: Tensor) -> Tensor:
        """The centroid with the largest cosine to each row."""
        return (functional.normalize(rows) @ functional.normalize(self.centroids).T).argmax(dim=1)

    def _fit(self, rows: Tensor) -> None:
        """K-means, with the update as a matmul by one-hot assignments."""
        for self.rounds in range(1, MOST_ROUNDS + 1):
            members = functional.one_hot(self._assign(rows), CLUSTERS).to(rows.dtype).T
            counts = members.sum(dim=1)[:, None]
            means = torch.where(counts > 0, members @ rows / counts, 0)
            change = (means - self.centroids).square().sum()
            self.centroids = means
            if change.item() <= TOLERANCE:
                break

    def _reconstruct(self, batch: Batch, outputs: object, x: dict[str, Tensor]) -> Tensor:
        """Mean over clips of the summed errors of the modalities."""
        targets = {"video": batch.inputs["video"]}
        targets |= {m: outputs.features[m] for m in ("audio", "text")}
        errors = [
            (self.model.reconstruct(z, modality=m, space="joint") - targets[m]).square().mean() for m, z in x.items()
        ]
        return torch.stack(errors).sum()


class Ours:
    """Our step in faithful mode."""

    def __init__(self, size: Size, model: MultimodalModel, queue: Tensor, centroids: Tensor) -> None:
        self.model = model
        rows_per_step = max(1, size.clips // 2)
        cluster = ClusterTerm(
            weight=1.0,
            sizes=ClusterSizes(CLUSTERS, size.queue, rows_per_step, REFIT_EVERY),
            spaces={"joint": size.dim},
            faithful=True,
            temperature=0.1,
            margin=MARGIN,
            divide=True,
            seed=0,
        )
        state = {"queue_joint": queue, "centroids_joint": centroids}
        state["_extra_state"] = torch.tensor([[0, size.queue, 1]])  # newest row in slot 0, full, fitted
        cluster.load_state_dict(state)
        contrast = ContrastTerm(
            weight=1.0,
            loss=lambda x, y, temperature, present: masked_margin_softmax(x @ y.T, margin=MARGIN),
            temperature=1.0,
        )
        self.terms: list[Term] = [contrast, cluster, ReconstructTerm(weight=RECONSTRUCT_WEIGHT, detach=False)]
        self.optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)

    def step(self, batch: Batch, *, refit: bool, precision: str = "float32") -> float:
        """One step.

        Returns:
            Its loss.
        """
        loss, _, _ = train_step(
            self.model,
            batch,
            self.terms,
            self.optimizer,
            self.scaler,
            active=Active(MODALITIES, PAIRS, REFIT_EVERY if refit else REFIT_EVERY + 1),
            stage="1:VAT",
            settings=StepSettings(precision),
            clip_name=str,
        )
        return loss

    def forward_backward(self, batch: Batch, precision: str) -> None:
        """All of a step that has a gradient, without the clustering term, whose k-means has none."""
        active, settings = Active(MODALITIES, PAIRS, 1), StepSettings(precision)
        own = forward(self.model, batch, active, settings)
        terms = [term for term in self.terms if term.name != "cluster"]
        with autocast(precision, "cpu"):
            everyone, outputs = gathered(batch, own.outputs)
            values = {term.name: term(self.model, everyone, outputs, active) for term in terms}
        loss = weighted_sum(terms, values)
        self.optimizer.zero_grad(set_to_none=True)
        if loss is not None:
            loss.backward()


def some_batch(size: Size, clips: int, seed: int) -> Batch:
    """A made-up batch in which every clip has everything."""
    random = torch.Generator().manual_seed(seed)
    video = functional.normalize(torch.rand(clips, size.inputs[0], generator=random)) * 2**0.5
    inputs = {
        "video": video,
        "audio": -80 * torch.rand(clips, size.inputs[1], size.frames, generator=random),
        "text": torch.randn(clips, size.words, size.inputs[2], generator=random) * 0.1,
    }
    lengths = {"video": torch.ones(clips, dtype=torch.int64), "audio": torch.full((clips,), size.frames)}
    lengths["text"] = torch.full((clips,), size.words)
    return Batch(inputs, lengths, {m: torch.ones(clips, dtype=torch.bool) for m in MODALITIES}, torch.arange(clips))


def both_sides(size: Size, batch: Batch) -> tuple[Published, Ours]:
    """Two equal models with equal full queues: rows around as many centers as there are clusters."""
    torch.manual_seed(0)
    sizes = ModelSizes(
        dict(zip(MODALITIES, size.inputs, strict=True)), size.dim, size.audio_width, decoder_hidden=size.hidden
    )
    model = MultimodalModel(sizes, shared_graph(MODALITIES, PAIRS), faithful=True, decoders=True, seed=0).train()
    with torch.no_grad():
        few = copy.deepcopy(model)(batch).embeddings
        typical = torch.stack([few[m, "joint"].std() for m in MODALITIES]).mean()
    centers = torch.randn(CLUSTERS, size.dim) * typical
    queue = centers[torch.randint(CLUSTERS, (size.queue,))] + torch.randn(size.queue, size.dim) * typical * 1.5
    start = centers + torch.randn(CLUSTERS, size.dim) * typical  # as far off as some steps of training lead
    return Published(size, model, queue, start), Ours(size, model, queue, start)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bare_rate(dtype: torch.dtype, size: Size) -> tuple[float, str]:
    """Operations per second of a bare matmul, or of a bare convolution of DaveNet, whichever is faster."""
    wide = min(4096, max(256, size.dim))
    left, right = torch.randn(wide, wide).to(dtype), torch.randn(wide, wide).to(dtype)
    channels, frames = size.audio_width // 2, -(-size.frames // 8)
    layer = nn.Conv2d(channels, channels, (1, 9), padding=(0, 4), bias=False).to(dtype)
    x = torch.randn(min(32, size.clips), channels, 1, frames).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        matmul = 2 * wide**3 / min(seconds(lambda: left @ right) for _ in range(3))
        convolution = 18 * channels**2 * x.shape[0] * frames / min(seconds(lambda: layer(x)) for _ in range(3))
    return max(matmul, convolution), "matmul" if matmul > convolution else "convolution"


def measure_size(size: Size, rounds: int) -> Iterator[Row]:
    """All rows of one size."""
    published, ours = both_sides(size, some_batch(size, 8, seed=1))
    batch = some_batch(size, size.clips, seed=2)
    losses = published.step(batch, refit=False), ours.step(batch, refit=False)  # also the first call of everything
    difference = abs(losses[1] - losses[0]) / abs(losses[0])
    yield Row(
        size.words_of_it,
        "loss of the same batch and weights, published way, relative difference",
        difference,
        SAME,
        at_most=True,
        detail=f"{losses[0]:.6f} published, {losses[1]:.6f} ours",
    )
    ours.step(some_batch(size, 8, seed=1), refit=False, precision="bfloat16")
    works: dict[str, Callable[[], object]] = {}
    for name, refit in (("assign", False), ("fit", True)):
        works[f"published {name}"] = lambda refit=refit: published.step(batch, refit=refit)
        for precision in ("float32", "bfloat16"):
            works[f"{precision} {name}"] = lambda refit=refit, p=precision: ours.step(batch, refit=refit, precision=p)
    for precision in ("float32", "bfloat16"):
        works[f"{precision} both ways"] = lambda p=precision: ours.forward_backward(batch, p)
    times: dict[str, list[float]] = {name: [] for name in works}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    kinds = {}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
        for precision, found in rates.items():
            rate, kinds[precision] = bare_rate(getattr(torch, precision), size)
            found.append(rate)
    middle = {name: statistics.median(found) for name, found in times.items()}
    yield from speed_rows(size, middle, published.rounds, rounds)
    yield from share_rows(size, middle, {p: max(found) for p, found in rates.items()}, kinds, ours)


def speed_rows(size: Size, middle: dict[str, float], kmeans_rounds: int, rounds: int) -> Iterator[Row]:
    """Our step against the published one."""

    def averaged(side: str) -> float:
        return (middle[f"{side} fit"] + (REFIT_EVERY - 1) * middle[f"{side} assign"]) / REFIT_EVERY

    goals = (FP32_GOAL, BF16_GOAL) if size == PAPER else (None, None)
    for side, goal in zip(("float32", "bfloat16"), goals, strict=True):
        parts = ", ".join(
            f"{who} {middle[f'{who} fit']:.3g} s with fit, {middle[f'{who} assign']:.3g} s without"
            for who in ("published", side)
        )
        yield Row(
            f"{size.words_of_it}, {side}",
            "published way in float32, averaged over 20 steps",
            averaged("published") / averaged(side),
            goal,
            detail=f"{parts}; fit {kmeans_rounds} rounds; averaged 1:19, median of {rounds} rounds",
        )


def share_rows(
    size: Size, middle: dict[str, float], rates: dict[str, float], kinds: dict[str, str], ours: Ours
) -> Iterator[Row]:
    """Forward and backward against the bare rate."""
    few = min(8, size.clips)
    counters = []
    for clips in (few, 2 * few):
        counter = FlopCounterMode(display=False)
        with counter:
            ours.forward_backward(some_batch(size, clips, seed=3), "float32")
        counters.append(counter.get_total_flops())
    each = (counters[1] - counters[0]) / few  # linear in the clips, but for the tiny similarities
    total = each * size.clips
    for precision, bare in rates.items():
        rate = total / middle[f"{precision} both ways"]
        yield Row(
            f"{size.words_of_it}, forward + backward, {precision}",
            f"bare {kinds[precision]} rate",
            rate / bare,
            SHARE_GOAL if size == PAPER else None,
            detail=f"{rate / 1e9:.0f} of {bare / 1e9:.0f} GFLOP/s, {each / 1e9:.1f} GFLOP per clip",
        )


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The rows of the sizes that were asked for."""
    for size in (PAPER, DEFAULT):
        if options.size in (size.name.split()[0], "both"):
            chosen = dataclasses.replace(size, clips=options.clips or size.clips, queue=options.queue or size.queue)
            yield from measure_size(chosen, options.rounds if size is PAPER else 5 * options.rounds)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--size", choices=("paper", "default", "both"), default="both")
    parser.add_argument("--clips", type=int, help="clips per step; goals are for 128")
    parser.add_argument("--queue", type=int, help="rows of the queue; goals are for 40960")
    parser.add_argument("--rounds", type=int, default=1, help="rounds over all sides; five times as many when small")


if __name__ == "__main__":
    report(measure, __doc__, add_options)
