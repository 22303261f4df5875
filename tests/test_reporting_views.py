"""What a report says of the number of views and of shared information, on invented results that are known by heart."""

import math
from pathlib import Path

import pandas as pd
import pytest

from mcnlab.modalities import pairs_among, pairs_with
from mcnlab.reporting.answer import answer
from mcnlab.reporting.heatmaps import _heat_maps
from mcnlab.reporting.information import bound_figure, bound_table, views_in_words
from mcnlab.reporting.map_figures import modality_mark
from mcnlab.reporting.pages import index_page
from mcnlab.reporting.recipe import Recipe, recipe_of
from mcnlab.reporting.summary import RunRow, StudySummary, short_direction
from mcnlab.reporting.views import growth_figure, quality_column, view_lines
from mcnlab.runs import RESULT_COLUMNS

VIEWS = ("video", "depth", "flow", "color")


def study(experiments, kept, bounds=()):
    """A summary of three seeds.

    Args:
        experiments: name → pairs.
        kept: name → mean score of video; seeds differ by 0.01.
        bounds: (experiment, pair, bound, known).
    """
    rows = []
    for name, seed in ((name, seed) for name in experiments for seed in range(3)):
        for factor in ("vat", "vat.object", "va", "va.rate"):
            rows.append([name, seed, "retention", f"video:{factor}", "score", kept[name] + 0.01 * seed, None, None])
            rows.append([name, seed, "retention", f"video:{factor}", "untrained", 0.25, None, None])
        for experiment, pair, bound, known in bounds:
            if experiment == name:
                told = {"information_nats": bound, "shared_nats": known, "log_candidates": math.log(600)}
                rows += [[name, seed, "bound", pair, metric, value, None, None] for metric, value in told.items()]
    results = pd.DataFrame(rows, columns=list(RESULT_COLUMNS))
    recipes = {name: Recipe(tuple(pairs)) for name, pairs in experiments.items()}
    runs = tuple(RunRow(n, s, "finished", "", Path(n), 1, True, 1.0, 1.0, 1.0) for n in experiments for s in range(3))
    return StudySummary("t", "q", tuple(experiments), recipes, runs, results, {}, next(iter(experiments)), {}, {})


@pytest.fixture
def growing():
    experiments = {"two": pairs_among(VIEWS[:2])}
    experiments |= {f"core {n}": pairs_with("video", VIEWS[:n]) for n in (3, 4)}
    experiments |= {f"full {n}": pairs_among(VIEWS[:n]) for n in (3, 4)}
    kept = {"two": 0.3, "core 3": 0.5, "core 4": 0.7, "full 3": 0.6, "full 4": 0.75}
    return study(experiments, kept)


@pytest.fixture
def sharing():
    partners = {"outline": (0.9, 1.0, 2.0), "depth": (0.8, 2.0, 4.0), "color": (0.5, 3.0, 6.0)}
    experiments = {name: pairs_among(("video", name)) for name in partners}
    bounds = [(name, f"video-{name}", bound, known) for name, (_, bound, known) in partners.items()]
    return study(experiments, {name: kept for name, (kept, _, _) in partners.items()}, bounds)


def test_two_views_stand_on_the_line_of_the_core_view_and_of_the_full_graph(growing):
    lines = {line.name: dict(line.experiments) for line in view_lines(growing)}
    assert lines["core view"] == {2: "two", 3: "core 3", 4: "core 4"}
    assert lines["full graph"] == {2: "two", 3: "full 3", 4: "full 4"}


def test_the_answer_says_that_what_is_kept_grows_and_by_how_much(growing):
    lead, points = views_in_words(growing)
    assert lead == "What can be read from video grows with every view that is added, on average over 3 seeds."
    assert points[0] == "core view with 2, 3, 4 views: 0.310 → 0.510 → 0.710; higher with every view in 3 of 3 seeds."
    assert points[2].startswith("Full graph minus core view at 4 views: +0.050")
    assert (
        points[3]
        == "Before training the score is 0.250; more than that is kept in: " + ", ".join(growing.experiments) + "."
    )
    assert answer(growing)[0].lead == lead


