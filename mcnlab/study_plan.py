"""What a study wants: its settings, its folders, its runs, and which of them begin with the same stages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, field_validator

from mcnlab.config import Settings, laid_over, read_yaml, with_overrides
from mcnlab.data.store import Store
from mcnlab.errors import ConfigError
from mcnlab.experiment.build import prefix_keys
from mcnlab.experiment.checks import check_settings
from mcnlab.experiment.folder import same_run
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.settings_files import with_checksum_of_weights, with_store_beside
from mcnlab.reporting.executed import run_notebook_problems
from mcnlab.runs import RunFolder


class StudySettings(Settings):
    """A named set of experiments × seeds."""

    study: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")
    """Name of its folders."""
    title: str
    """Headline of the report."""
    question: str
    """What it should answer, in a sentence."""
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    """Every experiment is run once with each."""
    gpus_per_run: float = Field(default=0.0, ge=0.0, le=1.0)
    """Of a dask worker's resource GPU, which each run takes; a share lets several runs have one GPU together."""
    base: dict[str, Any]
    """Settings that all experiments share."""
    experiments: tuple[dict[str, Any], ...] = Field(min_length=1)
    """One mapping each, laid over the base; `experiment` names it."""

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds):
            raise ValueError("expected different seeds, at least one")
        return seeds


@dataclass(frozen=True)
class PlannedRun:
    """One run that a study wants."""

    settings: ExperimentSettings
    seed: int
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether it is done, with these very settings, and its notebook, where it has one, ran to its end."""
        return self.trained and not run_notebook_problems(self.folder)

    @property
    def trained(self) -> bool:
        """Whether its numbers are there, with these very settings."""
        return RunFolder(self.folder).finished and same_run(self.folder, self.settings, self.seed)


@dataclass(frozen=True)
class StudyFolders:
    """Where a study keeps its things below one root."""

    root: Path
    name: str

    @property
    def runs(self) -> Path:
        """Run folders, executed notebooks, caches."""
        return self.root / "runs" / self.name

    @property
    def stores(self) -> Path:
        """Rendered worlds, shared by all studies below the root."""
        return self.root / "stores"

    @property
    def report(self) -> Path:
        """The HTML."""
        return self.root / "reports" / self.name


def read_study(path: Path, *, overrides: Sequence[str] = ()) -> StudySettings:
    """The study that a YAML file describes.

    Args:
        path: the file.
        overrides: `seeds=…` for the study itself, anything else for the base of its experiments.

    Returns:
        Validated settings; the experiments are validated by `plan_runs`.

    Raises:
        ConfigError: a setting is missing, unknown or wrong.
    """
    values = read_yaml(path)
    if "experiment" in values and "experiments" not in values:
        raise ConfigError(
            f"{path}: this is an experiment, not a study; type: mcnlab train {path} --run runs/{path.stem}"
        )
    own = [flag for flag in overrides if flag.split("=")[0] in StudySettings.model_fields]
    base = [f"base.{flag}" for flag in overrides if flag not in own]
    return StudySettings.parse(with_overrides(values, [*own, *base]), source=str(path))


def plan_runs(study: StudySettings, folders: StudyFolders, path: Path) -> list[PlannedRun]:
    """All runs of a study; every experiment's settings are checked.

    Raises:
        ConfigError: a setting of an experiment is wrong, or two experiments share a name.
    """
    experiments = []
    for number, own in enumerate(study.experiments):
        name = own.get("experiment", f"number {number + 1}")
        merged = ExperimentSettings.parse(laid_over(study.base, own), source=f"{path}: experiment {name}")
        check_settings(merged)
        experiments.append(with_store_beside(merged, path.parent))
    slugs = [slug(settings.experiment) for settings in experiments]
    for name in slugs:
        if slugs.count(name) > 1:
            raise ConfigError(f"{path}: two experiments have the name {experiments[slugs.index(name)].experiment!r}")
    return [
        PlannedRun(settings, seed, folders.runs / f"{name}-s{seed}")
        for seed in study.seeds
        for name, settings in zip(slugs, experiments, strict=True)
    ]


def slug(name: str) -> str:
    """A file name for any name: readable where it can be, and different for different names.

    Example:
        >>> slug("MCN AV_T")
        'MCN-AV_T'
    """
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:40]
    if readable == name.replace(" ", "-").replace("+", "-"):
        return readable
    return f"{readable or 'x'}-{sha256(name.encode()).hexdigest()[:10]}"


def prefix_folders(run: PlannedRun, store: Store, shared: Path) -> tuple[Path, ...]:
    """Where the stages that a run can share with others lie, or will lie.

    Args:
        run: of the study.
        store: its data.
        shared: folder of all shared stages.

    Returns:
        One folder for each stage but the last, in order.
    """
    if len(run.settings.stages) == 1:
        return ()
    settings = with_checksum_of_weights(run.settings)
    keys = prefix_keys(settings, fingerprint=store.fingerprint, seed=run.seed)
    return tuple(shared / key for key in keys[:-1])
