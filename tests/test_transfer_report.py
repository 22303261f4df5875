"""Figures, tables, page section and notebook of transfer, from invented runs whose numbers are known."""

import json

import pytest

from mcnlab.reporting.notebooks import execute, notebook_path
from mcnlab.reporting.pages import index_page
from mcnlab.reporting.summary import summarize
from mcnlab.reporting.transfer import (
    few_shot_figure,
    few_shot_table,
    probe_figure,
    transfer_in_words,
    transfer_table,
    transfer_tasks,
)
from mcnlab.study import STUDY_NOTEBOOKS, TRANSFER_NOTEBOOK, notebooks_of
from tests.fake_study import SMALL, write_fake_study

CURVE = {1: 0.1, 5: 0.3, 20: 0.5}
BEST = "V+A+T"


def transferred(study, *, several=False, other=True):
    """Add what transfer leaves to invented runs; one experiment is a tenth above the others, seeds differ by 0.01."""
    main = "map" if several else "top1"
    for folder in sorted(path for path in study.iterdir() if (path / "results.json").exists()):
        told = json.loads((folder / "results.json").read_text())
        own = {key: told["rows"][0][key] for key in ("experiment", "seed")}
        better = 0.1 * (own["experiment"] == BEST) + 0.01 * own["seed"]
        numbers = {f"linear_{main}": 0.6, f"svm_{main}": 0.55} | {f"few_{n}": value for n, value in CURVE.items()}
        for task in ("transfer", "transfer@ucf101", "finetune") if other else ("transfer",):
            given = {f"tuned_{main}": 0.65} if task == "finetune" else numbers
            for subject in ("audio:backbone", "audio"):
                for metric, value in given.items():
                    levels = {"": value + better, "chance_": 0.05, "untrained_": value - 0.2}
                    for level, number in levels.items():
                        row = {**own, "task": task, "subject": subject, "metric": level + metric, "value": number}
                        told["rows"].append({**row, "low": number - 0.02, "high": number + 0.02})
        (folder / "results.json").write_text(json.dumps(told))
        with (folder / "settings.yaml").open("a") as file:
            file.write("evaluation: {tasks: [retrieval, transfer]}\n")
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "runs"
    return transferred(write_fake_study(folder, experiments=SMALL, seeds=(0, 1), clips=40))


def test_every_store_is_told_by_itself(study):
    assert transfer_tasks(summarize(study)) == ["transfer", "finetune", "transfer@ucf101"]


def test_bars_stand_beside_chance_and_the_tower_before_training(study):
    figure = probe_figure(summarize(study), "transfer@ucf101")
    assert "of ucf101" in figure.title
    assert list(figure.numbers.columns) == ["audio, backbone", "audio"]
    assert figure.numbers.loc[BEST, "audio"].startswith("0.705 ")
    diamonds = [trace for trace in figure.plot.data if trace.type == "scatter"]
    assert list(diamonds[0].x) == pytest.approx([0.4] * len(SMALL))
    assert [shape.x0 for shape in figure.plot.layout.shapes] == pytest.approx([0.05, 0.05])


def test_fine_tuned_towers_have_bars_and_no_curve(study):
    summary = summarize(study)
    figure = probe_figure(summary, "finetune")
    assert "fine-tuned" in figure.title
    assert figure.numbers.loc[BEST, "audio"].startswith("0.755 ")
    assert few_shot_figure(summary, "finetune") is None


def test_the_curve_has_a_line_before_and_after_training_with_intervals(study):
    figure = few_shot_figure(summarize(study), "transfer")
    lines = {trace.name: trace for trace in figure.plot.data if trace.xaxis == "x"}
    after, before = lines[BEST], lines[f"{BEST}, before training"]
    assert list(after.x) == [1, 5, 20]
    assert list(after.y) == pytest.approx([0.205, 0.405, 0.605])
    assert list(before.y) == pytest.approx([-0.1, 0.1, 0.3])
    assert (after.line.dash, before.line.dash) == ("solid", "dot")
    assert after.error_y.array[0] == pytest.approx(12.706 * 0.005, abs=1e-3)  # Student's t of two seeds
    colors = [line.line.color for name, line in lines.items() if "before" not in name]
    assert len(set(colors)) == len(colors)
    assert figure.plot.layout.xaxis.type == "log"


def test_tables_have_what_to_compare_with(study):
    summary = summarize(study)
    table = transfer_table(summary, "transfer")
    assert list(table.columns) == ["linear", "SVM"]
    assert table.loc[f"audio: {BEST}", "linear"].startswith("0.705 [")
    assert table.loc["audio: V+A, before training", "SVM"].startswith("0.350")
    assert table.loc["audio: chance", "linear"] == "0.050"
    few = few_shot_table(summary, "transfer")
    assert list(few.columns) == ["1", "5", "20"]
    assert few.loc[f"audio, backbone: {BEST}", "20"].startswith("0.605")


def test_the_answer_names_the_best_and_says_whether_training_helped(study):
    said = transfer_in_words(summarize(study), "transfer")
    assert len(said) == 2
    assert said[1].startswith(f"linear probe on audio: {BEST} 0.705 [")
    assert "before training 0.400" in said[1]
    assert "(training helped)" in said[1]
    assert "chance 0.050" in said[1]


def test_several_labels_are_told_as_precision(tmp_path):
    folder = write_fake_study(tmp_path / "runs", experiments=SMALL[:1], seeds=(0,), clips=40)
    summary = summarize(transferred(folder, several=True, other=False))
    assert "Mean average precision" in probe_figure(summary, "transfer").caption
    assert list(transfer_table(summary, "transfer").columns) == ["linear, mAP", "SVM, mAP"]
    assert "0.600 [0.580, 0.620]" in transfer_in_words(summary, "transfer")[0]  # one seed: its own interval


def test_the_page_of_a_study_has_a_part_for_transfer(study, tmp_path):
    page = index_page(summarize(study))
    assert 'id="transfer"' in page
    assert "How many examples the classes need of ucf101" in page
    assert "All measures of fine-tuning on the own store" in page
    bare = write_fake_study(tmp_path / "runs", experiments=SMALL[:1], seeds=(0,), clips=40)
    assert 'id="transfer"' not in index_page(summarize(bare))


def test_a_study_that_measured_transfer_gets_the_notebook(study, tmp_path):
    assert notebooks_of(study) == (*STUDY_NOTEBOOKS, TRANSFER_NOTEBOOK)


@pytest.mark.notebook
def test_the_notebook_records_the_probes_of_the_runs(study, tmp_path):
    out = tmp_path / "numbers.json"
    execute(notebook_path(TRANSFER_NOTEBOOK), tmp_path / "n.ipynb", {"study_dir": str(study), "out": str(out)})
    assert json.loads(out.read_text())[f"transfer@ucf101 audio:backbone {BEST}"] == pytest.approx(0.705)
