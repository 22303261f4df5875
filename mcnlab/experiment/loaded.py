"""A run on disk, opened: its settings, numbers, model, and embeddings of any clips."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mcnlab.data.store import Store, open_store
from mcnlab.errors import (
    CheckpointError,
    DataError,
)
from mcnlab.evaluation.embed import embed_source
from mcnlab.experiment.build import (
    build_model,
    build_source,
)
from mcnlab.experiment.compared import compared_or_refused
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.graph import Graph
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.runs import RunFolder
from mcnlab.training.best import BEST
from mcnlab.training.checkpoint import list_checkpoints, load_model_weights


@dataclass(frozen=True)
class Run:
    """A run on disk with its model; make one with `load_run`."""

    folder: RunFolder

    @property
    def settings(self) -> ExperimentSettings:
        """The resolved settings."""
        return ExperimentSettings.parse(self.folder.settings, source=str(self.folder.path / "settings.yaml"))

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.folder.provenance["seed"])

    def metrics(self) -> pd.DataFrame:
        """One row per training step."""
        return self.folder.metrics()

    def results(self) -> pd.DataFrame:
        """The tidy table of results."""
        return self.folder.results()

    def store(self) -> Store:
        """The store that the run was trained on.

        Raises:
            DataError: it is no longer there, or the run does not name it.
        """
        return open_store(Path(self.data_fact("path")))

    def data_fact(self, name: str) -> str:
        """What the run noted about its data: `path` or `fingerprint` of its store.

        Raises:
            DataError: it noted nothing.
        """
        noted = self.folder.provenance.get("data")
        if not isinstance(noted, dict) or not noted.get(name):
            raise DataError(
                f"{self.folder.path / 'provenance.json'}: data.{name} is missing, so the run's store is not known; "
                "its clips can be neither seen nor heard here, nor embedded again"
            )
        return str(noted[name])

    def model(self, store: Store | None = None, *, weights: Path | None = None) -> MultimodalModel:
        """The trained model, on the CPU, in evaluation mode.

        Args:
            store: gives the input widths; the run's own when None.
            weights: folder of other weights of the run, such as `best_checkpoint` gives; the newest when None.

        Raises:
            CheckpointError: the run has no usable checkpoint.
        """
        classes = len(self.folder.provenance.get("classes", ())) or None
        model = build_model(self.settings, store or self.store(), seed=self.seed, classes=classes)
        load_model_weights(weights or newest_checkpoint(self.folder.path), model)
        return model.eval()


def load_run(path: str | Path) -> Run:
    """A run from its folder.

    Args:
        path: the run folder.

    Returns:
        The run; its files are read when asked for.

    Raises:
        DataError: the folder holds no run.
    """
    folder = Path(path)
    if not (folder / "settings.yaml").exists():
        inside = sorted([*folder.glob("*/settings.yaml"), *folder.glob("runs/*/*/settings.yaml")])
        next_step = (
            f"there is one in {inside[0].parent}" if inside else "`mcnlab train EXPERIMENT.yaml --run DIR` makes one"
        )
        raise DataError(f"{folder}: no run here (settings.yaml is missing); {next_step}")
    return Run(RunFolder(folder))


def opened_run(run: Run | RunFolder | str | Path) -> Run:
    """A run, however it is named.

    Args:
        run: opened already, or its folder.

    Raises:
        DataError: the folder holds no run.
    """
    if isinstance(run, Run):
        return run
    return load_run(run.path if isinstance(run, RunFolder) else run)


def newest_checkpoint(folder: Path) -> Path:
    """A run's newest checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    found = list_checkpoints(folder / "checkpoints")
    if not found:
        again = f"mcnlab train {folder / 'settings.yaml'} --run {folder} --seed {RunFolder(folder).seed}"
        raise CheckpointError(f"{folder}: no checkpoint; train it first: {again}")
    return found[-1]


def best_checkpoint(folder: Path) -> Path:
    """The weights of a run at its lowest training loss, see `training.keep_best`.

    Args:
        folder: the run folder.

    Raises:
        CheckpointError: it kept none.
    """
    found = list_checkpoints(folder / BEST)
    if not found:
        raise CheckpointError(f"{folder}: no best weights; a run keeps them with --set training.keep_best=true")
    return found[-1]


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of some clips, in the clips' order."""

    ids: tuple[str, ...]
    """Id of every clip."""
    arrays: dict[tuple[str, str], np.ndarray]
    """By (modality, space): (clips, dim), float32; NaN in the rows of clips without the modality."""

    graph: Graph
    """Where the modalities meet."""

    def __getitem__(self, key: tuple[str, str]) -> np.ndarray:
        return self.arrays[key]

    def similarity(self, query: str, gallery: str) -> np.ndarray:
        """How close every clip's query is to every clip, in the space where the graph lets the two sides meet.

        A modality may take a map to get there: with `fac`, audio meets text in the coarse space, and video meets audio
        in the fine one.

        Args:
            query: a modality, or several such as `video+audio`; the scores of several are added.
            gallery: the same for the clips that are searched.

        Returns:
            (clips, clips), float32: row, who asks; column, who is found. Cosines in sound mode, dot products in
            faithful mode. NaN where a side has none of its modalities.

        Raises:
            ConfigError: the graph gives no way to compare two of them.

        Example:
            >>> embed("runs/fac", "stores/world", "test").similarity("text", "audio").shape  # doctest: +SKIP
            (600, 600)
        """
        sides = query.split("+"), gallery.split("+")
        x, y = compared_or_refused(self.graph, self.arrays, *sides)
        return x @ y.T


def embed(run: Run | str | Path, store: Store | str | Path, split: str) -> Embeddings:
    """All clips of a split through the towers of a run.

    Args:
        run: a run, or its folder.
        store: the clips, or the folder of a store with the same tracks as the run's own.
        split: which of them.

    Returns:
        One array per modality and space, and the clips' ids.

    Raises:
        DataError: the split is empty or does not exist.
        CheckpointError: the run has no usable checkpoint.

    Example:
        >>> embed("runs/tiny", "stores/world", "test")["video", "joint"].shape  # doctest: +SKIP
        (600, 64)
    """
    known = opened_run(run)
    opened = store if isinstance(store, Store) else open_store(Path(store))
    source = build_source(known.settings, opened, split, shuffle_seed=None)
    model = known.model(opened)
    return Embeddings(tuple(source.clips["id"]), embed_source(model, source), model.graph)
