"""Worker processes that execute run notebooks; what dies is noticed, tried again, and written down."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import psutil

from mcnlab.errors import BusyError, McnlabError, RunError
from mcnlab.files import write_json_atomically
from mcnlab.kernels import THREAD_LIMITS, start_kernels_ready, terminate_kernels
from mcnlab.processes import STOPPING, own_cores
from mcnlab.reporting.notebooks import KernelLostError, execute, notebook_path
from mcnlab.runs import RunFolder

RUN_NOTEBOOK = "01_train_a_combination"
ATTEMPTS = 2
"""Times that a run is begun when its process is killed from outside; an error of its own is not tried again."""
STOPPING_S = 30.0
"""Seconds that runs have for their checkpoint when a study is stopped."""
LOOKING_S = 0.5
"""Seconds between two looks at what sends no message: files, and the state of a cluster."""
WORKER_PROGRAM = """import signal, sys
for name in ("SIGINT", "SIGUSR1"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.path[:] = {path!r}
from mcnlab.processes import die_with_parent
die_with_parent()
from mcnlab.workers import work
work({line})"""
"""What a worker process runs: Ctrl-C and a warning of SLURM's are its owner's affair from the first moment, and so is
its end, also while libraries are loaded."""


@dataclass(frozen=True)
class Job:
    """One run to execute."""

    parameters: Mapping[str, str | int]
    """Of the run notebook; `run_dir` names the run folder."""
    threads: int | None = None
    """Threads of the numeric libraries; None leaves them alone."""
    prefixes: tuple[Path, ...] = ()
    """Where first stages that other runs may share with it lie, or will lie, shortest first."""

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
    refused: bool = False
    """Whether it never began, because another process holds the run folder or something is missing there."""
    stopped: bool = False
    """Whether the owner was asked to stop while it was at work; the run left a checkpoint."""


@dataclass(frozen=True)
class Attempt:
    """A job, and how often it has been begun."""

    job: Job
    number: int = 1
    refusals: int = 0
    not_before: float = 0.0
    """On the monotonic clock."""
    began: float = 0.0
    """When it was given to a worker, on the same clock."""


class JobQueue:
    """Jobs that wait, in order. One whose first stage another job is making is held back until that stage is there.

    So no worker waits for another one. Should the other job end without the stage, the next one makes it.

    Args:
        jobs: the runs.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = [Attempt(job) for job in jobs]
        self._begun: list[Job] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Attempt | None:
        """The next job that can begin; it counts as begun until `ended`. None when there is none at the moment."""
        now = time.monotonic()
        for attempt in self._waiting:
            if attempt.not_before <= now and not self._in_the_making(attempt.job):
                self._waiting.remove(attempt)
                self._begun.append(attempt.job)
                return attempt
        return None

    def ended(self, attempt: Attempt, *, again: Attempt | None = None) -> None:
        """Say that a job has ended; `again` puts it in front once more."""
        self._begun.remove(attempt.job)
        if again is not None:
            self._waiting.insert(0, again)

    def _in_the_making(self, job: Job) -> bool:
        """Whether a job that has begun will make a stage that this one begins with."""
        being_made = {path for begun in self._begun for path in begun.prefixes}
        return any(path in being_made and not path.is_dir() for path in job.prefixes)


class Worker:
    """A process that executes jobs; it ends with the process, and the thread, that started it."""

    def __init__(self) -> None:
        own_end, far_end = socket.socketpair()
        program = WORKER_PROGRAM.format(path=sys.path, line=far_end.fileno())
        self.process = subprocess.Popen(  # a fork after OpenMP was used hangs, and a daemon may not use multiprocessing
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            pass_fds=[far_end.fileno()],
            env={**os.environ, "JPY_PARENT_PID": str(os.getpid())},  # whom it belongs to
        )
        far_end.close()  # so that the end of the process is the end of the line
        self.connection = Connection(own_end.detach())
        self.began = 0.0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

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
            code = self.process.wait()
            how = f"the worker process ended with exit code {code} in the middle of the run"
            return Done(time.monotonic() - self.began, how, lost=True)

    def end(self) -> None:
        """Let an idle worker go."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOPPING_S)
        self.process.kill()
        self.process.wait()


def run_jobs(jobs: Sequence[Job], *, workers: int, on_done: Callable[[Job, Done], None]) -> None:
    """Execute jobs in worker processes, in order.

    A signal that ends the wait also ends the workers: each run in progress leaves a checkpoint first.

    Args:
        jobs: the runs.
        workers: processes at the same time, at least 1.
        on_done: called after every job, also after one that was at work when the signal came.
    """
    queue, workers = JobQueue(jobs), min(workers, len(jobs))
    idle = [Worker() for _ in range(workers)]
    busy: dict[Worker, Attempt] = {}
    try:
        while queue or busy:
            while idle and (attempt := queue.take()) is not None:
                worker = idle.pop()
                busy[worker] = replace(attempt, began=time.monotonic())
                worker.give(with_share_of_cores(attempt.job, own_cores(), workers))
            for worker in _ready(busy, timeout_s=LOOKING_S if idle and queue else None):
                attempt, done = busy.pop(worker), worker.result()
                idle.append(worker if worker.alive else Worker())
                again = replace(attempt, number=attempt.number + 1)
                if done.lost and attempt.number < ATTEMPTS:
                    queue.ended(attempt, again=again)
                    continue
                queue.ended(attempt)
                if done.reason:
                    leave_reason(attempt.job.folder, done)
                on_done(attempt.job, done)
    except BaseException:
        stop(list(busy))
        for attempt in busy.values():
            on_done(attempt.job, Done(time.monotonic() - attempt.began, "the study was stopped", stopped=True))
        raise
    finally:
        for worker in idle:
            worker.end()


def with_share_of_cores(job: Job, cores: int, jobs_at_once: int) -> Job:
    """A job whose settings leave the threads open, with its share of the cores; alone it has them all anyway."""
    if job.threads is not None or jobs_at_once == 1:
        return job
    return replace(job, threads=max(1, cores // jobs_at_once))


def _ready(busy: Mapping[Worker, object], *, timeout_s: float | None) -> list[Worker]:
    """The workers whose job has ended, one way or the other; none when the time is over."""
    by_connection = {worker.connection: worker for worker in busy}
    ended = wait(list(by_connection), timeout_s)
    return [by_connection[connection] for connection in ended if isinstance(connection, Connection)]


def stop(busy: Sequence[Worker]) -> None:
    """Ask workers to stop, wait for their checkpoints, and kill what is left; a second signal kills at once."""
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
            worker.process.wait()


def leave_reason(folder: Path, done: Done) -> None:
    """Write why a run did not finish into its status, unless the run itself said so, or is another process' run."""
    if not done.refused and RunFolder(folder).status["state"] not in ("failed", "interrupted"):
        write_json_atomically(folder / "status.json", {"state": "failed", "reason": done.reason})


def descendants(pid: int | None) -> list[psutil.Process]:
    """The processes below a process; none when it is gone."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def work(line: int) -> None:
    """What a worker process does until its line is cut.

    Args:
        line: descriptor of its end of the line to the owner.
    """
    connection = Connection(line)
    stopping = _pass_signals_on()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        done = execute_job(job)
        if stopping and done.reason and not done.refused:
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
        lost = isinstance(error, KernelLostError)
        return Done(time.monotonic() - began, str(error), lost, refused=BusyError.__name__ in error_names(job, error))
    return Done(time.monotonic() - began)


def error_names(job: Job, error: McnlabError) -> set[str]:
    """Names of the errors in a job's executed notebook, when it is a cell that failed."""
    if not isinstance(error, RunError):
        return set()
    cells = json.loads((job.folder / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    return {output["ename"] for cell in cells for output in cell.get("outputs", []) if "ename" in output}


def leave_interrupted(folder: Path) -> None:
    """A run that was stopped from outside is no failure, whatever its notebook made of it."""
    write_json_atomically(folder / "status.json", {"state": "interrupted", "reason": "the study was stopped"})


def _pass_signals_on() -> list[int]:
    """What asks to stop goes on to the notebook's kernel, which saves; Ctrl-C is the owner's. Returns what arrived."""
    arrived: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        arrived.append(number)
        terminate_kernels()

    for number in STOPPING:
        signal.signal(number, pass_on)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    return arrived
