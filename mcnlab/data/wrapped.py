"""What all clips have in common that are those of another source, made different on the way."""

from collections.abc import Sequence

import numpy as np
import torch

from mcnlab.batch import Batch
from mcnlab.data.cutting import NewArray
from mcnlab.data.loading import TrainingClips


class WrappedClips:
    """The clips of another source in its order and by its names; what is in a batch is for subclasses to say.

    Args:
        source: the clips.
    """

    def __init__(self, source: TrainingClips) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """Begin an epoch of the source."""
        return self.source.epoch(key, batch=batch)

    def clip_name(self, place: int) -> str:
        """What the source calls a clip."""
        return self.source.clip_name(place)

    def batch(self, places: np.ndarray) -> Batch:
        """The clips at the given places, ready for the towers on the CPU; see `TrainingClips`."""
        return self.kept_batch(places).to(torch.device("cpu"))

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The same in the form in which the source keeps it; see `TrainingClips`."""
        return self.source.kept_batch(places, new=new)
