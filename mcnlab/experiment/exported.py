"""A student as one model: tower, projector and classifier in a folder of two files; no teacher, no store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mcnlab.batch import Batch
from mcnlab.config import plain_yaml, read_yaml
from mcnlab.data.loading import input_dim
from mcnlab.data.raw_frames import frame_shape
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.build import chosen_tracks, sized_model
from mcnlab.experiment.distillation import teacher_settings
from mcnlab.experiment.loaded import Run, opened_run
from mcnlab.experiment.recipes import with_recipes
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.files import new_folder_atomically, write_bytes_atomically, write_text_atomically
from mcnlab.models.multimodal import MultimodalModel

WEIGHTS, FACTS = "model.safetensors", "model.yaml"


class StudentClassifier(nn.Module):
    """Tells the classes of clips from one modality; make one with `load_student`.

    Args:
        model: with a tower of the modality and its classifier.
        modality: what it reads.
        space: where classes are told; None: from the backbone's features.
        classes: their names.
    """

    def __init__(self, model: MultimodalModel, modality: str, space: str | None, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.modality, self.space, self.classes = model, modality, space, classes

    def forward(
        self, inputs: Float[Tensor, "clips ..."], lengths: Int[Tensor, " clips"] | None = None
    ) -> Float[Tensor, "clips classes"]:
        """Scores of all classes.

        Args:
            inputs: of the modality, as `mcnlab.batch.Batch` has them.
            lengths: real frames or words; all of them when None.
        """
        count, name = len(inputs), self.modality
        steps = inputs.shape[2] if name == "audio" else inputs.shape[1]
        real = torch.full((count,), steps, device=inputs.device) if lengths is None else lengths
        present = torch.ones(count, dtype=torch.bool, device=inputs.device)
        batch = Batch({name: inputs}, {name: real}, {name: present}, torch.arange(count, device=inputs.device))
        outputs = self.model(batch, [name])
        x = self.model.class_inputs(outputs, modality=name, space=self.space)
        return self.model.classify(x, modality=name, space=self.space)


def export_student(run: Run | str | Path, out: str | Path, *, modality: str | None = None) -> Path:
    """Write what telling classes from one modality takes, and nothing else.

    Args:
        run: a finished run with a classifier: its own, or its teacher's behind a projector.
        out: folder to make.
        modality: which; the only one when None.

    Returns:
        The folder.

    Raises:
        ConfigError: the run tells no classes, or of several modalities none was named.
        CheckpointError: the run has no usable checkpoint.
        StorageError: the folder exists, or cannot be written.
    """
    known = opened_run(run)
    store, model = known.store(), known.model()
    found = [key for key in model.classified if modality in (None, key[0])]
    if len(found) != 1:
        told = ", ".join(key[0] for key in model.classified) or "nothing"
        raise ConfigError(f"{known.folder.path}: expected one modality that classes are told from; there is {told}")
    chosen = chosen_tracks(known.settings, store)
    facts = {
        "format": "mcnlab student 1",
        "settings": _without_folders(known.settings),
        "input_dims": {name: input_dim(chosen, name) for name in store.modalities},
        "frame": None if (frame := frame_shape(chosen)) is None else list(frame),
        "modality": found[0][0],
        "space": found[0][1],
        "classes": list(known.folder.provenance["classes"]),
    }
    own = {name: x.contiguous() for name, x in model.state_dict().items() if _owner(name) == found[0][0]}
    with new_folder_atomically(Path(out)) as folder:
        write_bytes_atomically(folder / WEIGHTS, save(own))
        write_text_atomically(folder / FACTS, plain_yaml(facts))
    return Path(out)


def load_student(folder: str | Path) -> StudentClassifier:
    """A student that `export_student` wrote.

    Args:
        folder: its two files.

    Returns:
        The student, on the CPU, in evaluation mode.

    Raises:
        DataError: a file is missing, or the weights are not those of the model.
    """
    path = Path(folder)
    for name in (WEIGHTS, FACTS):
        if not (path / name).is_file():
            raise DataError(f"{path / name}: missing from the student")
    facts = read_yaml(path / FACTS)
    settings = ExperimentSettings.parse(facts["settings"], source=str(path / FACTS))
    frame = None if facts["frame"] is None else (facts["frame"][0], facts["frame"][1], facts["frame"][2])
    model = sized_model(settings, facts["input_dims"], seed=0, frame=frame, classes=len(facts["classes"]))
    own, weights = _only(model, facts["modality"]), load_file(path / WEIGHTS)
    if set(own.state_dict()) != set(weights):
        raise DataError(f"{path / WEIGHTS}: its tensors are not those of the student in {FACTS}")
    own.load_state_dict(weights)
    return StudentClassifier(own, facts["modality"], facts["space"], tuple(facts["classes"])).eval()


def _only(model: MultimodalModel, modality: str) -> MultimodalModel:
    """A model without the parts of other modalities."""
    for group in model.children():
        if not isinstance(group, nn.ModuleDict | nn.ParameterDict):
            continue
        for name in list(group.keys()):
            if name.split("_in_")[0] != modality:
                del group[name]
    model.classified = tuple(key for key in model.classified if key[0] == modality)
    return model


def _owner(name: str) -> str:
    """The modality that a tensor belongs to."""
    return name.split(".")[1].split("_in_")[0]


def _without_folders(settings: ExperimentSettings) -> dict[str, Any]:
    """Plain settings that name no run folder: the teacher's settings stand in its place."""
    plain, teacher = settings.model_dump(mode="json"), teacher_settings(settings)

    def written(recipe: Mapping[str, Any] | str) -> Any:
        return recipe if teacher is None else teacher.model_dump(mode="json")

    terms = with_recipes({**plain["terms"], "guide": None}, written)
    return {**plain, "terms": terms}
