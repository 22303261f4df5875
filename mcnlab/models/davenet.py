"""DaveNet: the residual convolutional network that reads a log-mel spectrogram."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mcnlab.models.convolution import TimeNorm, channels_innermost, convolved
from mcnlab.models.resting import resting_statistics
from mcnlab.models.towers import real_positions

KERNEL = 9
"""Frames that one convolution sees."""


class DaveNet(nn.Module):
    """Residual DaveNet over time; the mel axis is the channel axis of the first convolution.

    A convolution over all mel bands at once, then one stage per width; the first convolution of every stage halves
    the time axis: T' = ceil(T / 2^stages).

    Args:
        bands: mel bands of the input.
        widths: channels of each stage; the published ones are (128, 256, 512, 1024).
        blocks: basic blocks per stage.

    Source: Harwath et al. (ECCV 2018), arXiv 1804.01452, residual variant of AVLnet (2020), arXiv 2006.09199.
    Differences: a (bands × 1) convolution over a one-channel picture is written as a one-frame convolution over
    `bands` channels, which is the same map; the release's input normalization is left out, since its forward pass
    never calls it.
    """

    def __init__(self, bands: int = 40, widths: tuple[int, ...] = (128, 256, 512, 1024), blocks: int = 2) -> None:
        super().__init__()
        self.dim = widths[-1]
        self.recompute = False
        """Keep only the input of every block for the backward pass, and compute its inside again: less memory, a third
        more work, the same numbers."""
        self.stem = nn.Conv1d(bands, widths[0], 1, bias=False)
        self.stem_norm = TimeNorm(widths[0])
        stages = []
        for narrow, wide in pairwise((widths[0], *widths)):
            first = ResidualBlock(narrow, wide, stride=2)
            stages.append(nn.Sequential(first, *(ResidualBlock(wide, wide, stride=1) for _ in range(blocks - 1))))
        self.stages = nn.Sequential(*stages)
        self._draw_convolutions(bands)

    def forward(self, mel: Float[Tensor, "rows bands frames"]) -> Float[Tensor, "rows dim steps"]:
        """Features over time.

        Args:
            mel: (rows, bands, frames), decibels in [-80, 0].

        Returns:
            (rows, dim, ceil(frames / 2^stages)); at least 0, since a ReLU comes last.
        """
        x = self._part(self._stem, channels_innermost(mel))  # (rows, widths[0], 1, frames)
        for stage in self.stages:
            for block in cast(nn.Sequential, stage):
                x = self._part(block, x)
        return x.squeeze(2)

    def _stem(self, mel: Tensor) -> Tensor:
        """The first convolution, normalized."""
        return self.stem_norm(convolved(mel, self.stem)).relu_()

    def _part(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """One part of the network; its inside is kept for the backward pass, or computed again there."""
        if not (self.recompute and torch.is_grad_enabled()):
            return part(x)
        contexts = lambda: (nullcontext(), resting_statistics(self))  # noqa: E731
        found: Tensor = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        return found

    def _draw_convolutions(self, bands: int) -> None:
        """Convolutions from N(0, sqrt(2 / (kernel · out))), where the stem's kernel spans all bands."""
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                span = bands if module is self.stem else module.kernel_size[0]
                nn.init.normal_(module.weight, 0.0, math.sqrt(2 / (span * module.out_channels)))


class ResidualBlock(nn.Module):
    """Two convolutions over time with a shortcut, which is a strided 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        pad = KERNEL // 2
        self.body = nn.Sequential(
            nn.Conv1d(in_channels, out_channels, KERNEL, stride=stride, padding=pad, bias=False),
            TimeNorm(out_channels),
            nn.ReLU(),
            nn.Conv1d(out_channels, out_channels, KERNEL, padding=pad, bias=False),
            TimeNorm(out_channels),
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut: nn.Identity | nn.Sequential = nn.Identity()
        if not same:
            project = nn.Conv1d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(project, TimeNorm(out_channels))

    def forward(self, x: Float[Tensor, "rows in_channels 1 frames"]) -> Float[Tensor, "rows out_channels 1 steps"]:
        """Features of the next resolution; in place wherever the backward pass does not ask for what was there."""
        first, first_norm, _, second, second_norm = self.body
        inner = first_norm(convolved(x, cast(nn.Conv1d, first))).relu_()
        return second_norm(convolved(inner, cast(nn.Conv1d, second))).add_(self._shortcut(x)).relu_()

    def _shortcut(self, x: Tensor) -> Tensor:
        """The input in the shape of the output."""
        if isinstance(self.shortcut, nn.Identity):
            return x
        project, norm = self.shortcut
        return norm(convolved(x, cast(nn.Conv1d, project)))


def mean_over_time(
    features: Float[Tensor, "rows dim steps"], lengths: Int[Tensor, " rows"] | None = None
) -> Float[Tensor, "rows dim"]:
    """Mean over the real part of each row's time axis.

    Args:
        features: (rows, dim, steps).
        lengths: (rows,), int64, real steps, at least 1; None takes all steps, padding included.

    Returns:
        (rows, dim).
    """
    if lengths is None:
        return features.mean(dim=2)
    real = real_positions(lengths, features.shape[2])[:, None, :].to(features.dtype)  # (rows, 1, steps)
    return (features * real).sum(dim=2) / lengths[:, None].to(features.dtype)


def real_steps(frames: Int[Tensor, " rows"], *, padded_frames: int, steps: int) -> Int[Tensor, " rows"]:
    """How many output steps of DaveNet are real when `frames` of its input frames are.

    Args:
        frames: (rows,), int64. Real input frames.
        padded_frames: input frames with padding.
        steps: output steps.

    Returns:
        (rows,), int64, floor(frames / round(padded_frames / steps)), at least 1 and at most `steps`.

    Source: MCN's released evaluation (2021): max(1, floor(frames / 16)).
    """
    ratio = max(1, round(padded_frames / steps))
    return torch.clamp(frames // ratio, min=1, max=steps)