def test_the_answer_does_not_claim_growth_that_is_not_there(growing):
    rows = growing.results
    rows.loc[(rows.experiment == "core 4") & (rows.metric == "score"), "value"] = 0.4
    lead, points = views_in_words(growing)
    assert "does not grow" in lead
    assert "0 of 3 seeds" in points[0]
    assert "grows" not in growth_figure(growing).title


def test_growth_is_drawn_with_a_point_for_every_number_of_views(growing):
    plot = growth_figure(growing).plot
    assert [trace.name for trace in plot.data] == ["core view", "full graph"]
    assert list(plot.data[0].y) == pytest.approx([0.31, 0.51, 0.71])
    assert "count" in plot.layout.xaxis.title.text
    assert "score" in plot.layout.yaxis.title.text


def test_a_factor_counts_once_in_what_is_kept(growing):
    assert quality_column(growing, "video").subjects == ("video:vat.object", "video:va.rate")


def test_a_study_of_the_usual_modalities_has_no_line_of_views():
    found = study({"V+T": ("vt",), "V+A+T": ("va", "vt", "at")}, {"V+T": 0.5, "V+A+T": 0.6})
    assert view_lines(found) == []
    assert views_in_words(found) == ("", ())
    assert growth_figure(found) is None
    assert bound_figure(found) is None


def test_more_shared_information_is_not_said_to_be_better_where_it_is_not(sharing):
    lead, points = views_in_words(sharing)
    assert (
        "most is kept in outline (0.91), at a bound of 1.00 nats; the largest bound is that of color (3.00 nats)"
        in lead
    )
    assert lead.endswith("Rank correlation of bound and score over 3 experiments: −1.00.")
    assert points[-1].endswith("in 3 of 3 experiments; on average it shows 50% of it.")


def test_bounds_are_drawn_in_nats_beside_what_is_known(sharing):
    figure = bound_figure(sharing)
    named = {trace.name: trace for trace in figure.plot.data if trace.name and trace.showlegend}
    assert list(named["lower bound"].x) == [1.0, 2.0, 3.0]
    assert list(named["entropy of the shared factors"].x) == [2.0, 4.0, 6.0]
    assert "nats" in figure.plot.layout.xaxis2.title.text


def test_the_table_of_bounds_says_which_pairs_were_compared(sharing):
    table = bound_table(sharing)
    assert table.loc[("depth", "video-depth"), "compared"] == "yes"
    assert table.loc[("depth", "video-depth"), "log k"] == pytest.approx(math.log(600), abs=1e-3)


@pytest.mark.parametrize("name", ["growing", "sharing"])
def test_the_page_has_a_part_on_views(name, request):
    page = index_page(request.getfixturevalue(name))
    assert 'id="views"' in page


def test_a_recipe_of_many_views_is_read_from_settings_and_told_in_few_words():
    stage = {"modalities": ["video", "flow", "depth"], "epochs": 1}
    full = recipe_of({"stages": [stage]})
    core = recipe_of({"stages": [stage], "pairs": ["video-depth", "video-flow"]})
    assert full.pairs == ("video-depth", "video-flow", "depth-flow")
    assert full.in_words == "all pairs of video, depth, flow · contrast"
    assert core.in_words == "video with depth, flow · contrast"
    assert core.stages == ("V+depth+flow",)
    assert Recipe(("va", "video-depth", "vt")).modalities == ("video", "audio", "text", "depth")


def test_further_views_are_drawn_in_colors_of_their_own():
    drawn = ("video", "audio", "text", "depth", "flow")
    assert len({modality_mark(one, drawn) for one in drawn}) == len(drawn)


def test_a_direction_names_further_views():
    assert short_direction("text->depth") == "T→depth"


def test_maps_below_each_other_have_the_rows_that_they_have():
    tables = {
        "video": pd.DataFrame({"vat": [0.5, 0.6], "va": [0.1, 0.2]}, index=["depth", "flow"]),
        "depth": pd.DataFrame({"vat": [0.5, math.nan], "va": [0.1, math.nan]}, index=["depth", "flow"]),
    }
    drawn = _heat_maps(tables, bar={}, colors={}, quiet=lambda *_: False, stacked=True)
    assert [list(axis.ticktext) for axis in drawn.select_yaxes()] == [["depth", "flow"], ["depth"]]
    beside = _heat_maps(tables, bar={}, colors={}, quiet=lambda *_: False)
    assert [len(trace.z) for trace in beside.data] == [2, 2]
