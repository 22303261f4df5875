"""Several processes: they equal one with the whole batch, a lost one is named, and nobody is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml

from mcnlab.cli import main
from mcnlab.distributed import from_first, gather_rows, largest_over_ranks, own_rows, sum_over_ranks
from mcnlab.runs import RunFolder
from mcnlab.training.averaging import in_buckets
from tests.faults.commands import left_alive
from tests.mini_study import BASE, EXPERIMENTS
from tests.rank_cases import CASES, CHUNKED, STOP_AFTER, STOPPED, all_ranks, log, result, stop, train, trainer
from tests.small_store import make_store

pytestmark = pytest.mark.distributed
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Sums over processes add the same float32 numbers in another order."""
PATIENCE_S = 240
FEW = pytest.param(2, id="2 ranks")
MANY = pytest.param(4, id="4 ranks", marks=pytest.mark.slow)
TIMED = ("clips_per_s", "elapsed_s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two stores, and all cases by one process."""
    made = tmp_path_factory.mktemp("ranks")
    make_store(made / "whole")
    make_store(made / "holed", missing_audio=0.6, missing_text=0.5)
    return made


@pytest.fixture(scope="module")
def alone(folder):
    """By case: what one process with the whole batch ends with."""
    stop(trainer(folder, STOPPED, name="resumed-2"), signal_number=15)
    stop(trainer(folder, STOPPED, name="resumed-4"), signal_number=15)
    return {case: train(folder, case, name="alone") for case in CASES}


@pytest.fixture(scope="module")
def trained(folder, alone):
    """Runs all cases on a number of processes, once."""
    done = set()

    def run(processes):
        if processes not in done:
            done.add(processes)  # also when it fails, so that it fails once
            all_ranks(processes, folder)
        return processes

    return run


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, **CLOSE, err_msg=name)


def assert_same_log(found, expected):
    assert len(found) == len(expected)
    for line, other in zip(found, expected, strict=True):
        assert line.keys() == other.keys()
        assert line["stage"] == other["stage"]
        for name in line.keys() - {"stage", *TIMED}:
            assert line[name] == pytest.approx(other[name], rel=1e-5, abs=1e-5), (line["step"], name)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("processes", [FEW, MANY])
def test_many_processes_equal_one_with_the_whole_batch(folder, alone, trained, processes, case):
    trained(processes)
    assert_close(result(folder, processes, 0, case), alone[case])
    assert_same_log(log(folder, case, name=f"by-{processes}"), log(folder, case, name="alone"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("processes", [FEW, MANY])
def test_all_ranks_end_with_the_same_bits(folder, trained, processes, case):
    first, *others = (result(folder, trained(processes), number, case) for number in range(processes))
    for other in others:
        assert all(np.array_equal(x, other[name]) for name, x in first.items())


@pytest.mark.parametrize("processes", [FEW, MANY])
def test_gradients_reach_the_rows_on_the_rank_where_they_came_from(folder, trained, processes):
    trained(processes)
    gathered = np.repeat(np.arange(1.0, processes + 1), np.arange(1, processes + 1))
    ranks = sum(range(1, processes + 1))
    for number in range(processes):
        found = result(folder, processes, number, "known gradients")
        assert found["gathered"][:, 0].tolist() == gathered.tolist()
        assert found["of_rows"].tolist() == [[processes * 3.0 * (number + 1) ** 2] * 2] * (number + 1)
        assert found["of_scalar"] == processes * 2.0 * ranks
        assert found["several"].tolist() == pytest.approx([1 + ranks / processes] * 2)
        assert found["early"].tolist() == [1.0] * 2
        assert found["lonely"].tolist() == pytest.approx([1 / processes] * 2)


@pytest.mark.parametrize("case", CHUNKED)
def test_chunks_equal_the_whole_batch_on_one_process(folder, alone, case):
    assert_close(alone[case], alone[CHUNKED[case]])
    assert_same_log(log(folder, case, name="alone"), log(folder, CHUNKED[case], name="alone"))


@pytest.mark.parametrize("case", CHUNKED)
@pytest.mark.parametrize("processes", [FEW, MANY])
def test_chunks_on_many_processes_equal_the_whole_batch_on_one(folder, alone, trained, processes, case):
    assert_close(result(folder, trained(processes), 0, case), alone[CHUNKED[case]])


def test_gradients_travel_in_order_and_a_large_one_alone():
    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (1, 2, 9, 1, 1)]
    groups = [[p.numel() for p in group] for group in in_buckets(parameters, 12)]
    assert groups == [[1, 2], [9], [1, 1]]


@pytest.mark.parametrize("processes", [FEW, MANY])
def test_a_stop_that_one_rank_heard_of_stops_all_and_one_process_goes_on(folder, alone, trained, processes):
    name = f"stopped-{trained(processes)}"
    assert len(log(folder, STOPPED, name=name)) == STOP_AFTER
    assert_close(train(folder, STOPPED, name=name), alone[STOPPED])
    assert_same_log(log(folder, STOPPED, name=name), log(folder, STOPPED, name="alone"))


@pytest.mark.parametrize("processes", [FEW, MANY])
def test_many_processes_go_on_where_one_stopped(folder, alone, trained, processes):
    trained(processes)
    assert_close(result(folder, processes, processes - 1, "resumed"), alone[STOPPED])
    assert_same_log(log(folder, STOPPED, name=f"resumed-{processes}"), log(folder, STOPPED, name="alone"))


def test_one_process_gets_back_the_very_same_tensors():
    x = torch.ones(3, 2)
    assert all(f(x) is x for f in (sum_over_ranks, largest_over_ranks, from_first))
    assert gather_rows(x, [3]) is x
    assert own_rows(7) == slice(0, 7)


def written(folder, **training):
    """An experiment with all terms, and the words that train it."""
    make_store(folder / "store", missing_audio=0.3, missing_text=0.3)
    values = {**BASE, **EXPERIMENTS[1], "data": {"store": str(folder / "store")}}
    values["training"] = {**BASE["training"], "epochs": 15, "checkpoint_every": 10, **training}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))
    return "train", str(folder / "experiment.yaml"), "--run", str(folder / "run")


