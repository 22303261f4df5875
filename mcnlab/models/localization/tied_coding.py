"""Predictive coding as mathematics: linear, with tied weights, where every round lowers an energy."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mcnlab.errors import ConfigError


def tied_energies(
    picture: Float[Tensor, "rows dim"],
    sound: Float[Tensor, "rows audio_dim"],
    weights: Sequence[Tensor],
    *,
    rate: float,
    rounds: int,
) -> Float[Tensor, "passes rows"]:
    """Energies over the rounds of linear predictive coding whose feedback is the transpose of its predictions.

    Levels r_0 … r_L lie between the picture V and the sound f; W_l predicts what is above r_l. The energy is
    ½ |r_0 − V|² + ½ Σ_l |r_{l+1} − W_l r_l|², with f in place of r_{L+1}. A round moves every level in turn, from the
    picture upwards, against its own gradient: towards what is predicted of it, and by what was missed above it.

    Args:
        picture: (rows, dim), V.
        sound: (rows, audio_dim), f.
        weights: W_0 … W_L, each (width above, width below).
        rate: how far a level moves, above 0. Where rate · (1 + the largest squared singular value) is at most 2, no
            round raises the energy.
        rounds: how many.

    Returns:
        (rounds + 1, rows), at least 0; the first before any round.

    Raises:
        ConfigError: the rate is not above 0.

    Source: Rao and Ballard (1999), equations 5 to 7, in the linear case; SSPL's module (Song et al. 2022, arXiv
    2203.13412) has untied weights, normalization and a nonlinearity, for which no such energy is known.
    """
    if rate <= 0:
        raise ConfigError(f"rate must be above 0, got {rate}")
    levels = [picture]
    for weight in weights[:-1]:
        levels.append(levels[-1] @ weight.T)
    energies = [_energy(levels, picture, sound, weights)]
    for _ in range(rounds):
        for number in range(len(levels)):
            told = picture if number == 0 else levels[number - 1] @ weights[number - 1].T
            above = sound if number == len(levels) - 1 else levels[number + 1]
            missed = above - levels[number] @ weights[number].T
            levels[number] = levels[number] + rate * (told - levels[number] + missed @ weights[number])
        energies.append(_energy(levels, picture, sound, weights))
    return torch.stack(energies)


def _energy(levels: Sequence[Tensor], picture: Tensor, sound: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """(rows,): half the sum of all squared differences."""
    told = [picture, *(level @ weight.T for level, weight in zip(levels, weights, strict=True))]
    held = [*levels, sound]
    return torch.stack([(a - b).square().sum(dim=1) / 2 for a, b in zip(held, told, strict=True)]).sum(dim=0)
