"""The terms of the objective: each turns a batch and its embeddings into one number and its named parts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs, pair_modalities
from mcnlab.distributed import from_first, own_rows, sum_over_ranks
from mcnlab.losses.clustering import (
    NO_CENTROID,
    assign_to_centroids,
    centroid_contrast,
    newest_rows,
    push_rows,
    start_centroids,
)
from mcnlab.losses.kmeans import Share, faithful_kmeans, unit_kmeans
from mcnlab.losses.reconstruction import reconstruction_error
from mcnlab.models.multimodal import MultimodalModel, reconstruction_target
from mcnlab.numerics import key_seed, l2_normalize


@dataclass(frozen=True)
class TermValue:
    """A term's unweighted value and the parts it is made of."""

    total: Tensor | None
    """Scalar; None when no clip of the batch takes part."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """By pair or modality: its share, unweighted."""


@runtime_checkable
class Term(Protocol):
    """One summand of the objective; it may have `scales`, numbers by name that are told when it is not finite."""

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
        parts, flags = {}, on_host(outputs.present)
        for modality in active.modalities:
            if not flags[modality].any():
                continue
            target = rows_with(flags[modality], reconstruction_target(outputs, batch, modality, detach=self.detach))
            errors = [
                reconstruction_error(
                    model.reconstruct(rows_with(flags[modality], x), modality=modality, space=space), target
                ).mean()
                for space, x in own_embeddings(model, outputs, modality, active.pairs)
            ]
            parts[modality] = torch.stack(errors).mean()
        return TermValue(torch.stack(list(parts.values())).sum() if parts else None, parts)


def rows_with(flags: Tensor, rows: Tensor) -> Tensor:
    """The rows whose flag, in host memory, is set; uncopied when all are.

    A view has its gradient summed by itself before it joins the others, as chosen rows have: the same bits either way.
    """
    return rows.view_as(rows) if flags.all() else rows[flags.nonzero().flatten().to(rows.device, non_blocking=True)]


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
    queue_rows: int
    """Past fused rows that k-means sees beside the current ones."""
    rows_per_step: int
    """Current fused rows that enter the queue at each step."""
    refit_every: int = 20
    """Steps between two fits of k-means."""


@dataclass
class RingProgress:
    """How far the clustering of a space is; known to the host, so that no step has to ask the device."""

    first: int = 0
    """Slot of the newest row of the queue."""
    filled: int = 0
    """Rows in the queue."""
    fitted: bool = False
    """Whether there are centroids."""


class ClusterTerm(nn.Module):
    """Pulls all modalities of a clip to the centroid of its fused embedding, by online k-means over a queue.

    Args:
        weight: factor of the term.
        sizes: plain sizes.
        spaces: the spaces that are clustered, each by itself, and their widths.
        faithful: k-means of raw rows in their own dtype, queue unused until full, dot products without temperature.
            Otherwise unit rows in float32, queue used as it fills, empty clusters re-seeded, cosine / temperature.
            The queue holds what k-means reads: raw or unit rows.
        temperature: of the sound mode.
        margin: taken off the own centroid's score.
        divide: mean over the active modalities, as the release has it; otherwise their sum, as slides on MCN show it.
        seed: of the first centroids.

    Source: MCN (Chen et al., 2021), arXiv 2104.12671, equations 3 and 4. Difference: centroids go on over epochs; the
    release starts k-means anew in each. Between fits only the current rows are assigned, since nobody reads the other
    assignments; the queue is a ring that is written in place.
    """

    name = "cluster"

    def __init__(
        self,
        *,
        weight: float,
        sizes: ClusterSizes,
        spaces: Mapping[str, int],
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
        self.scales = {"margin": margin} | ({} if faithful else {"temperature": temperature})
        self.progress = {space: RingProgress() for space in spaces}
        for space, dim in spaces.items():
            self.register_buffer(f"queue_{space}", torch.zeros(sizes.queue_rows, dim))
            self.register_buffer(f"centroids_{space}", torch.zeros(sizes.clusters, dim))
        self.register_load_state_dict_pre_hook(_with_ring_progress)

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Mean loss over the active modalities and spaces, once enough rows were seen for a first fit."""
        parts: dict[str, Tensor] = {}
        flags = on_host(outputs.present)
        for space in dict.fromkeys(model.graph.space_of_pair[pair] for pair in active.pairs):
            members = {m: outputs.embeddings[m, space] for m in active.modalities if (m, space) in outputs.embeddings}
            for modality, loss in self._losses(space, members, flags, active.step).items():
                parts[model.graph.subject(modality, space)] = loss
        if not parts:
            return TermValue(None)
        total = torch.stack(list(parts.values())).sum()
        return TermValue(total / len(parts) if self.divide else total, parts)

    def get_extra_state(self) -> Tensor:
        """How far the ring of every space is: (spaces, 3), int64."""
        return torch.tensor([astuple(progress) for progress in self.progress.values()])

    def set_extra_state(self, state: Tensor) -> None:
        """The reverse."""
        for space, (first, filled, fitted) in zip(self.progress, state.tolist(), strict=True):
            self.progress[space] = RingProgress(first, filled, bool(fitted))

    def _losses(
        self, space: str, members: Mapping[str, Tensor], flags: Mapping[str, Tensor], step: int
    ) -> dict[str, Tensor]:
        """Loss of each member of a space against its centroids; empty before the first fit."""
        with torch.no_grad(), torch.autocast(next(iter(members.values())).device.type, enabled=False):
            fused = fuse(members, {m: flags[m].to(x.device, non_blocking=True) for m, x in members.items()})[0]
            seen = torch.stack([flags[m] for m in members]).any(dim=0)
            finite = fused.isfinite().all(dim=1, keepdim=True)
            clean = torch.where(finite, fused, 0)  # what is not finite must not reach queue or centroids
            overflow = torch.where(finite.all() | ~_all_finite(members.values()), 0.0, torch.nan)
            if self._due(space, step) and not bool(finite.all()):
                return {m: x.float().sum() + overflow for m, x in members.items()}
            labels = self._labels(space, clean, seen, step)
        if labels is None:
            return {}
        return {m: self._contrast(space, x, labels, flags[m]) + overflow for m, x in members.items() if flags[m].any()}

    def _contrast(self, space: str, embeddings: Tensor, labels: Tensor, flags: Tensor) -> Tensor:
        """Loss of the clips that have a modality."""
        if not flags.all():
            labels = torch.where(flags.to(labels.device, non_blocking=True), labels, NO_CENTROID)
        centroids = self.get_buffer(f"centroids_{space}")
        x = embeddings.view_as(embeddings)  # as in `rows_with`
        return centroid_contrast(x, centroids, labels, margin=self.margin, temperature=self.temperature)

    def _due(self, space: str, step: int) -> bool:
        """Whether k-means is fitted at a step, if there are rows enough."""
        return step % self.sizes.refit_every == 0 or not self.progress[space].fitted

    def _labels(self, space: str, fused: Tensor, seen: Tensor, step: int) -> Tensor | None:
        """Own centroid of every fused row; fits k-means when it is due, and takes the seen rows into the queue."""
        rows = rows_with(seen, fused) if self.faithful else l2_normalize(rows_with(seen, fused))
        progress, queue = self.progress[space], self.get_buffer(f"queue_{space}")
        if self._due(space, step):
            self._fit(space, rows)
        new = rows[: self.sizes.rows_per_step]
        progress.first = push_rows(queue, new, first=progress.first)
        progress.filled = min(progress.filled + len(new), len(queue))
        return assign_to_centroids(fused, self.get_buffer(f"centroids_{space}")) if progress.fitted else None

    def _fit(self, space: str, rows: Tensor) -> None:
        """Move the centroids to the queue and the current rows; every process takes its share of these."""
        progress, queue = self.progress[space], self.get_buffer(f"queue_{space}")
        usable = progress.filled if not self.faithful or progress.filled == len(queue) else 0
        parts = [*newest_rows(queue, usable, first=progress.first), rows.to(queue.dtype)]
        total = usable + len(rows)
        if total < self.sizes.clusters:
            return
        centroids = self.get_buffer(f"centroids_{space}")
        own = own_rows(total)
        held, share = _rows_between(parts, own), Share(own.start, total, sum_over_ranks)
        start = centroids if progress.fitted else self._start(parts, space)
        if self.faithful:
            fit = faithful_kmeans(held, start, dtype=rows.dtype, share=share)
        else:
            fit = unit_kmeans(held, start, share=share)
        centroids.copy_(from_first(fit.centroids))
        progress.fitted = True

    def _start(self, rows: Sequence[Tensor], space: str) -> Tensor:
        """First centroids, drawn from the rows."""
        generator = torch.Generator().manual_seed(key_seed(self.seed, "centroids", space))
        return start_centroids(rows, self.sizes.clusters, generator=generator)


