"""Balanced assignment: labels for clips such that every label gets the same share."""

import math

from jaxtyping import Float, Int
from torch import Tensor

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError

MOST_ROUNDS = 1000
"""A plan that has not settled by then is used as it is."""


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


def _check(log_probabilities: Tensor, sharpness: float, tolerance: float) -> None:
    """Refuse what has no answer."""
    if 0 in log_probabilities.shape:
        raise ShapeError(f"a balanced assignment needs clips and labels, got {tuple(log_probabilities.shape)}")
    for name, value in (("sharpness", sharpness), ("tolerance", tolerance)):
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name} must be above 0, got {value}")
    if not bool(log_probabilities.isfinite().all()):
        raise NonFiniteError("a probability is 0, NaN or infinite: its logarithm is not finite")
