"""Training clips of several sources in one stream, mixed by weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mcnlab.batch import MODALITIES, Batch
from mcnlab.data.cutting import NewArray
from mcnlab.data.loading import TrainingClips, batch_of
from mcnlab.errors import ConfigError, DataError
from mcnlab.numerics import key_generator

WEIGHTS_OFF = 1e-6
"""How far the sum of the weights may be from 1."""


class MixedClips:
    """Clips of several sources; which source each place of a batch draws from is decided by the weights.

    An epoch is as many steps as fill all clips of all sources once. A source is walked through in an order of its own,
    and from the start again, newly shuffled, when the epoch wants more clips of it than it has; of a source with a
    small weight an epoch sees a part, another one every time. What is drawn depends on the epoch's key alone: not on
    the number of processes, or on where a run was resumed. A source without a modality gives clips without it.

    Args:
        sources: by name; at least one, none empty.
        weights: by name, above 0, of sum 1.
        modalities: those that a batch must name; None: all that some source has. Others are left out.

    Raises:
        ConfigError: the weights are not such, or name other sources.
        DataError: two sources keep a modality in different shapes.
    """

    def __init__(
        self,
        sources: Mapping[str, TrainingClips],
        weights: Mapping[str, float],
        *,
        modalities: Sequence[str] | None = None,
    ) -> None:
        check_weights(weights)
        if set(weights) != set(sources) or not sources:
            raise ConfigError(f"weights are given for {', '.join(weights)}, but the stores are {', '.join(sources)}")
        self.sources, self.weights = dict(sources), np.array([weights[name] for name in sources])
        self._offsets = np.concatenate([[0], np.cumsum([len(source) for source in sources.values()])])
        self._kinds = _kinds(self.sources, modalities)

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """Begin an epoch.

        Args:
            key: seed, stage, epoch: all that the draws depend on.
            batch: clips per step; with fewer clips than that, one batch holds as many as there are.

        Returns:
            Places of each batch's clips, counted over all sources one after the other.
        """
        size = min(batch, len(self))
        steps = len(self) // size
        drawn = key_generator(*key, "stores").choice(len(self.sources), size=steps * size, p=self.weights)
        places = np.empty(steps * size, dtype=np.int64)
        for number, (name, source) in enumerate(self.sources.items()):
            here = np.flatnonzero(drawn == number)
            places[here] = self._offsets[number] + _walk(source, (*key, name), len(here))
        return list(places.reshape(steps, size))

    def clip_name(self, place: int) -> str:
        """The source and what it calls the clip at a place."""
        number = int(np.searchsorted(self._offsets, place, side="right")) - 1
        name = list(self.sources)[number]
        return f"{name}: {self.sources[name].clip_name(place - int(self._offsets[number]))}"

    def batch(self, places: np.ndarray) -> Batch:
        """The clips at the given places, ready for the towers, on the CPU."""
        return self.kept_batch(places).to(torch.device("cpu"))

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The same in the form in which the sources keep it; see `TrainingClips`."""
        owner = np.searchsorted(self._offsets, places, side="right") - 1
        parts = []
        for number, source in enumerate(self.sources.values()):
            rows = np.flatnonzero(owner == number)
            if len(rows):
                parts.append((rows, source.kept_batch(places[rows] - self._offsets[number])))
        inputs, lengths = {}, {}
        for modality, (shape, kind) in self._kinds.items():
            inputs[modality] = new((len(places), *shape), kind)
            inputs[modality].fill(0)
            lengths[modality] = np.zeros(len(places), dtype=np.int64)
            for rows, part in parts:
                if modality in part.inputs:
                    inputs[modality][rows] = _stored(part, modality)
                    lengths[modality][rows] = np.where(part.present[modality], part.lengths[modality], 0)
        return batch_of(inputs, lengths, places)


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that are no shares of a whole.

    Args:
        weights: by name of the store.

    Raises:
        ConfigError: one is not above 0, or the sum is not 1.
    """
    for name, weight in weights.items():
        if not weight > 0:
            raise ConfigError(f"stores.{name}.weight: expected a share above 0, got {weight}")
    if abs(sum(weights.values()) - 1) > WEIGHTS_OFF:
        listed = " + ".join(f"{weight:g}" for weight in weights.values())
        raise ConfigError(f"stores: the weights must sum to 1, got {listed} = {sum(weights.values()):g}")


def _walk(source: TrainingClips, key: tuple[str | int, ...], count: int) -> np.ndarray:
    """(count,): places of a source in the order of an epoch of its own, then newly shuffled as often as needed."""
    first = np.concatenate(source.epoch(key, batch=len(source)))
    rounds = [first]
    while sum(map(len, rounds)) < count:
        rounds.append(first[key_generator(*key, "again", len(rounds)).permutation(len(first))])
    return np.concatenate(rounds)[:count]


def _kinds(
    sources: Mapping[str, TrainingClips], modalities: Sequence[str] | None
) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """By modality in the usual order: shape of a clip's input as it is kept, and its type."""
    found: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {}
    for name, source in sources.items():
        first = source.kept_batch(np.array([0]))
        for modality in first.inputs:
            array = _stored(first, modality)
            kind = array.shape[1:], array.dtype.type
            if found.setdefault(modality, kind)[0] != kind[0]:
                raise DataError(f"{name}: its {modality} has the shape {kind[0]}, expected {found[modality][0]}")
    return {m: found[m] for m in MODALITIES if m in found and (modalities is None or m in modalities)}


def _stored(batch: Batch, modality: str) -> np.ndarray:
    """The inputs of a batch as sources keep them: log-mels as (clips, frames, bands)."""
    tensor = batch.inputs[modality]
    return (tensor.transpose(1, 2) if modality == "audio" else tensor).numpy()
