"""The annotation files of CrossTask: list of videos, tasks, steps, cooking tasks, and steps of one video."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcnlab.data.arrays import read_npy
from mcnlab.data.importers.steps import Step, checked_steps, clean_text, steps_of_matrix
from mcnlab.errors import DataError, reading_error
from mcnlab.files import parse_json

LARGEST_TEXT_BYTES = 2**28


@dataclass(frozen=True)
class Task:
    """What is to be done, and how."""

    id: str
    title: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class ListedVideo:
    """One row of the list of videos."""

    task: str
    video: str
    url: str = ""


def read_text(path: Path) -> str:
    """A text file of unknown origin: UTF-8 with or without a mark, any line ends.

    Args:
        path: the file.

    Returns:
        Its text with plain line ends.

    Raises:
        DataError: it is missing, too large, or no text.
    """
    try:
        if path.stat().st_size > LARGEST_TEXT_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes are more than an annotation file can have")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise reading_error(error)(f"{path}: cannot be read ({error})") from error
    if "\0" in text:
        raise DataError(f"{path}: no text file")
    return text


def read_video_list(path: Path) -> tuple[list[ListedVideo], int]:
    """The list of videos: `task,video_id` or `task,video_id,url`, with or without a first row of names.

    Args:
        path: the CSV.

    Returns:
        Its rows in order, and how many rows were no videos.

    Raises:
        DataError: no row of it is a video.
    """
    rows = [[cell.strip() for cell in row] for row in csv.reader(read_text(path).splitlines())]
    rows = [row for row in rows if any(row)]
    if rows and rows[0][0].lower() in ("task", "task_id"):
        rows = rows[1:]
    found = [
        ListedVideo(row[0], row[1], row[2] if len(row) > 2 else "") for row in rows if len(row) > 1 and all(row[:2])
    ]
    if not found:
        raise DataError(f"{path}: no row `task,video_id` or `task,video_id,url` in it")
    return found, len(rows) - len(found)


def read_tasks(path: Path) -> tuple[dict[str, Task], list[str]]:
    """Tasks in blocks of five lines: id, title, address, number of steps, steps with commas between them.

    Args:
        path: the file.

    Returns:
        Task by id, and what was odd in sentences.

    Raises:
        DataError: there is no whole block.
    """
    tasks: dict[str, Task] = {}
    notes = []
    lines = [line.strip() for line in read_text(path).splitlines()]
    place = 0
    while place < len(lines):
        block = lines[place : place + 5]
        if not block[0]:
            place += 1
        elif _is_block(block):
            steps = _steps(block[4])
            tasks[block[0]] = Task(block[0], block[1], steps)
            if len(steps) != int(block[3]):
                notes.append(f"{path.name}: task {block[0]!r} says {block[3]} steps and lists {len(steps)}")
            place += 5
        else:
            notes.append(f"{path.name}: line {place + 1} begins no block of five lines")
            place = next((at for at in range(place, len(lines)) if not lines[at]), len(lines))
    if not tasks:
        raise DataError(f"{path}: no block of five lines (id, title, address, number of steps, steps) in it")
    return tasks, notes


def read_steps_json(path: Path) -> dict[str, tuple[str, ...]]:
    """Ordered step texts: `{task or video: [text, …]}`.

    Args:
        path: the JSON file.

    Returns:
        Key to texts.

    Raises:
        DataError: it is no JSON, or holds something else.
    """
    try:
        values = parse_json(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable JSON ({error})") from error
    whole = isinstance(values, dict) and all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in values.values()
    )
    if not whole or not values:
        raise DataError(f"{path}: expected a mapping of names to lists of step texts")
    return {str(key): tuple(clean_text(text) for text in texts) for key, texts in values.items()}


def read_names(path: Path) -> frozenset[str]:
    """One name per line, such as the cooking tasks of `cook.txt` or a list of videos; the first cell of a CSV counts.

    Args:
        path: the file.

    Returns:
        The names.

    Raises:
        DataError: it holds none.
    """
    names = frozenset(line.strip().strip(",") for line in read_text(path).splitlines() if line.strip())
    if not names:
        raise DataError(f"{path}: no line in it")
    return names


def read_annotation(
    folder: Path, stems: Sequence[str], steps: int
) -> tuple[tuple[Step, ...], int | None, tuple[str, ...]]:
    """The annotated steps of one video.

    Args:
        folder: of `STEM.csv` (step from 1, start, end in seconds) or `STEM.npy` (one row a second, one column a step).
        stems: what the file may be called.
        steps: how many its task has.

    Returns:
        Steps in order of time, rows of the matrix (None for a CSV), and problems.

    Raises:
        DataError: there is no file, or it cannot be read; the text names no id and no path.
    """
    for stem in stems:
        if (path := folder / f"{stem}.csv").is_file():
            return _read_rows(path, steps)
        if (path := folder / f"{stem}.npy").is_file():
            return _read_matrix(path, steps)
    raise DataError("annotation: no file")


def _read_rows(path: Path, steps: int) -> tuple[tuple[Step, ...], None, tuple[str, ...]]:
    """Steps of a CSV."""
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(read_text(path).splitlines()) if any(row)]
    except (DataError, csv.Error) as error:
        raise DataError("annotation: a file that cannot be read") from error
    if rows and rows[0][0].lower() == "step":
        rows = rows[1:]
    found, problems = checked_steps([(row[0], row[1], row[2]) for row in rows if len(row) >= 3], _from_one(steps))
    short = ("annotation: a row without step, start and end",) * sum(len(row) < 3 for row in rows)
    return found, None, problems + short


def _read_matrix(path: Path, steps: int) -> tuple[tuple[Step, ...], int, tuple[str, ...]]:
    """Steps of a matrix."""
    try:
        matrix = read_npy(path)
    except DataError as error:
        raise DataError("annotation: a file that cannot be read") from error
    if matrix.ndim != 2 or matrix.shape[1] != steps or len(matrix) == 0:
        raise DataError("annotation: a matrix that has another shape than (seconds, steps of the task)")
    if matrix.dtype.kind not in "biuf" or not np.isin(matrix, (0, 1)).all():
        raise DataError("annotation: a matrix with other values than 0 and 1")
    return steps_of_matrix(np.asarray(matrix)), len(matrix), ()


def _from_one(steps: int) -> Callable[[str], int | None]:
    """Place of a step that is numbered from 1, also where the number is written as 1.0."""
    places = {text: number for number in range(steps) for text in (str(number + 1), f"{number + 1}.0")}
    return lambda name: places.get(name)


def _is_block(lines: Sequence[str]) -> bool:
    """Whether five lines are a task; only the address may be empty, and then the number of steps must be right."""
    if len(lines) < 5 or not lines[3].isdigit() or not lines[4]:
        return False
    return bool(lines[2]) or len(_steps(lines[4])) == int(lines[3])


def _steps(line: str) -> tuple[str, ...]:
    """The steps of a line with commas between them."""
    return tuple(clean_text(step) for step in line.split(",") if step.strip())