def start(*words):
    """A command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-m", *words], stderr=subprocess.PIPE, text=True, env=environment)


def ended(process):
    """Exit code and standard error of a command, once it has ended."""
    err = process.communicate(timeout=PATIENCE_S)[1]
    return process.returncode, err


def at_step(process, run, step):
    """The processes below one whose run has come to a step."""
    deadline = time.monotonic() + PATIENCE_S
    log = run / "metrics.jsonl"
    while not log.exists() or log.read_text().count("\n") < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return psutil.Process(process.pid).children(recursive=True)


def ranks_of(below):
    """Those of the processes that are ranks, in order."""
    ranks = [one for one in below if "spawn_main" in " ".join(one.cmdline()) or "train" in one.cmdline()]
    return sorted(ranks, key=lambda one: one.create_time())


def survivors(below):
    """Processes that are still there."""
    return left_alive(below, 15)


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_same_command_goes_on_with_another_number(tmp_path):
    words, run = written(tmp_path), tmp_path / "run"
    process = start("mcnlab", *words, "--devices", "2")
    below = at_step(process, run, 15)
    ranks = ranks_of(below)
    assert len(ranks) == 2
    ranks[1].kill()
    code, err = ended(process)
    assert code == 8
    assert err.splitlines()[-1] == (
        f"error: rank 1 (process {ranks[1].pid}): killed by SIGKILL; "
        "the newest checkpoint stays, and the same command goes on from there"
    )
    assert survivors(below) == []
    assert RunFolder(run).status["state"] == "failed"
    assert f"rank 1 (process {ranks[1].pid}) has ended" in RunFolder(run).status["reason"]
    assert list((run / "checkpoints").glob("step_*"))
    assert main(list(words)) == 0
    assert RunFolder(run).status["state"] == "finished"


@pytest.mark.slow
def test_a_started_run_that_is_terminated_saves_and_its_command_goes_on(tmp_path):
    words, run = written(tmp_path), tmp_path / "run"
    process = start("mcnlab", *words, "--devices", "2")
    below = at_step(process, run, 15)
    process.terminate()
    code, err = ended(process)
    assert code == 143
    assert "goes on from there when called again" in err.splitlines()[-1]
    assert survivors(below) == []
    steps = len((run / "metrics.jsonl").read_text().splitlines())
    assert (run / "checkpoints" / f"step_{steps:08d}").is_dir()
    assert ended(start("mcnlab", *words, "--devices", "3"))[0] == 0
    assert json.loads((run / "provenance.json").read_text())["processes"] == 3


@pytest.mark.slow
def test_no_rank_survives_its_owner(tmp_path):
    process = start("mcnlab", *written(tmp_path), "--devices", "2")
    below = at_step(process, tmp_path / "run", 3)
    process.kill()
    ended(process)
    assert survivors(below) == []


@pytest.mark.slow
def test_a_rank_that_does_not_answer_is_named_after_the_timeout(tmp_path):
    process = start("mcnlab", *written(tmp_path, epochs=100), "--devices", "2", "--rank-timeout-s", "5")
    below = at_step(process, tmp_path / "run", 3)
    stopped = ranks_of(below)[1]
    stopped.send_signal(signal.SIGSTOP)
    code, err = ended(process)
    assert code == 8
    assert f"rank 1 (process {stopped.pid}) is stopped" in err.splitlines()[-1]
    assert survivors(below) == []


@pytest.mark.slow
def test_an_error_of_all_ranks_is_told_as_that_of_one_process(tmp_path):
    words = written(tmp_path, lr=1e30, warmup_steps=0)
    process = start("mcnlab", *words, "--devices", "2")
    code, err = ended(process)
    assert code == 4
    assert "is nan in stage" in err.splitlines()[-1] or "not finite" in err.splitlines()[-1]


@pytest.mark.slow
def test_torchrun_starts_the_ranks_as_well_and_names_a_killed_one(tmp_path):
    words, run = written(tmp_path), tmp_path / "run"
    words = [word.replace("--run", "--run-dir") for word in words]  # torchrun takes `--run` for one of its own
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mcnlab", *words)
    process = start(*launcher)
    below = at_step(process, run, 15)
    ranks = ranks_of(below)
    ranks[1].kill()
    code, err = ended(process)
    assert code != 0
    killed = ranks[1].pid  # torchrun may end rank 0 before it can speak; then torchrun names the process itself
    assert f"error: rank 1 (process {killed}) has ended" in err or f"received by PID {killed}" in err
    assert survivors(below) == []
    code, err = ended(start(*launcher))
    assert code == 0, err
    assert RunFolder(run).status["state"] == "finished"
