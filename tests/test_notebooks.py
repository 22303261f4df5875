"""The notebooks of the repository: their form, and what running one refuses and keeps."""

import ast
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mcnlab.errors import ConfigError, RunError
from mcnlab.reporting import show as shown_by
from mcnlab.reporting.live import LiveCurves, somebody_looks
from mcnlab.reporting.notebooks import declared_parameters, execute, notebook_path, record, settings_path
from mcnlab.reporting.show import NEEDS, say, show, show_table
from tests.fake_steps import search_steps
from tests.fake_study import SMALL, write_fake_study

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
OF_A_STUDY = [
    pytest.param(path, marks=pytest.mark.slow) if path.name[:2] == "02" or path.stem == "00_explore" else path
    for path in NOTEBOOKS
    if path.name[:2] in ("02", "03", "04", "05", "06", "10") or path.stem in ("00_board", "00_explore")
]
named = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def write(path, *sources):
    cells = [new_code_cell(sources[0], metadata={"tags": ["parameters"]}, id="parameters")]
    cells += [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources[1:])]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_there_are_notebooks_that_ask_a_question():
    numbers = [path.name[:2] for path in NOTEBOOKS if path.name[:2] != "00"]
    assert numbers[:6] == ["01", "02", "03", "04", "05", "06"]


@named
def test_a_notebook_is_stored_without_outputs_and_with_cell_names(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
    assert all(cell.id.replace("-", "").isalpha() for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"


@named
def test_a_notebook_is_short_and_defines_nothing(path):
    cells = code_cells(path)
    assert len(cells) <= 12
    for cell in cells:
        assert len(cell.source.splitlines()) <= 15
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda}


@named
def test_only_the_first_code_cell_is_tagged_parameters_and_each_line_says_what_it_is(path):
    cells = code_cells(path)
    assert [cell.metadata.get("tags", []) for cell in cells] == [["parameters"], *[[] for _ in cells[1:]]]
    assert all("  # " in line for line in cells[0].source.splitlines())


@named
def test_the_last_cell_records_the_numbers(path):
    assert code_cells(path)[-1].source.splitlines()[-1].startswith("record(out,")


@pytest.mark.notebook
@pytest.mark.parametrize("path", OF_A_STUDY, ids=lambda path: path.stem)
def test_a_notebook_of_a_study_runs_and_records(path, tmp_path):
    study = search_steps(write_fake_study(tmp_path / "runs", experiments=SMALL, seeds=(0, 1), clips=40))
    out = tmp_path / "numbers.json"
    execute(path, tmp_path / "done.ipynb", {"study_dir": str(study), "out": str(out)})
    numbers = json.loads(out.read_text(encoding="utf-8"))
    assert numbers
    assert all(isinstance(value, int | float | str) for value in numbers.values())


@pytest.mark.notebook
def test_recorded_recall_is_that_of_the_runs(tmp_path):
    study = write_fake_study(tmp_path / "runs", experiments=SMALL[:2], seeds=(0,), clips=40)
    out = tmp_path / "numbers.json"
    execute(
        notebook_path("03_is_the_right_clip_first"), tmp_path / "n.ipynb", {"study_dir": str(study), "out": str(out)}
    )
    rows = json.loads((study / "v-t-s0" / "results.json").read_text(encoding="utf-8"))["rows"]
    [value] = [row["value"] for row in rows if (row["subject"], row["metric"]) == ("text->video", "recall_at_1")]
    assert json.loads(out.read_text(encoding="utf-8"))["recall_at_1 text->video V+T"] == pytest.approx(value)


@pytest.mark.notebook
@pytest.mark.slow
def test_training_a_tiny_combination_records_its_recall(tmp_path):
    out = tmp_path / "numbers.json"
    values = {"run_dir": str(tmp_path / "run"), "out": str(out)}
    execute(notebook_path("01_train_a_combination"), tmp_path / "run" / "notebook.ipynb", values)
    numbers = json.loads(out.read_text(encoding="utf-8"))
    assert numbers["steps"] == 60
    assert 0 <= numbers["recall_at_1 text->video"] <= 1


@pytest.mark.notebook
@pytest.mark.slow
def test_a_training_that_is_watched_ends_by_itself_where_nobody_looks(tmp_path):
    out = tmp_path / "numbers.json"
    executed = execute(notebook_path("00_watch"), tmp_path / "n.ipynb", {"out": str(out)})
    numbers = json.loads(out.read_text(encoding="utf-8"))
    assert (numbers["state"], numbers["finite"]) == ("finished", "all terms finite")
    assert numbers["step"] == numbers["total"] > 0
    kept = executed.read_text(encoding="utf-8")
    assert kept.count("application/vnd.plotly.v1+json") == 2  # curves and recall
    assert "application/vnd.jupyter.widget-view+json" not in kept


@pytest.mark.notebook
def test_values_arrive_equal_in_type_and_value(tmp_path):
    values = {"a": 'it\'s "$x" {b}\n\\', "b": [1, 2.5, None, True], "c": {"d": -0.0}}
    source = write(tmp_path / "n.ipynb", "a = b = c = None", "import json; print(json.dumps([a, b, c]))")
    seen = []
    out = execute(source, tmp_path / "o{x}.ipynb", values, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]  # parameters, those that were given, and the one cell
    done = nbformat.read(out, as_version=4)
    assert json.loads(done.cells[-1].outputs[0].text) == list(values.values())


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("code", "said"),
    [("1 / 0", "'cell-0': ZeroDivisionError: division by zero"), ("raise SystemExit(0)", "'cell-0': SystemExit: 0"),
     ("import os; os._exit(1)", "kernel was killed")],
)  # fmt: skip
def test_a_cell_that_fails_is_named_and_the_notebook_is_kept(tmp_path, code, said):
    source = write(tmp_path / "n.ipynb", "x = 1", code, "print('never')")
    with pytest.raises(RunError, match=r"n\.ipynb") as caught:
        execute(source, tmp_path / "done.ipynb", {})
    assert said in str(caught.value)
    kept = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    assert not any("never" in str(cell.get("outputs")) for cell in kept.cells)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.ipynb", "n.ipynb"]


