"""Whatever is killed, whenever: no process survives its owner, the same command finishes, and no number differs."""

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from mcnlab.cli import main
from mcnlab.experiment import run_experiment
from mcnlab.runs import RunFolder
from mcnlab.workers import Done, Job, leave_reason, run_jobs
from tests.faults.commands import left_alive
from tests.mini_study import BASE, EXPERIMENTS, write_study

TIMED = ("train_s", "evaluate_s", "overhead_s")
PATIENCE_S = 240
GONE_AFTER_S = 15
"""A process that is only just starting notices once it has loaded its libraries."""
SHORT_STUDY = """
import sys, mcnlab.study, mcnlab.reporting.pages
mcnlab.study.STUDY_NOTEBOOKS = ()  # what follows the runs is not the point here
mcnlab.reporting.pages.study_maps = lambda *_, **__: None
from mcnlab.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


def start(program, *words):
    """A command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, *program, *(str(word) for word in words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )


def wait_until(happened, process):
    """Wait for something to happen while a process is alive."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"it ended with {process.returncode} before that: {process.communicate()}")
        time.sleep(0.005)


def kill_and_count_survivors(process, number=signal.SIGKILL):
    """Kill a process; the names of those below it that are alive some seconds later."""
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.wait(timeout=PATIENCE_S)
    process.stdout.close()
    process.stderr.close()
    alive = left_alive(below, GONE_AFTER_S)
    names = [" ".join(one.cmdline())[:200] for one in alive]
    for one in alive:
        one.kill()
    process.communicate(timeout=PATIENCE_S)  # closes its pipes, which a survivor would hold open
    return names


def steps(run):
    """Lines in a run's log."""
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def comparable(run):
    """All that must not differ: weights, results, log; without seconds."""
    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    rows = json.loads((run / "results.json").read_text())["rows"]
    log = RunFolder(run).metrics().drop(columns=["clips_per_s", "elapsed_s"]).to_json()
    rows = [row for row in rows if row["metric"] not in TIMED]
    return hashlib.sha256((newest / "model.safetensors").read_bytes()).hexdigest(), rows, log


def table(folder):
    """The results of a study without seconds."""
    found = pd.read_csv(folder / "reports" / "mini" / "results.csv")
    return found[~found["metric"].isin(TIMED)].reset_index(drop=True)


def test_training_that_is_stopped_and_killed_ends_as_if_nothing_had_been(tmp_path, capsys):
    write_study(tmp_path)
    training = {**BASE["training"], "epochs": 45, "checkpoint_every": 25}
    values = {**BASE, **EXPERIMENTS[1], "data": {"store": str(tmp_path / "store")}, "training": training}
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(yaml.safe_dump(values))
    run, words = tmp_path / "run", ("train", experiment, "--run", tmp_path / "run", "--seed", 3)

    process = start(["-m", "mcnlab"], *words)
    wait_until(lambda: steps(run) >= 20, process)
    process.send_signal(signal.SIGSTOP)
    assert main([str(word) for word in words]) == 6
    assert f"held by process {process.pid} on {platform.node()}" in capsys.readouterr().err
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    done = steps(run)
    assert err.splitlines()[-1] == (f"error: {run}: stopped after step {done}, goes on from there when called again")
    assert RunFolder(run).status["state"] == "interrupted"
    assert (run / "checkpoints" / f"step_{done:08d}").is_dir()

    process = start(["-m", "mcnlab"], *words)
    wait_until(lambda: steps(run) >= max(done + 3, 80), process)  # some steps after a checkpoint
    assert kill_and_count_survivors(process) == []
    assert process.returncode == -signal.SIGKILL
    assert RunFolder(run).status["state"] == "running"
    (run / ".results.json.partial-1").write_text("half of it")

    assert main([str(word) for word in words]) == 0
    assert not list(run.rglob(".*.partial-*"))
    assert comparable(run) == comparable(run_experiment(experiment, tmp_path / "undisturbed", seed=3).path)


@pytest.mark.slow
def test_a_study_that_is_killed_leaves_no_process_and_finishes_later(tmp_path):
    path = write_study(tmp_path, experiments=EXPERIMENTS[1:], epochs=30)
    driver = tmp_path / "driver.py"
    driver.write_text(SHORT_STUDY)
    run = tmp_path / "one" / "runs" / "mini" / "MCN-AV_T-s0"
    words = ("study", path, "--out", tmp_path / "one")

    process = start([driver], *words)
    wait_until(lambda: steps(run) >= 20, process)
    assert kill_and_count_survivors(process) == []
    assert 20 <= steps(run) < 120

    process = start([driver], *words)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out.strip()) == (0, str(tmp_path / "one" / "reports" / "mini" / "index.html")), err
    undisturbed = run_experiment(run / "experiment.yaml", tmp_path / "undisturbed").path
    assert comparable(run) == comparable(undisturbed)


