"""The term that trains a detector on what sound and sight agree on: boxes of heat maps, and unnamed classes."""

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcnlab.batch import Batch, Outputs, pair_modalities
from mcnlab.losses.assignment import balanced_assignment, balanced_clusters
from mcnlab.losses.detection import center_focal_loss, center_targets, side_error
from mcnlab.losses.scorers import heat
from mcnlab.metrics.localization import boxes_of_maps
from mcnlab.models.detection import CenterDetector, PseudoHeads, cell_middles
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.numerics import key_seed
from mcnlab.training.terms import Active, TermValue, on_host

DETECTORS, BOXES, PSEUDO = "detectors", "boxes", "pseudo"
"""Names of the detector and of the layers for pseudo-classes inside the model."""
FINER = 4
"""So many times finer than the map is the picture in which boxes are looked for."""
ROWS_PER_CLASS = 16
"""Clips per class that must be seen before clusters are fitted."""
Deal = Literal["nothing", "classes", "boxes"]
"""What a control deals to other clips of the batch: pseudo-classes alone, or boxes with their classes."""


@dataclass(frozen=True)
class PseudoRules:
    """Plain numbers of the pseudo-classes."""

    classes: int
    queue_rows: int
    """Past clips that are assigned in balance together with those of the batch."""
    sharpness: float
    """Of the balanced assignment; cosines are assigned."""
    refit_every: int
    """Steps between two fits of the clusters."""


@dataclass(frozen=True)
class Found:
    """What a trained pair of towers finds in clips."""

    heat: Tensor
    """(clips, height, width): cosine of each place with the sound, the largest over the parts of a clip."""
    heard: Tensor
    """(clips, dim): embedding of the sound."""
    seen: Tensor
    """(clips, dim): embedding of the place that fits the sound best."""

    @property
    def joint(self) -> Tensor:
        """(clips, 2 · dim), of unit length: what is heard beside what is seen."""
        return torch.cat((self.heard, self.seen), dim=1) / 2**0.5


