"""The term of sound localization without negatives: what a sound selects in one look at a picture predicts another."""

import torch
from torch import nn

from mcnlab.batch import Batch, Outputs
from mcnlab.errors import ConfigError
from mcnlab.losses.siamese import negative_cosine, spread
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.terms import Active, TermValue, on_host, rows_with

LOOKS = 2
"""Frames of each clip: two augmentations of one picture."""


class LocalizeTerm(nn.Module):
    """Half of −cos(p1, z2) and half of −cos(p2, z1), for the clips that have video and audio; no gradient into z.

    Beside the loss it logs the spread of the projections (1 where they point anywhere, 0 where they have collapsed),
    and the mean squared prediction error of predictive coding.

    Args:
        weight: factor of the term.
        error_weight: of the prediction error, which is 0 as published.

    Source: SSPL (Song et al., CVPR 2022), arXiv 2203.13412, equation 4.
    """

    name = "localize"

    def __init__(self, *, weight: float, error_weight: float = 0.0) -> None:
        super().__init__()
        self.weight, self.error_weight = weight, error_weight

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Loss of the clips that have both."""
        flags = on_host(outputs.present)
        both = flags["video"] & flags["audio"]
        if model.localizer is None or "video" not in outputs.maps:
            raise ConfigError("terms.localize: the model has no localizer, or its video tower keeps no places")
        if not bool(both.any()):
            return TermValue(None)
        maps, sound = rows_with(both, outputs.maps["video"]), rows_with(both, outputs.features["audio"])
        if maps.shape[1] != LOOKS:
            raise ConfigError(f"terms.localize: expected {LOOKS} looks at every picture, got {maps.shape[1]}")
        (p1, z1, first), (p2, z2, second) = (model.localizer(maps[:, look], sound) for look in range(LOOKS))
        loss = (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2
        error = (first.error + second.error) / 2
        watched = torch.stack([spread(z1.detach()), spread(z2.detach())]).mean()
        return TermValue(loss + self.error_weight * error, {"match": loss, "error": error, "spread": watched})
