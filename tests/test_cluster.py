"""Tasks on a real dask cluster of local processes: the same store, also when a worker is killed."""

import json
import os
import signal
import threading
from dataclasses import replace

import psutil
import pytest

from mcnlab.cli import main
from mcnlab.cluster import (
    check_workers,
    cluster_client,
    cluster_executor,
    in_common,
    own_versions,
    tasks_at_once,
    threads_per_task,
)
from mcnlab.errors import ConfigError
from tests.howto100m_files import write_howto100m

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

LOCAL = {"processes": True, "dashboard_address": ":0", "host": "127.0.0.1"}


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


def listening():
    """Addresses on which this process waits for others."""
    found = psutil.Process().net_connections(kind="inet")
    return {tuple(one.laddr) for one in found if one.status == psutil.CONN_LISTEN}


def test_no_port_is_opened_by_the_command_and_no_cluster_is_begun(cluster):
    before = listening()  # the scheduler of the test's own cluster is in this process
    with cluster_client(cluster.scheduler_address) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        assert listening() == before
    with cluster_executor(None) as executor:
        assert executor is None
    assert listening() == before


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
    assert said.strip().endswith("; type: dask scheduler --host 127.0.0.1")
    assert not (tmp_path / "no").exists()
    assert threading.active_count() <= before + 3
    with pytest.raises(ConfigError, match="nonsense"), cluster_executor("nonsense://"):
        pass


# what workers must have in common


def refusal(cluster, common):
    """What a cluster is told that does not fit."""
    with cluster_client(cluster.scheduler_address) as client, pytest.raises(ConfigError) as error:
        check_workers(client, common)
    return str(error.value)


def test_workers_that_see_and_have_the_same_are_taken(cluster, tmp_path):
    common = in_common(tmp_path / "runs", [tmp_path])
    with cluster_client(cluster.scheduler_address) as client:
        check_workers(client, common)
    assert common == in_common(tmp_path / "runs", [tmp_path])


def test_workers_without_the_folder_are_refused(cluster, tmp_path):
    folder, store = tmp_path / "runs", tmp_path / "store"
    common = in_common(folder, [store])
    assert "2 of 2 workers: tcp://127.0.0.1:" in refusal(cluster, common)
    assert f"does not see {store}; all machines must share it" in refusal(cluster, common)
    folder.rename(tmp_path / "elsewhere")
    assert f"does not see the folder {folder}; all machines must share it" in refusal(cluster, common)
    in_common(folder, [])
    assert f"sees another folder under the name {folder}" in refusal(cluster, common)


def test_workers_with_another_mcnlab_are_refused(cluster, tmp_path):
    common = replace(in_common(tmp_path, []), versions="mcnlab 0.0.1 (source 1234567890) with torch 1.0")
    said = refusal(cluster, common)
    assert f"has {own_versions()}, but the study was started by mcnlab 0.0.1 (source 1234567890) with torch 1.0" in said


def test_workers_without_mcnlab_are_refused(tmp_path):
    hidden = "import sys; sys.modules['mcnlab'] = None"
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, preload=hidden, **LOCAL) as bare:
        assert "has no mcnlab like ours (" in refusal(bare, in_common(tmp_path, []))


def test_a_scheduler_without_workers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mcnlab.cluster.FIRST_WORKER_S", 0.2)
    with distributed.LocalCluster(n_workers=0, **LOCAL) as empty:
        said = refusal(empty, in_common(tmp_path, []))
        assert said.endswith(f"has no worker after 0.2 s; start one: dask worker {empty.scheduler_address}")


def worker(host, threads, gpus=0.0):
    """What a scheduler knows of a worker."""
    return {"host": host, "nthreads": threads, "resources": {"GPU": gpus} if gpus else {}}


@pytest.mark.parametrize(
    ("others", "cores", "gpus", "threads"),
    [
        ([], 16, 0.0, 4),  # four tasks at once on sixteen cores
        ([worker("a", 4)], 16, 0.0, 2),  # twice as many
        ([worker("b", 4)], 16, 0.0, 4),  # on another machine
        ([worker("a", 4)], 4, 0.0, 1),  # four cores of its own
        ([worker("a", 60)], 16, 0.0, 1),
        ([], 16, 1.0, 8),  # two GPUs, a task each
        ([], 16, 0.5, 4),
    ],
)
def test_tasks_share_the_cores_of_their_machine(others, cores, gpus, threads):
    workers = {f"tcp://{number}": one for number, one in enumerate([worker("a", 4, 2.0), *others])}
    assert threads_per_task(workers, "tcp://0", gpus=gpus, cores=cores, of=16) == threads


def test_gpus_are_places(cluster):
    local = {"n_workers": 2, "threads_per_worker": 2, "resources": {"GPU": 1}, **LOCAL}
    with distributed.LocalCluster(**local) as with_gpus, cluster_client(with_gpus.scheduler_address) as client:
        assert [tasks_at_once(client, gpus=gpus) for gpus in (0.0, 0.5, 0.4, 1.0)] == [4, 4, 4, 2]
    with cluster_client(cluster.scheduler_address) as client:
        assert tasks_at_once(client, gpus=0.0) == 2
        with pytest.raises(ConfigError, match=r"gpus_per_run: 0\.5, but no worker offers so much"):
            tasks_at_once(client, gpus=0.5)
