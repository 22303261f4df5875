"""Runs that another run learns from: their settings, written into its own, and the folder where they lie."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcnlab.config import laid_over
from mcnlab.runs import RunFolder

PLACES = (("distill", "teacher"), ("guide", "namer"))
"""Terms that learn from another run, and the setting that says which."""
NEVER_TAKEN = ("experiment", "terms")
"""What another run's settings do not take from those around them."""


def filled_recipes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Unchecked settings in which the settings of other runs are complete: what they leave out is as around them.

    Args:
        values: of an experiment.

    Returns:
        The same with every mapping of another run filled; doing so twice changes nothing more.
    """
    terms = values.get("terms")
    if not isinstance(terms, Mapping):
        return dict(values)
    around = {name: value for name, value in values.items() if name not in NEVER_TAKEN}
    changed = dict(terms)
    for term, setting in PLACES:
        own = terms.get(term)
        if isinstance(own, Mapping) and isinstance(own.get(setting), Mapping):
            changed[term] = {**own, setting: laid_over(around, own[setting])}
    return {**values, "terms": changed}


def with_recipes(plain: Mapping[str, Any], change: Callable[[Mapping[str, Any] | str], Any]) -> dict[str, Any]:
    """Plain terms of an experiment with every other run replaced.

    Args:
        plain: the terms, as `model_dump` gives them.
        change: from settings, or the path of a run folder, to what stands there instead.

    Returns:
        The terms.
    """
    changed = dict(plain)
    for term, setting in PLACES:
        if changed.get(term) is not None and changed[term].get(setting) is not None:
            value = changed[term][setting]
            changed[term] = {**changed[term], setting: change(value if isinstance(value, Mapping) else str(value))}
    return changed


def finished_like(folder: Path, key: str) -> RunFolder | None:
    """A finished run beside a run folder, or among those that were made for others to learn from.

    Args:
        folder: of the run that learns.
        key: of the run that is wanted.

    Returns:
        The run; None where there is none.
    """
    places = [*sorted(folder.parent.iterdir())] if folder.parent.is_dir() else []
    for place in [*places, made_for_others(folder, key)]:
        if (place / "provenance.json").is_file():
            known = RunFolder(place)
            if known.finished and known.provenance.get("key") == key:
                return known
    return None


def made_for_others(folder: Path, key: str) -> Path:
    """Where a run is made that nobody has asked for by itself."""
    return folder.parent / ".teachers" / key
