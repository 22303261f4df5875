"""A store or a run as tables for the terminal: what a person wants to know at a glance; JSON has all of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mcnlab.progress import duration_text

MOST_LABELS, MOST_LINES = 5, 24
"""Labels that are named, and lines that a table may have."""
LOG_WIDTH = 120
"""Characters of a line where there is no terminal."""
GOOD, BAD, QUIET = "green", "bold red", "dim"


def print_store(facts: Mapping[str, Any]) -> None:
    """Print what is in a store on standard output.

    Args:
        facts: as `data.store.describe` gives them.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    console.print(store_view(facts))


def store_view(facts: Mapping[str, Any]) -> RenderableType:
    """The same to be printed anywhere.

    Args:
        facts: as `data.store.describe` gives them.

    Returns:
        A headline, the counts, tracks, splits, labels, factors, and what the import left out; empty parts are not
        there.
    """
    head = Text.assemble((clean(facts["name"]), "bold"), "  ", (clean(facts["path"]), QUIET), overflow="fold")
    parts = [_counts(facts), _tracks(facts), _splits(facts), _factors(facts["factors"]), _left_out(facts)]
    return Group(head, *(Padding(part, (1, 0, 0, 2), expand=False) for part in parts if part is not None), Text())


def print_run(facts: Mapping[str, Any]) -> None:
    """Print what is in a run folder on standard output.

    Args:
        facts: as `experiment.described.describe_run` gives them.
    """
    best = facts["best"]
    said = best and (best.get("problem") or f"step {best['step']}, mean loss {best['loss']:.4g} in {best['stage']}")
    named = ("experiment", "seed", "state", "reason", "steps", "store")
    lines = {name: facts[name] for name in named} | {"checkpoints": _listed(facts["checkpoints"])}
    lines |= {"kept": _listed(facts["kept"]), "best": said}
    console = Console(soft_wrap=True)
    console.print(Text(clean(facts["path"]), style="bold"))
    for name, value in lines.items():
        if value not in (None, ""):
            console.print(Text.assemble((f"  {name:<13}", QUIET), clean(value)))


def _listed(steps: Sequence[int]) -> str:
    """Steps in words; the first few where there are many."""
    more = f" and {len(steps) - MOST_LINES} more" if len(steps) > MOST_LINES else ""
    return f"step {', '.join(map(str, steps[:MOST_LINES]))}{more}" if steps else ""


def clean(value: Any) -> str:
    """A value as text that leaves the terminal as it is.

    Example:
        >>> clean("bell\\x07")
        'bell '
    """
    return "".join(letter if letter.isprintable() else " " for letter in str(value))


def label_line(labels: Mapping[str, int]) -> str:
    """How many labels there are, and the largest.

    Args:
        labels: clips by label.

    Returns:
        One line.

    Example:
        >>> label_line({"a": 1, "b": 3})
        '2: b (3), a (1)'
    """
    if not labels:
        return "none"
    largest = sorted(labels.items(), key=lambda one: (-one[1], one[0]))[:MOST_LABELS]
    named = ", ".join(f"{clean(name):.40} ({count:,})" for name, count in largest)
    more = f", and {len(labels) - MOST_LABELS:,} smaller ones" if len(labels) > MOST_LABELS else ""
    return f"{len(labels):,}: {named}{more}"


