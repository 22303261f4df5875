"""How to run a study again: the command, and the settings as they were resolved."""

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mcnlab.reporting.private import without_home
from mcnlab.reporting.summary import StudySummary
from mcnlab.runs import RunFolder

HEAD = """\
# {title}
# All settings of the study as they were resolved, from the run folders. To run it again: mcnlab study {file}
# A path that begins with ~ is below the home folder of whoever ran it: write your own there.
"""


@dataclass(frozen=True)
class Reproduction:
    """What the box on the page says."""

    command: str
    """As the study was called; with the file below where nobody knows how it was."""
    file: str
    """Name of the file of resolved settings."""
    address: str
    """That file as a data address."""
    facts: tuple[str, ...]
    """Version, seeds, in words."""


def reproduction(summary: StudySummary) -> Reproduction | None:
    """How to run a study again.

    Args:
        summary: the study.

    Returns:
        None where no run can be read.
    """
    settings = resolved_study(summary)
    if not settings["experiments"]:
        return None
    file = f"{settings['study']}.yaml"
    head = HEAD.format(title=" ".join(summary.title.split()), file=file)
    text = without_home(head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=110))
    address = "data:text/yaml;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()
    return Reproduction(command_of(summary.record, file), file, address, _facts(summary))


def command_of(record: Mapping[str, Any], file: str) -> str:
    """The command that ran a study.

    Args:
        record: what the study left about itself: `file`, as it was named, and `overrides`.
        file: to be named where the study does not say.

    Returns:
        One line for a shell.

    Example:
        >>> command_of({"file": "my study.yaml", "overrides": ["seeds=[0]"]}, "x.yaml")
        "mcnlab study 'my study.yaml' --set 'seeds=[0]'"
    """
    flags = [part for one in record.get("overrides") or () for part in ("--set", str(one))]
    return without_home(shlex.join(["mcnlab", "study", str(record.get("file") or file), *flags]))


def resolved_study(summary: StudySummary) -> dict[str, Any]:
    """The study's settings, from its runs: what all experiments share once, then each with the rest.

    Args:
        summary: the study.

    Returns:
        Plain values that `mcnlab study` takes; without experiments whose settings cannot be read.
    """
    known = [found for name in summary.experiments if (found := _settings(summary, name))]
    base = shared(known)
    return {
        "study": _name(summary),
        "title": summary.title,
        "question": summary.question,
        "seeds": sorted({row.seed for row in summary.runs}),
        "base": base,
        "experiments": [beyond(base, own) for own in known],
    }


def shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several nested settings have in common.

    Args:
        settings: of some experiments.

    Returns:
        Names whose values are equal in all; inside of mappings that differ, again what is equal. Of one experiment
        alone nothing.

    Example:
        >>> shared([{"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}}])
        {'a': 1, 'b': {'c': 2}}
    """
    if len(settings) < 2:
        return {}
    found: dict[str, Any] = {}
    for name, value in settings[0].items():
        values = [one[name] for one in settings if name in one]
        if len(values) < len(settings):
            continue
        if all(one == value for one in values):
            found[name] = value
        elif all(isinstance(one, Mapping) for one in values) and (inner := shared(values)):
            found[name] = inner
    return found


def beyond(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be laid over the shared settings to get an experiment's own."""
    rest: dict[str, Any] = {}
    for name, value in own.items():
        if name not in base:
            rest[name] = value
        elif base[name] != value:
            rest[name] = beyond(base[name], value)
    return rest


def _settings(summary: StudySummary, name: str) -> dict[str, Any]:
    """Settings of an experiment's first run that has some."""
    rows = [row for row in summary.runs if row.experiment == name and name in summary.recipes]
    return next((found for row in rows if (found := RunFolder(row.folder).settings)), {})


def _name(summary: StudySummary) -> str:
    """The study's name, as a study may be called."""
    wanted = str(summary.record.get("study") or summary.title).lower()
    return re.sub(r"[^a-z0-9_-]+", "_", wanted).strip("_-")[:40] or "study"


def _facts(summary: StudySummary) -> tuple[str, ...]:
    """Version and seeds."""
    code = summary.provenance.get("code") or {}
    version = f"mcnlab {code['version']}" if code.get("version") else "an unknown version of mcnlab"
    commit = f", commit {code['commit']}" if code.get("commit") else ""
    seeds = sorted({row.seed for row in summary.runs})
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    return (f"{version}{commit}", named)
