"""A study: its experiments × seeds, run through notebooks in worker processes, compared in one report."""

import fnmatch
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcnlab.cluster import check_workers, cluster_client, in_common, tasks_at_once
from mcnlab.config import plain_yaml
from mcnlab.data.store import Store
from mcnlab.errors import ConfigError, DataError, RunError
from mcnlab.experiment.build import code_fingerprint
from mcnlab.experiment.checks import check_data
from mcnlab.experiment.folder import forget_holder, held, same_data, same_run
from mcnlab.experiment.run import prepared_store
from mcnlab.files import (
    make_folder,
    remove_partial_files,
    write_bytes_atomically,
    write_json_atomically,
    write_text_atomically,
)
from mcnlab.processes import own_cores
from mcnlab.progress import Counted, bar, console, counted, duration_text, say, say_in_log
from mcnlab.reporting.executed import run_notebook_problems, study_notebook_problems
from mcnlab.reporting.export import export_html
from mcnlab.reporting.notebooks import execute, notebook_path, settings_path
from mcnlab.reporting.pages import write_report
from mcnlab.runs import RunFolder, no_runs, run_folders, study_name
from mcnlab.study_plan import PlannedRun, StudyFolders, StudySettings, plan_runs, prefix_folders, read_study
from mcnlab.sweep import Sweep
from mcnlab.workers import RUN_NOTEBOOK, Done, Job, run_jobs

STUDY_NOTEBOOKS = (
    "02_what_the_space_looks_like",
    "03_is_the_right_clip_first",
    "04_what_was_retained",
    "05_compare_the_combinations",
)
STEPS_NOTEBOOK = "06_find_the_step"
"""Only for studies whose runs were searched for steps."""
TRANSFER_NOTEBOOK = "11_what_transfers"
"""Only for studies whose runs were tried on other tasks."""
STUDENTS_NOTEBOOK = "08_teacher_and_student"
"""Only for studies whose runs tell classes by classifiers of their own."""
LANGUAGE_NOTEBOOK = "09_what_language_adds"
"""Only for studies whose runs were asked for classes that they had not seen."""
SOUND_NOTEBOOK = "07_where_does_the_sound_come_from"
"""Only for studies whose heat maps, detectors or attention were measured."""
VIEWS_NOTEBOOK = "10_how_many_views"
"""Only for studies whose runs have bounds on what views share."""
PREFIXES = ".prefixes"
"""Folder beside the runs where stages that several experiments begin with are kept."""
MOST_WORKERS = 8
"""Worker processes at the same time when nobody says how many."""


def run_study(
    path: Path,
    *,
    out: Path = Path(),
    workers: int | None = None,
    scheduler: str | None = None,
    gpus_per_run: float | None = None,
    only: str = "*",
    overrides: Sequence[str] = (),
) -> Path:
    """Run what is missing of a study, then write its report.

    Args:
        path: the study's YAML file, or the name of one that comes with mcnlab.
        out: root of its folders; all workers of a cluster see it under the same path.
        workers: runs at the same time; one per core when None.
        scheduler: address of a running dask cluster, whose workers then execute the runs.
        gpus_per_run: of a dask worker's resource GPU, for each run; what the study says when None.
        only: run only experiments whose name matches this glob; the report shows all that is there.
        overrides: flags laid over every experiment, such as `training.epochs=3`; `seeds=[0]` changes the seeds.

    Returns:
        The report's index.html.

    Raises:
        ConfigError: a setting is wrong, no scheduler answers, or a worker has not what it needs; nothing was started.
        DataError: a store lacks what an experiment needs; nothing was started.
        BusyError: another process runs this study.
        RunError: a run or a notebook failed, and the report shows it; or the scheduler was lost.
    """
    began = time.monotonic()
    refuse_mixed_places(workers, scheduler, gpus_per_run)
    asked = {"file": path.name if path.is_absolute() else str(path), "overrides": list(overrides)}
    path = settings_path(path)
    study = read_study(path, overrides=overrides)
    folders = StudyFolders(out.absolute(), study.study)
    planned = [run for run in plan_runs(study, folders, path) if fnmatch.fnmatchcase(run.settings.experiment, only)]
    if not planned:
        names = ", ".join(dict.fromkeys(repr(one.get("experiment", "")) for one in study.experiments))
        raise ConfigError(f"--only {only}: no experiment of {path} matches; it has {names}")
    gpus = study.gpus_per_run if gpus_per_run is None else gpus_per_run
    with place_of_runs(planned, folders, workers=workers, scheduler=scheduler, gpus_per_run=gpus) as place:
        stores = prepare_stores(planned, folders, workers=place.workers if scheduler is None else usable_cores())
        make_folder(folders.runs)
        with held(folders.runs):
            for folder in (folders.runs, folders.runs / PREFIXES, folders.runs / "notebooks"):
                remove_partial_files(folder)
            ended: dict[str, Done] = {}
            worked = True
            try:
                worked = run_missing(planned, folders, stores, place, ended)
            finally:  # also when asked to stop: what was spent counts
                spent_s = time.monotonic() - began if worked else 0.0
                write_study_record(study, folders, asked=asked, spent_s=spent_s, ended=ended, workers=place.workers)
            index, problems = write_study_report(folders)
    problems = [*(failure(run, ended) for run in planned if not run.finished), *problems]
    if problems:
        raise RunError(f"{len(problems)} of {len(planned)} runs or notebooks failed, first {problems[0]}; see {index}")
    return index


