"""Work on other machines: the workers of a running dask cluster as an ordinary executor."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from mcnlab.errors import ConfigError

CONNECT_S = 10
"""Seconds until a scheduler that does not answer is given up."""


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
    try:
        from distributed import Client  # late: an extra, and a second of start-up
    except ImportError as error:
        raise ConfigError("scheduler: a dask cluster needs distributed; install mcnlab[cluster]") from error
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(f"scheduler: {scheduler!r}: no dask scheduler answers there ({error})") from error
    with client:
        yield client.get_executor(pure=False)
