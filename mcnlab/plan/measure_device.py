"""Measuring what computes: matrix products, convolutions, normalization, plain arithmetic, and the cost of a call."""

import functools
import statistics
import time
from collections.abc import Callable, Collection

import psutil
import torch
from torch import Tensor, nn

from mcnlab.plan.calibration import Points, Rates
from mcnlab.plan.trace import NAMES, counting

PRECISIONS = tuple(NAMES.values())
SIDES = {"cpu": (16, 64, 256, 512), "cuda": (64, 256, 1024, 4096)}
"""Smallest side of the matrix products that are timed; the other two are four times as long."""
FRAMES = {8: 64, 32: 32, 128: 250, 512: 128, 1024: 64}
"""Steps by channels of the convolutions that are timed: as in DaveNet, narrow ones come with short sequences."""
KERNEL = 9
"""Steps that one of them sees, as in DaveNet."""
ROWS = {"cpu": 16, "cuda": 256}
"""Sequences that one of them takes."""
SIZES = {"cpu": (2**18, 2**21, 2**24, 2**27), "cuda": (2**20, 2**23, 2**26, 2**29)}
"""Bytes read and written by the arithmetic that is timed."""
NORM_CHANNELS = 256
now = time.perf_counter
"""The clock."""
ROUNDS = 5
"""The median of so many counts."""
ROUND_S = 0.02
"""Seconds of one round at least."""
SLOW_S = 0.5
"""Work that takes longer is timed once, and nothing larger of its kind is."""


