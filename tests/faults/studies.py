"""Faults of studies: of two short runs, without the notebooks that only follow them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil

from mcnlab.runs import RunFolder
from tests.faults.commands import Command, left_alive, run, start
from tests.faults.registry import Trial, fault
from tests.mini_study import write_study

GONE_AFTER_S = 15.0
"""A process that is only just starting notices once it has loaded its libraries."""


def study_file(shared: Path) -> Path:
    """The study that all trials run."""
    path = shared / "mini.yaml"
    return path if path.exists() else write_study(shared, epochs=3)


@contextmanager
def short() -> Iterator[None]:
    """Commands that are started inside leave out the notebooks that compare runs, and the maps."""
    import mcnlab.reporting.pages
    import mcnlab.study

    notebooks, maps = mcnlab.study.STUDY_NOTEBOOKS, mcnlab.reporting.pages.study_maps
    mcnlab.study.STUDY_NOTEBOOKS = ()
    mcnlab.reporting.pages.study_maps = lambda *_, **__: None
    try:
        yield
    finally:
        mcnlab.study.STUDY_NOTEBOOKS, mcnlab.reporting.pages.study_maps = notebooks, maps


TIMED = ("train_s", "evaluate_s", "overhead_s")


def table(folder: Path) -> str:
    """The results of a study, without seconds."""
    found = pd.read_csv(folder / "reports" / "mini" / "results.csv")
    return str(found[~found["metric"].isin(TIMED)].to_csv(index=False))


def undisturbed(shared: Path) -> tuple[Path, float]:
    """A study that nothing happened to, and how long it took."""
    folder, took = shared / "study", shared / "study-seconds"
    if not took.exists():
        began = time.monotonic()
        with short():
            run(study_words(shared, folder), shared / "study.log")
        took.write_text(str(time.monotonic() - began))
    return folder, float(took.read_text())


def study_words(shared: Path, folder: Path) -> list[object]:
    """The command of a trial."""
    return ["study", study_file(shared), "--out", folder, "--workers", 2]


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Of every finished run, all files by inode and time of writing."""
    found = {}
    for path in sorted((folder / "runs" / "mini").glob("*")):
        if (path / "status.json").exists() and RunFolder(path).finished:
            for file in (
                file for file in path.rglob("*") if file.is_file() and file.suffix in (".safetensors", ".jsonl")
            ):
                found[str(file.relative_to(folder))] = (file.stat().st_ino, file.stat().st_mtime_ns)
    return found


def kill_one(command: Command, trial: Trial) -> str:
    """Kill the launcher, or one of the processes below it; its role."""
    below = psutil.Process(command.pid).children(recursive=True)
    if not below or trial.random.random() < 0.4:
        command.kill_alone()
        return "launcher"
    chosen = trial.random.choice(below)
    with suppress(psutil.NoSuchProcess):
        said = " ".join(chosen.cmdline())
        chosen.kill()
        return "worker" if "mcnlab.workers" in said else "kernel or its server"
    return "process that had ended"


@fault(
    "kill-study",
    "kill -9 of the launcher, a worker or a kernel at a random moment of a study",
    "called again: no run lost, no finished run's weights or log touched, the same table of results",
    trials=50,
    few=1,
)
def kill_study(trial: Trial) -> str:
    """Kill something once, wait until all is over, and call it again."""
    known, seconds = undisturbed(trial.shared)
    folder, log, said = trial.folder / "out", trial.folder / "log", "nothing: it had ended"
    with short():
        command = start(study_words(trial.shared, folder), log)
        time.sleep(trial.random.uniform(0, seconds))
        if command.poll() is None:
            below = psutil.Process(command.pid).children(recursive=True)
            said = kill_one(command, trial)
            command.wait()
            alive = left_alive(below, GONE_AFTER_S)
            assert not alive, f"{said} killed, left behind: {alive}"
        before = finished(folder)
        run(study_words(trial.shared, folder), log)
    after = finished(folder)
    touched = [name for name, stamp in before.items() if after.get(name) != stamp]
    assert not touched, f"trained or written again: {', '.join(touched[:5])}"
    assert table(folder) == table(known), "another table of results"
    assert not list(folder.rglob(".*.partial-*")), "something partial is left"
    return f"killed the {said}" if "had ended" not in said else said
