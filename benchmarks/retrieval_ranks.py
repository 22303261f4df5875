"""How fast and in how much memory ranks are counted, against sorting the whole matrix and against the bare matmul.

The published way multiplies all queries with all candidates, sorts every row and looks where the true match's score
stands, once for each direction; ours is `mcnlab.metrics.ranks_both_ways`. The floor is the matmul of the same sizes
into one matrix, which both need: the third row says what comes beyond it. Each part runs in a process of its own,
because only then does the system tell its peak memory; parts take turns, and the fastest rounds are compared. Memory is
what a part needs beyond its inputs. All processes must find the same ranks.

    python benchmarks/retrieval_ranks.py
    python benchmarks/retrieval_ranks.py --rows 1000 --width 6144
    python benchmarks/retrieval_ranks.py --rows 100000 --width 512 --rounds 1 --without-sort
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from rows import Row, report
from torch import Tensor

from mcnlab.metrics.tiles import ranks_both_ways

PARTS = ("tiles", "sort", "matmul")


def inputs(rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Queries and candidates in which about half of the true matches come first."""
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(rows, width, generator=generator)
    queries = torch.randn(rows, width, generator=generator)
    scale = 4.5 / width**0.5
    return queries.add_(gallery, alpha=scale), gallery


def by_sorting(queries: Tensor, gallery: Tensor) -> Tensor:
    """Ranks of both directions as the code that MCN published finds them, in NumPy; the ranks of the queries."""
    scores = (queries @ gallery.T).numpy()
    places = []
    for one in (scores, scores.T):
        falling = np.sort(-one, axis=1)
        rows, columns = np.where(falling - np.diag(-one)[:, None] == 0)
        ranks = np.zeros(len(one), dtype=np.int64)
        ranks[rows] = columns + 1  # of equal scores the last counts, as in ours; published code counts them all
        places.append(ranks)
    return torch.from_numpy(places[0])


def run_part(part: str, rows: int, width: int) -> None:
    """One part in this process; prints what it took as JSON."""
    sides = inputs(rows, width)
    jobs: dict[str, Callable[[], Tensor]] = {
        "tiles": lambda: ranks_both_ways(*sides)[0],
        "sort": lambda: by_sorting(*sides),
        "matmul": lambda: sides[0] @ sides[1].T,
    }
    torch.ones(256, 256) @ torch.ones(256, 256)  # what the library sets up once belongs to no part
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    found = jobs[part]()
    seconds = time.perf_counter() - began
    told = {"seconds": seconds, "bytes": peak_bytes() - before}
    print(json.dumps(told if part == "matmul" else {**told, "sum_of_ranks": int(found.sum())}))


def peak_bytes() -> int:
    """Most memory that this process ever held; `ru_maxrss` would count that of the process that started it."""
    with Path("/proc/self/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def measured(part: str, options: argparse.Namespace) -> dict[str, float]:
    """One part in a process of its own."""
    words = [sys.executable, __file__, "--part", part, "--rows", str(options.rows), "--width", str(options.width)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The ratios; nothing where this process is one of the parts."""
    if options.part:
        run_part(options.part, options.rows, options.width)
        return
    parts = [part for part in PARTS if part in wanted(options)]
    rounds = [{part: measured(part, options) for part in parts} for _ in range(options.rounds)]
    best = {part: min((one[part] for one in rounds), key=lambda told: told["seconds"]) for part in parts}
    if len({told["sum_of_ranks"] for told in best.values() if "sum_of_ranks" in told}) != 1:
        raise SystemExit(f"the parts found other ranks: {best}")
    name = f"retrieval ranks, {options.rows:,} × {options.rows:,} × {options.width}"
    own, seconds = best["tiles"], {part: told["seconds"] for part, told in best.items()}
    if "sort" in best:
        told = f"{seconds['sort']:.2f} s / {seconds['tiles']:.2f} s"
        yield Row(name, "sort of the whole matrix", seconds["sort"] / seconds["tiles"], 5.0, detail=told)
        megabytes = f"{own['bytes'] / 1e6:.0f} MB / {best['sort']['bytes'] / 1e6:.0f} MB"
        ratio = own["bytes"] / best["sort"]["bytes"]
        if "matmul" in best:
            beyond = [seconds[part] - seconds["matmul"] for part in ("sort", "tiles")]
            told = f"{beyond[0]:.2f} s / {beyond[1]:.2f} s"
            yield Row(f"{name}, beyond the matmul", "sort of the whole matrix", beyond[0] / beyond[1], detail=told)
        yield Row(name, "memory of the sort", ratio, 0.1, at_most=True, detail=megabytes)
    if "matmul" in best:
        told = f"{seconds['tiles']:.2f} s / {seconds['matmul']:.2f} s"
        yield Row(name, "bare matmul", seconds["tiles"] / seconds["matmul"], 1.3, at_most=True, detail=told)
    if len(best) == 1:
        rate = 2 * options.rows**2 * options.width / own["seconds"] / 1e9
        yield Row(name, "1 GFLOP/s", rate, detail=f"{own['seconds']:.1f} s, {own['bytes'] / 1e6:.0f} MB")


def wanted(options: argparse.Namespace) -> tuple[str, ...]:
    """Which parts fit: the whole matrix of 100,000 rows is 40 GB, its sort three times as much."""
    room = psutil.virtual_memory().available
    matrix = 4 * options.rows**2
    fits = {"tiles": True, "matmul": 1.2 * matrix < room, "sort": not options.without_sort and 6 * matrix < room}
    return tuple(part for part in PARTS if fits[part])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes and rounds."""
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=6144)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-sort", action="store_true")
    parser.add_argument("--part", choices=PARTS, help="run this part here, as the script itself does")


if __name__ == "__main__":
    report(measure, __doc__, add_options)
