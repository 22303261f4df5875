"""The work of one training step of an experiment: the very model and terms that it would train, on empty tensors."""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcnlab.batch import Batch, Candidates, Outputs
from mcnlab.experiment.build import sized_model
from mcnlab.experiment.data_settings import DataSettings
from mcnlab.experiment.objective import assumed_facts, build_terms, takes_several_captions
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.multimodal import MultimodalModel, head_name
from mcnlab.plan.trace import Op, Tracer, counting
from mcnlab.training.chunks import rows_of, tensors_of
from mcnlab.training.loop import freeze
from mcnlab.training.predict_term import mean_inputs, reads_means
from mcnlab.training.stages import Stage
from mcnlab.training.step import autocast
from mcnlab.training.terms import Active, ClusterTerm, RingProgress, Term

OPTIMIZER = "optimizer"
"""The part of a step that updates the weights."""
UNREAD: dict[str, bool | set[str]] = {
    "experiment": True,
    "evaluation": True,
    "data": set(DataSettings.model_fields) - {"candidates"},
    "training": {
        *(
            "epochs",
            "lr",
            "warmup_steps",
            "checkpoint_every",
            "keep_every",
            "keep_best",
            "max_steps",
            "threads",
            "deterministic",
            "prefetch",
            "device",
        ),
    },
}
"""Settings that change nothing about a step."""


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
    weight_bytes: int
    """Of the weights in it alone."""
    """Weights, Adam's moments, queue and centroids on disk."""


