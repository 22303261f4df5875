"""Faults of the disk: full at a random moment; one line says so, and the same command goes on when there is space."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mcnlab.runs import RunFolder
from tests.faults import stores, studies
from tests.faults.commands import Command, run
from tests.faults.registry import Trial, fault
from tests.faults.training import same_as_undisturbed, undisturbed, words

DISK_MB = {"train": 3, "import": 24, "study": 24}
KINDS = tuple(DISK_MB)
FULL = "No space left"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A disk of its own size at a folder; None without the right to mount."""
    folder.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(asked, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path, *, leave: int) -> None:
    """Fill a disk up to so many bytes."""
    with ballast.open("wb", buffering=0) as file:
        with suppress(OSError):  # the disk is full
            while True:
                file.write(b"\0" * 4096)
        file.truncate(max(0, ballast.stat().st_size - leave))


def size(folder: Path) -> int:
    """Bytes of all files below a folder, in the blocks of a disk."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def complain(command: Command, reasons: str = "") -> None:
    """Raise unless a command that found no space said so in one line."""
    said = command.log.read_text(errors="replace")
    assert command.code == 5 or (command.code == 1 and reasons), f"ended with {command.code}: {command.said()}"
    line = said.strip().splitlines()[-1]
    assert line.startswith("error: "), line
    assert FULL in line or FULL in reasons, f"{line}; {reasons}"
    assert "Traceback" not in said, command.said()


@fault(
    "full-disk",
    "disk full (small tmpfs) at a random moment of training, of an import or extract, of a study, in turn",
    "exit 5 with a clear error (a study: or 1, and the run's reason says it); the old state is intact; goes on when "
    "there is space again",
    trials=30,
    few=3,
)
def full_disk(trial: Trial) -> str:
    """Write on a small disk beside a file that takes all but a random rest of it."""
    kind = KINDS[trial.number % len(KINDS)]
    with small_disk(trial.folder / "disk", DISK_MB[kind]) as disk:
        if disk is None:
            return "not tried: no right to mount"
        return f"{kind}: {TRIED[kind](trial, disk)}"


def _twice(trial: Trial, disk: Path, asked: list[object], same: Callable[[], None], *, most: int) -> str:
    """The command with a full disk, then with space."""
    fill(disk / "ballast", leave=trial.random.randint(0, most))
    command = run(asked, trial.folder / "log", expected=None)
    if command.code:
        runs = [RunFolder(path.parent) for path in disk.rglob("status.json")]
        complain(command, "; ".join(str(one.status.get("reason") or "") for one in runs))
    else:
        same()  # it said that all went well
    (disk / "ballast").unlink()
    run(asked, trial.folder / "log")
    same()
    return "disk was full" if command.code else "there was space enough"


def _train(trial: Trial, disk: Path) -> str:
    """A run."""
    undisturbed(trial.shared)
    asked = words(trial.shared, disk / "run")
    return _twice(trial, disk, asked, lambda: same_as_undisturbed(trial, disk / "run"), most=700_000)


def _import(trial: Trial, disk: Path) -> str:
    """An import or an extraction."""
    kind = list(stores.KINDS)[trial.number // len(KINDS) % len(stores.KINDS)]
    known, _ = stores.undisturbed(trial.shared, kind)
    fill(disk / "ballast", leave=trial.random.randint(0, int(1.3 * size(known))))
    asked = stores.KINDS[kind](trial.shared, disk / "store")
    command = run(asked, trial.folder / "log", expected=None)
    if command.code:
        complain(command)
        assert not (disk / "store").exists(), "a store that is not whole has its name"
    (disk / "ballast").unlink()
    if command.code:
        run(asked, trial.folder / "log")
    assert stores.content(disk / "store") == stores.content(known), f"{kind}: differs from the undisturbed store"
    run(["verify", disk / "store"], trial.folder / "verify.log")
    return "disk was full" if command.code else "there was space enough"


def _study(trial: Trial, disk: Path) -> str:
    """A study of two runs."""
    known, _ = studies.undisturbed(trial.shared)

    def same() -> None:
        assert studies.table(disk / "out") == studies.table(known), "another table of results"

    with studies.short():
        asked = studies.study_words(trial.shared, disk / "out")
        return _twice(trial, disk, asked, same, most=int(1.1 * size(known)))


TRIED = {"train": _train, "import": _import, "study": _study}
