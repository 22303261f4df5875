"""Reading the rows of published evaluation sets: keys, texts, times and ids as the files really have them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mcnlab.data.importers.evaluation_kinds import Kind, kind_of_mapping, kind_of_rows, sketch
from mcnlab.data.importers.unpickling import load_published_pickle
from mcnlab.data.text import MAX_CAPTION_CHARACTERS
from mcnlab.errors import ConfigError, DataError

Features = Literal["pooled", "full"]
_ID = re.compile(r"(?!\.)[^/\\\s]{1,200}")


ReadingProgress = Callable[[Path], Callable[[int, int], None]]
"""Takes a file that is about to be read, gives what is called with megabytes read and all."""


def read_rows(
    path: Path, known: Sequence[str], *, of: Kind, reading: ReadingProgress | None = None
) -> list[dict[str, Any]]:
    """The rows of a published pickle.

    Args:
        path: the file.
        known: keys of which a row must have one.
        of: the set that the file should belong to.
        reading: makes a progress callback for the file.

    Returns:
        One dictionary for each clip.

    Raises:
        DataError: the file is unsafe, damaged or empty, of quite another layout, or of another published set.
    """
    rows = load_published_pickle(path, progress=None if reading is None else reading(path))
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: expected a list of clips of {of.name} ({of.keys}), found {_found(rows)}")
    if not any(isinstance(row, dict) and any(key in row for key in known) for row in rows):
        kind = kind_of_rows(rows)
        raise DataError(
            f"{path}: expected clips of {of.name} with {', '.join(known)}; the first is {sketch(rows[0])}"
            f"{f'; {kind.takes_it}' if kind else ''}"
        )
    kind = kind_of_rows(rows)
    if kind not in (None, of):
        raise DataError(
            f"{path}: expected clips of {of.name} ({of.keys}), found clips of {kind.name} ({kind.keys}): the first is "
            f"{sketch(rows[0])}; {kind.takes_it}"
        )
    return [row if isinstance(row, dict) else {} for row in rows]


def _found(content: Any) -> str:
    """What a file holds that is no list of clips."""
    kind = kind_of_mapping(content) if isinstance(content, dict) else None
    if kind is not None:
        return f"{kind.name} ({kind.keys}); {kind.takes_it}"
    empty = " (empty)" if isinstance(content, list | dict) and not content else ""
    return f"a value {sketch(content)}{empty}"


def check_files(*paths: Path | None) -> None:
    """Refuse files that are not there before any other, which may be large, is read.

    Raises:
        DataError: one is missing.
    """
    for path in paths:
        if path is not None and not path.is_file():
            raise DataError(f"{path}: no such file")


def check_features(features: str) -> None:
    """Refuse a kind of features that there is not.

    Raises:
        ConfigError: it is neither pooled nor full.
    """
    if features not in ("pooled", "full"):
        raise ConfigError(f"features: expected pooled or full, got {features!r}")


def chosen_features(
    row: Mapping[str, Any], keys: Mapping[str, tuple[str, str]], features: Features, problems: list[str]
) -> dict[str, Any]:
    """By track: the pooled or the full features of a row; each stands in for the other where it is missing.

    A pooled row is the maximum over the full ones, so the clip that a reader makes of either is the same.

    Args:
        row: of a published file.
        keys: by track: the row's keys of the pooled and of the full features.
        features: which ones are wanted.
        problems: gets a line where pooled features stand in for full ones.

    Returns:
        By track: the array or tensor, or None.
    """
    chosen = {}
    for track, (pooled, full) in keys.items():
        wanted, other = (full, pooled) if features == "full" else (pooled, full)
        chosen[track] = row.get(wanted) if row.get(wanted) is not None else row.get(other)
        if features == "full" and row.get(full) is None and chosen[track] is not None:
            problems.append(f"{track}: no full features, the pooled row is kept")
        elif features == "pooled" and chosen[track] is not None:
            chosen[track] = _pooled(chosen[track])
    return chosen


def text_of(value: Any) -> str:
    """A text as it was meant; empty where there is none.

    Files that Python 2 wrote give UTF-8 as bytes or as latin1; a lone surrogate, which no file can hold, becomes `?`.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if not isinstance(value, str):
        return ""
    try:
        return value.encode("latin1").decode("utf-8")
    except UnicodeError:
        return value.encode("utf-8", errors="replace").decode("utf-8")


def cut_captions(captions: Iterable[str], problems: list[str]) -> tuple[str, ...]:
    """Captions of bearable length."""
    captions = tuple(captions)
    if any(len(caption) > MAX_CAPTION_CHARACTERS for caption in captions):
        problems.append(f"a caption of more than {MAX_CAPTION_CHARACTERS} characters, cut there")
    return tuple(caption[:MAX_CAPTION_CHARACTERS] for caption in captions)


def seconds(value: Any) -> float | None:
    """A time as a plain number; None where there is none, or none that makes sense."""
    if isinstance(value, torch.Tensor | np.ndarray) and (value.ndim or value.dtype in (bool, torch.bool)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 1e7 else None


def refusals(ids: Sequence[str]) -> list[str]:
    """By place: why a clip of such an id cannot be used; empty where it can."""
    seen: set[str] = set()
    reasons = []
    for id_ in ids:
        if not id_:
            reasons.append("no id")
        elif not _ID.fullmatch(id_) or not id_.isprintable() or ".." in id_:
            reasons.append("an id with a slash, a space, or a dot in front")
        else:
            reasons.append("an id that stood before" if id_ in seen else "")
        seen.add(id_)
    return reasons


def float_array(value: Any) -> np.ndarray | None:
    """Numbers as a float array; None where there are none."""
    if isinstance(value, torch.Tensor):
        value = value.float().numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        return None
    return value


def _pooled(value: Any) -> Any:
    """The maximum over the rows of full features; pooled ones as they are."""
    rows = float_array(value)
    return rows.max(axis=0) if rows is not None and rows.ndim == 2 and len(rows) else value
