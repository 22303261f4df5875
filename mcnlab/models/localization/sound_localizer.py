"""Where in a picture a sound comes from, learned without negatives by two looks that predict each other."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcnlab.models.localization.attention import attended, attention_map, averaged, similarity_map
from mcnlab.models.localization.predictive_coding import PredictiveCoding
from mcnlab.models.towers import RowNorm
from mcnlab.numerics import l2_normalize, seeded


@dataclass(frozen=True)
class LocalizerSizes:
    """Plain sizes of a localizer."""

    channels: int
    """Of the picture's features."""
    audio_dim: int
    rounds: int | None = 4
    """Of predictive coding; None leaves it out."""
    hidden: int = 128
    """Width of the projections, and of the perceptron of the sound; published 2048."""
    window: int = 1
    """Side, in cells, of the square that each place of the picture's features averages first; odd."""


@dataclass(frozen=True)
class Located:
    """What a localizer makes of pictures and sounds."""

    similarity: Float[Tensor, "rows height width"]
    """Cosine of every place with the sound: the heat map."""
    maps: Float[Tensor, "rows channels height width"]
    """The picture's features, after predictive coding where there is any."""
    errors: Float[Tensor, "passes rows"]
    """Squared prediction errors, see `Settled.errors`; no pass without predictive coding."""

    @property
    def error(self) -> Float[Tensor, ""]:
        """Mean squared prediction error over passes and rows; 0 without predictive coding."""
        return self.errors.sum() / max(1, self.errors.numel())


class SoundLocalizer(nn.Module):
    """A sound looks for its place in a picture; what it selects there is projected, and predicts another look.

    Args:
        sizes: plain sizes.
        seed: of the first weights; those of a part depend on the seed and its name alone.

    Source: SSPL (Song et al., CVPR 2022), arXiv 2203.13412, with the heads of SimSiam (Chen and He, CVPR 2021), arXiv
    2011.10566. Difference: widths are free; the published bottleneck, a quarter of the projections, is kept.
    """

    def __init__(self, sizes: LocalizerSizes, *, seed: int) -> None:
        super().__init__()
        hidden, self.window = sizes.hidden, sizes.window
        with seeded(seed, "localizer", "sound"):
            self.sound = perceptron(sizes.audio_dim, hidden, sizes.channels)
        with seeded(seed, "localizer", "projector"):
            self.projector = projector(sizes.channels, hidden)
        with seeded(seed, "localizer", "predictor"):
            self.predictor = predictor(hidden)
        self.coding: PredictiveCoding | None = None
        if sizes.rounds is not None:
            with seeded(seed, "localizer", "coding"):
                self.coding = PredictiveCoding(sizes.channels, sizes.audio_dim, rounds=sizes.rounds)

    def locate(
        self, maps: Float[Tensor, "rows channels height width"], sound: Float[Tensor, "sounds audio_dim"]
    ) -> Located:
        """Where each sound comes from.

        Args:
            maps: (rows, channels, height, width): features of pictures, before the last ReLU.
            sound: (rows, audio_dim), of any length.

        Returns:
            Heat maps, features and errors.
        """
        unit, maps = l2_normalize(sound), averaged(maps, self.window)
        errors = maps.new_zeros(0, len(maps))
        if self.coding is not None:
            settled = self.coding.settle(maps, unit)
            maps, errors = settled.maps, settled.errors
        return Located(similarity_map(maps, self.sound(unit)), maps, errors)

    def project(self, located: Located) -> Float[Tensor, "rows hidden"]:
        """What the sound selects of the picture, ready to be predicted from another look."""
        return self.projector(attended(located.maps, attention_map(located.similarity)))

    def forward(
        self, maps: Float[Tensor, "rows channels height width"], sound: Float[Tensor, "sounds audio_dim"]
    ) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"], Located]:
        """Prediction and projection of one look at some pictures, and where their sounds come from."""
        located = self.locate(maps, sound)
        projection = self.project(located)
        return self.predictor(projection), projection, located

    @torch.no_grad()
    def heat(
        self, maps: Float[Tensor, "rows channels height width"], sound: Float[Tensor, "sounds audio_dim"]
    ) -> Float[Tensor, "rows height width"]:
        """The heat maps alone."""
        return self.locate(maps, sound).similarity


def perceptron(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    """Three layers with ReLUs between them."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out_dim)
    )


def projector(in_dim: int, hidden: int) -> nn.Sequential:
    """Three linear layers, each with a batch normalization, the last without scale; ReLUs between them."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden, bias=False),
        RowNorm(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        RowNorm(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        RowNorm(hidden, affine=False),
    )


def predictor(hidden: int) -> nn.Sequential:
    """Two linear layers through a bottleneck of a quarter."""
    inner = max(1, hidden // 4)
    return nn.Sequential(nn.Linear(hidden, inner, bias=False), RowNorm(inner), nn.ReLU(), nn.Linear(inner, hidden))
