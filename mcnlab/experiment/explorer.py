"""The explorer with the models, stores and checkpoints of its runs behind it."""

from collections.abc import Sequence
from pathlib import Path

from mcnlab.data.clip_media import ClipMedia
from mcnlab.data.clip_media import clip_media as media_of_clip
from mcnlab.data.store import Store
from mcnlab.experiment.asking import Asking
from mcnlab.experiment.course import checkpoint_embeddings
from mcnlab.experiment.loaded import Run, opened_run
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
    return Explorer(runs, ask=Asking, media=clip_media, checkpoints=checkpoint_embeddings, cache=cache)


def clip_media(run: Run | RunFolder | Store | str | Path, clip: str) -> ClipMedia:
    """What a clip looks and sounds like; see `mcnlab.data.clip_media.clip_media`.

    Args:
        run: a run, its folder, or a store.
        clip: its id.

    Raises:
        DataError: there is no such clip, or the run's store is gone.
    """
    return media_of_clip(run if isinstance(run, Store) else opened_run(run).store(), clip)