def test_a_job_that_is_refused_does_not_end_its_worker(tmp_path):
    jobs = [Job({"run_dir": str(tmp_path / name), "unheard_of": 1}) for name in ("one", "two", "three")]
    for job in jobs:
        job.folder.mkdir()
    ended = []
    run_jobs(jobs, workers=2, on_done=lambda job, done: ended.append((job.folder.name, done.reason, done.lost)))
    said = "01_train_a_combination.ipynb: no parameter 'unheard_of'"
    assert sorted(name for name, _, _ in ended) == ["one", "three", "two"]
    assert all(reason.startswith(said) and not lost for _, reason, lost in ended)
    assert all(RunFolder(job.folder).status == {"state": "failed", "reason": ended[0][1]} for job in jobs)
    assert psutil.Process().children() == [] or all(
        "work(" not in " ".join(c.cmdline()) for c in psutil.Process().children()
    )


def test_a_reason_of_the_run_itself_stands(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "failed", "reason": "its own"}')
    leave_reason(tmp_path, Done(1.0, "seen from outside"))
    assert RunFolder(tmp_path).status["reason"] == "its own"


@pytest.fixture
def running_study(tmp_path):
    """A study of one long run, in training; and its run folder."""
    path = write_study(tmp_path, experiments=EXPERIMENTS[1:], epochs=120)
    driver = tmp_path / "driver.py"
    driver.write_text(SHORT_STUDY)
    run = tmp_path / "runs" / "mini" / "MCN-AV_T-s0"
    process = start([driver], "study", path, "--out", tmp_path)
    wait_until(lambda: steps(run) >= 20, process)
    yield process, run
    process.kill()
    process.communicate()


def role(process):
    """What a process below a study is there for."""
    forks, of_forks = ("multiprocessing.forkserver" in " ".join(one.cmdline()) for one in (process, process.parent()))
    worker = "mcnlab.workers import work" in " ".join(process.cmdline())
    return "kernel" if of_forks else "server of kernels" if forks else "worker" if worker else "other"


def below(process, wanted):
    """The one process below a study with a role."""
    found = [one for one in psutil.Process(process.pid).children(recursive=True) if role(one) == wanted]
    assert len(found) == 1
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["kernel", "server of kernels", "worker"])
def test_a_killed_kernel_or_worker_is_replaced_once(wanted, running_study, tmp_path):
    process, run = running_study
    below(process, wanted).kill()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert comparable(run) == comparable(run_experiment(run / "experiment.yaml", tmp_path / "undisturbed").path)


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "said"), [("kernel", "its kernel was killed"), ("worker", "exit code -9")])
def test_killed_again_a_run_has_failed_and_the_report_is_written(wanted, said, running_study, tmp_path):
    process, run = running_study
    below(process, wanted).kill()
    before = steps(run)
    wait_until(lambda: steps(run) > before + 20, process)
    below(process, wanted).kill()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert said in RunFolder(run).status["reason"]
    assert "1 of 1 runs did not finish" in (tmp_path / "reports" / "mini" / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)])
def test_a_study_that_is_asked_to_stop_saves_and_says_so(number, code, running_study):
    process, run = running_study
    began = time.monotonic()
    assert kill_and_count_survivors(process, number) == []
    assert process.returncode == code
    assert time.monotonic() - began < 30
    assert RunFolder(run).status == {"state": "interrupted", "reason": "the study was stopped"}
    assert (run / "checkpoints" / f"step_{steps(run):08d}").is_dir()
    record = json.loads((run.parent / "study.json").read_text())
    assert record["in_part"] == [run.name]
    assert 0 < record["run_s"][run.name] < record["wall_s"]


@pytest.mark.slow
def test_a_study_killed_at_every_turn_has_the_numbers_of_an_undisturbed_one(tmp_path):
    study = yaml.safe_load(write_study(tmp_path, seeds=(0, 1), epochs=12).read_text())
    study["base"]["data"] = {"world": {"train_recordings": 40, "val_recordings": 0, "test_recordings": 10}}
    path = tmp_path / "mini.yaml"
    path.write_text(yaml.safe_dump(study))
    root = tmp_path / "killed"
    runs = root / "runs" / "mini"
    mcn = runs / "MCN-AV_T-s0"
    moments = {
        "rendering": lambda: any((root / "stores").glob(".world-*.partial-*")),
        "before the first step": lambda: (runs / "V-T-s0" / "settings.yaml").exists(),
        "first stage": lambda: steps(mcn) >= 4,
        "after the shared stage": lambda: any((runs / ".prefixes").glob("*/metrics.jsonl")),
        "evaluation": lambda: (mcn / "ranks.parquet").exists(),
        "results": lambda: (mcn / "results.json").exists(),
        "other seed": lambda: steps(runs / "MCN-AV_T-s1") >= 3,
        "comparison": lambda: (runs / "notebooks" / "02_what_the_space_looks_like.ipynb").exists(),
        "report": lambda: (root / "reports" / "mini" / "runs").exists(),
    }
    words = ("study", path, "--workers", 2)
    for name, happened in moments.items():
        process = start(["-m", "mcnlab"], *words, "--out", root)
        wait_until(happened, process)
        assert kill_and_count_survivors(process) == [], name
    for folder in (root, tmp_path / "undisturbed"):
        process = start(["-m", "mcnlab"], *words, "--out", folder)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
    pd.testing.assert_frame_equal(table(root), table(tmp_path / "undisturbed"))
    for run in ("V-T-s0", "MCN-AV_T-s0", "V-T-s1", "MCN-AV_T-s1"):
        assert comparable(runs / run) == comparable(tmp_path / "undisturbed" / "runs" / "mini" / run)
    assert not list(root.rglob(".*.partial-*"))
