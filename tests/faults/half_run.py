"""Faults of executed notebooks: a damaged one, or one that did not run to its end, is named and made again."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import run
from tests.faults.registry import Trial, fault
from tests.mini_study import write_study

RUNS = ("V-T-s0", "MCN-AV_T-s0")
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "planted", "traceback": ["planted"]}
Damage = Callable[[Path, random.Random], None]


def edited(change: Callable[[dict[str, Any], list[dict[str, Any]], random.Random], object]) -> Damage:
    """A damage to the notebook as JSON; the change gets it, those of its cells that left outputs, and the dice."""

    def damage(path: Path, dice: random.Random) -> None:
        values = json.loads(path.read_text(encoding="utf-8"))
        cells = [cell for cell in values["cells"] if cell["cell_type"] == "code" and cell["outputs"]]
        change(values, cells, dice)
        path.write_text(json.dumps(values), encoding="utf-8")

    return damage


def cut(path: Path, dice: random.Random) -> None:
    """As after a crash of a writer in place."""
    content = path.read_bytes()
    path.write_bytes(content[: dice.randrange(len(content) - 2)])


def zeros(path: Path, dice: random.Random) -> None:
    """As after a crash of a file system."""
    content = path.read_bytes()
    at = dice.randrange(len(content) - 600)
    path.write_bytes(content[:at] + bytes(512) + content[at + 512 :])


def of_other_run(path: Path, dice: random.Random) -> None:
    """The notebook of the run beside it."""
    other = next(name for name in RUNS if name != path.parent.name)
    path.write_bytes((path.parent.parent / other / path.name).read_bytes())


def of_another_kind(path: Path, dice: random.Random) -> None:
    """A notebook that was never executed, or none at all."""
    path.write_text(dice.choice(["", "{}", "[]", "null", '{"nbformat": 4}', '{"nbformat": "4", "cells": 3}']))


def _system_exit(values: dict[str, Any], cells: list[dict[str, Any]], dice: random.Random) -> None:
    """A cell that left by `sys.exit`, which papermill calls a success, and those after it not run."""
    at = dice.randrange(len(cells))
    cells[at]["outputs"] = [{**ERROR, "ename": "SystemExit", "evalue": "0"}]
    for cell in cells[at + 1 :]:
        cell.update(outputs=[], execution_count=None)


DAMAGES: dict[str, Damage] = {
    "cut off": cut,
    "zeros": zeros,
    "another run's": of_other_run,
    "no notebook": of_another_kind,
    "a cell not run": edited(lambda values, cells, dice: dice.choice(cells).update(execution_count=None)),
    "an error": edited(lambda values, cells, dice: dice.choice(cells)["outputs"].append(ERROR)),
    "SystemExit": edited(_system_exit),
    "outputs emptied": edited(lambda values, cells, dice: dice.choice(cells).update(outputs=[])),
    "all outputs emptied": edited(lambda values, cells, dice: [cell.update(outputs=[]) for cell in cells]),
    "cells lost": edited(lambda values, cells, dice: values.update(cells=values["cells"][: dice.randrange(12)])),
}


def made(shared: Path) -> Path:
    """The folder of runs of a finished study."""
    runs = shared / "runs" / "mini"
    if not runs.exists():
        run(["study", write_study(shared), "--out", shared], shared / "log")
    return runs


def trained(folder: Path) -> dict[str, int]:
    """When each file that training or measuring writes was last changed."""
    paths = [*folder.glob("*.json*"), *folder.glob("*.safetensors"), *folder.glob("*.parquet"), *folder.rglob("step_*")]
    return {str(path): path.stat().st_mtime_ns for path in paths}


@fault(
    "damaged-notebooks",
    "a run's notebook cut off, emptied, half run, failed, another one's",
    "verify, report and study name it; study makes it again, and trains nothing",
    trials=20,
    few=1,
)
def damaged_notebook(trial: Trial) -> str:
    """Damage the notebook of a finished run, and ask every command that reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mcnlab.study.STUDY_NOTEBOOKS", ())  # they are made anew at every call
        patch.setattr("mcnlab.reporting.pages.study_maps", lambda *_, **__: None)
        return _damaged(trial)


def _damaged(trial: Trial) -> str:
    runs, dice = made(trial.shared), trial.random
    folder = runs / RUNS[trial.number % len(RUNS)]
    path, words = folder / "notebook.ipynb", list(DAMAGES)[trial.number // len(RUNS) % len(DAMAGES)]
    whole, before = path.read_bytes(), trained(folder)
    DAMAGES[words](path, dice)
    try:
        named = f"{folder.name}: notebook.ipynb: "
        verified = run(["verify", runs, "--quick"], trial.folder / "verify.log", expected=3)
        assert "notebook.ipynb: " in verified.log.read_text(), verified.said()
        reported = run(["report", runs, "--out", trial.folder / "report"], trial.folder / "report.log")
        assert named in reported.log.read_text(), reported.said()
        order = ["study", trial.shared / "mini.yaml", "--out", trial.shared]
        again = run(order, trial.folder / "study.log")
        said = again.log.read_text()
        assert named in said, said
        assert "2 runs, 1 to do" in said, said
        assert trained(folder) == before, "it was trained or measured again"
        run(["verify", runs, "--quick"], trial.folder / "verify.log")
    except AssertionError:
        path.write_bytes(whole)
        raise
    return words
