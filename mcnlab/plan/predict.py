"""From counted work and measured rates to seconds, bytes, and the part that decides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcnlab.errors import DataError
from mcnlab.experiment.build import build_stages
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.plan.calibration import Calibration, Rates, rate_at
from mcnlab.plan.sizes import DataSize, Request, data_size
from mcnlab.plan.step_cost import OPTIMIZER, StepCost, StepSize, chunk_of, step_cost
from mcnlab.plan.trace import Op
from mcnlab.training.checkpoint import KEPT
from mcnlab.training.stages import Stage

ARITHMETIC = "matrix products and convolutions"
MEMORY = "memory of the device"
CALLS = "starting operations"
LINKS = "links between processes"
LOADING = "waiting for clips"
DISK = "reading the disk"
FITS = 0.9
"""Part of a memory that may be planned for; the rest is left to fragments and libraries."""


@dataclass(frozen=True)
class StagePlan:
    """One stage: its steps and what each takes."""

    name: str
    steps: int
    by_part: Mapping[str, float]
    """Seconds of a step by part of the step, averaged over steps with and without a fit of the clusters."""
    by_resource: Mapping[str, float]
    """The same seconds by what they are spent on."""
    flops: int | float
    """Of one step of one process."""
    cost: StepCost
    checkpoints: int
    checkpoint_s: float
    """Seconds to write one."""
    loading_s: float
    """Seconds in which the clips of a step are read and cut, beside the step before it."""
    kept: int = 0
    """Checkpoints whose weights stay for the whole run."""

    @property
    def step_s(self) -> float:
        """Seconds of a step."""
        return sum(self.by_resource.values())

    @property
    def hours(self) -> float:
        """Of training and writing checkpoints."""
        return (self.steps * self.step_s + self.checkpoints * self.checkpoint_s) / 3600


@dataclass(frozen=True)
class Plan:
    """One experiment at a size."""

    experiment: str
    request: Request
    data: DataSize
    calibration: Calibration
    stages: tuple[StagePlan, ...]
    device_bytes: int
    """Of one process, at most."""
    host_bytes: int | float
    """Of clips that one process keeps in memory."""
    local: int
    """Clips of a step that one process embeds."""
    batch: int
    threads: int | None = None
    """CPU threads that the experiment asks for; None: all cores."""
    warnings: tuple[str, ...] = ()
    """What does not fit, or was not measured."""

    @property
    def hours(self) -> float:
        """Of training."""
        return sum(stage.hours for stage in self.stages)

    @property
    def run_bytes(self) -> int:
        """On disk for the run: the checkpoints that are kept, one that is being written, and weights that stay."""
        newest = (KEPT + 1) * max(stage.cost.checkpoint_bytes for stage in self.stages)
        return newest + sum(stage.kept * stage.cost.weight_bytes for stage in self.stages)

    @property
    def read_bytes_per_s(self) -> float:
        """Features that all processes together read per second of training."""
        slowest = min(stage.step_s for stage in self.stages)
        return self.batch * self.data.clip_bytes / slowest

    @property
    def shares(self) -> dict[str, float]:
        """Seconds of the whole training by resource, largest first."""
        total: dict[str, float] = {}
        for stage in self.stages:
            for name, seconds in stage.by_resource.items():
                total[name] = total.get(name, 0.0) + seconds * stage.steps
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    @property
    def bottleneck(self) -> str:
        """The resource that takes most of the time."""
        return next(iter(self.shares))


def plan_experiment(settings: ExperimentSettings, request: Request, calibration: Calibration) -> Plan:
    """What an experiment will cost at a size.

    Args:
        settings: the experiment.
        request: how many recordings and processes.
        calibration: measured rates of the machine that it will run on.

    Returns:
        Hours, memory, disk, reads, and the bottleneck; warnings where something does not fit.

    Raises:
        ConfigError: the experiment and the processes do not fit each other.
        DataError: the store is broken, or the calibration lacks the precision.
    """
    data = data_size(settings, request)
    batch = min(settings.training.batch, data.clips)
    local = max(1, math.ceil(batch / request.gpus))
    rates = calibration.with_threads(settings.training.threads)
    stages = tuple(
        _stage_plan(settings, stage, data, request, calibration, rates, local=local, batch=batch)
        for stage in build_stages(settings)
    )
    device = max(calibration.idle_bytes + s.cost.held_bytes + s.cost.work_bytes for s in stages)
    host = data.clips * memory_per_clip(settings, data) if settings.data.sampling == "captions" else 0.0
    return Plan(
        settings.experiment, request, data, calibration, stages, device, host, local, batch, settings.training.threads
    )


def _stage_plan(
    settings: ExperimentSettings,
    stage: Stage,
    data: DataSize,
    request: Request,
    calibration: Calibration,
    rates: Rates,
    *,
    local: int,
    batch: int,
) -> StagePlan:
    """One stage, its steps with and without a fit of the clusters averaged."""
    cluster = settings.terms.cluster if "cluster" in stage.terms else None
    shares = {False: 1.0} if cluster is None else {True: 1 / cluster.refit_every, False: 1 - 1 / cluster.refit_every}
    costs = {
        refit: step_cost(
            settings, data.input_dims, stage, StepSize(local, batch, refit, chunk_of(settings), data.clips)
        )
        for refit, share in shares.items()
        if share
    }
    by_part: dict[str, float] = {}
    by_resource: dict[str, float] = {}
    for refit, cost in costs.items():
        parts, resources = step_seconds(cost.ops, rates, settings.training.precision, waits=calibration.kind == "cpu")
        for total, seconds in ((by_part, parts), (by_resource, resources)):
            for name, value in seconds.items():
                total[name] = total.get(name, 0.0) + value * shares[refit]
    largest = max(costs.values(), key=lambda cost: cost.work_bytes)
    loading_s = _loading_s(settings, data, request, calibration, local=local)
    other = _beside_arithmetic(largest, request, calibration)
    busy_s = sum((by_resource | other).values())
    every_core = calibration.kind == "cpu" and settings.training.threads is None  # batches are not made beside steps
    waits_s = loading_s if every_core or settings.training.prefetch == 0 else max(0.0, loading_s - busy_s)
    other[DISK if _reads_disk(settings, data, calibration) else LOADING] = waits_s
    steps = stage.epochs * max(1, data.clips // batch)
    steps = steps if settings.training.max_steps is None else min(steps, settings.training.max_steps)
    return StagePlan(
        stage.name,
        steps,
        by_part | other,
        by_resource | other,
        sum(op.flops * shares[refit] for refit, cost in costs.items() for op in cost.ops),
        largest,
        math.ceil(steps / settings.training.checkpoint_every),
        largest.checkpoint_bytes / calibration.write_bytes_per_s,
        loading_s,
        0 if (every := settings.training.keep_every) is None else math.ceil(steps / every),
    )


def step_seconds(
    ops: Sequence[Op], rates: Rates, precision: str, *, waits: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of counted operations.

    Each takes the longer of its arithmetic and its bytes, at the rates that were measured for its kind and size, times
    the factor that whole steps showed for arithmetic or memory; starting it adds the measured overhead times its own.

    Args:
        ops: the operations of a step.
        rates: measured.
        precision: of the run, for an error.
        waits: whether starting an operation adds to its time, as on a CPU; on a GPU it is done meanwhile.

    Returns:
        By part of the step, and by resource.

    Raises:
        DataError: the precision was not measured.
    """
    missing = {op.dtype for op in ops if op.flops} - set(rates.gemm_flops)
    if missing:
        raise DataError(f"training.precision={precision}: the calibration lacks {', '.join(sorted(missing))}")
    factors = {ARITHMETIC: rates.factors.arithmetic, MEMORY: rates.factors.memory}
    by_part: dict[str, float] = {}
    by_resource, calls = {ARITHMETIC: 0.0, MEMORY: 0.0}, 0.0
    for op in ops:
        alone, resource = op_seconds(op, rates)
        taken, start = factors[resource] * alone, start_seconds(op, rates)
        by_resource[resource] += taken
        by_part[op.part] = by_part.get(op.part, 0.0) + taken + (start if waits else 0.0)
        calls += start
    device = sum(by_resource.values())
    by_resource[CALLS] = calls if waits else max(0.0, calls - device)
    return by_part, by_resource


