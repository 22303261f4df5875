"""How fast training clips are read from a store, against `np.load` of the published files, and whether steps wait.

A clip is a window of 10 s: 2D and 3D rows under maximum and L2, 1000 frames of log-mel, drawn at random over all
videos. Everything is read from the page cache.

- The published way opens the video's three files with `np.load`, which reads them whole, and cuts the clip out; ours is
  `DrawnClips.batch`, drawing and words included, float32 ready for the towers.
- A published loader that takes all 32 clips of a video from one load shares that load: what is left of it then.
- A batch as it is made for a GPU: halves, into memory that is used again, beside the speed at which as many threads
  copy memory in the same run. Counted are the bytes that have to be read and written.
- The share of a training step that waits for its batch, with batches made ahead and without: a small model on the CPU,
  after the first step.

    python benchmarks/read_clips.py --megabytes 200
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from import_howto100m import make_files
from rows import Row, report

from mcnlab.data.drawn_clips import DrawnClips, PublishedDraws
from mcnlab.data.importers.howto100m import import_howto100m
from mcnlab.data.loading import ClipWindow
from mcnlab.data.store import Store, open_store
from mcnlab.experiment.build import build_loop, build_model, build_stages, build_training_source
from mcnlab.experiment.objective import build_terms
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.numerics import limited_threads
from mcnlab.training.loop import Trainer
from mcnlab.training.stages import PrefixCache

CLIPS_PER_VIDEO = 32
CLIPS_PER_ROUND = 64
READ_BYTES = 11 * 2048 * 2 + 16 * 2048 * 2 + 1000 * 40 * 2 + 20 * 300 * 4
"""What a clip of 10 s makes one read: rows of 2D and 3D, log-mel, word vectors."""
WRITTEN_BYTES = 4096 * 4 + 1000 * 40 * 2 + 20 * 300 * 4
"""What is left of it for a GPU."""
COPIED_BYTES = 2**28
SMALL = {
    "experiment": "reading",
    "stages": "VAT",
    "terms": {"contrast": {}},
    "model": {"dim": 64, "audio_width": 8, "audio_blocks": 1},
}
"""A model so small that its steps are short: published sizes take some 50 times as long."""


def published_clip(files: tuple[np.ndarray, np.ndarray, np.ndarray], start_s: float, end_s: float) -> np.ndarray:
    """What a published loader makes of one clip, once the files are in memory."""
    pooled = []
    for rows, rate in ((files[0], 1.0), (files[1], 1.5)):
        peak = rows[int(start_s * rate) : int(end_s * rate) + 1].astype(np.float32).max(axis=0)
        pooled.append(peak / np.linalg.norm(peak))
    mel = np.zeros((40, 1000), np.float32)
    own = files[2][:, int(start_s * 100) : int(end_s * 100)][:, :1000]
    mel[:, : own.shape[1]] = own
    return np.concatenate([*pooled, mel.ravel()])


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three files of a video."""
    own = folder / "features" / "food" / name
    return (
        np.load(own / f"{name}_2d.npz")["features"],
        np.load(own / f"{name}_3d.npz")["features"],
        np.load(own / f"{name}_spec.npz")["arr_0"],
    )


def make_store(folder: Path, megabytes: int) -> Store:
    """The published files of some videos, and a store of the same."""
    make_files(folder, megabytes)
    import_howto100m(
        folder / "list.csv",
        folder / "store",
        features=folder / "features",
        captions=folder / "caption.json",
        words=folder / "words.txt",
        val_share=0.0,
    )
    return open_store(folder / "store")


