"""Stages: which modalities, pairs and terms are at work for how many epochs; and the shared prefixes of stages."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mcnlab.files import new_folder_atomically
from mcnlab.training.kept import FOLDER, copy_kept


@dataclass(frozen=True)
class Stage:
    """Some epochs with a fixed set of active parts."""

    name: str
    epochs: int
    modalities: tuple[str, ...]
    pairs: tuple[str, ...]
    terms: tuple[str, ...]
    """Names of the terms that count."""
    frozen: tuple[str, ...] = ()
    """Active modalities whose towers do not train."""


class PrefixCache:
    """Finished first stages on disk, so that experiments which begin alike train them once.

    Args:
        folder: where they lie; None keeps nothing.
        keys: one key per stage: a hash of all that the weights after that stage depend on.
    """

    def __init__(self, folder: Path | None, keys: Sequence[str]) -> None:
        self.folder = folder
        self.keys = list(keys)

    def find(self, stage: int) -> Path | None:
        """The checkpoint after a stage, when somebody has trained it already.

        Args:
            stage: from 0.

        Returns:
            Its folder, or None.
        """
        if self.folder is None:
            return None
        path = self.folder / self.keys[stage]
        return path if path.is_dir() else None

    @contextmanager
    def claim(self, stage: int) -> Iterator[Path | None]:
        """Hold a stage while it is trained; who comes second waits, then finds it.

        Args:
            stage: from 0.

        Yields:
            The finished checkpoint's folder, or None when the holder has to train the stage.
        """
        if self.folder is None:
            yield None
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{self.keys[stage]}.lock"):
            yield self.find(stage)

    def publish(self, stage: int, checkpoint: Path, log: Path, *, kept: Path) -> None:
        """Leave a finished stage for others.

        Args:
            stage: from 0.
            checkpoint: the run's checkpoint after that stage.
            log: the run's `metrics.jsonl` so far.
            kept: weights that the run has kept so far, see `mcnlab.training.kept`; it may not exist.
        """
        if self.folder is None or self.find(stage) is not None:
            return
        with new_folder_atomically(self.folder / self.keys[stage]) as building:
            shutil.copytree(checkpoint, building / "checkpoint")
            shutil.copyfile(log, building / "metrics.jsonl")
            copy_kept(kept, building / FOLDER)
