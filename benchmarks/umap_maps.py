"""How soon a map of many clips is there, against umap-learn as it is called by default, and against the kept one.

Each side runs in a fresh process, because what numba compiles counts; the clock starts before the library is imported
and stops when the places are there. Both are seeded, see cosine distance and 15 neighbors; ours also passes exact
neighbors in, judges the map, writes it to the cache, and takes 300 rounds where umap-learn takes 500 up to 10,000
clips and 200 above. Both maps are then judged alike, each of 2,000 clips by its exact ranks. umap-learn runs as
installed, with what it keeps compiled beside itself; ours keeps what it compiles in `~/.cache/mcnlab/numba`, and is
also measured with that folder empty, as on the first map ever on a machine. `--large` takes 50,000 clips.

    python benchmarks/umap_maps.py
    python benchmarks/umap_maps.py --large
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rows import Row, report

SIDES = ("ours", "library", "cold", "again")
NEIGHBORS = 15
DIM = 256
CLASSES, DIRECTIONS = 50, 12
"""Groups of clips, and in how many directions the clips of a group differ much."""


def inputs(clips: int) -> np.ndarray:
    """Embeddings of clips in groups that are flat clouds with noise around them, (clips, 256) float32."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(CLASSES, DIM)).astype(np.float32)
    directions = random.normal(size=(CLASSES, DIRECTIONS, DIM)).astype(np.float32)
    group = random.integers(CLASSES, size=clips)
    points = centers[group] + 0.3 * random.standard_normal((clips, DIM), dtype=np.float32)
    for number in range(CLASSES):
        own = group == number
        points[own] += 0.4 * random.standard_normal((int(own.sum()), DIRECTIONS), np.float32) @ directions[number]
    return points


def by_library(points: np.ndarray) -> np.ndarray:
    """Places as umap-learn finds them by default."""
    import umap  # its compiling at import counts

    return np.asarray(umap.UMAP(metric="cosine", random_state=0).fit_transform(points))


def by_us(points: np.ndarray, folder: Path, epochs: int) -> np.ndarray:
    """Places as this package finds them, or takes them from the folder."""
    from mcnlab.reporting.layout import MapSettings  # importing counts
    from mcnlab.reporting.projection import aligned_maps

    settings = MapSettings(neighbors=NEIGHBORS, epochs=epochs)
    return np.asarray(aligned_maps({"clips": points}, settings=settings, cache=folder).positions["clips"])


def run_side(side: str, options: argparse.Namespace) -> None:
    """One side in this process; prints its seconds and the trust in its map as JSON."""
    warnings.simplefilter("ignore")
    points = inputs(options.clips)
    began = time.perf_counter()
    places = by_library(points) if side == "library" else by_us(points, options.folder, options.epochs)
    told = {"first": time.perf_counter() - began}
    if side == "again":
        began = time.perf_counter()
        by_us(points, options.folder, options.epochs)
        told["shown"] = time.perf_counter() - began
    from mcnlab.reporting.neighbors import trust_and_overlap, unit_rows  # not before the clock runs

    told["trust"], told["overlap"] = trust_and_overlap(unit_rows(points), places, count=NEIGHBORS)
    print(json.dumps(told))


def measured(side: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """One side in a process of its own."""
    kept = folder / ("again" if side == "again" else f"{side}-{time.monotonic_ns()}")
    words = [sys.executable, __file__, "--side", side, "--folder", str(kept), "--clips", str(options.clips)]
    around = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    if side == "cold":
        around["NUMBA_CACHE_DIR"] = str(folder / "compiled")
    words += ["--epochs", str(options.epochs)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=around)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The ratios; nothing where this process is one of the sides."""
    if options.side:
        run_side(options.side, options)
        return
    if options.large:
        options.clips = 50_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        again = measured("again", folder, options)  # first, so that what umap needs is compiled and kept
        rounds = [{side: measured(side, folder, options) for side in SIDES[:2]} for _ in range(options.rounds)]
        cold = measured("cold", folder, options)
    ours, library = (min((one[side] for one in rounds), key=lambda told: told["first"]) for side in SIDES[:2])
    part = f"UMAP {options.clips:,} × {DIM}, first call in a process"
    least = 1.0 if options.large else 2.5
    for told, what, goal in ((ours, "", least), (cold, ", nothing compiled yet", None)):
        detail = f"{library['first']:.1f} s / {told['first']:.1f} s"
        yield Row(part + what, "umap-learn as called by default", library["first"] / told["first"], goal, detail=detail)
    detail = f"{ours['trust']:.4f}, {library['trust']:.4f}; overlap {ours['overlap']:.3f}, {library['overlap']:.3f}"
    lost = library["trust"] - ours["trust"]
    yield Row(f"{part}: trustworthiness lost", "umap-learn's", lost, 0.005, at_most=True, detail=detail)
    shown = f"UMAP {options.clips:,} × {DIM}, shown again from the cache"
    yield Row(shown, "1 s", again["shown"], 0.5, at_most=True, detail=f"{again['shown']:.2f} s, hash included")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes and rounds."""
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--large", action="store_true", help="50,000 clips")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help="run this side here, as the script itself does")
    parser.add_argument("--folder", type=Path, help="where this side keeps its map")


if __name__ == "__main__":
    report(measure, __doc__, add_options)
