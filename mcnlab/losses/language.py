"""Losses of labeled embeddings, and the guidance of their similarities by what language says of the classes."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.numerics import l2_normalize

Direction = Literal["backward", "forward"]
"""Which of the two distributions of a divergence comes first: that of the embeddings, or that of language."""


def relation_match(
    embeddings: Float[Tensor, "clips dim"],
    language: Float[Tensor, "rows names width"],
    labels: Int[Tensor, " labels"],
    *,
    shift: float = 1.0,
    temperature: float = 1.0,
    direction: Direction = "backward",
) -> Float[Tensor, ""]:
    """How far the similarities among clips are from those that language gives among their classes.

    Each clip's similarities to all clips become a distribution; cells of equal class count as equally close on both
    sides, so that language says nothing about clips of one class.

    Args:
        embeddings: (clips, dim), float. Any length; compared by cosine.
        language: (clips, names, width), float. What language says of each clip's class, one vector per name; the k-th
            name is compared with the k-th, and the similarities are averaged.
        labels: (clips,), int. Class of each clip.
        shift: added to the similarities of language alone.
        temperature: above 0. Divides both similarities.
        direction: `backward` divides by language: Σ p log(p/q), p of the embeddings; `forward` swaps the two.

    Returns:
        Scalar, at least 0, in nats times temperature squared; the mean over clips. Gradient through the embeddings
        alone.

    Raises:
        ShapeError: not one vector of language, or not one label, per clip.
        ConfigError: the temperature is not above 0.

    Source: Roth, Vinyals, Akata (CVPR 2022), arXiv 2203.08543, equations 3 to 6, and its released defaults.

    Example:
        >>> relation_match(torch.eye(2), torch.eye(2)[:, None], torch.tensor([0, 0])).item()
        0.0
    """
    _check_sizes(embeddings, labels)
    if len(language) != len(embeddings):
        raise ShapeError(f"{len(embeddings)} embeddings but {len(language)} rows of language")
    if not temperature > 0:
        raise ConfigError(f"temperature must be above 0, got {temperature}")
    same = labels[:, None] == labels[None]  # (clips, clips)
    own = _filled(cosines(embeddings), same, 1.0 + shift)
    told = _filled(language_similarity(language).to(own.dtype) + shift, same, 1.0 + shift).detach()
    log_own, log_told = ((x / temperature).log_softmax(dim=1) for x in (own, told))
    first, second = (log_own, log_told) if direction == "backward" else (log_told, log_own)
    return temperature**2 * (first.exp() * (first - second)).sum(dim=1).mean()


def language_similarity(language: Float[Tensor, "clips names width"]) -> Float[Tensor, "clips clips"]:
    """Cosine of the k-th name of one clip with the k-th of another, averaged over the names; from -1 to 1."""
    unit = l2_normalize(language)
    return torch.einsum("ikw,jkw->ij", unit, unit) / language.shape[1]


def multi_similarity(
    embeddings: Float[Tensor, "clips dim"],
    labels: Int[Tensor, " labels"],
    *,
    alpha: float = 2.0,
    beta: float = 40.0,
    boundary: float = 0.5,
    margin: float = 0.1,
) -> Float[Tensor, ""]:
    """Clips of a class are pulled together and those of others pushed away, the hard ones most.

    Of each clip's pairs only those count that are within the margin of being wrong: others that come closer than the
    farthest of its class, and clips of its class that are farther than the closest other.

    Args:
        embeddings: (clips, dim), float. Any length; compared by cosine.
        labels: (clips,), int. Class of each clip.
        alpha: above 0. Sharpness for clips of a class.
        beta: above 0. Sharpness for clips of other classes.
        boundary: cosine beyond which a pair costs little.
        margin: at least 0. How much a pair must be on the right side not to count.

    Returns:
        Scalar, at least 0; the mean over all clips, also those without a pair that counts.

    Raises:
        ShapeError: not one label per clip.
        ConfigError: a sharpness is not above 0, or the margin is negative.

    Source: Wang et al. (CVPR 2019), arXiv 1904.06627, equations 9 to 11, with its released defaults but `beta` 40 as in
    Roth et al. (2022). Difference: clips that lack a pair of one kind cost nothing for that kind.
    """
    _check_sizes(embeddings, labels)
    if not (alpha > 0 and beta > 0):
        raise ConfigError(f"alpha and beta must be above 0, got {alpha} and {beta}")
    if margin < 0:
        raise ConfigError(f"margin must not be negative, got {margin}")
    similarity = cosines(embeddings)
    positive, negative = pairs_of(labels)
    farthest = similarity.masked_fill(~positive, torch.inf).amin(dim=1, keepdim=True).detach()
    closest = similarity.masked_fill(~negative, -torch.inf).amax(dim=1, keepdim=True).detach()
    pulled = positive & (similarity.detach() - margin < closest)
    pushed = negative & (similarity.detach() + margin > farthest)
    near = _log_of_sum(-alpha * (similarity - boundary), pulled) / alpha
    far = _log_of_sum(beta * (similarity - boundary), pushed) / beta
    return (near + far).mean()


def margin_loss(
    embeddings: Float[Tensor, "clips dim"],
    labels: Int[Tensor, " labels"],
    *,
    boundary: float = 1.2,
    margin: float = 0.2,
) -> Float[Tensor, ""]:
    """Clips of a class are to be nearer than a boundary, those of others farther, by a margin.

    Args:
        embeddings: (clips, dim), float. Any length; compared by the distance of unit vectors, from 0 to 2.
        labels: (clips,), int. Class of each clip.
        boundary: above 0. Distance that parts the two.
        margin: at least 0.

    Returns:
        Scalar, at least 0; mean over the pairs that cost something, 0 where none does.

    Raises:
        ShapeError: not one label per clip.
        ConfigError: the boundary is not above 0, or the margin is negative.

    Source: Wu et al. (ICCV 2017), arXiv 1706.07567, equation 5. Differences: all pairs of the batch count, where the
    paper draws negatives by their distance; the boundary is fixed at its first value.
    """
    _check_sizes(embeddings, labels)
    if not boundary > 0 or margin < 0:
        raise ConfigError(f"boundary must be above 0 and margin not negative, got {boundary} and {margin}")
    distance = (2.0 - 2.0 * cosines(embeddings)).clamp_min(1e-8).sqrt()  # (clips, clips)
    positive, negative = pairs_of(labels)
    costs = (distance - boundary + margin).relu() * positive + (boundary - distance + margin).relu() * negative
    return costs.sum() / (costs > 0).sum().clamp_min(1)


def cosines(embeddings: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips clips"]:
    """Cosine of every clip with every clip."""
    unit = l2_normalize(embeddings)
    return unit @ unit.T


def pairs_of(labels: Int[Tensor, " clips"]) -> tuple[Bool[Tensor, "clips clips"], Bool[Tensor, "clips clips"]]:
    """Which pairs are two different clips of one class, and which are of two classes."""
    same = labels[:, None] == labels[None]
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~own, ~same


def _log_of_sum(x: Tensor, chosen: Tensor) -> Tensor:
    """log(1 + Σ exp x) over the chosen cells of each row."""
    zero = x.new_zeros(len(x), 1)
    return torch.cat((zero, x.masked_fill(~chosen, -torch.inf)), dim=1).logsumexp(dim=1)


def _filled(similarity: Tensor, same: Tensor, value: float) -> Tensor:
    """The similarities, with a value in the cells of equal class."""
    return similarity.masked_fill(same, value)


def _check_sizes(embeddings: Tensor, labels: Tensor) -> None:
    """One label per embedding."""
    if len(labels) != len(embeddings):
        raise ShapeError(f"{len(embeddings)} embeddings but {len(labels)} labels")
