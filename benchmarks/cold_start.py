"""How long the first second is: the command's help, the import, and the first training step of a new process.

The floor is a Python that does nothing, `python -c pass`, started by turns with the others in one run; medians of the
rounds are compared, because a start has a long tail. The first training step is that of `mcnlab train` on the tiny
experiment with its world rendered before (beside the runs), from the start of the process to the first line of
`metrics.jsonl`; the floor there is the import of torch alone.

    python benchmarks/cold_start.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rows import Row, report

ROOT = Path(__file__).parents[1]
TINY = ROOT / "studies" / "tiny_experiment.yaml"
GOAL_S = 0.3
"""Seconds that were asked for."""
PROGRAMS = {
    "pass": ["-c", "pass"],
    "import mcnlab": ["-c", "import mcnlab"],
    "mcnlab --help": ["-m", "mcnlab", "--help"],
    "import torch": ["-c", "import torch"],
}


def seconds_of(program: list[str]) -> float:
    """Seconds from start to end of a Python process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *program], check=True, stdout=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - began


def environment() -> dict[str, str]:
    """Of a process that uses this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def first_step_s(run: Path) -> float:
    """Seconds from the start of `mcnlab train` to its first logged step; the process is killed there."""
    log = run / "metrics.jsonl"
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mcnlab", "train", str(TINY), "--run", str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    while not (log.exists() and log.stat().st_size):
        if process.poll() is not None:
            raise RuntimeError(f"mcnlab train ended with {process.returncode}")
        time.sleep(0.002)
    seconds = time.perf_counter() - began
    process.kill()
    process.wait()
    return seconds


def medians(measured: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken by turns; the first round warms the page cache and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(rounds + 1):
        for name, measure in measured.items():
            seconds[name].append(measure())
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The rows."""
    starts = medians({name: lambda p=program: seconds_of(p) for name, program in PROGRAMS.items()}, options.rounds)
    for name in ("mcnlab --help", "import mcnlab"):
        detail = f"{starts[name]:.3f} s, python -c pass {starts['pass']:.3f} s"
        yield Row(f"cold start, {name}", f"{GOAL_S} s", starts[name] / GOAL_S, 1.0, at_most=True, detail=detail)
        yield Row(f"cold start, {name}", "python -c pass", starts[name] / starts["pass"], detail=detail)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = [sys.executable, "-m", "mcnlab", "train", str(TINY), "--run", str(folder / "first")]
        subprocess.run([*train, "--set", "training.epochs=1"], check=True, capture_output=True, env=environment())
        numbers = iter(range(options.rounds + 1))
        steps = {"step": lambda: first_step_s(folder / str(next(numbers)))}
        first = medians(steps, options.rounds)["step"]
    detail = f"{first:.2f} s, import torch {starts['import torch']:.2f} s"
    yield Row("cold start, first training step", "import torch", first / starts["import torch"], detail=detail)


def own_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    report(measure, __doc__, own_options)
