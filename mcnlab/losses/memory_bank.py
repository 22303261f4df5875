"""Contrast against a memory: stored embeddings of all clips stand in for a large batch."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.losses.contrastive import Temperature, check_temperature
from mcnlab.numerics import l2_normalize

EPSILON = 1e-7
"""Keeps the published noise-contrastive ratios away from 0 / 0."""
WHOLE_BANK = 4
"""On a CPU a bank at most so many times as long as a row of candidates is multiplied whole: cheaper than picking."""


def first_bank(clips: int, dim: int, *, generator: torch.Generator) -> Float[Tensor, "clips dim"]:
    """What a bank holds before any clip was seen: uniform numbers within ±1/√(dim/3), rows of length about 1.

    Args:
        clips: rows of the bank, one per clip.
        dim: width of the embeddings.
        generator: source of the draw.

    Returns:
        (clips, dim), float32.

    Source: CMC's release (Tian, Krishnan, Isola 2020), arXiv 1906.05849.
    """
    bound = 1.0 / math.sqrt(dim / 3)
    return torch.empty(clips, dim).uniform_(-bound, bound, generator=generator)


def bank_scores(
    anchors: Float[Tensor, "anchors dim"],
    bank: Float[Tensor, "clips dim"],
    candidates: Int[Tensor, "rows candidates"],
    *,
    temperature: Temperature,
) -> Float[Tensor, "rows candidates"]:
    """Cosine of every anchor with its candidates out of the other view's bank, over the temperature.

    Args:
        anchors: (B, dim), any float dtype; made unit length.
        bank: (N, dim), of the other view. It carries no gradient.
        candidates: (B, K + 1), int64. Rows of the bank: first the anchor's own, then K negatives.
        temperature: above 0; published 0.07.

    Returns:
        (B, K + 1), float32 or float64.

    Raises:
        ShapeError: not one row of candidates per anchor.
        ConfigError: `temperature` is not above 0.
    """
    if len(anchors) != len(candidates):
        raise ShapeError(f"{len(anchors)} anchors but {len(candidates)} rows of candidates")
    check_temperature(temperature)
    with torch.autocast(anchors.device.type, enabled=False):
        unit = l2_normalize(anchors)
        if anchors.device.type == "cpu" and len(bank) <= WHOLE_BANK * candidates.shape[1]:
            stored = bank.detach().to(unit.dtype, copy=True)  # the bank may move on before gradients are asked for
            return (unit @ stored.T).gather(1, candidates) / temperature
        rows = bank.detach()[candidates].to(unit.dtype)  # (B, K + 1, dim)
        return (rows @ unit[:, :, None]).squeeze(2) / temperature


def bank_softmax(scores: Float[Tensor, "anchors candidates"]) -> Float[Tensor, ""]:
    """Cross-entropy of the own candidate, which stands first, among all K + 1.

    Args:
        scores: (B, K + 1), from `bank_scores`.

    Returns:
        (), nats; log(K + 1) when nothing is learned.

    Source: CMC (Tian, Krishnan, Isola 2020), arXiv 1906.05849, equation 3 with a bank.
    """
    return functional.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.int64))


def bank_nce(
    scores: Float[Tensor, "anchors candidates"], *, clips: int, normalizer: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Noise-contrastive estimation against K negatives that are drawn uniformly from all clips.

    With p = exp(score) / Z and noise K/N: -(1/B) [Σ log p₀/(p₀ + K/N + ε) + Σ_k log (K/N)/(p_k + K/N + ε)].

    Args:
        scores: (B, K + 1), from `bank_scores`; the own candidate stands first.
        clips: N, rows of the bank; at least 1.
        normalizer: Z, above 0: see `bank_normalizer`.

    Returns:
        (), nats.

    Source: CMC's release (2020), arXiv 1906.05849; Gutmann and Hyvärinen (2010). ε is 1e-7, as released.
    """
    likely = scores.exp() / normalizer
    noise = (scores.shape[1] - 1) / clips
    own = (likely[:, 0] / (likely[:, 0] + noise + EPSILON)).log()
    others = (noise / (likely[:, 1:] + noise + EPSILON)).log()
    return -(own.sum() + others.sum()) / len(scores)


def bank_normalizer(scores: Float[Tensor, "anchors candidates"], *, clips: int) -> Float[Tensor, ""]:
    """Z of `bank_nce`: mean of exp(score) times the number of clips, without gradient.

    Args:
        scores: (B, K + 1), of the first batch.
        clips: N, rows of the bank.

    Returns:
        (), above 0.
    """
    return scores.detach().exp().mean() * clips


def moved_rows(
    bank: Float[Tensor, "clips dim"],
    rows: Int[Tensor, " anchors"],
    embeddings: Float[Tensor, "anchors dim"],
    *,
    momentum: float = 0.5,
) -> Float[Tensor, "anchors dim"]:
    """What the bank holds for the clips of a batch after it: normalize(m · stored + (1 - m) · new).

    Args:
        bank: (N, dim).
        rows: (B,), int64. Their places.
        embeddings: (B, dim).
        momentum: m, from 0 to 1; published 0.5.

    Returns:
        (B, dim), in the bank's dtype, of unit length.

    Raises:
        ConfigError: `momentum` is out of range.
    """
    if not 0.0 <= momentum <= 1.0:
        raise ConfigError(f"momentum must be from 0 to 1, got {momentum}")
    new = l2_normalize(embeddings.detach()).to(bank.dtype)
    return l2_normalize(momentum * bank[rows] + (1.0 - momentum) * new).to(bank.dtype)
