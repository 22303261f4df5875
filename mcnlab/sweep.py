"""The runs of a study as tasks of a dask cluster; a lost worker's run goes on elsewhere from its checkpoint."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from mcnlab.cluster import Common, threads_per_task
from mcnlab.errors import RunError
from mcnlab.processes import own_cores
from mcnlab.progress import console
from mcnlab.runs import RunFolder
from mcnlab.workers import (
    ATTEMPTS,
    LOOKING_S,
    STOPPING_S,
    Attempt,
    Done,
    Job,
    JobQueue,
    Worker,
    leave_reason,
    stop,
)

if TYPE_CHECKING:
    from distributed import Client, Future

REFUSALS = 60
"""Times that a run is put off because another process holds its folder, or a worker does not see it."""
PUT_OFF_S = 10.0
"""Seconds between two of them."""

_idle: dict[str, list[Worker]] = {}
"""In a dask worker: processes that have done a run and are ready for the next one, by `own_versions`."""


@dataclass(frozen=True)
class Sweep:
    """What the runs of a study need of a cluster."""

    client: "Client"
    common: Common
    gpus_per_run: float = 0.0
    """Of the resource GPU."""

    def run(self, jobs: Sequence[Job], *, on_done: Callable[[Job, Done], None]) -> None:
        """Execute jobs on the cluster, one task each.

        A signal that ends the wait also ends the tasks: each run in progress leaves a checkpoint first. The scheduler
        gives a lost worker's task to another one, until it has been lost too often (its `allowed-failures`).

        Args:
            jobs: the runs.
            on_done: called after every job.

        Raises:
            RunError: the scheduler was lost.
        """
        queue = JobQueue(jobs)
        tasks: dict[Future, Attempt] = {}
        try:
            while queue or tasks:
                while (attempt := queue.take()) is not None:
                    tasks[self._sent(attempt)] = attempt
                for task in self._ended(tasks):
                    self._conclude(queue, tasks.pop(task), self._outcome(task), on_done)
        except BaseException:
            self._cancel(tasks)
            raise
        finally:
            if self._connected:
                with contextlib.suppress(OSError, TimeoutError):
                    self.client.run(let_workers_go, on_error="ignore")

    @property
    def _connected(self) -> bool:
        """Whether the scheduler is there."""
        return bool(self.client.status == "running")

    def _sent(self, attempt: Attempt) -> "Future":
        """A job as a task; its name is shown in the dashboard."""
        sent: Future = self.client.submit(
            execute_as_task,
            attempt.job,
            self.common,
            self.gpus_per_run,
            key=f"{attempt.job.folder.name}-{uuid4().hex[:8]}",
            pure=False,
            resources={"GPU": self.gpus_per_run} if self.gpus_per_run else None,
        )
        return sent

    def _ended(self, tasks: dict["Future", Attempt]) -> list["Future"]:
        """Tasks that have ended, one way or the other; waits a moment for one."""
        deadline = time.monotonic() + LOOKING_S
        while time.monotonic() < deadline:
            if ended := [task for task in tasks if task.status != "pending"]:
                return ended
            time.sleep(LOOKING_S / 10)
        return []

    def _outcome(self, task: "Future") -> Done:
        """How a task ended."""
        if task.status == "finished":
            done: Done = task.result()
            return done
        if task.status in ("cancelled", "lost"):
            raise RunError(
                "the scheduler was lost; all that was done is on disk, and the same command goes on from there"
            )
        error = task.exception()
        return Done(0.0, f"{type(error).__name__}: {' '.join(str(error).split())}")

    def _conclude(self, queue: JobQueue, attempt: Attempt, done: Done, on_done: Callable[[Job, Done], None]) -> None:
        """Try a job again where that may help; else say how it ended."""
        if done.lost and attempt.number < ATTEMPTS:
            queue.ended(attempt, again=replace(attempt, number=attempt.number + 1))
        elif done.refused and attempt.refusals < REFUSALS:
            if not attempt.refusals:
                console.print(f"{attempt.job.folder.name}: put off, {done.reason}", markup=False, highlight=False)
            later = time.monotonic() + PUT_OFF_S
            queue.ended(attempt, again=replace(attempt, refusals=attempt.refusals + 1, not_before=later))
        else:
            queue.ended(attempt)
            if done.reason:
                leave_reason(attempt.job.folder, done)
            on_done(attempt.job, done)

    def _cancel(self, tasks: dict["Future", Attempt]) -> None:
        """Cancel the tasks, and wait for the checkpoints of those that have begun; a second signal ends the wait."""
        if not self._connected:
            return
        with contextlib.suppress(OSError, TimeoutError):
            self.client.cancel(list(tasks), force=True)
        deadline = time.monotonic() + STOPPING_S
        folders = [attempt.job.folder for attempt in tasks.values()]
        while any(_at_work(folder) for folder in folders) and time.monotonic() < deadline:
            time.sleep(LOOKING_S)


def _at_work(folder: Path) -> bool:
    """Whether a run says that it is running."""
    return RunFolder(folder).status["state"] == "running"


def execute_as_task(job: Job, common: Common, gpus_per_run: float) -> Done:
    """Execute one run on a dask worker, in a process of its own that ends with it.

    Args:
        job: the run.
        common: what this worker must have in common with the one who sent it.
        gpus_per_run: of the resource GPU that the run takes.

    Returns:
        How it ended; refused when something is not in common.
    """
    # only dask calls this
    from distributed import get_worker

    own = get_worker()
    if problem := common.problem_here():
        return Done(0.0, f"worker {own.address} {problem}", refused=True)
    key = own.get_current_task()
    worker = _ready_worker(common.versions)
    worker.give(job if job.threads is not None else replace(job, threads=_own_threads(gpus_per_run)))
    while not worker.connection.poll(LOOKING_S):
        task = own.state.tasks.get(key)
        if (
            task is None
            or task.state == "cancelled"
            or own.status.name not in ("running", "paused", "closing_gracefully")
        ):
            stop([worker])
    done = worker.result()
    if worker.alive:
        _idle.setdefault(common.versions, []).append(worker)
    return done


def let_workers_go() -> None:
    """End the idle processes of this dask worker."""
    while _idle:
        _, workers = _idle.popitem()
        for worker in workers:
            worker.end()


def _ready_worker(versions: str) -> Worker:
    """An idle process of these versions, or a new one."""
    waiting = _idle.get(versions, [])
    while waiting:
        worker = waiting.pop()
        if worker.alive:
            return worker
    return Worker()


def _own_threads(gpus_per_run: float) -> int:
    """Threads for a run on this dask worker."""
    # only dask calls this
    from distributed import get_client, get_worker

    workers = get_client().scheduler_info()["workers"]
    return threads_per_task(workers, get_worker().address, gpus=gpus_per_run, cores=own_cores(), of=os.cpu_count() or 1)
