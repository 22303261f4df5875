"""Worker processes that execute run notebooks; what dies is noticed, tried again, and written down."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import psutil

from mcnlab.errors import McnlabError
from mcnlab.files import write_json_atomically
from mcnlab.kernels import THREAD_LIMITS, start_kernels_ready, terminate_kernels
from mcnlab.processes import die_with_parent
from mcnlab.reporting.notebooks import KernelLostError, execute, notebook_path
from mcnlab.runs import RunFolder

RUN_NOTEBOOK = "01_train_a_combination"
ATTEMPTS = 2
"""Times that a run is begun when its process is killed from outside; an error of its own is not tried again."""
STOPPING_S = 30.0
"""Seconds that runs have for their checkpoint when a study is stopped."""


@dataclass(frozen=True)
class Job:
    """One run to execute."""

    parameters: Mapping[str, str | int]
    """Of the run notebook; `run_dir` names the run folder."""
    threads: int | None = None
    """Threads of the numeric libraries; None leaves them alone."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(str(self.parameters["run_dir"]))


@dataclass(frozen=True)
class Done:
    """How a job ended."""

    seconds: float
    reason: str = ""
    """Why it failed; empty when it did not."""
    lost: bool = False
    """Whether a process was killed from outside, so that another attempt may help."""


class Worker:
    """A process that executes jobs; it ends with the process, and the thread, that started it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork after OpenMP was used hangs
        self.connection, far_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(far_end,), daemon=False)
        self.process.start()
        far_end.close()  # so that the end of the process is the end of the line
        self.began = 0.0

    def give(self, job: Job) -> None:
        """Hand over a job."""
        self.began = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # a worker that is gone shows in `result`
            self.connection.send(job)

    def result(self) -> Done:
        """How the job ended; waits for it."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            how = f"the worker process ended with exit code {self.process.exitcode} in the middle of the run"
            return Done(time.monotonic() - self.began, how, lost=True)

    def end(self) -> None:
        """Let an idle worker go."""
        self.connection.close()
        self.process.join(STOPPING_S)
        self.process.kill()


def run_jobs(jobs: Sequence[Job], *, workers: int, on_done: Callable[[Job, Done], None]) -> None:
    """Execute jobs in worker processes, in order.

    A signal that ends the wait also ends the workers: each run in progress leaves a checkpoint first.

    Args:
        jobs: the runs.
        workers: processes at the same time, at least 1.
        on_done: called after every job.
    """
    waiting = deque((job, 1) for job in jobs)
    idle = [Worker() for _ in range(min(workers, len(jobs)))]
    busy: dict[Worker, tuple[Job, int]] = {}
    try:
        while waiting or busy:
            while idle and waiting:
                worker = idle.pop()
                busy[worker] = waiting.popleft()
                worker.give(busy[worker][0])
            for worker in _ready(busy):
                job, attempt = busy.pop(worker)
                done = worker.result()
                idle.append(worker if worker.process.is_alive() else Worker())
                if done.lost and attempt < ATTEMPTS:
                    waiting.appendleft((job, attempt + 1))
                    continue
                if done.reason:
                    leave_reason(job.folder, done.reason)
                on_done(job, done)
    except BaseException:
        _stop(list(busy))
        raise
    finally:
        for worker in idle:
            worker.end()


def _ready(busy: Mapping[Worker, object]) -> list[Worker]:
    """The workers whose job has ended, one way or the other."""
    by_connection = {worker.connection: worker for worker in busy}
    return [by_connection[connection] for connection in wait(list(by_connection)) if isinstance(connection, Connection)]


def _stop(busy: Sequence[Worker]) -> None:
    """Ask the workers to stop, wait for their checkpoints, and kill what is left; a second signal kills at once."""
    try:
        for worker in busy:
            worker.process.terminate()
        deadline = time.monotonic() + STOPPING_S
        for worker in busy:
            worker.connection.poll(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in busy:
            for process in descendants(worker.process.pid):
                process.kill()
            worker.process.kill()
            worker.process.join()


def leave_reason(folder: Path, reason: str) -> None:
    """Write why a run did not finish into its status, unless the run itself said so."""
    if RunFolder(folder).status["state"] not in ("failed", "interrupted"):
        write_json_atomically(folder / "status.json", {"state": "failed", "reason": reason})


def descendants(pid: int | None) -> list[psutil.Process]:
    """The processes below a process; none when it is gone."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _work(connection: Connection) -> None:
    """What a worker process does until its line is cut."""
    die_with_parent()
    stopping = _pass_signals_on()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        done = execute_job(job)
        if stopping and done.reason:
            leave_interrupted(job.folder)
        with contextlib.suppress(BrokenPipeError):
            connection.send(done)
        if stopping:
            return


def execute_job(job: Job) -> Done:
    """Execute one run's notebook.

    Args:
        job: the run.

    Returns:
        How it ended; a run that failed has said so in its status.
    """
    began = time.monotonic()
    if job.threads is not None:
        os.environ.update(dict.fromkeys(THREAD_LIMITS, str(job.threads)))
    start_kernels_ready()
    try:
        execute(notebook_path(RUN_NOTEBOOK), job.folder / "notebook.ipynb", job.parameters)
    except McnlabError as error:
        return Done(time.monotonic() - began, str(error), lost=isinstance(error, KernelLostError))
    return Done(time.monotonic() - began)


def leave_interrupted(folder: Path) -> None:
    """A run that was stopped from outside is no failure, whatever its notebook made of it."""
    write_json_atomically(folder / "status.json", {"state": "interrupted", "reason": "the study was stopped"})


def _pass_signals_on() -> list[int]:
    """SIGTERM goes on to the notebook's kernel, which saves; Ctrl-C is the owner's affair. Returns what arrived."""
    arrived: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        arrived.append(number)
        terminate_kernels()

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    return arrived
