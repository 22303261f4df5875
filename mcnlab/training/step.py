"""One training step, in the order it happens."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs
from mcnlab.distributed import average_gradients, gather_rows, largest_over_ranks, rows_by_rank
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.predict_term import mean_inputs, reads_means
from mcnlab.training.terms import Active, Term, TermValue
from mcnlab.training.watch import check_finite

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
        NonFiniteError: a term is NaN or infinite; nothing was updated.
    """
    with autocast(settings.precision, batch.clips.device.type):
        own = model(batch, active.modalities, pairs=active.pairs, even_without=held_anywhere(batch.captioned))
        everyone, outputs = gathered(batch, own, means=any(reads_means(term) for term in terms))
        values = {term.name: term(model, everyone, outputs, active) for term in terms}
    check_finite(values, everyone, outputs, stage=stage, step=active.step, clip_name=clip_name)
    loss = weighted_sum(terms, values)

    optimizer.zero_grad(set_to_none=True)
    grad_norm = 0.0
    if loss is not None:
        scaler.scale(loss).backward()
        average_gradients(model.parameters())
        scaler.unscale_(optimizer)
        grad_norm = float(nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm))
        scaler.step(optimizer)
        scaler.update()
    return 0.0 if loss is None else loss.item(), grad_norm, flat_values(values)


def autocast(precision: str, device: str) -> AbstractContextManager[object]:
    """The context in which a model computes in the named precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device, dtype=PRECISIONS[precision])


def held_anywhere(present: Mapping[str, Tensor]) -> list[str]:
    """The modalities that some clip of some process has."""
    held = largest_over_ranks(torch.stack([flags.any() for flags in present.values()]).int().cpu())
    return [modality for modality, has in zip(present, held.tolist(), strict=True) if has]


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
    )
    return everyone, Outputs(
        {name: gather_rows(x, counts) for name, x in outputs.features.items()},
        {name: gather_rows(x, counts) for name, x in outputs.embeddings.items()},
        {name: everyone.present[name] for name in outputs.present},
        {name: gather_rows(x, counts) for name, x in outputs.candidates.items()},
        None if near is None else gather_rows(near, counts),
    )


def weighted_sum(terms: Sequence[Term], values: dict[str, TermValue]) -> Tensor | None:
    """The objective: Σ weight · term over the terms that have a value; None when none has."""
    summands = [term.weight * total for term in terms if (total := values[term.name].total) is not None]
    return torch.stack([summand.float() for summand in summands]).sum() if summands else None


def flat_values(values: dict[str, TermValue]) -> dict[str, float]:
    """Every term and part by its name."""
    flat = {}
    for term, value in values.items():
        if value.total is not None:
            flat[term] = value.total.item()
        flat |= {f"{term}.{part}": number.item() for part, number in value.parts.items()}
    return flat
