"""Classes of held-out clips by a model's own classifiers: from store and model to the rows of the task `classify`."""

import copy

import numpy as np
import torch

from mcnlab.data.labels import class_numbers
from mcnlab.data.loading import ClipSource
from mcnlab.data.store import Store
from mcnlab.errors import ConfigError
from mcnlab.evaluation.classify import evaluate_classes
from mcnlab.evaluation.embed import scores_by_subject
from mcnlab.evaluation.rows import ResultRow
from mcnlab.experiment.distillation import inference_parameters, take_classifiers
from mcnlab.experiment.labels import training_classes
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.distillation import FrozenClassifier
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.numerics import key_generator


def check_classified(settings: ExperimentSettings) -> None:
    """Refuse to ask classifiers that there are not.

    Raises:
        ConfigError: no term makes one.
    """
    distill = settings.terms.distill
    if settings.terms.classify is None and (distill is None or distill.method != "reuse"):
        raise ConfigError("evaluation.tasks: classify needs the term classify, or distill with method: reuse")


def classify_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    source: ClipSource,
    *,
    seed: int,
) -> list[ResultRow]:
    """Ask every classifier of a model for the classes of held-out clips.

    Args:
        settings: the experiment.
        model: trained.
        untrained: the same before training; given the teacher's classifier where there is one.
        store: names the classes.
        source: the held-out clips.
        seed: of the resampling, and of how channels are dealt.

    Returns:
        Rows as `evaluate_classes` gives them.

    Raises:
        DataError: no clip has a class that was learned.
    """
    take_classifiers(untrained, model)
    labels = class_numbers(source.clips, settings.data.label or "label", training_classes(settings, store))
    found, before = (scores_by_subject(net, source) for net in (model, untrained))
    dealt = with_dealt_channels(model, seed=seed)
    permuted = {} if dealt is None else scores_by_subject(dealt, source)
    parameters = {_subject(model, *key): inference_parameters(model, *key) for key in model.classified}
    return evaluate_classes(found, labels, untrained=before, permuted=permuted, parameters=parameters, seed=seed)


def with_dealt_channels(model: MultimodalModel, *, seed: int) -> MultimodalModel | None:
    """A student whose teacher's classifiers read the projected channels in another order; None without a teacher's."""
    if not any(isinstance(one, FrozenClassifier) for one in model.classifiers.values()):
        return None
    dealt = copy.deepcopy(model)
    for name, classifier in dealt.classifiers.items():
        if isinstance(classifier, FrozenClassifier):
            weight = classifier.get_buffer("weight")
            order = torch.from_numpy(np.asarray(key_generator(seed, "channels", name).permutation(weight.shape[1])))
            classifier.take(weight[:, order.to(weight.device)].clone(), classifier.get_buffer("bias"))
    return dealt


def _subject(model: MultimodalModel, modality: str, space: str | None) -> str:
    """What results call a classifier."""
    return modality if space is None else model.graph.subject(modality, space)
