"""A graph drawn small: spaces as boxes with their members, compared pairs as arcs, ways between spaces as arrows."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mcnlab.modalities import modality_place, pair_modalities
from mcnlab.models.graph import Graph, Space, SpaceMap, build_graph
from mcnlab.reporting.recipe import graph_name, recipe_of
from mcnlab.reporting.style import shortened
from mcnlab.reporting.summary import StudySummary
from mcnlab.runs import RunFolder

WIDTH, BOX_HEIGHT, GAP, MARGIN, LANE = 300, 92, 22, 4, 14
"""In px; a lane beside the boxes for each way between spaces."""
NODE_RADIUS, ARC, LETTER = 14, 26, 7
PAIR_COLOR = "#0072B2"
"""Blue enough for white and for black behind it."""


@dataclass(frozen=True)
class GraphFigure:
    """A drawn graph with its words."""

    title: str
    alt: str
    svg: Markup


def graph_figure(settings: Mapping[str, Any]) -> GraphFigure | None:
    """The graph of an experiment, from its settings alone.

    Args:
        settings: resolved, as a run folder holds them.

    Returns:
        An inline picture of at most 300 px, in the color of the text around it; None where nothing is compared.
    """
    graph = graph_of_settings(settings)
    if graph is None:
        return None
    width = int((settings.get("model") or {}).get("dim") or 0)
    title = f"Graph: {graph_name(settings.get('graph'))}"
    alt = graph_in_words(graph)
    return GraphFigure(title, alt, _drawn(graph, width, f"{title}. {alt}"))


def study_graphs(summary: StudySummary) -> list[tuple[GraphFigure, tuple[str, ...]]]:
    """Every graph of a study once, with the experiments that have it.

    Args:
        summary: the study.

    Returns:
        In the order of the experiments; runs whose settings cannot be read are left out.
    """
    found: dict[str, GraphFigure] = {}
    having: dict[str, list[str]] = {}
    for name in summary.experiments:
        drawn = graph_figure(_settings(summary, name))
        if drawn is not None:
            found.setdefault(drawn.svg, drawn)
            having.setdefault(drawn.svg, []).append(name)
    return [(figure, tuple(having[svg])) for svg, figure in found.items()]


def graph_of_experiment(summary: StudySummary, name: str) -> Graph | None:
    """The graph of one experiment of a study.

    Args:
        summary: the study.
        name: the experiment.

    Returns:
        None where it compares nothing, or its settings cannot be read.
    """
    return graph_of_settings(_settings(summary, name))


def _settings(summary: StudySummary, name: str) -> Mapping[str, Any]:
    """Settings of an experiment's first run that has some; empty when none can be read."""
    folders = [row.folder for row in summary.runs if row.experiment == name and name in summary.recipes]
    return next((found for folder in folders if (found := RunFolder(folder).settings)), {})