@pytest.mark.parametrize(
    ("values", "said"),
    [({"y": 1}, "no parameter 'y'; it has x"), ({"x ": 1}, "no parameter"), ({"class": 1}, "no parameter"),
     ({"ｘ": 1}, "no parameter"), ({"x": (1,)}, "must be a JSON value"), ({"x": float("nan")}, "must be a JSON value"),
     ({"x": np.float64(1)}, "must be a JSON value")],
)  # fmt: skip
def test_what_the_notebook_does_not_declare_is_refused(tmp_path, values, said):
    source = write(tmp_path / "n.ipynb", "x = 1", "x")
    with pytest.raises(ConfigError, match=said.replace("'", ".")):
        execute(source, tmp_path / "done.ipynb", values)
    assert not (tmp_path / "done.ipynb").exists()


def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("x = 1")]), tmp_path / "n.ipynb")
    with pytest.raises(ConfigError, match="expected one cell tagged 'parameters', found 0"):
        declared_parameters(tmp_path / "n.ipynb")


def test_parameters_are_told_with_their_defaults():
    declared = declared_parameters(notebook_path("01_train_a_combination"))
    assert declared["seed"] == "0"
    assert next(iter(declared)) == "experiment"


def test_a_notebook_that_is_not_ours_is_named():
    with pytest.raises(ConfigError, match=r"06_nothing\.ipynb"):
        notebook_path("06_nothing")


def test_settings_are_found_from_the_folder_of_notebooks_too(monkeypatch):
    monkeypatch.chdir(FOLDER)
    assert settings_path("studies/tiny_experiment.yaml").name == "tiny_experiment.yaml"


