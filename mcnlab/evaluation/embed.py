"""Embeddings of all clips of a source, as plain arrays."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcnlab.batch import Batch
from mcnlab.distributed import gather_rows, own_rows, rows_by_rank, sum_over_ranks, world_size
from mcnlab.errors import ConfigError
from mcnlab.models.multimodal import MultimodalModel


@runtime_checkable
class Batches(Protocol):
    """Whatever gives batches: clips, frames of recordings, texts."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, places: np.ndarray) -> Batch:
        """Those at the given places."""


def settle_statistics(model: MultimodalModel, source: Batches, *, batch: int = 256) -> None:
    """Give an untrained model's batch normalization the statistics of the clips; no weight moves.

    Without it the running statistics are those of no data at all, random layers saturate, and an untrained tower looks
    worse than it is: a baseline that flatters the trained one.

    Args:
        model: untrained; its running statistics become the mean over the batches.
        source: the clips.
        batch: clips at a time.
    """
    _settle(model, source, _batches(source, batch))


def settle_statistics_together(model: MultimodalModel, source: Batches, *, batch: int = 256) -> None:
    """The same by all processes of a run, each with its share of the batches; all must call it.

    Args:
        model: untrained, the same on all processes.
        source: the clips.
        batch: clips at a time.
    """
    if world_size() == 1:
        return settle_statistics(model, source, batch=batch)
    batches = _batches(source, batch)
    own = batches[own_rows(len(batches))]
    _settle(model, source, own)
    for norm in _norms(model):  # a batch without the modality has not been counted
        counted = norm.get_buffer("num_batches_tracked")
        total = sum_over_ranks(counted.cpu().double())
        for statistic in (norm.get_buffer("running_mean"), norm.get_buffer("running_var")):
            added = sum_over_ranks(statistic.cpu().double() * counted.cpu())
            statistic.copy_(torch.where(total > 0, added / total.clamp_min(1), statistic.cpu().double()))
        counted.copy_(total)
    return None


def embed_source(model: MultimodalModel, source: Batches, *, batch: int = 256) -> dict[tuple[str, str], np.ndarray]:
    """Every clip through every tower, in evaluation mode.

    Args:
        model: the towers; its mode is restored afterwards.
        source: the clips, or anything else in batches.
        batch: clips at a time.

    Returns:
        By (modality, space): (clips, dim) float32; rows of clips without the modality are NaN, and all rows of a
        modality that the source does not know.
    """
    return _embed(model, source, _batches(source, batch))


def embed_with_features(
    model: MultimodalModel, source: Batches, *, batch: int = 256
) -> tuple[dict[tuple[str, str], np.ndarray], dict[str, np.ndarray]]:
    """Every clip through every tower, in evaluation mode, with what the backbones say.

    Args:
        model: the towers; its mode is restored afterwards.
        source: the clips.
        batch: clips at a time.

    Returns:
        Embeddings as `embed_source` gives them; and by modality: backbone features (clips, dim) float32, NaN in the
        rows of clips without the modality.
    """
    features: dict[str, list[np.ndarray]] = {}
    embeddings = _embed(model, source, _batches(source, batch), features=features)
    return embeddings, {modality: np.concatenate(parts) for modality, parts in features.items()}


def embed_together(model: MultimodalModel, source: Batches, *, batch: int = 256) -> dict[tuple[str, str], np.ndarray]:
    """The same by all processes of a run, each with its share of the batches; all must call it.

    Batches are those of one process, so that the arithmetic is the same as well.

    Args:
        model: the towers, the same on all processes.
        source: the clips, or anything else in batches.
        batch: clips at a time.

    Returns:
        All rows, on every process.
    """
    if world_size() == 1:
        return embed_source(model, source, batch=batch)
    batches = _batches(source, batch)
    own = batches[own_rows(len(batches))]
    found = _embed(model, source, own)
    counts = rows_by_rank(sum(len(places) for places in own))
    return {key: gather_rows(torch.from_numpy(part), counts).numpy() for key, part in found.items()}


