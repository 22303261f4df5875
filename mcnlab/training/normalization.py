"""Batch normalization whose statistics span the clips of all training processes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcnlab.distributed import sum_over_ranks


class SpanningBatchNorm(_BatchNorm):
    """Batch normalization over the rows of all processes; as the usual one where it does not train.

    Fewer than two rows over all processes, as where modalities are missing, are treated as in evaluation.

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
        enough, divisor = count > 1, count.clamp_min(1)
        mean = torch.where(enough, sums / divisor, self.get_buffer("running_mean").to(wide.dtype))  # (channels,)
        centered = wide - along_channels(mean, wide.ndim)
        own_variance = sum_over_ranks(centered.square().sum(dim=others)) / divisor  # (channels,)
        variance = torch.where(enough, own_variance, self.get_buffer("running_var").to(wide.dtype))
        unbiased = own_variance * count / (count - 1).clamp_min(1)
        self._remember(mean.detach(), unbiased.detach(), enough)
        scale = (variance + self.eps).rsqrt() * self.weight
        scaled = centered * along_channels(scale, wide.ndim) + along_channels(self.bias, wide.ndim)
        return scaled.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes is fine."""

    def _remember(self, mean: Tensor, variance: Tensor, enough: Tensor) -> None:
        """Move the running statistics, where the batch had rows enough."""
        self.get_buffer("num_batches_tracked").add_(enough.squeeze().long())
        for name, value in (("running_mean", mean), ("running_var", variance)):
            before = self.get_buffer(name)
            before.copy_(torch.where(enough, before.lerp(value.to(before.dtype), self.momentum or 0.0), before))


def along_channels(x: Float[Tensor, " channels"], axes: int) -> Float[Tensor, "1 channels *ones"]:
    """One number per channel, ready to meet a tensor with so many axes, of which the second one is the channels."""
    return x.view(1, -1, *[1] * (axes - 2))


def span_processes(model: nn.Module, *, apart: nn.Module | None = None) -> None:
    """Put `SpanningBatchNorm` in place of every batch normalization; parameters, buffers and names stay.

    Args:
        model: changed in place.
        apart: a part of it that always sees the clips of all processes, and stays as it is.
    """
    left_out = set() if apart is None else set(apart.modules())
    for parent in [module for module in model.modules() if module not in left_out]:
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, SpanningBatchNorm):
                spanning = SpanningBatchNorm(child.num_features, child.eps, child.momentum)
                spanning._parameters, spanning._buffers = child._parameters, child._buffers
                setattr(parent, name, spanning.train(child.training))
