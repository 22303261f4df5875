"""A few small runs to look at, for notebooks that are opened without a study."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mcnlab.experiment import run_experiment
from mcnlab.reporting.notebooks import settings_path
from mcnlab.runs import RunFolder
from mcnlab.study_plan import StudyFolders, plan_runs, read_study

EXPERIMENTS = {"V+A": "VA", "V+T": "VT", "V+A+T": "VAT"}


def demo_runs(folder: str | Path | None = None, *, tasks: Sequence[str] = ()) -> Path:
    """Train three combinations on a small narrated world, by the contrast term alone; about a minute.

    Args:
        folder: where the runs go; runs that are there already are kept. A fresh temporary folder when None.
        tasks: what is measured; empty for what is measured by default.

    Returns:
        Folder of three finished runs.

    Raises:
        StorageError: the folder cannot be written.
    """
    runs = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="mcnlab-demo-")) / "runs"
    for name, stages in EXPERIMENTS.items():
        run = runs / f"{name.replace('+', '-').lower()}-s0"
        if not RunFolder(run).finished:
            measured = [f"evaluation.tasks=[{','.join(tasks)}]"] if tasks else []
            alone = ["terms.cluster=null", "terms.reconstruct=null", "training.epochs=60", "training.keep_every=20"]
            run_experiment(
                settings_path("studies/tiny_experiment.yaml"),
                run,
                overrides=[f"experiment={name}", f"stages={stages}", *alone, *measured],
                stores=runs.parent / "stores",
            )
    return runs


def demo_study(
    name: str, experiments: Sequence[str], folder: str | Path | None = None, *, overrides: Sequence[str] = ()
) -> Path:
    """Train some experiments of a study that comes with mcnlab, with the first seed alone.

    Args:
        name: of the study.
        experiments: those to train.
        folder: where the runs go; runs that are there already are kept. A fresh temporary folder when None.
        overrides: settings that make the runs smaller, such as `data.world.train_recordings=150`.

    Returns:
        Folder of the finished runs.

    Raises:
        ConfigError: there is no such study, or a setting is wrong.
        StorageError: the folder cannot be written.
    """
    root = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="mcnlab-demo-"))
    path = settings_path(f"studies/{name}.yaml")
    study = read_study(path, overrides=["seeds=[0]", *overrides])
    folders = StudyFolders(root, study.study)
    for run in plan_runs(study, folders, path):
        if run.settings.experiment in experiments and not run.finished:
            run_experiment(run.settings, run.folder, seed=run.seed, stores=folders.stores)
    return folders.runs


def demo_scenes(folder: str | Path | None = None) -> Path:
    """Look for sounds in a small scene world, with predictive coding and without; about a minute.

    Too little training to find many: enough to see what there is to see.

    Args:
        folder: where the runs go; runs that are there already are kept. A fresh temporary folder when None.

    Returns:
        Folder of two finished runs.

    Raises:
        StorageError: the folder cannot be written.
    """
    runs = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="mcnlab-demo-")) / "runs"
    for name, rounds in {"with coding": "1", "without coding": "null"}.items():
        run = runs / f"{name.replace(' ', '-')}-s0"
        if not RunFolder(run).finished:
            run_experiment(
                settings_path("studies/tiny_scenes.yaml"),
                run,
                overrides=[f"experiment={name}", f"terms.localize.rounds={rounds}"],
                stores=runs.parent / "stores",
            )
    return runs
