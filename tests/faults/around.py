"""Faults of what is around a command: pages cut off, readers beside it, too little memory, folders it may not write."""

import os
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import yaml
from safetensors.numpy import load

from mcnlab.files import parse_json
from tests.fake_study import write_fake_study
from tests.faults.commands import run, start
from tests.faults.registry import Trial, fault
from tests.faults.stores import content, run_until_free, world
from tests.faults.stores import undisturbed as undisturbed_store
from tests.faults.studies import short, study_words
from tests.faults.training import same_as_undisturbed, undisturbed, words

MOST_MORE_MB = 400
"""So much more memory than the libraries take is always enough for the commands that are tried."""
NOBODY = 65534
MEMORY_SIGNALS = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGKILL)
"""What libraries in C++ and Rust end a process by when an allocation fails: nobody can catch that."""


def report_words(shared: Path, out: Path) -> list[object]:
    """The command that writes the pages of an invented study."""
    runs = shared / "runs" / "invented"
    if not runs.exists():
        write_fake_study(runs, seeds=(0,), clips=30, steps=12)
    return ["report", runs, "--out", out]


def undisturbed_pages(shared: Path) -> tuple[Path, float]:
    """Pages that nothing happened to, and how long they took."""
    folder, took = shared / "pages", shared / "pages-seconds"
    if not took.exists():
        asked = report_words(shared, folder)
        began = time.monotonic()
        with short():
            run(asked, shared / "pages.log")
        took.write_text(str(time.monotonic() - began))
    return folder, float(took.read_text())


def written(folder: Path) -> set[tuple[str, int]]:
    """The page of a report, and what it is written to, with their times."""
    found = set()
    for path in folder.glob("*index.html*"):
        with suppress(FileNotFoundError):  # it was renamed in the meantime
            found.add((path.name, path.stat().st_mtime_ns))
    return found


@fault(
    "kill-report",
    "kill -9 at a random moment of `report`, and while its page is written, in turn",
    "every page at its name is a whole one; called again: the same pages to the byte, nothing partial left",
    trials=20,
    few=1,
)
def kill_report(trial: Trial) -> str:
    """Kill it up to twice, look at what is there, then let it end."""
    known_folder, seconds = undisturbed_pages(trial.shared)
    known, folder, log, kills = content(known_folder), trial.folder / "pages", trial.folder / "log", 0
    asked = report_words(trial.shared, folder)
    with short():
        for _ in range(trial.random.randint(1, 2)):
            before = written(folder)
            command = start(asked, log)
            if trial.number % 2:
                time.sleep(trial.random.uniform(0, seconds))
            else:  # while the page is written
                while written(folder) <= before and command.poll() is None:
                    time.sleep(0.001)
                time.sleep(trial.random.uniform(0, 0.02))
            if command.poll() is None:
                command.kill()
            kills += command.code == -signal.SIGKILL
            there = {name: one for name, one in content(folder).items() if ".partial-" not in name}
            other = [name for name, one in there.items() if known.get(name) != one]
            assert not other, f"half, or another page: {', '.join(other[:3])}"
        run(asked, log)
    assert content(folder) == known, "differs from the undisturbed pages"
    return f"killed {kills} times" if kills else "was faster than the kill"


def read_whole(path: Path) -> None:
    """Read a file as those do who know its kind; raises when it is not whole."""
    kind, raw = path.suffix, path.read_bytes()
    if path.name == "metrics.jsonl":
        for line in raw.decode().splitlines()[:-1]:  # the last one may be in the making
            parse_json(line)
    elif kind in (".json", ".ipynb"):
        parse_json(raw.decode())
    elif kind in (".yaml", ".yml"):
        assert isinstance(yaml.safe_load(raw), dict), "no mapping"
    elif kind == ".safetensors":
        load(raw)
    elif kind == ".parquet":
        with path.open("rb") as file:
            pq.read_table(file)
    elif kind == ".html":
        assert raw.rstrip().endswith(b"</html>"), "the page is cut off"
    elif kind == ".csv":
        assert raw.endswith(b"\n"), "the table is cut off"
        assert len(pd.read_csv(path, dtype=str)), "no rows"


def read_all(folder: Path) -> int:
    """Read every file below a folder whose name is a lasting one; how many."""
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                continue
            try:
                read_whole(Path(place) / name)
                count += 1
            except FileNotFoundError:
                continue  # it was replaced, or its checkpoint was dropped, between the list and the reading
            except Exception as error:
                raise AssertionError(f"{Path(place, name)}: half a file ({type(error).__name__}: {error})") from error
    return count


