"""`mcnlab verify`: an untouched run is well, and every damage is named."""

import json
import shutil

import nbformat
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from mcnlab.cli import main
from mcnlab.experiment import evaluate_run, run_experiment
from mcnlab.experiment.verify import verify
from tests.mini_study import BASE, EXPERIMENTS
from tests.small_store import make_store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with its store beside it."""
    root = tmp_path_factory.mktemp("verify")
    make_store(root / "store")
    values = {**BASE, **EXPERIMENTS[1], "data": {"store": str(root / "store")}}
    (root / "experiment.yaml").write_text(yaml.safe_dump(values))
    return run_experiment(root / "experiment.yaml", root / "run").path


@pytest.fixture
def run(made, tmp_path):
    """A copy of it that may be damaged."""
    return shutil.copytree(made, tmp_path / "run")


def problems(path, **options):
    """By check, what is wrong."""
    return {check.name: " ".join(check.problems) for check in verify(path, **options) if check.problems}


def edit_json(path, change):
    """Write a JSON file again after a change."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_an_untouched_run_and_its_store_are_well(made):
    checks = list(verify(made))
    assert {check.name for check in checks if check.state == "ok"} >= {"files", "log", "data", "numbers computed again"}
    assert [check.name for check in checks if check.state != "ok"] == ["notebook"]
    assert [check.state for check in verify(made.parent / "store")] == ["ok"]


def test_a_run_that_was_measured_again_is_well(run):
    evaluate_run(run, tasks=["retrieval"])
    assert problems(run) == {}


def lose_a_step(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:2] + lines[3:]) + "\n")


def change_a_setting(run):
    settings = yaml.safe_load((run / "settings.yaml").read_text())
    settings["training"]["lr"] *= 2
    (run / "settings.yaml").write_text(yaml.safe_dump(settings))


def flip_a_weight(run):
    path = sorted((run / "checkpoints").glob("step_*"))[-1] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def better_recall(run):
    def change(values):
        row = next(row for row in values["rows"] if row["metric"] == "recall_at_1")
        row["value"] += 0.01

    edit_json(run / "results.json", change)


def drop_a_clip(run):
    arrays = load_file(run / "embeddings.safetensors")
    save_file({name: np.ascontiguousarray(x[1:]) for name, x in arrays.items()}, run / "embeddings.safetensors")


def half_a_notebook(run):
    cells = [nbformat.v4.new_code_cell("1", execution_count=1), nbformat.v4.new_code_cell("2")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), run / "notebook.ipynb")


@pytest.mark.parametrize(
    ("damage", "check", "said"),
    [
        (lose_a_step, "log", "steps are missing or out of order"),
        (change_a_setting, "settings", "not the settings of provenance.json"),
        (flip_a_weight, "checkpoints", "model.safetensors"),
        (better_recall, "numbers computed again", "recall_at_1"),
        (drop_a_clip, "tables", "embeddings.safetensors"),
        (half_a_notebook, "notebook", "was not executed"),
        (lambda run: (run / "clips.parquet").write_bytes(b""), "tables", "clips.parquet"),
        (lambda run: (run / "ranks.parquet").unlink(), "files", "ranks.parquet: missing"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "checkpoints", "there is none"),
        (lambda run: (run / "files.json").write_text("[]"), "files", "files.json: not a list of files"),
        (lambda run: (run / "status.json").write_text('{"state": "running"}'), "state", "running, not finished"),
        (lambda run: (run / "status.json").write_text('{"sta'), "state", "status.json"),
        (lambda run: edit_json(run / "results.json", lambda values: values["rows"].append(values["rows"][0])),
         "results", "twice"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_every_damage_is_named(damage, check, said, run):
    damage(run)
    found = problems(run, recompute=check == "numbers computed again")
    assert said in found[check]


def test_a_store_that_was_made_anew_is_not_the_same_data(made, run):
    other = made.parent / "other"
    if not other.exists():
        make_store(other, seed=1)
    edit_json(run / "provenance.json", lambda values: values["data"].update(path=str(other)))
    found = problems(run)
    assert "other data than the run's" in found["data"]
    assert "numbers computed again" not in found


def test_the_command_says_each_check_and_ends_with_three_where_one_fails(run, capsys):
    assert main(["verify", str(run), "--quick"]) == 0
    assert "ok          run  files" in capsys.readouterr().out
    flip_a_weight(run)
    assert main(["verify", str(run), "--quick", "--json"]) == 3
    out, err = capsys.readouterr()
    assert [check["name"] for check in json.loads(out) if check["state"] == "problem"] == ["checkpoints"]
    assert err == f"error: {run}: 1 of 9 checks found a problem\n"


def test_a_folder_of_runs_is_looked_at_run_by_run_and_another_one_refused(run, tmp_path, capsys):
    assert {check.subject for check in verify(tmp_path, recompute=False)} == {"run"}
    (tmp_path / "empty").mkdir()
    assert main(["verify", str(tmp_path / "empty")]) == 3
    assert "neither a run, nor a folder of runs, nor a store" in capsys.readouterr().err


def test_the_list_of_runs_is_a_table_or_json(run, tmp_path, capsys):
    assert main(["list", str(tmp_path)]) == 0
    assert "MCN AV_T" in capsys.readouterr().out
    assert main(["list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "finished"
    assert main(["list", str(run)]) == 3
    assert "is one run; type: mcnlab list" in capsys.readouterr().err