def measured_rates(device: torch.device, threads: int, *, precisions: Collection[str] = PRECISIONS) -> Rates:
    """What a device does per second.

    Args:
        device: CPU or GPU.
        threads: CPU threads that torch uses at the moment.
        precisions: types whose matrix products and convolutions are timed.

    Returns:
        Its rates.
    """
    kind = device.type
    types = {dtype: name for dtype, name in NAMES.items() if name in precisions}
    convolutions = {name: _conv_points(device, dtype) for dtype, name in types.items()}
    norms = [_norm_rates(device, size) for size in SIZES[kind]]
    plain = [_arithmetic_rates(device, size) for size in SIZES[kind]]
    sizes = [float(size) for size in SIZES[kind]]
    pass_s, update_s = _overheads_s(device)
    return Rates(
        threads=threads,
        gemm_flops={name: _gemm_points(device, dtype) for dtype, name in types.items()},
        conv_forward_flops={name: forward for name, (forward, _) in convolutions.items()},
        conv_backward_flops={name: backward for name, (_, backward) in convolutions.items()},
        norm_forward_bytes=_points(sizes, [forward for forward, _ in norms]),
        norm_backward_bytes=_points(sizes, [backward for _, backward in norms]),
        fresh_bytes=_points(sizes, [fresh for fresh, _ in plain]),
        inplace_bytes=_points(sizes, [inplace for _, inplace in plain]),
        overhead_s=pass_s,
        update_overhead_s=update_s,
    )


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of some work, after a first time that does not count; the device is waited for."""
    first = _timed(work, 1, device)
    if first > SLOW_S:
        return min(first, _timed(work, 1, device))
    repeat = 1
    while _timed(work, repeat, device) < ROUND_S:
        repeat *= 2
    return statistics.median(_timed(work, repeat, device) for _ in range(ROUNDS)) / repeat


def idle_bytes(device: torch.device) -> int:
    """Memory of the device that this process takes once torch is at work, without a tensor of ours."""
    if device.type == "cpu":
        return psutil.Process().memory_info().rss
    before = torch.cuda.mem_get_info()[0]
    x = torch.randn(64, 64, device=device)
    float((x @ x).sum())
    return max(0, before - torch.cuda.mem_get_info()[0])


def _timed(work: Callable[[], object], repeat: int, device: torch.device) -> float:
    """Seconds of some work, several times in a row."""
    began = now()
    for _ in range(repeat):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return now() - began


def _points(sizes: list[float], rates: list[float]) -> Points:
    """Sizes and their rates."""
    return tuple((float(size), rate) for size, rate in zip(sizes, rates, strict=True))


def _gemm_points(device: torch.device, dtype: torch.dtype) -> Points:
    """FLOP/s of (side, 4 side) @ (4 side, 4 side), until a product is slow."""
    points: list[tuple[float, float]] = []
    for side in SIDES[device.type]:
        left = torch.randn(side, 4 * side, device=device).to(dtype)
        right = torch.randn(4 * side, 4 * side, device=device).to(dtype)
        taken = seconds_of(functools.partial(torch.mm, left, right.T), device)
        points.append((float(side), 2 * side * (4 * side) ** 2 / taken))
        if taken > SLOW_S:
            break
    return tuple(points)


def _conv_points(device: torch.device, dtype: torch.dtype) -> tuple[Points, Points]:
    """FLOP/s of a convolution and of its two gradients, by channels, until one is slow."""
    forward: list[tuple[float, float]] = []
    backward: list[tuple[float, float]] = []
    rows = ROWS[device.type]
    for channels, frames in FRAMES.items():
        flops = 2 * rows * frames * channels**2 * KERNEL
        there, back = _conv_seconds(device, dtype, (rows, channels, frames))
        forward.append((float(channels), flops / there))
        backward.append((float(channels), 2 * flops / back))
        if max(there, back) > SLOW_S:
            break
    return tuple(forward), tuple(backward)


def _conv_seconds(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Seconds of a convolution that keeps its shape, (rows, channels, frames), and of its two gradients."""
    x = torch.randn(shape, device=device).to(dtype).requires_grad_()
    weight = torch.randn(shape[1], shape[1], KERNEL, device=device).to(dtype).requires_grad_()
    convolution = functools.partial(nn.functional.conv1d, x, weight, padding=KERNEL // 2)
    y = convolution()
    gradients = functools.partial(torch.autograd.grad, y, (x, weight), torch.randn_like(y), retain_graph=True)
    with torch.no_grad():
        forward = seconds_of(convolution, device)
    return forward, seconds_of(gradients, device)


def _norm_rates(device: torch.device, size: int) -> tuple[float, float]:
    """Bytes/s of a batch normalization in training, which reads and writes once, and of its gradient, which reads two
    tensors and writes one."""
    x = torch.randn(16, NORM_CHANNELS, size // (2 * 4 * 16 * NORM_CHANNELS), device=device, requires_grad=True)
    norm = nn.BatchNorm1d(NORM_CHANNELS).to(device)
    y = norm(x)
    gradient = torch.randn_like(y)
    inputs = (x, norm.weight, norm.bias)
    forward = seconds_of(lambda: norm(x), device)
    backward = seconds_of(lambda: torch.autograd.grad(y, inputs, gradient, retain_graph=True), device)
    moved = x.numel() * x.element_size()
    return 2 * moved / forward, 3 * moved / backward


def _arithmetic_rates(device: torch.device, size: int) -> tuple[float, float]:
    """Bytes/s of x + y into a new tensor, and into x."""
    x, y = torch.rand(size // 12, device=device), torch.rand(size // 12, device=device)
    moved = 3 * x.numel() * x.element_size()
    return moved / seconds_of(lambda: x + y, device), moved / seconds_of(lambda: x.add_(y), device)


def _overheads_s(device: torch.device) -> tuple[float, float]:
    """Seconds per counted operation whose arithmetic is next to nothing: in forward and backward, and in Adam."""
    counts = []
    with counting() as tracer:
        for step in _small_step(torch.device("cpu")):
            step()
            tracer.ops.clear()
            step()
            counts.append(len(tracer.ops))
    there, update = (seconds_of(step, device) for step in _small_step(device))
    return there / counts[0], update / counts[1]


def _small_step(device: torch.device) -> tuple[Callable[[], object], Callable[[], object]]:
    """Forward and backward of a deep and narrow network, and the update of its weights."""
    with device:
        model = nn.Sequential(*(part for _ in range(8) for part in (nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    x: Tensor = torch.randn(4, 4, device=device)

    def there_and_back() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(x).square().mean().backward()

    return there_and_back, optimizer.step
