"""Terms of labeled embeddings: clips of a class together, and classes as language says."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs
from mcnlab.losses.language import Direction, relation_match
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.terms import Active, TermValue, on_host, rows_with

FEWEST_CLIPS = 2
"""Similarities are among clips."""


class MetricTerm(nn.Module):
    """A loss of the labeled embeddings of each modality, in each of its own spaces.

    Args:
        weight: factor of the term.
        loss: (clips, dim), (clips,) → scalar.
        modalities: those that learn.
    """

    name = "metric"

    def __init__(self, *, weight: float, loss: Callable[[Tensor, Tensor], Tensor], modalities: Sequence[str]) -> None:
        super().__init__()
        self.weight, self.loss, self.modalities = weight, loss, tuple(modalities)

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Sum over modalities and spaces of the loss of the clips that have a class."""
        parts = {}
        for subject, x, chosen in labeled_embeddings(model, batch, outputs, active, self.modalities):
            parts[subject] = self.loss(rows_with(chosen, x), rows_with(chosen, _labels(batch)))
        return TermValue(torch.stack(list(parts.values())).sum() if parts else None, parts)


class GuideTerm(nn.Module):
    """How far the similarities among a batch's clips are from those of language among their classes.

    Args:
        weight: factor of the term, ω in the paper.
        language: (classes, names, width): what language says of each class; or (places, names, width) of each clip.
        by_clip: whether it is of each clip.
        modalities: those that are guided.
        shift: see `relation_match`.
        temperature: see `relation_match`.
        direction: see `relation_match`.

    Source: Roth, Vinyals, Akata (CVPR 2022), arXiv 2203.08543.
    """

    name = "guide"

    def __init__(
        self,
        *,
        weight: float,
        language: Tensor,
        by_clip: bool,
        modalities: Sequence[str],
        shift: float,
        temperature: float,
        direction: Direction,
    ) -> None:
        super().__init__()
        self.weight, self.by_clip, self.modalities = weight, by_clip, tuple(modalities)
        self.shift, self.temperature, self.direction = shift, temperature, direction
        self.scales = {"temperature": temperature}
        self.register_buffer("language", language, persistent=False)

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Sum over modalities and spaces of the mismatch of the clips that have a class."""
        parts: dict[str, Tensor] = {}
        language = self.get_buffer("language")
        for subject, x, chosen in labeled_embeddings(model, batch, outputs, active, self.modalities):
            labels = rows_with(chosen, _labels(batch))
            told = language[rows_with(chosen, batch.clips) if self.by_clip else labels]
            parts[subject] = relation_match(
                rows_with(chosen, x),
                told,
                labels,
                shift=self.shift,
                temperature=self.temperature,
                direction=self.direction,
            )
        return TermValue(torch.stack(list(parts.values())).sum() if parts else None, parts)


def labeled_embeddings(
    model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active, modalities: Sequence[str]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The embeddings of active modalities in their own spaces: subject, (clips, dim), and which clips have a class.

    Spaces in which fewer than two clips have one are left out.
    """
    flags: Mapping[str, Tensor] = on_host(outputs.present)
    known = _labels(batch).cpu() >= 0
    for modality in modalities:
        if modality not in active.modalities:
            continue
        chosen = flags[modality] & known
        for space in model.graph.heads_of(modality):
            if (modality, space) in outputs.embeddings and int(chosen.sum()) >= FEWEST_CLIPS:
                yield model.graph.subject(modality, space), outputs.embeddings[modality, space], chosen


def _labels(batch: Batch) -> Tensor:
    """The classes of a batch; unknown throughout where it says nothing of them."""
    return torch.full_like(batch.clips, -1) if batch.labels is None else batch.labels
