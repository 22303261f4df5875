"""Executed notebooks that are not whole are told from those that are."""

import json

import nbformat
import pytest

from mcnlab.reporting.executed import notebook_problems, run_notebook_problems
from mcnlab.reporting.notebooks import execute
from tests.faults.half_run import ERROR


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A small notebook that ran to its end, in a folder like that of a run."""
    folder = tmp_path_factory.mktemp("executed") / "a-s0"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell('run_dir = ""\nseed = 0'), nbformat.v4.new_code_cell("seed")]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder.parent / "in.ipynb")
    execute(folder.parent / "in.ipynb", folder / "notebook.ipynb", {"run_dir": str(folder), "seed": 0})
    return folder


def test_a_whole_notebook_has_no_problem(executed):
    assert run_notebook_problems(executed) == []
    assert notebook_problems(executed / "none.ipynb") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values["cells"][-1].update(execution_count=None), "was not executed"),
        (lambda values: values["cells"][-1]["outputs"].append(ERROR), "ValueError: planted"),
        (lambda values: values["cells"][-1].update(outputs=[]), "lost its outputs"),
        (lambda values: values["cells"].pop(), "is missing"),
        (lambda values: values.update(nbformat="4"), "not a notebook"),
        (lambda values: values["metadata"]["papermill"]["parameters"].update(seed=1), "is that of a-s0, seed 1"),
    ],
)
def test_a_damage_is_named(change, said, executed, tmp_path):
    values = json.loads((executed / "notebook.ipynb").read_text())
    change(values)
    folder = tmp_path / executed.name
    folder.mkdir()
    (folder / "notebook.ipynb").write_text(json.dumps(values))
    (problem,) = run_notebook_problems(folder)
    assert problem.startswith("notebook.ipynb: ")
    assert said in problem


@pytest.mark.parametrize("content", ["", "[]", "{", '{"nbformat": 4}', "\x00" * 9])
def test_what_is_no_notebook_is_named(content, tmp_path):
    path = tmp_path / "notebook.ipynb"
    path.write_text(content)
    (problem,) = notebook_problems(path)
    assert problem.startswith("notebook.ipynb: not a notebook (")
