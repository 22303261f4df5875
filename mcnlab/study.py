"""A study: its experiments × seeds, run through notebooks in worker processes, compared in one report."""

import concurrent.futures
import ctypes
import fnmatch
import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from pydantic import Field, NonNegativeInt, field_validator

from mcnlab.config import Settings, read_yaml, with_overrides
from mcnlab.errors import BusyError, ConfigError, DataError, RunError
from mcnlab.experiment.build import check_modalities
from mcnlab.experiment.run import prepared_store, same_run
from mcnlab.experiment.settings import ExperimentSettings, with_store_beside
from mcnlab.files import write_json_atomically, write_text_atomically
from mcnlab.progress import bar, console
from mcnlab.reporting.export import export_html
from mcnlab.reporting.notebooks import execute, notebook_path
from mcnlab.reporting.pages import write_report
from mcnlab.runs import RunFolder, run_folders

RUN_NOTEBOOK = "01_train_a_combination"
STUDY_NOTEBOOKS = (
    "02_what_the_space_looks_like",
    "03_is_the_right_clip_first",
    "04_what_was_retained",
    "05_compare_the_combinations",
)


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
        """Whether it is done, with these very settings."""
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


def run_study(
    path: Path, *, out: Path = Path(), workers: int = 2, only: str = "*", overrides: Sequence[str] = ()
) -> Path:
    """Run what is missing of a study, then write its report.

    Args:
        path: the study's YAML file.
        out: root of its folders.
        workers: runs at the same time.
        only: run only experiments whose name matches this glob; the report shows all that is there.
        overrides: flags laid over every experiment, such as `training.epochs=3`; `seeds=[0]` changes the seeds.

    Returns:
        The report's index.html.

    Raises:
        ConfigError: a setting is wrong; nothing was started.
        DataError: a store lacks what an experiment needs; nothing was started.
        BusyError: another process runs this study.
        RunError: a run or a notebook failed; the report was written and shows it.
    """
    began = time.monotonic()
    study = read_study(path, overrides=overrides)
    folders = StudyFolders(out.absolute(), study.study)
    planned = [run for run in plan_runs(study, folders, path) if fnmatch.fnmatchcase(run.settings.experiment, only)]
    if not planned:
        raise ConfigError(f"--only {only}: no experiment of {path} matches")
    with study_held(folders):
        console.print(
            f"study {study.study}: {len(planned)} runs of {len({r.settings.experiment for r in planned})} experiments"
        )
        prepare_stores(planned, folders)
        seconds = run_missing(planned, folders, workers=workers)
        write_study_record(study, folders, wall_s=time.monotonic() - began, run_s=seconds, workers=workers)
        failed = [run for run in planned if not run.finished]
        index = write_study_report(folders, began=began)
    if failed:
        first = RunFolder(failed[0].folder).status.get("reason", "no reason was left")
        raise RunError(
            f"{len(failed)} of {len(planned)} runs failed, first {failed[0].folder.name}: {first}; see {index}"
        )
    return index


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
    own = [flag for flag in overrides if flag.split("=")[0] in StudySettings.model_fields]
    base = [f"base.{flag}" for flag in overrides if flag not in own]
    return StudySettings.parse(with_overrides(read_yaml(path), [*own, *base]), source=str(path))


def plan_runs(study: StudySettings, folders: StudyFolders, path: Path) -> list[PlannedRun]:
    """All runs of a study; every experiment's settings are checked.

    Raises:
        ConfigError: a setting of an experiment is wrong, or two experiments share a name.
    """
    experiments = []
    for number, own in enumerate(study.experiments):
        name = own.get("experiment", f"number {number + 1}")
        merged = ExperimentSettings.parse(laid_over(study.base, own), source=f"{path}: experiment {name}")
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


def laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others laid over them."""
    merged = dict(base)
    for name, value in own.items():
        before = merged.get(name)
        nested = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[name] = laid_over(before, value) if nested else value  # type: ignore[arg-type]
    return merged


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


def study_held(folders: StudyFolders) -> FileLock:
    """The lock of a study, held by one process at a time.

    Raises:
        BusyError: another process runs the study.
    """
    folders.runs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folders.runs / ".lock")
    try:
        lock.acquire(timeout=2)
    except Timeout as error:
        raise BusyError(f"{folders.runs}: another process runs this study") from error
    return lock


def prepare_stores(planned: Sequence[PlannedRun], folders: StudyFolders) -> None:
    """Render missing worlds, and check that every store has what its experiments need.

    Raises:
        DataError: one does not.
    """
    for run in planned:
        with console.status("opening the data (a world is rendered once)"):
            store = prepared_store(run.settings, folders.stores)
        check_modalities(run.settings, store)
        if run.settings.data.train_split not in store.splits:
            raise DataError(
                f"{store.path}: no split {run.settings.data.train_split!r}; it has {', '.join(store.splits)}"
            )


def run_missing(planned: Sequence[PlannedRun], folders: StudyFolders, *, workers: int) -> dict[str, float]:
    """Execute the notebook of every run that is not finished.

    Returns:
        Seconds that each executed notebook took, by run folder name.
    """
    missing = [run for run in planned if not run.finished]
    seconds: dict[str, float] = {}
    for run in missing:
        set_aside_other_run(run, folders)
    with bar() as progress, worker_pool(min(workers, max(1, len(missing)))) as pool:
        task = progress.add_task("runs", total=len(planned), completed=len(planned) - len(missing), note="")
        jobs = {pool.submit(execute_run, run_job(run, folders)): run for run in missing}
        for job in concurrent.futures.as_completed(jobs):
            run = jobs[job]
            seconds[run.folder.name], reason = job.result()
            note = f"{run.folder.name} {'failed: ' + reason[:60] if reason else f'{seconds[run.folder.name]:.0f} s'}"
            progress.update(task, advance=1, note=note)
    return seconds


def worker_pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Processes that end with this one; started afresh, since a fork after OpenMP was used hangs."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=die_with_parent)


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, also by kill -9; only Linux can."""
    if os.uname().sysname == "Linux":
        death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)


