"""Measuring whole training steps, and how much longer their work takes than the same operations timed alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from mcnlab.batch import Batch
from mcnlab.experiment.build import ASSUMED_CLASSES, build_stages, sized_model
from mcnlab.experiment.objective import build_terms
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.plan.calibration import Rates, StepFactors
from mcnlab.plan.predict import ARITHMETIC, op_seconds
from mcnlab.plan.step_cost import OPTIMIZER, StepSize, empty_batch, step_cost
from mcnlab.plan.trace import Op
from mcnlab.training.step import StepSettings, train_step
from mcnlab.training.terms import Active

SIZES = (
    {"dim": 16, "audio_width": 16, "audio_blocks": 1, "audio_frames": 64, "batch": 16, "video": 16, "text": 16},
    {"dim": 64, "audio_width": 48, "audio_blocks": 1, "audio_frames": 200, "batch": 128, "video": 64, "text": 32},
    {"dim": 256, "audio_width": 128, "audio_blocks": 1, "audio_frames": 200, "batch": 32, "video": 1024, "text": 300},
    {"dim": 1536, "audio_width": 64, "audio_blocks": 1, "audio_frames": 64, "batch": 32, "video": 2048, "text": 300},
    {"dim": 512, "audio_width": 256, "audio_blocks": 2, "audio_frames": 256, "batch": 16, "video": 2048, "text": 300},
)
"""The steps that are timed: narrow ones, which mostly start operations, to wide ones, which mostly compute."""
TERMS: tuple[dict[str, Any], ...] = ({"contrast": {}}, {"contrast": {}, "reconstruct": {}, "cluster": {}})
"""The objectives that each is timed with."""
REFIT_EVERY, QUEUE_BATCHES = 4, 2
ROUNDS = 3
"""Blocks of steps that are timed; the fastest counts, for nothing makes a step too fast."""
PULL = 0.05
"""Weight of 'factors are 1' against the steps' relative errors, so that no factor hangs on one size alone."""
WORDS, BANDS = 20, 40


@dataclass(frozen=True)
class TimedStep:
    """A training step: what it did, and how long it took."""

    ops: tuple[tuple[float, tuple[Op, ...]], ...]
    """Counted operations, each group with its share of the steps: those with and without a fit of the clusters."""
    seconds: float


def with_steps(rates: Rates) -> Rates:
    """Rates of single operations with the factors that whole steps show right now, on the CPU.

    Args:
        rates: measured with as many threads as torch uses at the moment.
    """
    return rates.model_copy(update={"factors": fitted_factors(timed_steps(), rates)})


def fitted_factors(steps: Sequence[TimedStep], rates: Rates) -> StepFactors:
    """Factors with which the sum over a step's operations comes nearest to its seconds.

    Least Σ over steps of (Σ factor · seconds alone / seconds of the step - 1)² + PULL² Σ (factor - 1)², no factor
    below 0.

    Args:
        steps: timed with one number of threads, at least one.
        rates: of single operations, measured with the same number.

    Returns:
        One factor each for starting operations, for updates, arithmetic and memory.
    """
    rows = [seconds_alone(step, rates) / step.seconds for step in steps]
    pull = PULL * np.eye(len(rows[0]))
    wanted = np.concatenate([np.ones(len(rows)), PULL * np.ones(len(pull))])
    found, _ = nnls(np.vstack([*rows, pull]), wanted)
    calls, updates, arithmetic, memory = found.tolist()
    return StepFactors(calls=calls, updates=updates, arithmetic=arithmetic, memory=memory)


def seconds_alone(step: TimedStep, rates: Rates) -> np.ndarray:
    """Seconds of a step's starts, updates' starts, arithmetic and memory by the rates of single operations, (4,)."""
    total = np.zeros(4)
    for share, ops in step.ops:
        for op in ops:
            update, (seconds, resource) = op.part == OPTIMIZER, op_seconds(op, rates)
            total[1 if update else 0] += share * (rates.update_overhead_s if update else rates.overhead_s)
            total[2 if resource == ARITHMETIC else 3] += share * seconds
    return total


