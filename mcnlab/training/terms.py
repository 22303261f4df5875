"""The terms of the objective: each turns a batch and its embeddings into one number and its named parts."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs, pair_modalities
from mcnlab.distributed import from_first
from mcnlab.losses.clustering import (
    assign_to_centroids,
    centroid_contrast,
    faithful_kmeans,
    push_rows,
    sound_kmeans,
    start_centroids,
)
from mcnlab.losses.reconstruction import reconstruction_error
from mcnlab.models.multimodal import MultimodalModel, reconstruction_target
from mcnlab.numerics import key_seed

FEWEST_CLIPS = 2
"""A contrast needs something to be told apart from."""


@dataclass(frozen=True)
class TermValue:
    """A term's unweighted value and the parts it is made of."""

    total: Tensor | None
    """Scalar; None when no clip of the batch takes part."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """By pair or modality: its share, unweighted."""


@runtime_checkable
class Term(Protocol):
    """One summand of the objective."""

    name: str
    weight: float

    def __call__(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: "Active") -> TermValue:
        """The term's value for one batch."""


@dataclass(frozen=True)
class Active:
    """What a stage trains on."""

    modalities: tuple[str, ...]
    pairs: tuple[str, ...]
    step: int
    """Steps of the run so far; decides when clusters are fitted again."""


