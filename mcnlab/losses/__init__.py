"""Losses: pure functions of matrices; none asks which process it runs in."""

from mcnlab.losses.clustering import centroid_contrast
from mcnlab.losses.contrastive import info_nce, masked_margin_softmax, max_margin_ranking, mil_nce, symmetric_mil_nce
from mcnlab.losses.reconstruction import reconstruction_error
from mcnlab.losses.siamese import negative_cosine

__all__ = [
    "centroid_contrast",
    "info_nce",
    "masked_margin_softmax",
    "max_margin_ranking",
    "mil_nce",
    "negative_cosine",
    "reconstruction_error",
    "symmetric_mil_nce",
]
