"""Work on other machines: a running dask cluster, and what all of its workers must have in common with us."""

import hashlib
import importlib.metadata
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import mcnlab
from mcnlab.errors import ConfigError
from mcnlab.files import make_folder, write_text_atomically

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 10
"""Seconds until a scheduler that does not answer is given up."""
FIRST_WORKER_S = 60
"""Seconds until a scheduler without workers is given up."""
FOLDER_ID = ".folder-id"
"""File that tells a folder from another one with the same path."""


@contextmanager
def cluster_client(scheduler: str) -> Iterator["Client"]:
    """A connection to a running dask cluster.

    Args:
        scheduler: address of its scheduler, such as `tcp://node1:8786`.

    Yields:
        The connection.

    Raises:
        ConfigError: dask.distributed is not installed, or nobody answers at the address.
    """
    try:
        from distributed import Client  # late: an extra, and a second of start-up
    except ImportError as error:
        raise ConfigError("scheduler: a dask cluster needs distributed; install mcnlab[cluster]") from error
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"scheduler: {scheduler!r}: no dask scheduler answers there ({error}); "
            f"type: dask scheduler --host {quote(_host_in(scheduler))}"
        ) from error
    with client:
        yield client


def _host_in(address: str) -> str:
    """The host of an address, else the loopback; without one dask listens on all addresses of its machine."""
    try:
        return urlsplit(address).hostname or "127.0.0.1"
    except ValueError:
        return "127.0.0.1"


@contextmanager
def cluster_executor(scheduler: str | None) -> Iterator[Executor | None]:
    """The workers of a dask cluster, to which tasks are sent like to local processes.

    All workers must see the same files under the same paths, and have mcnlab installed. A task whose worker is lost
    is given to another one by the scheduler.

    Args:
        scheduler: address of a running scheduler, such as `tcp://node1:8786`; None for no cluster.

    Yields:
        The executor; None without a scheduler.

    Raises:
        ConfigError: dask.distributed is not installed, or nobody answers at the address.
    """
    if scheduler is None:
        yield None
        return
    with cluster_client(scheduler) as client:
        yield client.get_executor(pure=False)


@dataclass(frozen=True)
class Common:
    """What every worker must have in common with the process that sends the tasks."""

    folder: Path
    """Shared folder; it holds the file `FOLDER_ID`."""
    folder_id: str
    """Content of that file."""
    paths: tuple[Path, ...]
    """Files and folders that the tasks read."""
    versions: str
    """As `own_versions` says it."""

    def problem_here(self) -> str:
        """What this process lacks, in words that follow its name; empty where it lacks nothing."""
        if own_versions() != self.versions:
            return f"has {own_versions()}, but the study was started by {self.versions}"
        try:
            found = (self.folder / FOLDER_ID).read_text(encoding="utf-8")
        except OSError:
            return f"does not see the folder {self.folder}; all machines must share it under the same path"
        if found != self.folder_id:
            return f"sees another folder under the name {self.folder}; all machines must share it"
        missing = [path for path in self.paths if not path.exists()]
        return f"does not see {missing[0]}; all machines must share it under the same path" if missing else ""


def own_versions() -> str:
    """Of this process' mcnlab, with a hash of its source, and of torch: equal versions give equal numbers."""
    root, digest = Path(mcnlab.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    torch = importlib.metadata.version("torch")
    return f"mcnlab {mcnlab.__version__} (source {digest.hexdigest()[:10]}) with torch {torch}"


def in_common(folder: Path, paths: Sequence[Path]) -> Common:
    """What workers must share with this process.

    Args:
        folder: the shared folder; made when absent, and given an id.
        paths: files and folders that tasks read.

    Returns:
        All that a worker needs for finding out whether it does.

    Raises:
        StorageError: the folder cannot be made or written.
    """
    make_folder(folder)
    own = folder / FOLDER_ID
    if not own.exists():
        write_text_atomically(own, uuid.uuid4().hex)
    return Common(folder, own.read_text(encoding="utf-8"), tuple(paths), own_versions())


def check_workers(client: "Client", common: Common) -> None:
    """Refuse a cluster without workers, or with one that lacks what all must have in common.

    Args:
        client: the connection.
        common: what that is.

    Raises:
        ConfigError: so it is; the first such worker is named, and how many there are.
    """
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_S)
    except TimeoutError as error:
        address = client.scheduler_info()["address"]
        raise ConfigError(
            f"scheduler: {address} has no worker after {FIRST_WORKER_S} s; start one: dask worker {address}"
        ) from error
    answers = client.run(_problem_here, common, on_error="return")
    problems = {address: _in_words(answer) for address, answer in answers.items() if answer}
    if problems:
        first = sorted(problems)[0]
        raise ConfigError(f"scheduler: {len(problems)} of {len(answers)} workers: {first} {problems[first]}")


def tasks_at_once(client: "Client", *, gpus: float) -> int:
    """Tasks that the present workers do at the same time.

    Args:
        client: the connection.
        gpus: of the resource GPU that each task takes; 0 for none.

    Raises:
        ConfigError: tasks need the resource, and no worker offers enough of it.
    """
    places = sum(_places(worker, gpus) for worker in client.scheduler_info()["workers"].values())
    if not places:
        raise ConfigError(
            f"gpus_per_run: {gpus:g}, but no worker offers so much; start workers with --resources GPU=1, one per GPU"
        )
    return places


def threads_per_task(workers: Mapping[str, Mapping[str, Any]], own: str, *, gpus: float, cores: int, of: int) -> int:
    """Threads that a task may use so that all tasks of its machine together do not use more than there are cores.

    Args:
        workers: what the scheduler knows of each worker, by address.
        own: address of the task's worker.
        gpus: of the resource GPU that each task takes; 0 for none.
        cores: that the worker may use; a batch system may give each worker some of its own.
        of: cores of the machine.

    Returns:
        At least 1.
    """
    here = [worker for worker in workers.values() if worker["host"] == workers[own]["host"]]
    on_machine = sum(_places(worker, gpus) for worker in here)
    return max(1, min(cores // max(1, _places(workers[own], gpus)), of // max(1, on_machine)))


def _places(worker: Mapping[str, Any], gpus: float) -> int:
    """Tasks that a worker does at the same time."""
    threads = int(worker["nthreads"])
    return min(threads, int(worker["resources"].get("GPU", 0) / gpus)) if gpus else threads


def _problem_here(common: Common) -> str:
    """What a worker answers."""
    return common.problem_here()


def _in_words(answer: str | BaseException) -> str:
    """A worker's answer; an exception means that it could not even read the question."""
    return f"has no mcnlab like ours ({answer})" if isinstance(answer, BaseException) else answer
