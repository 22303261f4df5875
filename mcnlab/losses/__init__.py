"""Losses: pure functions of matrices; none asks which process it runs in."""

from mcnlab.losses.clustering import centroid_contrast
from mcnlab.losses.contrastive import info_nce, masked_margin_softmax, max_margin_ranking, mil_nce, symmetric_mil_nce
from mcnlab.losses.distillation import distilled_logits, feature_error
from mcnlab.losses.language import margin_loss, multi_similarity, relation_match
from mcnlab.losses.reconstruction import reconstruction_error
from mcnlab.losses.siamese import negative_cosine

__all__ = [
    "centroid_contrast",
    "distilled_logits",
    "feature_error",
    "info_nce",
    "margin_loss",
    "masked_margin_softmax",
    "max_margin_ranking",
    "mil_nce",
    "multi_similarity",
    "negative_cosine",
    "reconstruction_error",
    "relation_match",
    "symmetric_mil_nce",
]
