"""Balanced assignment: labels for clips such that every label gets the same share."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.numerics import l2_normalize

MOST_ROUNDS = 1000
"""A plan that has not settled by then is used as it is."""
FIT_TOLERANCE = 1e-3
"""Where assignment and centroids are taken to have settled while clusters are fitted."""


def balanced_assignment(
    log_probabilities: Float[Tensor, "clips classes"], *, sharpness: float = 10.0, tolerance: float = 1e-6
) -> Int[Tensor, " clips"]:
    """The label of every clip when all labels are to be used equally often: optimal transport by Sinkhorn–Knopp.

    Q = diag(u) P^s diag(v) with rows that sum to 1/N and columns that sum to 1/K; a clip's label is its largest entry.

    Args:
        log_probabilities: (N, K), finite: log of how likely each label is; anything that differs by the same amount for
            all labels of a clip gives the same answer, such as scores before a softmax.
        sharpness: s, above 0; larger follows the probabilities more closely. SeLaVi's λ stands for s = λ/2.
        tolerance: stops when the row factors change less, summed over the clips, relatively.

    Returns:
        (N,), int64, from 0 to K − 1. Shares are equal for Q, and nearly so for its largest entries.

    Raises:
        ShapeError: there are no clips, or no labels.
        ConfigError: `sharpness` or `tolerance` is not above 0.
        NonFiniteError: a value is NaN or infinite.

    Source:
        Asano et al. (2020), SeLaVi, arXiv 2006.13662, equations 3 and 4, with the power λ/2 of the release. Here with
        logarithms, where the release takes powers that can underflow; and rounds go on until nothing moves, where the
        release looks at every tenth and stops at a change of 0.1.

    Example:
        >>> balanced_assignment(torch.tensor([[0.9, 0.1], [0.8, 0.2]]).log()).tolist()
        [0, 1]
    """
    return transport_plan(log_probabilities, sharpness=sharpness, tolerance=tolerance).argmax(dim=1)


def transport_plan(
    log_probabilities: Float[Tensor, "clips classes"], *, sharpness: float, tolerance: float = 1e-6
) -> Float[Tensor, "clips classes"]:
    """Logarithm of the balanced plan; arguments and errors as in `balanced_assignment`.

    Args:
        log_probabilities: (N, K), finite.
        sharpness: power of the probabilities.
        tolerance: where the rounds stop.

    Returns:
        (N, K), float64: log Q; columns sum to 1/K, rows to 1/N up to the tolerance.
    """
    _check(log_probabilities, sharpness, tolerance)
    kernel = sharpness * log_probabilities.detach().double()
    clips, classes = kernel.shape
    rows, columns = kernel.new_full((clips,), -math.log(clips)), kernel.new_zeros(classes)
    for _ in range(MOST_ROUNDS):
        columns = -math.log(classes) - (kernel + rows[:, None]).logsumexp(dim=0)
        renewed = -math.log(clips) - (kernel + columns).logsumexp(dim=1)
        change = float((rows - renewed).expm1().abs().sum())
        rows = renewed
        if change < tolerance:
            break
    return kernel + rows[:, None] + columns


def balanced_clusters(
    rows: Float[Tensor, "clips dim"],
    clusters: int,
    *,
    generator: torch.Generator,
    start: Float[Tensor, "clusters dim"] | None = None,
    sharpness: float = 10.0,
    restarts: int = 8,
    rounds: int = 10,
) -> Float[Tensor, "clusters dim"]:
    """Centroids of equally large clusters: assignment in balance and means take turns, as in k-means.

    Args:
        rows: (N, D), of unit length; N at least `clusters`.
        clusters: how many.
        generator: draws the first centroids.
        start: centroids to go on from; None draws them, apart from each other, several times, and keeps the best.
        sharpness: of the assignment, see `balanced_assignment`; it compares cosines.
        restarts: how often first centroids are drawn.
        rounds: of each start.

    Returns:
        (clusters, D), of unit length. Of several starts the one whose rows are nearest to their centroids.

    Raises:
        ShapeError: there are fewer rows than clusters.
    """
    if len(rows) < clusters:
        raise ShapeError(f"{clusters} clusters need as many rows, got {len(rows)}")
    starts = [start] if start is not None else [_apart(rows, clusters, generator) for _ in range(restarts)]
    found = [_settled(rows, one, sharpness, rounds) for one in starts]
    return max(found, key=lambda centroids: float((rows @ centroids.T).amax(dim=1).mean()))


def _apart(rows: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Rows drawn by their distance from those that were drawn before (k-means++)."""
    first = int(torch.randint(len(rows), (1,), generator=generator))
    chosen = [first]
    for _ in range(clusters - 1):
        away = (1 - (rows @ rows[chosen].T).amax(dim=1)).clamp_min(1e-6).double()
        chosen.append(int(torch.multinomial(away.cpu(), 1, generator=generator)))
    return rows[chosen]


def _settled(rows: Tensor, centroids: Tensor, sharpness: float, rounds: int) -> Tensor:
    """Centroids after some turns of assignment and means."""
    for _ in range(rounds):
        labels = balanced_assignment(rows @ centroids.T, sharpness=sharpness, tolerance=FIT_TOLERANCE)
        sums = torch.zeros_like(centroids).index_add(0, labels, rows)
        moved = l2_normalize(torch.where(sums.norm(dim=1, keepdim=True) > 0, sums, centroids))
        if bool((moved - centroids).abs().max() < FIT_TOLERANCE):
            return moved
        centroids = moved
    return centroids


def _check(log_probabilities: Tensor, sharpness: float, tolerance: float) -> None:
    """Refuse what has no answer."""
    if 0 in log_probabilities.shape:
        raise ShapeError(f"a balanced assignment needs clips and labels, got {tuple(log_probabilities.shape)}")
    for name, value in (("sharpness", sharpness), ("tolerance", tolerance)):
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name} must be above 0, got {value}")
    if not bool(log_probabilities.isfinite().all()):
        raise NonFiniteError("a probability is 0, NaN or infinite: its logarithm is not finite")
