"""The watch on non-finite losses and gradients: it names the term, the modality, the stage, the step and the clips."""

import math
from collections.abc import Callable, Mapping

from torch import nn

from mcnlab.batch import Batch, Outputs
from mcnlab.errors import NonFiniteError

CLIPS_NAMED = 5
"""Most clips that an error lists by name."""


def check_finite(
    values: Mapping[str, float],
    batch: Batch,
    outputs: Outputs,
    *,
    stage: str,
    step: int,
    clip_name: Callable[[int], str],
) -> None:
    """Refuse to go on with a term that is NaN or infinite.

    Args:
        values: by `term` and `term.part`, already on the host.
        batch: the clips.
        outputs: what the model made of them.
        stage: name of the stage.
        step: steps of the run so far.
        clip_name: place of a clip in its source → its id.

    Raises:
        NonFiniteError: a part of a term is not finite.
    """
    for name, number in values.items():
        term, _, part = name.partition(".")
        if part and not math.isfinite(number):
            guilty = _guilty_clips(part, batch, outputs)
            named = ", ".join(clip_name(int(clip)) for clip in guilty[:CLIPS_NAMED])
            more = f" and {len(guilty) - CLIPS_NAMED} more" if len(guilty) > CLIPS_NAMED else ""
            raise NonFiniteError(
                f"term {term} of {part} is {number} in stage {stage}, step {step}, clips {named}{more}"
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


def _guilty_clips(part: str, batch: Batch, outputs: Outputs) -> list[int]:
    """Clips with a non-finite embedding of the modalities that a part is about; all clips when there is none."""
    named = part.split("@")[0].split("->")
    about = {m for m, _ in outputs.embeddings if m in named or (len(part) == 2 and m[0] in part)}
    bad = [~x.isfinite().all(dim=1) for (modality, _), x in outputs.embeddings.items() if modality in about]
    rows = [row for row in range(len(batch)) if any(bool(flags[row]) for flags in bad)]
    return [int(batch.clips[row]) for row in rows or range(len(batch))]
