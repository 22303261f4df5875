"""A run on a cluster that takes its machine back: SLURM's signals end it after a checkpoint, and it goes on later."""

import signal

import psutil
import pytest

from mcnlab.cli import main
from mcnlab.experiment import run_experiment
from mcnlab.runs import RunFolder
from tests.mini_study import EXPERIMENTS, write_study
from tests.test_kill import PATIENCE_S, SHORT_STUDY, comparable, start, steps, wait_until
from tests.test_stop import write_experiment

PREEMPTED = {
    "a warning": [signal.SIGUSR1],
    "the end of a job": [signal.SIGCONT, signal.SIGTERM],
    "sent twice": [signal.SIGTERM, signal.SIGTERM],
}
FAST = "sent twice"
"""The one of them that is tried every time."""


def send_to_all(process, signals):
    """As SLURM does: to every process of the job."""
    everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for number in signals:
        for one in everyone:
            one.send_signal(number)


@pytest.mark.parametrize(
    "signals",
    [pytest.param(sent, id=name, marks=[] if name == FAST else pytest.mark.slow) for name, sent in PREEMPTED.items()],
)
def test_a_preempted_run_leaves_a_checkpoint_and_says_so(signals, tmp_path):
    experiment, run = write_experiment(tmp_path, epochs=150), tmp_path / "run"
    words = ("train", experiment, "--run", run, "--seed", 3)
    process = start(["-m", "mcnlab"], *words)
    wait_until(lambda: steps(run) >= 5, process)
    send_to_all(process, signals)
    _, err = process.communicate(timeout=PATIENCE_S)
    done = steps(run)
    assert process.returncode == 143
    assert 5 <= done < RunFolder(run).provenance["steps"]
    assert err.splitlines()[-1] == f"error: {run}: stopped after step {done}, goes on from there when called again"
    assert (run / "checkpoints" / f"step_{done:08d}").is_dir()
    assert main([str(word) for word in words]) == 0
    assert comparable(run) == comparable(run_experiment(experiment, tmp_path / "undisturbed", seed=3).path)


def test_a_warning_before_the_first_step_ends_with_a_line(tmp_path):
    path = write_experiment(tmp_path, epochs=1)
    program = "import os, signal, sys, mcnlab.cli as cli, mcnlab.experiment.ranks as ranks\n"
    program += "ranks.train_on = lambda *_, **__: os.kill(os.getpid(), signal.SIGUSR1)\nsys.exit(cli.main())"
    process = start(["-c", program], "train", path, "--run", tmp_path / "run")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    said = f"error: terminated; what is done is kept. To go on, type: mcnlab train {path} --run {tmp_path / 'run'}"
    assert err.splitlines()[-1] == said


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    "signals",
    [pytest.param(sent, id=name, marks=[] if name == FAST else pytest.mark.slow) for name, sent in PREEMPTED.items()],
)
def test_all_ranks_of_a_preempted_run_save_together(signals, tmp_path):
    experiment, run = write_experiment(tmp_path, epochs=5000), tmp_path / "run"
    process = start(["-m", "mcnlab"], "train", experiment, "--run", run, "--devices", 2)
    wait_until(lambda: steps(run) >= 5, process)
    send_to_all(process, signals[-1:])
    _, err = process.communicate(timeout=PATIENCE_S)
    done = steps(run)
    assert process.returncode == 143
    assert err.splitlines()[-1] == f"error: {run}: stopped after step {done}, goes on from there when called again"
    assert (run / "checkpoints" / f"step_{done:08d}").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("signals", [[signal.SIGUSR1], [signal.SIGCONT, signal.SIGTERM]], ids=["warning", "end"])
def test_the_runs_of_a_preempted_study_leave_checkpoints(signals, tmp_path):
    path = write_study(tmp_path, experiments=EXPERIMENTS[1:], epochs=200)
    driver = tmp_path / "driver.py"
    driver.write_text(SHORT_STUDY)
    run = tmp_path / "runs" / "mini" / "MCN-AV_T-s0"
    process = start([driver], "study", path, "--out", tmp_path)
    wait_until(lambda: steps(run) >= 20, process)
    send_to_all(process, signals)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert RunFolder(run).status == {"state": "interrupted", "reason": "the study was stopped"}
    assert (run / "checkpoints" / f"step_{steps(run):08d}").is_dir()
