"""The term of cross-view prediction: what one modality's embedding says about another's input features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs, pair_modalities
from mcnlab.data.loading import TrainingClips
from mcnlab.errors import ConfigError
from mcnlab.losses.prediction import code_cross_entropy, fitted_codebook, nearest_codes
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.models.towers import real_positions
from mcnlab.numerics import key_generator, key_seed
from mcnlab.training.terms import Active, TermValue, on_host, rows_with

SAMPLED_CLIPS = 4096
"""Clips from which the statistics of the inputs are taken, where there are more."""
CLIPS_AT_ONCE = 256
"""Clips that are read at a time for them."""
LEAST_SPREAD = 1e-6
"""An input feature that varies less than this is only centered."""


@dataclass(frozen=True)
class InputStatistics:
    """What is known of a modality's input features before training."""

    mean: Tensor
    """(dim,), float32."""
    spread: Tensor
    """(dim,), float32, above 0: standard deviation."""
    codebook: Tensor | None = None
    """(codes, dim), of standardized features; None where they are not quantized."""


class PredictTerm(nn.Module):
    """Error of predicting each modality of a pair from the other's embedding in the pair's space, both directions.

    The targets are frozen: the inputs themselves, averaged over time where they have one (see `mean_inputs`), and
    standardized by statistics of the training clips.

    Args:
        weight: factor of the term.
        error: (rows, dim), (rows, dim) → scalar; not asked where the statistics hold a codebook.
        statistics: by modality.

    Source: the predictive baseline of CMC (Tian, Krishnan, Isola 2020), arXiv 1906.05849, section 3.1. Differences:
    the targets are features, not pixels; codes are those of k-means.
    """

    name = "predict"
    reads_means = True

    def __init__(
        self,
        *,
        weight: float,
        error: Callable[[Tensor, Tensor], Tensor],
        statistics: Mapping[str, InputStatistics],
    ) -> None:
        super().__init__()
        self.weight, self.error = weight, error
        for modality, known in statistics.items():
            self.register_buffer(f"mean_{modality}", known.mean)
            self.register_buffer(f"spread_{modality}", known.spread)
            self.register_buffer(f"codebook_{modality}", known.codebook)

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Sum over the active pairs and both directions of each of the mean error of the clips that have both."""
        parts, flags = {}, on_host(outputs.present)
        for pair in active.pairs:
            first, second = pair_modalities(pair)
            both, space = flags[first] & flags[second], model.graph.space_of_pair[pair]
            for source, target in ((first, second), (second, first)) if both.any() else ():
                x = rows_with(both, outputs.embeddings[source, space])
                predicted = model.predict(x, source=source, space=space, target=target)
                wanted = self.standardized(rows_with(both, batch.inputs[target]), target)
                parts[f"{source}->{target}"] = self._error(predicted, wanted, self._buffers[f"codebook_{target}"])
        return TermValue(torch.stack(list(parts.values())).sum() if parts else None, parts)

    def standardized(self, features: Tensor, modality: str) -> Tensor:
        """Input features of a modality with mean 0 and variance 1 over the training clips."""
        return (features - self.get_buffer(f"mean_{modality}")) / self.get_buffer(f"spread_{modality}")

    def _error(self, predicted: Tensor, wanted: Tensor, codebook: Tensor | None) -> Tensor:
        """Of the features, or of the codes that they are quantized to."""
        if codebook is None:
            return self.error(predicted, wanted)
        return code_cross_entropy(predicted, nearest_codes(wanted, codebook))


def reads_means(term: object) -> bool:
    """Whether a term reads inputs averaged over time."""
    return bool(getattr(term, "reads_means", False))


def mean_inputs(batch: Batch) -> dict[str, Tensor]:
    """Every modality's input as one vector per clip.

    Args:
        batch: the clips, ready for the towers.

    Returns:
        By modality: (clips, dim). Video: its pooled features as they are. Audio: the mean log-mel over the real
        frames; text: the mean word vector over the real words; anything else with a time axis after the clips: its
        mean over the real steps, flattened. Zeros where a clip lacks the modality.
    """
    return {
        modality: x if x.ndim == 2 else _mean_over_real(x.movedim(2, 1) if modality == "audio" else x, lengths)
        for modality, x in batch.inputs.items()
        for lengths in [batch.lengths[modality]]
    }


def _mean_over_real(x: Tensor, lengths: Tensor) -> Tensor:
    """(clips, time, …) → (clips, …): mean over the first steps of each clip."""
    real = real_positions(lengths, x.shape[1]).to(x.dtype)
    steps = x.flatten(2)  # (clips, time, dim)
    return (real[:, None] @ steps).squeeze(1) / lengths.clamp_min(1)[:, None].to(x.dtype)


def input_statistics(
    source: TrainingClips, modalities: Sequence[str], *, codes: int | None, seed: int
) -> dict[str, InputStatistics]:
    """Statistics of the inputs of the training clips, of up to `SAMPLED_CLIPS` drawn ones where there are more.

    Args:
        source: the clips.
        modalities: whose.
        codes: entries of each codebook; None for none.
        seed: of the draws.

    Returns:
        By modality; every process finds the same.

    Raises:
        ConfigError: fewer clips have a modality than its codebook has entries.
    """
    order = key_generator(seed, "input statistics").permutation(len(source))[:SAMPLED_CLIPS]
    rows: dict[str, list[Tensor]] = {modality: [] for modality in modalities}
    for start in range(0, len(order), CLIPS_AT_ONCE):
        batch = source.batch(np.sort(order[start : start + CLIPS_AT_ONCE]))
        means = mean_inputs(batch)
        for modality, found in rows.items():
            found.append(means[modality][batch.present[modality]])
    return {m: _statistics(m, torch.cat(found), codes=codes, seed=seed) for m, found in rows.items()}


def unknown_statistics(input_dims: Mapping[str, int], *, codes: int | None) -> dict[str, InputStatistics]:
    """Statistics of the right shapes where there are no clips: for reckoning what a step costs.

    Args:
        input_dims: by modality: width of its input.
        codes: entries of each codebook; None for none.

    Returns:
        By modality: mean 0, spread 1.
    """
    return {
        modality: InputStatistics(torch.zeros(dim), torch.ones(dim), None if codes is None else torch.zeros(codes, dim))
        for modality, dim in input_dims.items()
    }


def _statistics(modality: str, rows: Tensor, *, codes: int | None, seed: int) -> InputStatistics:
    """Of the rows of one modality."""
    if len(rows) < (codes or 2):
        raise ConfigError(f"terms.predict: {codes or 2} clips with {modality} are needed, found {len(rows)}")
    spread, mean = torch.std_mean(rows.double(), dim=0, correction=0)
    mean, spread = mean.float(), torch.where(spread < LEAST_SPREAD, 1.0, spread).float()
    if codes is None:
        return InputStatistics(mean, spread)
    draw = torch.Generator().manual_seed(key_seed(seed, "codebook", modality))
    return InputStatistics(mean, spread, fitted_codebook((rows - mean) / spread, codes=codes, generator=draw))
