"""The watch on non-finite losses and gradients: it names the term, the modality, the stage, the step and the clips, and
where the first number that is not finite came from."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Outputs
from mcnlab.errors import NonFiniteError
from mcnlab.modalities import BETWEEN
from mcnlab.training.terms import Term

CLIPS_NAMED = 5
"""Most clips that an error lists by name."""
LEAST_SCALE = 2.0**-24
"""Float16: when even a loss as small as this gives a gradient that overflows, no smaller one will help."""


@dataclass(frozen=True)
class Moment:
    """What a step has at hand when a number turns out not to be finite."""

    model: nn.Module
    own: Batch
    """The clips of this process, with all their inputs."""
    batch: Batch
    """The clips of all processes."""
    outputs: Outputs
    """What the model made of them."""
    terms: Sequence[Term]
    """In the order in which they were computed."""
    stage: str
    step: int
    """Steps of the run so far."""
    clip_name: Callable[[int], str]
    """Place of a clip in its source → its id."""


def check_finite(values: Mapping[str, float], loss: float, moment: Moment) -> None:
    """Refuse to go on with a term that is NaN or infinite.

    Args:
        values: by `term` and `term.part`, already on the host.
        loss: the weighted sum of the terms.
        moment: what they were computed from.

    Raises:
        NonFiniteError: a part of a term, a term, or their sum is not finite; the first one in the order of
            computation is named, with the first number on the way to it that was not finite.
    """
    broken = [
        (term, name.removeprefix(term.name).removeprefix("."))
        for term in moment.terms
        for name in [*(name for name in values if name.startswith(f"{term.name}.")), term.name]
        if not math.isfinite(values.get(name, 0.0))
    ]
    if broken:
        raise NonFiniteError(_accusation(broken, values, moment))
    if not math.isfinite(loss):
        terms = ", ".join(f"{term.name} {values.get(term.name, 0.0):.3g} × {term.weight:.3g}" for term in moment.terms)
        raise NonFiniteError(
            f"the weighted sum of the terms is {loss} in stage {moment.stage}, step {moment.step}, while each of them "
            f"is finite: {terms}"
        )


def check_gradient(norm: float, model: nn.Module, *, stage: str, step: int) -> None:
    """Refuse a gradient that would leave its mark on the weights, or on Adam's memory, for good.

    Args:
        norm: of the whole gradient, already on the host.
        model: whose parameters have it.
        stage: name of the stage.
        step: steps of the run so far.

    Raises:
        NonFiniteError: the norm is NaN or infinite; the parameter with the largest gradient is named.
    """
    if math.isfinite(norm):
        return
    largest = {
        n: float(p.grad.abs().max()) for n, p in model.named_parameters() if p.grad is not None and p.grad.numel()
    }
    name = max(largest, key=lambda n: largest[n] if math.isfinite(largest[n]) else math.inf)
    raise NonFiniteError(
        f"norm of the gradient is not finite ({norm}) in stage {stage}, step {step}, while all terms are finite; "
        f"the largest is that of {name}, up to {largest[name]:.3g}"
    )


def may_not_be_skipped(scaler: torch.amp.GradScaler) -> bool:
    """Whether a step whose gradient is not finite is a fault, and not left out by a scaler that then takes less.

    Args:
        scaler: of float16, or disabled.
    """
    return not scaler.is_enabled() or scaler.get_scale() < LEAST_SCALE


def _accusation(broken: Sequence[tuple[Term, str]], values: Mapping[str, float], moment: Moment) -> str:
    """What is not finite, where, in which clips, and why: the first of the broken parts that the cause is about."""
    origin = _origin(moment)
    about = [one for one in broken if origin is not None and origin.modality in _modalities_of(one[1], moment.outputs)]
    term, part = (about or broken)[0]
    embeddings = moment.outputs.embeddings
    rows = _broken_clips(embeddings, _modalities_of(part, moment.outputs), moment.batch)
    clips = (origin and origin.clips) or sorted({clip for _, found in rows for clip in found})
    clips = clips or moment.batch.clips.tolist()
    named = ", ".join(moment.clip_name(clip) for clip in clips[:CLIPS_NAMED])
    more = f" and {len(clips) - CLIPS_NAMED} more" if len(clips) > CLIPS_NAMED else ""
    what, number = (f"term {term.name} of {part}", f"{term.name}.{part}") if part else (f"term {term.name}", term.name)
    cause = _own_arithmetic(term, part, moment.outputs) if origin is None else origin.words
    return f"{what} is {values[number]} in stage {moment.stage}, step {moment.step}, clips {named}{more}: {cause}"


@dataclass(frozen=True)
class _Origin:
    """The first number that was not finite, before any term was computed."""

    words: str
    modality: str | None = None
    """Whose number it was; None where that cannot be told."""
    clips: Sequence[int] = ()
    """The clips that brought it in; none where it was not them."""


def _origin(moment: Moment) -> _Origin | None:
    """What was first not finite, in the order of computation; None where all that the terms read is finite."""
    model, outputs = moment.model, moment.outputs
    resting = (module.named_buffers(name) for name, module in model.named_modules() if not module.training)
    for name, value in chain(model.named_parameters(), *resting):  # statistics that move have moved in this step
        if not bool(value.isfinite().all()):
            return _Origin(f"{name} is not finite since an earlier step", _owner(name))
    every = {modality for modality, _ in outputs.embeddings}
    inputs = {(modality, ""): x for modality, x in moment.own.inputs.items()}
    for modality, clips in _broken_clips(inputs, every, moment.own):
        return _Origin(f"their {modality} is not finite, as it was read", modality, clips)
    features = {(modality, ""): x for modality, x in outputs.features.items()}
    for what, rows in (("features", features), ("embeddings", outputs.embeddings)):
        for modality, _ in _broken_clips(rows, every, moment.batch):
            kind = _kind(next(x for (name, _), x in rows.items() if name == modality))
            return _Origin(f"the {what} of {modality} overflow {kind}, {_reach(moment, modality)}", modality)
    return None


def _broken_clips(
    rows: Mapping[tuple[str, str], Tensor], about: Collection[str], batch: Batch
) -> Iterator[tuple[str, list[int]]]:
    """By modality that has any: the clips whose rows are not finite."""
    for (modality, _), x in rows.items():
        if modality in about and len(x) == len(batch):
            bad = ~x.flatten(1).isfinite().all(dim=1) & batch.present[modality]
            if bool(bad.any()):
                yield modality, batch.clips[bad].tolist()


def _reach(moment: Moment, modality: str) -> str:
    """How far the inputs of a modality and the weights of its tower reach."""
    weights = {n: x.detach() for n, x in moment.model.named_parameters() if _owner(n) == modality and x.numel()}
    inputs = moment.own.inputs.get(modality)
    told = [] if inputs is None or not inputs.numel() else [f"its inputs reach {_largest(inputs):.3g}"]
    for name, x in sorted(weights.items(), key=lambda one: _largest(one[1]))[-1:]:
        told.append(f"its weights reach {_largest(x):.3g} ({name})")
    return ", ".join(told)


def _kind(x: Tensor) -> str:
    """The type of a tensor's numbers."""
    return str(x.dtype).removeprefix("torch.")


