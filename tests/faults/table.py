"""The figures of the harness as a table, and that table in docs/reliability.md."""

import re
from collections.abc import Sequence
from pathlib import Path

from mcnlab.files import write_text_atomically
from tests.faults.registry import FAULTS, Outcome

HEAD = "| fault | trials | passed | what happened | seed | seconds | must hold |\n|---|---|---|---|---|---|---|\n"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def table(outcomes: Sequence[Outcome]) -> str:
    """Outcomes as a Markdown table."""
    return HEAD + "\n".join(map(row, outcomes)) + "\n"


def row(outcome: Outcome) -> str:
    """One line of the table."""
    one = outcome.fault
    happened = ", ".join(f"{count} × {what}" for what, count in sorted(outcome.counts.items()))
    passed = outcome.trials - len(outcome.failures)
    cells = (
        f"`{one.name}`: {one.words}",
        outcome.trials,
        passed,
        happened,
        outcome.seed,
        f"{outcome.seconds:.0f}",
        one.passes,
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def keep(page: Path, outcome: Outcome) -> None:
    """Put an outcome into the table of a page, in place of an older one of the same fault."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    rows = {match[1]: line for line in old.splitlines() if (match := re.match(r"\| `([\w-]+)`", line))}
    rows[outcome.fault.name] = row(outcome)
    lines = [rows[name] for name in FAULTS if name in rows]
    write_text_atomically(page, f"{before}{BEGIN}\n{HEAD}{chr(10).join(lines)}\n{END}{after}")
