"""`mcnlab plan` against what it foretells: the same experiments are planned, then run, on this machine.

Two of them: the narrated world at the size of studies/tiny_experiment.yaml, and a few steps at the paper's sizes
(spaces of 6144, DaveNet at full width) on made-up features. Each runs in a process of its own. What the step does is
counted before; the rates, and the factors of whole steps of other sizes, are measured between blocks of its steps, with
the same number of threads, so that both sides see the same machine. The ratio is the median over the blocks; the first
block, in which memory is taken and kernels are chosen, is told apart and does not count. Peak memory is compared too.

    python benchmarks/plan_check.py
    python benchmarks/plan_check.py --only paper --rounds 2
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Row, report

from mcnlab.data.store import Clip, Recording, StoreWriter, Track
from mcnlab.data.text import WordVectors
from mcnlab.experiment.run import prepared_store, run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.settings_files import read_experiment
from mcnlab.plan.advice import planned
from mcnlab.plan.calibration import Calibration, Rates
from mcnlab.plan.measure import described
from mcnlab.plan.measure_device import idle_bytes, measured_rates
from mcnlab.plan.measure_files import FileRates, file_rates
from mcnlab.plan.measure_steps import with_steps
from mcnlab.plan.predict import Plan
from mcnlab.plan.sizes import Request
from mcnlab.plan.words import size_in_words, time_in_words
from mcnlab.training.step import StepRecord

TINY = Path(__file__).parents[1] / "studies" / "tiny_experiment.yaml"
PAPER: dict[str, Any] = {
    "experiment": "paper sizes",
    "stages": "VAT",
    "mode": "faithful",
    "terms": {
        "contrast": {},
        "cluster": {"clusters": 16, "queue_batches": 2, "refit_every": 2},
        "reconstruct": {},
    },
    "model": {"dim": 6144, "audio_width": 1024, "decoder_hidden": 1024, "audio_frames": 1000, "words": 20},
    "training": {"batch": 16, "warmup_steps": 10, "checkpoint_every": 1000, "epochs": 1000},
    "evaluation": {"tasks": ["geometry"]},
}
WORLD = ["training.prefetch=0", "training.epochs=1000", "training.checkpoint_every=1000", "evaluation.tasks=[geometry]"]
"""Laid over the file: as many steps as there are rounds, no checkpoint among them, and no thread that reads ahead: in
steps of 20 ms it takes turns with the one that trains."""
BLOCK = {"world": 40, "paper": 2}
"""Steps between two measurements of the rates: a multiple of those between two fits of the clusters."""
CLIP_S, CLIPS = 10.0, 8


@dataclass
class Watched:
    """What a run told about itself."""

    step_s: list[float] = field(default_factory=list)
    """Of every step."""
    rates: list[Rates] = field(default_factory=list)
    """Measured after every block."""
    peak_bytes: int = 0
    bare_bytes: int = 0
    """Of the process before it began."""


def main() -> None:
    """Plan, run, compare."""
    report(measure, __doc__, _options)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Two rows for each experiment: seconds of a step and memory, foretold over measured."""
    with tempfile.TemporaryDirectory(prefix="mcnlab-plan-") as folder:
        place = Path(folder)
        files = file_rates(place)
        for name, settings in experiments(place, options).items():
            store = prepared_store(settings, place / "stores")
            watched = run_apart(settings, place / name, BLOCK[name])
            videos = int(store.clips("train")["recording"].nunique())
            plans = [planned(settings, Request(videos), machine(rates, files)) for rates in watched.rates]
            yield _seconds_row(name, plans, watched)
            yield _memory_row(name, plans[0], watched)


def _seconds_row(name: str, plans: list[Plan], watched: Watched) -> Row:
    """Seconds of a step: each block's mean against the plan by the rates before and after it."""
    block = BLOCK[name]
    took = [statistics.fmean(watched.step_s[first : first + block]) for first in range(0, len(watched.step_s), block)]
    said = [plan.stages[0].step_s for plan in plans]
    pairs = [(statistics.fmean(said[n - 1 : n + 1]), took[n]) for n in range(1, len(took))]
    ratio = statistics.median(planned_s / took_s for planned_s, took_s in pairs)
    middle = sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]
    detail = f"planned {time_in_words(middle[0])} a step, took {time_in_words(middle[1])}; "
    detail += f"blocks {', '.join(f'{a / b:.2f}' for a, b in pairs)}; first steps {time_in_words(took[0])}"
    return Row(f"plan, {name}: step", "seconds of the same step", ratio, detail=detail)


def _memory_row(name: str, plan: Plan, watched: Watched) -> Row:
    """Memory above that of a bare process."""
    foretold = plan.device_bytes + plan.host_bytes - plan.calibration.idle_bytes
    used = watched.peak_bytes - watched.bare_bytes
    detail = f"planned {size_in_words(foretold)}, peak {size_in_words(used)} above a bare process"
    return Row(f"plan, {name}: memory", "peak of the same run", foretold / used, detail=detail)


def machine(rates: Rates, files: FileRates) -> Calibration:
    """This machine with rates that were measured just now."""
    cpu = torch.device("cpu")
    return described(cpu, idle=idle_bytes(cpu), rates=(rates,), files=files, links={})


def experiments(folder: Path, options: argparse.Namespace) -> dict[str, ExperimentSettings]:
    """What is planned and run, by name; the stores that they need are made."""
    path, chosen = folder / "features", {}
    if options.only in (None, "world"):
        steps = f"training.max_steps={BLOCK['world'] * (options.rounds + 1)}"
        chosen["world"] = read_experiment(TINY, overrides=[*WORLD, steps, f"training.threads={options.threads}"])
    if options.only in (None, "paper"):
        write_features(path)
        counts = {"threads": options.threads, "max_steps": BLOCK["paper"] * (options.rounds + 1)}
        paper = {**PAPER, "data": {"store": str(path)}, "training": {**PAPER["training"], **counts}}
        chosen["paper"] = ExperimentSettings.parse(paper, source="paper sizes")
    return chosen


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


def run_apart(settings: ExperimentSettings, folder: Path, block: int) -> Watched:
    """Train in a process of its own, and measure the rates there after every block of steps."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_train, args=(settings, folder, block, answers))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the run ended with exit code {process.exitcode}")
    found: Watched = answers.get()
    return found


def _train(settings: ExperimentSettings, folder: Path, block: int, answers: Any) -> None:
    """The run, as its own process does it; memory counts until the rates are measured."""
    watched = Watched(bare_bytes=_peak_bytes())
    elapsed = [0.0]

    def note(record: StepRecord) -> None:
        watched.step_s.append(record.elapsed_s - elapsed[0])
        elapsed[0] = record.elapsed_s
        if record.step == block:
            watched.peak_bytes = _peak_bytes()
        if record.step % block == 0:
            precisions = ("float32",)
            alone = measured_rates(torch.device("cpu"), torch.get_num_threads(), precisions=precisions)
            watched.rates.append(with_steps(alone))

    run_experiment(settings, folder, on_step=note, stores=folder.parent / "stores")
    answers.put(watched)


def _peak_bytes() -> int:
    """Most memory that this process has had; Linux counts it in KiB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells goes back to the process that began this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the runs")
    parser.add_argument("--rounds", type=int, default=3, help="blocks of steps that count")
    parser.add_argument("--only", choices=("world", "paper"), help="only one of the two")


if __name__ == "__main__":
    main()