@dataclass(frozen=True)
class StepSize:
    """How many clips a step has, and what is done with them."""

    local: int
    """Clips that one process embeds."""
    total: int
    """Clips that the terms see."""
    refit: bool
    """Whether the clusters are fitted in this step."""
    chunk: int | None = None
    """Clips that go through the towers at a time; None: all of the process."""
    clips: int | None = None
    """Training clips, each of which has a row in a memory bank; None: as many as the terms see."""

    @property
    def kept_clips(self) -> int:
        """Rows of a memory bank."""
        return self.total if self.clips is None else self.clips

    @property
    def pieces(self) -> int:
        """Chunks of a step."""
        return 1 if self.chunk is None else -(-self.local // self.chunk)

    @property
    def at_once(self) -> int:
        """Clips of the largest chunk."""
        return -(-self.local // self.pieces)


def chunk_of(settings: ExperimentSettings) -> int | None:
    """Clips that a process takes through the towers at a time; None where it takes all of them."""
    chunk: int | None = settings.training.model_dump().get("chunk")
    return chunk


def coupled_whole(settings: ExperimentSettings) -> bool:
    """Whether modalities with a batch normalization go through the model at once where others go in chunks."""
    return bool(settings.training.model_dump().get("chunk_statistics", "batch") == "batch")


def step_cost(settings: ExperimentSettings, input_dims: Mapping[str, int], stage: Stage, size: StepSize) -> StepCost:
    """Count the work of one step.

    Args:
        settings: the experiment.
        input_dims: width of what each modality's tower reads.
        stage: which modalities, pairs and terms are at work.
        size: clips of the step.

    Returns:
        The operations in order, and what they hold. All clips count as complete, queues as full.
    """
    return _kept(_Case(settings, dict(input_dims), stage, size))


class _Case:
    """Arguments of a count, equal where its outcome is."""

    def __init__(
        self, settings: ExperimentSettings, input_dims: Mapping[str, int], stage: Stage, size: StepSize
    ) -> None:
        self.settings, self.input_dims, self.stage, self.size = settings, input_dims, stage, size
        read = settings.model_dump(mode="json", exclude=dict(UNREAD))
        at_work = (stage.modalities, stage.pairs, stage.terms, stage.frozen)
        self.key = json.dumps([read, input_dims, at_work, vars(size)], sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Case) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@functools.lru_cache(maxsize=64)
def _kept(case: _Case) -> StepCost:
    """The cost of a step, counted once: runs of a study share most of their stages."""
    settings, stage = case.settings, case.stage
    with counting() as tracer:
        model = sized_model(settings, case.input_dims, seed=0).train()
        facts = assumed_facts(settings, case.input_dims, clips=case.size.kept_clips)
        built = build_terms(settings, model.graph, seed=0, facts=facts)
        terms = {name: term for name, term in built.items() if name in stage.terms}
        buffers = [b for m in (model, *terms.values()) if isinstance(m, nn.Module) for b in m.buffers()]
        fill_queues(terms.values())
        freeze(model, stage.frozen)
        for backbone in model.backbones.values():
            vars(backbone)["recompute"] = case.size.chunk is not None and coupled_whole(settings)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        batch = empty_batch(settings, case.input_dims, case.size.local)
        tracer.ops.clear()
        tracer.live_bytes = tracer.peak_bytes = 0
        gathered = _Step(model, terms, settings, stage, case.size, tracer).forward_and_backward(batch)
        trained = [p for p in model.parameters() if p.grad is not None]
        gradients, peak = size_of(trained), tracer.peak_bytes
        tracer.peak_bytes, done = tracer.live_bytes, len(tracer.ops)
        optimizer.step()
        del tracer.ops[done:]  # Adam's moments come into being only once
        with tracer.part(OPTIMIZER):
            nn.utils.clip_grad_norm_(model.parameters(), settings.training.max_grad_norm)
            optimizer.step()
        beyond = max(0, peak - gradients, tracer.peak_bytes - 3 * gradients)  # Adam's moments came into being just now
        weights = size_of(model.parameters())
        return StepCost(
            ops=tuple(tracer.ops),
            held_bytes=weights + 3 * gradients + size_of(buffers),
            work_bytes=beyond + size_of(batch.inputs.values()),
            gradient_bytes=gradients,
            gathered_bytes=gathered,
            weights=sum(p.numel() for p in model.parameters()),
            checkpoint_bytes=weights + 2 * gradients + size_of(buffers),
            weight_bytes=weights,
        )


@dataclass(frozen=True)
class _Step:
    """What `train_step` does before it updates, tower by tower."""

    model: MultimodalModel
    terms: Mapping[str, Term]
    settings: ExperimentSettings
    stage: Stage
    size: StepSize
    tracer: Tracer

    def forward_and_backward(self, batch: Batch) -> int:
        """All of it; bytes that several processes would exchange."""
        own = {}
        for modality in self.stage.modalities:
            with self.tracer.part(f"{modality} tower"):
                own[modality] = self._first(batch, modality)
        means = any(reads_means(term) for term in self.terms.values())
        everyone, outputs = _of_everyone(batch, own, self.size.total, means=means)
        self._terms(everyone, outputs)
        for modality, produced in own.items():
            with self.tracer.part(f"{modality} tower"):
                self._backward(batch, modality, produced, outputs)
        return size_of(tensors_of(outputs))

    def _terms(self, batch: Batch, outputs: Outputs) -> None:
        """The terms and their gradients for features and embeddings."""
        active = Active(self.stage.modalities, self.stage.pairs, 0 if self.size.refit else 1)
        for name, term in self.terms.items():
            with self.tracer.part(f"{name} term"):
                with self._autocast():
                    value = term(self.model, batch, outputs, active).total
                if value is not None and value.requires_grad:
                    (term.weight * value).float().backward()

    def _first(self, batch: Batch, modality: str) -> Outputs:
        """What a tower makes of the clips; in chunks, without a graph."""
        if not self._in_chunks(modality):
            return self._embedded(batch, modality)
        with self.tracer.repeated(self.size.pieces), torch.no_grad():
            found = self._embedded(rows_of(batch, slice(self.size.at_once)), modality)
        for x in tensors_of(found):
            x.requires_grad_()
        return found

    def _backward(self, batch: Batch, modality: str, produced: Outputs, outputs: Outputs) -> None:
        """Send the gradients back through a tower; chunks are embedded once more for it."""
        if not self._in_chunks(modality):
            _send_back(produced, outputs)
            return
        some = rows_of(batch, slice(self.size.at_once))
        for times in (1, self.size.pieces - 1):  # gradients come into being, then others are added to them
            if times:
                with self.tracer.repeated(times):
                    _send_back(self._embedded(some, modality), outputs)

    def _embedded(self, batch: Batch, modality: str) -> Outputs:
        """A tower and its heads."""
        with self._autocast():
            found: Outputs = self.model(batch, [modality], pairs=self.stage.pairs)
        return found

    def _in_chunks(self, modality: str) -> bool:
        """Whether a modality is embedded piece by piece: not where a batch normalization couples all clips."""
        if self.size.chunk is None:
            return False
        coupled = any(_is_norm(part) for part in _on_the_way(self.model, modality))
        return not (coupled and coupled_whole(self.settings))

    def _autocast(self) -> AbstractContextManager[object]:
        """The precision of the run."""
        return autocast(self.settings.training.precision, "cpu")


def _on_the_way(model: MultimodalModel, modality: str) -> Iterator[nn.Module]:
    """Every part of a modality's backbone, heads and maps."""
    graph = model.graph
    yield from model.backbones[modality].modules()
    for space in graph.heads_of(modality):
        yield from model.heads[head_name(modality, space)].modules()
    for space in graph.spaces_of(modality):
        for step in graph.way(modality, space) or ():
            yield from model.maps[step.name].modules()


def _is_norm(part: nn.Module) -> bool:
    """Whether a part normalizes clips by the statistics of all of them."""
    return isinstance(part, nn.BatchNorm1d) and part.training


def _of_everyone(batch: Batch, own: Mapping[str, Outputs], total: int, *, means: bool) -> tuple[Batch, Outputs]:
    """The clips of all processes as the terms see them, cut off from the towers."""
    read = mean_inputs(batch) if means else {name: x for name, x in batch.inputs.items() if x.ndim == 2}
    inputs = {name: torch.empty(total, *x.shape[1:]) for name, x in read.items()}
    flags = {name: torch.ones(total, dtype=torch.bool) for name in batch.present}
    features: dict[str, Tensor] = {}
    embeddings: dict[tuple[str, str], Tensor] = {}
    near: dict[str, Tensor] = {}
    for produced in own.values():
        near |= {key: _leaf(x, total) for key, x in produced.candidates.items()}
        features |= {key: _leaf(x, total) for key, x in produced.features.items()}
        embeddings |= {key: _leaf(x, total) for key, x in produced.embeddings.items()}
    lengths = {name: torch.empty(total, dtype=torch.int64) for name in batch.lengths}
    there = None if batch.candidates is None else torch.ones(total, batch.candidates.lengths.shape[1], dtype=torch.bool)
    outputs = Outputs(features, embeddings, {name: flags[name] for name in own}, near, there if near else None)
    clips, labels = (torch.empty(total, dtype=torch.int64) for _ in range(2))
    return Batch(inputs, lengths, flags, clips, labels=None if batch.labels is None else labels), outputs


def _leaf(x: Tensor, total: int) -> Tensor:
    """A tensor of all processes' rows in place of one process's, the same one where there is but one process."""
    rows = x.detach() if len(x) == total else x.new_empty(total, *x.shape[1:])
    return rows.requires_grad_(x.requires_grad)


def _send_back(produced: Outputs, outputs: Outputs) -> None:
    """Send a tower's share of the gradients of all rows back through it."""
    roots: list[Tensor] = []
    gradients: list[Tensor] = []
    for x, everyones in [
        *((x, outputs.features[name]) for name, x in produced.features.items()),
        *((x, outputs.embeddings[key]) for key, x in produced.embeddings.items()),
        *((x, outputs.candidates[space]) for space, x in produced.candidates.items()),
    ]:
        if x.requires_grad and everyones.grad is not None:
            roots.append(x)
            gradients.append(everyones.grad[: len(x)])
    if roots:
        torch.autograd.backward(roots, gradients)


def fill_queues(terms: Iterable[Term]) -> None:
    """Let every queue be full and every cluster be fitted, as in most of a run."""
    for term in terms:
        if isinstance(term, ClusterTerm):
            for space in term.progress:
                term.progress[space] = RingProgress(0, len(term.get_buffer(f"queue_{space}")), fitted=True)


def empty_batch(settings: ExperimentSettings, input_dims: Mapping[str, int], clips: int) -> Batch:
    """A batch of complete clips, of the shapes that the experiment's towers read."""
    model = settings.model
    shapes = {"audio": (model.audio_frames,), "text": (model.words,)}
    inputs = {}
    for modality, width in input_dims.items():
        inner = (*shapes[modality], width) if modality == "text" else (width, *shapes.get(modality, ()))
        inputs[modality] = torch.empty(clips, *inner)
    lengths = {modality: torch.empty(clips, dtype=torch.int64) for modality in inputs}
    flags = {modality: torch.ones(clips, dtype=torch.bool) for modality in inputs}
    others = settings.data.candidates - 1 if takes_several_captions(settings) and "text" in inputs else 0
    near = None
    if others:
        counts = torch.empty(clips, others, dtype=torch.int64)
        near = Candidates(torch.empty(clips, others, *inputs["text"].shape[1:]), counts)
    labels = None if settings.data.label is None else torch.empty(clips, dtype=torch.int64)
    return Batch(inputs, lengths, flags, torch.empty(clips, dtype=torch.int64), near, labels)


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(x.numel() * x.element_size() for x in tensors)
