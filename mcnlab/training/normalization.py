"""Batch normalization whose statistics span the clips of all training processes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcnlab.distributed import sum_over_ranks


class SpanningBatchNorm(_BatchNorm):
    """Batch normalization over the rows of all processes; as the usual one where it does not train.

    Source: Ioffe and Szegedy (2015), arXiv 1502.03167, algorithm 1, as in PyTorch. Difference from PyTorch's
    `SyncBatchNorm`: runs on the CPU as well, and some processes may have no rows.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes after the channels: time, and space where there are frames."""

    def forward(self, input: Float[Tensor, "rows channels *time"]) -> Float[Tensor, "rows channels *time"]:
        """Rows with mean 0 and variance 1 over all processes, then scaled and shifted."""
        if not self.training:
            return super().forward(input)
        wide = input if input.dtype == torch.float64 else input.float()
        wide = wide.transpose(0, 1).flatten(1)  # (channels, rows · time)
        count = sum_over_ranks(torch.tensor(wide.shape[1], dtype=wide.dtype, device=wide.device))
        mean = sum_over_ranks(wide.sum(dim=1)) / count  # (channels,)
        centered = wide - mean[:, None]
        variance = sum_over_ranks(centered.square().sum(dim=1)) / count  # (channels,)
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp_min(1))
        scaled = centered * (variance + self.eps).rsqrt()[:, None] * self.weight[:, None] + self.bias[:, None]
        return scaled.view(input.shape[1], input.shape[0], *input.shape[2:]).transpose(0, 1).to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics."""
        self.get_buffer("num_batches_tracked").add_(1)
        for name, value in (("running_mean", mean), ("running_var", variance)):
            self.get_buffer(name).lerp_(value, self.momentum or 0.0)


def span_processes(model: nn.Module) -> None:
    """Put `SpanningBatchNorm` in place of every batch normalization; parameters, buffers and names stay.

    Args:
        model: changed in place.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, SpanningBatchNorm):
                spanning = SpanningBatchNorm(child.num_features, child.eps, child.momentum)
                spanning._parameters, spanning._buffers = child._parameters, child._buffers
                setattr(parent, name, spanning.train(child.training))
