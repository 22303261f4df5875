"""A term that trains a tower and a linear layer to tell classes: fine-tuning by the usual loop."""

from torch import Tensor, nn
from torch.nn import functional

from mcnlab.batch import Batch, Outputs
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.models.towers import RowNorm
from mcnlab.numerics import seeded
from mcnlab.training.terms import Active, TermValue

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


class Classifier(nn.Sequential):
    """Batch normalization without scale, then a linear layer: takes features of any size as they come.

    Args:
        in_dim: width of the features.
        classes: number of scores.
        seed: of the first weights.
    """

    def __init__(self, in_dim: int, classes: int, *, seed: int) -> None:
        with seeded(seed, CLASSIFIER, str(in_dim)):
            super().__init__(RowNorm(in_dim, affine=False), nn.Linear(in_dim, classes))
