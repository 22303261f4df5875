"""Training clips that have lost a modality at random: the same in every epoch, and more of them at a larger share."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from mcnlab.batch import Batch
from mcnlab.data.cutting import NewArray
from mcnlab.data.loading import TrainingClips
from mcnlab.data.wrapped import WrappedClips
from mcnlab.errors import ConfigError
from mcnlab.numerics import key_generator


class ThinnedClips(WrappedClips):
    """Clips of another source, some of which lack a modality that they had.

    Each clip draws one number per modality, by the seed and its place alone; it lacks the modality if the number is
    below the share. So the clips without text at 25 % are among those at 50 %, a clip that lacks one modality is no
    more likely to lack another, and neither epoch, order, resuming nor the number of processes matters. Clips that
    never had the modality draw too: the share is one of all clips.

    Args:
        source: the clips.
        shares: by modality: part of the clips that lose it, from 0 to 1.
        seed: of the draw.

    Raises:
        ConfigError: a share is not from 0 to 1.
    """

    def __init__(self, source: TrainingClips, shares: Mapping[str, float], *, seed: int) -> None:
        for modality, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ConfigError(f"data.missing.{modality}: expected a share from 0 to 1, got {share}")
        super().__init__(source)
        self.lost = {
            modality: lost_clips(len(source), share, modality, seed=seed) for modality, share in shares.items()
        }

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The same in the form in which the source keeps it; see `TrainingClips`."""
        batch = self.source.kept_batch(places, new=new)
        inputs, lengths, present = dict(batch.inputs), dict(batch.lengths), dict(batch.present)
        near = batch.candidates
        for modality, lost in self.lost.items():
            here = torch.from_numpy(lost[places])
            if modality in inputs and bool(here.any()):
                inputs[modality][here] = 0  # memory of this batch alone
                lengths[modality] = lengths[modality].masked_fill(here, 0)
                present[modality] = present[modality] & ~here
                if modality == "text" and near is not None:
                    near = replace(near, lengths=near.lengths.masked_fill(here[:, None], 0))
        return replace(batch, inputs=inputs, lengths=lengths, present=present, candidates=near)


def lost_clips(clips: int, share: float, modality: str, *, seed: int) -> np.ndarray:
    """Which clips lose a modality.

    Args:
        clips: how many there are.
        share: part of them that loses it, from 0 to 1.
        modality: which.
        seed: of the draw.

    Returns:
        (clips,), bool; a larger share adds clips and takes none away.
    """
    return key_generator(seed, "missing", modality).random(clips) < share
