"""A run that is asked to stop through its folder: it ends after a checkpoint, and goes on to the same numbers."""

import json
import os
import platform
import signal
import threading

import pytest
import yaml

from mcnlab.cli import main
from mcnlab.errors import DataError, RunError, StoppedError
from mcnlab.experiment import run_experiment
from mcnlab.experiment.folder import held
from mcnlab.processes import Terminated
from mcnlab.runs import STOP_FILE, RunFolder, ask_to_stop, holder, newest_run
from tests.mini_study import BASE, EXPERIMENTS, write_study
from tests.test_kill import PATIENCE_S, comparable, start, steps, wait_until


def write_experiment(folder, *, epochs):
    """A tiny experiment with its store, in a file."""
    write_study(folder)
    training = {**BASE["training"], "epochs": epochs, "checkpoint_every": 1000}
    values = {**BASE, **EXPERIMENTS[0], "data": {"store": str(folder / "store")}, "training": training}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_run_of_another_process_stops_after_its_checkpoint_and_goes_on_to_the_same_numbers(tmp_path):
    experiment, run = write_experiment(tmp_path, epochs=150), tmp_path / "run"
    words = ("train", experiment, "--run", run, "--seed", 3)
    process = start(["-m", "mcnlab"], *words)
    wait_until(lambda: steps(run) >= 5, process)
    assert holder(run) == f"process {process.pid} on {platform.node()}"
    ask_to_stop(run)
    _, err = process.communicate(timeout=PATIENCE_S)
    done, total = steps(run), RunFolder(run).provenance["steps"]

    assert process.returncode == 143
    assert 5 <= done < total
    assert err.splitlines()[-1] == f"error: {run}: stopped after step {done}, goes on from there when called again"
    assert RunFolder(run).status == {"state": "interrupted", "reason": err.splitlines()[-1].removeprefix("error: ")}
    assert (run / "checkpoints" / f"step_{done:08d}").is_dir()
    assert (run / STOP_FILE).exists()
    assert main([str(word) for word in words]) == 0  # the request of before is void
    assert not (run / STOP_FILE).exists()
    assert steps(run) == total
    assert comparable(run) == comparable(run_experiment(experiment, tmp_path / "undisturbed", seed=3).path)


def test_a_second_request_ends_a_run_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("mcnlab.experiment.stopping.TOGETHER_S", 0.0)
    experiment, run = write_experiment(tmp_path, epochs=2000), tmp_path / "run"

    def ask_twice(record):
        if record.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(Terminated):
        run_experiment(experiment, run, on_step=ask_twice)
    assert RunFolder(run).status["state"] == "interrupted"


def test_a_run_in_a_thread_is_stopped_too(tmp_path):
    experiment, run, ended = write_experiment(tmp_path, epochs=2000), tmp_path / "run", []

    def train():
        with pytest.raises(StoppedError) as caught:
            run_experiment(experiment, run, on_step=lambda record: record.step == 2 and ask_to_stop(run))
        ended.append(caught.value.exit_code)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join(PATIENCE_S)
    assert ended == [143]
    assert RunFolder(run).status["state"] == "interrupted"


def test_who_is_not_at_work_cannot_be_stopped(tmp_path):
    with pytest.raises(RunError, match=r"cannot be stopped, it is not running \(pending\)"):
        ask_to_stop(tmp_path)
    (tmp_path / "status.json").write_text(json.dumps({"state": "running"}))
    (tmp_path / ".owner").write_text(f"process 1 on {platform.node()}")  # a killed process leaves its name, and no lock
    assert holder(tmp_path) is None
    with pytest.raises(RunError, match="cannot be stopped, no process is at work here"):
        ask_to_stop(tmp_path)
    with held(tmp_path):
        assert holder(tmp_path) == f"process {os.getpid()} on {platform.node()}"
        ask_to_stop(tmp_path)
    assert (tmp_path / STOP_FILE).read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.slow
@pytest.mark.distributed
def test_all_ranks_of_a_run_stop_together(tmp_path):
    experiment, run = write_experiment(tmp_path, epochs=5000), tmp_path / "run"
    process = start(["-m", "mcnlab"], "train", experiment, "--run", run, "--devices", 2)
    wait_until(lambda: steps(run) >= 5, process)
    ask_to_stop(run)
    _, err = process.communicate(timeout=PATIENCE_S)
    done = steps(run)
    assert process.returncode == 143
    assert err.splitlines()[-1] == f"error: {run}: stopped after step {done}, goes on from there when called again"
    assert (run / "checkpoints" / f"step_{done:08d}").is_dir()
    assert RunFolder(run).status["state"] == "interrupted"


def test_a_process_of_another_machine_counts_as_at_work_since_its_lock_may_not_be_seen(tmp_path):
    (tmp_path / "status.json").write_text(json.dumps({"state": "running"}))
    (tmp_path / ".owner").write_text("process 1 on elsewhere")
    assert holder(tmp_path) == "process 1 on elsewhere"
    ask_to_stop(tmp_path)
    assert (tmp_path / STOP_FILE).exists()


def test_the_newest_run_of_a_folder_is_the_one_that_wrote_last(tmp_path):
    for number, name in enumerate(["b-s0", "a-s0", "c-s0"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text('{"state": "running"}')
        os.utime(tmp_path / name / "status.json", (1000 - number, 1000 - number))
    assert newest_run(tmp_path).path.name == "b-s0"
    assert newest_run(tmp_path / "c-s0").path.name == "c-s0"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no runs here"):
        newest_run(tmp_path / "empty")


def test_the_name_of_a_process_that_was_killed_at_its_very_end_is_taken_away(tmp_path):
    path = write_experiment(tmp_path, epochs=1)
    run = run_experiment(path, tmp_path / "run").path
    (run / ".owner").write_text("process 1 on elsewhere")
    assert holder(run) == "process 1 on elsewhere"
    run_experiment(path, run)
    assert not (run / ".owner").exists()
    assert holder(run) is None
