"""Embeddings of all clips of a source, as plain arrays."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from mcnlab.batch import Batch
from mcnlab.data.loading import ClipSource
from mcnlab.models.multimodal import MultimodalModel


@runtime_checkable
class Batches(Protocol):
    """Whatever gives batches: clips, frames of recordings, texts."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, places: np.ndarray) -> Batch:
        """Those at the given places."""


@torch.no_grad()
def settle_statistics(model: MultimodalModel, source: ClipSource, *, batch: int = 256) -> None:
    """Give an untrained model's batch normalization the statistics of the clips; no weight moves.

    Without it the running statistics are those of no data at all, random layers saturate, and an untrained tower looks
    worse than it is: a baseline that flatters the trained one.

    Args:
        model: untrained; its running statistics become the mean over the batches.
        source: the clips.
        batch: clips at a time.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way to ask for a plain average
    device, training = next(model.parameters()).device, model.training
    model.train()
    for start in range(0, len(source), batch):
        clips = source.batch(np.arange(start, min(start + batch, len(source)))).to(device)
        model(clips, clips.present)
    model.train(training)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before


@torch.no_grad()
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
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    blocks: dict[tuple[str, str], list[np.ndarray]] = {}
    for start in range(0, len(source), batch):
        clips = source.batch(np.arange(start, min(start + batch, len(source)))).to(device)
        outputs = model(clips, clips.present)
        for (modality, space), x in outputs.embeddings.items():
            rows = x.float().masked_fill(~outputs.present[modality][:, None], float("nan"))
            blocks.setdefault((modality, space), []).append(rows.cpu().numpy())
    model.train(training)
    found = {key: np.concatenate(parts) for key, parts in blocks.items()}
    for modality in model.backbones:
        for space in model.graph.spaces_of(modality):
            nothing = np.full((len(source), model.space_dims[space]), np.nan, dtype=np.float32)
            found.setdefault((modality, space), nothing)
    return found
