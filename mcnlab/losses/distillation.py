"""Losses of a student that learns from its teacher."""

import torch
from jaxtyping import Float
from torch import Tensor

from mcnlab.errors import ConfigError


def distilled_logits(
    student: Float[Tensor, "rows classes"], teacher: Float[Tensor, "rows classes"], *, temperature: float = 4.0
) -> Float[Tensor, ""]:
    """How far a student's distribution over classes is from its teacher's, both made flatter.

    Args:
        student: (rows, classes), float. Scores before any softmax.
        teacher: the same of the teacher; no gradient goes there.
        temperature: T, above 0. Divides both.

    Returns:
        Scalar, at least 0: T² · mean over rows of Σ q log(q/p), q of the teacher.

    Raises:
        ConfigError: the temperature is not above 0.

    Source: Hinton, Vinyals, Dean (2015), arXiv 1503.02531.

    Example:
        >>> distilled_logits(torch.ones(2, 3), torch.zeros(2, 3)).item()
        0.0
    """
    if not temperature > 0:
        raise ConfigError(f"temperature must be above 0, got {temperature}")
    log_p, log_q = ((x / temperature).log_softmax(dim=1) for x in (student, teacher.detach()))
    return temperature**2 * (log_q.exp() * (log_q - log_p)).sum(dim=1).mean()


def feature_error(student: Float[Tensor, "rows ..."], teacher: Float[Tensor, "rows ..."]) -> Float[Tensor, ""]:
    """Mean squared error of features or maps; no gradient goes to the teacher.

    Source: SimKD (Chen et al., CVPR 2022), arXiv 2203.14001, equation 4.
    """
    return torch.mean((student - teacher.detach()) ** 2)
