"""The batches of a run in their order, made in a thread of their own while the steps compute."""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from mcnlab.batch import Batch
from mcnlab.data.loading import TrainingClips
from mcnlab.distributed import own_rows

Made = tuple[int, np.ndarray, Batch]
"""Epoch, the clips of the step over all processes, and those of this process."""


class BatchStream:
    """Hands out the batch of every step, and meanwhile makes those of the next ones.

    What is in a batch depends on seed, stage and step alone: not on how many are made ahead, on how many processes
    there are, or on where a run was resumed. One thread makes them, one after the other; an error in it is raised by
    the step that wants the batch.

    Args:
        source: the clips; nobody else begins its epochs while this is in use.
        batch: clips per step, over all processes.
        seed: of the run.
        ahead: batches that are made before they are wanted; 0: each is made when it is wanted, without a thread.
        device: where the steps compute. Batches for a GPU wait in pinned memory, which is used again and again.
    """

    def __init__(self, source: TrainingClips, *, batch: int, seed: int, ahead: int, device: torch.device) -> None:
        self.source, self.batch, self.seed, self.ahead, self.device = source, batch, seed, ahead, device
        self.waited_s = 0.0
        """Seconds that steps have waited for their batches so far."""
        self._begun: tuple[str, int] | None = None
        self._taken = ("", 0)
        self._order: list[np.ndarray] = []
        self._coming: deque[tuple[tuple[str, int], Future[Made]]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; what is left over waits for another epoch's order."""
        return max(1, len(self.source) // self.batch)

    def take(self, stage: str, step: int, *, total: int) -> Made:
        """The batch of a step.

        Args:
            stage: its name.
            step: of the stage, from 0; the next one of the same stage costs the least.
            total: steps of the stage: nothing is made beyond.

        Returns:
            Epoch, the places of the step's clips over all processes, and this process's batch on the device.

        Raises:
            Exception: whatever reading the clips of this step raised.
        """
        began = time.perf_counter()
        self._taken = (stage, step)
        epoch, places, batch = self._make(stage, step) if self.ahead == 0 else self._next(stage, step, total)
        made = epoch, places, batch.to(self.device)
        self.waited_s += time.perf_counter() - began
        return made

    def clip_name(self, place: int) -> str:
        """What errors call a clip of the batch that was taken last; ends what is being made ahead."""
        self.close()
        self._begin(self._taken[0], self._taken[1] // self.steps_per_epoch)
        return self.source.clip_name(place)

    def close(self) -> None:
        """Forget the batches that nobody has taken, and leave no thread behind."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None
        self._coming.clear()

    def _next(self, stage: str, step: int, total: int) -> Made:
        """The batch of a step, once the thread has made it."""
        if self._coming and self._coming[0][0] != (stage, step):
            self.close()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="clips", initializer=self._choose_device)
        for number in range(step + len(self._coming), min(total, step + self.ahead + 1)):
            self._coming.append(((stage, number), self._thread.submit(self._make, stage, number)))
        return self._coming.popleft()[1].result()

    def _make(self, stage: str, step: int) -> Made:
        """The batch of a step: pinned for a GPU, ready for the towers otherwise."""
        epoch, place = divmod(step, self.steps_per_epoch)
        self._begin(stage, epoch)
        places = self._order[place]
        own = places[own_rows(len(places))]
        if self.device.type == "cuda":
            return epoch, places, self.source.kept_batch(own, new=pinned_array)
        return epoch, places, self.source.batch(own)

    def _begin(self, stage: str, epoch: int) -> None:
        """Begin an epoch, unless it is the one that goes on."""
        if self._begun != (stage, epoch):
            self._order = self.source.epoch((self.seed, stage, epoch), batch=self.batch)
            self._begun = (stage, epoch)

    def _choose_device(self) -> None:
        """The thread pins its memory for the GPU of this process."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)


def pinned_array(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Memory that a GPU copies from while others compute; torch keeps it for the next batch when it is let go.

    Args:
        shape: of the array.
        dtype: its type.

    Returns:
        An array in C order, whatever is in it.
    """
    kept_as = torch.from_numpy(np.empty(0, dtype)).dtype
    return torch.empty(shape, dtype=kept_as, pin_memory=True).numpy()