def graph_of_settings(settings: Mapping[str, Any]) -> Graph | None:
    """The graph that resolved settings describe.

    Args:
        settings: as a run folder holds them; what they leave out is taken as usual.

    Returns:
        Spaces, pairs that some stage compares, maps; None where there is no pair.
    """
    recipe, chosen, model = recipe_of(settings), settings.get("graph"), settings.get("model") or {}
    if not recipe.pairs:
        return None
    if isinstance(chosen, Mapping):
        spaces = {name: _written_space(values) for name, values in chosen["spaces"].items()}
        maps = tuple(SpaceMap(step["source"], step["target"]) for step in chosen.get("maps") or ())
        return Graph(spaces, chosen["pairs"], maps).comparing(recipe.pairs)
    coarse = model.get("coarse_dim") or max(1, int(model.get("dim") or 2) // 2)
    heads = model.get("heads") or {}
    return build_graph(str(chosen or "shared"), recipe.modalities, recipe.pairs, heads=heads, coarse_dim=coarse)


def _written_space(values: Mapping[str, Any]) -> Space:
    """A space as settings write it."""
    heads = values.get("heads") or {}
    return Space({member: heads.get(member, "gated") for member in values["members"]}, values.get("dim"))


def graph_in_words(graph: Graph) -> str:
    """What the picture shows: who is compared where, who arrives through a map, and who never meets.

    Example:
        >>> graph_in_words(build_graph("disjoint", ("video", "audio", "text"), ("va", "vt")))
        'Space va: video and audio compared. Space vt: video and text compared. Audio and text have no common space.'
    """
    said = [_space_in_words(graph, space) for space in graph.spaces]
    for first, second in itertools.combinations(_modalities(graph), 2):
        space = graph.common_space(first, second)
        if space is None:
            said.append(f"{first.capitalize()} and {second} have no common space.")
        elif _pair_in(graph, first, second) is None:
            said.append(f"{first.capitalize()} and {second} meet in {space}, uncompared in training.")
    return " ".join(said)


def _space_in_words(graph: Graph, space: str) -> str:
    """Pairs and arrivals of one space."""
    pairs = [" and ".join(pair_modalities(pair)) for pair, where in graph.space_of_pair.items() if where == space]
    via = [f"{m} arrives from {way[0].source}" for m in graph.members[space] if (way := graph.way(m, space))]
    return f"Space {space}: {'; '.join([', '.join(pairs) + ' compared'] * bool(pairs) + via)}."


def _drawn(graph: Graph, width: int, alt: str) -> Markup:
    """The picture; boxes below each other, sources above what they lead to."""
    names = _sources_first(graph)
    tops = {name: MARGIN + number * (BOX_HEIGHT + GAP) for number, name in enumerate(names)}
    right = WIDTH - MARGIN - LANE * len(graph.maps)
    places = _places(_modalities(graph), right)
    parts = [_box(graph, name, tops[name], right, places, width) for name in names]
    parts += [_arrow(step, tops, right, lane) for lane, step in enumerate(graph.maps)]
    height = 2 * MARGIN + len(names) * (BOX_HEIGHT + GAP) - GAP
    return Markup(
        '<svg class="graph" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}" '
        'style="max-width:100%;height:auto;color:inherit" font-family="system-ui, sans-serif" '
        'xmlns="http://www.w3.org/2000/svg"><title>{}</title>{}</svg>'
    ).format(alt, WIDTH, height, WIDTH, height, alt, Markup("").join(parts))


def _box(graph: Graph, name: str, top: int, right: int, places: Mapping[str, int], width: int) -> Markup:
    """A space: its name and width, its members, the pairs compared in it."""
    wide = graph.spaces[name].dim or width
    label = f"{name} · {wide} wide" if wide else name
    frame = Markup(
        '<rect x="{}" y="{}" width="{}" height="{}" rx="8" fill="currentColor" fill-opacity=".06" '
        'stroke="currentColor" stroke-opacity=".45"/>'
        '<text x="{}" y="{}" font-size="12" font-weight="600" fill="currentColor">{}</text>'
    ).format(MARGIN, top, right - MARGIN, BOX_HEIGHT, MARGIN + 9, top + 17, label)
    row = top + BOX_HEIGHT - 34
    pairs = [pair_modalities(pair) for pair, space in graph.space_of_pair.items() if space == name]
    arcs = [_arc(places[first], places[second], row, _reach(first, second, places)) for first, second in pairs]
    letters = max(3, round((right - MARGIN) / len(places) / LETTER))
    nodes = [_node(m, places[m], row, letters, own=m in graph.spaces[name].heads) for m in graph.members[name]]
    return frame + Markup("").join([*arcs, *nodes])


def _node(modality: str, x: int, y: int, letters: int, *, own: bool) -> Markup:
    """A member: a full ring for a head of its own, a dashed one where a map brings it."""
    dashes = Markup("") if own else Markup(' stroke-dasharray="3 3"')
    return Markup(
        '<circle cx="{x}" cy="{y}" r="{r}" fill="currentColor" fill-opacity=".1" stroke="currentColor" '
        'stroke-width="1.5"{dashes}/>'
        '<text x="{x}" y="{middle}" font-size="13" font-weight="600" text-anchor="middle" fill="currentColor">{initial}'
        '</text><text x="{x}" y="{below}" font-size="11" text-anchor="middle" fill="currentColor">{name}</text>'
    ).format(
        x=x, y=y, r=NODE_RADIUS, dashes=dashes, middle=y + 4.5, initial=modality[0].upper(), below=y + 28,
        name=shortened(modality, longest=letters),
    )  # fmt: skip


def _arc(first: int, second: int, y: int, reach: int) -> Markup:
    """A compared pair: a line between neighbors, an arc over whoever stands between."""
    left, right = sorted((first, second))
    if reach == 1:
        path = f"M{left + NODE_RADIUS} {y}H{right - NODE_RADIUS}"
    else:
        start = y - NODE_RADIUS
        path = f"M{left} {start}Q{(left + right) // 2} {start - ARC} {right} {start}"
    return Markup('<path d="{}" fill="none" stroke="{}" stroke-width="3"/>').format(path, PAIR_COLOR)


def _arrow(step: SpaceMap, tops: Mapping[str, int], right: int, lane: int) -> Markup:
    """A way from one space on to another, beside the boxes."""
    start, end = tops[step.source] + BOX_HEIGHT // 2, tops[step.target] + BOX_HEIGHT // 2
    x = right + LANE * (lane + 1) - 4
    return Markup(
        '<path d="M{r} {start}H{x}V{end}H{tip}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        '<path d="M{r} {end}l8 -4.5v9z" fill="currentColor"/>'
    ).format(r=right, start=start, x=x, end=end, tip=right + 7)


def _modalities(graph: Graph) -> list[str]:
    """All modalities of a graph, in the usual order."""
    return sorted({modality for space in graph.spaces.values() for modality in space.heads}, key=modality_place)


def _places(modalities: Sequence[str], right: int) -> dict[str, int]:
    """Where each modality stands, the same in every space."""
    step = (right - MARGIN) / len(modalities)
    return {modality: round(MARGIN + step * (number + 0.5)) for number, modality in enumerate(modalities)}


def _reach(first: str, second: str, places: Mapping[str, int]) -> int:
    """How many places two modalities stand apart."""
    order = list(places)
    return abs(order.index(first) - order.index(second))


def _pair_in(graph: Graph, first: str, second: str) -> str | None:
    """The pair that compares two modalities, if there is one."""
    return next((pair for pair in graph.space_of_pair if set(pair_modalities(pair)) == {first, second}), None)


def _sources_first(graph: Graph) -> list[str]:
    """The spaces in the graph's order, but each below the one that a map leads from."""
    source = {step.target: step.source for step in graph.maps}
    placed: list[str] = []
    while len(placed) < len(graph.spaces):
        ready = (name for name in graph.spaces if name not in placed and source.get(name, name) in (name, *placed))
        placed.append(next(ready))
    return placed
