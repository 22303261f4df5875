"""A study on a real dask cluster of local processes: the same numbers, whatever is lost, stopped or held."""

import signal
import time
from contextlib import ExitStack

import pandas as pd
import psutil
import pytest

from mcnlab.cli import main
from mcnlab.errors import RunError
from mcnlab.experiment import run_experiment
from mcnlab.experiment.folder import held
from mcnlab.runs import RunFolder
from mcnlab.study import run_study
from tests.faults.commands import left_alive
from tests.mini_study import EXPERIMENTS, MCN, write_study
from tests.test_kill import GONE_AFTER_S, PATIENCE_S, SHORT_STUDY, comparable, start, steps, wait_until

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

TIMED = ("train_s", "evaluate_s", "overhead_s")
TWO_STAGES = ({"epochs": 2, "modalities": ["audio", "video"]}, {"epochs": 2, "modalities": ["video", "text"]})


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes, each with one thread."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
    ) as started:
        yield started


@pytest.fixture
def short(monkeypatch):
    """A study without what follows its runs."""
    monkeypatch.setattr("mcnlab.study.STUDY_NOTEBOOKS", ())
    monkeypatch.setattr("mcnlab.reporting.pages.study_maps", lambda *_, **__: None)


def test_a_study_without_an_answering_scheduler_is_one_clear_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mcnlab.cluster.CONNECT_S", 1)
    words = ("study", write_study(tmp_path), "--out", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")
    assert main([str(word) for word in words]) == 2
    assert capsys.readouterr().err.startswith("error: scheduler: 'tcp://127.0.0.1:9': no dask scheduler answers there")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_on_a_cluster_has_the_numbers_of_one_here(cluster, short, tmp_path):
    path = write_study(tmp_path, experiments=EXPERIMENTS[:1], epochs=1)
    index = run_study(path, out=tmp_path, scheduler=cluster.scheduler_address)
    run = tmp_path / "runs" / "mini" / "V-T-s0"
    assert index == tmp_path / "reports" / "mini" / "index.html"
    assert comparable(run) == comparable(run_experiment(run / "experiment.yaml", tmp_path / "here").path)


@pytest.mark.slow
def test_a_run_whose_folder_is_held_is_put_off_and_then_done(cluster, short, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mcnlab.sweep.PUT_OFF_S", 0.5)
    path, said = write_study(tmp_path, experiments=EXPERIMENTS[:1], epochs=1), []
    run = tmp_path / "runs" / "mini" / "V-T-s0"
    run.mkdir(parents=True)
    holding = ExitStack()
    holding.enter_context(held(run))
    (run / ".owner").write_text("process 7 on a machine that cannot be reached")

    def listen(text, **_):
        said.append(text)
        if "put off" in text:
            holding.close()

    monkeypatch.setattr("mcnlab.sweep.console.print", listen)
    index = run_study(path, out=tmp_path, scheduler=cluster.scheduler_address)
    assert index.exists()
    assert any(
        text.startswith("V-T-s0: put off, 01_train_a_combination.ipynb")
        and "held by process 7 on a machine that cannot be reached;" in text
        for text in said
    )
    assert said[0] == f"dashboard: {cluster.dashboard_link}"
    assert RunFolder(run).finished


@pytest.mark.slow
def test_a_study_on_a_cluster_has_the_numbers_of_one_here(cluster, short, tmp_path):
    two = {"experiment": "MCN then less", "stages": [*TWO_STAGES], "terms": MCN}
    path = write_study(tmp_path, experiments=[*EXPERIMENTS, two], seeds=(0, 1))
    tables = []
    for name, place in (("here", {"workers": 1}), ("there", {"scheduler": cluster.scheduler_address})):
        index = run_study(path, out=tmp_path / name, **place)
        table = pd.read_csv(index.with_name("results.csv"))
        tables.append(table[~table["metric"].isin(TIMED)].reset_index(drop=True))
        shared = [path for path in (tmp_path / name / "runs" / "mini" / ".prefixes").iterdir() if path.is_dir()]
        assert len(shared) == 2
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.slow
def test_a_failed_run_on_a_cluster_stops_no_other(cluster, short, tmp_path):
    boom = {"experiment": "boom", "stages": "VT", "training": {"lr": 1e30, "warmup_steps": 0}}
    path = write_study(tmp_path, experiments=[boom, EXPERIMENTS[0]])
    with pytest.raises(RunError, match="1 of 2 runs or notebooks failed, first boom-s0: term contrast of vt is nan"):
        run_study(path, out=tmp_path, scheduler=cluster.scheduler_address)
    assert RunFolder(tmp_path / "runs" / "mini" / "V-T-s0").finished


def task_processes(cluster):
    """By dask worker: the process that executes its run."""
    workers = [psutil.Process(worker.pid) for worker in cluster.workers.values()]  # their nannies
    below = [process for worker in workers for process in worker.children(recursive=True)]
    return [process for process in below if "mcnlab.workers import work" in " ".join(process.cmdline())]


@pytest.mark.slow
def test_the_run_of_a_killed_dask_worker_goes_on_elsewhere(cluster, tmp_path):
    path = write_study(tmp_path, experiments=EXPERIMENTS[1:], epochs=60)
    process, run = started(cluster, path, tmp_path)
    wait_until(lambda: steps(run) >= 40, process)
    busy = [one for one in task_processes(cluster) if len(one.children(recursive=True)) > 1]
    assert len(busy) == 1
    worker, below = busy[0].parent(), [busy[0], *busy[0].children(recursive=True)]
    before = steps(run)
    worker.kill()
    assert left_alive(below, GONE_AFTER_S) == []
    assert before < 240
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out.strip()) == (0, str(tmp_path / "reports" / "mini" / "index.html")), err
    assert "Traceback" not in err
    assert comparable(run) == comparable(run_experiment(run / "experiment.yaml", tmp_path / "undisturbed").path)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_study_that_is_stopped_or_killed_stops_its_tasks_and_goes_on_later(number, code, cluster, tmp_path):
    path = write_study(tmp_path, experiments=EXPERIMENTS[1:], epochs=60)
    process, run = started(cluster, path, tmp_path)
    wait_until(lambda: steps(run) >= 20, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert "Traceback" not in err
    stopped, deadline = {"state": "interrupted", "reason": "the study was stopped"}, time.monotonic() + GONE_AFTER_S
    while RunFolder(run).status != stopped and time.monotonic() < deadline:
        time.sleep(0.1)
    assert RunFolder(run).status == stopped
    assert (run / "checkpoints" / f"step_{steps(run):08d}").is_dir()
    process, _ = started(cluster, path, tmp_path)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert comparable(run) == comparable(run_experiment(run / "experiment.yaml", tmp_path / "undisturbed").path)


def started(cluster, path, out):
    """A study on a cluster in a process of its own, and the folder of its run."""
    driver = out / "driver.py"
    driver.write_text(SHORT_STUDY)
    process = start([driver], "study", path, "--out", out, "--scheduler", cluster.scheduler_address)
    return process, out / "runs" / "mini" / "MCN-AV_T-s0"
