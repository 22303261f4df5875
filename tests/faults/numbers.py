"""Faults of numbers: each cause of a loss that is not finite, planted: what is wrong is named, or all stays finite."""

import copy
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

from tests.faults.commands import run
from tests.faults.registry import Trial, fault
from tests.mini_study import BASE, EXPERIMENTS
from tests.small_store import make_store

WEIGHTS = (
    r"term \w+ of \S+ is \S+ in stage .*step \d+, clips .*: "
    r"the \w+ of \w+ overflow float32, .*its weights reach \S+e\+\d\d "
)
"""What the watch says when weights have grown beyond all bounds."""
GRADIENT = r"norm of the gradient is not finite .*step \d+"


@dataclass(frozen=True)
class Case:
    """One way to plant a cause, and what must come of it."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """By dotted name, over the experiment."""
    store: Mapping[str, Any] = field(default_factory=dict)
    """Of `make_store`."""
    change: Callable[[dict[str, np.ndarray]], None] | None = None
    """Done to the rows of a shard once the store is written."""
    ends: Mapping[int, str] = field(default_factory=lambda: {0: ""})
    """By exit code that is right: what the error must say."""


def not_a_number(rows: dict[str, np.ndarray]) -> None:
    """One value of one row."""
    rows["video_2d"][5, 3] = np.nan


def all_zero(rows: dict[str, np.ndarray]) -> None:
    """A modality that says nothing."""
    rows["video_2d"][:] = 0


def identical(rows: dict[str, np.ndarray]) -> None:
    """Clips that do not differ."""
    for values in rows.values():
        values[:] = values[:1]


RAW_HALVES = {"training.precision": "float16", "mode": "faithful", "training.lr": 3.0, "training.epochs": 30}
CAUSES: dict[str, tuple[Case, ...]] = {
    "NaN feature": (Case(change=not_a_number, ends={3: r"clip r0:1: video holds values that are not finite"}),),
    "all-zero modality": (Case(change=all_zero), Case(change=all_zero, settings={"mode": "faithful"})),
    "identical features": (Case(change=identical), Case(change=identical, settings={"mode": "faithful"})),
    "more clusters than rows": (
        Case(
            settings={"terms.cluster.clusters": 500},
            ends={2: r"terms\.cluster\.clusters: 500 clusters, but k-means sees at most 32 rows"},
        ),
        Case(settings={"terms.cluster.clusters": 100, "terms.cluster.queue_batches": 20}),
    ),
    "batch smaller than clusters": (
        Case(settings={"training.batch": 4, "terms.cluster.queue_batches": 8}),
        Case(
            settings={"training.batch": 4, "terms.cluster.queue_batches": 0},
            ends={2: r"terms\.cluster\.clusters: 8 clusters, but k-means sees at most 4 rows"},
        ),
    ),
    "one-clip data set": (
        Case(
            store={"recordings": 2, "clips": 1, "test": 1},
            settings={"terms.cluster.clusters": 1},
            ends={3: r"split 'train': .*fewer than two clips have both"},
        ),
    ),
    "learning rate 1e6": (
        Case(settings={"training.lr": 1e6, "training.warmup_steps": 0}, ends={0: "", 4: f"{WEIGHTS}|{GRADIENT}"}),
        Case(settings={"training.lr": 1e30, "training.warmup_steps": 0}, ends={4: WEIGHTS}),
        Case(settings={"training.lr": "inf"}, ends={2: r"training\.lr: .*finite"}),
    ),
    "float16 with raw dot products": (
        Case(
            settings=RAW_HALVES,
            ends={4: r"term (contrast of va|cluster of (video|audio)) is \S+ in stage 1:AV, step .*float16"},
        ),
        Case(
            settings={**RAW_HALVES, "terms": {"contrast": {}}, "training.lr": 100.0},
            ends={4: r"term contrast of \w\w is \S+ in stage .*step .*float16"},
        ),
    ),
    "temperature 0": (
        Case(settings={"terms.contrast.temperature": 0}, ends={2: r"terms\.contrast\.temperature: .*greater than 0"}),
        Case(settings={"terms.cluster.temperature": 0}, ends={2: r"terms\.cluster\.temperature: .*greater than 0"}),
    ),
    "weight 0": (Case(settings={f"terms.{name}.weight": 0 for name in ("contrast", "cluster", "reconstruct")}),),
    "empty captions": (
        Case(store={"missing_text": 1.0}, ends={3: r"needs text; the store has video, audio"}),
        Case(store={"missing_text": 0.7}),
    ),
    "margin too large": (
        Case(settings={"terms.contrast.margin": "inf"}, ends={2: r"terms\.contrast\.margin: .*finite"}),
        Case(
            settings={"terms.contrast.margin": 3e38},
            ends={4: r"term contrast of va is inf in stage 1:AV, step 0, clips .*margin 3e\+38"},
        ),
    ),
    "empty clusters": (
        Case(change=identical, settings={"terms.cluster.refit_every": 1}),
        Case(change=identical, settings={"terms.cluster.refit_every": 1, "mode": "faithful"}),
    ),
    "queue longer than the data": (
        Case(settings={"terms.cluster.queue_batches": 200}),
        Case(settings={"terms.cluster.queue_batches": 200, "mode": "faithful"}),
    ),
}
"""What is expected of each cause. Refused before anything is trained: exit 2 for settings, 3 for data. Named when it
happens: exit 4. Nothing happens: exit 0, and all that was logged is finite."""


def change_shards(store: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change rows of a store behind its back, sums included."""
    for shard in sorted((store / "shards").glob("*.safetensors")):
        rows = load_file(shard)
        change(rows)
        save_file(rows, shard)
    info = json.loads((store / "store.json").read_text())
    for name in info["files"]:
        content = (store / name).read_bytes()
        info["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (store / "store.json").write_text(json.dumps(info))


def planted(case: Case, folder: Path) -> Path:
    """The store and the settings of a case; the file of settings."""
    folder.mkdir()
    make_store(folder / "store", **case.store)
    if case.change is not None:
        change_shards(folder / "store", case.change)
    values = copy.deepcopy({**BASE, **EXPERIMENTS[1], "data": {"store": str(folder / "store")}})
    values["training"]["epochs"] = 4
    for name, value in case.settings.items():
        *groups, last = name.split(".")
        inner = values
        for group in groups:
            inner = inner[group]
        inner[last] = value
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@fault(
    "nonfinite-causes",
    "causes of a loss that is not finite",
    "refused at the start with file, field and value; or exit 4 with term, modality, stage and step; or all is finite",
    trials=len(CAUSES),
    few=3,
)
def plant_cause(trial: Trial) -> str:
    """Train with the cause planted, in one way or two."""
    name = list(CAUSES)[trial.number % len(CAUSES)]
    codes = []
    for number, case in enumerate(CAUSES[name]):
        folder = trial.folder / str(number)
        command = run(["train", planted(case, folder), "--run", folder / "run"], folder / "log", expected=None)
        assert command.code in case.ends, f"{name}, {number}: ended with {command.code}: {command.said()}"
        if command.code:
            line = command.said().strip().splitlines()[-1]
            assert re.search(f"^error: .*{case.ends[command.code]}", line), f"{name}, {number}: {line}"
        else:
            check_log(folder / "run")
        codes.append(command.code)
    return "named" if any(codes) else "stayed finite"


def check_log(run_folder: Path) -> None:
    """Raise when a number of the log is not finite."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    assert lines, "no step was taken"
    for line in lines:
        values = [value for value in json.loads(line).values() if isinstance(value, float)]
        assert np.isfinite(values).all(), line