@fault(
    "readers-beside-writers",
    "someone reads every file of a run, a store, a report or a study all the time while it is written",
    "never half a file; the command ends well",
    trials=20,
    few=1,
)
def readers_beside_writers(trial: Trial) -> str:
    """Read for as long as it works."""
    kind = ("train", "import", "report", "study")[trial.number % 4]
    out = trial.folder / "out"
    asked = {"train": words, "import": world, "report": report_words, "study": study_words}[kind](trial.shared, out)
    read = rounds = 0
    with short():
        command = start(asked, trial.folder / "log")
        try:
            while command.poll() is None:
                read, rounds = read + read_all(out), rounds + 1
                time.sleep(trial.random.uniform(0, 0.01))
        finally:
            if command.poll() is None:
                command.kill()
    assert command.code == 0, f"ended with {command.code}: {command.said()}"
    assert rounds > 1, "nobody read"
    read_all(out)
    return kind


def limit_memory(more_mb: int) -> None:
    """This process, and those that it starts, get so much more memory than it has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + more_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@fault(
    "out-of-memory",
    "an allocation fails at a random moment of training or of an import (limit of address space)",
    "exit 5 with one line, or ended by a signal where a library knows no other way; goes on; same to the bit",
    trials=20,
    few=2,
)
def out_of_memory(trial: Trial) -> str:
    """Give it too little, then enough."""
    training = trial.number % 2 == 0
    known = undisturbed(trial.shared) if training else undisturbed_store(trial.shared, "import world")
    folder, log = trial.folder / "out", trial.folder / "log"
    asked = words(trial.shared, folder) if training else world(trial.shared, folder)
    more_mb = int(MOST_MORE_MB * trial.random.random() ** 2)
    command = start(asked, log, first=lambda: limit_memory(more_mb))
    code = command.wait()
    if code > 0:
        line = (command.said().strip().splitlines() or [""])[-1]
        assert code == 5, f"ended with {code} ({more_mb} MB): {command.said()}"
        assert line.startswith("error: "), command.said()
        assert "memory" in line, line
        assert "Traceback" not in log.read_text(errors="replace"), command.said()
    elif code < 0:
        assert -code in MEMORY_SIGNALS, f"ended by signal {-code}: {command.said()}"
    if training:
        run(asked, log)
        same_as_undisturbed(trial, folder)
    else:
        run_until_free(asked, log)
        assert content(folder) == content(known[0]), "differs from the undisturbed store"
    what = "training" if training else "import"
    return f"{what}: {'a line' if code == 5 else 'a signal' if code else 'there was enough'}"


PLACES = ("status.json", "provenance.json", "metrics.jsonl", "settings.yaml", "results.json", "clips.parquet")
"""Names in a run folder where a folder may stand in the way."""


def as_nobody(folder: Path) -> None:
    """Go on as a user who may read everything below a folder's parents and write nothing there."""
    os.environ["HOME"] = os.environ["MPLCONFIGDIR"] = str(folder)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@fault(
    "read-only",
    "the run's folder may not be written (a user without rights), or a folder stands where a file should be",
    "exit 5 with one line that names the path; goes on when it may; bit-identical",
    trials=20,
    few=2,
)
def read_only(trial: Trial) -> str:
    """Begin it, put something in the way, call it, take that away, let it end."""
    folder, log = trial.folder / "run", trial.folder / "log"
    _, seconds = undisturbed(trial.shared)
    asked = words(trial.shared, folder)
    command = start(asked, log)
    time.sleep(trial.random.uniform(0, seconds / 2))
    command.kill()
    folder.mkdir(exist_ok=True)
    if trial.number % 2 == 0 and os.geteuid() == 0:
        for place in (trial.folder.parent, trial.folder, trial.shared):
            place.chmod(0o755)
        scratch = trial.folder / "scratch"
        scratch.mkdir(mode=0o777)
        command = start(asked, log, first=lambda: as_nobody(scratch))
        code, name, what = command.wait(), str(folder), "no right to write"
    else:
        name = trial.random.choice(PLACES)
        kept = trial.folder / "kept-aside"
        with suppress(FileNotFoundError):
            (folder / name).rename(kept)
        (folder / name).mkdir()
        command = start(asked, log)
        code, what = command.wait(), f"a folder in place of {name}"
    assert code == 5, f"{what}: ended with {code}: {command.said()}"
    line = command.said().strip().splitlines()[-1]
    assert line.startswith("error: "), line
    assert name in line, f"{name} is not named: {line}"
    assert "Traceback" not in log.read_text(errors="replace"), command.said()
    if not what.startswith("no right"):
        (folder / name).rmdir()
        with suppress(FileNotFoundError):
            kept.rename(folder / name)
    run(asked, log)
    same_as_undisturbed(trial, folder)
    return what