def test_numbers_of_numpy_are_recorded_as_plain_ones(tmp_path):
    table = record(tmp_path / "n.json", {"a": np.float32(0.5), "b": float("nan"), "c": "word"})
    assert json.loads((tmp_path / "n.json").read_text(encoding="utf-8")) == {"a": 0.5, "b": None, "c": "word"}
    assert list(table.index) == ["a", "b", "c"]


class Step:
    def __init__(self, step, loss, **terms):
        self.step, self.loss, self.terms = step, loss, terms


def test_nobody_looks_outside_of_a_notebook():
    assert not somebody_looks()


def test_live_curves_keep_terms_that_begin_later_in_step():
    curves = LiveCurves(watched=False)
    for step in (Step(1, 3.0, contrast=3.0), Step(2, 2.5, contrast=2.0, cluster=0.5)):
        curves(step)
    assert curves.steps == [1, 2]
    assert np.isnan(curves.values["cluster"][0])
    assert curves.values["cluster"][1] == 0.5


def test_live_curves_draw_where_somebody_looks():
    curves = LiveCurves(every_s=0.0, watched=True)
    curves(Step(1, 3.0, contrast=3.0))
    curves(Step(2, 2.0, contrast=2.0))
    [panel] = curves._widget.view["panels"]
    assert [line["name"] for line in panel["lines"]] == ["loss", "contrast"]
    assert (panel["lines"][0]["x"], panel["lines"][0]["y"]) == ([1.0, 2.0], [3.0, 2.0])


ADDRESSES = (
    "s3://bucket/n.ipynb",
    "http://x.org/n.ipynb",
    "https://x.org/n.ipynb",
    "gs://b/n.ipynb",
    "adl://b/n.ipynb",
)


@pytest.mark.parametrize("address", [*ADDRESSES, *map(Path, ADDRESSES[:2])])
def test_an_address_of_the_network_is_refused_before_papermill_sees_it(address, tmp_path, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("papermill was called"))
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "n.ipynb"
    parameters = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[parameters]), source)
    before = sorted(tmp_path.rglob("*"))
    for notebook, out, options in (
        (address, "done.ipynb", {}),
        (source, address, {}),
        (source, "done.ipynb", {"working_dir": address}),
    ):
        with pytest.raises(ConfigError, match="is an address, expected a path on this machine"):
            execute(notebook, out, {}, **options)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("needs", "wanted"),
    [
        ("growth", "studies/number_of_views.yaml"),
        ("bound", "bound in evaluation.tasks"),
        ("retention", "factor:NAME"),
    ],
)
def test_a_figure_that_is_not_there_says_what_was_not_measured_and_what_it_takes(needs, wanted, monkeypatch):
    told = []
    monkeypatch.setattr("mcnlab.reporting.show.display", lambda shown: told.append(shown.data))
    show(None, needs=needs)
    assert "Nothing to draw here: " in told[0]
    assert "not measured" in told[0]
    assert wanted in told[0]
    say()
    assert "There is no answer here" in told[1]
    show_table(pd.DataFrame(index=["MCN"]))
    assert len(told) == 2


@named
def test_a_notebook_asks_only_for_figures_whose_needs_are_known(path):
    asked = re.findall(r'needs=\\?"(\w+)\\?"', path.read_text(encoding="utf-8"))
    assert set(asked) <= set(NEEDS)


def test_dollar_signs_are_not_taken_for_mathematics(monkeypatch):
    shown = []
    monkeypatch.setattr(shown_by, "display", lambda output: shown.append(output.data))
    shown_by.say("$x$ costs $y$")
    shown_by.show_table(pd.DataFrame({"$a$": ["$b$"]}))
    shown_by.show_folded(pd.DataFrame({"$a$": ["$b$"]}), "$c$")
    shown.append(record("", {"$x$": 1.0})._repr_html_())
    assert len(shown) == 4
    assert all("mathjax_ignore" in one.split("$")[0] for one in shown)
