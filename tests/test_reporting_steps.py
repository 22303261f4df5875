"""Figures and notebook of steps in time, from invented runs whose numbers are known."""

import json

import pytest

from mcnlab.reporting.notebooks import execute, notebook_path
from mcnlab.reporting.steps import (
    best_example,
    scored_in_words,
    step_recall_figure,
    step_scores_figure,
    step_subjects,
    step_table,
)
from mcnlab.reporting.summary import summarize
from mcnlab.study import STEPS_NOTEBOOK, STUDY_NOTEBOOKS, notebooks_of
from tests.fake_steps import search_steps
from tests.fake_study import SMALL, write_fake_study


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "runs"
    return search_steps(write_fake_study(folder, experiments=SMALL, seeds=(0, 1), clips=40))


def test_bars_show_the_recall_of_every_experiment(searched):
    figure = step_recall_figure(summarize(searched))
    assert list(figure.numbers.columns) == ["T→V", "T→V+A"]  # groups of videos have no bars of their own
    assert figure.numbers.loc["V+A+T", "T→V"].startswith("0.600")
    assert figure.numbers.loc["V+T", "T→V"].startswith("0.500")
    drawn = [trace for trace in figure.plot.data if trace.type == "bar"]
    assert sorted(drawn[0].x)[-1] == pytest.approx(0.6)
    diamonds = [trace for trace in figure.plot.data if trace.type == "scatter"]
    assert set(diamonds[0].x) == {0.3}
    assert {shape.x0 for shape in figure.plot.layout.shapes} == {0.25}


def test_the_axis_reaches_a_chance_that_no_bar_reaches(searched, tmp_path):
    study = search_steps(write_fake_study(tmp_path / "runs", experiments=SMALL[:1], seeds=(0,), clips=40))
    [folder] = [path for path in study.iterdir() if (path / "results.json").exists()]
    told = json.loads((folder / "results.json").read_text())
    for row in told["rows"]:
        if row["metric"] == "chance_step_recall":
            row["value"] = 0.95
    (folder / "results.json").write_text(json.dumps(told))
    figure = step_recall_figure(summarize(study))
    assert figure.plot.layout.xaxis.range[1] > 0.95


def test_the_table_has_what_to_compare_with(searched):
    table = step_table(summarize(searched))
    assert table.loc["T→V: V+A+T", "unordered"] == 0.6
    assert table.loc["T→V: chance: random scores", "step recall"] == 0.25
    assert table.loc["T→V+A: evenly spread", "IoU"] == 0.75
    assert table.loc["T→V: before training", "mAP"] == 0.3


def test_the_picture_shows_truth_and_what_was_found_in_seconds(searched):
    example = best_example(summarize(searched))
    assert (example.experiment, example.seed, example.video) == ("V+A+T", 0, "video1")
    figure = step_scores_figure(example)
    heat, boxes, marks = figure.plot.data
    assert (heat.z.shape, list(heat.x[:2])) == ((2, 8), [0.25, 0.75])
    assert list(marks.x) == [0.75, 3.25]
    assert [value for value in boxes.x if value is not None][:5] == [0.0, 1.0, 1.0, 0.0, 0.0]
    assert "1 of 2 steps found in video1, by V+A+T" in figure.title
    assert "<script>" not in "".join(figure.plot.layout.yaxis.ticktext)
    assert list(figure.numbers["true (s)"]) == ["0.0 to 1.0", "1.0 to 2.0"]


def test_videos_that_were_not_scored_are_named(searched):
    said = scored_in_words(summarize(searched))
    assert said == ["7 videos were searched.", "1 not scored: no annotated step (video9)."]


def test_a_study_that_was_not_searched_has_nothing_to_draw(tmp_path):
    study = write_fake_study(tmp_path / "runs", experiments=SMALL[:1], seeds=(0,), clips=40)
    summary = summarize(study)
    assert step_subjects(summary) == []
    assert step_recall_figure(summary) is None
    assert step_scores_figure(best_example(summary)) is None
    assert len(step_table(summary)) == 0
    assert scored_in_words(summary) == []
    assert notebooks_of(study) == STUDY_NOTEBOOKS


def test_a_study_that_was_searched_gets_the_notebook(searched):
    assert notebooks_of(searched) == (*STUDY_NOTEBOOKS, STEPS_NOTEBOOK)


@pytest.mark.notebook
def test_the_notebook_records_the_recall_of_the_runs(searched, tmp_path):
    out = tmp_path / "numbers.json"
    execute(notebook_path(STEPS_NOTEBOOK), tmp_path / "n.ipynb", {"study_dir": str(searched), "out": str(out)})
    assert json.loads(out.read_text())["step_recall_unordered text->video V+A+T"] == pytest.approx(0.6)
