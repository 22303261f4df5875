"""What a second process brings: clips per second of one training run with one and with two processes.

Both sides train the same experiment, each process with one thread; two processes share every batch (`mcnlab train
--devices 2`, gloo), and end with the same numbers. Twice as many clips per second is the most there is. The median
step of `metrics.jsonl` counts, the first ten left out; a larger model does more work per byte that is exchanged.

    python benchmarks/scaling.py --width 128 --batch 256
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from rows import Row, report

from mcnlab import load_run

ROOT = Path(__file__).parents[1]
EXPERIMENT = ROOT / "studies" / "tiny_experiment.yaml"
FIRST_STEPS = 10
STEPS = 30


def clips_per_s(folder: Path, processes: int, options: argparse.Namespace) -> float:
    """Clips per second of the median step of a run."""
    flags = [f"model.audio_width={options.width}", f"model.dim={2 * options.width}", "evaluation.tasks=[geometry]"]
    flags += [f"training.batch={options.batch}", f"training.max_steps={STEPS}", "training.epochs=200"]
    words = ["train", str(EXPERIMENT), "--run", str(folder), "--devices", str(processes)]
    words += [word for flag in flags for word in ("--set", flag)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "mcnlab", *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    return median(load_run(folder).metrics()["clips_per_s"].iloc[FIRST_STEPS:])


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The row; both sides by turns, the faster round of each counts."""
    with tempfile.TemporaryDirectory() as name:
        rounds = [
            [clips_per_s(Path(name) / f"{processes}-{number}", processes, options) for processes in (1, 2)]
            for number in range(options.rounds)
        ]
    one, two = (max(speeds) for speeds in zip(*rounds, strict=True))
    part = f"training with 2 processes, DaveNet {options.width} wide, batch {options.batch}"
    yield Row(part, "1 process, one thread each", two / one, detail=f"{two:.0f} against {one:.0f} clips/s; at most 2")


def own_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--width", type=int, default=128, help="channels of DaveNet's last stage; spaces are twice as wide"
    )
    parser.add_argument("--batch", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=2)


if __name__ == "__main__":
    report(measure, __doc__, own_options)
