"""The explorer with the models, stores and checkpoints of its runs behind it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mcnlab.experiment.explore import Asking, ClipMedia, checkpoint_embeddings, clip_media
from mcnlab.reporting.explorer import Explorer
from mcnlab.runs import RunFolder


def explore(runs: str | Path | Sequence[str | Path], *, cache: Path | None = None) -> Explorer:
    """The explorer over trained runs; sentences, sounds, frames and checkpoints are loaded when first asked for.

    Args:
        runs: a folder of run folders, one run folder, or several.
        cache: folder where positions are kept; None keeps nothing.

    Returns:
        A widget; show it as the last value of a cell in JupyterLab.

    Raises:
        DataError: there is no run with embeddings.

    Example:
        >>> explore("runs/modality_combinations")  # doctest: +SKIP
    """
    return Explorer(runs, ask=_asking, media=_media, checkpoints=_course, cache=cache)


def _asking(run: RunFolder) -> Asking:
    """A run's model."""
    return Asking(run.path)


def _media(run: RunFolder, clip: str) -> ClipMedia:
    """A clip of the run's store."""
    return clip_media(run.path, clip)


def _course(
    run: RunFolder, *, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> dict[int, dict[str, np.ndarray]]:
    """The clips by each checkpoint of a run."""
    return checkpoint_embeddings(run.path, progress=progress, cancelled=cancelled)
