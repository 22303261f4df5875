"""Students and their teachers: what a student's model has beyond others, and what its teacher says of the clips."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from mcnlab.data.loading import TrainingClips
from mcnlab.data.raw_frames import FrameShape
from mcnlab.errors import ConfigError
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.distillation import DistillationProjector, FrozenClassifier
from mcnlab.models.multimodal import MultimodalModel, classifier_name
from mcnlab.numerics import seeded
from mcnlab.runs import RunFolder
from mcnlab.training.distill_term import DistillTerm, Key

CLIPS_AT_ONCE = 256


def teacher_settings(settings: ExperimentSettings) -> ExperimentSettings | None:
    """The settings of the run that a student learns from; None where there is none.

    Raises:
        ConfigError: a folder holds no run.
    """
    distill = settings.terms.distill
    if distill is None:
        return None
    if isinstance(distill.teacher, Path):
        return ExperimentSettings.parse(RunFolder(distill.teacher).settings, source=str(distill.teacher))
    return ExperimentSettings.model_validate(distill.teacher)


def taught_parts(settings: ExperimentSettings, teacher: MultimodalModel, student: MultimodalModel) -> tuple[Key, ...]:
    """What a teacher and its student have in common: modality, and space or None for features.

    Raises:
        ConfigError: they have nothing in common.
    """
    distill = settings.terms.distill
    wanted = settings.labeled_modalities("distill")
    if distill is not None and distill.method == "embeddings":
        known: tuple[Key, ...] = tuple((m, s) for m in teacher.modalities for s in teacher.graph.heads_of(m))
        known = tuple((m, s) for m, s in known if m in student.modalities and s in student.graph.heads_of(m))
    else:
        known = teacher.classified
    found = tuple((modality, space) for modality, space in known if modality in wanted)
    if not found:
        raise ConfigError(f"terms.distill: the teacher has nothing to teach {', '.join(wanted)}")
    return found


def add_parts_of_student(
    settings: ExperimentSettings, model: MultimodalModel, teacher: MultimodalModel, *, seed: int
) -> None:
    """Give a student its projectors, and the place of its teacher's classifier where that is used again.

    Args:
        settings: of the student.
        model: changed in place.
        teacher: its sizes are read; its numbers may be anything.
        seed: of the projectors.

    Raises:
        ConfigError: the two do not fit each other; what does not is named.
    """
    distill = settings.terms.distill
    if distill is None:
        return
    for modality, space in taught_parts(settings, teacher, model):
        name = classifier_name(modality, space)
        if distill.method == "embeddings":
            _check_widths(model, teacher, modality, space or "")
        elif distill.method in ("reuse", "features"):
            maps = space is None and model.keeps_places(modality) and teacher.keeps_places(modality)
            student_dim, teacher_dim = (_width(net, modality, space) for net in (model, teacher))
            with seeded(seed, "projector", name):
                model.projectors[name] = DistillationProjector(
                    student_dim, teacher_dim, factor=distill.factor, maps=maps, signed=space is not None
                )
        if distill.method == "reuse":
            classifier = teacher.classifiers[name]
            model.classifiers[name] = FrozenClassifier(teacher_dim, _classes(classifier))
            model.classified = (*model.classified, (modality, space))


def take_classifiers(model: MultimodalModel, teacher: MultimodalModel) -> None:
    """Put the teacher's classifiers, bit for bit, where a student uses them again.

    Args:
        model: the student; changed in place.
        teacher: trained; or another student of the same teacher.
    """
    for name, classifier in model.classifiers.items():
        if isinstance(classifier, FrozenClassifier):
            source = teacher.classifiers[name]
            classifier.take(cast(Tensor, source.weight), cast(Tensor, source.bias))


@torch.no_grad()
def taught(
    settings: ExperimentSettings, student: MultimodalModel, teacher: MultimodalModel, source: TrainingClips
) -> dict[Key, Tensor]:
    """What a teacher says of every training clip, looked at once.

    Args:
        settings: of the student.
        student: its model.
        teacher: trained; put into evaluation mode.
        source: the training clips; their places must not change.

    Returns:
        By modality and space: (places, …), on the CPU: features, maps (where the student has them too), scores or
        embeddings. Zeros where a clip lacks the modality.
    """
    distill = settings.terms.distill
    method = "reuse" if distill is None else distill.method
    parts = taught_parts(settings, teacher, student)
    found: dict[Key, list[Tensor]] = {part: [] for part in parts}
    device = next(teacher.parameters()).device
    teacher.eval()
    for start in range(0, len(source), CLIPS_AT_ONCE):
        batch = source.batch(np.arange(start, min(start + CLIPS_AT_ONCE, len(source)))).to(device)
        outputs = teacher(batch, {modality for modality, _ in parts})
        for modality, space in parts:
            if method == "embeddings" and space is not None:
                told = outputs.embeddings[modality, space]
            elif _reads_maps(student, modality, space):
                told = outputs.maps[modality].relu()
            else:
                told = teacher.class_inputs(outputs, modality=modality, space=space)
            scores = method == "logits"
            found[modality, space].append(
                (teacher.classify(told, modality=modality, space=space) if scores else told).cpu()
            )
    return {part: torch.cat(rows) for part, rows in found.items()}


def build_distill_term(settings: ExperimentSettings, told: Mapping[Key, Tensor]) -> DistillTerm:
    """The term of a student."""
    distill = settings.terms.distill
    if distill is None:
        raise ConfigError("terms.distill is not given")
    return DistillTerm(weight=distill.weight, method=distill.method, taught=told, temperature=distill.temperature)


def inference_parameters(model: MultimodalModel, modality: str, space: str | None) -> int:
    """Numbers that telling classes from one modality takes: tower, head, projector and classifier.

    Args:
        model: any with a classifier of the modality.
        modality: which.
        space: None for the backbone's features.
    """
    name = classifier_name(modality, space)
    parts: list[nn.Module] = [model.backbones[modality], model.classifiers[name]]
    parts += [model.heads[name]] if space is not None else []
    reused = isinstance(model.classifiers[name], FrozenClassifier)
    parts += [model.projectors[name]] if reused else []
    frozen = sum(x.numel() for x in model.classifiers[name].buffers()) if reused else 0
    return frozen + sum(x.numel() for part in parts for x in part.parameters())


def meta_teacher(
    settings: ExperimentSettings,
    build: Callable[..., MultimodalModel],
    input_dims: Mapping[str, int],
    frame: FrameShape | None,
    classes: int,
) -> MultimodalModel | None:
    """The teacher's sizes, without numbers; None where there is no teacher."""
    known = teacher_settings(settings)
    if known is None:
        return None
    with torch.device("meta"):
        return build(known, input_dims, seed=0, frame=frame, classes=classes)


def _reads_maps(model: MultimodalModel, modality: str, space: str | None) -> bool:
    """Whether a model's projector reads maps."""
    name = classifier_name(modality, space)
    return name in model.projectors and bool(model.projectors[name].maps)


def _width(model: MultimodalModel, modality: str, space: str | None) -> int:
    """Width of what classes are told from."""
    return model.feature_dims[modality] if space is None else model.space_dims[space]


def _classes(classifier: nn.Module) -> int:
    """How many a classifier tells."""
    return len(cast(Tensor, classifier.bias))


def _check_widths(student: MultimodalModel, teacher: MultimodalModel, modality: str, space: str) -> None:
    """Embeddings are compared in one space."""
    here, there = student.space_dims[space], teacher.space_dims[space]
    if here != there:
        raise ConfigError(
            f"terms.distill.method: embeddings of {modality} in {space!r} are {here} wide, the teacher's {there}: "
            "model.dim must be the same"
        )
