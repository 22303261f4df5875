"""The term that tells classes by attention in space and time."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from mcnlab.batch import Batch, Outputs
from mcnlab.models.attention import Explained, SpaceTimeAttention, mean_of_parts
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.terms import Active, TermValue, on_host

EXPLAINERS, ATTENTION = "explainers", "attention"
"""Name of the attention inside the model."""


class ExplainTerm(nn.Module):
    """Cross-entropy of the classes that attention in space and time tells.

    Args:
        weight: factor of the term.

    Source: Chen, Hummel, Koepke, Akata (2021), arXiv 2105.01517, section 3.3.
    """

    name = "explain"

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Loss of the clips that have video, audio and a class; in nats."""
        if batch.labels is None or not {"video", "audio"} <= set(outputs.maps):
            return TermValue(None)
        flags = on_host(outputs.present)
        rows = (flags["video"] & flags["audio"] & (batch.labels.cpu() >= 0)).nonzero().flatten().to(batch.clips.device)
        if len(rows) == 0:
            return TermValue(None)
        labels, told = batch.labels[rows], explained(model, outputs, rows)
        right = (told.scores.detach().argmax(dim=1) == labels).float().mean()
        return TermValue(functional.cross_entropy(told.scores.float(), labels), {"accuracy": right})


def explained(model: MultimodalModel, outputs: Outputs, rows: Tensor, kept: Tensor | None = None) -> Explained:
    """What the attention of a model makes of some clips.

    Args:
        model: with attention.
        outputs: of the clips.
        rows: (rows,), int: the clips, which have video and audio.
        kept: (rows, segments), bool: parts that are not deleted; None keeps all.

    Returns:
        Classes and explanation.
    """
    heard = outputs.maps["audio"][rows].flatten(2)  # (rows, segments, dim)
    found: Explained = attention_of(model)(mean_of_parts(outputs.maps["video"][rows], heard.shape[1]), heard, kept)
    return found


def attention_of(model: MultimodalModel) -> SpaceTimeAttention:
    """The attention inside a model."""
    return cast(SpaceTimeAttention, model.get_submodule(f"{EXPLAINERS}.{ATTENTION}"))
