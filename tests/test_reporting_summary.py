"""The summary of a study, its tests, its sentences: from run folders to plain values."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mcnlab.errors import DataError
from mcnlab.metrics.statistics import Interval
from mcnlab.reporting.answer import answer
from mcnlab.reporting.bars import bars_figure
from mcnlab.reporting.comparison import as_good_as_best, differences_from
from mcnlab.reporting.figures import recall_figure, tradeoff_figure
from mcnlab.reporting.intervals import whiskers
from mcnlab.reporting.recipe import CONTROL, MORE_TERMS, ONE_PAIR, STAGED, Recipe, recipe_of
from mcnlab.reporting.style import evenly, panel_titles
from mcnlab.reporting.summary import Column, carriers, factor_groups, key_columns, retention_columns, summarize
from mcnlab.reporting.tables import comparison_view, outcome_table
from mcnlab.runs import RunFolder, list_runs
from tests.fake_study import ALL, DEFAULT, FakeExperiment, write_fake_study

RECALL = Column("T→V R@1", "retrieval", ("text->video",), "recall_at_1")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_fake_study(tmp_path_factory.mktemp("study"), experiments=DEFAULT, seeds=(0, 1), failed=("MCN AT_V",))


@pytest.fixture(scope="module")
def summary(study):
    return summarize(study, title="A study")


def test_reporting_never_imports_torch():
    modules = "answer comparison curves examples export figures heatmaps live maps notebooks overview pages projection"
    code = "; ".join(f"import mcnlab.reporting.{name}" for name in f"{modules} render run_figures show".split())
    found = subprocess.run([sys.executable, "-c", f"{code}; import sys; print('torch' in sys.modules)"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert found.stdout.strip() == "False"


def test_experiments_are_sorted_by_recipe_whatever_their_folders_are_called(summary):
    staged = ["MCN AT_V", "MCN AV_T", "MCN VT_A"]
    assert [*summary.experiments] == [*(one.name for one in DEFAULT[:6]), *staged, "V+A+T shuffled"]


def test_the_reference_is_all_pairs_in_one_space_by_contrast_alone(summary):
    assert summary.reference == "V+A+T"


def test_an_interval_over_two_seeds_is_students(summary):
    values = list(summary.run_values(RECALL)["V+T"].values())
    interval = summary.intervals(RECALL)["V+T"]
    half = 12.706 * np.std(values, ddof=1) / np.sqrt(2)  # t of one degree of freedom
    assert (interval.high - interval.value) == pytest.approx(half, rel=1e-3)
    assert interval.n == 2


def test_one_seed_takes_its_own_interval_over_clips(tmp_path):
    one = summarize(write_fake_study(tmp_path, experiments=DEFAULT[:1], seeds=(4,)))
    interval = one.intervals(RECALL)["V+A"]
    row = one.results[(one.results.subject == "text->video") & (one.results.metric == "recall_at_1")].iloc[0]
    assert (interval.n, interval.low, interval.high) == (1, row.low, row.high)


def test_retention_columns_leave_out_towers_that_were_not_trained(summary):
    column = next(one for one in retention_columns(summary) if one.title == "va")
    rows = summary.results[(summary.results.task == "retention") & (summary.results.metric == "score")]
    video = rows[(rows.experiment == "V+T") & (rows.subject == "video:va")]["value"].mean()
    assert summary.intervals(column)["V+T"].value == pytest.approx(video)


def test_failed_runs_count_and_keep_their_reason(summary):
    failed = [row for row in summary.runs if row.state == "failed"]
    assert [row.experiment for row in failed] == ["MCN AT_V"] * 2
    assert "nan at step 14" in failed[0].reason


def test_a_run_that_cannot_be_read_is_a_failed_run(tmp_path):
    write_fake_study(tmp_path, experiments=DEFAULT[:2], seeds=(0,))
    (tmp_path / "v-a-s0" / "results.json").write_text("{ not json", encoding="utf-8")
    broken = summarize(tmp_path).runs[0]
    assert (broken.state, "results.json" in broken.reason) == ("failed", True)


def test_runs_that_have_not_begun_belong_to_their_experiment(tmp_path):
    write_fake_study(tmp_path, experiments=DEFAULT[:1], seeds=(0,))
    waiting = tmp_path / f"{DEFAULT[0].name.lower().replace('+', '-')}-s1"
    waiting.mkdir()
    (waiting / "status.json").write_text('{"state": "pending"}', encoding="utf-8")
    (waiting / "experiment.yaml").write_text(f"experiment: {DEFAULT[0].name}", encoding="utf-8")
    assert summarize(tmp_path).experiments == (DEFAULT[0].name,)


def test_no_runs_are_an_error(tmp_path):
    with pytest.raises(DataError, match="no runs here"):
        summarize(tmp_path)


def test_a_clear_difference_is_clear_and_a_copy_is_none(tmp_path):
    twin = FakeExperiment("V+A again", ("va",))
    write_fake_study(tmp_path, experiments=(DEFAULT[0], DEFAULT[1], twin), seeds=(0, 1, 2), clips=200)
    column = Column("V→A R@1", "retrieval", ("video->audio",), "recall_at_1")
    found = {one.experiment: one for one in differences_from(summarize(tmp_path), [column], "V+A")}
    assert found["V+T"].clear
    assert found["V+T"].test.difference < 0
    assert (found["V+A again"].test.difference, found["V+A again"].clear) == (0.0, False)


def test_those_that_no_test_tells_from_the_best_are_named(summary):
    best, tied = as_good_as_best(summary, RECALL)
    means = {name: interval.value for name, interval in summary.intervals(RECALL).items()}
    assert means[best] == max(means.values())
    assert best not in tied


def test_without_a_test_nobody_is_told_from_the_best(tmp_path):
    write_fake_study(tmp_path, seeds=(0,))
    study = summarize(tmp_path)
    purity = next(column for column in key_columns(study) if column.task == "clusters")
    best, tied = as_good_as_best(study, purity)
    assert tied == study.intervals(purity).keys() - {best} != set()


def test_the_comparison_marks_one_best_per_column(summary):
    view = comparison_view(summary, key_columns(summary), lead="", recipes=True)
    for place in range(len(view.columns)):
        assert [row.cells[place].mark for row in view.rows].count("best") == 1


def test_directions_that_an_experiment_did_not_train_are_left_out(summary):
    asked = {column.subjects[0]: set(summary.intervals(column)) for column in key_columns(summary)}
    assert "V+A" not in asked["text->video"]
    assert "V+A" in asked["video->audio"]
    assert "V+T" not in asked["text->video+audio"]
    assert "V+A+T" in asked["text->video+audio"]
    points = [point for part in answer(summary) for point in part.points if point.startswith("T→V recall at 1")]
    assert points
    assert not any("V+A 0" in point for point in points)
    bars = recall_figure(summary)
    assert bars.numbers["T→V"].isna()["V+A"]
    assert not bars.numbers["T→V"].isna()["V+T"]


def test_untrained_directions_are_left_out_on_other_data_too(summary):
    rows = summary.results
    elsewhere = rows[rows.task == "retrieval"].assign(task="retrieval@other")
    parts = answer(replace(summary, results=pd.concat([rows, elsewhere], ignore_index=True)))
    [said] = [point for part in parts if part.heading == "Zero-shot on other data" for point in part.points]
    assert "V+T 0" in said
    assert "V+A 0" not in said


def test_nobody_below_chance_is_the_best(summary):
    rows = summary.results.copy()
    below = (rows.task == "retention") & (rows.subject.str.endswith(":va")) & (rows.metric == "score")
    rows.loc[below, ["value", "low", "high"]] = -0.25
    low = replace(summary, results=rows)
    [column] = [one for one in retention_columns(low) if one.title == "va"]
    assert as_good_as_best(low, column) == (None, set())
    rows.loc[below & (rows.experiment == "V+A"), "value"] = 0.5
    assert as_good_as_best(replace(summary, results=rows), column) == ("V+A", set())
    assert low.chance(RECALL) == low.level("retrieval", "text->video", "chance_at_1") > 0


def test_the_answer_has_both_parts_and_the_control(summary):
    headings = [part.heading for part in answer(summary)]
    assert headings == ["What each combination retained", "What more terms and the order of stages add", "Control"]


def test_the_answers_numbers_are_those_of_the_results(summary):
    text = " ".join(part.lead for part in answer(summary))
    value = summary.intervals(Column("", "retention", ("video:va",), "score"))["V+A"].value
    assert f"shared with audio {value:.2f} in V+A" in text


def test_a_loss_that_was_not_finite_is_part_of_the_answer(tmp_path):
    write_fake_study(tmp_path, experiments=DEFAULT[3:4], seeds=(0,))
    path = tmp_path / "v-a-t-s0" / "results.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    next(row for row in content["rows"] if row["metric"] == "finite")["value"] = 0.0
    path.write_text(json.dumps({**content, "outcome": {"finite": False, "reason": "cluster is nan"}}), encoding="utf-8")
    summary = summarize(tmp_path)
    assert any("became NaN or infinite in 1 of 1" in part.lead for part in answer(summary))
    assert outcome_table(summary).loc["V+A+T", "first non-finite"] == "cluster is nan"


@pytest.mark.parametrize(
    ("recipe", "family"),
    [
        (Recipe(("va",)), ONE_PAIR),
        (Recipe(ALL, terms=("contrast", "cluster")), MORE_TERMS),
        (Recipe(ALL, stages=("VA", "VAT")), STAGED),
        (Recipe(ALL, shuffled=True), CONTROL),
    ],
)
def test_recipes_know_their_family(recipe, family):
    assert recipe.family == family


def test_a_stage_without_pairs_compares_all_that_are_allowed():
    stages = [{"modalities": ["video", "audio", "text"], "pairs": None}]
    assert recipe_of({"stages": stages, "pairs": ["vt", "at"]}).pairs == ("vt", "at")


def test_groups_of_own_media_have_no_letters_to_go_by():
    assert factor_groups(["video:command", "video:vat.object", "audio:vat"]) == ["vat", "command"]
    assert carriers("command") == ("video", "audio", "text")


def test_run_folders_know_their_experiment_and_seed(study):
    table = list_runs(study)
    assert len(table) == 20
    run = RunFolder(study / "v-a-t-disjoint-s1")
    assert (run.experiment, run.seed, run.finished) == ("V+A+T disjoint", 1, True)


def test_a_metrics_line_that_a_crash_cut_off_is_left_out(tmp_path):
    write_fake_study(tmp_path, experiments=DEFAULT[:1], seeds=(0,), steps=5)
    path = tmp_path / "v-a-s0" / "metrics.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"step": 6, "lo', encoding="utf-8")
    assert len(RunFolder(path.parent).metrics()) == 5


def test_a_broken_line_inside_the_metrics_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2 is not JSON"):
        RunFolder(tmp_path).metrics()


def test_a_state_that_nobody_knows_is_named(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "done"}', encoding="utf-8")
    with pytest.raises(DataError, match="'done'"):
        _ = RunFolder(tmp_path).status


def test_the_tradeoff_holds_those_that_trained_what_is_asked(summary):
    names = set(tradeoff_figure(summary).numbers.index)
    assert "V+T" in names
    assert "V+A" not in names


@pytest.fixture(scope="module")
def one_pair(tmp_path_factory):
    """A study whose one experiment trained video with text."""
    return summarize(write_fake_study(tmp_path_factory.mktemp("pair"), experiments=(DEFAULT[1],), seeds=(0, 1)))


def test_directions_and_factor_groups_that_no_experiment_trained_have_no_column_and_no_panel(one_pair):
    assert [column.title for column in key_columns(one_pair) if "R@1" in column.title] == ["T→V R@1"]
    assert "a" not in [column.title for column in retention_columns(one_pair)]
    assert {"v", "t"} <= {column.title for column in retention_columns(one_pair)}
    titles = {note.text for note in recall_figure(one_pair).plot.layout.annotations}
    assert titles == {"T→V", "V→T"}


def test_rows_of_panels_are_filled_evenly_and_long_names_take_a_second_line():
    assert [evenly(count, most=5) for count in (1, 5, 6, 7, 10, 11)] == [1, 5, 3, 4, 5, 4]
    assert panel_titles(["MCN", "V+A"], across=5) == (["MCN", "V+A"], 0)
    titles, more_px = panel_titles(["margin loss with <b>names</b> of its own and of others", "MCN"], across=4)
    assert titles[0].startswith("margin loss with<br>&lt;b&gt;names")
    assert titles[0].endswith("…")
    assert more_px > 0


def test_whiskers_end_at_the_least_and_the_most_that_a_value_can_be():
    wide, narrow = Interval(0.9, -0.1, 1.3, 3), Interval(0.5, 0.4, 0.6, 3)
    drawn = whiskers([wide, narrow, Interval(0.2, None, None, 1)], least=0.0, most=1.0)
    assert np.allclose(drawn["array"], [0.1, 0.1, 0.0])
    assert np.allclose(drawn["arrayminus"], [0.9, 0.1, 0.0])
    assert np.allclose(whiskers([wide])["array"], [0.4])
    assert np.allclose(whiskers([wide])["arrayminus"], [1.0])


def test_bars_below_zero_are_drawn_whole(summary):
    below = replace(summary, results=summary.results.assign(value=-0.3, low=np.nan, high=np.nan))
    column = Column("v in video", "retention", ("video:v",), "score")
    shown = {"name": "n", "title": "t", "caption": "c", "unit": "score", "suffix": ""}
    low, high = bars_figure(below, [column], **shown, least=-1.0).plot.layout.xaxis.range
    assert (low, high) == (pytest.approx(-0.315), pytest.approx(0.0525))
    assert bars_figure(summary, [RECALL], **shown).plot.layout.xaxis.range[0] == 0
    assert bars_figure(summary, [], **shown) is None


def test_whiskers_of_the_tradeoff_reach_to_both_ends_of_an_uneven_interval(tmp_path):
    one = summarize(write_fake_study(tmp_path, experiments=(DEFAULT[1],), seeds=(0,)))
    uneven = one.results.assign(low=one.results.value - 0.02, high=one.results.value + 0.05)
    (arms,) = [trace.error_x for trace in tradeoff_figure(replace(one, results=uneven)).plot.data]
    assert (arms.array, arms.arrayminus) == (pytest.approx([0.05]), pytest.approx([0.02]))
