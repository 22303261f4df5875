"""The annotation files of MiningYouTube: subtitles, labels per frame, transcripts, classes, and scores."""

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from mcnlab.data.arrays import read_npy
from mcnlab.data.importers.crosstask_files import read_text
from mcnlab.data.importers.steps import Step, checked_steps, clean_text, steps_of_matrix
from mcnlab.errors import DataError

BACKGROUND = frozenset({"background", "bg", "sil"})
"""What a stretch without action is called."""
LABEL_ENDINGS = (".gt", ".txt", ".labels")
ORDER_ENDINGS = (".transcript", ".grammar")
_TIMES = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)\s*-->\s*(\d+):(\d+):(\d+)[,.](\d+)")
Segments = tuple[tuple[str, ...], tuple[Step, ...], int | None, tuple[str, ...]]
"""Texts of the steps in order, their intervals, rows that features must have (None: any), and problems."""


def read_segments(folder: Path, stems: Sequence[str], *, rate_hz: float, steps: Sequence[str] | None) -> Segments:
    """The action segments of one video; every segment is a step of its own, in order of time.

    Args:
        folder: of `ID.srt`, `ID.npy` (rows, steps), or `ID.gt`, `ID.txt` or `ID.labels` (one label a row).
        stems: what the file may be called.
        rate_hz: rows per second of labels and matrices.
        steps: texts of the columns of a matrix.

    Returns:
        Steps and intervals; background is left out.

    Raises:
        DataError: there is no file, or it cannot be used; the text names no id and no path.
    """
    for stem in stems:
        if (path := folder / f"{stem}.srt").is_file():
            return _of_subtitles(_text(path))
        if (path := folder / f"{stem}.npy").is_file():
            return _of_matrix(path, steps, rate_hz)
        for ending in LABEL_ENDINGS:
            if (path := folder / f"{stem}{ending}").is_file():
                return _of_labels(_text(path), rate_hz)
        if any((folder / f"{stem}{ending}").is_file() for ending in ORDER_ENDINGS):
            raise DataError("annotation: a transcript alone, which says no times")
    raise DataError("annotation: no file")


def annotated_ids(folder: Path) -> list[str]:
    """Ids of the videos that a folder has annotations of, sorted.

    Args:
        folder: as for `read_segments`.

    Returns:
        Ids.

    Raises:
        DataError: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of annotations")
    endings = (".srt", ".npy", *LABEL_ENDINGS, *ORDER_ENDINGS)
    found = sorted({path.stem for path in folder.iterdir() if path.suffix in endings})
    if not found:
        raise DataError(f"{folder}: no file of annotations in it; expected ID.srt, ID.npy, ID.gt or ID.txt")
    return found


def read_classes(path: Path) -> tuple[str, ...]:
    """The classes: one per line, with or without its number in front.

    Args:
        path: `mapping.txt`.

    Returns:
        Names in the order of the file.

    Raises:
        DataError: it holds none.
    """
    lines = [line.split(maxsplit=1) for line in read_text(path).splitlines() if line.strip()]
    names = tuple(cells[1].strip() if len(cells) == 2 and cells[0].isdigit() else " ".join(cells) for cells in lines)
    if not names:
        raise DataError(f"{path}: no class in it")
    return names


def read_log_probabilities(path: Path) -> np.ndarray:
    """The scores of one video: `ID.probs`, a row of log-probabilities per frame.

    Args:
        path: the file.

    Returns:
        (frames, classes), float64.

    Raises:
        DataError: it is missing, empty, or its rows are not numbers of one length, or not finite.
    """
    rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise DataError(f"{path}: expected rows of equally many numbers, got {len(rows)} rows")
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if not np.isfinite(values).all():
        raise DataError(f"{path}: values that are not finite")
    return values


def _text(path: Path) -> str:
    """The text of an annotation."""
    try:
        return read_text(path)
    except DataError as error:
        raise DataError("annotation: a file that cannot be read") from error


def _of_subtitles(text: str) -> Segments:
    """Segments of an SRT file: a line of times, and the class in the lines after it."""
    rows: list[tuple[str, str, str]] = []
    nameless = 0
    for block in re.split(r"\n[ \t]*\n", text.strip()):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        place = next((at for at, line in enumerate(lines) if _TIMES.search(line)), None)
        if place is None or not lines[place + 1 :]:
            nameless += bool(lines)
            continue
        cells = [int(cell) for cell in _TIMES.findall(lines[place])[0]]
        start, end = ((h * 60 + m) * 60 + s + ms / 1000 for h, m, s, ms in (cells[:4], cells[4:]))
        rows.append((clean_text(" ".join(lines[place + 1 :])), repr(start), repr(end)))
    problems = ("annotation: a block without times and a class",) * nameless
    return _of_rows(rows, None, problems)


def _of_labels(text: str, rate_hz: float) -> Segments:
    """Segments of labels per row: every unbroken run."""
    labels = [clean_text(line) for line in text.splitlines()]
    while labels and not labels[-1]:
        labels.pop()
    if not labels:
        raise DataError("annotation: no label in it")
    rows, at = [], 0
    for label, run in groupby(labels):
        end = at + len(list(run))
        rows.append((label, repr(at / rate_hz), repr(end / rate_hz)))
        at = end
    empty = ("annotation: rows without a label",) * any(not row[0] for row in rows)
    return _of_rows([row for row in rows if row[0]], len(labels), empty)


def _of_rows(rows: list[tuple[str, str, str]], length: int | None, problems: tuple[str, ...]) -> Segments:
    """Segments with their own texts, in order of time."""
    acting = [row for row in rows if row[0].lower() not in BACKGROUND]
    numbered = [(str(number), start, end) for number, (_, start, end) in enumerate(acting)]
    steps, wrong = checked_steps(numbered, lambda name: int(name))
    texts = tuple(acting[step.number][0] for step in steps)
    renumbered = tuple(Step(place, step.start_s, step.end_s) for place, step in enumerate(steps))
    return texts, renumbered, length, problems + wrong


def _of_matrix(path: Path, steps: Sequence[str] | None, rate_hz: float) -> Segments:
    """Segments of a matrix, whose columns the steps name."""
    if steps is None:
        raise DataError("annotation: a matrix, but no texts of its steps")
    try:
        matrix = read_npy(path)
    except DataError as error:
        raise DataError("annotation: a file that cannot be read") from error
    if matrix.ndim != 2 or matrix.shape[1] != len(steps) or len(matrix) == 0:
        raise DataError("annotation: a matrix that has another shape than (rows, steps)")
    if matrix.dtype.kind not in "biuf" or not np.isin(matrix, (0, 1)).all():
        raise DataError("annotation: a matrix with other values than 0 and 1")
    return tuple(steps), steps_of_matrix(np.asarray(matrix), rate_hz=rate_hz), len(matrix), ()
