"""A batch through the model in chunks, so that its memory is that of a chunk and its contrast that of the whole.

First all embeddings without a graph; then the loss on all of them, and its gradient for each embedding; then chunk by
chunk the embeddings once more, with the graph that carries this gradient on.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from mcnlab.batch import Batch, Candidates, Outputs
from mcnlab.distributed import largest_over_ranks
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.models.resting import resting_statistics

Autocast = Callable[[], AbstractContextManager[object]]
"""Makes the context in which the model computes."""
Key = TypeVar("Key")


@dataclass(frozen=True)
class Forward:
    """A batch's outputs, and what is left to do for their gradient once that of the loss is there."""

    outputs: Outputs
    backwards: Sequence[Callable[[], None]] = ()
    """To be called in order after the loss' own backward pass."""


def whole_forward(model: MultimodalModel, batch: Batch, modalities: Sequence[str], pairs: Sequence[str]) -> Forward:
    """All clips of this process at once."""
    return Forward(model(batch, modalities, pairs=pairs, even_without=held_anywhere(batch.captioned)))


def chunked_forward(
    model: MultimodalModel,
    batch: Batch,
    modalities: Sequence[str],
    pairs: Sequence[str],
    *,
    chunk: int,
    coupled_whole: bool,
    autocast: Autocast,
) -> Forward:
    """The clips of this process in chunks.

    With float32 the numbers are those of the whole batch, but for the order of sums. A batch normalization couples the
    clips that go through it together: its statistics, and their gradient, are those of all of them.

    Args:
        model: in training mode.
        batch: the clips of this process.
        modalities: those of the stage.
        pairs: those of the stage.
        chunk: clips of this process at a time, at least 1.
        coupled_whole: modalities with a batch normalization on their way go through the model all at once, which is
            exact; DaveNet then keeps only its blocks' inputs (`DaveNet.recompute`). Otherwise they go in chunks as
            well, each normalized by its own statistics, as under the DataParallel of the published code; that is
            another number than the whole batch's, and the running statistics move once per chunk.
        autocast: the precision.

    Returns:
        Outputs whose gradient `backwards` carry on into the model.

    Source: GradCache (Gao et al., 2021), arXiv 2101.06983, section 3.
    """
    at_once = [m for m in modalities if coupled_whole and model.couples_clips(m)]
    in_chunks = [m for m in modalities if m not in at_once]
    parts = [_Part(model, some, in_chunks, pairs, autocast) for some in split_batch(batch, chunk)]
    with torch.no_grad():
        cached = joined([part.first() for part in parts])
    leaves = Outputs(
        with_gradient(cached.features),
        with_gradient(cached.embeddings),
        cached.present,
        with_gradient(cached.candidates),
        cached.candidates_present,
        with_gradient(cached.maps),
    )
    with autocast():
        whole = model(batch, at_once, pairs=pairs, even_without=held_anywhere(batch.captioned))
    ends = itertools.pairwise(itertools.accumulate((len(part.batch) for part in parts), initial=0))
    backwards = [partial(part.again, leaves, slice(*end)) for part, end in zip(parts, ends, strict=True)]
    return Forward(merged(whole, leaves, modalities), backwards if in_chunks else ())


class _Part:
    """One chunk: run once without a graph, later once more with it, by the same random draws."""

    def __init__(
        self, model: MultimodalModel, batch: Batch, modalities: Sequence[str], pairs: Sequence[str], autocast: Autocast
    ) -> None:
        self.model, self.batch, self.modalities, self.pairs, self.autocast = model, batch, modalities, pairs, autocast
        self.held = held_anywhere(batch.captioned)
        self.states: list[Tensor] = []

    def first(self) -> Outputs:
        """The outputs; remembers the random state that they began with."""
        self.states = random_states()
        return self._run()

    def again(self, leaves: Outputs, rows: slice) -> None:
        """The same outputs with a graph, and the leaves' gradient through it."""
        with replayed(self.states), resting_statistics(self.model):
            found = self._run()
        ways = [
            (x, leaf.grad[rows].to(x.dtype))
            for x, leaf in zip(tensors_of(found), tensors_of(leaves), strict=True)
            if leaf.grad is not None and x.requires_grad
        ]
        if ways:
            torch.autograd.backward([x for x, _ in ways], [gradient for _, gradient in ways])

    def _run(self) -> Outputs:
        """The chunk through the model; an autocast context of its own, since those remember weights without graph."""
        with self.autocast():
            found: Outputs = self.model(self.batch, self.modalities, pairs=self.pairs, even_without=self.held)
        return found


def split_batch(batch: Batch, chunk: int) -> list[Batch]:
    """The clips in chunks of at most so many, as even as can be; every process gets the same number of chunks."""
    own = len(batch)
    pieces = int(largest_over_ranks(torch.tensor(max(1, -(-own // chunk)))))
    return [rows_of(batch, slice(n * own // pieces, (n + 1) * own // pieces)) for n in range(pieces)]


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some clips of a batch."""
    groups = (batch.inputs, batch.lengths, batch.present)
    inputs, lengths, present = ({name: x[rows] for name, x in group.items()} for group in groups)
    near = batch.candidates
    return Batch(
        inputs,
        lengths,
        present,
        batch.clips[rows],
        None if near is None else Candidates(near.words[rows], near.lengths[rows]),
        None if batch.labels is None else batch.labels[rows],
    )


def held_anywhere(present: Mapping[str, Tensor]) -> list[str]:
    """The modalities that some clip of some process has."""
    held = largest_over_ranks(torch.stack([flags.any() for flags in present.values()]).int().cpu())
    return [modality for modality, has in zip(present, held.tolist(), strict=True) if has]


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of chunks as those of one batch."""
    near = [part.candidates_present for part in parts if part.candidates_present is not None]
    return Outputs(
        {m: torch.cat([part.features[m] for part in parts]) for m in parts[0].features},
        {key: torch.cat([part.embeddings[key] for part in parts]) for key in parts[0].embeddings},
        {m: torch.cat([part.present[m] for part in parts]) for m in parts[0].present},
        {space: torch.cat([part.candidates[space] for part in parts]) for space in parts[0].candidates},
        torch.cat(near) if near else None,
        {m: torch.cat([part.maps[m] for part in parts]) for m in parts[0].maps},
    )


def merged(first: Outputs, second: Outputs, modalities: Sequence[str]) -> Outputs:
    """Outputs of different modalities side by side, in the given order."""
    features, present = {**first.features, **second.features}, {**first.present, **second.present}
    embeddings = {**first.embeddings, **second.embeddings}
    return Outputs(
        {m: features[m] for m in modalities},
        {key: embeddings[key] for m in modalities for key in embeddings if key[0] == m},
        {m: present[m] for m in modalities},
        {**first.candidates, **second.candidates},
        second.candidates_present if first.candidates_present is None else first.candidates_present,
        {**first.maps, **second.maps},
    )


def with_gradient(tensors: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    """The same numbers as leaves of a new graph."""
    return {key: x.detach().requires_grad_() for key, x in tensors.items()}


def tensors_of(outputs: Outputs) -> list[Tensor]:
    """All that a gradient can come back to, in a fixed order."""
    several = (outputs.features, outputs.embeddings, outputs.candidates, outputs.maps)
    return [x for group in several for x in group.values()]


def random_states() -> list[Tensor]:
    """The states of torch's generators: that of the CPU, then that of the GPU in use where there is one."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


@contextmanager
def replayed(states: Sequence[Tensor]) -> Iterator[None]:
    """Draws inside begin at the given states; the generators outside are left as they were."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if len(states) > 1 else []):
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state)
        yield