def size_text(size_bytes: int) -> str:
    """A size in the largest unit that leaves a digit before the point.

    Example:
        >>> size_text(15249415)
        '15.2 MB'
    """
    value, units = float(size_bytes), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def _counts(facts: Mapping[str, Any]) -> Table:
    """Numbers of the store as a whole."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style=QUIET, no_wrap=True)
    table.add_column(overflow="fold")
    words = facts["words"]
    table.add_row("recordings", f"{facts['recordings']:,}")
    table.add_row("clips", f"{facts['clips']:,}, {_duration(facts['hours'])} in all")
    table.add_row("modalities", ", ".join(facts["modalities"]))
    table.add_row("labels", Text(label_line(facts["labels"])))
    table.add_row("words", Text(f"{words['count']:,} × {words['dim']}, {clean(words['source'])}"))
    table.add_row("size", size_text(facts["bytes"]))
    table.add_row("fingerprint", facts["fingerprint"])
    sound = facts["checksums"] == "as recorded"
    problems = facts["checksums"] if not sound else ["as recorded"]
    table.add_row("checksums", Text(clean("; ".join(map(str, problems))), style=GOOD if sound else BAD))
    return table


def _tracks(facts: Mapping[str, Any]) -> Table:
    """One line per track, with what made it."""
    table = _table("track", "modality", "features", numbers=("columns", "rows per s"))
    for name, track in facts["tracks"].items():
        made = facts["visual"].get(name, {})
        origin = f"{made['backbone']}{'' if made.get('trained', True) else ', untrained'}" if made else ""
        table.add_row(
            *map(Text, (clean(name), track["modality"], clean(origin))),
            _number(track["dim"]),
            _number(track["rate_hz"]),
        )
    return table


def _splits(facts: Mapping[str, Any]) -> Table:
    """One line per split: its clips, and how many lack a modality."""
    lacks = [name for name in next(iter(facts["splits"].values()), {}) if name != "clips"]
    table = _table("split", numbers=("clips", *(name.replace("_", " ") for name in lacks)))
    for name, counts in facts["splits"].items():
        missing = (Text(f"{counts[lack]:,}", style="yellow" if counts[lack] else QUIET) for lack in lacks)
        table.add_row(Text(clean(name)), _number(counts["clips"]), *missing)
    return table


def _factors(factors: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """One line per factor; None where there are none."""
    if not factors:
        return None
    table = _table("factor", "values", numbers=("clips",))
    for name, one in list(factors.items())[:MOST_LINES]:
        span = one.get("range")
        values = f"{one['categories']:,} names" if "categories" in one else _span(span) if span else "none"
        table.add_row(Text(clean(name)), values, _number(one["clips"]))
    _say_more(table, len(factors))
    return table


def _left_out(facts: Mapping[str, Any]) -> Table | None:
    """What the import dropped, and what it kept only in part; None where it did neither."""
    rows = [
        (count, fate, reason)
        for fate, key in (("dropped", "dropped"), ("kept in part", "lost"))
        for reason, count in sorted(facts[key].items(), key=lambda one: -one[1])
    ]
    if not rows:
        return None
    table = _table("import", "reason", numbers=("count",))
    for count, fate, reason in rows[:MOST_LINES]:
        table.add_row(Text(fate, style="yellow"), Text(clean(reason)), _number(count))
    _say_more(table, len(rows))
    return table


def _table(*names: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table: columns of words, then of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style=f"{QUIET} bold", show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _say_more(table: Table, lines: int) -> None:
    """A last line that says how many are not shown."""
    if lines > MOST_LINES:
        table.add_row(Text(f"and {lines - MOST_LINES:,} more", style=QUIET))


def _number(value: int | float) -> str:
    """A number with thousands apart."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _duration(hours: float) -> str:
    """Hours where there is more than one, else minutes."""
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def _span(span: Sequence[float]) -> str:
    """Smallest and largest value."""
    return f"{span[0]:.4g} to {span[1]:.4g}"


def print_check(subject: str, name: str, state: str, lines: Sequence[str]) -> None:
    """Print what one check found on standard output, at once.

    Args:
        subject: the run or store.
        name: what was looked at.
        state: `ok`, `problem` or `not checked`.
        lines: what there is to say; empty ones are passed over.
    """
    console = Console(soft_wrap=True)
    color = {"ok": GOOD, "problem": BAD}.get(state, QUIET)
    console.print(Text.assemble((f"{state:<12}", color), f"{clean(subject)}  {clean(name)}"))
    for line in filter(None, lines):
        console.print(Text(f"{'':<12}  {clean(line)}", style=QUIET if state != "problem" else ""))


def print_runs(runs: pd.DataFrame) -> None:
    """Print a table of runs on standard output.

    Args:
        runs: as `mcnlab.runs.list_all_runs` gives them.
    """
    names = ["experiment", "seed", "state", "steps", "trained", "last written"]
    studies = runs["study"].nunique() > 1
    reasons = runs["reason"].notna().any()
    table = Table(
        *(["study"] if studies else []), *names, *(["reason"] if reasons else []), box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.caption, table.caption_justify = "the run that wrote last stands last", "left"
    for row in runs.itertuples():
        color = {"finished": GOOD, "failed": BAD}.get(row.state, QUIET)
        seconds = "" if row.train_s is None or row.train_s != row.train_s else duration_text(row.train_s)
        reason = "" if row.reason is None or row.reason != row.reason else clean(row.reason)
        state = Text(str(row.state), style=color)
        written = row.written[:16].replace("T", " ")
        cells = [clean(row.experiment), str(row.seed), state, str(row.steps), seconds, written]
        table.add_row(*([clean(row.study)] if studies else []), *cells, *([reason] if reasons else []))
    console = Console()
    (console if console.is_terminal else Console(width=LOG_WIDTH)).print(table)
