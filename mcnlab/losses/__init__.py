"""Losses: pure functions of matrices; none asks which process it runs in."""
