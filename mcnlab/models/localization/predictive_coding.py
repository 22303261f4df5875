"""Predictive coding: a picture's features, and a sound that says what it misses in them, settle over some rounds."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mcnlab.errors import ConfigError, ShapeError

LEVELS = 3
"""Top (least places), middle, and the map of the picture itself."""


@dataclass(frozen=True)
class Settled:
    """What predictive coding comes to."""

    maps: Float[Tensor, "rows channels height width"]
    """The picture's features in the light of the sound."""
    errors: Float[Tensor, "passes rows"]
    """Σ of squares of what the sound has that the picture did not predict, before each correction; first to last."""


class PredictiveCoding(nn.Module):
    """Three levels that predict upwards, from picture to sound, and are corrected downwards by what was missed.

    Args:
        channels: of the picture's features.
        audio_dim: width of the sound.
        rounds: how often the levels are revised after the first pass.

    Source: the predictive coding module of SSPL (Song et al., CVPR 2022), arXiv 2203.13412, section 3.3, and its
    release, with the release's values to 1e-9. Differences: sizes are free, and the errors are given out.

    Example:
        >>> PredictiveCoding(8, 6)(torch.zeros(2, 8, 14, 14), torch.zeros(2, 6)).shape
        torch.Size([2, 8, 14, 14])
    """

    def __init__(self, channels: int, audio_dim: int, *, rounds: int = 4) -> None:
        super().__init__()
        if rounds < 0:
            raise ConfigError(f"rounds must not be negative, got {rounds}")
        self.rounds = rounds
        self.to_sound = nn.Conv2d(channels, audio_dim, 1)
        self.from_sound = nn.ConvTranspose2d(audio_dim, channels, 1, bias=False)
        self.up = nn.ModuleList([_convolution(channels), _convolution(channels)])
        """Prediction of the top from the middle, and of the middle from the picture."""
        self.down = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels, channels, 3, stride=2, bias=False),
                nn.ConvTranspose2d(channels, channels, 3, padding=1, bias=False),
            ]
        )
        """Error of the top to the middle, and of the middle to the picture."""
        self.result = nn.ConvTranspose2d(channels, channels, 1)
        self.error_rates = nn.ParameterList([nn.Parameter(torch.ones(1, channels, 1, 1)) for _ in range(LEVELS)])
        """How far an error moves each level, top first; used as at least 0."""
        self.revise_rates = nn.ParameterList(
            [nn.Parameter(torch.full((1, channels, 1, 1), 0.5)) for _ in range(LEVELS)]
        )
        """How far a new prediction replaces what each level held, top first; used as at least 0."""
        self.predicted_norms = nn.ModuleList([_norms(channels, LEVELS - 1) for _ in range(rounds + 1)])
        self.corrected_norms = nn.ModuleList([_norms(channels, LEVELS) for _ in range(rounds + 1)])

    def forward(
        self, features: Float[Tensor, "rows channels height width"], sound: Float[Tensor, "sounds audio_dim"]
    ) -> Float[Tensor, "rows channels height width"]:
        """The picture's features in the light of the sound; see `settle`."""
        return self.settle(features, sound).maps

    def settle(
        self, features: Float[Tensor, "rows channels height width"], sound: Float[Tensor, "sounds audio_dim"]
    ) -> Settled:
        """Let prediction and correction come to rest.

        Args:
            features: (rows, channels, height, width); height and width 6, 10, 14, 18 … so that levels fit each other.
            sound: (rows, audio_dim).

        Returns:
            Features of the same shape, and the errors of all passes.

        Raises:
            ShapeError: there is not one sound per picture, or height or width do not fit.
        """
        if len(features) != len(sound):
            raise ShapeError(f"{len(features)} pictures but {len(sound)} sounds")
        if any(side < 6 or side % 4 != 2 for side in features.shape[2:]):
            raise ShapeError(f"height and width must be 6, 10, 14, 18 …, got {tuple(features.shape[2:])}")
        levels, told = self._first_pass(features)
        levels, missed = self._corrected(levels, told, sound, number=0)
        errors = [missed]
        for number in range(1, self.rounds + 1):
            levels, told = self._revised(levels, features, number)
            levels, missed = self._corrected(levels, told, sound, number)
            errors.append(missed)
        return Settled(self.result(levels[2]), torch.stack(errors))

    def _first_pass(self, features: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """From the picture upwards: levels, and what is predicted of the two upper ones, which is the same."""
        middle = functional.gelu(self._predicted_norm(0, 1)(self._prediction(1, features)))
        top = functional.gelu(self._predicted_norm(0, 0)(self._prediction(0, middle)))
        return [top, middle, features], [top, middle]

    def _revised(self, levels: list[Tensor], features: Tensor, number: int) -> tuple[list[Tensor], list[Tensor]]:
        """From the picture upwards again: each level moves towards what the one below predicts of it."""
        rates = [rate.relu() for rate in self.revise_rates]
        picture = functional.gelu((1 - rates[2]) * levels[2] + rates[2] * features)
        told_middle = self._prediction(1, picture)
        middle = functional.gelu(self._predicted_norm(number, 1)((1 - rates[1]) * levels[1] + rates[1] * told_middle))
        told_top = self._prediction(0, middle)
        top = functional.gelu(self._predicted_norm(number, 0)((1 - rates[0]) * levels[0] + rates[0] * told_top))
        return [top, middle, picture], [told_top, told_middle]

    def _corrected(
        self, levels: list[Tensor], told: list[Tensor], sound: Tensor, number: int
    ) -> tuple[list[Tensor], Tensor]:
        """From the sound downwards: each level moves by what was missed of the one above."""
        rates, norms = [rate.relu() for rate in self.error_rates], cast(nn.ModuleList, self.corrected_norms[number])
        missed = sound - functional.gelu(self.to_sound(levels[0])).mean(dim=(2, 3))  # (rows, audio_dim)
        spread = missed[:, :, None, None].expand(-1, -1, *levels[0].shape[2:])
        top = functional.gelu(norms[0](levels[0] + rates[0] * self.from_sound(spread)))
        middle = functional.gelu(norms[1](levels[1] + rates[1] * self.down[0](top - told[0])))
        wide = functional.interpolate(middle - told[1], scale_factor=2, mode="bilinear", align_corners=True)
        picture = functional.gelu(norms[2](levels[2] + rates[2] * self.down[1](wide)))
        return [top, middle, picture], missed.square().sum(dim=1)

    def _predicted_norm(self, number: int, level: int) -> nn.Module:
        """What normalizes the prediction of a level in a pass."""
        return cast(nn.ModuleList, self.predicted_norms[number])[level]

    def _prediction(self, level: int, below: Tensor) -> Tensor:
        """What a level's content says about the one above it, which has half as many rows and columns."""
        return functional.max_pool2d(self.up[level](below), 2)


def _convolution(channels: int) -> nn.Conv2d:
    """A convolution that keeps the size of the map."""
    return nn.Conv2d(channels, channels, 3, padding=1, bias=False)


def _norms(channels: int, count: int) -> nn.ModuleList:
    """One batch normalization for each level."""
    return nn.ModuleList([nn.BatchNorm2d(channels) for _ in range(count)])
