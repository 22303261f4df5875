"""Faults of names and ids: whatever they look like, no file appears outside of the folder that was named."""

import contextlib
import csv
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tests.faults.commands import Command, run
from tests.faults.registry import Trial, fault
from tests.faults.training import experiment
from tests.mini_study import BASE, EXPERIMENTS, write_study

NAMES = (
    "../../{}", "/etc/{}", "/tmp/{}", "../{}/../../{}", "..", "./{}", "~/{}", "~root/{}", "{}/../../..", "//{}//",
    "CON{}", "nul.{}", "COM1", "{}:stream", "C:\\{}", "..\\..\\{}", "a\\b{}", "\\\\host\\{}", "{}.", "{} ",
    ".{}", "-{}", "--help{}", "-rf {}", "{}\nsecond line", "{}\ttab", "{}\x1b[31m", "$(touch {})", "`touch {}`",
    "${{HOME}}{}", "; touch {};", "| touch {}", "é{}", "ﬁ{}", "İ{}", "{}\u202egnp", "{}\u200b", "%2e%2e%2f{}",
    "{{{{{}}}}}", "{}" + "x" * 300,
)  # fmt: skip
"""`{}` becomes a word that nothing else has in its name."""
REFUSED = (2, 3, 5)


def named(number: int) -> tuple[str, str]:
    """A hostile name with its word, by number."""
    word = f"escaped{os.getpid()}x{number}"
    return NAMES[number % len(NAMES)].format(*[word] * 4), word


def twin(name: str) -> str:
    """A name that a file system may take for the same one: other normalization, other case."""
    other = unicodedata.normalize("NFD", name)
    return other if other != name else name.swapcase() if name.swapcase() != name else f"{name}."


def surroundings(root: Path, target: Path) -> set[Path]:
    """All that lies below a folder, but what lies in the one that may change."""
    return {path for path in root.rglob("*") if path != target and target not in path.parents}


def strays(word: str) -> list[str]:
    """Names that hold the word in folders where a path-like name may lead."""
    folders = [Path("/"), Path("/etc"), Path("/tmp"), Path.home(), Path("/root"), Path("/home"), Path.cwd()]
    return [str(path) for folder in folders if folder.is_dir() for path in folder.glob(f"*{word}*")]


def manifest(folder: Path, names: tuple[str, str]) -> Path:
    """A CSV of two short clips with these names as ids, recordings, labels and captions."""
    np.save(folder / "frames.npy", np.full((4, 16, 16, 3), 90, np.uint8))
    soundfile.write(folder / "sound.wav", np.zeros(8000, np.float32), 16000)
    path = folder / "clips.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "recording", "video", "audio", "fps", "caption", "label", "split"])
        lines.writerows([one, one, "frames.npy", "sound.wav", "8", f"about {one}", one, "train"] for one in names)
    return path


@fault(
    "path-like-names",
    "path-like names and ids (.., /etc, CON, NFC/NFD twins, very long, control characters, $(x))",
    "no file outside of the target folder, through study, train, import, init, report",
    trials=40,
    few=2,
)
def path_like_name(trial: Trial) -> str:
    """One name for everything that has a name."""
    name, word = named(trial.number)
    around = trial.folder / "around"
    target = around / "inner" / "target"
    target.mkdir(parents=True)
    sources = trial.folder / "sources"
    sources.mkdir()
    settings = yaml.safe_load(experiment(trial.shared).read_text())
    settings |= {**EXPERIMENTS[0], "experiment": name, "training": {**settings["training"], "epochs": 1}}
    (sources / "experiment.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    clips = manifest(sources, (name, twin(name)))
    last = name.replace("/", "_").rstrip(".") or "dots"  # what is typed as a path is meant as one
    before = surroundings(around, target)
    orders: list[list[object]] = [
        ["import", "media", clips, "--out", target / "stores" / last],
        ["train", sources / "experiment.yaml", "--run", target / "runs" / last],
        ["report", target / "runs", "--out", target / "report"],
        ["init", target / "studies" / last],
        ["study", write_study(trial.shared), "--out", target, "--set", f"study={name}"],
    ]
    with contextlib.chdir(target.parent), pytest.MonkeyPatch.context() as patch:
        patch.setattr("mcnlab.study.STUDY_NOTEBOOKS", ())  # they have no names of others to write to
        patch.setattr("mcnlab.reporting.pages.study_maps", lambda *_, **__: None)
        ended = [run(order, trial.folder / f"{order[0]}.log", expected=None) for order in orders]
        if trial.number % 8 == 7:
            own = [{**one, "experiment": each} for one in EXPERIMENTS[:1] for each in (name, twin(name))]
            training = {**BASE["training"], "epochs": 1}
            values = {**BASE, "data": {"store": str(trial.shared / "store")}, "training": training}
            study = {"study": "s", "title": name, "question": name, "seeds": [0], "base": values, "experiments": own}
            (sources / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
            order = ["study", sources / "study.yaml", "--out", target]
            ended.append(run(order, trial.folder / "experiments.log", expected=None))
            made = 2 if ended[-1].code == 0 else 0
            assert len(list((target / "runs" / "s").glob("*-s0"))) == made, "two names share a folder"
        found = strays(word)
    new = surroundings(around, target) - before
    assert not new, f"{name!r} led to {sorted(map(str, new))}"
    assert not found, f"{name!r} led to {found}"
    check_answers(name, ended)
    return "with a study of two such experiments" if len(ended) > len(orders) else "all but a study"


def check_answers(name: str, ended: list[Command]) -> None:
    """Every command did its work, or refused the name in one line."""
    for command in ended:
        assert command.code in (0, *REFUSED), (
            f"{name!r}, {command.log.stem}: ended with {command.code}: {command.said()}"
        )
        if command.code:
            *_, line = command.said().strip().splitlines()
            assert "error: " in command.log.read_text(), f"{name!r}: {line}"
            assert "Traceback" not in command.log.read_text(), f"{name!r}: {line}"
