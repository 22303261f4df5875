"""From settings to what knows where and when: a detector, attention, and their terms."""

from collections.abc import Mapping

from torch import nn

from mcnlab.errors import ConfigError
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.attention import SpaceTimeAttention
from mcnlab.models.detection import CenterDetector, PseudoHeads
from mcnlab.models.graph import Graph
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.numerics import seeded
from mcnlab.training.detect_term import BOXES, DETECTORS, PSEUDO, DetectTerm, PseudoRules
from mcnlab.training.explain_term import ATTENTION, EXPLAINERS, ExplainTerm
from mcnlab.training.terms import Term

PAIR = "va"
"""The pair whose video says where its audio comes from."""


def add_parts_by_place(settings: ExperimentSettings, model: MultimodalModel, *, seed: int, classes: int) -> None:
    """Give a model what its terms by place train.

    Args:
        settings: the experiment.
        model: changed in place.
        seed: of the first weights.
        classes: how many the attention tells apart.

    Raises:
        ConfigError: the graph has no space where video and audio meet.
    """
    detect, explain, dims = settings.terms.detect, settings.terms.explain, model.feature_dims
    if detect is not None:
        with seeded(seed, DETECTORS):
            boxes = CenterDetector(dims["video"], detect.width, detect.classes)
            pseudo = PseudoHeads(model.space_dims[_meeting(model.graph)], detect.classes)
        model.add_module(DETECTORS, nn.ModuleDict({BOXES: boxes, PSEUDO: pseudo}))
    if explain is not None:
        with seeded(seed, EXPLAINERS):
            attention = SpaceTimeAttention(
                dims["video"], dims["audio"], explain.width, classes, space=explain.space, time=explain.time
            )
        model.add_module(EXPLAINERS, nn.ModuleDict({ATTENTION: attention}))


def terms_by_place(
    settings: ExperimentSettings, graph: Graph, dims: Mapping[str, int], *, seed: int
) -> dict[str, Term]:
    """The terms that ask where and when, by name.

    Args:
        settings: the experiment.
        graph: of its model.
        dims: width of every space.
        seed: of the run.

    Returns:
        None, one or both.

    Raises:
        ConfigError: the graph has no space where video and audio meet.
    """
    terms: dict[str, Term] = {}
    if (detect := settings.terms.detect) is not None:
        rules = PseudoRules(detect.classes, detect.queue_rows, detect.sharpness, detect.refit_every)
        dim = dims[_meeting(graph)]
        terms["detect"] = DetectTerm(weight=detect.weight, pair=PAIR, dim=dim, rules=rules, deal=detect.deal, seed=seed)
    if (explain := settings.terms.explain) is not None:
        terms["explain"] = ExplainTerm(weight=explain.weight)
    return terms


def _meeting(graph: Graph) -> str:
    """The space in which video and audio are compared."""
    if PAIR not in graph.space_of_pair:
        raise ConfigError(f"terms.detect: the graph compares {', '.join(graph.space_of_pair)}, but not {PAIR}")
    return graph.space_of_pair[PAIR]