def set_aside_other_run(run: PlannedRun, folders: StudyFolders) -> None:
    """Move a run with other settings out of the way; nothing is lost."""
    known = RunFolder(run.folder).provenance
    if known and not same_run(run.folder, run.settings, run.seed):
        aside = folders.runs / ".superseded" / f"{run.folder.name}-{known.get('key', 'unknown')[:10]}"
        aside.parent.mkdir(exist_ok=True)
        number = len(list(aside.parent.glob(f"{aside.name}*")))
        run.folder.rename(aside.with_name(f"{aside.name}.{number}"))
        console.print(f"{run.folder.name}: its settings have changed; the old run is kept in {aside.parent}")


def run_job(run: PlannedRun, folders: StudyFolders) -> dict[str, str | int]:
    """The parameters of a run's notebook, and its settings on disk."""
    run.folder.mkdir(parents=True, exist_ok=True)
    settings = run.folder / "experiment.yaml"
    plain = run.settings.model_dump(mode="json")
    write_text_atomically(settings, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    return {
        "experiment": str(settings),
        "run_dir": str(run.folder),
        "seed": run.seed,
        "stores": str(folders.stores),
        "prefix_cache": str(folders.runs / ".prefixes"),
    }


def execute_run(parameters: dict[str, str | int]) -> tuple[float, str]:
    """Execute one run's notebook; runs in a worker process.

    Returns:
        Seconds, and the reason when it failed.
    """
    began = time.monotonic()
    folder = Path(str(parameters["run_dir"]))
    try:
        execute(notebook_path(RUN_NOTEBOOK), folder / "notebook.ipynb", parameters)
    except RunError as error:
        if RunFolder(folder).status["state"] not in ("failed", "interrupted"):
            write_json_atomically(folder / "status.json", {"state": "failed", "reason": str(error)})
        return time.monotonic() - began, str(error)
    return time.monotonic() - began, ""


def write_study_record(
    study: StudySettings, folders: StudyFolders, *, wall_s: float, run_s: Mapping[str, float], workers: int
) -> None:
    """Leave beside the runs what the report says of the study as a whole; seconds of earlier calls are kept."""
    path = folders.runs / "study.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record = {
        "study": study.study,
        "title": study.title,
        "question": study.question,
        "order": [own["experiment"] for own in study.experiments],
        "workers": workers,
        "wall_s": wall_s if run_s else before.get("wall_s", wall_s),
        "run_s": {**before.get("run_s", {}), **run_s},
    }
    write_json_atomically(path, record)


def write_study_report(folders: StudyFolders, *, began: float | None = None) -> Path:
    """Execute the comparison notebooks, and write the pages."""
    with console.status("comparing the runs"):
        for name in STUDY_NOTEBOOKS:
            out = folders.runs / "notebooks" / f"{name}.ipynb"
            out.parent.mkdir(exist_ok=True)
            execute(notebook_path(name), out, {"study_dir": str(folders.runs)})
    with console.status("writing the report"):
        record = json.loads((folders.runs / "study.json").read_text(encoding="utf-8"))
        return write_report(
            folders.runs, folders.report, title=record["title"], question=record["question"], order=record["order"]
        )


def report_again(folder: Path, out: Path | None) -> Path:
    """Write the HTML again from finished runs.

    Args:
        folder: the folder of a study's runs, or one run's.
        out: folder of the pages; `reports/<study>` beside `runs` when None.

    Returns:
        The index page, or the page of the one run.

    Raises:
        DataError: there are no runs.
    """
    folder = folder.absolute()
    if (folder / "settings.yaml").exists():
        target = (out or folder) / ("notebook.html" if out is None else f"{folder.name}.html")
        export_html(folder / "notebook.ipynb", target)
        return target
    if not folder.is_dir() or not run_folders(folder):
        raise DataError(f"{folder}: no runs here")
    target = out or folder.parent.parent / "reports" / folder.name
    if not (folder / "study.json").exists():
        return write_report(folder, target, title=folder.name)
    record = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return write_report(folder, target, title=record["title"], question=record["question"], order=record["order"])
