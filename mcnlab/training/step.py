"""One training step, in the order it happens."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs
from mcnlab.distributed import gather_rows, rows_by_rank
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.averaging import averaged_backward
from mcnlab.training.chunks import Forward, chunked_forward, whole_forward
from mcnlab.training.predict_term import mean_inputs, reads_means
from mcnlab.training.terms import Active, Term, TermValue
from mcnlab.training.watch import Moment, check_finite, check_gradient, may_not_be_skipped

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Compute types by name; anything but float32 runs under autocast."""


@dataclass(frozen=True)
class StepRecord:
    """What a step leaves behind; one line of `metrics.jsonl`."""

    step: int
    stage: str
    epoch: int
    lr: float
    loss: float
    grad_norm: float
    terms: dict[str, float] = field(default_factory=dict)
    """Unweighted, by `term` and `term.part`."""
    clips_per_s: float = 0.0
    elapsed_s: float = 0.0
    """Training seconds of the run so far."""


@dataclass(frozen=True)
class StepSettings:
    """What every step of a run has in common."""

    precision: str = "float32"
    max_grad_norm: float = float("inf")
    """Gradients longer than this are shortened; infinity leaves them alone."""
    chunk: int | None = None
    """Clips of this process that go through the model at a time; None takes all of them."""
    coupled_whole: bool = True
    """With chunks: modalities with a batch normalization on their way go all at once, which is exact."""


def train_step(
    model: MultimodalModel,
    batch: Batch,
    terms: Sequence[Term],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    active: Active,
    stage: str,
    settings: StepSettings,
    clip_name: Callable[[int], str],
) -> tuple[float, float, dict[str, float]]:
    """Loss of a batch, its gradient, and one update; several processes act as one that has all their clips.

    The terms see the same rows on every process and so are non-finite on all of them or on none.

    Args:
        model: in training mode.
        batch: the clips of this process.
        terms: the objective's summands.
        optimizer: of the parameters that train in this stage.
        scaler: keeps float16 gradients from vanishing; disabled otherwise.
        active: modalities and pairs of the stage.
        stage: its name, for errors.
        settings: precision and clipping.
        clip_name: place of a clip → its id, for errors.

    Returns:
        Loss, norm of the gradient before clipping, and the unweighted values by term and part.

    Raises:
        NonFiniteError: a term, their sum, or the gradient is NaN or infinite; nothing was updated.
    """
    own = forward(model, batch, active, settings)
    with autocast(settings.precision, batch.clips.device.type):
        everyone, outputs = gathered(batch, own.outputs, means=any(reads_means(term) for term in terms))
        values = {term.name: term(model, everyone, outputs, active) for term in terms}
    loss = weighted_sum(terms, values)

    optimizer.zero_grad(set_to_none=True)
    grad_norm = torch.zeros(())
    if loss is not None:
        averaged_backward(model.parameters(), [scaler.scale(loss).backward, *own.backwards])
        scaler.unscale_(optimizer)
        grad_norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    numbers = on_host({"loss": loss, "grad_norm": grad_norm, **flat_values(values)})  # one transfer
    loss_now, norm_now = numbers.pop("loss", 0.0), numbers.pop("grad_norm")
    check_finite(numbers, loss_now, Moment(model, batch, everyone, outputs, terms, stage, active.step, clip_name))
    if not math.isfinite(norm_now) and may_not_be_skipped(scaler):
        check_gradient(norm_now, model, stage=stage, step=active.step)
    if loss is not None:
        if math.isfinite(settings.max_grad_norm):
            nn.utils.clip_grads_with_norm_(model.parameters(), settings.max_grad_norm, grad_norm)
        scaler.step(optimizer)
        scaler.update()
    return loss_now, norm_now, numbers


def forward(model: MultimodalModel, batch: Batch, active: Active, settings: StepSettings) -> Forward:
    """The outputs of this process's clips, made at once or in chunks."""

    def context() -> AbstractContextManager[object]:
        return autocast(settings.precision, batch.clips.device.type)

    if settings.chunk is None:
        with context():
            return whole_forward(model, batch, active.modalities, active.pairs)
    return chunked_forward(
        model,
        batch,
        active.modalities,
        active.pairs,
        chunk=settings.chunk,
        coupled_whole=settings.coupled_whole,
        autocast=context,
    )


def autocast(precision: str, device: str) -> AbstractContextManager[object]:
    """The context in which a model computes in the named precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device, dtype=PRECISIONS[precision])


def gathered(batch: Batch, outputs: Outputs, *, means: bool = False) -> tuple[Batch, Outputs]:
    """The clips of all processes and their outputs as one batch.

    Inputs with a time axis are left out, since they are large, or come as their mean over time for terms that read it.
    """
    counts = rows_by_rank(len(batch))
    inputs = mean_inputs(batch) if means else {name: x for name, x in batch.inputs.items() if x.ndim == 2}
    near = outputs.candidates_present
    everyone = Batch(
        {name: gather_rows(x, counts) for name, x in inputs.items()},
        {name: gather_rows(x, counts) for name, x in batch.lengths.items()},
        {name: gather_rows(x, counts) for name, x in batch.present.items()},
        gather_rows(batch.clips, counts),
        labels=None if batch.labels is None else gather_rows(batch.labels, counts),
    )
    return everyone, Outputs(
        {name: gather_rows(x, counts) for name, x in outputs.features.items()},
        {name: gather_rows(x, counts) for name, x in outputs.embeddings.items()},
        {name: everyone.present[name] for name in outputs.present},
        {name: gather_rows(x, counts) for name, x in outputs.candidates.items()},
        None if near is None else gather_rows(near, counts),
        {name: gather_rows(x, counts) for name, x in outputs.maps.items()},
    )


def weighted_sum(terms: Sequence[Term], values: dict[str, TermValue]) -> Tensor | None:
    """The objective: Σ weight · term over the terms that have a value; None when none has."""
    summands = [term.weight * total for term in terms if (total := values[term.name].total) is not None]
    return torch.stack([summand.float() for summand in summands]).sum() if summands else None


def flat_values(values: Mapping[str, TermValue]) -> dict[str, Tensor | None]:
    """Every term and part by its name."""
    flat: dict[str, Tensor | None] = {}
    for term, value in values.items():
        flat[term] = value.total
        flat |= {f"{term}.{part}": number for part, number in value.parts.items()}
    return flat


def on_host(scalars: Mapping[str, Tensor | None]) -> dict[str, float]:
    """Numbers by name, without those that are None, brought from the device in one transfer."""
    there = {name: x.detach().double() for name, x in scalars.items() if x is not None}
    device = next((x.device for x in there.values() if x.device.type != "cpu"), torch.device("cpu"))
    stacked = torch.stack([x.to(device) for x in there.values()])
    return dict(zip(there, stacked.tolist(), strict=True))
