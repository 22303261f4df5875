"""Attention in space and time: which place of which part of a clip says what class it has, and so why."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mcnlab.errors import ShapeError


def mean_of_parts(
    maps: Float[Tensor, "clips steps dim height width"], segments: int
) -> Float[Tensor, "clips segments places dim"]:
    """The mean over the steps of each of so many equal parts, place by place.

    Args:
        maps: of the video tower, see `mcnlab.batch.Outputs.maps`.
        segments: how many parts; what is left over at the end goes into the last one.

    Returns:
        (clips, segments, height · width, dim), at least 0.

    Raises:
        ShapeError: there are fewer steps than parts.
    """
    steps = maps.shape[1]
    if steps < segments:
        raise ShapeError(f"model.segments: {segments} parts, but the video tower gives {steps} steps")
    starts = [number * (steps // segments) for number in range(segments)]
    parts = [maps[:, start:stop].relu().mean(dim=1) for start, stop in zip(starts, [*starts[1:], steps], strict=True)]
    return torch.stack(parts, dim=1).flatten(3).transpose(2, 3)


class Explained(NamedTuple):
    """Classes of clips, and what they were told from."""

    scores: Float[Tensor, "clips classes"]
    """Before a softmax."""
    space: Float[Tensor, "clips segments places"]
    """How much each place of a part counts; sums to 1 over the places."""
    time: Float[Tensor, "clips segments"]
    """How much each part counts; sums to 1; 0 for what was deleted."""


class SpaceTimeAttention(nn.Module):
    """The class of a clip from the places that fit the sound of their part, in the parts that matter.

    w_tu = softmax_u ⟨q(a_t), k(v_tu)⟩ / √d; v_t = Σ w v; z_t = [MLP(v_t, a_t), v_t ⊙ a_t]; α_t = softmax_t MLP(z_t);
    scores from Σ α z. The product v_t ⊙ a_t keeps it from using silent things and sounds from off the picture.

    Args:
        video_dim: channels of the video map.
        audio_dim: channels of the audio features.
        width: d.
        classes: how many.
        space: attend to places; else w is the same everywhere.
        time: attend to parts; else α is.

    Source: Chen, Hummel, Koepke, Akata (2021), arXiv 2105.01517, sections 3.2 and 3.3. There is no public code, and
    sizes are ours: no parity is claimed. v and a are mapped to d by a linear layer each before their product.
    """

    def __init__(
        self, video_dim: int, audio_dim: int, width: int, classes: int, *, space: bool = True, time: bool = True
    ) -> None:
        super().__init__()
        self.width, self.attends_to_space, self.attends_to_time = width, space, time
        self.query, self.key = nn.Linear(audio_dim, width), nn.Linear(video_dim, width)
        self.heard, self.seen = nn.Linear(audio_dim, width), nn.Linear(video_dim, width)
        self.joined = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU())
        self.importance = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))
        self.classifier = nn.Linear(2 * width, classes)

    def forward(
        self,
        video: Float[Tensor, "clips segments places video_dim"],
        audio: Float[Tensor, "clips segments audio_dim"],
        kept: Bool[Tensor, "clips segments"] | None = None,
    ) -> Explained:
        """Classes and their explanation.

        Args:
            video: (B, T, P, video_dim).
            audio: (B, T, audio_dim).
            kept: (B, T): the parts that the clip has; the others are deleted. At least one each. None keeps all.

        Returns:
            The scores and both kinds of attention.

        Raises:
            ShapeError: a clip has no part left.
        """
        if kept is not None and not bool(kept.any(dim=1).all()):
            raise ShapeError("every clip needs at least one part that is kept")
        space = self.weights_in_space(video, audio)  # (B, T, P)
        seen = self.seen(torch.einsum("btp,btpd->btd", space, video))  # linear, so the same as Σ w of mapped places
        heard = self.heard(audio)  # (B, T, d)
        z = torch.cat((self.joined(torch.cat((seen, heard), dim=2)), seen * heard), dim=2)  # (B, T, 2d)
        says = self.importance(z)[..., 0] if self.attends_to_time else torch.zeros_like(z[..., 0])  # (B, T)
        time = (says if kept is None else says.masked_fill(~kept, -torch.inf)).softmax(dim=1)
        return Explained(self.classifier(torch.einsum("bt,btd->bd", time, z)), space, time)

    def weights_in_space(self, video: Tensor, audio: Tensor) -> Tensor:
        """(B, T, P): how much each place of a part counts."""
        if not self.attends_to_space:
            return video.new_full(video.shape[:3], 1 / video.shape[2])
        fit = torch.einsum("btd,btpd->btp", self.query(audio), self.key(video)) / self.width**0.5
        return fit.softmax(dim=2)
