"""Run every benchmark, one after the other, and make docs/performance.md of what they measured.

Each runs in a process of its own, so that none finds another's warm caches. The page has a table per benchmark with the
command that gives its ratios again, the date, and the machine and versions it was measured with; what stands in
benchmarks/notes.md, on what missed its goal and why, ends it.

    python benchmarks/run_all.py                     all of them
    python benchmarks/run_all.py read_clips kmeans   some; their rows replace the older ones
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import torch

from mcnlab import __version__
from mcnlab.files import write_text_atomically

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
ROWS = HERE / "measured.jsonl"
"""The rows of the page, so that one benchmark can be measured again without the others."""
NOT_MEASURED = {"rows", "run_all"}


def main() -> None:
    """Run what was asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="benchmarks without .py; all when none is named")
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_MEASURED)
    chosen = parser.parse_args().names or known
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()] if ROWS.exists() else []
    for name in chosen:
        print(f"— {name}", flush=True)
        rows = [row for row in rows if row["benchmark"] != name] + measured(name)
        rows.sort(key=lambda row: known.index(row["benchmark"]))
        write_text_atomically(ROWS, "".join(json.dumps(row) + "\n" for row in rows))
    write_text_atomically(PAGE, page(rows))
    print(PAGE)


def measured(name: str) -> list[dict]:
    """The rows of one benchmark, each with its date and place; what fails is said, and gives no rows."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows.jsonl"
        ended = subprocess.run([sys.executable, str(HERE / f"{name}.py"), "--json", str(found)], check=False)
        if ended.returncode:
            print(f"{name} failed with exit code {ended.returncode}: its rows are not on the page", file=sys.stderr)
            return []
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        lines = found.read_text(encoding="utf-8").splitlines()
        return [{"benchmark": name, "date": today, "where": where(), **json.loads(line)} for line in lines]


def page(rows: list[dict]) -> str:
    """The page: what it is, the tables, the notes."""
    parts = [
        "# Performance",
        "Made by `make bench`; every ratio was measured in one run, against the published way of doing the same work "
        "or against what the machine can do at most. Measure on a quiet machine.",
        *(section(list(group)) for _, group in groupby(rows, key=lambda row: row["benchmark"])),
    ]
    notes = HERE / "notes.md"
    if notes.exists():
        parts.append(notes.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


def where() -> str:
    """The machine, and the versions of what was measured."""
    return f"{machine()}; mcnlab {__version__}, torch {torch.__version__}, Python {platform.python_version()}"


def machine() -> str:
    """Processor, cores, memory, GPU."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    kinds = [flag.upper() for flag in ("avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores ({', '.join(kinds) or 'no AVX-512'}), {memory:.0f} GiB, {gpu}"


def section(rows: list[dict]) -> str:
    """One benchmark: its name, the command that gives its ratios again, when and where it did, and a line per ratio."""
    first = rows[0]
    return "\n".join(
        [
            f"## {first['benchmark'].replace('_', ' ').capitalize()}",
            "",
            f"`{first['command']}`, {first['date']}. {first['where']}.",
            "",
            "| part | against | ratio | goal | measured |",
            "|---|---|---|---|---|",
            *(line(row) for row in rows),
        ]
    )


def line(row: dict) -> str:
    """A row of a table."""
    goal = "—" if row["goal"] is None else f"{'≤' if row['at_most'] else '≥'} {row['goal']:g}"
    reached = {None: "", True: ", reached", False: ", **missed**"}[row["reached"]]
    cells = [row["part"], row["against"], f"{row['ratio']:.3g}", goal + reached, row["detail"]]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
