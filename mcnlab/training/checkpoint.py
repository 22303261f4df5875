"""Checkpoints: safetensors and JSON, whole or absent, checked before they are trusted."""

import hashlib
import math
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mcnlab.errors import CheckpointError, NonFiniteError, StorageError, reading_error
from mcnlab.files import (
    make_folder,
    new_folder_atomically,
    read_json,
    write_bytes_atomically,
    write_json_atomically,
)

KEPT = 2
"""Newest checkpoints that stay on disk."""
MOST_STEPS = 10**8 - 1
"""As many as the name of a checkpoint has digits for."""
_FILE = re.compile(r"[A-Za-z0-9_]{1,60}")
"""Names of the files of a checkpoint, without their ending."""
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
"""What damaged checkpoints raise; RuntimeError is also what deep nesting raises."""


@dataclass(frozen=True)
class Position:
    """Where a run is: all that decides what comes next, since every draw is keyed by it."""

    stage: int = 0
    """Stage in progress, from 0."""
    stage_step: int = 0
    """Steps of that stage that are done."""
    step: int = 0
    """Steps of the run that are done."""
    train_s: float = 0.0
    """Seconds spent in steps so far."""


@dataclass(frozen=True)
class TrainState:
    """The parts of a run that a checkpoint holds."""

    model: nn.Module
    terms: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


def save_checkpoint(folder: Path, state: TrainState, position: Position) -> Path:
    """Write `folder/step_*`, and drop all but the newest ones once it is on disk.

    Args:
        folder: the run's `checkpoints`.
        state: what to write.
        position: where the run is.

    Returns:
        The new checkpoint's folder.

    Raises:
        NonFiniteError: a number of it is not finite; nothing is written.
        StorageError: the disk does not allow it, or gives back something else; older checkpoints stay.
    """
    target = write_tensors(folder, _tensors_of(state), position, about={"scaler": state.scaler.state_dict()})
    if problem := check_checkpoint(target):
        raise StorageError(f"{folder}: what was just written cannot be read back ({problem}); older checkpoints stay")
    for old in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)
    return target


