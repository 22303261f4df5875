"""One seed, one result: the same command twice, or with more workers, gives the same bytes."""

import hashlib
import json
import warnings

import pandas as pd
import pytest

from mcnlab.cli import main
from tests.mini_study import write_study
from tests.test_kill import TIMED, table
from tests.test_stop import write_experiment

TIMES = ("clips_per_s", "elapsed_s")


def log_without_times(run):
    """The bytes of a run's log, the values of its clocks blotted out."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for at, line in enumerate(lines):
        values = json.loads(line)
        for name in TIMES:
            lines[at] = lines[at].replace(f'"{name}": {json.dumps(values[name])}', f'"{name}": ?')
    return "".join(lines)


def sums(run):
    """The sum of every file of weights and of every table of a run, by name."""
    files = [*run.rglob("*.safetensors"), *run.glob("*.parquet")]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def without_seconds(run):
    """The results of a run but for what a clock said."""
    rows = json.loads((run / "results.json").read_text())["rows"]
    return [row for row in rows if row["metric"] not in TIMED]


def train(experiment, run, *more):
    """The run folder of a training by the command line."""
    assert main(["train", str(experiment), "--run", str(run), "--seed", "3", *more]) == 0
    return run


def test_trained_twice_a_run_has_the_same_log_weights_and_results_to_the_byte(tmp_path):
    experiment = write_experiment(tmp_path, epochs=3)
    one, two = train(experiment, tmp_path / "one"), train(experiment, tmp_path / "two")
    assert log_without_times(one) == log_without_times(two)
    assert log_without_times(one).count("?") == len(TIMES) * log_without_times(one).count("\n") > 0
    assert sums(one) == sums(two) != {}
    assert without_seconds(one) == without_seconds(two) != []


@pytest.mark.parametrize(("file", "at"), [("model.safetensors", -8), ("optimizer.safetensors", -1), ("state.json", 5)])
def test_a_corrupted_last_checkpoint_is_named_and_the_one_before_leads_to_the_same_end(file, at, tmp_path, capsys):
    experiment = write_experiment(tmp_path, epochs=3)
    usual = ("--set", "training.checkpoint_every=4")
    whole, run = train(experiment, tmp_path / "whole", *usual), train(experiment, tmp_path / "run", *usual)
    (run / "results.json").unlink()
    (run / "status.json").write_text('{"state": "running"}')  # as if it had been killed while it was measured
    _, last = sorted((run / "checkpoints").glob("step_*"))
    content = bytearray((last / file).read_bytes())
    content[at] ^= 1
    (last / file).write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(experiment, run, *usual)
    assert any(last.name in str(one.message) and "set aside" in str(one.message) for one in said)
    assert (run / "checkpoints" / f"bad_{last.name}").is_dir()
    assert log_without_times(run) == log_without_times(whole)
    assert without_seconds(run) == without_seconds(whole)
    assert (last / "model.safetensors").read_bytes() == (
        whole / "checkpoints" / last.name / "model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_a_study_has_the_same_tables_whatever_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("mcnlab.study.STUDY_NOTEBOOKS", ())  # what follows the runs is not the point here
    monkeypatch.setattr("mcnlab.reporting.pages.study_maps", lambda *_, **__: None)
    path = write_study(tmp_path, seeds=(0, 1))
    for workers in (1, 2):
        assert main(["study", str(path), "--out", str(tmp_path / f"by-{workers}"), "--workers", str(workers)]) == 0
    one, two = tmp_path / "by-1", tmp_path / "by-2"
    pd.testing.assert_frame_equal(table(one), table(two))
    for run in sorted((one / "runs" / "mini").glob("*-s*")):
        other = two / "runs" / "mini" / run.name
        assert log_without_times(run) == log_without_times(other)
        assert sums(run) == sums(other) != {}
