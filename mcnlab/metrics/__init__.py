"""Metrics: pure functions from embeddings, ranks and assignments to numbers."""
