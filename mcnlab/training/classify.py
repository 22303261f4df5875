"""Terms that train towers and linear layers to tell classes: beside other terms, or alone to fine-tune one tower."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcnlab.batch import Batch, Outputs
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.models.towers import RowNorm
from mcnlab.training.terms import Active, TermValue, on_host, rows_with

CLASSIFIER = "classifier"
"""Name of the linear layer inside the model."""


class ClassifyTerm(nn.Module):
    """Cross-entropy of the classes that a linear layer tells from one modality's tower.

    Args:
        truth: (places, classes), bool: classes of the clip at each place of the source.
        known: (places,), bool: which clips have classes to learn; the others do not count.
        multi_label: one binary cross-entropy per class, instead of one over all classes.
        space: where the tower ends; None: with the backbone.
    """

    name = "classify"
    weight = 1.0

    def __init__(self, truth: Tensor, known: Tensor, *, multi_label: bool, space: str | None) -> None:
        super().__init__()
        self.truth, self.known = truth, known
        self.multi_label, self.space = multi_label, space

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Loss of the clips that have the modality and a class; in nats."""
        (modality,) = active.modalities
        places = batch.clips.cpu()
        chosen = outputs.present[modality] & self.known[places].to(batch.clips.device)
        if not bool(chosen.any()):
            return TermValue(None)
        x = outputs.features[modality] if self.space is None else outputs.embeddings[modality, self.space]
        scores = model.get_submodule(CLASSIFIER)(x[chosen])
        truth = self.truth[places].to(scores.device)[chosen]
        if self.multi_label:
            return TermValue(functional.binary_cross_entropy_with_logits(scores, truth.to(scores.dtype)))
        return TermValue(functional.cross_entropy(scores, truth.int().argmax(dim=1)))


class LabelTerm(nn.Module):
    """Cross-entropy of the classes that the model's classifiers tell; `Batch.labels` says what is true.

    Args:
        weight: factor of the term.
    """

    name = "classify"

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Sum over the classified modalities of the mean loss of the clips that have them and a class; in nats."""
        if batch.labels is None:
            return TermValue(None)
        labels, flags, parts = batch.labels.cpu(), on_host(outputs.present), dict[str, Tensor]()
        for modality, space in model.classified:
            if modality not in active.modalities or (space and (modality, space) not in outputs.embeddings):
                continue
            chosen = flags[modality] & (labels >= 0)
            if bool(chosen.any()):
                x = outputs.features[modality] if space is None else outputs.embeddings[modality, space]
                scores = model.classify(rows_with(chosen, x), modality=modality, space=space)
                name = modality if space is None else model.graph.subject(modality, space)
                parts[name] = functional.cross_entropy(scores, rows_with(chosen, batch.labels))
        return TermValue(torch.stack(list(parts.values())).sum() if parts else None, parts)


class Classifier(nn.Sequential):
    """Batch normalization without scale, then a linear layer that begins at 0: a few small steps give it a direction.

    Args:
        in_dim: width of the features.
        classes: number of scores.
    """

    def __init__(self, in_dim: int, classes: int) -> None:
        linear = nn.Linear(in_dim, classes)
        for parameter in linear.parameters():
            nn.init.zeros_(parameter)
        super().__init__(RowNorm(in_dim, affine=False), linear)