def write_tensors(
    folder: Path,
    files: Mapping[str, Mapping[str, Tensor]],
    position: Position,
    *,
    about: Mapping[str, object] = MappingProxyType({}),
) -> Path:
    """Write `folder/step_*` with some files of tensors; one that lies there is replaced.

    Args:
        folder: where the checkpoints of a kind lie; made where it is missing.
        files: by the name of a file: its tensors by name, as `plain_tensors` makes them.
        position: where the run is.
        about: plain values for `state.json`, beside the position and the sizes and sums of the files.

    Returns:
        The new folder.

    Raises:
        NonFiniteError: a number is not finite; nothing is written.
        StorageError: the disk does not allow it.
    """
    _check_finite(files, step=position.step)
    target = checkpoint_at(folder, position.step)
    make_folder(folder)
    if target.exists():  # left by a run that was cut back to an older step
        shutil.rmtree(target)
    with new_folder_atomically(target) as building:
        sizes = {}
        for name, tensors in files.items():
            content = save(dict(tensors))
            write_bytes_atomically(building / f"{name}.safetensors", content)
            sizes[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_json_atomically(building / "state.json", {"position": asdict(position), **about, "files": sizes})
    return target


def check_parameters(model: nn.Module, *, step: int) -> None:
    """Refuse a model that is not worth keeping.

    Args:
        model: what would be saved.
        step: steps of the run that are done.

    Raises:
        NonFiniteError: a parameter is not finite; it is named.
    """
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise NonFiniteError(f"{name}: not finite after step {step}, so it is not saved")


def check_state(state: TrainState, *, step: int) -> None:
    """Refuse whatever `save_checkpoint` would refuse, without writing anything: for processes that do not write.

    Args:
        state: what another process saves.
        step: steps of the run that are done.

    Raises:
        NonFiniteError: a number of it is not finite; it is named.
    """
    _check_finite(_tensors_of(state), step=step)


def checkpoint_at(folder: Path, step: int) -> Path:
    """Where the checkpoint after so many steps of a run lies."""
    return folder / f"step_{step:08d}"


def load_newest(folder: Path, state: TrainState) -> Position | None:
    """Put the newest sound checkpoint into `state`.

    A broken one is renamed to `bad_step_*`, with a warning, and the one before is used.

    Args:
        folder: the run's `checkpoints`.
        state: what to fill.

    Returns:
        Where the run was; None when there never was a checkpoint.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
        StorageError: the newest may not be read; nothing is set aside.
    """
    candidates = list_checkpoints(folder)
    problems = []
    for checkpoint in reversed(candidates):
        try:
            return load_checkpoint(checkpoint, state)
        except CheckpointError as error:
            problems.append(str(error))
            warnings.warn(f"{error}; it is set aside and the one before is used", stacklevel=2)
            checkpoint.rename(checkpoint.with_name(f"bad_{checkpoint.name}"))
    if problems or any(folder.glob("bad_step_*")):
        reason = problems[0] if problems else "all were set aside before"
        raise CheckpointError(f"{folder}: no usable checkpoint ({reason})")
    return None


def load_checkpoint(checkpoint: Path, state: TrainState) -> Position:
    """Put one checkpoint into `state`, after its sizes, sums and values were checked.

    Args:
        checkpoint: a `step_*` folder.
        state: what to fill.

    Returns:
        Where the run was.

    Raises:
        CheckpointError: a file is missing, changed, not finite, or does not fit.
        StorageError: one may not be read, which says nothing of the checkpoint.
    """
    try:
        about = read_json(checkpoint / "state.json")
        tensors = {name: _checked(checkpoint, name, facts) for name, facts in about["files"].items()}
        position = _position(about["position"])
        state.model.load_state_dict(tensors["model"])
        for name, term in state.terms.items():
            term.load_state_dict(tensors[f"term_{name}"])
        _fill_optimizer(state.optimizer, tensors["optimizer"])
        state.scaler.load_state_dict(about["scaler"])
    except _UNREADABLE as error:
        raise reading_error(error, CheckpointError)(f"{checkpoint}: {' '.join(str(error).split())[:300]}") from error
    return position


def _position(plain: Mapping[str, Any]) -> Position:
    """A position whose numbers can be one."""
    counts, train_s = [plain[name] for name in ("stage", "stage_step", "step")], plain["train_s"]
    if not all(type(count) is int and 0 <= count <= MOST_STEPS for count in counts):
        raise ValueError(f"state.json: no position in a run: stage, stage_step, step = {counts!r:.100}")
    if type(train_s) not in (int, float) or not 0 <= train_s < math.inf:
        raise ValueError(f"state.json: train_s must be seconds, got {train_s!r:.100}")
    return Position(**plain)


def check_checkpoint(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, without a model to put them into.

    Args:
        checkpoint: a `step_*` folder.

    Returns:
        A line that names the checkpoint and the file; None when sizes, sums and values are right.
    """
    try:
        about = read_json(checkpoint / "state.json")
        for name, facts in about["files"].items():
            _checked(checkpoint, name, facts)
    except _UNREADABLE as error:
        return f"{checkpoint.name}: {' '.join(str(error).split())[:300]}"
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted(folder.glob("step_*"))


def load_model_weights(checkpoint: Path, model: nn.Module) -> None:
    """Put only the model's weights of a checkpoint into a model, checked.

    Args:
        checkpoint: a `step_*` folder.
        model: what to fill.

    Raises:
        CheckpointError: the file is missing, changed, or does not fit.
    """
    try:
        about = read_json(checkpoint / "state.json")
        model.load_state_dict(_checked(checkpoint, "model", about["files"]["model"]))
    except _UNREADABLE as error:
        raise reading_error(error, CheckpointError)(f"{checkpoint}: {' '.join(str(error).split())[:300]}") from error


def _checked(checkpoint: Path, name: str, facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file whose size and sum are as written down and whose floats are finite."""
    if not _FILE.fullmatch(name):  # which state.json says, and others may have written that
        raise ValueError(f"state.json: {name!r:.100} is no file of a checkpoint")
    path = checkpoint / f"{name}.safetensors"
    content = path.read_bytes()
    if len(content) != facts["bytes"] or hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise ValueError(f"{path.name}: {len(content)} bytes do not match the recorded size and sum")
    tensors = load(content)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{path.name}: {key} is not finite")
    return tensors


def _tensors_of(state: TrainState) -> dict[str, dict[str, Tensor]]:
    """All tensors of a checkpoint, by file and name."""
    files = {"model": plain_tensors(state.model.state_dict()), "optimizer": _optimizer_tensors(state.optimizer)}
    return files | {f"term_{name}": plain_tensors(term.state_dict()) for name, term in state.terms.items()}


def _check_finite(files: Mapping[str, Mapping[str, Tensor]], *, step: int) -> None:
    """Raise when a checkpoint would hold a number that no run could go on from, such as one of a queue."""
    for file, tensors in files.items():
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise NonFiniteError(f"{file}: {name} is not finite after step {step}, so it is not saved")


def plain_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: contiguous, on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state, one tensor per parameter and quantity; its rates come from the schedule."""
    state = optimizer.state_dict()["state"]
    return plain_tensors(
        {f"{index}.{name}": torch.as_tensor(x) for index, held in state.items() for name, x in held.items()}
    )


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `_optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
