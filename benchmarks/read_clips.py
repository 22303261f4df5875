"""How fast training clips are read from a store, against `np.load` of the published files.

A clip is a window of 10 s: 2D and 3D rows under maximum and L2, 1000 frames of log-mel. Clips are drawn at random over
all videos. The published way opens the video's three files with `np.load`, which reads them whole, and cuts the clip
out; ours is `mcnlab.data.drawn_clips.DrawnClips` as training uses it, words included. Both read from the page cache.
A published loader that takes all 32 clips of a video from one load shares that load: the second line says what is left
of the difference then. The ratio is the first.

    python benchmarks/read_clips.py --megabytes 200
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from import_howto100m import make_files

from mcnlab.data.drawn_clips import DrawnClips, PublishedDraws
from mcnlab.data.importers.howto100m import import_howto100m
from mcnlab.data.loading import ClipWindow
from mcnlab.data.store import open_store

CLIPS_PER_VIDEO = 32


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


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        make_files(folder, options.megabytes)
        import_howto100m(
            folder / "list.csv",
            folder / "store",
            features=folder / "features",
            captions=folder / "caption.json",
            words=folder / "words.txt",
            val_share=0.0,
        )
        store = open_store(folder / "store")
        source = DrawnClips(store, "train", window=ClipWindow(), rule=PublishedDraws(CLIPS_PER_VIDEO, 10.0))
        names = [store.recording_id(row) for row in range(len(store))]
        random = np.random.default_rng(0)
        places = random.integers(len(source), size=64)
        videos = [names[place // CLIPS_PER_VIDEO] for place in places]
        starts = random.uniform(0, 380, len(places))
        seconds: dict[str, list[float]] = {"np.load": [], "shared": [], "store": []}
        for number in range(options.rounds + 1):  # the first round fills the page cache
            began = time.perf_counter()
            for name, start in zip(videos, starts, strict=True):
                published_clip(load(folder, name), start, start + 10)
            loaded = time.perf_counter()
            files = load(folder, names[0])
            for start in starts[:CLIPS_PER_VIDEO]:
                published_clip(files, start, start + 10)
            shared = time.perf_counter()
            source.epoch((number,), batch=len(places))
            source.batch(places)
            ended = time.perf_counter()
            seconds["np.load"].append((loaded - began) / len(places))
            seconds["shared"].append((shared - loaded) / CLIPS_PER_VIDEO)
            seconds["store"].append((ended - shared) / len(places))
    best = {name: min(times[1:]) * 1e3 for name, times in seconds.items()}
    print(f"one clip: np.load {best['np.load']:.2f} ms, store {best['store']:.3f} ms")
    print(f"32 clips of one load: {best['shared']:.3f} ms each, {best['shared'] / best['store']:.1f} of the store's")
    print(f"np.load / store: {best['np.load'] / best['store']:.1f} (goal: at least 20)")


if __name__ == "__main__":
    main()
