"""The structures that flow between the parts: what goes into a model, and what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mcnlab.modalities import MODALITIES, pair_modalities

__all__ = ["MODALITIES", "Batch", "Candidates", "Outputs", "pair_modalities"]


@dataclass(frozen=True)
class Candidates:
    """Captions near in time to those of some clips, any of which may say what a clip shows."""

    words: Float[Tensor, "clips others words dim"]
    """Word vectors; zeros where a caption is absent."""
    lengths: Int[Tensor, "clips others"]
    """How many words are real; 0 where a caption is absent."""

    @property
    def present(self) -> Bool[Tensor, "clips others"]:
        """Which of them are there."""
        return self.lengths > 0

    def to(self, device: torch.device) -> "Candidates":
        """The same captions on another device."""
        return Candidates(self.words.to(device, non_blocking=True), self.lengths.to(device, non_blocking=True))


@dataclass(frozen=True)
class Batch:
    """Some clips, ready for the towers. Rows of an absent modality hold zeros and are never read."""

    inputs: Mapping[str, Float[Tensor, "clips ..."]]
    """By modality: video (clips, dim), or (clips, frames, channels, height, width) from 0 to 1, audio (clips, bands,
    frames) in dB, text (clips, words, dim), any other (clips, dim)."""
    lengths: Mapping[str, Int[Tensor, " clips"]]
    """By modality with a time axis: how many frames or words are real; the rest is padding."""
    present: Mapping[str, Bool[Tensor, " clips"]]
    """By modality: which clips have it."""
    clips: Int[Tensor, " clips"]
    """Place of each clip in its source, to name it in an error."""
    candidates: Candidates | None = None
    """Further captions of the clips, beside their own in `inputs`; None where no loss takes them."""
    labels: Int[Tensor, " clips"] | None = None
    """Class of each clip by its number, -1 where it is not known; None where no term reads classes."""

    @property
    def captioned(self) -> Mapping[str, Bool[Tensor, " clips"]]:
        """As `present`; text also where a clip has but a candidate caption."""
        if self.candidates is None:
            return self.present
        return {**self.present, "text": self.present["text"] | self.candidates.present.any(dim=1)}

    def __len__(self) -> int:
        return len(self.clips)

    def to(self, device: torch.device) -> "Batch":
        """The same clips on another device, ready for the towers.

        Inputs that a source keeps as halves, or with their axes in another order, travel as they are and become
        float32 in C order over there. From pinned memory the call returns before the copy is done.
        """
        inputs, lengths, present = (
            {name: x.to(device, non_blocking=True) for name, x in group.items()}
            for group in (self.inputs, self.lengths, self.present)
        )
        return Batch(
            {name: _as_floats(x) for name, x in inputs.items()},
            lengths,
            present,
            self.clips.to(device, non_blocking=True),
            None if self.candidates is None else self.candidates.to(device),
            None if self.labels is None else self.labels.to(device, non_blocking=True),
        )


def _as_floats(x: Tensor) -> Tensor:
    """The same numbers in C order, and halves as float32; the very same tensor where nothing is to be done."""
    return x.to(torch.float32 if x.dtype == torch.float16 else x.dtype, memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Outputs:
    """What a model makes of a batch. Rows of an absent modality are zero; `present` says which."""

    features: Mapping[str, Float[Tensor, "clips _"]]
    """By modality: backbone features, before any space."""
    embeddings: Mapping[tuple[str, str], Float[Tensor, "clips _"]]
    """By (modality, space): the vectors that are compared."""
    present: Mapping[str, Bool[Tensor, " clips"]]
    """By modality: which clips have it."""
    candidates: Mapping[str, Float[Tensor, "clips others _"]] = field(default_factory=dict)
    """By space: embeddings of the candidate captions beside the own one; empty without any."""
    candidates_present: Bool[Tensor, "clips others"] | None = None
    """Which of these captions are there."""
    maps: Mapping[str, Float[Tensor, "clips steps _ height width"]] = field(default_factory=dict)
    """By modality whose tower keeps places: backbone features of every frame and place, before the last ReLU."""
