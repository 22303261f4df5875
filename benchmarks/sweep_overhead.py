"""What a study costs beyond training and evaluation, on some experiments of the default study.

As the report's own footer has it: seconds in run notebooks that are neither training nor evaluation (start of the
kernel, reading of the store, figures), over all seconds in run notebooks. A second row has the whole command: wall time
of `mcnlab study` times its worker processes, with rendering, comparison notebooks and report; of a full study with
thirty runs instead of four that is a smaller share.

    python benchmarks/sweep_overhead.py --only "MCN*" --workers 2
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rows import Row, report

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "studies" / "modality_combinations.yaml"
GOAL = 0.15


def run_the_study(out: Path, only: str, workers: int) -> float:
    """Seconds of the whole command."""
    words = ["study", str(STUDY), "--out", str(out), "--only", only, "--workers", str(workers), "--set", "seeds=[0]"]
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "mcnlab", *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def learned_s(runs: Path, names: list[str]) -> float:
    """Seconds of training and evaluation in all runs."""
    outcomes = [json.loads((runs / name / "results.json").read_text(encoding="utf-8"))["outcome"] for name in names]
    return sum(outcome["trained_now_s"] + outcome["evaluate_s"] for outcome in outcomes)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The rows."""
    with tempfile.TemporaryDirectory() as name:
        wall = run_the_study(Path(name), options.only, options.workers)
        runs = Path(name) / "runs" / "modality_combinations"
        in_notebooks = json.loads((runs / "study.json").read_text(encoding="utf-8"))["run_s"]
        learned = learned_s(runs, list(in_notebooks))
    spent, paid = sum(in_notebooks.values()), wall * options.workers
    part = f"study overhead, {len(in_notebooks)} runs of the default study"
    detail = f"{spent:.1f} s in run notebooks, training and evaluation {learned:.1f} s"
    yield Row(part, "all seconds in run notebooks", (spent - learned) / spent, GOAL, at_most=True, detail=detail)
    detail = f"{wall:.1f} s × {options.workers} workers, training and evaluation {learned:.1f} s"
    yield Row(f"{part}, with its report", "wall time × workers", (paid - learned) / paid, at_most=True, detail=detail)


def own_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--only", default="MCN*", help="glob of the experiments to run")
    parser.add_argument("--workers", type=int, default=2)


if __name__ == "__main__":
    report(measure, __doc__, own_options)