@dataclass(frozen=True)
class Place:
    """Where runs are executed."""

    workers: int
    """Runs at the same time."""
    run: Callable[[Sequence[Job], Callable[[Job, Done], None]], None]
    """Executes jobs, and calls back after each."""


@contextmanager
def place_of_runs(
    planned: Sequence[PlannedRun],
    folders: StudyFolders,
    *,
    workers: int | None,
    scheduler: str | None,
    gpus_per_run: float,
) -> Iterator[Place]:
    """The worker processes of this machine, or those of a cluster, which are asked first whether they fit.

    Raises:
        ConfigError: no scheduler answers, or a worker does not see the study's folders, or has another mcnlab.
    """
    if scheduler is None:
        here = workers or usable_cores()
        yield Place(here, lambda jobs, on_done: run_jobs(jobs, workers=here, on_done=on_done))
        return
    with cluster_client(scheduler) as client:
        console.print(f"dashboard: {client.dashboard_link}", markup=False, highlight=False)
        stores = dict.fromkeys(store for run in planned for store in run.settings.data.paths)
        common = in_common(folders.runs, [store.absolute() for store in stores])
        check_workers(client, common)
        sweep = Sweep(client, common, gpus_per_run)
        at_once = tasks_at_once(client, gpus=gpus_per_run)
        yield Place(at_once, lambda jobs, on_done: sweep.run(jobs, on_done=on_done))


def refuse_mixed_places(workers: int | None, scheduler: str | None, gpus_per_run: float | None) -> None:
    """Refuse options that belong to the other place.

    Raises:
        ConfigError: so it is.
    """
    if scheduler is not None and workers is not None:
        raise ConfigError("--workers belongs to this machine; with --scheduler the cluster's own workers are used")
    if scheduler is None and gpus_per_run is not None:
        raise ConfigError("--gpus-per-run belongs to --scheduler: runs are placed by the resources of its workers")


def usable_cores() -> int:
    """Cores that this process may use, at most `MOST_WORKERS`."""
    return min(own_cores(), MOST_WORKERS)


def failure(run: PlannedRun, ended: Mapping[str, Done]) -> str:
    """A run that is not finished, and why: in its own words, else as it was seen from outside."""
    seen = ended[run.folder.name].reason if run.folder.name in ended else ""
    return f"{run.folder.name}: {RunFolder(run.folder).status.get('reason') or seen or 'no reason was left'}"


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
        data = run.settings.data
        key = repr((data.world, data.scenes, data.kinds, data.paths, run.settings.trained_modalities))
        if key not in opened:
            with counted("preparing the data") as progress:
                opened[key] = prepared_store(run.settings, folders.stores, progress=progress, workers=workers)
        notes |= dict.fromkeys(check_data(run.settings, opened[key]))
        opened[str(run.folder)] = opened[key]
    for note in notes:
        console.print(note, markup=False)
    return {run.folder: opened[str(run.folder)] for run in planned}