@torch.no_grad()
def _settle(model: MultimodalModel, source: Batches, batches: Sequence[np.ndarray]) -> None:
    """Running statistics become the mean over some batches."""
    norms = _norms(model)
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way to ask for a plain average
    device, training = next(model.parameters()).device, model.training
    model.train()
    for places in batches:
        clips = source.batch(places).to(device)
        outputs = model(clips, clips.present)
        if model.localizer is not None and "video" in outputs.maps:
            both = outputs.present["video"] & outputs.present["audio"]
            if bool(both.any()):
                model.localizer(outputs.maps["video"][both][:, 0], outputs.features["audio"][both])
    model.train(training)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before


@torch.no_grad()
def _embed(
    model: MultimodalModel,
    source: Batches,
    batches: Sequence[np.ndarray],
    *,
    features: dict[str, list[np.ndarray]] | None = None,
) -> dict[tuple[str, str], np.ndarray]:
    """Some batches through every tower; NaN where they have nothing for one. Backbone features go into `features`."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    blocks: dict[tuple[str, str], list[np.ndarray]] = {}
    for places in batches:
        clips = source.batch(places).to(device)
        outputs = model(clips, clips.present)
        for (modality, space), x in outputs.embeddings.items():
            blocks.setdefault((modality, space), []).append(_rows(x, outputs.present[modality]))
        if features is not None:
            for modality, x in outputs.features.items():
                features.setdefault(modality, []).append(_rows(x, outputs.present[modality]))
    model.train(training)
    rows = sum(len(places) for places in batches)
    found: dict[tuple[str, str], np.ndarray] = {}
    for key in ((modality, space) for modality in model.backbones for space in model.graph.spaces_of(modality)):
        nothing = np.full((rows, model.space_dims[key[1]]), np.nan, dtype=np.float32)
        found[key] = np.concatenate(blocks[key]) if key in blocks else nothing
    return found


def class_scores(model: MultimodalModel, source: Batches, *, batch: int = 256) -> np.ndarray:
    """What a model's first classifier says of all clips.

    Args:
        model: with a classifier; put into evaluation mode and back.
        source: the clips.
        batch: clips at a time.

    Returns:
        (clips, classes), float32: scores; NaN where a clip lacks the modality.

    Raises:
        ConfigError: the model tells no classes.
    """
    found = scores_by_subject(model, source, batch=batch)
    if not found:
        raise ConfigError("the model tells no classes: it was trained without the term classify")
    return next(iter(found.values()))


@torch.no_grad()
def scores_by_subject(model: MultimodalModel, source: Batches, *, batch: int = 256) -> dict[str, np.ndarray]:
    """What every classifier of a model says of all clips.

    Args:
        model: put into evaluation mode and back.
        source: the clips.
        batch: clips at a time.

    Returns:
        By modality, and space where classes are told from embeddings in several: (clips, classes), float32; NaN where
        a clip lacks the modality.
    """
    training, found = model.training, dict[str, list[np.ndarray]]()
    device = next(model.parameters()).device
    model.eval()
    for places in _batches(source, batch) if model.classified else ():
        clips = source.batch(places).to(device)
        outputs = model(clips, {modality for modality, _ in model.classified})
        for modality, space in model.classified:
            x = model.class_inputs(outputs, modality=modality, space=space)
            scores = model.classify(x, modality=modality, space=space)
            subject = modality if space is None else model.graph.subject(modality, space)
            found.setdefault(subject, []).append(_rows(scores, outputs.present[modality]))
    model.train(training)
    return {subject: np.concatenate(rows) for subject, rows in found.items()}


def _rows(x: torch.Tensor, present: torch.Tensor) -> np.ndarray:
    """Rows as an array, NaN where the clip lacks the modality."""
    return x.float().masked_fill(~present[:, None], float("nan")).cpu().numpy()


def _batches(source: Batches, batch: int) -> list[np.ndarray]:
    """The places of each batch."""
    return [np.arange(start, min(start + batch, len(source))) for start in range(0, len(source), batch)]


def _norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
