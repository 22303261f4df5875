"""Checkpoints for the eye: weights alone, kept for the whole run so that its course can be looked at afterwards.

They lie apart from the checkpoints that a run goes on from, hold no optimizer, and are never taken for those.
"""

import shutil
from pathlib import Path

from torch import nn

from mcnlab.files import new_folder_atomically
from mcnlab.training.checkpoint import Position, checkpoint_at, list_checkpoints, plain_tensors, write_tensors

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
        NonFiniteError: a parameter or a statistic is not finite; nothing is written.
        StorageError: the disk does not allow it.
    """
    return write_tensors(folder, {"model": plain_tensors(model.state_dict())}, position)


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
