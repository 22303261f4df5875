"""Checkpoints for the eye: weights alone, kept for the whole run so that its course can be looked at afterwards.

They lie apart from the checkpoints that a run goes on from, hold no optimizer, and are never taken for those.
"""

import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save
from torch import nn

from mcnlab.files import new_folder_atomically, write_bytes_atomically, write_json_atomically
from mcnlab.training.checkpoint import Position, check_parameters, checkpoint_at, list_checkpoints

FOLDER = "kept"
"""Where they lie in a run folder, and beside a shared first stage."""


def keep_weights(folder: Path, model: nn.Module, position: Position) -> Path:
    """Write `folder/step_*` with the weights of a model; one that lies there already is replaced.

    Args:
        folder: the run's `kept`.
        model: what to keep.
        position: where the run is.

    Returns:
        The folder of that step, readable by `mcnlab.training.checkpoint.load_model_weights`.

    Raises:
        NonFiniteError: a parameter is not finite; nothing is written.
        StorageError: the disk does not allow it.
    """
    check_parameters(model, step=position.step)
    target = checkpoint_at(folder, position.step)
    folder.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})
    with new_folder_atomically(target) as building:
        write_bytes_atomically(building / "model.safetensors", content)
        facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_json_atomically(building / "state.json", {"position": asdict(position), "files": {"model": facts}})
    return target


def forget_after(folder: Path, *, step: int) -> None:
    """Remove what a run kept beyond the step that it goes on from.

    Args:
        folder: the run's `kept`, which may not exist.
        step: the last one that counts.
    """
    for kept in list_checkpoints(folder):
        if kept > checkpoint_at(folder, step):
            shutil.rmtree(kept)


def copy_kept(source: Path, target: Path) -> None:
    """Copy what is kept from one folder to another, beside what lies there.

    Args:
        source: a `kept` folder, which may not exist.
        target: another one; made where there is something to copy.
    """
    for kept in list_checkpoints(source):
        if (place := target / kept.name).exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        with new_folder_atomically(place) as building:
            shutil.copytree(kept, building, dirs_exist_ok=True)
