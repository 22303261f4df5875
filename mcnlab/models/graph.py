"""The graph of a model: which spaces exist, who lives in each, which pairs are compared where, what leads on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mcnlab.errors import ConfigError
from mcnlab.modalities import modality_place, pair_modalities

SHARED_SPACE = "joint"
"""Name of the one space of a shared graph."""
FINE_SPACE, COARSE_SPACE = "va", "vat"
"""Names of the spaces of the fine-and-coarse graph."""
HeadKind = Literal["gated", "linear", "mlp"]
"""A modality's way into a space: MCN's gated units, one linear map, or linear, batch norm, ReLU, linear, batch norm."""
HEAD_KINDS: tuple[str, ...] = get_args(HeadKind)
MMV_HEADS: Mapping[str, HeadKind] = {"video": "mlp", "audio": "linear", "text": "linear"}
"""Heads of the fine-and-coarse graph, as published."""


@dataclass(frozen=True)
class Space:
    """A vector space in which some modalities can be compared."""

    heads: Mapping[str, HeadKind]
    """By modality that has a head of its own into the space: what kind."""
    dim: int | None = None
    """Width; the model's where none is given."""


@dataclass(frozen=True)
class SpaceMap:
    """A way that leads from one space on to another, and never back."""

    source: str
    target: str

    @property
    def name(self) -> str:
        """What the map is called among the model's parameters."""
        return f"{self.source}_to_{self.target}"


@dataclass(frozen=True)
class Graph:
    """Spaces, the maps between them, and the space of every pair."""

    spaces: Mapping[str, Space]
    """By name, in order."""
    space_of_pair: Mapping[str, str]
    """By pair: the space where it is compared."""
    maps: tuple[SpaceMap, ...] = ()
    """Ways between spaces; at most one leads into each."""

    def __post_init__(self) -> None:
        _check_maps(self)
        _check_pairs(self)

    @property
    def members(self) -> Mapping[str, tuple[str, ...]]:
        """By space: the modalities that arrive there, by a head of their own or through a map."""
        known = {modality for space in self.spaces.values() for modality in space.heads}
        ordered = sorted(known, key=modality_place)
        return {name: tuple(m for m in ordered if self.way(m, name) is not None) for name in self.spaces}

    def way(self, modality: str, space: str) -> tuple[SpaceMap, ...] | None:
        """The maps through which a modality arrives in a space, the first one first.

        Args:
            modality: who travels.
            space: where to.

        Returns:
            No map where the modality has a head into the space; None where no way leads there.
        """
        if modality in self.spaces[space].heads:
            return ()
        for step in self.maps:
            if step.target == space and (before := self.way(modality, step.source)) is not None:
                return (*before, step)
        return None

    def spaces_of(self, modality: str) -> tuple[str, ...]:
        """The spaces where a modality arrives, in the graph's order."""
        return tuple(space for space in self.spaces if self.way(modality, space) is not None)

    def heads_of(self, modality: str) -> tuple[str, ...]:
        """The spaces into which a modality has a head of its own, in the graph's order."""
        return tuple(name for name, space in self.spaces.items() if modality in space.heads)

    def common_space(self, first: str, second: str) -> str | None:
        """Where two modalities can be compared.

        Returns:
            The space of their pair; else the common space that the fewest maps lead to; None without one.
        """
        for pair, space in self.space_of_pair.items():
            if set(pair_modalities(pair)) == {first, second}:
                return space
        ways = {space: (self.way(first, space), self.way(second, space)) for space in self.spaces}
        both = {space: len(a) + len(b) for space, (a, b) in ways.items() if a is not None and b is not None}
        return min(both, key=lambda space: both[space]) if both else None

    def needed(self, modality: str, pairs: Collection[str]) -> tuple[str, ...]:
        """The spaces in which training needs a modality: where a pair compares it, and where a head of its own leads
        into a space in which any of the pairs is compared. Where the graph compares nothing: all that it has."""
        if not self.space_of_pair:
            return self.heads_of(modality)
        used = {self.space_of_pair[pair] for pair in pairs}
        own = {self.space_of_pair[pair] for pair in pairs if modality in pair_modalities(pair)}
        used = {space for space in used if modality in self.spaces[space].heads}
        return tuple(space for space in self.spaces if space in own | used)

    def comparing(self, pairs: Collection[str]) -> "Graph":
        """The part of the graph that some pairs need.

        Args:
            pairs: those that are compared.

        Returns:
            Their spaces and what leads there.
        """
        kept = {pair: space for pair, space in self.space_of_pair.items() if pair in pairs}
        used = set(kept.values())
        for _ in self.maps:  # a space on the way to a used one has a use
            used |= {step.source for step in self.maps if step.target in used}
        spaces = {name: space for name, space in self.spaces.items() if name in used}
        return Graph(spaces, kept, tuple(step for step in self.maps if step.target in used))

    def subject(self, modality: str, space: str) -> str:
        """What an embedding is called in results: `video`, or `video@va` where there are several spaces."""
        return modality if len(self.spaces) == 1 else f"{modality}@{space}"