def run_missing(
    planned: Sequence[PlannedRun],
    folders: StudyFolders,
    stores: Mapping[Path, Store],
    place: Place,
    ended: dict[str, Done],
) -> bool:
    """Execute the notebook of every run that is not finished.

    Args:
        planned: all runs.
        folders: where they lie.
        stores: by run folder.
        place: where they are executed.
        ended: takes how each executed notebook ended, by run folder name, as soon as it has; of those that were at work
            when the study was asked to stop, the time until then.

    Returns:
        Whether there was anything to execute.
    """
    for run in planned:
        set_aside_other_run(run, folders, stores[run.folder])
        if run.trained:
            forget_holder(run.folder)
            keep_damaged_notebook(run.folder, folders)
    missing = [run for run in planned if not run.finished]
    say_where_runs_stand(planned, missing)
    with bar() as progress:
        task = progress.add_task("runs", total=len(planned), completed=len(planned) - len(missing), note="")

        def on_done(job: Job, done: Done) -> None:
            ended[job.folder.name] = done
            note = f"failed: {done.reason}" if done.reason else duration_text(done.seconds)
            note = f"stopped after {duration_text(done.seconds)}" if done.stopped else note
            progress.update(task, advance=1, note=f"{job.folder.name} {note}"[:80])
            if done.reason or not console.is_terminal:  # a log has no bar
                console.print(f"{job.folder.name}: {note}", markup=False, highlight=False)

        place.run([run_job(run, folders, stores[run.folder]) for run in missing], on_done)
    return bool(missing)


def say_where_runs_stand(planned: Sequence[PlannedRun], missing: Sequence[PlannedRun]) -> None:
    """Tell how much there is to do, and which finished runs were trained by other code than this."""
    waiting = {run.folder for run in missing}
    codes = [RunFolder(run.folder).provenance.get("code", {}) for run in planned if run.folder not in waiting]
    other = sum(code.get("learning_code") != code_fingerprint() for code in codes)
    console.print(f"{len(planned)} run{'' if len(planned) == 1 else 's'}, {len(missing)} to do")
    if other:
        console.print(f"{other} finished runs were trained by another version of the code; remove them to train anew")


def set_aside_other_run(run: PlannedRun, folders: StudyFolders, store: Store) -> None:
    """Move a run with other settings, or of other data, out of the way; nothing is lost."""
    known = RunFolder(run.folder).provenance
    if not known or (same_run(run.folder, run.settings, run.seed) and same_data(run.folder, run.settings, store)):
        return
    what = "data have" if same_run(run.folder, run.settings, run.seed) else "settings have"
    aside = folders.runs / ".superseded" / f"{run.folder.name}-{known.get('key', 'unknown')[:10]}"
    aside.parent.mkdir(exist_ok=True)
    number = len(list(aside.parent.glob(f"{aside.name}*")))
    run.folder.rename(aside.with_name(f"{aside.name}.{number}"))
    console.print(f"{run.folder.name}: its {what} changed; the old run is kept in {aside.parent}", markup=False)


def keep_damaged_notebook(run: Path, folders: StudyFolders) -> None:
    """Keep a copy of a trained run's notebook that did not run to its end, or is damaged, before it is made again."""
    problems = run_notebook_problems(run)
    if not problems:
        return
    aside = folders.runs / ".superseded"
    aside.mkdir(exist_ok=True)
    number = len(list(aside.glob(f"{run.name}-notebook.*")))
    say(f"{run.name}: {problems[0]}; it is executed again, which trains nothing; the old one is kept in {aside}")
    content = (run / "notebook.ipynb").read_bytes()
    write_bytes_atomically(aside / f"{run.name}-notebook.{number}.ipynb", content)


def run_job(run: PlannedRun, folders: StudyFolders, store: Store) -> Job:
    """A run's notebook with its parameters, and its settings on disk."""
    make_folder(run.folder)
    settings = run.folder / "experiment.yaml"
    plain = run.settings.model_dump(mode="json")
    write_text_atomically(settings, plain_yaml(plain))
    if not run.trained:
        write_json_atomically(run.folder / "status.json", {"state": "pending"})
    parameters: dict[str, str | int] = {
        "experiment": str(settings),
        "run_dir": str(run.folder),
        "seed": run.seed,
        "stores": str(folders.stores),
        "prefix_cache": str(folders.runs / PREFIXES),
    }
    return Job(parameters, run.settings.training.threads, prefix_folders(run, store, folders.runs / PREFIXES))