def _with_ring_progress(term: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Read what was saved before the queue was a ring: newest row in slot 0, raw rows, a tensor for each number."""
    if not isinstance(term, ClusterTerm) or f"{prefix}_extra_state" in state:
        return
    found = []
    for space in term.progress:
        numbers = [state.pop(f"{prefix}{name}_{space}", None) for name in ("filled", "fitted")]
        if any(number is None for number in numbers):
            return  # neither the old form nor the new one, which torch says
        found.append([0, *(int(number) for number in numbers)])
        queue = state.get(f"{prefix}queue_{space}")
        if queue is not None and not term.faithful:
            state[f"{prefix}queue_{space}"] = l2_normalize(queue)
    state[f"{prefix}_extra_state"] = torch.tensor(found)


def _rows_between(parts: Sequence[Tensor], wanted: slice) -> list[Tensor]:
    """The rows of several pieces that lie between two places among all of them, where they lie."""
    found, offset = [], 0
    for part in parts:
        found.append(part[max(0, wanted.start - offset) : max(0, wanted.stop - offset)])
        offset += len(part)
    return found


def _all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether all values are finite, without asking the device."""
    return torch.stack([x.detach().isfinite().all() for x in tensors]).all()


def on_host(present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which clips have which modality, in host memory: one transfer for all of them, none where they are there.

    Args:
        present: by modality, (clips,), bool.

    Returns:
        The same by modality.
    """
    if not present:
        return {}
    return dict(zip(present, torch.stack(list(present.values())).cpu(), strict=True))


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
