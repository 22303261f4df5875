"""Batch normalization whose statistics span the clips of all training processes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcnlab.distributed import sum_over_ranks


class SpanningBatchNorm(nn.BatchNorm1d):
    """Batch normalization over the rows of all processes; as the usual one where it does not train.

    Source: Ioffe and Szegedy (2015), arXiv 1502.03167, algorithm 1, as in PyTorch. Difference from PyTorch's
    `SyncBatchNorm`: runs on the CPU as well, and some processes may have no rows.
    """

    def forward(self, input: Float[Tensor, "rows channels *time"]) -> Float[Tensor, "rows channels *time"]:
        """Rows with mean 0 and variance 1 over all processes, then scaled and shifted."""
        if not self.training:
            return super().forward(input)
        wide = input if input.dtype == torch.float64 else input.float()
        others = [axis for axis in range(wide.ndim) if axis != 1]
        own = wide.new_tensor([wide.numel() // wide.shape[1]])
        sums, count = sum_over_ranks(torch.cat([wide.sum(dim=others), own])).split(wide.shape[1])
        mean = sums / count  # (channels,)
        centered = wide - along_channels(mean, wide.ndim)
        variance = sum_over_ranks(centered.square().sum(dim=others)) / count  # (channels,)
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp_min(1))
        scale = (variance + self.eps).rsqrt() * self.weight
        scaled = centered * along_channels(scale, wide.ndim) + along_channels(self.bias, wide.ndim)
        return scaled.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes is fine."""

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics."""
        self.get_buffer("num_batches_tracked").add_(1)
        for name, value in (("running_mean", mean), ("running_var", variance)):
            self.get_buffer(name).lerp_(value, self.momentum or 0.0)


def along_channels(x: Float[Tensor, " channels"], axes: int) -> Float[Tensor, "1 channels *ones"]:
    """One number per channel, ready to meet a tensor with so many axes, of which the second one is the channels."""
    return x.view(1, -1, *[1] * (axes - 2))


def span_processes(model: nn.Module) -> None:
    """Put `SpanningBatchNorm` in place of every batch normalization; parameters, buffers and names stay.

    Args:
        model: changed in place.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm1d) and not isinstance(child, SpanningBatchNorm):
                spanning = SpanningBatchNorm(child.num_features, child.eps, child.momentum)
                spanning._parameters, spanning._buffers = child._parameters, child._buffers
                setattr(parent, name, spanning.train(child.training))
