"""What is in a run folder, as plain values for a table or JSON."""

from pathlib import Path
from typing import Any

from mcnlab.experiment.loaded import load_run
from mcnlab.training.best import BEST, best_facts, best_problem
from mcnlab.training.checkpoint import list_checkpoints
from mcnlab.training.kept import FOLDER


def describe_run(path: str | Path) -> dict[str, Any]:
    """How far a run has come, and which weights of it are on disk.

    Args:
        path: the run folder.

    Returns:
        path, experiment, seed, state, reason, steps, the store, the steps of `checkpoints` and of `kept`, and `best`:
        its step, stage and mean loss, or what is wrong with it; None where there is none.

    Raises:
        DataError: the folder holds no run, or one of its files is damaged.
    """
    folder = load_run(path).folder
    data = folder.provenance.get("data")
    return {
        "path": str(folder.path),
        "experiment": folder.experiment,
        "seed": folder.seed,
        "state": folder.status["state"],
        "reason": folder.status.get("reason"),
        "steps": len(folder.metrics()),
        "store": data.get("path") if isinstance(data, dict) else None,
        "checkpoints": _steps(folder.path / "checkpoints"),
        "kept": _steps(folder.path / FOLDER),
        "best": _best(folder.path / BEST),
    }


def _steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder."""
    return [int(one.name.removeprefix("step_")) for one in list_checkpoints(folder)]


def _best(folder: Path) -> dict[str, Any] | None:
    """What is known of the best weights."""
    found = list_checkpoints(folder)
    if not found:
        return None
    problem = best_problem(found[-1])
    return best_facts(folder) if problem is None else {"problem": problem}
