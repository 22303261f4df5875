"""Convolution and batch normalization over time with the channels innermost in memory, the fastest order there is."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

WIDE = 1024
"""From so many output channels on, the CPU library's weight gradient runs at half the rate of a matmul."""
NARROW = 16
"""Below so many input channels, the CPU library's weight gradient of a strided one-frame convolution writes beyond its
memory as soon as two threads share the work (torch 2.13)."""
UNFOLDED_BYTES = 2**28
"""Most memory that unfolded inputs take at a time."""


class TimeNorm(nn.BatchNorm1d):
    """Batch normalization of (rows, channels, 1, frames), whose fast path on the CPU wants the extra axis."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes is fine."""


def channels_innermost(x: Float[Tensor, "rows channels frames"]) -> Float[Tensor, "rows channels 1 frames"]:
    """The same numbers, stored row by row and frame by frame with all channels together."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def convolved(x: Float[Tensor, "rows channels 1 frames"], layer: nn.Conv1d) -> Float[Tensor, "rows out 1 steps"]:
    """What a convolution over time without bias gives; the same map as calling it, in another memory order.

    Args:
        x: as `channels_innermost` gives it.
        layer: its weight, stride and padding are used; (out, channels, kernel).

    Returns:
        (rows, out, 1, steps), in the same order.
    """
    weight, stride, padding = layer.weight.unsqueeze(2), layer.stride[0], int(layer.padding[0])
    if x.device.type == "cpu" and layer.out_channels >= WIDE and layer.kernel_size[0] > 1:
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        return WideConvolution.apply(x, weight, stride, padding)
    if stride > 1 and layer.kernel_size[0] == 1 and layer.in_channels < NARROW:
        x, stride = x[..., ::stride], 1
    return functional.conv2d(x, weight, None, (1, stride), (0, padding))


class WideConvolution(torch.autograd.Function):
    """A convolution over time whose weight gradient is one matmul with the unfolded input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, None, (1, stride), (0, padding))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = torch.ops.aten.convolution_backward(
                gradient,
                x,
                weight,
                None,
                [1, ctx.stride],
                [0, ctx.padding],
                [1, 1],
                False,
                [0, 0],
                1,
                [True, False, False],
            )[0]
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(
                gradient[:, :, 0].transpose(1, 2),
                x[:, :, 0].transpose(1, 2),
                kernel=weight.shape[3],
                stride=ctx.stride,
                padding=ctx.padding,
            ).unsqueeze(2)
        return of_x, of_weight, None, None


def weight_gradient(
    gradient: Float[Tensor, "rows steps out"],
    x: Float[Tensor, "rows frames channels"],
    *,
    kernel: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "out channels kernel"]:
    """Gradient of a convolution's weight, from the gradient of its output and its input.

    Args:
        gradient: (rows, steps, out).
        x: (rows, frames, channels).
        kernel: frames that the convolution sees.
        stride: frames between two of its steps.
        padding: zero frames at either end.

    Returns:
        (out, channels, kernel), in the dtype of `x`; sums over blocks of rows are taken in float32 at least.
    """
    steps, out = gradient.shape[1:]
    channels = x.shape[2]
    at_once = max(1, UNFOLDED_BYTES // (steps * kernel * channels * x.element_size()))
    wide = torch.promote_types(x.dtype, torch.float32)
    total = torch.zeros((), dtype=wide, device=x.device)
    for some, of_some in zip(x.split(at_once), gradient.split(at_once), strict=True):
        padded = functional.pad(some, (0, 0, padding, padding))  # (rows, frames + 2 · padding, channels)
        step = stride * padded.stride(1)
        seen = padded.as_strided((len(some), steps, kernel * channels), (padded.stride(0), step, 1))
        part = of_some.reshape(-1, out).T @ seen.reshape(-1, kernel * channels)  # (out, kernel · channels)
        total = part if len(some) == len(x) else total + part
    return total.to(x.dtype).view(out, kernel, channels).transpose(1, 2)
