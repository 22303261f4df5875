"""The contrast term against a memory: stored embeddings of all training clips instead of the others of the batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs, pair_modalities
from mcnlab.errors import ConfigError
from mcnlab.losses.contrastive import Temperature
from mcnlab.losses.memory_bank import bank_nce, bank_normalizer, bank_scores, bank_softmax, first_bank, moved_rows
from mcnlab.models.graph import Graph
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.numerics import key_seed
from mcnlab.training.contrast_term import total_of_pairs
from mcnlab.training.terms import Active, TermValue, on_host, rows_with

KEPT_NORMALIZER = 0.9
"""Part of a running Z that stays at every step."""


@dataclass(frozen=True)
class BankRules:
    """How banks are used."""

    nce: bool = False
    """Noise-contrastive estimation; otherwise cross-entropy over all candidates."""
    negatives: int = 16384
    """Stored embeddings per anchor beside its own, at most all clips but one."""
    momentum: float = 0.5
    """Part of a stored embedding that stays."""
    running: bool = False
    """Z is a running mean; otherwise it stays as the first batch gives it, as published."""
    exclude_own: bool = False
    """An anchor's own clip is never drawn as a negative."""


@dataclass(frozen=True)
class _Way:
    """One direction of a pair."""

    pair: str
    anchor: str
    """The modality whose embeddings are compared."""
    other: str
    """The modality whose bank they are compared with."""
    space: str


class BankTerm(nn.Module):
    """Each modality of a pair against the other's bank, both directions added.

    A bank holds an embedding of every training clip in one space; after the loss those of the batch move on. What is
    drawn depends on seed, pair, direction and step alone, so that a run resumes bit for bit and processes agree.

    Args:
        weight: factor of the term.
        graph: its pairs are compared.
        dims: by space: its width.
        present: by modality: (clips,), bool: which training clips have it; their places are those of `Batch.clips`.
        rules: how banks are used.
        temperature: what divides cosines, where the model learns none.
        seed: of the first banks and the draws.
        pair_weights: see `total_of_pairs`.

    Raises:
        ConfigError: fewer than two clips have a modality of a pair.

    Source: CMC's release (Tian, Krishnan, Isola 2020), arXiv 1906.05849. Differences: a bank for every modality and
    space; negatives are drawn among the clips that have the modality; K is capped.
    """

    name = "contrast"

    def __init__(
        self,
        *,
        weight: float,
        graph: Graph,
        dims: Mapping[str, int],
        present: Mapping[str, Tensor],
        rules: BankRules,
        temperature: float,
        seed: int,
        pair_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.rules, self.temperature, self.seed = weight, rules, temperature, seed
        self.scales = {"temperature": temperature}
        self.pair_weights = dict(pair_weights or {})
        for pair, space in graph.space_of_pair.items():
            for modality in pair_modalities(pair):
                self._add_clips(modality, present)
                self.register_buffer(f"normalizer_{pair}_{modality}", torch.zeros((), dtype=torch.float64))
                if not hasattr(self, bank_name(modality, space)):
                    draw = torch.Generator().manual_seed(key_seed(seed, "bank", modality, space))
                    bank = first_bank(len(present[modality]), dims[space], generator=draw)
                    self.register_buffer(bank_name(modality, space), bank)

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Loss of every active pair that some clip has; then the banks take in the batch."""
        parts, flags = {}, on_host(outputs.present)
        learned = model.learned_temperature(self.name)
        temperature = self.temperature if learned is None else learned
        for pair in active.pairs:
            first, second = pair_modalities(pair)
            both, space = flags[first] & flags[second], model.graph.space_of_pair[pair]
            if both.any():
                clips = rows_with(both, batch.clips)
                ways = (_Way(pair, first, second, space), _Way(pair, second, first, space))
                found = [
                    self._loss(way, rows_with(both, outputs.embeddings[way.anchor, space]), clips, temperature, active)
                    for way in ways
                ]
                parts[pair] = torch.stack(found).sum()
        self._take_in(model.graph, batch, outputs, flags, active)
        total = total_of_pairs(parts, active.pairs, weights=self.pair_weights)
        return TermValue(total, parts if learned is None else {**parts, "temperature": learned.detach()})

    def _loss(self, way: _Way, x: Tensor, clips: Tensor, temperature: Temperature, active: Active) -> Tensor:
        """Loss of one modality's embeddings against the other's bank."""
        bank = self.get_buffer(bank_name(way.other, way.space))
        candidates = torch.cat((clips[:, None], self._negatives(way, clips, active.step)), dim=1)
        scores = bank_scores(x, bank, candidates, temperature=temperature)
        if not self.rules.nce:
            return bank_softmax(scores)
        known, scores = len(self.get_buffer(f"clips_{way.other}")), scores.double()  # exp(1 / 0.01) is beyond float32
        return bank_nce(scores, clips=known, normalizer=self._normalizer(way, scores, known)).float()

    @torch.no_grad()
    def _normalizer(self, way: _Way, scores: Tensor, known: int) -> Tensor:
        """Z of one direction, after this batch; 0 is not known yet."""
        kept = self.get_buffer(f"normalizer_{way.pair}_{way.anchor}")
        found = bank_normalizer(scores, clips=known)
        share = KEPT_NORMALIZER if self.rules.running else 1.0
        kept.copy_(torch.where(kept == 0, found, share * kept + (1.0 - share) * found))
        return kept.clone()

    def _negatives(self, way: _Way, clips: Tensor, step: int) -> Tensor:
        """(anchors, K): places of clips drawn uniformly among those that have the other modality."""
        known = self.get_buffer(f"clips_{way.other}")
        count, left_out = min(self.rules.negatives, len(known) - 1), int(self.rules.exclude_own)
        draw = torch.Generator().manual_seed(key_seed(self.seed, "negatives", way.pair, way.anchor, step))
        picks = torch.randint(len(known) - left_out, (len(clips), count), generator=draw).to(clips.device)
        if left_out:
            picks += picks >= torch.searchsorted(known, clips)[:, None]
        return known[picks]

    @torch.no_grad()
    def _take_in(
        self, graph: Graph, batch: Batch, outputs: Outputs, flags: Mapping[str, Tensor], active: Active
    ) -> None:
        """Move what the banks hold for the clips of the batch, once for every modality and space."""
        compared = {(m, graph.space_of_pair[pair]): None for pair in active.pairs for m in pair_modalities(pair)}
        for modality, space in compared:
            if flags[modality].any():
                clips = rows_with(flags[modality], batch.clips)
                bank, x = self.get_buffer(bank_name(modality, space)), outputs.embeddings[modality, space]
                bank[clips] = moved_rows(bank, clips, rows_with(flags[modality], x), momentum=self.rules.momentum)

    def _add_clips(self, modality: str, present: Mapping[str, Tensor]) -> None:
        """Remember which clips have a modality."""
        if hasattr(self, f"clips_{modality}"):
            return
        known = present[modality].nonzero().flatten() if modality in present else torch.zeros(0, dtype=torch.int64)
        if len(known) < 2:
            raise ConfigError(
                f"terms.contrast.loss: a memory bank needs two clips with {modality}, "
                f"the training split has {len(known)}"
            )
        self.register_buffer(f"clips_{modality}", known, persistent=False)


def bank_name(modality: str, space: str) -> str:
    """What the bank of a modality in a space is called among the term's buffers."""
    return f"bank_{modality}_{space}"