def write_study_record(
    study: StudySettings,
    folders: StudyFolders,
    *,
    asked: Mapping[str, Any],
    spent_s: float,
    ended: Mapping[str, Done],
    workers: int,
) -> None:
    """Leave beside the runs what the report says of the study as a whole; seconds of several calls add up.

    Args:
        study: its settings.
        folders: where it lies.
        asked: `file` and `overrides` of the call.
        spent_s: of this call; 0 where all runs were there.
        ended: how the runs of this call ended, by folder name.
        workers: runs at the same time.
    """
    path = folders.runs / "study.json"
    before = RunFolder(folders.runs).read_json(path.name)
    earlier_s, in_part = before.get("run_s", {}), set(before.get("in_part", ()))
    so_far_s = {name: earlier_s.get(name, 0.0) for name in in_part}
    run_s = {name: done.seconds + so_far_s.get(name, 0.0) for name, done in ended.items()}
    in_part = (in_part - set(ended)) | {name for name, done in ended.items() if done.stopped}
    record = {
        "study": study.study,
        "title": study.title,
        "question": study.question,
        "order": [own["experiment"] for own in study.experiments],
        **asked,
        "workers": workers if run_s else before.get("workers", workers),
        "wall_s": before.get("wall_s", 0.0) + spent_s,
        "run_s": {**earlier_s, **run_s},
        "in_part": sorted(in_part),
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
        progress(0, len(names))
        for done, name in enumerate(names):
            out = folders.runs / "notebooks" / f"{name}.ipynb"
            began, how = time.monotonic(), ""
            say_in_log(f"{name}: running, {done} of {len(names)} notebooks done")
            in_cells = functools.partial(_show_cell, progress, name, done, len(names))
            try:
                execute(notebook_path(name), out, {"study_dir": str(folders.runs)}, progress=in_cells)
            except RunError as error:
                problems.append(str(error))
                how = "failed, "
            say_in_log(f"{name}: {how}{duration_text(time.monotonic() - began)}")
            progress(done + 1, len(names))
    return report_of(folders.runs, folders.report), problems


def _show_cell(progress: Counted, name: str, notebooks: int, all_notebooks: int, cells: int, all_cells: int) -> None:
    """Move the bar of the notebooks by a cell of the one that runs."""
    progress(notebooks + cells / (all_cells + 1), all_notebooks, f"{name}, cell {cells} of {all_cells}")


def notebooks_of(runs: Path) -> tuple[str, ...]:
    """The comparison notebooks of a study: those of every study, and those that its evaluation has numbers for."""
    tasks = {task for run in run_folders(runs) for task in run.settings.get("evaluation", {}).get("tasks", ())}
    own = {
        "actions": STEPS_NOTEBOOK,
        "classify": STUDENTS_NOTEBOOK,
        "unseen": LANGUAGE_NOTEBOOK,
        "localization": SOUND_NOTEBOOK,
        "detection": SOUND_NOTEBOOK,
        "explanation": SOUND_NOTEBOOK,
        "bound": VIEWS_NOTEBOOK,
        "transfer": TRANSFER_NOTEBOOK,
    }
    found = (notebook for task, notebook in own.items() if task in tasks)
    return (*STUDY_NOTEBOOKS, *dict.fromkeys(found))


def report_of(runs: Path, target: Path) -> Path:
    """Write the pages of a folder of runs."""
    record = RunFolder(runs).read_json("study.json")
    for problem in study_notebook_problems(runs):
        say(f"{problem}; `mcnlab study` executes it again")
    say_in_log("writing the report")
    with counted("writing the report") as progress:
        return write_report(
            runs,
            target,
            title=record.get("title", runs.name),
            question=record.get("question", ""),
            order=record.get("order"),
            progress=progress,
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
    if not (folder / "settings.yaml").exists() and not (folder.is_dir() and run_folders(folder)):
        raise no_runs(folder)
    folder = folder.absolute()
    if (folder / "settings.yaml").exists():
        return report_of_run(folder, out)
    root = folder.parent.parent if study_name(folder) else folder.parent
    return report_of(folder, out or root / "reports" / folder.name)


def report_of_run(folder: Path, out: Path | None) -> Path:
    """The page of one run; its notebook is executed when there is none or a damaged one, which trains nothing.

    Raises:
        DataError: the run is not finished.
    """
    run, notebook = RunFolder(folder), folder / "notebook.ipynb"
    problems = run_notebook_problems(folder) if run.finished else []
    for problem in problems:
        say(f"{folder.name}: {problem}; it is executed again")
    if problems or not notebook.exists():
        if not run.finished:
            again = f"mcnlab train {folder / 'settings.yaml'} --run {folder} --seed {run.seed}"
            raise DataError(f"{folder}: the run is not finished ({run.status['state']}); go on with it: {again}")
        parameters = {"experiment": str(folder / "settings.yaml"), "run_dir": str(folder), "seed": run.seed}
        execute(notebook_path(RUN_NOTEBOOK), notebook, parameters)
    target = folder / "notebook.html" if out is None else out / f"{folder.name}.html"
    make_folder(target.parent)
    return export_html(notebook, target, title=f"{run.experiment}, seed {run.seed}", run=folder)
