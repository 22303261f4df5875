"""Tasks on a real dask cluster of local processes: the same store, also when a worker is killed."""

import json
import os
import signal
import threading

import pytest

from mcnlab.cli import main
from mcnlab.cluster import cluster_executor
from mcnlab.errors import ConfigError
from tests.howto100m_files import write_howto100m

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes, each with one thread."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
    ) as started:
        yield started


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A small data set in the published layout."""
    folder = tmp_path_factory.mktemp("howto100m")
    write_howto100m(folder, videos=24)
    return folder


def bring_in(published, out, *more):
    words = ("import", "howto100m", published / "list.csv", "--features", published / "features", "--out", out)
    words += ("--captions", published / "caption.json", "--text", published / "words.bin", "--per-shard", 2)
    return main([str(word) for word in (*words, *more)])


def files(store):
    """Every file of a store with its checksum."""
    return json.loads((store / "store.json").read_text())["files"]


def test_an_import_on_a_cluster_gives_the_same_bytes(cluster, published, tmp_path, capsys):
    assert bring_in(published, tmp_path / "here") == 0
    assert bring_in(published, tmp_path / "there", "--scheduler", cluster.scheduler_address) == 0
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert len([name for name in files(tmp_path / "there") if name.startswith("shards/")]) == 12


def killed(number):
    """A task that kills the worker that does it, the first time."""
    if number == 3:
        marker = os.environ["MCNLAB_TEST_MARKER"]
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_the_task_of_a_killed_worker_is_done_by_another(tmp_path, monkeypatch):
    monkeypatch.setenv("MCNLAB_TEST_MARKER", str(tmp_path / "killed"))  # before the workers start
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1"}
    with (
        distributed.LocalCluster(processes=True, **local) as started,
        cluster_executor(started.scheduler_address) as executor,
    ):
        assert executor is not None
        assert list(executor.map(killed, range(8))) == list(range(8))
    assert (tmp_path / "killed").exists()


def test_without_a_scheduler_there_is_no_executor():
    with cluster_executor(None) as executor:
        assert executor is None


def test_a_scheduler_that_does_not_answer_is_one_clear_error(published, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mcnlab.cluster.CONNECT_S", 1)
    before = threading.active_count()
    assert bring_in(published, tmp_path / "no", "--scheduler", "tcp://127.0.0.1:9") == 2
    said = capsys.readouterr().err
    assert "error: scheduler: 'tcp://127.0.0.1:9': no dask scheduler answers there" in said
    assert not (tmp_path / "no").exists()
    assert threading.active_count() <= before + 3
    with pytest.raises(ConfigError, match="nonsense"), cluster_executor("nonsense://"):
        pass
