"""Losses: pure functions of matrices; none asks which process it runs in."""

from mcnlab.losses.contrastive import info_nce, masked_margin_softmax, max_margin_ranking, mil_nce

__all__ = ["info_nce", "masked_margin_softmax", "max_margin_ranking", "mil_nce"]
