"""Whether an executed notebook is whole: every cell ran, none failed, no output was lost, and it is the right one."""

from pathlib import Path
from typing import Any

import nbformat

from mcnlab.errors import DataError
from mcnlab.runs import RunFolder, run_folders

_NO_NOTEBOOK = (nbformat.ValidationError, ValueError, KeyError, TypeError, AttributeError, NameError, RecursionError)
"""What nbformat raises on damaged notebooks; NameError where it takes one for that of an old version."""
OUTPUTS = "mcnlab_outputs"
"""Metadata of an executed notebook: by cell id, how many outputs each code cell left."""


def read_executed(path: Path) -> nbformat.NotebookNode:
    """An executed notebook.

    Raises:
        DataError: there is none, or what is there is no notebook.
    """
    try:
        read = nbformat.read(path, as_version=4)
        nbformat.validate(read)  # which reading only logs
        return read
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such notebook") from error
    except _NO_NOTEBOOK as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a notebook ({said[:100]})") from error


def is_readable(path: Path) -> bool:
    """Whether there is a notebook, damaged or not, of which a page can be made."""
    try:
        return bool(read_executed(path))
    except DataError:
        return False


def first_error(executed: nbformat.NotebookNode) -> str | None:
    """What went wrong first in an executed notebook.

    Args:
        executed: the notebook with its outputs.

    Returns:
        Cell id, error and the last line of its text; None when no cell has an error.
    """
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                lines = str(output.evalue).strip().splitlines() or ["no text"]
                return f"cell {cell.get('id', '')!r}: {output.ename}: {lines[-1]}"
    return None


def count_outputs(executed: nbformat.NotebookNode) -> dict[str, int]:
    """How many outputs each code cell has, by its id."""
    return {cell.id: len(cell.outputs) for cell in executed.cells if cell.cell_type == "code"}


def notebook_problems(path: Path) -> list[str]:
    """What keeps an executed notebook from counting as finished.

    Args:
        path: the notebook.

    Returns:
        One line each, which begins with the file's name; none when it is whole, or when there is no such file.
    """
    if not path.exists():
        return []
    try:
        executed = read_executed(path)
    except DataError as error:
        return [f"{path.name}: {str(error).removeprefix(f'{path}: ')}"]
    problem = first_error(executed)
    found = [problem] if problem else []
    open_cells = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
    found += [f"cell {cell.get('id', '')!r} was not executed" for cell in open_cells if not cell.execution_count]
    left = count_outputs(executed) if executed.metadata.get(OUTPUTS) else {}
    for name, count in dict(executed.metadata.get(OUTPUTS, {})).items():
        if left.get(name, -1) < count:
            found.append(f"cell {name!r} is missing" if name not in left else f"cell {name!r} lost its outputs")
    return [f"{path.name}: {one}" for one in found]


def run_notebook_problems(folder: Path) -> list[str]:
    """What keeps a run's notebook from counting as finished; none also for a run that was trained without one.

    Args:
        folder: the run folder.

    Returns:
        One line each.
    """
    path = folder / "notebook.ipynb"
    problems = notebook_problems(path)
    if problems or not path.exists():
        return problems
    parameters = read_executed(path).metadata.get("papermill", {}).get("parameters", {})
    return [f"{path.name}: {problem}"] if (problem := _other_run(parameters, folder)) else []


def study_notebook_problems(runs: Path) -> list[str]:
    """What is wrong with the notebooks of a study's folder: those of finished runs, and those that compare the runs.

    Args:
        runs: the folder of runs.

    Returns:
        One line each, with the run's name or that of the folder.
    """
    finished = [run.path for run in run_folders(runs) if run.finished]
    own = [f"{path.name}: {line}" for path in finished for line in run_notebook_problems(path)]
    compared = [line for path in sorted((runs / "notebooks").glob("*.ipynb")) for line in notebook_problems(path)]
    return [*own, *(f"notebooks: {line}" for line in compared)]


def _other_run(parameters: dict[str, Any], folder: Path) -> str:
    """Whose notebook it is, when it is not that of this run; a run folder may have been renamed since."""
    if not isinstance(parameters.get("run_dir"), str) or "seed" not in parameters:
        return "was not executed for a run"
    name = Path(parameters["run_dir"]).name
    renamed = not (folder.parent / name).is_dir()
    if (name == folder.name or renamed) and parameters["seed"] == RunFolder(folder).seed:
        return ""
    return f"is that of {name}, seed {parameters['seed']}"