def _largest(x: Tensor) -> float:
    """The largest absolute value."""
    return float(x.abs().max())


def _owner(parameter: str) -> str:
    """The modality that a parameter of a model belongs to."""
    return parameter.partition(".")[2].partition(".")[0].split("_in_")[0]


def _own_arithmetic(term: Term, part: str, outputs: Outputs) -> str:
    """What a part of a term was computed from, where all of that is finite."""
    about = _modalities_of(part, outputs)
    embeddings = {key: x.detach() for key, x in outputs.embeddings.items() if key[0] in about}
    longest = max((float(x.float().norm(dim=1).max()) for x in embeddings.values()), default=0.0)
    types = sorted({_kind(x) for x in embeddings.values()})
    told = "".join(f", {name} {value:.3g}" for name, value in getattr(term, "scales", {}).items())
    return f"the term itself overflows; its embeddings are finite ({', '.join(types)}, up to {longest:.3g} long){told}"


def _modalities_of(part: str, outputs: Outputs) -> set[str]:
    """The modalities that a part of a term is about; all of them where its name tells none."""
    plain = part.split("@")[0]
    named = plain.replace("->", BETWEEN).split(BETWEEN)
    every = {modality for modality, _ in outputs.embeddings}
    about = {m for m in every if m in named or (len(plain) == 2 and m[0] in plain)}
    return about or every
