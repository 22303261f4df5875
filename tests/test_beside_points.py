"""Names beside points cover nothing, in every width that they were placed for."""

import itertools

import numpy as np
import plotly.graph_objects as go
import pytest

from mcnlab.reporting.beside_points import Named, Panel, _around, _View, name_points, offsets

PANEL = Panel(350.0, (0.0, 1.0), (0.0, 1.0), widths=(600.0, 1100.0))


def scattered(seed, *, count=10, spread=0.06):
    at = np.random.default_rng(seed).normal((0.6, 0.4), spread, (count, 2))
    return [Named(f"MCN AV_T {number}", *point) for number, point in enumerate(at)]


def boxes(points, places, width, size=12):
    view = _View(PANEL, width, size, (), ())
    return [view.box(one, place) for one, place in zip(points, places, strict=True)]


@pytest.mark.parametrize("width", PANEL.widths)
@pytest.mark.parametrize("seed", range(5))
def test_names_of_crowded_points_cover_neither_each_other_nor_a_point(seed, width):
    points = scattered(seed)
    places = boxes(points, offsets(points, PANEL, size=12), width)
    assert all(one.shared(other) == 0 for one, other in itertools.combinations(places, 2))
    at = _View(PANEL, width, 12, (), ()).at
    assert all(box.shared(_around(*at(one.x, one.y), 4.0)) == 0 for box in places for one in points)
    assert all(box.left >= 0 and box.right <= width and box.top >= 0 and box.bottom <= 350 for box in places)


def test_names_to_the_right_of_such_points_would_cover_each_other():
    points = scattered(0)
    places = boxes(points, [(60.0, 0.0)] * len(points), 600.0)
    assert any(one.shared(other) > 0 for one, other in itertools.combinations(places, 2))


def test_a_lone_name_stands_right_of_its_point_and_has_no_line():
    plot = go.Figure()
    name_points(plot, [Named("MCN", 0.5, 0.5)], PANEL)
    (note,) = plot.layout.annotations
    assert (note.text, note.xanchor, note.xshift, note.showarrow) == ("MCN", "left", 8, False)


def test_a_name_at_the_right_edge_stands_left_of_its_point():
    ((right, _),) = offsets([Named("MCN", 0.99, 0.5)], PANEL, size=12)
    assert right < 0


def test_a_name_keeps_off_a_whisker():
    ((_, down),) = offsets([Named("MCN", 0.5, 0.5)], PANEL, size=12, lines=[(0.2, 0.5, 0.8, 0.5)])
    assert abs(down) > 6


def test_a_name_far_from_its_point_has_a_line_to_it():
    plot = go.Figure()
    name_points(plot, [Named("V+A+T shuffled", 0.5, 0.5)] * 9, PANEL)
    assert sum(note.showarrow for note in plot.layout.annotations) >= 1
    assert len({(note.ax, note.ay, note.xshift, note.yshift) for note in plot.layout.annotations}) == 9


def test_a_study_without_points_has_no_names():
    assert offsets([], PANEL, size=12) == []


def test_the_line_to_a_far_name_keeps_off_the_names_of_others():
    crowd = [Named("depth noise 6", -0.5, 0.22), Named("depth noise 3", 0.5, 0.25), Named("outline", 0.55, 0.2)]
    panel = Panel(height=130.0, x=(-1.0, 11.0), y=(0.0, 1.0))
    lines = [(-0.5, 0.22, 5.0, 0.22), (0.5, 0.25, 5.0, 0.25), (0.55, 0.2, 2.3, 0.2)]
    placed = offsets(crowd, panel, size=11, lines=lines)
    for width in panel.widths:
        view = _View(panel, width, 11, (), ())
        boxes = [view.box(one, place) for one, place in zip(crowd, placed, strict=True)]
        for number, (one, place) in enumerate(zip(crowd, placed, strict=True)):
            if view.led(one, place):
                others = boxes[:number] + boxes[number + 1 :]
                assert sum((box.length_of(view.line(one, place)) for box in others), 0.0) == 0
