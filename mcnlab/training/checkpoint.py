"""Checkpoints: safetensors and JSON, whole or absent, checked before they are trusted."""

import hashlib
import json
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

from mcnlab.errors import CheckpointError, NonFiniteError
from mcnlab.files import make_folder, new_folder_atomically, write_bytes_atomically, write_json_atomically

KEPT = 2
"""Newest checkpoints that stay on disk."""
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
        NonFiniteError: a parameter is not finite; nothing is written.
        StorageError: the disk does not allow it; older checkpoints stay.
    """
    files = {"optimizer": _optimizer_tensors(state.optimizer)}
    files |= {f"term_{name}": term.state_dict() for name, term in state.terms.items()}
    target = write_weights(folder, state.model, position, further=files, about={"scaler": state.scaler.state_dict()})
    for old in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)
    return target


def write_weights(
    folder: Path,
    model: nn.Module,
    position: Position,
    *,
    further: Mapping[str, Mapping[str, Tensor]] = MappingProxyType({}),
    about: Mapping[str, object] = MappingProxyType({}),
) -> Path:
    """Write `folder/step_*` with the weights of a model and what else there is; one that lies there is replaced.

    Args:
        folder: where the checkpoints of a kind lie; made where it is missing.
        model: what to write as `model.safetensors`.
        position: where the run is.
        further: by the name of a file: its tensors by name.
        about: plain values for `state.json`, beside the position and the sizes and sums of the files.

    Returns:
        The new folder.

    Raises:
        NonFiniteError: a parameter is not finite; nothing is written.
        StorageError: the disk does not allow it.
    """
    check_parameters(model, step=position.step)
    target = checkpoint_at(folder, position.step)
    make_folder(folder)
    if target.exists():  # left by a run that was cut back to an older step
        shutil.rmtree(target)
    with new_folder_atomically(target) as building:
        sizes = {}
        for name, tensors in {"model": model.state_dict(), **further}.items():
            content = save(_plain(tensors))
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
    """
    try:
        about = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        tensors = {name: _checked(checkpoint / f"{name}.safetensors", facts) for name, facts in about["files"].items()}
        position = Position(**about["position"])
        state.model.load_state_dict(tensors["model"])
        for name, term in state.terms.items():
            term.load_state_dict(tensors[f"term_{name}"])
        _fill_optimizer(state.optimizer, tensors["optimizer"])
        state.scaler.load_state_dict(about["scaler"])
    except _UNREADABLE as error:
        raise CheckpointError(f"{checkpoint}: {' '.join(str(error).split())[:300]}") from error
    return position


def check_checkpoint(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, without a model to put them into.

    Args:
        checkpoint: a `step_*` folder.

    Returns:
        A line that names the checkpoint and the file; None when sizes, sums and values are right.
    """
    try:
        about = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        for name, facts in about["files"].items():
            _checked(checkpoint / f"{name}.safetensors", facts)
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
        about = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        model.load_state_dict(_checked(checkpoint / "model.safetensors", about["files"]["model"]))
    except _UNREADABLE as error:
        raise CheckpointError(f"{checkpoint}: {' '.join(str(error).split())[:300]}") from error


def _checked(path: Path, facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file whose size and sum are as written down and whose floats are finite."""
    content = path.read_bytes()
    if len(content) != facts["bytes"] or hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise ValueError(f"{path.name}: {len(content)} bytes do not match the recorded size and sum")
    tensors = load(content)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{path.name}: {name} is not finite")
    return tensors


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: contiguous, on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state, one tensor per parameter and quantity; its rates come from the schedule."""
    state = optimizer.state_dict()["state"]
    return _plain({f"{index}.{name}": torch.as_tensor(x) for index, held in state.items() for name, x in held.items()})


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `_optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
