"""Batch normalization that normalizes as in training, and leaves its running statistics alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def resting_statistics(model: nn.Module) -> Iterator[None]:
    """Running statistics rest inside; batches are still normalized by their own.

    For forward passes that repeat one: the first of them has moved the statistics already.

    Args:
        model: whose batch normalizations rest.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d) and module.training]
    buffers = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, own in zip(norms, buffers, strict=True):
        for name, x in own.items():
            setattr(norm, name, x.clone())
    try:
        yield
    finally:
        for norm, own in zip(norms, buffers, strict=True):
            for name, x in own.items():
                setattr(norm, name, x)