def start_seconds(op: Op, rates: Rates) -> float:
    """Seconds in which one operation is started, as in whole steps."""
    if op.part == OPTIMIZER:
        return rates.factors.updates * rates.update_overhead_s
    return rates.factors.calls * rates.overhead_s


def op_seconds(op: Op, rates: Rates) -> tuple[float, str]:
    """Seconds of one operation without its start, and what they are spent on."""
    if op.flops:
        table = {"gemm": rates.gemm_flops, "conv_forward": rates.conv_forward_flops}
        points = table.get(op.kind, rates.conv_backward_flops)[op.dtype]
        arithmetic = op.flops / rate_at(points, op.size)
        moving = op.bytes / rate_at(rates.fresh_bytes, op.bytes) if op.kind == "gemm" else 0.0
        return max((arithmetic, ARITHMETIC), (moving, MEMORY))
    points = {
        "norm_forward": rates.norm_forward_bytes,
        "norm_backward": rates.norm_backward_bytes,
        "inplace": rates.inplace_bytes,
    }.get(op.kind, rates.fresh_bytes)
    return op.bytes / rate_at(points, max(op.bytes, 1)), MEMORY


def _beside_arithmetic(cost: StepCost, request: Request, calibration: Calibration) -> dict[str, float]:
    """Seconds of a step that are spent on links."""
    link = calibration.link_rate(request.gpus)
    if request.gpus == 1 or link is None:
        return {}
    return {LINKS: exchanged_bytes(cost, request.gpus) / link[1]}


def _reads_disk(settings: ExperimentSettings, data: DataSize, calibration: Calibration) -> bool:
    """Whether clips come from the disk and not from memory."""
    return settings.data.sampling != "captions" and data.store_bytes > FITS * calibration.host_memory_bytes


def _loading_s(
    settings: ExperimentSettings, data: DataSize, request: Request, calibration: Calibration, *, local: int
) -> float:
    """Seconds in which a process's thread makes a batch: cut from memory, after the disk has read it for all."""
    piece = memory_per_clip(settings, data) if settings.data.sampling == "captions" else data.clip_bytes
    seconds = local * piece / calibration.loader_bytes_per_s
    if _reads_disk(settings, data, calibration):
        seconds += local * request.gpus * data.clip_bytes / calibration.random_read_bytes_per_s
    return seconds


def exchanged_bytes(cost: StepCost, processes: int) -> float:
    """Bytes that each process sends in a step: gradients by 2 (N - 1) / N; embeddings there (N - 1) / N, their
    gradients back 2 (N - 1) / N."""
    share = (processes - 1) / processes
    return share * (2 * cost.gradient_bytes + 3 * cost.gathered_bytes)


def memory_per_clip(settings: ExperimentSettings, data: DataSize) -> float:
    """Bytes that a clip takes where all are kept in memory: log-mel in 2, video in 4, word numbers in 4."""
    bands = data.input_dims.get("audio", 0)
    return (
        2.0 * settings.model.audio_frames * bands + 4.0 * data.input_dims.get("video", 0) + 4.0 * settings.model.words
    )
