"""Means of gradients over all processes, on their way while the backward pass still runs."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from mcnlab.distributed import largest_over_ranks, start_sum, world_size

BUCKET_BYTES = 25 * 2**20
"""Gradients travel together until they are so many; a larger one travels alone."""


def averaged_backward(parameters: Iterable[nn.Parameter], backwards: Sequence[Callable[[], None]]) -> None:
    """Backward passes, after which every gradient is its mean over all processes.

    A gradient is sent during the last pass, as soon as it is whole. A parameter that got none anywhere stays without.

    Args:
        parameters: the same ones in the same order on every process.
        backwards: called in order, at least one; gradients add up over them.
    """
    if world_size() == 1:
        for backward in backwards:
            backward()
        return
    *before, last = backwards
    for backward in before:
        backward()
    averager = GradientAverager(parameters)
    averager.watch()
    try:
        last()
    finally:
        averager.unwatch()
    averager.finish()


class GradientAverager:
    """Sends gradients in buckets, always in the same order, the last parameters first, whose gradients come first.

    Args:
        parameters: the same ones in the same order on every process.
        bucket_bytes: a bucket is full with so many.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES) -> None:
        training = [parameter for parameter in parameters if parameter.requires_grad]
        self._buckets = [_Bucket(group) for group in in_buckets(training[::-1], bucket_bytes)]
        self._sent = 0
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def watch(self) -> None:
        """From now on, send a bucket once all its gradients are there and those before it are sent."""
        for bucket in self._buckets:
            bucket.awaited = set(bucket.parameters)
            for parameter in bucket.parameters:
                hook = parameter.register_post_accumulate_grad_hook(lambda p, b=bucket: self._arrived(p, b))
                self._hooks.append(hook)

    def unwatch(self) -> None:
        """Gradients that come from now on are of no interest."""
        while self._hooks:
            self._hooks.pop().remove()

    def finish(self) -> None:
        """Send what is left, wait for all, and put the means in place."""
        while self._sent < len(self._buckets):
            self._send()
        has = [int(p.grad is not None) for bucket in self._buckets for p in bucket.parameters]
        somewhere = iter(largest_over_ranks(torch.tensor(has, dtype=torch.int64)).tolist())
        for bucket in self._buckets:
            bucket.take([bool(next(somewhere)) for _ in bucket.parameters])

    def _arrived(self, parameter: Tensor, bucket: "_Bucket") -> None:
        """A gradient is whole."""
        bucket.awaited.discard(parameter)
        while self._sent < len(self._buckets) and not self._buckets[self._sent].awaited:
            self._send()

    def _send(self) -> None:
        """The next bucket goes on its way."""
        self._buckets[self._sent].send()
        self._sent += 1


class _Bucket:
    """Gradients that travel as one tensor."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.awaited: set[Tensor] = set()
        self.total = torch.empty(0)
        self._wait: Callable[[], None] = lambda: None

    def send(self) -> None:
        """Begin to sum over the processes; a gradient that is missing here counts as zero."""
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        self.total = torch.cat([gradient.flatten() for gradient in own])
        self._wait = start_sum(self.total)

    def take(self, somewhere: Sequence[bool]) -> None:
        """Wait for the sums, and give the means to the parameters that some process has a gradient for."""
        self._wait()
        parts = self.total.div_(world_size()).split([p.numel() for p in self.parameters])
        for parameter, mean, has in zip(self.parameters, parts, somewhere, strict=True):
            if has:
                parameter.grad = mean.view_as(parameter)


def in_buckets(parameters: Sequence[nn.Parameter], most: int) -> list[list[nn.Parameter]]:
    """The parameters in order, in groups of one type and at most so many bytes, or of one parameter."""
    groups: list[list[nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        size += parameter.nbytes
        if not groups or size > most or groups[-1][0].dtype != parameter.dtype:
            groups.append([])
            size = parameter.nbytes
        groups[-1].append(parameter)
    return groups
