"""The term of a student that learns what its teacher has said of every training clip."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs
from mcnlab.losses.distillation import distilled_logits, feature_error
from mcnlab.models.distillation import matched_maps
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.terms import Active, TermValue, on_host, rows_with

Method = Literal["reuse", "features", "logits", "embeddings"]
"""What is learned: the teacher's features, to use its classifier (SimKD), or beside a classifier of one's own; its
scores (KD); its embeddings."""
Key = tuple[str, str | None]
"""Modality and space; None for the backbone's features."""
MOST_PLAIN_AXES = 4
"""Maps of clips have one axis more, their steps."""


class DistillTerm(nn.Module):
    """Error of giving what the teacher gave for the same clips; no label is read.

    Args:
        weight: factor of the term.
        method: what is learned.
        taught: by modality and space: (places, …): features, maps, scores or embeddings of the teacher for the clip at
            every place of the training clips.
        temperature: of the scores.

    Source: SimKD (Chen et al., CVPR 2022), arXiv 2203.14001; KD: Hinton, Vinyals, Dean (2015), arXiv 1503.02531.
    Difference: the teacher has looked at every clip once, before training: the same where nothing is augmented.
    """

    name = "distill"

    def __init__(
        self, *, weight: float, method: Method, taught: Mapping[Key, Tensor], temperature: float = 4.0
    ) -> None:
        super().__init__()
        self.weight, self.method, self.temperature = weight, method, temperature
        self.scales = {"temperature": temperature}
        self.keys: tuple[Key, ...] = tuple(taught)
        for number, x in enumerate(taught.values()):
            self.register_buffer(f"taught_{number}", x, persistent=False)

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Sum over what is taught of the mean error of the clips that have the modality."""
        parts, flags = {}, on_host(outputs.present)
        for number, (modality, space) in enumerate(self.keys):
            if modality not in active.modalities or not flags[modality].any():
                continue
            if space is not None and (modality, space) not in outputs.embeddings:
                continue
            told = self.get_buffer(f"taught_{number}")[rows_with(flags[modality], batch.clips)].float()
            name = modality if space is None else model.graph.subject(modality, space)
            parts[name] = self._error(model, outputs, (modality, space), flags[modality], told)
        return TermValue(torch.stack(list(parts.values())).sum() if parts else None, parts)

    def _error(self, model: MultimodalModel, outputs: Outputs, key: Key, flags: Tensor, told: Tensor) -> Tensor:
        """Error of the clips that have a modality."""
        modality, space = key
        if self.method == "embeddings" and space is not None:
            return feature_error(rows_with(flags, outputs.embeddings[modality, space]), told)
        if self.method == "logits":
            x = rows_with(flags, model.class_inputs(outputs, modality=modality, space=space))
            return distilled_logits(
                model.classify(x, modality=modality, space=space), told, temperature=self.temperature
            )
        x = rows_with(flags, model.projector_inputs(outputs, modality=modality, space=space))
        x, told = (one.flatten(0, 1) if one.ndim > MOST_PLAIN_AXES else one for one in (x, told))  # (clips · steps, …)
        x, told = matched_maps(x, told)
        return feature_error(model.projected(x, modality=modality, space=space), told)