def best_by_turns(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the best round of each, run by turns; a round before these fills the page cache."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, one in work.items():
            began = time.perf_counter()
            one()
            seconds[name].append(time.perf_counter() - began)
    return {name: min(times[1:]) for name, times in seconds.items()}


def against_np_load(folder: Path, store: Store, source: DrawnClips, rounds: int) -> Iterator[Row]:
    """A clip from the store and from its video's files, and from files that 32 clips share."""
    random = np.random.default_rng(0)
    places = random.integers(len(source), size=CLIPS_PER_ROUND)
    videos = [store.recording_id(place // CLIPS_PER_VIDEO) for place in places.tolist()]
    starts = random.uniform(0, 380, len(places)).tolist()
    epochs = iter(range(rounds + 1))

    def each_loads() -> None:
        for name, start in zip(videos, starts, strict=True):
            published_clip(load(folder, name), start, start + 10)

    def one_loads() -> None:
        files = load(folder, videos[0])
        for start in starts[:CLIPS_PER_VIDEO]:
            published_clip(files, start, start + 10)

    def ours() -> None:
        source.epoch((next(epochs),), batch=len(places))
        source.batch(places)

    best = best_by_turns({"each": each_loads, "one": one_loads, "ours": ours}, rounds)
    own, each, one = best["ours"] / len(places), best["each"] / len(places), best["one"] / CLIPS_PER_VIDEO
    detail = "{:.3f} ms a clip against {:.3f} ms"
    yield Row("clip loading, 10 s", "np.load per clip", each / own, 20.0, detail=detail.format(own * 1e3, each * 1e3))
    shared = f"np.load per video, {CLIPS_PER_VIDEO} clips of it"
    yield Row("clip loading, 10 s", shared, one / own, detail=detail.format(own * 1e3, one * 1e3))


def against_memory(source: DrawnClips, clips: int, rounds: int) -> Row:
    """A large batch for a GPU beside a plain copy of memory."""
    places = np.random.default_rng(1).integers(len(source), size=clips)
    kept: dict[tuple[tuple[int, ...], type[np.generic]], np.ndarray] = {}

    def again(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        if (shape, dtype) not in kept:
            kept[shape, dtype] = np.empty(shape, dtype)
        return kept[shape, dtype]

    threads = min(8, os.cpu_count() or 1)
    old, new = (np.full((threads, COPIED_BYTES // threads // 8), fill, np.int64) for fill in (1, 2))

    def copy() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(np.copyto, new, old))

    source.epoch((0,), batch=clips)
    best = best_by_turns({"clips": lambda: source.kept_batch(places, new=again), "copy": copy}, rounds)
    own = clips * (READ_BYTES + WRITTEN_BYTES) / best["clips"] / 1e9
    memory = 2 * new.nbytes / best["copy"] / 1e9
    detail = f"{clips / best['clips']:.0f} clips/s, {own:.1f} GB/s against {memory:.1f} GB/s, {threads} threads"
    return Row(f"clip loading, batch of {clips}, as for a GPU", "memory bandwidth", own / memory, detail=detail)


def waiting(store: Store, folder: Path, *, prefetch: int, batch: int, steps: int) -> tuple[float, float]:
    """Seconds of a small training after its first step, and those of them that were spent waiting for batches."""
    training = {"batch": batch, "max_steps": steps, "prefetch": prefetch}
    data = {"store": str(store.path), "sampling": "published"}
    settings = ExperimentSettings.parse({**SMALL, "data": data, "training": training}, source="benchmark")
    model = build_model(settings, store, seed=0)
    trainer = Trainer(
        model=model,
        terms=build_terms(settings, model.graph, seed=0),
        source=build_training_source(settings, store, seed=0),
        stages=build_stages(settings),
        settings=build_loop(settings, seed=0),
        folder=folder,
        prefixes=PrefixCache(None, []),
    )
    seen: list[tuple[float, float]] = []
    trainer.on_step = lambda record: seen.append((record.elapsed_s, trainer.batches.waited_s))
    trainer.train()
    return seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]


def waits(store: Store, folder: Path, options: argparse.Namespace) -> Row:
    """How much of a step is waiting."""
    found = {}
    with limited_threads(max(1, (os.cpu_count() or 1) - 1)):  # with none left over, nothing is made ahead
        for prefetch in (0, 2):
            run = folder / f"prefetch{prefetch}"
            run.mkdir()
            found[prefetch] = waiting(store, run, prefetch=prefetch, batch=options.batch, steps=options.steps)
    total, waited = found[2]
    per_step = 1e3 / (options.steps - 1)
    detail = (
        f"{waited * per_step:.2f} of {total * per_step:.0f} ms a step; without prefetch "
        f"{found[0][1] * per_step:.2f} of {found[0][0] * per_step:.0f} ms"
    )
    part = f"waiting for clips, small model on all cores but one, batch {options.batch}"
    return Row(part, "the whole step", waited / total, 0.01, at_most=True, detail=detail)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All rows, on one made-up data set."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder, options.megabytes)
        source = DrawnClips(store, "train", window=ClipWindow(), rule=PublishedDraws(CLIPS_PER_VIDEO, 10.0))
        yield from against_np_load(folder, store, source, options.rounds)
        yield against_memory(source, options.clips, max(3, options.rounds // 4))
        yield waits(store, folder, options)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The sizes."""
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clips", type=int, default=4096, help="of the large batch")
    parser.add_argument("--batch", type=int, default=128, help="clips per training step")
    parser.add_argument("--steps", type=int, default=9)


if __name__ == "__main__":
    report(measure, __doc__, add_options)
