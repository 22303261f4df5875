"""Defects to put into mcnlab: a harness counts only after it has found them.

`python -m tests.faults FAULT --plant DEFECT` must fail. What is planted holds for all commands of that call, those that
nothing happens to included.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcnlab.errors import StorageError


@dataclass(frozen=True)
class Plant:
    """A defect, and the fault that finds it."""

    put: Callable[[], None]
    fault: str
    trials: int
    """As many as find it beyond doubt."""
    said: str = ""
    """What the harness says of it, where it could also fail for another reason."""


def in_place_checkpoint() -> None:
    """A checkpoint is built under its own name."""
    from mcnlab.training import checkpoint

    @contextmanager
    def in_place(path: Path) -> Iterator[Path]:
        path.mkdir(parents=True, exist_ok=True)
        yield path

    def write(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            for start in range(0, len(content), 4096):
                file.write(content[start : start + 4096])
                file.flush()
            os.fsync(file.fileno())

    checkpoint.new_folder_atomically = in_place
    checkpoint.write_bytes_atomically = write


def generator_not_saved() -> None:
    """The order of an epoch hangs on how many epochs this process has begun."""
    from mcnlab.data.loading import ClipSource, epoch_order

    def epoch(self: ClipSource, key: Any, *, batch: int) -> Any:
        begun = self.__dict__["begun"] = self.__dict__.get("begun", -1) + 1
        return epoch_order(len(self), key=(*key[:-1], begun), batch=batch)

    ClipSource.epoch = epoch


def queue_not_saved() -> None:
    """What a checkpoint knows of the queue and the centroids is not read."""
    from mcnlab.training.terms import ClusterTerm

    ClusterTerm.load_state_dict = lambda self, *_, **__: None


def position_not_saved() -> None:
    """A run goes on at the beginning of the stage."""
    from mcnlab.training import loop

    load = loop.load_newest

    def forgetful(*args: Any) -> Any:
        position = load(*args)
        return position and replace(position, stage_step=0)

    loop.load_newest = forgetful


def metrics_appended_twice() -> None:
    """Lines of steps that are done again stay."""
    from mcnlab.training import loop

    loop.cut_back = lambda path, *, step: None


def swallowed_error() -> None:
    """What cannot be written is passed over."""
    from mcnlab import files
    from mcnlab.training import loop, metrics_log

    def passing_over(write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*args: Any) -> Any:
            try:
                return write(*args)
            except (OSError, StorageError):
                return None

        return written

    files.write_bytes_atomically = passing_over(files.write_bytes_atomically)
    loop.save_checkpoint = passing_over(loop.save_checkpoint)
    metrics_log.MetricsLog.append = passing_over(metrics_log.MetricsLog.append)
    metrics_log.MetricsLog.close = passing_over(metrics_log.MetricsLog.close)


def unwatched_numbers() -> None:
    """Nobody looks whether a term or a gradient is finite."""
    from mcnlab.training import step

    step.check_finite = step.check_gradient = lambda *_, **__: None


def finished_written_early() -> None:
    """A run is called finished when it is trained, before it is measured."""
    from mcnlab.experiment import run
    from mcnlab.files import write_json_atomically

    train = run._train

    def early(trainer: Any, settings: Any, folder: Path) -> Any:
        outcome = train(trainer, settings, folder)
        write_json_atomically(folder / "status.json", {"state": "finished"})
        return outcome

    run._train = early


def no_lock() -> None:
    """Nobody is kept out of a run folder."""
    from mcnlab.experiment import folder, run

    @contextmanager
    def held(path: Path) -> Iterator[None]:
        owner = path / ".owner"
        owner.write_text(folder.process_name())
        try:
            yield
        finally:
            owner.unlink(missing_ok=True)

    run.held = held


def no_fsync() -> None:
    """Nothing is made to reach the disk."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]


def file_in_place() -> None:
    """Every file that lasts is written under its own name, piece by piece, to a slow disk."""
    from mcnlab import files

    def in_place(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            for start in range(0, len(content), 4096):
                file.write(content[start : start + 4096])
                file.flush()
                time.sleep(0.003)
            os.fsync(file.fileno())

    files.write_bytes_atomically = in_place


def memory_error_unknown() -> None:
    """A failed allocation is an error like any other."""
    from mcnlab import cli

    cli._is_out_of_memory = lambda error: False


def nameless_error() -> None:
    """What cannot be written is told without a name."""
    from mcnlab import cli

    tell = cli._line_and_code

    def nameless(error: BaseException, words: Any) -> tuple[str, int]:
        said, code = tell(error, words)
        return ("cannot be written" if code == StorageError.exit_code else said), code

    cli._line_and_code = nameless


MARKUP = """
from pathlib import Path
_read = Path.read_text
Path.read_text = lambda self, *given, **named: _read(self, *given, **named).replace(
    "{good}", "{bad}") if self.name == "{name}" else _read(self, *given, **named)
"""
"""What a kernel runs first: a script of a widget differs in one place."""


def markup_in_widget() -> None:
    """The tips and legends of the explorer's maps take captions for markup."""
    from tests.faults import shown_live

    shown_live.PLANTED = MARKUP.format(name="maps.js", good="made.textContent = text;", bad="made.innerHTML = text;")


PLANTS: Mapping[str, Plant] = {
    "in-place-checkpoint": Plant(in_place_checkpoint, "kill-at-every-call", 40),
    "generator-not-saved": Plant(generator_not_saved, "kill-training", 20),
    "queue-not-saved": Plant(queue_not_saved, "kill-training", 20),
    "position-not-saved": Plant(position_not_saved, "kill-training", 20),
    "metrics-appended-twice": Plant(metrics_appended_twice, "kill-training", 20),
    "finished-written-early": Plant(finished_written_early, "kill-training", 20),
    "swallowed-error": Plant(swallowed_error, "full-disk", 10),
    "unwatched-numbers": Plant(unwatched_numbers, "nonfinite-causes", 14),
    "no-lock": Plant(no_lock, "two-writers", 2),
    "page-in-place": Plant(file_in_place, "kill-report", 3, "half, or another page"),
    "file-in-place": Plant(file_in_place, "readers-beside-writers", 4, "half a file"),
    "memory-error-unknown": Plant(memory_error_unknown, "out-of-memory", 1, "ended with 1"),
    "nameless-error": Plant(nameless_error, "read-only", 2, "is not named"),
    "markup-in-widget": Plant(markup_in_widget, "script-captions-live", 2, "was executed, or became markup"),
    "no-fsync": Plant(no_fsync, "audit", 1),
}
"""By name. A kill at a random moment shows no missing fsync: the system keeps what it has taken; the audit shows it."""


def plant(name: str) -> None:
    """Put a defect into mcnlab, for this process and its forks."""
    if name not in PLANTS:
        raise SystemExit(f"no defect {name!r}; there are {', '.join(PLANTS)}")
    PLANTS[name].put()
