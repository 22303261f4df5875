"""Graphs in settings: by name, or written out as spaces, pairs and maps."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from mcnlab.config import Settings
from mcnlab.errors import ConfigError
from mcnlab.modalities import pair_modalities, pair_name
from mcnlab.models.graph import Graph, HeadKind, Space, SpaceMap, build_graph

GraphName = Literal["shared", "disjoint", "fac"]
SpaceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,19}$")]


class SpaceSettings(Settings):
    """A space of a graph that is written out."""

    members: tuple[str, ...]
    """Modalities with a head of their own into the space."""
    dim: PositiveInt | None = None
    """Width; `model.dim` when not given."""
    heads: dict[str, HeadKind] = Field(default_factory=dict)
    """Kind of head by modality; gated when not given."""

    @model_validator(mode="after")
    def _heads_of_members(self) -> Self:
        for modality in self.heads:
            if modality not in self.members:
                raise ValueError(f"heads.{modality}: not among the members {list(self.members)}")
        if len(set(self.members)) != len(self.members):
            raise ValueError(f"members: {list(self.members)} names one twice")
        return self


class MapSettings(Settings):
    """A way from one space on to another."""

    source: SpaceName
    """Where it starts."""
    target: SpaceName
    """Where it leads; at most one map leads into a space."""


class GraphSettings(Settings):
    """A graph that is written out."""

    name: str = Field(default="written", min_length=1, max_length=40)
    """What tables call it."""
    spaces: dict[SpaceName, SpaceSettings] = Field(min_length=1)
    """By name, in order."""
    pairs: dict[str, SpaceName] = Field(min_length=1)
    """By pair: the space where it is compared."""
    maps: tuple[MapSettings, ...] = ()
    """Ways between spaces; they must not run in a circle."""

    @model_validator(mode="after")
    def _makes_a_graph(self) -> Self:
        for pair in self.pairs:
            try:
                usual = pair_name(*pair_modalities(pair))
            except KeyError as error:
                raise ValueError(f"pairs: {pair!r} does not name two modalities") from error
            if pair != usual:
                raise ValueError(f"pairs: {pair!r} is written {usual}")
        try:
            self.built()
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("graph.")) from error
        return self

    def built(self, pairs: Sequence[str] | None = None) -> Graph:
        """The graph.

        Args:
            pairs: those that some stage compares; all when None. Spaces that none of them needs are left out.

        Returns:
            The graph.
        """
        spaces = {
            name: Space({m: space.heads.get(m, "gated") for m in space.members}, space.dim)
            for name, space in self.spaces.items()
        }
        whole = Graph(spaces, self.pairs, tuple(SpaceMap(step.source, step.target) for step in self.maps))
        return whole if pairs is None else whole.comparing(pairs)


GraphChoice = Annotated[
    Annotated[GraphName, Tag("<name>")] | Annotated[GraphSettings, Tag("<written>")],
    Discriminator(lambda graph: "<name>" if isinstance(graph, str) else "<written>"),
]
"""A graph by name, or written out."""


def graph_pairs(graph: GraphName | GraphSettings) -> tuple[str, ...] | None:
    """The pairs that a graph compares; None where it takes any."""
    if isinstance(graph, GraphSettings):
        return tuple(graph.pairs)
    return ("va", "vt") if graph == "fac" else None


def graph_of(
    graph: GraphName | GraphSettings,
    modalities: Sequence[str],
    pairs: Sequence[str],
    *,
    heads: dict[str, HeadKind],
    coarse_dim: int | None,
) -> Graph:
    """The graph that settings mean.

    Args:
        graph: a name, or a graph written out.
        modalities: all modalities of the store.
        pairs: all pairs that any stage compares.
        heads: by modality, for graphs by name.
        coarse_dim: width of the coarse space of `fac`.

    Returns:
        The graph.

    Raises:
        ConfigError: it needs a modality that the store lacks, or pairs that no stage compares.
    """
    if not isinstance(graph, GraphSettings):
        return build_graph(graph, modalities, pairs, heads=heads, coarse_dim=coarse_dim)
    built = graph.built(pairs)
    for name, space in built.spaces.items():
        for modality in space.heads:
            if modality not in modalities:
                raise ConfigError(
                    f"graph.spaces.{name}.members: the store has no {modality}, only {', '.join(modalities)}"
                )
    return built
