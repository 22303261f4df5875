"""Names beside points: placed so that they cover neither each other nor a point, on wide and on narrow pages."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape

import plotly.graph_objects as go

from mcnlab.reporting.style import QUIET

LETTER_PX, LINE_PX = 0.64, 1.35
"""Width of a letter and height of a line, as parts of the size of the font; rather too large than too small."""
POINT_PX, LINE_WIDTH_PX = 7.0, 3.0
"""Half of a point's box; width of a line's."""
NEAR_PX, LIFT_PX = 8.0, 4.0
"""From a point to the name beside it; from a point's height to a name aslant of it."""
DISTANCES_PX = (0.0, 8.0, 18.0, 30.0, 44.0, 60.0, 78.0, 98.0)
"""How much farther away a name may go, with a thin line to its point."""
DIRECTIONS = ((1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1))
"""Right before left, up (-1) before down."""
ROUNDS = 3
COVERS, CROSSES, LEAVES, LEADS = 10.0, 1.0, 40.0, 40.0
"""Cost of a px² that a name covers of another name or point, or of a line, or has outside, and of a px that the thin
line to one name runs over another; a px of distance costs 1."""
Segment = tuple[float, float, float, float]
"""A line from x, y to x, y."""


@dataclass(frozen=True)
class Panel:
    """The part of a figure that names are put into."""

    height: float
    """In px."""
    x: tuple[float, float]
    """Range of the axis."""
    y: tuple[float, float]
    widths: tuple[float, ...] = (600.0, 780.0, 1100.0)
    """In px, from paper to a wide window; a place must do on all of them."""


@dataclass(frozen=True)
class Named:
    """A point with its name as plotly shall write it."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """A rectangle in px; y goes down."""

    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: "Box") -> float:
        """Area that two boxes have in common, in px²."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, across) * max(0.0, down)

    def length_of(self, line: Segment) -> float:
        """How many px of a line lie inside (Liang and Barsky 1984)."""
        x, y, u, v = line
        if max(x, u) < self.left or min(x, u) > self.right or max(y, v) < self.top or min(y, v) > self.bottom:
            return 0.0
        enters, leaves = 0.0, 1.0
        for start, way, low, high in ((x, u - x, self.left, self.right), (y, v - y, self.top, self.bottom)):
            if way:
                at = sorted(((low - start) / way, (high - start) / way))
                enters, leaves = max(enters, at[0]), min(leaves, at[1])
        return max(0.0, leaves - enters) * math.hypot(u - x, v - y)

    def area(self) -> float:
        """Its px²."""
        return (self.right - self.left) * (self.bottom - self.top)


def name_points(
    plot: go.Figure,
    points: Sequence[Named],
    panel: Panel,
    *,
    size: int = 12,
    others: Sequence[tuple[float, float]] = (),
    lines: Sequence[Segment] = (),
    axes: tuple[str, str] = ("x", "y"),
) -> None:
    """Write a name beside every point of a panel, with a line to it where it had to go farther away.

    Args:
        plot: the figure; it is changed. Its axes must have the ranges of the panel.
        points: what to name.
        panel: where the points lie.
        size: of the font, in px.
        others: further points that no name may cover.
        lines: whiskers and the like, which names cross only where nothing else is free.
        axes: names of the panel's axes.
    """
    placed = offsets(points, panel, size=size, others=others, lines=lines)
    for one, (right, down) in zip(points, placed, strict=True):
        beside = (right, down) in _places(one.name, size)[: len(DIRECTIONS)]
        side = (right > 0) - (right < 0)
        edge = right - side * _extent(one.name, size)[0] / 2
        near = {"xanchor": ("center", "left", "right")[side], "xshift": edge, "yshift": -down}
        arrow = {"arrowhead": 0, "arrowwidth": 1, "arrowcolor": QUIET, "standoff": POINT_PX - 1}
        far = {"xanchor": "center", "ax": right, "ay": down, **arrow}
        plot.add_annotation(
            x=one.x,
            y=one.y,
            xref=axes[0],
            yref=axes[1],
            text=one.name,
            font={"size": size},
            yanchor="middle",
            borderpad=0,
            showarrow=not beside,
            **(near if beside else far),
        )