class DetectTerm(nn.Module):
    """Trains a detector that sees video alone on boxes and classes that video and sound give together.

    Boxes are those of the heat map of cosines between places and sound. Classes are clusters of equal size of what is
    heard and seen at the peak: balanced k-means over a queue, then a balanced assignment of the batch with the queue.
    Linear layers for sound and for sight learn the same classes.

    Args:
        weight: factor of the term.
        pair: video and the modality that says where.
        dim: width of the space of the pair.
        rules: of the pseudo-classes.
        deal: a control: what is dealt to other clips.
        seed: of first clusters, and of what is dealt.

    Source: Afouras et al. (CVPR 2022), arXiv 2104.06401, section 3.2, without public code; pseudo-classes as in
    Asano et al. (2020), SeLaVi, arXiv 2006.13662. Differences: labels are made while training, from a queue, where both
    papers pass over a fixed set; the detector is a head on the video tower's map instead of a Faster R-CNN.
    """

    name = "detect"

    def __init__(
        self, *, weight: float, pair: str, dim: int, rules: PseudoRules, deal: Deal = "nothing", seed: int = 0
    ) -> None:
        super().__init__()
        self.weight, self.pair, self.rules, self.deal, self.seed = weight, pair, rules, deal, seed
        self.register_buffer("queue", torch.zeros(rules.queue_rows, 2 * dim))
        self.register_buffer("centroids", torch.zeros(rules.classes, 2 * dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def forward(self, model: MultimodalModel, batch: Batch, outputs: Outputs, active: Active) -> TermValue:
        """Loss of the clips that have both modalities, once enough of them were seen for a first fit."""
        first, second = pair_modalities(self.pair)
        flags = on_host(outputs.present)
        both = (flags[first] & flags[second]).nonzero().flatten().to(batch.clips.device)
        if len(both) < (1 if self.deal == "nothing" else 2) or "video" not in outputs.maps:
            return TermValue(None)
        found = found_by_sound(model, outputs, self.pair, both)
        labels = self._labels(found.joint, active.step)
        if labels is None:
            return TermValue(None)
        boxes = torch.from_numpy(shares_of_maps(found.heat)).to(found.heat)
        boxes, labels = self._dealt(boxes, labels, active.step)
        parts = _detection_losses(model, seen_maps(outputs, both), boxes, labels)
        for name, scores in zip(("heard", "seen"), pseudo_heads(model)(found.heard, found.seen), strict=True):
            parts[name] = functional.cross_entropy(scores.float(), labels)
        return TermValue(torch.stack(list(parts.values())).sum(), parts)

    @torch.no_grad()
    def _labels(self, rows: Tensor, step: int) -> Tensor | None:
        """The pseudo-class of every row; fits the clusters when it is due, and takes the rows into the queue."""
        queue, centroids = self.get_buffer("queue"), self.get_buffer("centroids")
        filled, fitted = int(self.get_buffer("filled")), bool(self.get_buffer("fitted"))
        known = torch.cat((rows, queue[:filled]))  # (rows + filled, 2 · dim), newest first
        enough = len(known) >= min(ROWS_PER_CLASS * self.rules.classes, self.rules.queue_rows)
        if enough and (not fitted or step % self.rules.refit_every == 0):
            draws = torch.Generator().manual_seed(key_seed(self.seed, "pseudo-classes", step))
            start = centroids.clone() if fitted else None
            classes, sharpness = self.rules.classes, self.rules.sharpness
            centroids.copy_(balanced_clusters(known, classes, generator=draws, start=start, sharpness=sharpness))
            self.get_buffer("fitted").fill_(True)
        kept = known[: len(queue)]
        queue[: len(kept)] = kept
        self.get_buffer("filled").fill_(len(kept))
        if not bool(self.get_buffer("fitted")):
            return None
        return balanced_assignment(known @ centroids.T, sharpness=self.rules.sharpness)[: len(rows)]

    def _dealt(self, boxes: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Boxes and labels, dealt to other clips where the control says so; no clip keeps what is its own."""
        draws = torch.Generator().manual_seed(key_seed(self.seed, "dealt", step))
        ring = torch.randperm(len(labels), generator=draws)  # each clip gets what belongs to the one before it
        order = torch.empty_like(ring).scatter(0, ring, ring.roll(1)).to(labels.device)
        return (boxes[order] if self.deal == "boxes" else boxes), (labels if self.deal == "nothing" else labels[order])


def _detection_losses(model: MultimodalModel, maps: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What the detector's centers and sides cost."""
    detector = box_detector(model)
    scores, sides = detector(maps)
    middles = cell_middles(*scores.shape[2:], like=boxes)
    targets = center_targets(boxes, labels, middles, classes=detector.classes)
    return {"center": center_focal_loss(scores, targets), "sides": side_error(sides, boxes, middles, targets)}


@torch.no_grad()
def found_by_sound(model: MultimodalModel, outputs: Outputs, pair: str, rows: Tensor) -> Found:
    """Where the video of some clips fits their sound, and what is seen there.

    Args:
        model: the towers and heads.
        outputs: of the clips.
        pair: video and the modality that says where.
        rows: (rows,), int: the clips, which have both.

    Returns:
        Without gradient.
    """
    (other,) = (modality for modality in pair_modalities(pair) if modality != "video")
    space, maps = model.graph.space_of_pair[pair], outputs.maps["video"][rows]
    placed = model.map_in_space(maps, modality="video", space=space)  # (rows, steps, places, dim)
    heard = outputs.embeddings[other, space][rows]
    flat = placed.flatten(1, 2)
    similar = heat(flat, heard)  # (rows, steps · places)
    seen = flat[torch.arange(len(rows), device=flat.device), similar.argmax(dim=1)]
    shown = similar.unflatten(1, placed.shape[1:3]).amax(dim=1).unflatten(1, maps.shape[3:])
    return Found(shown, heard, seen)


def seen_maps(outputs: Outputs, rows: Tensor) -> Tensor:
    """What the detector sees of some clips: the video tower's map, averaged over frames; (rows, dim, height, width)."""
    return outputs.maps["video"][rows].relu().mean(dim=1)


def shares_of_maps(maps: Tensor) -> np.ndarray:
    """The boxes of heat maps in shares of the frame: (maps, 4), see `boxes_of_maps`."""
    height, width = FINER * maps.shape[1], FINER * maps.shape[2]
    return boxes_of_maps(maps, (height, width)) / np.array([width, height, width, height])


def box_detector(model: MultimodalModel) -> CenterDetector:
    """The detector inside a model."""
    return cast(CenterDetector, model.get_submodule(f"{DETECTORS}.{BOXES}"))


def pseudo_heads(model: MultimodalModel) -> PseudoHeads:
    """The layers for pseudo-classes inside a model."""
    return cast(PseudoHeads, model.get_submodule(f"{DETECTORS}.{PSEUDO}"))
