"""The work of one training step of an experiment: the very model and terms that it would train, on empty tensors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Candidates, Outputs
from mcnlab.experiment.build import build_loop, sized_model
from mcnlab.experiment.objective import assumed_facts, build_terms, takes_several_captions
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.plan.trace import Op, Tracer, counting
from mcnlab.training.chunks import held_anywhere
from mcnlab.training.loop import freeze
from mcnlab.training.predict_term import mean_inputs, reads_means
from mcnlab.training.stages import Stage
from mcnlab.training.step import autocast
from mcnlab.training.terms import Active, Term


@dataclass(frozen=True)
class StepCost:
    """What one process does and holds in one step."""

    ops: tuple[Op, ...]
    held_bytes: int
    """Weights, their gradients, Adam's two moments, queue and centroids."""
    work_bytes: int
    """The most that the step holds beyond that: activations, embeddings, similarities."""
    gradient_bytes: int
    """Gradients that processes average."""
    gathered_bytes: int
    """Features and embeddings that processes exchange."""
    weights: int
    """Numbers that training can change, in all towers, heads and decoders."""
    checkpoint_bytes: int
    """Weights, Adam's moments, queue and centroids on disk."""


def step_cost(
    settings: ExperimentSettings,
    input_dims: Mapping[str, int],
    stage: Stage,
    *,
    local: int,
    total: int,
    refit: bool,
    clips: int | None = None,
) -> StepCost:
    """Count the work of one step.

    Args:
        settings: the experiment.
        input_dims: width of what each modality's tower reads.
        stage: which modalities, pairs and terms are at work.
        local: clips that the towers of one process see at once.
        total: clips that the terms see.
        refit: whether the clusters are fitted in this step.
        clips: training clips, each of which has a row in a memory bank; as many as the terms see when None.

    Returns:
        The operations in order, and what they hold. All clips count as complete, and k-means as not converged before
        its last round.
    """
    with counting() as tracer:
        model = sized_model(settings, input_dims, seed=0).train()
        facts = assumed_facts(settings, input_dims, clips=total if clips is None else clips)
        built = build_terms(settings, model.graph, seed=0, facts=facts)
        terms = {name: term for name, term in built.items() if name in stage.terms}
        buffers = [b for m in (model, *terms.values()) if isinstance(m, nn.Module) for b in m.buffers()]
        fill_queues(terms)
        freeze(model, stage.frozen)
        optimizer = torch.optim.Adam(model.parameters(), foreach=False)
        batch = empty_batch(settings, input_dims, local)
        tracer.ops.clear()
        tracer.live_bytes = tracer.peak_bytes = 0
        gathered = _forward_and_backward(model, batch, terms, settings, stage, total, 0 if refit else 1, tracer)
        trained = [p for p in model.parameters() if p.grad is not None]
        gradients, peak = size_of(trained), tracer.peak_bytes
        tracer.peak_bytes = tracer.live_bytes
        with tracer.part("optimizer"):
            nn.utils.clip_grad_norm_(model.parameters(), settings.training.max_grad_norm)
            optimizer.step()
        beyond = max(0, peak - gradients, tracer.peak_bytes - 3 * gradients)  # Adam's moments came into being just now
        weights = size_of(model.parameters())
        held = weights + 3 * gradients + size_of(buffers)
        return StepCost(
            ops=tuple(tracer.ops),
            held_bytes=held,
            work_bytes=beyond + size_of(batch.inputs.values()),
            gradient_bytes=gradients,
            gathered_bytes=gathered,
            weights=sum(p.numel() for p in model.parameters()),
            checkpoint_bytes=weights + 2 * gradients + size_of(buffers),
        )


def _forward_and_backward(
    model: MultimodalModel,
    batch: Batch,
    terms: Mapping[str, Term],
    settings: ExperimentSettings,
    stage: Stage,
    total: int,
    step: int,
    tracer: Tracer,
) -> int:
    """What `train_step` does before it updates, tower by tower; bytes that several processes would exchange."""
    own, loss = {}, build_loop(settings, seed=0).step
    with autocast(loss.precision, "cpu"):
        for modality in stage.modalities:
            with tracer.part(f"{modality} tower"):
                own[modality] = model(batch, [modality], even_without=held_anywhere(batch.captioned))
        everyone, outputs = _of_everyone(batch, own, total, means=any(reads_means(term) for term in terms.values()))
        values = {}
        for name, term in terms.items():
            with tracer.part(f"{name} term"):
                values[name] = term(model, everyone, outputs, Active(stage.modalities, stage.pairs, step))
    for name, term in terms.items():
        value = values[name].total
        if value is not None and value.requires_grad:
            with tracer.part(f"{name} term"):
                (term.weight * value).float().backward()
    sent = [*outputs.features.values(), *outputs.embeddings.values(), *outputs.candidates.values()]
    for modality, produced in own.items():
        with tracer.part(f"{modality} tower"):
            _backward(produced, outputs)
    return size_of(sent)


