"""The graph of a model: which spaces exist, who lives in each, and which pairs are compared where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcnlab.batch import MODALITIES, pair_modalities
from mcnlab.errors import ConfigError

SHARED_SPACE = "joint"
"""Name of the one space of a shared graph."""


@dataclass(frozen=True)
class Graph:
    """Spaces, their members, and the space of every pair."""

    members: Mapping[str, tuple[str, ...]]
    """By space: the modalities that have a head into it."""
    space_of_pair: Mapping[str, str]
    """By pair: the space where it is compared."""

    def spaces_of(self, modality: str) -> tuple[str, ...]:
        """The spaces that a modality lives in, in the graph's order."""
        return tuple(space for space, members in self.members.items() if modality in members)

    def subject(self, modality: str, space: str) -> str:
        """What an embedding is called in results: `video`, or `video@va` where video lives in several spaces."""
        return modality if len(self.members) == 1 else f"{modality}@{space}"


def shared_graph(modalities: Sequence[str], pairs: Sequence[str]) -> Graph:
    """One space for all modalities; every pair is compared in it.

    Args:
        modalities: who lives in the space.
        pairs: the compared pairs, such as `va`.

    Returns:
        The graph.
    """
    members = tuple(modality for modality in MODALITIES if modality in modalities)
    return Graph({SHARED_SPACE: members}, dict.fromkeys(pairs, SHARED_SPACE))


def disjoint_graph(pairs: Sequence[str]) -> Graph:
    """A space of its own for every pair; a modality has one head per space.

    Args:
        pairs: the compared pairs; ("va", "vt") gives the disjoint graph of MMV.

    Returns:
        The graph.

    Source: Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 3.1. Difference: any pairs, not only theirs.
    """
    return Graph({pair: pair_modalities(pair) for pair in pairs}, {pair: pair for pair in pairs})


def build_graph(kind: str, modalities: Sequence[str], pairs: Sequence[str]) -> Graph:
    """The graph that a setting names.

    Args:
        kind: `shared` or `disjoint`.
        modalities: all modalities of the model.
        pairs: all pairs that any stage compares.

    Returns:
        The graph.

    Raises:
        ConfigError: the kind is unknown, or a pair needs a modality that the model lacks.
    """
    for pair in pairs:
        for modality in pair_modalities(pair):
            if modality not in modalities:
                raise ConfigError(f"pair {pair!r} needs {modality}, but the model has only {', '.join(modalities)}")
    if kind == "shared":
        return shared_graph(modalities, pairs)
    if kind == "disjoint":
        return disjoint_graph(pairs)
    raise ConfigError(f"graph: expected shared or disjoint, got {kind!r}")
