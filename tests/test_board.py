"""The study board: its rows are those of the report, and what it says of errors is what the runs say."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcnlab.errors import ConfigError, DataError
from mcnlab.reporting import board as board_module
from mcnlab.reporting.board import Board
from mcnlab.reporting.board_figures import differences_figure, parallel_figure
from mcnlab.reporting.board_rows import differences, experiment_rows, run_rows, summarize_all
from mcnlab.reporting.comparison import as_good_as_best, differences_from
from mcnlab.reporting.retrieval_errors import confusion, returned_first, shown_errors
from mcnlab.runs import RunFolder, list_runs
from tests.fake_study import HOSTILE_CAPTION, SMALL, write_fake_study


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "runs"
    return write_fake_study(folder, experiments=SMALL, seeds=(0, 1), clips=50, failed=("V+T",))


@pytest.fixture(scope="module")
def made(study_dir):
    return Board(study_dir)


def test_experiments_carry_the_marks_of_the_report(made):
    rows = {row["name"]: row for row in experiment_rows(made.study, made.columns)}
    assert list(rows) == list(made.study.experiments)
    for column in made.columns:
        best, tied = as_good_as_best(made.study, column)
        marked = {name: row["cells"].get(column.title, {}).get("mark", "") for name, row in rows.items()}
        assert {name for name, mark in marked.items() if mark == "best"} == {best}
        assert {name for name, mark in marked.items() if mark == "tied"} == tied
    assert (rows["V+T"]["state"], rows["V+T"]["seed"], rows["V+T"]["cells"]) == ("failed", "0 of 2", {})


def test_runs_are_marked_by_their_own_interval(made):
    rows = run_rows(made.study, made.columns)
    assert len(rows) == 2 * len(SMALL)
    for column in made.columns[:2]:
        cells = [row["cells"][column.title] for row in rows if column.title in row["cells"]]
        top = max(cell["v"] for cell in cells)
        for cell in cells:
            tied = cell["v"] < top and cell["high"] is not None and cell["high"] >= top
            assert cell["mark"] == ("best" if cell["v"] == top else "tied" if tied else "")


def test_differences_are_those_that_the_report_tests(made):
    told = differences(made.study, made.columns, "V+A")
    tested = differences_from(made.study, made.columns, "V+A")
    assert sum(map(len, told.values())) == len(tested) > 0
    for one in tested:
        cell = told[one.experiment][one.column.title]
        assert (cell["d"], cell["p"], cell["clear"]) == (one.test.difference, one.p_corrected, one.clear)


def test_all_that_the_page_draws_is_plain(made):
    view = made.view()
    json.dumps(view, allow_nan=False)
    assert [len(row["spark"]) for row in view["runs"]] == [
        40 if row["state"] == "finished" else 13 for row in view["runs"]
    ]
    assert view["asked"]["MCN, seed 1"] == [one["name"] for one in view["directions"]]
    assert "V+T, seed 0" not in view["asked"]


def test_several_studies_are_shown_as_one(study_dir, tmp_path):
    other = write_fake_study(tmp_path / "others", experiments=SMALL[:1], seeds=(0,), clips=50)
    both = Board([study_dir, other])
    assert both.study.experiments == (*(f"runs: {one.name}" for one in made_order(study_dir)), "others: V+A")
    assert both.run("others: V+A, seed 0").path == other / "v-a-s0"
    assert len(both.view()["runs"]) == 2 * len(SMALL) + 1
    with pytest.raises(DataError, match="study folders must differ in their names, got runs, runs"):
        summarize_all([study_dir, study_dir])
    with pytest.raises(DataError, match="at least one folder"):
        summarize_all([])


def made_order(study_dir):
    names = {one.name: one for one in SMALL}
    return [names[name] for name in summarize_all(study_dir).experiments]


def test_the_four_counts_are_all_queries(made):
    first, second = made.run("MCN, seed 0"), made.run("V+A, seed 0")
    found = confusion(first, second, "text->video", k=5)
    ranks = [run.ranks()["text->video"].to_numpy(float) for run in (first, second)]
    right = [one <= 5 for one in ranks]
    assert found.queries == 50
    assert found.only_first == int((right[0] & ~right[1]).sum()) == len(found.table)
    assert found.only_second == int((right[1] & ~right[0]).sum()) > 0 or found.only_first > 0
    assert found.table["second"].is_monotonic_decreasing
    assert confusion(second, first, "text->video", k=5).only_first == found.only_second


@pytest.mark.parametrize("direction", ["text->video", "text->video+audio"])
def test_what_came_instead_is_first_in_the_order_of_scores(made, direction):
    run = made.run("MCN, seed 0")
    ids, ranks = run.clip_ids(), run.ranks()[direction].to_numpy(float)
    wrong = [clip for clip, rank in zip(ids, ranks, strict=True) if rank > 1]
    right = [clip for clip, rank in zip(ids, ranks, strict=True) if rank == 1]
    assert wrong
    assert right
    assert all(instead != clip for clip, instead in returned_first(run, direction, wrong).items())
    assert all(instead == clip for clip, instead in returned_first(run, direction, right).items())


def test_errors_are_shown_with_picture_caption_and_what_came_instead(made):
    told = shown_errors(made.run("MCN, seed 0"), made.run("V+A, seed 0"), "text->video", most=3)
    assert 0 < len(told["rows"]) <= 3
    for row in told["rows"]:
        assert (row["first"], row["second"] > 1) == (1, True)
        assert row["clip"]["picture"].startswith("data:image/png;base64,")
        assert row["instead"]["id"] != row["clip"]["id"]
    captions = made.run("MCN, seed 0").clips()["caption"]
    assert HOSTILE_CAPTION in set(captions)  # the page takes captions as text


def test_counts_over_seeds_are_shares(made):
    counts = made.error_counts("text->video")
    assert made.baseline not in counts.index
    assert "V+T" not in counts.index
    assert "V+A" not in counts.index  # it trained no caption
    assert np.allclose(counts.sum(axis=1), 1, atol=1e-3)
    assert made.error_counts("").empty


def test_what_is_not_on_the_board_is_refused(made, study_dir):
    with pytest.raises(ConfigError, match="baseline: no experiment 'nobody'; there are V"):
        Board(study_dir, baseline="nobody")
    with pytest.raises(ConfigError, match="no run 'MCN, seed 9'"):
        made.run("MCN, seed 9")
    with pytest.raises(DataError, match="no direction 'video->nothing', only text->video"):
        made.errors("MCN, seed 0", "V+A, seed 0", "video->nothing")
    with pytest.raises(DataError, match=r"notebook\.ipynb: no such notebook"):
        made.page_of("MCN, seed 0")


def test_the_page_is_answered_also_when_something_is_wrong(study_dir, monkeypatch):
    shown, sent = [], []
    monkeypatch.setattr(board_module, "somebody_looks", lambda: True)
    monkeypatch.setattr(board_module, "display", shown.append)

    class Clip:
        wav = b"RIFF"

    board = board_module.board(study_dir, media=lambda path, clip: Clip())
    [widget] = shown
    monkeypatch.setattr(widget, "send", sent.append)
    for content in ({"kind": "baseline", "number": 1, "name": "V+A"}, {"kind": "baseline", "number": 2, "name": "?"},
                    {"kind": "sound", "number": 3, "run": "MCN, seed 0", "clip": "any"},
                    {"kind": "errors", "number": 4, "first": "MCN, seed 0", "second": "V+A, seed 0",
                     "direction": "text->video", "k": "5"},
                    {"kind": "refresh", "number": 5}):  # fmt: skip
        widget._handle_custom_msg(content, [])
    assert [answer["number"] for answer in sent] == [1, 2, 3, 4, 5]
    assert sent[1]["problem"] == "baseline: no experiment '?'"
    assert sent[2]["sound"] == "data:audio/wav;base64,UklGRg=="
    assert sum(sent[3]["errors"]["counts"].values()) == 50
    assert (board.baseline, widget.view["baseline"]) == ("V+A", "V+A")
    assert "V+A" not in widget.view["differences"]


def test_figures_stay_on_a_page(made):
    lines = parallel_figure(made.study, made.columns)
    assert [trace.name for trace in lines.plot.data] == list(made.study.experiments)
    points = differences_figure(made.study, made.columns[0], baseline="V+A+T")
    assert points.title.startswith(("0 of", "1 of", "2 of", "3 of"))
    assert len(points.numbers) == len(differences(made.study, made.columns[:1], "V+A+T"))
    assert parallel_figure(made.study, made.columns[:1]) is None


def test_words_tell_what_needs_a_look(made):
    words = " ".join(made.in_words())
    assert "8 of 10 runs are finished." in words
    assert "To be looked at: V+T, seed 0, V+T, seed 1." in words


def test_runs_are_listed_with_chosen_results(study_dir):
    name = "retrieval text->video recall_at_1"
    table = list_runs(study_dir, metrics=[name])
    assert list(table.columns) == ["experiment", "seed", "state", "reason", "steps", "train_s", "path", name]
    row = table[(table["experiment"] == "MCN") & (table["seed"] == 1)].iloc[0]
    results = RunFolder(Path(row["path"])).results().set_index(["task", "subject", "metric"])["value"]
    assert row[name] == results["retrieval", "text->video", "recall_at_1"]
    assert pd.isna(table[table["state"] == "failed"][name]).all()
    with pytest.raises(DataError, match="no run has 'retrieval recall'; metrics are TASK SUBJECT METRIC"):
        list_runs(study_dir, metrics=["retrieval recall"])