def _of_everyone(batch: Batch, own: Mapping[str, Outputs], total: int, *, means: bool) -> tuple[Batch, Outputs]:
    """The clips of all processes as the terms see them, cut off from the towers."""
    read = mean_inputs(batch) if means else {name: x for name, x in batch.inputs.items() if x.ndim == 2}
    inputs = {name: torch.empty(total, *x.shape[1:]) for name, x in read.items()}
    flags = {name: torch.ones(total, dtype=torch.bool) for name in batch.present}
    features, embeddings, near = dict[str, Tensor](), dict[tuple[str, str], Tensor](), dict[str, Tensor]()
    for produced in own.values():
        near |= {key: _leaf(x, total) for key, x in produced.candidates.items()}
        features |= {key: _leaf(x, total) for key, x in produced.features.items()}
        embeddings |= {key: _leaf(x, total) for key, x in produced.embeddings.items()}
    lengths = {name: torch.empty(total, dtype=torch.int64) for name in batch.lengths}
    there = None if batch.candidates is None else torch.ones(total, batch.candidates.lengths.shape[1], dtype=torch.bool)
    outputs = Outputs(features, embeddings, {name: flags[name] for name in own}, near, there if near else None)
    return Batch(inputs, lengths, flags, torch.empty(total, dtype=torch.int64)), outputs


def _leaf(x: Tensor, total: int) -> Tensor:
    """A tensor of all processes' rows in place of one process's, the same one where there is but one process."""
    rows = x.detach() if len(x) == total else x.new_empty(total, *x.shape[1:])
    return rows.requires_grad_(x.requires_grad)


def _backward(produced: Outputs, outputs: Outputs) -> None:
    """Send a tower's share of the gradients of all rows back through it."""
    roots, gradients = [], []
    found = ((produced.features, outputs.features), (produced.embeddings, outputs.embeddings))
    for mine, everyones in (*found, (produced.candidates, outputs.candidates)):
        for key, x in mine.items():
            if x.requires_grad and everyones[key].grad is not None:
                roots.append(x)
                gradients.append(everyones[key].grad[: len(x)])
    if roots:
        torch.autograd.backward(roots, gradients)


def fill_queues(terms: Mapping[str, Term]) -> None:
    """Let every queue be full and every cluster be fitted, as in most of a run."""
    for term in terms.values():
        for name, buffer in list(term.named_buffers()) if isinstance(term, nn.Module) else ():
            if buffer.ndim == 0:
                queue = name.replace("filled", "queue")
                rows = len(term.get_buffer(queue)) if name.startswith("filled") else 1
                setattr(term, name, torch.tensor(rows))


def empty_batch(settings: ExperimentSettings, input_dims: Mapping[str, int], clips: int) -> Batch:
    """A batch of complete clips, of the shapes that the experiment's towers read."""
    model = settings.model
    shapes = {"video": (), "audio": (model.audio_frames,), "text": (model.words,)}
    inputs = {}
    for modality, width in input_dims.items():
        inner = (*shapes[modality], width) if modality == "text" else (width, *shapes[modality])
        inputs[modality] = torch.empty(clips, *inner)
    lengths = {modality: torch.empty(clips, dtype=torch.int64) for modality in inputs}
    flags = {modality: torch.ones(clips, dtype=torch.bool) for modality in inputs}
    others = settings.data.candidates - 1 if takes_several_captions(settings) and "text" in inputs else 0
    near = None
    if others:
        counts = torch.empty(clips, others, dtype=torch.int64)
        near = Candidates(torch.empty(clips, others, *inputs["text"].shape[1:]), counts)
    return Batch(inputs, lengths, flags, torch.empty(clips, dtype=torch.int64), near)


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(x.numel() * x.element_size() for x in tensors)
