"""The audit: strace writes down what a command does, and every file that lasts must have come there safely.

Written under a temporary name, flushed to disk, renamed, and its folder flushed: then neither a kill nor a power cut
shows a reader half a file, or takes one away that was there.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.calls import traced
from tests.faults.commands import run
from tests.faults.registry import Trial, fault
from tests.faults.stores import world
from tests.faults.studies import short, study_file
from tests.faults.training import experiment, words

CALLS = "open,openat,creat,rename,renameat,renameat2,fsync,fdatasync,write,pwrite64,writev,sendfile,copy_file_range"
EXCEPTIONS = {
    r"metrics\.jsonl": "appended line by line, flushed before every checkpoint that needs it; a torn end is cut off",
    r"\..*\.lock|\.lock|\.waiting|\..*\.waiting|[0-9a-f]+\.lock": "a lock: its content means nothing",
}
"""Files that may be written in place, by name, and why."""
TEMPORARY = re.compile(r"/\.[^/]*\.(partial-|unfinished)")
CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<rest>.*)$")
RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>")
DESCRIPTOR = re.compile(r"^(?:AT_FDCWD|\d+)<(?P<path>[^>]*)>")
QUOTED = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>, )?"(?P<path>[^"]*)"')


@dataclass
class Disk:
    """What is known of the files below a folder, from the calls so far."""

    root: Path
    unsynced: set[str] = field(default_factory=set)
    """Written since they were flushed."""
    in_place: set[str] = field(default_factory=set)
    """Opened for writing under their own names."""
    renamed: set[str] = field(default_factory=set)
    """Names that a rename has made, and whose folder was not flushed since."""
    named: set[str] = field(default_factory=set)
    """All names that a rename has made."""
    early: set[str] = field(default_factory=set)
    """Got their names before they were flushed."""

    def inside(self, path: str) -> bool:
        """Whether a path is the folder or below it."""
        return Path(path).is_relative_to(self.root)

    def write(self, path: str) -> None:
        """A file is opened for writing, or written to."""
        self.unsynced.add(path)
        if not TEMPORARY.search(path):
            self.in_place.add(path)

    def sync(self, path: str) -> None:
        """A file or a folder is flushed."""
        self.unsynced.discard(path)
        self.renamed = {name for name in self.renamed if str(Path(name).parent) != path}

    def rename(self, old: str, new: str) -> None:
        """A file or a folder gets another name."""
        moved = {path for path in self.unsynced if path == old or path.startswith(f"{old}/")}
        self.unsynced -= moved
        now = {new + path.removeprefix(old) for path in moved}
        self.unsynced |= now
        if not TEMPORARY.search(new):
            self.early |= now
            self.renamed.add(new)
            self.named.add(new)
        self.in_place = {path for path in self.in_place if path != new and not path.startswith(f"{new}/")}


def calls(trace: Path) -> Iterator[tuple[str, list[str], str]]:
    """Every call that did not fail: name, the paths in it, and the whole line."""
    for line in trace.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if match is None or RESUMED.search(line) or re.search(r"= -1 E\w+", line):
            continue
        rest = match["rest"]
        quoted = [str(Path(one["folder"] or "/") / one["path"]) for one in QUOTED.finditer(rest)]
        described = DESCRIPTOR.match(rest)
        opens = match["name"] in ("open", "openat", "creat") or match["name"].startswith("rename")
        yield (
            match["name"],
            [os.path.normpath(p) for p in quoted] if opens else [described["path"]] if described else [],
            rest,
        )


def followed(trace: Path, root: Path) -> Disk:
    """What the calls of a trace leave behind."""
    disk = Disk(root)
    for name, paths, rest in calls(trace):
        paths = [path for path in paths if disk.inside(path)]
        if not paths:
            continue
        if name.startswith("rename"):
            disk.rename(paths[0], paths[-1])
        elif name in ("fsync", "fdatasync"):
            disk.sync(paths[0])
        elif name not in ("open", "openat") or re.search(r"O_(WRONLY|RDWR)", rest):
            disk.write(paths[0])
    return disk


def complaints(disk: Disk) -> list[str]:
    """What is wrong with the files that are there at the end."""
    found = []
    for path in sorted(path for path in disk.root.rglob("*") if path.is_file()):
        name = str(path)
        reason = next((why for pattern, why in EXCEPTIONS.items() if re.fullmatch(pattern, path.name)), None)
        if reason is not None and path.name != "metrics.jsonl":
            continue
        wrong = {
            "no rename was seen": reason is None and not any(path.is_relative_to(one) for one in disk.named),
            "written in place": name in disk.in_place and reason is None,
            "not flushed": name in disk.unsynced,
            "flushed only after its rename": name in disk.early and name not in disk.unsynced,
            "its folder is not flushed": any(name == one or name.startswith(f"{one}/") for one in disk.renamed),
        }
        found += [f"{path.relative_to(disk.root)}: {what}" for what, so in wrong.items() if so]
    return found


KINDS = ("train", "import world", "study", "report")


@fault(
    "audit",
    "rename without fsync, or a final file written in place, in train, import world, study and report (strace)",
    "every file that lasts: temporary name, fsync, rename, fsync of its folder; exceptions: the appended "
    "`metrics.jsonl`, which is flushed before each checkpoint, and lock files",
    trials=len(KINDS),
    few=1,
)
def audit(trial: Trial) -> str:
    """Run one command under strace and go through its calls."""
    if not shutil.which("strace"):
        return "not tried: strace is not there"
    kind = KINDS[trial.number % len(KINDS)]
    root, log, trace = trial.folder / "out", trial.folder / "log", trial.folder / "trace"
    root.mkdir()
    asked = {
        "train": lambda: words(trial.shared, root / "run"),
        "import world": lambda: world(trial.shared, root / "store"),
        "study": lambda: ["study", study_file(trial.shared), "--out", root, "--workers", 1],
        "report": lambda: ["report", finished_runs(trial), "--out", root / "report"],
    }[kind]
    experiment(trial.shared, epochs=2)
    with short():
        command = traced(asked(), log, "-y", "-s", "0", "-o", str(trace), "-e", f"trace={CALLS}")
    assert command.wait() == 0, command.said()
    wait_for_end(trace)
    disk = followed(trace, root)
    assert any(root.rglob("*.json")) or any(root.rglob("*.html")), "nothing was written"
    wrong = complaints(disk)
    assert not wrong, f"{kind}: {len(wrong)} files: {'; '.join(wrong[:12])}"
    return f"{kind} is safe"


def finished_runs(trial: Trial) -> Path:
    """The runs of the study, for a report."""
    folder = trial.shared / "finished"
    if not (folder / "reports").exists():
        run(["study", study_file(trial.shared), "--out", folder, "--workers", 1], trial.shared / "log")
    return folder / "runs" / "mini"


def wait_for_end(trace: Path) -> None:
    """Until strace has written all that it knows."""
    before = -1
    while (size := trace.stat().st_size) != before:
        before = size
        time.sleep(0.3)