def timed_steps(*, clock: Callable[[], float] = time.perf_counter) -> list[TimedStep]:
    """Real training steps of several sizes on the CPU, with as many threads as torch uses at the moment.

    Args:
        clock: seconds.

    Returns:
        One for each size and objective.
    """
    return [timed_step(settings, dims, clock=clock) for settings, dims in reference_experiments()]


def reference_experiments() -> list[tuple[ExperimentSettings, dict[str, int]]]:
    """The experiments whose steps are timed, each with the widths of its inputs."""
    return [reference_experiment(terms, **size) for size in SIZES for terms in TERMS]


def reference_experiment(
    terms: dict[str, Any], *, batch: int, video: int, text: int, **model: int
) -> tuple[ExperimentSettings, dict[str, int]]:
    """An experiment of a size, and the widths of its inputs."""
    cluster = {"clusters": max(4, batch // 4), "queue_batches": QUEUE_BATCHES, "refit_every": REFIT_EVERY}
    values = {
        "experiment": "reference",
        "stages": "VAT",
        "data": {"store": "none"},
        "model": {**model, "words": WORDS},
        "terms": terms | ({"cluster": cluster} if "cluster" in terms else {}),
        "training": {"batch": batch},
    }
    return ExperimentSettings.parse(values, source="reference"), {"video": video, "audio": BANDS, "text": text}


def timed_step(
    settings: ExperimentSettings, dims: dict[str, int], *, clock: Callable[[], float] = time.perf_counter
) -> TimedStep:
    """The step of an experiment's first stage, averaged over those between two fits of the clusters.

    Args:
        settings: the experiment.
        dims: width of what each modality's tower reads.
        clock: seconds.

    Returns:
        Its operations and the seconds of the fastest block.
    """
    step, number = _real_step(settings, dims), 0
    every = 1 if settings.terms.cluster is None else settings.terms.cluster.refit_every
    taken = []
    for _ in range(1 + ROUNDS):
        began = clock()
        for _ in range(max(every, 4)):
            step(number)
            number += 1
        taken.append((clock() - began) / max(every, 4))
    stage, batch = build_stages(settings)[0], settings.training.batch
    shares = {False: 1.0} if settings.terms.cluster is None else {True: 1 / every, False: 1 - 1 / every}
    counts = [
        (share, step_cost(settings, dims, stage, StepSize(batch, batch, refit))) for refit, share in shares.items()
    ]
    return TimedStep(tuple((share, cost.ops) for share, cost in counts), min(taken[1:]))


def _real_step(settings: ExperimentSettings, dims: dict[str, int]) -> Callable[[int], object]:
    """What does a step of an experiment's first stage by its number, on random clips."""
    stage = build_stages(settings)[0]
    model = sized_model(settings, dims, seed=0).train()
    terms = [term for name, term in build_terms(settings, model.graph, seed=0).items() if name in stage.terms]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    batch = random_batch(settings, dims)
    wanted = StepSettings(max_grad_norm=settings.training.max_grad_norm)
    return lambda number: train_step(
        model, batch, terms, optimizer, scaler,
        active=Active(stage.modalities, stage.pairs, number),
        stage=stage.name, settings=wanted, clip_name=str,
    )  # fmt: skip


def random_batch(settings: ExperimentSettings, dims: dict[str, int]) -> Batch:
    """Complete clips of random content, of the shapes that the experiment's towers read."""
    random, clips = torch.Generator().manual_seed(0), settings.training.batch
    shapes = empty_batch(settings, dims, clips).inputs
    inputs = {name: torch.rand(x.shape, generator=random) for name, x in shapes.items()}
    full = {"video": 1, "audio": settings.model.audio_frames, "text": settings.model.words}
    lengths = {name: torch.full((clips,), full[name]) for name in inputs}
    present = {name: torch.ones(clips, dtype=torch.bool) for name in inputs}
    labels = None if settings.data.label is None else torch.arange(clips) % ASSUMED_CLASSES
    return Batch(inputs, lengths, present, torch.arange(clips), labels=labels)