def shared_graph(
    modalities: Sequence[str], pairs: Sequence[str], *, heads: Mapping[str, HeadKind] | None = None
) -> Graph:
    """One space for all modalities; every pair is compared in it.

    Args:
        modalities: who lives in the space.
        pairs: the compared pairs, such as `va`.
        heads: by modality, where its head is not gated.

    Returns:
        The graph.
    """
    members = sorted(modalities, key=modality_place)
    return Graph({SHARED_SPACE: _space(members, heads)}, dict.fromkeys(pairs, SHARED_SPACE))


def disjoint_graph(pairs: Sequence[str], *, heads: Mapping[str, HeadKind] | None = None) -> Graph:
    """A space of its own for every pair; a modality has one head per space.

    Args:
        pairs: the compared pairs; ("va", "vt") gives the disjoint graph of MMV.
        heads: by modality, where its heads are not gated.

    Returns:
        The graph.

    Source: Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 3.1. Difference: any pairs, not only theirs.
    """
    spaces = {pair: _space(pair_modalities(pair), heads) for pair in pairs}
    return Graph(spaces, {pair: pair for pair in pairs})


def fine_and_coarse_graph(*, coarse_dim: int | None = None, heads: Mapping[str, HeadKind] | None = None) -> Graph:
    """Video and audio meet in a fine space; a map leads on to a coarse one, where text meets them.

    In training only video takes the map, since only the pair `vt` is compared behind it; audio does in evaluation.

    Args:
        coarse_dim: width of the coarse space; published 256, half of the fine one's.
        heads: by modality, where its head is not the published one.

    Returns:
        The graph.

    Source: Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 3.1 and figure 1d.
    """
    kinds = {**MMV_HEADS, **(heads or {})}
    spaces = {FINE_SPACE: _space(("video", "audio"), kinds), COARSE_SPACE: _space(("text",), kinds, coarse_dim)}
    return Graph(spaces, {"va": FINE_SPACE, "vt": COARSE_SPACE}, (SpaceMap(FINE_SPACE, COARSE_SPACE),))


def _space(members: Sequence[str], heads: Mapping[str, HeadKind] | None, dim: int | None = None) -> Space:
    """A space with the given members' heads, gated unless said otherwise."""
    return Space({m: (heads or {}).get(m, "gated") for m in members}, dim)


def build_graph(
    kind: str,
    modalities: Sequence[str],
    pairs: Sequence[str],
    *,
    heads: Mapping[str, HeadKind] | None = None,
    coarse_dim: int | None = None,
) -> Graph:
    """The graph that a name means.

    Args:
        kind: `shared`, `disjoint` or `fac`.
        modalities: all modalities of the model.
        pairs: all pairs that any stage compares.
        heads: by modality, where its heads are not the graph's usual ones.
        coarse_dim: width of the coarse space of `fac`; the model's where none is given.

    Returns:
        The graph.

    Raises:
        ConfigError: the kind is unknown, a pair needs a modality that the model lacks, or `fac` does not get its two
            pairs.
    """
    for pair in pairs:
        for modality in pair_modalities(pair):
            if modality not in modalities:
                raise ConfigError(f"pair {pair!r} needs {modality}, but the model has only {', '.join(modalities)}")
    if kind == "shared":
        return shared_graph(modalities, pairs, heads=heads)
    if kind == "disjoint":
        return disjoint_graph(pairs, heads=heads)
    if kind == "fac":
        if set(pairs) != {"va", "vt"}:
            raise ConfigError(f"graph: fac compares the pairs va and vt, the stages compare {', '.join(pairs)}")
        return fine_and_coarse_graph(coarse_dim=coarse_dim, heads=heads)
    raise ConfigError(f"graph: expected shared, disjoint or fac, got {kind!r}")


def _check_maps(graph: Graph) -> None:
    """Maps join known spaces, at most one leads into each, and nobody comes back to where they started."""
    leads_to: dict[str, str] = {}
    for step in graph.maps:
        for name in (step.source, step.target):
            if name not in graph.spaces:
                raise ConfigError(f"graph.maps: {name!r} is not among the spaces {', '.join(graph.spaces)}")
        if step.target in leads_to:
            raise ConfigError(f"graph.maps: two maps lead into {step.target!r}, at most one may")
        leads_to[step.target] = step.source
    for start in leads_to:
        seen, here = [start], leads_to[start]
        while here not in seen and here in leads_to:
            seen.append(here)
            here = leads_to[here]
        if here in seen:
            raise ConfigError(f"graph.maps: {' ← '.join([*seen, here])} is a circle")


def _check_pairs(graph: Graph) -> None:
    """Every pair's modalities arrive in its space, and, where anything is compared, no space is without a use."""
    for pair, space in graph.space_of_pair.items():
        if space not in graph.spaces:
            raise ConfigError(f"graph.pairs.{pair}: {space!r} is not among the spaces {', '.join(graph.spaces)}")
        for modality in pair_modalities(pair):
            if graph.way(modality, space) is None:
                there = ", ".join(graph.members[space]) or "nobody"
                raise ConfigError(f"graph.pairs.{pair}: no way leads {modality} into {space!r}; there is {there}")
    used = set(graph.space_of_pair.values())
    for _ in graph.maps:  # a space on the way to a used one has a use
        used |= {step.source for step in graph.maps if step.target in used}
    for name in graph.spaces if graph.space_of_pair else ():
        if name not in used:
            raise ConfigError(f"graph.spaces.{name}: no pair is compared in it")
