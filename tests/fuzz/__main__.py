"""`python -m tests.fuzz [READER …] --seconds N`: each reader gets bytes that atheris makes.

Where a reader ends in an error that is not ours, in a crash, in more than five seconds or three gigabytes, the bytes
are kept, and said.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS

HANGING_S, MEMORY_MB, LONGEST_BYTES = 5, 3072, 65536
LINE = re.compile(r"^#(\d+)\s.*?\bcov: (\d+)", re.MULTILINE)
"""What libFuzzer says on the way: executions and branches seen."""


def main() -> int:
    """Fuzz the readers that were named, all by default, one after the other; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"some of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer")
    parser.add_argument("--folder", type=Path, help="corpus and findings; a temporary one by default")
    asked = parser.parse_args()
    if unknown := [name for name in asked.readers if name not in TARGETS]:
        parser.error(f"no reader {unknown[0]!r}; there are {', '.join(TARGETS)}")
    root = asked.folder or Path(tempfile.mkdtemp(prefix="mcnlab-fuzz-"))
    found = [fuzz(name, root, seconds=asked.seconds, seed=asked.seed) for name in asked.readers or TARGETS]
    return 1 if any(found) else 0


def fuzz(name: str, root: Path, *, seconds: int, seed: int) -> bool:
    """Fuzz one reader in a process of its own; whether something was found."""
    folder = root / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    flags = [f"-max_total_time={seconds}", f"-seed={seed}", f"-timeout={HANGING_S}", f"-rss_limit_mb={MEMORY_MB}",
             f"-max_len={LONGEST_BYTES}", f"-artifact_prefix={folder}/found-", str(folder / "corpus")]  # fmt: skip
    log = folder / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "tests.fuzz.child", name, str(folder), *flags]
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    said = log.read_text(encoding="utf-8", errors="replace")
    executions, coverage = max(((int(a), int(b)) for a, b in LINE.findall(said)), default=(0, 0))
    outcome = f"FOUND {folder}" if code else "nothing found"
    print(f"{name}: {executions} executions, {coverage} branches, {outcome}")
    if code:
        print("\n".join(said.splitlines()[-30:]), file=sys.stderr)
    sys.stdout.flush()
    return code != 0


if __name__ == "__main__":
    sys.exit(main())