def offsets(
    points: Sequence[Named],
    panel: Panel,
    *,
    size: int,
    others: Sequence[tuple[float, float]] = (),
    lines: Sequence[Segment] = (),
) -> list[tuple[float, float]]:
    """How many px right of its point, and below it, the middle of every name stands.

    Every name goes to the place that costs least while the others stay; after a few rounds none covers another
    where there is room.

    Args:
        points: what to name.
        panel: where the points lie.
        size: of the font, in px.
        others: further points that no name may cover.
        lines: whiskers and the like, which names cross only where nothing else is free.

    Returns:
        A pair for each name, in their order.
    """
    taken = [*((one.x, one.y) for one in points), *others]
    views = [_View(panel, width, size, tuple(taken), tuple(lines)) for width in panel.widths]
    chosen = [_places(one.name, size)[0] for one in points]
    for _ in range(ROUNDS):
        for number, one in enumerate(points):
            rest = [(other, chosen[n]) for n, other in enumerate(points) if n != number]
            held = [(view, *view.held(rest)) for view in views]
            costs = {
                place: _distance(one, place, size) + max(view.cost(one, place, boxes, led) for view, boxes, led in held)
                for place in _places(one.name, size)
            }
            chosen[number] = min(costs, key=lambda place: costs[place])
    return chosen


@functools.cache
def _places(name: str, size: int) -> tuple[tuple[float, float], ...]:
    """Offsets of the middle of a name, nearest first."""
    wide, tall = _extent(name, size)
    return tuple(
        (across * (NEAR_PX + far + wide / 2), down * ((LIFT_PX if across else NEAR_PX) + far + tall / 2))
        for far, (across, down) in itertools.product(DISTANCES_PX, DIRECTIONS)
    )


def _extent(name: str, size: int) -> tuple[float, float]:
    """Width and height of a name in px."""
    return LETTER_PX * size * len(unescape(name)), LINE_PX * size


def _distance(one: Named, place: tuple[float, float], size: int) -> float:
    """From a point to the edge of its name, in px."""
    wide, tall = _extent(one.name, size)
    return max(abs(place[0]) - wide / 2, 0) + max(abs(place[1]) - tall / 2, 0)


@dataclass(frozen=True, eq=False)
class _View:
    """A panel in one width, with what lies in it."""

    panel: Panel
    width: float
    size: int
    taken: tuple[tuple[float, float], ...]
    lines: tuple[Segment, ...]

    def held(self, rest: Sequence[tuple[Named, tuple[float, float]]]) -> tuple[list[Box], list[Segment]]:
        """Rectangles of names in their places, and the thin lines to those that stand farther away."""
        far = [(other, where) for other, where in rest if self.led(other, where)]
        return [self.box(*one) for one in rest], [self.line(*one) for one in far]

    def cost(self, one: Named, place: tuple[float, float], boxes: Sequence[Box], led: Sequence[Segment]) -> float:
        """What a name and its line cover in a place beside other names and theirs, weighted."""
        box = self.box(one, place)
        covered = sum((box.shared(other) for other in boxes), 0.0)
        covered += sum(box.shared(point) for point in self.points)
        crossed = sum((box.shared(line) for line in self.segments), 0.0)
        over = sum((box.length_of(line) for line in led), 0.0)
        if self.led(one, place):
            own = self.line(one, place)
            over += sum(other.length_of(own) for other in boxes)
        outside = box.area() - box.shared(Box(0.0, 0.0, self.width, self.panel.height))
        return COVERS * covered + CROSSES * crossed + LEAVES * outside + LEADS * over

    def led(self, one: Named, place: tuple[float, float]) -> bool:
        """Whether a thin line leads to the name."""
        return place not in _places(one.name, self.size)[: len(DIRECTIONS)]

    def line(self, one: Named, place: tuple[float, float]) -> Segment:
        """The thin line from a point to the middle of its name, in px."""
        x, y = self.at(one.x, one.y)
        return x, y, x + place[0], y + place[1]

    @functools.cached_property
    def points(self) -> list[Box]:
        """Rectangles of all points."""
        return [_around(*self.at(x, y), POINT_PX) for x, y in self.taken]

    @functools.cached_property
    def segments(self) -> list[Box]:
        """Rectangles of all lines."""
        ends = [(self.at(*one[:2]), self.at(*one[2:])) for one in self.lines]
        half = LINE_WIDTH_PX / 2
        return [Box(min(x, u) - half, min(y, v) - half, max(x, u) + half, max(y, v) + half) for (x, y), (u, v) in ends]

    def box(self, one: Named, place: tuple[float, float]) -> Box:
        """The rectangle of a name."""
        wide, tall = _extent(one.name, self.size)
        x, y = self.at(one.x, one.y)
        x, y = x + place[0], y + place[1]
        return Box(x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point in px."""
        (left, right), (low, high) = self.panel.x, self.panel.y
        return (x - left) / (right - left) * self.width, (high - y) / (high - low) * self.panel.height


def _around(x: float, y: float, half: float) -> Box:
    """A square."""
    return Box(x - half, y - half, x + half, y + half)
