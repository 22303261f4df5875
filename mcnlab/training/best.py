"""The best weights of a run: one checkpoint for use, that stays however many newer ones there are.

Nothing is validated while a run trains, so the best is where the mean training loss over the last steps before a
checkpoint was lowest. Losses of different stages cannot be compared, so every stage begins anew.
"""

import json
import math
import shutil
import warnings
from collections import deque
from pathlib import Path
from typing import Any

from torch import nn

from mcnlab.files import read_json, read_lines
from mcnlab.training.checkpoint import Position, check_checkpoint, list_checkpoints, plain_tensors, write_tensors

BEST = "best"
"""Where it lies in a run folder."""


class BestWeights:
    """Keeps the weights with the lowest mean loss; a run never goes on from them.

    Args:
        folder: the run's `best`.
        every: steps whose mean counts, those between two checkpoints.
    """

    def __init__(self, folder: Path, *, every: int) -> None:
        self._folder = folder
        self._losses: deque[float] = deque(maxlen=every)
        self._stage = ""

    def go_on(self, *, step: int) -> None:
        """Forget what lies beyond the step that a run goes on from, and set aside what is broken, with a warning."""
        for old in list_checkpoints(self._folder):
            if int(old.name.removeprefix("step_")) > step:
                shutil.rmtree(old)
            elif problem := best_problem(old):
                warnings.warn(f"{self._folder}: {problem}; it is set aside and the best sought anew", stacklevel=2)
                shutil.rmtree(old.with_name(f"bad_{old.name}"), ignore_errors=True)
                old.rename(old.with_name(f"bad_{old.name}"))

    def begin_stage(self, stage: str, log: Path) -> None:
        """Take up the losses of a stage where its log ends.

        Args:
            stage: its name.
            log: the run's `metrics.jsonl`, cut back.
        """
        self._stage = stage
        self._losses.clear()
        for line in read_lines(log) if log.is_file() else ():
            if (values := json.loads(line))["stage"] == stage:
                self._losses.append(values["loss"])

    def note(self, loss: float) -> None:
        """Take in the loss of a step."""
        self._losses.append(loss)

    def keep(self, model: nn.Module, position: Position) -> None:
        """Write `best/step_*` if the losses since the last checkpoint are lower than ever in this stage.

        The one before stays until `forget_older`.

        Raises:
            NonFiniteError: a parameter is not finite; nothing is written.
            StorageError: the disk does not allow it.
        """
        mean = math.fsum(self._losses) / max(1, len(self._losses))
        before = best_facts(self._folder)
        if before is not None and before["stage"] == self._stage and not mean < before["loss"]:
            return
        about = {"stage": self._stage, "loss": mean}
        write_tensors(self._folder, {"model": plain_tensors(model.state_dict())}, position, about=about)

    def forget_older(self) -> None:
        """Remove all but the best, once the checkpoint of the same step is on disk."""
        for old in list_checkpoints(self._folder)[:-1]:
            shutil.rmtree(old)


def best_problem(checkpoint: Path) -> str | None:
    """What is wrong with best weights; None when files, stage and loss are right."""
    return check_checkpoint(checkpoint) or (
        None if _facts(checkpoint) is not None else f"{checkpoint.name}: state.json: expected step, stage and loss"
    )


def best_facts(folder: Path) -> dict[str, Any] | None:
    """What the best weights say of themselves.

    Args:
        folder: the run's `best`, which may not exist.

    Returns:
        `step`, `stage`, and `loss`, the mean over the steps before it; None where there are none, or they are damaged.
    """
    found = list_checkpoints(folder)
    return _facts(found[-1]) if found else None


def _facts(checkpoint: Path) -> dict[str, Any] | None:
    """Step, stage and loss from a `state.json`; None where it does not hold them."""
    try:
        about = read_json(checkpoint / "state.json")
        step, stage, loss = about["position"]["step"], about["stage"], about["loss"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = type(step) is int and isinstance(stage, str) and isinstance(loss, float) and math.isfinite(loss)
    return {"step": step, "stage": stage, "loss": loss} if sound else None