class ContrastTerm(nn.Module):
    """Sum of the contrastive losses of the active pairs, each in its own space, over clips that have both modalities.

    Args:
        weight: factor of the term.
        loss: (rows, dim), (rows, dim) → scalar.
    """

    name = "contrast"

    def __init__(self, *, weight: float, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = weight
        self.loss = loss

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Loss of every active pair that at least two clips have."""
        parts = {}
        for pair in active.pairs:
            first, second = pair_modalities(pair)
            space = model.graph.space_of_pair[pair]
            both = outputs.present[first] & outputs.present[second]
            if int(both.sum()) >= FEWEST_CLIPS:
                x, y = outputs.embeddings[first, space], outputs.embeddings[second, space]
                parts[pair] = self.loss(x[both], y[both])
        return TermValue(torch.stack(list(parts.values())).sum() if parts else None, parts)


class ReconstructTerm(nn.Module):
    """Error of giving back each modality's input from its embeddings; in several spaces, their mean.

    Args:
        weight: factor of the term; published 50.
        detach: keep the gradient out of the targets; published code lets it through.

    Source: MCN (Chen et al., 2021), arXiv 2104.12671, section 3.4.
    """

    name = "reconstruct"

    def __init__(self, *, weight: float, detach: bool) -> None:
        super().__init__()
        self.weight = weight
        self.detach = detach

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Sum over the active modalities of the mean error of the clips that have them."""
        parts = {}
        for modality in active.modalities:
            present = outputs.present[modality]
            if not bool(present.any()):
                continue
            target = reconstruction_target(outputs, batch, modality, detach=self.detach)[present]
            errors = [
                reconstruction_error(model.reconstruct(x[present], modality=modality, space=space), target).mean()
                for space, x in own_embeddings(model, outputs, modality, active.pairs)
            ]
            parts[modality] = torch.stack(errors).mean()
        return TermValue(torch.stack(list(parts.values())).sum() if parts else None, parts)


def own_embeddings(
    model: MultimodalModel, outputs: Outputs, modality: str, pairs: Collection[str]
) -> list[tuple[str, Tensor]]:
    """A modality's embeddings by its own heads, in the spaces where an active pair compares it or comes from."""
    graph = model.graph
    arrived = {graph.space_of_pair[pair] for pair in pairs if modality in pair_modalities(pair)}
    starts = {way[0].source if (way := graph.way(modality, space)) else space for space in arrived}
    return [(space, outputs.embeddings[modality, space]) for space in graph.heads_of(modality) if space in starts]


@dataclass(frozen=True)
class ClusterSizes:
    """Plain sizes of the clustering term."""

    clusters: int
    dim: int
    queue_rows: int
    """Past fused rows that k-means sees beside the current ones."""
    rows_per_step: int
    """Current fused rows that enter the queue at each step."""
    refit_every: int = 20
    """Steps between two fits of k-means."""


class ClusterTerm(nn.Module):
    """Pulls all modalities of a clip to the centroid of its fused embedding, by online k-means over a queue.

    Args:
        weight: factor of the term.
        sizes: plain sizes.
        spaces: the spaces that are clustered, each by itself.
        faithful: k-means of raw rows in their own dtype, queue unused until full, dot products without temperature.
            Otherwise unit rows in float32, queue used as it fills, empty clusters re-seeded, cosine / temperature.
        temperature: of the sound mode.
        margin: taken off the own centroid's score.
        divide: mean over the active modalities, as the release has it; otherwise their sum, as slides on MCN show it.
        seed: of the first centroids.

    Source: MCN (Chen et al., 2021), arXiv 2104.12671, equations 3 and 4. Difference: centroids go on over epochs; the
    release starts k-means anew in each.
    """

    name = "cluster"

    def __init__(
        self,
        *,
        weight: float,
        sizes: ClusterSizes,
        spaces: Sequence[str],
        faithful: bool,
        temperature: float,
        margin: float,
        divide: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.weight, self.sizes, self.seed = weight, sizes, seed
        self.faithful, self.divide, self.margin = faithful, divide, margin
        self.temperature = None if faithful else temperature
        for space in spaces:
            self.register_buffer(f"queue_{space}", torch.zeros(sizes.queue_rows, sizes.dim))
            self.register_buffer(f"centroids_{space}", torch.zeros(sizes.clusters, sizes.dim))
            self.register_buffer(f"filled_{space}", torch.zeros((), dtype=torch.int64))
            self.register_buffer(f"fitted_{space}", torch.zeros((), dtype=torch.int64))

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Mean loss over the active modalities and spaces, once enough rows were seen for a first fit."""
        parts: dict[str, Tensor] = {}
        for space in dict.fromkeys(model.graph.space_of_pair[pair] for pair in active.pairs):
            members = [m for m in active.modalities if (m, space) in outputs.embeddings]
            for modality, loss in self._losses(space, members, outputs, active.step).items():
                parts[model.graph.subject(modality, space)] = loss
        if not parts:
            return TermValue(None)
        total = torch.stack(list(parts.values())).sum()
        return TermValue(total / len(parts) if self.divide else total, parts)

    def _losses(self, space: str, members: Sequence[str], outputs: Outputs, step: int) -> dict[str, Tensor]:
        """Loss of each member of a space against its centroids; empty before the first fit."""
        with torch.no_grad():
            fused, some = fuse({m: outputs.embeddings[m, space] for m in members}, outputs.present)
            if not bool(fused.isfinite().all()):  # must not reach queue or centroids, which would keep it
                return {m: outputs.embeddings[m, space].float().sum() for m in members}
            assignment = self._assign(space, fused[some], step)
        if assignment is None:
            return {}
        labels = torch.zeros(len(fused), dtype=torch.int64, device=fused.device)
        labels[some] = assignment
        centroids = self.get_buffer(f"centroids_{space}")
        present = {m: outputs.present[m] for m in members if bool(outputs.present[m].any())}
        return {
            m: centroid_contrast(
                outputs.embeddings[m, space][rows],
                centroids,
                labels[rows],
                margin=self.margin,
                temperature=self.temperature,
            )
            for m, rows in present.items()
        }

    def _assign(self, space: str, fused: Tensor, step: int) -> Tensor | None:
        """Own centroid of every fused row; fits k-means when it is due, and takes rows into the queue."""
        queue, filled = self.get_buffer(f"queue_{space}"), self.get_buffer(f"filled_{space}")
        centroids, fitted = self.get_buffer(f"centroids_{space}"), self.get_buffer(f"fitted_{space}")
        usable = int(filled) if not self.faithful or int(filled) == len(queue) else 0
        rows = torch.cat([queue[:usable].to(fused.dtype), fused])  # (usable + clips, dim)
        due = step % self.sizes.refit_every == 0 or not bool(fitted)
        if due and len(rows) >= self.sizes.clusters:
            start = centroids if bool(fitted) else self._start(rows, space)
            fit = faithful_kmeans(rows, start) if self.faithful else sound_kmeans(rows, start)
            centroids.copy_(from_first(fit.centroids))
            fitted.fill_(1)
        new = fused[: self.sizes.rows_per_step]
        queue.copy_(push_rows(queue, new))
        filled.copy_((filled + len(new)).clamp_max(len(queue)))
        return assign_to_centroids(fused, centroids) if bool(fitted) else None

    def _start(self, rows: Tensor, space: str) -> Tensor:
        """First centroids, drawn from the rows."""
        generator = torch.Generator().manual_seed(key_seed(self.seed, "centroids", space))
        return start_centroids(rows, self.sizes.clusters, generator=generator)


def fuse(embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean over the modalities that each clip has, and which clips have any.

    Args:
        embeddings: by modality, (clips, dim).
        present: by modality, (clips,), bool.

    Returns:
        (clips, dim) and (clips,), bool; rows of clips without any are zero.

    Source: MCN (Chen et al., 2021), arXiv 2104.12671, equation 3.
    """
    total = torch.stack([x * present[m][:, None].to(x.dtype) for m, x in embeddings.items()]).sum(dim=0)
    count = torch.stack([present[m].long() for m in embeddings]).sum(dim=0)
    return total / count.clamp_min(1)[:, None].to(total.dtype), count > 0
