"""A study: its experiments × seeds, run through notebooks in worker processes, compared in one report."""

import fnmatch
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, NonNegativeInt, field_validator

from mcnlab.config import Settings, read_yaml, with_overrides
from mcnlab.data.store import Store
from mcnlab.errors import ConfigError, DataError, RunError
from mcnlab.experiment.build import code_fingerprint
from mcnlab.experiment.checks import check_data, check_settings
from mcnlab.experiment.folder import held, same_data, same_run
from mcnlab.experiment.run import prepared_store
from mcnlab.experiment.settings import ExperimentSettings, with_store_beside
from mcnlab.files import make_folder, remove_partial_files, write_json_atomically, write_text_atomically
from mcnlab.progress import bar, console, counted, say_in_log
from mcnlab.reporting.export import export_html
from mcnlab.reporting.notebooks import execute, notebook_path, settings_path
from mcnlab.reporting.pages import write_report
from mcnlab.runs import RunFolder, run_folders
from mcnlab.workers import RUN_NOTEBOOK, Done, Job, run_jobs

STUDY_NOTEBOOKS = (
    "02_what_the_space_looks_like",
    "03_is_the_right_clip_first",
    "04_what_was_retained",
    "05_compare_the_combinations",
)
STEPS_NOTEBOOK = "06_find_the_step"
TRANSFER_NOTEBOOK = "11_what_transfers"
"""Only for studies whose runs were searched for steps."""
PREFIXES = ".prefixes"
"""Folder beside the runs where stages that several experiments begin with are kept."""
MOST_WORKERS = 8
"""Worker processes at the same time when nobody says how many."""


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
    path: Path, *, out: Path = Path(), workers: int | None = None, only: str = "*", overrides: Sequence[str] = ()
) -> Path:
    """Run what is missing of a study, then write its report.

    Args:
        path: the study's YAML file, or the name of one that comes with mcnlab.
        out: root of its folders.
        workers: runs at the same time; one per core when None.
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
    path = settings_path(path)
    study = read_study(path, overrides=overrides)
    folders = StudyFolders(out.absolute(), study.study)
    planned = [run for run in plan_runs(study, folders, path) if fnmatch.fnmatchcase(run.settings.experiment, only)]
    if not planned:
        raise ConfigError(f"--only {only}: no experiment of {path} matches")
    workers = workers or usable_cores()
    stores = prepare_stores(planned, folders, workers=workers)
    make_folder(folders.runs)
    with held(folders.runs):
        for folder in (folders.runs, folders.runs / PREFIXES, folders.runs / "notebooks"):
            remove_partial_files(folder)
        seconds = run_missing(planned, folders, stores, workers=workers)
        write_study_record(study, folders, began=began, run_s=seconds, workers=workers)
        index, problems = write_study_report(folders)
    problems = [*(failure(run) for run in planned if not run.finished), *problems]
    if problems:
        raise RunError(f"{len(problems)} of {len(planned)} runs or notebooks failed, first {problems[0]}; see {index}")
    return index


def usable_cores() -> int:
    """Cores that this process may use, at most `MOST_WORKERS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def failure(run: PlannedRun) -> str:
    """A run that is not finished, and why."""
    return f"{run.folder.name}: {RunFolder(run.folder).status.get('reason', 'no reason was left')}"


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


def prepare_stores(planned: Sequence[PlannedRun], folders: StudyFolders, *, workers: int) -> dict[Path, Store]:
    """Render missing worlds, and check that every store has what its experiments need.

    Returns:
        The store of every run folder.

    Raises:
        DataError: one lacks something; no run was started.
    """
    opened: dict[str, Store] = {}
    notes: dict[str, None] = {}
    for run in planned:
        key = repr((run.settings.data.world, run.settings.data.store))
        if key not in opened:
            with counted("rendering the world") as progress:
                opened[key] = prepared_store(run.settings, folders.stores, progress=progress, workers=workers)
        notes |= dict.fromkeys(check_data(run.settings, opened[key]))
        opened[str(run.folder)] = opened[key]
    for note in notes:
        console.print(note, markup=False)
    return {run.folder: opened[str(run.folder)] for run in planned}


def run_missing(
    planned: Sequence[PlannedRun], folders: StudyFolders, stores: Mapping[Path, Store], *, workers: int
) -> dict[str, float]:
    """Execute the notebook of every run that is not finished.

    Returns:
        Seconds that each executed notebook took, by run folder name.
    """
    for run in planned:
        set_aside_other_run(run, folders, stores[run.folder])
    missing = [run for run in planned if not run.finished]
    say_where_runs_stand(planned, missing)
    seconds: dict[str, float] = {}
    with bar() as progress:
        task = progress.add_task("runs", total=len(planned), completed=len(planned) - len(missing), note="")

        def on_done(job: Job, done: Done) -> None:
            seconds[job.folder.name] = done.seconds
            note = f"failed: {done.reason}" if done.reason else f"{done.seconds:.0f} s"
            progress.update(task, advance=1, note=f"{job.folder.name} {note}"[:80])
            if done.reason or not console.is_terminal:  # a log has no bar
                console.print(f"{job.folder.name}: {note}", markup=False, highlight=False)

        run_jobs([run_job(run, folders) for run in missing], workers=workers, on_done=on_done)
    return seconds


def say_where_runs_stand(planned: Sequence[PlannedRun], missing: Sequence[PlannedRun]) -> None:
    """Tell how much there is to do, and which finished runs were trained by other code than this."""
    waiting = {run.folder for run in missing}
    codes = [RunFolder(run.folder).provenance.get("code", {}) for run in planned if run.folder not in waiting]
    other = sum(code.get("learning_code") != code_fingerprint() for code in codes)
    console.print(f"{len(planned)} runs, {len(missing)} to do")
    if other:
        console.print(f"{other} finished runs were trained by another version of the code; remove them to train anew")


def set_aside_other_run(run: PlannedRun, folders: StudyFolders, store: Store) -> None:
    """Move a run with other settings, or of other data, out of the way; nothing is lost."""
    known = RunFolder(run.folder).provenance
    if not known or (same_run(run.folder, run.settings, run.seed) and same_data(run.folder, store)):
        return
    what = "data have" if same_run(run.folder, run.settings, run.seed) else "settings have"
    aside = folders.runs / ".superseded" / f"{run.folder.name}-{known.get('key', 'unknown')[:10]}"
    aside.parent.mkdir(exist_ok=True)
    number = len(list(aside.parent.glob(f"{aside.name}*")))
    run.folder.rename(aside.with_name(f"{aside.name}.{number}"))
    console.print(f"{run.folder.name}: its {what} changed; the old run is kept in {aside.parent}", markup=False)


def run_job(run: PlannedRun, folders: StudyFolders) -> Job:
    """A run's notebook with its parameters, and its settings on disk."""
    make_folder(run.folder)
    settings = run.folder / "experiment.yaml"
    plain = run.settings.model_dump(mode="json")
    write_text_atomically(settings, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    write_json_atomically(run.folder / "status.json", {"state": "pending"})
    parameters: dict[str, str | int] = {
        "experiment": str(settings),
        "run_dir": str(run.folder),
        "seed": run.seed,
        "stores": str(folders.stores),
        "prefix_cache": str(folders.runs / PREFIXES),
    }
    return Job(parameters, run.settings.training.threads)


def write_study_record(
    study: StudySettings, folders: StudyFolders, *, began: float, run_s: Mapping[str, float], workers: int
) -> None:
    """Leave beside the runs what the report says of the study as a whole; seconds of several calls add up."""
    path = folders.runs / "study.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    spent = time.monotonic() - began if run_s else 0.0
    record = {
        "study": study.study,
        "title": study.title,
        "question": study.question,
        "order": [own["experiment"] for own in study.experiments],
        "workers": workers if run_s else before.get("workers", workers),
        "wall_s": before.get("wall_s", 0.0) + spent,
        "run_s": {**before.get("run_s", {}), **run_s},
    }
    write_json_atomically(path, record)


def write_study_report(folders: StudyFolders) -> tuple[Path, list[str]]:
    """Execute the comparison notebooks, and write the pages, whatever failed before.

    Returns:
        The index page, and the notebooks that failed, with their reason.
    """
    make_folder(folders.runs / "notebooks")
    problems = []
    with counted("comparing the runs") as progress:
        names = notebooks_of(folders.runs)
        for done, name in enumerate(names):
            out = folders.runs / "notebooks" / f"{name}.ipynb"
            began, how = time.monotonic(), ""
            say_in_log(f"{name}: running, {done} of {len(names)} notebooks done")
            try:
                execute(notebook_path(name), out, {"study_dir": str(folders.runs)})
            except RunError as error:
                problems.append(str(error))
                how = "failed, "
            say_in_log(f"{name}: {how}{time.monotonic() - began:.0f} s")
            progress(done + 1, len(names))
    return report_of(folders.runs, folders.report), problems


def notebooks_of(runs: Path) -> tuple[str, ...]:
    """The comparison notebooks of a study: those of every study, and those that its evaluation has numbers for."""
    tasks = {task for run in run_folders(runs) for task in run.settings.get("evaluation", {}).get("tasks", ())}
    own = {"actions": STEPS_NOTEBOOK, "transfer": TRANSFER_NOTEBOOK}
    return (*STUDY_NOTEBOOKS, *(notebook for task, notebook in own.items() if task in tasks))


def report_of(runs: Path, target: Path) -> Path:
    """Write the pages of a folder of runs."""
    path = runs / "study.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"title": runs.name}
    say_in_log("writing the report")
    with console.status("writing the report"):
        return write_report(
            runs, target, title=record["title"], question=record.get("question", ""), order=record.get("order")
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
        return report_of_run(folder, out)
    if not folder.is_dir() or not run_folders(folder):
        raise DataError(f"{folder}: no runs here")
    return report_of(folder, out or folder.parent.parent / "reports" / folder.name)


def report_of_run(folder: Path, out: Path | None) -> Path:
    """The page of one run; its notebook is executed when there is none, which trains nothing.

    Raises:
        DataError: the run is not finished.
    """
    run, notebook = RunFolder(folder), folder / "notebook.ipynb"
    if not notebook.exists():
        if not run.finished:
            raise DataError(f"{folder}: the run is not finished ({run.status['state']})")
        parameters = {"experiment": str(folder / "settings.yaml"), "run_dir": str(folder), "seed": run.seed}
        execute(notebook_path(RUN_NOTEBOOK), notebook, parameters)
    target = folder / "notebook.html" if out is None else out / f"{folder.name}.html"
    make_folder(target.parent)
    return export_html(notebook, target, title=f"{run.experiment}, seed {run.seed}", run=folder)
