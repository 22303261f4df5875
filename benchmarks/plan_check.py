"""`mcnlab plan` against what it foretells: the same experiments are planned, then run, on this machine.

Two of them: the narrated world at the size of studies/tiny_experiment.yaml, and a few steps at the paper's sizes
(spaces of 6144, DaveNet at full width) on made-up features. Each runs in a process of its own, whose peak memory is
compared with the plan's as well. The machine is measured first, unless --calibration names a file.

    python benchmarks/plan_check.py
    python benchmarks/plan_check.py --calibration ~/.cache/mcnlab/calibration.json --only paper
"""

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row, report

from mcnlab.data.store import Clip, Recording, StoreWriter, Track
from mcnlab.data.text import WordVectors
from mcnlab.experiment.run import prepared_store, run_experiment
from mcnlab.experiment.settings import ExperimentSettings, read_experiment
from mcnlab.plan.advice import planned
from mcnlab.plan.calibration import read_calibration
from mcnlab.plan.measure import calibrate
from mcnlab.plan.sizes import Request
from mcnlab.plan.words import size_in_words, time_in_words

TINY = Path(__file__).parents[1] / "studies" / "tiny_experiment.yaml"
PAPER: dict[str, Any] = {
    "experiment": "paper sizes",
    "stages": "VAT",
    "mode": "faithful",
    "terms": {
        "contrast": {},
        "cluster": {"clusters": 64, "queue_batches": 20, "refit_every": 3},
        "reconstruct": {},
    },
    "model": {"dim": 6144, "audio_width": 1024, "decoder_hidden": 1024, "audio_frames": 1000, "words": 20},
    "training": {"batch": 32, "warmup_steps": 10, "max_steps": 6, "checkpoint_every": 100},
    "evaluation": {"tasks": ["geometry"]},
}
CLIP_S, CLIPS = 10.0, 8


def main() -> None:
    """Plan, run, compare."""
    report(measure, __doc__, _options)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Two rows for each experiment: hours and memory, foretold over measured."""
    with tempfile.TemporaryDirectory(prefix="mcnlab-plan-") as folder:
        place = Path(folder)
        rates = read_calibration(options.calibration) if options.calibration else calibrate(place)
        for name, settings in experiments(place, threads=options.threads).items():
            if options.only not in (None, name):
                continue
            store = prepared_store(settings, place / "stores")
            videos = int(store.clips("train")["recording"].nunique())
            plan = planned(settings, Request(videos), rates)
            measured = run_apart(settings, place / name)
            seconds = plan.hours * 3600
            detail = f"planned {time_in_words(seconds)}, took {time_in_words(measured['seconds'])}"
            yield Row(f"plan, {name}: hours", "hours of the same run", seconds / measured["seconds"], detail=detail)
            planned_bytes = plan.device_bytes + plan.host_bytes - rates.idle_bytes
            used = measured["peak_bytes"] - measured["idle_bytes"]
            detail = f"planned {size_in_words(planned_bytes)}, peak {size_in_words(used)} above a bare process"
            yield Row(f"plan, {name}: memory", "peak of the same run", planned_bytes / used, detail=detail)


def experiments(folder: Path, *, threads: int | None) -> dict[str, ExperimentSettings]:
    """What is planned and run, by name; the stores that they need are made."""
    tiny = read_experiment(TINY, overrides=[f"training.threads={threads or 'null'}"])
    path = folder / "features"
    write_features(path)
    paper = {**PAPER, "data": {"store": str(path)}, "training": {**PAPER["training"], "threads": threads}}
    return {"world": tiny, "paper": ExperimentSettings.parse(paper, source="paper sizes")}


def write_features(path: Path, *, recordings: int = 12) -> None:
    """A store with the layout of the released features and random content; a quarter of it is for tests."""
    random = np.random.default_rng(0)
    tracks = [Track("video_2d", "video", 2048, 1.0), Track("video_3d", "video", 2048, 1.5)]
    tracks.append(Track("audio_mel", "audio", 40, 100.0))
    vocabulary = tuple(f"word{number}" for number in range(200))
    words = WordVectors(vocabulary, random.normal(size=(200, 300)).astype(np.float32), "random")
    with StoreWriter(path, name="features", tracks=tracks, words=words) as writer:
        for number in range(recordings):
            rows = {t.name: random.random((int(CLIPS * CLIP_S * t.rate_hz), t.dim)) for t in tracks}
            rows["audio_mel"] = -80 * rows["audio_mel"]
            clips = tuple(
                Clip(k * CLIP_S, (k + 1) * CLIP_S, " ".join(random.choice(vocabulary, size=12)), f"class{k}")
                for k in range(CLIPS)
            )
            split = "train" if number < recordings * 3 // 4 else "test"
            halves = {name: values.astype(np.float16) for name, values in rows.items()}
            writer.add(Recording(f"r{number}", split, CLIPS * CLIP_S, halves, clips))


def run_apart(settings: ExperimentSettings, folder: Path) -> dict[str, float]:
    """Train in a process of its own: seconds of training with its checkpoints, peak and bare memory in bytes."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_train, args=(settings, folder, answers))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the run ended with exit code {process.exitcode}")
    return dict(answers.get())


def _train(settings: ExperimentSettings, folder: Path, answers: Any) -> None:
    """The run, as its own process does it; memory counts until the evaluation begins."""
    idle, peak = _peak_bytes(), [0]

    def note(record: object) -> None:
        peak[0] = _peak_bytes()

    run = run_experiment(settings, folder, on_step=note, stores=folder.parent / "stores")
    answers.put({"seconds": run.outcome["trained_now_s"], "peak_bytes": peak[0], "idle_bytes": idle})


def _peak_bytes() -> int:
    """Most memory that this process has had; Linux counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--calibration", type=Path, help="measured rates; this machine is measured when not given")
    parser.add_argument("--threads", type=int, help="CPU threads of the runs; all cores when not given")
    parser.add_argument("--only", choices=("world", "paper"), help="only one of the two")


if __name__ == "__main__":
    main()
