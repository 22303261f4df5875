"""The course of training: the evaluated clips as a run embeds them at every step whose weights are on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock
from safetensors.numpy import load_file, save

from mcnlab.batch import Batch
from mcnlab.data.loading import ClipSource
from mcnlab.data.store import Store
from mcnlab.errors import CancelledError, DataError, StorageError
from mcnlab.evaluation.embed import embed_source, settle_statistics
from mcnlab.experiment.build import build_model, build_source, short_hash
from mcnlab.experiment.checks import evaluation_split
from mcnlab.experiment.fixed import fixed_numerics
from mcnlab.experiment.loaded import Run, opened_run
from mcnlab.experiment.measure import subjects
from mcnlab.files import make_folder, read_json, write_bytes_atomically
from mcnlab.runs import RunFolder
from mcnlab.training.checkpoint import list_checkpoints, load_model_weights
from mcnlab.training.kept import FOLDER

COURSE = "course"
"""Folder in a run with the embeddings at each kept step."""

Progress = Callable[[int, int], None]
"""Told clips done and all."""


def checkpoint_steps(run: Run | RunFolder | str | Path) -> dict[int, Path | None]:
    """The steps of a run whose weights are on disk.

    Args:
        run: a run, or its folder.

    Returns:
        Step → folder of its weights, in order; step 0, the untrained model, has None. With `training.keep_every` these
        are the steps that it keeps; without, the newest two that training leaves.
    """
    folder = opened_run(run).folder.path
    found = [*list_checkpoints(folder / "checkpoints"), *list_checkpoints(folder / FOLDER)]
    by_step = {int(path.name.removeprefix("step_")): path for path in found}
    return {0: None, **{step: by_step[step] for step in sorted(by_step)}}


def checkpoint_embeddings(
    run: Run | RunFolder | str | Path, *, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
) -> dict[int, dict[str, np.ndarray]]:
    """The evaluated clips as a run embeds them at every step whose weights are on disk.

    Every step is kept in the run folder once it is whole, so that a call that was cancelled goes on where it ended. A
    folder that cannot be written is no hindrance.

    Args:
        run: a trained and evaluated run, or its folder.
        progress: told clips done and all, over all steps.
        cancelled: asked between batches.

    Returns:
        Step → embedding name as in `embeddings.safetensors` → (clips, dim) float16, rows as in `clips.parquet`. Step 0
        is the untrained model, its statistics settled as for the evaluation.

    Raises:
        DataError: the run was not evaluated, or its store is gone or has other clips now.
        CheckpointError: weights are broken.
        CancelledError: `cancelled` said so.
    """
    known = opened_run(run)
    steps, clips = checkpoint_steps(known), known.folder.clip_ids()
    kept = {step: _place(known, step, weights) for step, weights in steps.items()}
    lacking = [step for step, path in kept.items() if not path.exists()]
    told, total = progress or (lambda done, total: None), len(clips) * (len(steps) + (0 in lacking))
    watched = _Watched(told, cancelled or (lambda: False), done=len(clips) * (len(steps) - len(lacking)), total=total)
    made: dict[int, dict[str, np.ndarray]] = {}
    if lacking:
        store = known.store()
        watched.source = _evaluated_clips(known, store, clips)
        with fixed_numerics(known.settings.training):
            made = {step: _at_step(known, store, watched, steps[step], kept[step]) for step in lacking}
    told(total, total)
    return {step: made[step] if step in made else load_file(kept[step]) for step in steps}


class _Watched:
    """Clips in batches that say how far they are, and end when nobody waits any more."""

    source: ClipSource

    def __init__(self, told: Progress, cancelled: Callable[[], bool], *, done: int, total: int) -> None:
        self._told, self._cancelled, self._done, self._total = told, cancelled, done, total
        told(done, total)

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, places: np.ndarray) -> Batch:
        """The clips at the given places."""
        if self._cancelled():
            raise CancelledError("embedding the steps of the run was cancelled; whole steps are kept")
        batch = self.source.batch(places)
        self._done += len(places)
        self._told(self._done, self._total)
        return batch


def _place(run: Run, step: int, weights: Path | None) -> Path:
    """The file that keeps a step: named by all that its numbers depend on."""
    sums = None if weights is None else read_json(weights / "state.json")["files"]
    origin = {"run": run.folder.provenance["key"], "data": run.data_fact("fingerprint"), "clips": run.folder.clip_ids()}
    key = short_hash({**origin, "weights": None if sums is None else sums["model"]["sha256"]})
    return run.folder.path / COURSE / f"step_{step:08d}-{key[:16]}.safetensors"


def _evaluated_clips(run: Run, store: Store, clips: list[str]) -> ClipSource:
    """The clips of the run's tables, in their order.

    Raises:
        DataError: the store has others.
    """
    settings = run.settings
    source = build_source(settings, store, evaluation_split(settings, store), shuffle_seed=None)
    if source.clips["id"].tolist() != clips:
        raise DataError(f"{store.path}: its held-out clips are not those on which {run.folder.path} was evaluated")
    return source


def _at_step(run: Run, store: Store, source: _Watched, weights: Path | None, path: Path) -> dict[str, np.ndarray]:
    """All clips at one step, kept where that is possible; who comes second to the same step waits and reads."""
    try:
        make_folder(path.parent)
        with FileLock(path.with_name(f".{path.stem}.lock")):
            if not path.exists():
                write_bytes_atomically(path, save(_embedded(run, store, source, weights)))
            return load_file(path)
    except (StorageError, PermissionError):  # another's run: it is looked at all the same
        return _embedded(run, store, source, weights)


def _embedded(run: Run, store: Store, source: _Watched, weights: Path | None) -> dict[str, np.ndarray]:
    """All clips through the model of one step."""
    classes = len(run.folder.provenance.get("classes", ())) or None
    model = build_model(run.settings, store, seed=run.seed, classes=classes)
    if weights is None:
        settle_statistics(model, source)
    else:
        load_model_weights(weights, model)
    arrays = embed_source(model.eval(), source)
    named = subjects(model.graph, arrays, run.settings.trained_modalities)
    return {name: x.astype(np.float16) for name, x in named.items()}
