"""Faults of imports: killed at any moment and called again, they leave the store of an undisturbed import."""

import csv
import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults.commands import run, start
from tests.faults.registry import Trial, fault
from tests.howto100m_files import write_howto100m
from tests.test_extract_files import write_frames
from tests.test_media import write_video

WORLD = ("train_recordings=12", "val_recordings=0", "test_recordings=4", "video_dim=16", "word_dim=8")
FREE_AFTER_S = 10.0
COLUMNS = ("id", "recording", "video", "caption", "split")


def world(shared: Path, out: Path) -> list[object]:
    """A rendered world."""
    return ["import", "world", "--out", out, *(word for one in WORLD for word in ("--set", one))]


def media(shared: Path, out: Path) -> list[object]:
    """Films with sound, a clip of each."""
    if not (shared / "media.csv").exists():
        rows = []
        for number in range(8):
            write_video(shared / f"{number}.mp4", seconds=1.0 + number / 4)
            rows.append({"id": f"m{number}", "video": f"{number}.mp4", "caption": f"word{number % 3} of film {number}"})
        write_manifest(shared / "media.csv", rows)
    return ["import", "media", shared / "media.csv", "--out", out]


def howto100m(shared: Path, out: Path) -> list[object]:
    """Published features, read by two processes."""
    source = shared / "howto100m"
    if not source.exists():
        source.mkdir()
        write_howto100m(source, 60)
    given = ["--features", source / "features", "--captions", source / "caption.json", "--text", source / "words.bin"]
    return ["import", "howto100m", source / "list.csv", *given, "--out", out, "--per-shard", 4, "--workers", 2]


def extract(shared: Path, out: Path) -> list[object]:
    """Whole films through a small ResNet of random weights."""
    if not (shared / "videos.csv").exists():
        import transformers  # not needed by the other kinds, and slow to load

        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
        transformers.ResNetModel(config).save_pretrained(shared / "resnet")
        rows = []
        for number in range(8):
            levels = np.full(50, 20 + 25 * number)
            write_frames(shared / f"film{number}.mp4", levels, np.arange(50) / 25, sound_s=2.0)
            rows.append({"id": f"e{number}", "video": f"film{number}.mp4", "caption": f"word{number % 3} is seen"})
        write_manifest(shared / "videos.csv", rows)
    return ["extract", shared / "videos.csv", "--video", shared / "resnet", "--out", out, "--threads", 1]


def write_manifest(path: Path, rows: list[dict[str, str]]) -> None:
    """A manifest whose last two rows are for testing."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for number, row in enumerate(rows):
            split = "test" if number >= len(rows) - 2 else "train"
            writer.writerow({"recording": row["id"], "split": split, **row})


KINDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "import world": world,
    "import media": media,
    "import howto100m": howto100m,
    "extract": extract,
}


def content(folder: Path) -> dict[str, str]:
    """The sum of every file below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def undisturbed(shared: Path, kind: str) -> tuple[Path, float]:
    """A store whose import nothing happened to, and how long that took."""
    name = kind.replace(" ", "-")
    folder, took = shared / f"store-{name}", shared / f"seconds-{name}"
    if not took.exists():
        os.environ["HF_HUB_OFFLINE"] = "1"  # a folder is given: nothing is looked up
        words = KINDS[kind](shared, folder)
        began = time.monotonic()
        run(words, shared / "log")
        took.write_text(str(time.monotonic() - began))
    return folder, float(took.read_text())


@fault(
    "kill-import",
    "kill -9 at a random moment of import world, import media, import howto100m (two processes) or extract",
    "called again: the same files to the byte as undisturbed, nothing partial left, `verify` finds nothing",
    trials=50,
    few=4,
)
def kill_import(trial: Trial) -> str:
    """Kill it up to twice, alone or with its processes, then let it end."""
    kind, kills = list(KINDS)[trial.number % len(KINDS)], 0
    known, seconds = undisturbed(trial.shared, kind)
    folder, log = trial.folder / "store", trial.folder / "log"
    words = KINDS[kind](trial.shared, folder)
    for _ in range(trial.random.randint(1, 2)):
        command = start(words, log)
        time.sleep(trial.random.uniform(0, seconds))
        if command.poll() is None and trial.random.random() < 0.5:
            command.kill_alone()  # its processes must notice by themselves
        elif command.code is None:
            command.kill()
        kills += command.code == -signal.SIGKILL
    run_until_free(words, log)
    assert content(folder) == content(known), "differs from the undisturbed store"
    left = sorted(
        path.name for path in trial.folder.rglob(".*") if ".partial-" in path.name or "unfinished" in path.name
    )
    assert not left, f"left behind: {', '.join(left)}"
    run(["verify", folder], trial.folder / "verify.log")
    return f"{kind} killed" if kills else f"{kind} was faster"


def run_until_free(words: list[object], log: Path) -> None:
    """Run a command; for some seconds it may be told that the processes of a killed one still hold the store."""
    deadline = time.monotonic() + FREE_AFTER_S
    while (command := run(words, log, expected=None)).code == 6 and time.monotonic() < deadline:
        time.sleep(0.1)
    there = command.code == 5 and "exists already" in command.said()  # the kill came after the last rename
    assert command.code == 0 or there, f"ended with {command.code}: {command.said()}"
