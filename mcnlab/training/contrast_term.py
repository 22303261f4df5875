"""The contrast term: what each clip has in two modalities is pulled together, and apart from other clips'."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs, pair_modalities
from mcnlab.losses.contrastive import Temperature
from mcnlab.losses.scorers import peak_similarity
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.terms import Active, TermValue, on_host, rows_with

FEWEST_CLIPS = 2
"""A contrast needs something to be told apart from."""
PLACED = "video"
"""The modality whose features have places."""
PairLoss = Callable[[Tensor, Tensor, Temperature, Tensor | None], Tensor]
"""(clips, dim), (clips · captions, dim), temperature, which captions are there → scalar."""
SimilarityLoss = Callable[[Tensor, Temperature], Tensor]
"""(clips, clips) of similarities, temperature → scalar."""


class ContrastTerm(nn.Module):
    """Sum, or weighted mean, of the contrastive losses of the active pairs, each in its own space.

    Args:
        weight: factor of the term.
        loss: of one pair.
        temperature: what divides cosines, where the model learns none.
        several: whether the loss takes several captions per clip and says which are there. A clip without the second
            modality of a pair then still serves as a negative of the first; otherwise it is left out of the pair.
        pair_weights: see `total_of_pairs`.
        scales: what the loss takes off scores or divides them by, by name, for errors.
        peaks: loss of similarities, each the maximum over the places of a map, for pairs of which one modality has a
            map and the other a vector; None compares vectors everywhere.
    """

    name = "contrast"

    def __init__(
        self,
        *,
        weight: float,
        loss: PairLoss,
        temperature: float,
        several: bool = False,
        pair_weights: Mapping[str, float] | None = None,
        scales: Mapping[str, float] = MappingProxyType({}),
        peaks: SimilarityLoss | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.loss, self.temperature, self.several = weight, loss, temperature, several
        self.pair_weights = dict(pair_weights or {})
        self.scales, self.peaks = scales, peaks

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Loss of every active pair that clips enough have."""
        parts, flags = {}, on_host(outputs.present)
        learned = model.learned_temperature(self.name)
        temperature = self.temperature if learned is None else learned
        of_pair = self._with_captions if self.several else self._of_both
        for pair in active.pairs:
            if self.peaks is not None and PLACED in pair_modalities(pair) and PLACED in outputs.maps:
                value = self._of_peaks(model, outputs, flags, pair, temperature)
            else:
                value = of_pair(outputs, flags, pair, model.graph.space_of_pair[pair], temperature)
            if value is not None:
                parts[pair] = value
        total = total_of_pairs(parts, active.pairs, weights=self.pair_weights)
        return TermValue(total, parts if learned is None else {**parts, "temperature": learned.detach()})

    def _of_both(
        self, outputs: Outputs, flags: Mapping[str, Tensor], pair: str, space: str, temperature: Temperature
    ) -> Tensor | None:
        """Loss of the clips that have both modalities."""
        first, second = pair_modalities(pair)
        both = flags[first] & flags[second]
        if int(both.sum()) < FEWEST_CLIPS:
            return None
        x, y = outputs.embeddings[first, space], outputs.embeddings[second, space]
        return self.loss(rows_with(both, x), rows_with(both, y), temperature, None)

    def _of_peaks(
        self, model: MultimodalModel, outputs: Outputs, flags: Mapping[str, Tensor], pair: str, temperature: Temperature
    ) -> Tensor | None:
        """Loss of the clips that have both modalities, by the place that fits best."""
        space = model.graph.space_of_pair[pair]
        (other,) = (modality for modality in pair_modalities(pair) if modality != PLACED)
        both = flags[PLACED] & flags[other]
        if int(both.sum()) < FEWEST_CLIPS or self.peaks is None:
            return None
        maps = model.map_in_space(rows_with(both, outputs.maps[PLACED]), modality=PLACED, space=space).flatten(1, 2)
        vectors = rows_with(both, outputs.embeddings[other, space])
        return self.peaks(peak_similarity(maps.float(), vectors.float()), temperature)

    def _with_captions(
        self, outputs: Outputs, flags: Mapping[str, Tensor], pair: str, space: str, temperature: Temperature
    ) -> Tensor | None:
        """Loss of the clips that have the first modality, against all captions of those of them that have any."""
        first, second = pair_modalities(pair)
        if first == "text":
            first, second = second, first
        here, captions, there = flags[first], outputs.embeddings[second, space][:, None], flags[second][:, None]
        if second == "text" and outputs.candidates_present is not None:
            captions = torch.cat((captions, outputs.candidates[space]), dim=1)  # (clips, captions, dim), own first
            there = torch.cat((there, outputs.candidates_present.cpu()), dim=1)
        there = there[here]
        if int(here.sum()) < FEWEST_CLIPS or not there.any():
            return None
        x, y = rows_with(here, outputs.embeddings[first, space]), rows_with(here, captions).flatten(0, 1)
        present = None if there.all() else there.flatten().to(y.device, non_blocking=True)
        return self.loss(x, y, temperature, present)


def total_of_pairs(
    parts: Mapping[str, Tensor], active: Collection[str], *, weights: Mapping[str, float]
) -> Tensor | None:
    """What the pairs' losses come to.

    Args:
        parts: by pair that has a value: its loss.
        active: all pairs of the stage.
        weights: by pair; those not named weigh 1. Empty: the plain sum.

    Returns:
        The sum; with weights Σ λ L / Σ λ, where a pair without a value counts as 0. None when no pair has a value.

    Source: the weighted mean is that of Alayrac et al. (2020), arXiv 2006.16228, equation 1, as VATT's release has it.
    """
    if not parts:
        return None
    if not weights:
        return torch.stack(list(parts.values())).sum()
    total = torch.stack([weights.get(pair, 1.0) * value for pair, value in parts.items()]).sum()
    return total / sum(weights.get(pair, 1.0) for pair in active)
