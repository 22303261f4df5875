"""The measured rates of one machine: what they are, where they are kept, and how a rate is read between two sizes."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mcnlab.config import Settings
from mcnlab.errors import ConfigError, DataError
from mcnlab.files import make_folder, read_json, write_json_atomically

Points = tuple[tuple[PositiveFloat, PositiveFloat], ...]
"""Measured (size, rate) pairs, sizes rising."""


class StepFactors(Settings):
    """How many times longer the work of whole steps takes than the same operations timed alone, with hot caches."""

    calls: NonNegativeFloat = 1.0
    """Of starting operations of forward and backward."""
    updates: NonNegativeFloat = 1.0
    """Of starting operations of the optimizer."""
    arithmetic: NonNegativeFloat = 1.0
    """Of matrix products and convolutions."""
    memory: NonNegativeFloat = 1.0
    """Of everything that is bound by the bytes it moves."""


class Rates(Settings):
    """What the device does per second with a number of CPU threads."""

    threads: PositiveInt
    """CPU threads of torch while it was measured."""
    gemm_flops: dict[str, Points]
    """By type: FLOP/s of a matrix product, by the smallest of its three sides."""
    conv_forward_flops: dict[str, Points]
    """By type: FLOP/s of a convolution over 9 steps, by its channels."""
    conv_backward_flops: dict[str, Points]
    """The same of its two gradients together."""
    norm_forward_bytes: Points
    """Bytes/s, read and written, of a batch normalization in training, by bytes."""
    norm_backward_bytes: Points
    """The same of its gradient."""
    fresh_bytes: Points
    """Bytes/s, read and written, of arithmetic into a new tensor, by bytes."""
    inplace_bytes: Points
    """Bytes/s, read and written, of arithmetic into a tensor that is there, by bytes."""
    overhead_s: PositiveFloat
    """Seconds that one operation of forward and backward takes beside its arithmetic."""
    update_overhead_s: PositiveFloat
    """The same of one operation of the optimizer."""
    factors: StepFactors = StepFactors()
    """Fitted to whole steps; see `mcnlab.plan.measure_steps`."""


class Calibration(Settings):
    """One machine as it was measured; see `mcnlab.plan.measure` for how."""

    format: int = Field(default=1, ge=1, le=1)
    """Version of this file's layout."""
    device: str
    """Name of the GPU or of the CPU."""
    kind: str = Field(pattern="^(cpu|cuda)$")
    """What computes."""
    machine: str
    """Name of the host."""
    date: str
    """When it was measured, UTC."""
    torch: str
    """Version of torch."""
    cores: PositiveInt
    """CPU cores that torch may use."""
    devices: PositiveInt
    """GPUs of the machine; 1 on a CPU."""
    device_memory_bytes: PositiveInt
    """Memory of one GPU, or of the machine."""
    host_memory_bytes: PositiveInt
    """Memory of the machine."""
    idle_bytes: NonNegativeInt
    """Memory of the device that a process takes before it holds a tensor of ours."""
    rates: tuple[Rates, ...] = Field(min_length=1)
    """One for each number of threads."""
    loader_bytes_per_s: PositiveFloat
    """Clips cut from a store that lies in the page cache, one process: bytes of float16 features per second."""
    read_bytes_per_s: PositiveFloat
    """A file read from its start to its end, not in the page cache."""
    random_read_bytes_per_s: PositiveFloat
    """Pieces of 64 KiB read from anywhere in a file, not in the page cache."""
    write_bytes_per_s: PositiveFloat
    """A checkpoint put together, summed up, written and flushed."""
    all_reduce_bytes_per_s: dict[int, PositiveFloat] = Field(default_factory=dict)
    """By number of processes: bytes of gradients over seconds, times 2 (N - 1) / N: the rate of a ring's links."""

    def with_threads(self, threads: int | None) -> Rates:
        """The rates for a number of threads: the nearest that was measured.

        Args:
            threads: wanted; all cores when None.
        """
        wanted = self.cores if threads is None else threads
        return min(self.rates, key=lambda rates: abs(math.log(rates.threads / wanted)))

    def link_rate(self, processes: int) -> tuple[int, float] | None:
        """The nearest measured number of processes and the rate of a ring's links; None where nothing was measured."""
        measured = self.all_reduce_bytes_per_s
        if not measured:
            return None
        nearest = min(measured, key=lambda count: abs(math.log(count / processes)))
        return nearest, measured[nearest]


def rate_at(points: Sequence[tuple[float, float]], size: int | float) -> float:
    """A rate between measured sizes: straight lines on logarithmic axes, level beyond both ends.

    Args:
        points: (size, rate), sizes rising, at least one.
        size: asked for, positive.

    Returns:
        The rate.

    Example:
        >>> round(rate_at([(1.0, 10.0), (100.0, 1000.0)], 10.0))
        100
    """
    sizes, rates = np.log(np.array(points)).T
    return float(np.exp(np.interp(math.log(size), sizes, rates)))


def calibration_path() -> Path:
    """Where this user's calibration is kept: `mcnlab/calibration.json` in the cache folder of the system."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mcnlab" / "calibration.json"


def read_calibration(path: Path | None = None) -> Calibration:
    """A calibration from its file.

    Args:
        path: the file; this user's own when None.

    Returns:
        The measured rates.

    Raises:
        ConfigError: this user has none yet, or the file that was named is not there.
        DataError: the file is not a calibration.
    """
    own = path is None
    path = path or calibration_path()
    try:
        values = read_json(path)
    except FileNotFoundError as error:
        advice = "this machine was not measured yet; " if own else "no such file; "
        raise ConfigError(f"{path}: {advice}run mcnlab plan --calibrate") from error
    except ValueError as error:
        raise DataError(f"{path}: not a calibration ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: not a calibration: expected a mapping, got {type(values).__name__}")
    try:
        return Calibration.parse(values, source=str(path))
    except ConfigError as error:
        raise DataError(f"{error}; run mcnlab plan --calibrate again") from error


def write_calibration(calibration: Calibration, path: Path | None = None) -> Path:
    """Keep a calibration.

    Args:
        calibration: the measured rates.
        path: the file; this user's own when None.

    Returns:
        The file.

    Raises:
        StorageError: the disk or the permissions do not allow it.
    """
    path = path or calibration_path()
    make_folder(path.parent)
    write_json_atomically(path, calibration.model_dump(mode="json"))
    return path
