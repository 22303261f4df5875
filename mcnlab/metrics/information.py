"""How much two views tell about each other at least: the bound that a contrast gives, from their embeddings."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.metrics.vectors import check_embeddings
from mcnlab.numerics import l2_normalize

BLOCK = 1024
"""Rows that are scored against all candidates at a time."""


def information_bound(
    x: Float[Tensor, "clips width"], y: Float[Tensor, "others other_width"], *, temperature: float, block: int = BLOCK
) -> Float[Tensor, " clips"]:
    """What each clip adds to the lower bound of the mutual information of two views: log k - L.

    L is the clip's InfoNCE loss among k candidates, mean of both directions; k is the number of clips, the true one
    among them. The mean over clips is the bound, whatever the embeddings are: better ones make it tighter. It never
    exceeds log k.

    Args:
        x: (k, D), finite, k >= 2. Not necessarily of unit length.
        y: (k, D). Row i belongs to row i of `x`.
        temperature: Divides the cosines. Above 0.
        block: Rows whose scores are held in memory at a time.

    Returns:
        (k,), float64, nats. Negative where the true candidate does worse than chance.

    Raises:
        ShapeError: The sides differ in shape, or there are fewer than two clips.
        ConfigError: `temperature` is not above 0, or `block` below 1.
        NonFiniteError: An embedding is not finite.

    Source:
        van den Oord et al. 2018, arXiv 1807.03748, appendix A; Tian et al. 2020, arXiv 1906.05849, eq. 7 and 8, where
        k counts the negatives of a memory bank; here all held-out clips are the candidates.

    Example:
        >>> information_bound(torch.eye(2), torch.eye(2), temperature=0.01).mean().exp()
        tensor(2., dtype=torch.float64)
    """
    _check(x, y, temperature, block)
    check_embeddings(x, y)
    x, y = (l2_normalize(side).double() for side in (x, y))
    own = (x * y).sum(dim=1) / temperature  # (clips,): the score of each true pair
    backward = torch.full_like(own, -math.inf)  # log-sums over the rows seen so far, by column
    forward = []
    for rows in x.split(block):
        scores = rows @ y.T / temperature  # (block, clips)
        forward.append(scores.logsumexp(dim=1))
        backward = torch.logaddexp(backward, scores.logsumexp(dim=0))
    losses = 0.5 * (torch.cat(forward) + backward) - own
    return math.log(len(x)) - losses


def _check(x: Tensor, y: Tensor, temperature: float, block: int) -> None:
    """Raise where there is nothing to compare."""
    if x.shape != y.shape:
        raise ShapeError(f"x is {tuple(x.shape)} but y is {tuple(y.shape)}")
    if len(x) < 2:
        raise ShapeError(f"a bound needs at least two clips, got {len(x)}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(f"temperature must be above 0, got {temperature}")
    if block < 1:
        raise ConfigError(f"block must be at least 1, got {block}")
