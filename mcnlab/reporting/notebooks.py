"""Notebooks without a person: run one through papermill, refuse what it does not declare, record its numbers."""

import ast
import itertools
import json
import keyword
import math
import os
import sysconfig
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from mcnlab.config import nearest
from mcnlab.errors import ConfigError, RunError
from mcnlab.files import refuse_address, write_text_atomically
from mcnlab.reporting.executed import OUTPUTS, count_outputs, first_error

CHECKOUT = Path(__file__).parents[2]
SHARED = Path(sysconfig.get_path("data")) / "share" / "mcnlab"
"""Where a wheel puts the notebooks and the studies."""
END_WITH_OWNER = "--IPKernelApp.exec_lines=__import__('mcnlab.processes').processes.die_with_parent()"
"""Argument of a kernel: it runs this line first, and from then on does not outlive a killed owner."""
QUIET = "--IPKernelApp.log_level=50"
"""A kernel that is shut down is interrupted first, and would call that an error in the owner's terminal."""
LONGEST_SOCKET_FOLDER = 70
"""Characters; a Unix socket's whole address may have about 100."""


class KernelLostError(RunError):
    """A kernel was killed, or ended itself, in the middle of a notebook: nothing that the notebook did wrong."""


def notebook_path(name: str) -> Path:
    """Where a notebook of ours lies: in the checkout, or where the wheel put it.

    Args:
        name: with or without `.ipynb`, for example `01_train_a_combination`.

    Returns:
        The notebook's path.

    Raises:
        ConfigError: there is no notebook of this name.
    """
    return _shipped("notebooks", name.removesuffix(".ipynb") + ".ipynb")


def settings_path(path: str | Path) -> Path:
    """The settings file that is meant: here, in a folder above, or among the studies that come with mcnlab.

    So the same notebook finds `studies/tiny_experiment.yaml` from its own folder and from the one above.

    Args:
        path: relative or absolute.

    Returns:
        The path of an existing file.

    Raises:
        ConfigError: no such file.
    """
    wanted, here = Path(path), Path.cwd()
    for folder in (here, *here.parents):
        if (folder / wanted).is_file():
            return folder / wanted
    beside = [path.name for path in wanted.parent.glob("*.y*ml")] if wanted.parent.is_dir() else []
    if wanted.is_dir():
        inside = sorted(wanted.glob("*.y*ml"))
        next_step = f"; type: {inside[0]}" if inside else "; `mcnlab init my_study` makes a study of your own"
        raise ConfigError(f"{path}: is a folder, expected a YAML file{next_step}")
    if meant := nearest(wanted.name, beside):
        raise ConfigError(f"{path}: no such file{meant}")
    return _shipped("studies", wanted.name)


def record(out: str | Path, values: Mapping[str, Any]) -> pd.DataFrame:
    """Keep the numbers of a notebook; its last cell.

    Args:
        out: JSON file to write; empty to write none.
        values: names and plain values; NaN becomes null.

    Returns:
        The same as a table, for the reader's eye.

    Raises:
        StorageError: the file cannot be written.
    """
    plain = {name: _plain(value) for name, value in values.items()}
    if str(out):
        write_text_atomically(Path(out).absolute(), json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    return _Recorded({"recorded": plain.values()}, index=pd.Index(plain))


class _Recorded(pd.DataFrame):
    """Numbers by name, as a table in which JupyterLab takes no dollar sign for mathematics: names come from files."""

    def _repr_html_(self) -> str | None:
        """The table."""
        with pd.option_context("display.html.use_mathjax", False):
            return super()._repr_html_()


def declared_parameters(notebook: str | Path) -> dict[str, str]:
    """Names that the cell tagged `parameters` assigns, with their default as source text.

    Args:
        notebook: path of the notebook.

    Returns:
        Name to default, in order.

    Raises:
        ConfigError: there is no such notebook, or it has no cell tagged `parameters`.
    """
    cells = [cell for cell in _read(Path(notebook)).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ConfigError(f"{notebook}: expected one cell tagged 'parameters', found {len(cells)}")
    found: dict[str, str] = {}
    for line in ast.parse(cells[0].source).body:
        if not isinstance(line, ast.Assign | ast.AnnAssign) or line.value is None:
            continue
        targets = line.targets if isinstance(line, ast.Assign) else [line.target]
        found |= {name.id: ast.unparse(line.value) for name in targets if isinstance(name, ast.Name)}
    return found


def execute(
    notebook: str | Path,
    out: str | Path,
    parameters: Mapping[str, Any],
    *,
    working_dir: str | Path | None = None,
    cell_timeout_s: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Run a notebook from its first cell to its last, in this process with one kernel beside it.

    The executed notebook appears at `out` at once, whole: also when a cell failed, then with its error in it.

    Args:
        notebook: the notebook; it is not changed.
        out: where the executed one goes; its folder is made.
        parameters: values for names that the notebook's parameters cell declares; JSON types only.
        working_dir: of the kernel; the current one when None.
        cell_timeout_s: longest time for one cell; none by default.
        progress: called after each cell with the code cells that are done and all, that of the parameters among them.

    Returns:
        `out`.

    Raises:
        ConfigError: a parameter is not declared, is no plain identifier, or is no JSON value; or a path is an address
            of the network, which papermill would open.
        RunError: a cell failed (SystemExit counts) or took too long; names notebook and cell.
        KernelLostError: its kernel was killed.

    Example:
        >>> execute("notebooks/01_train_a_combination.ipynb", "/tmp/executed.ipynb", {"seed": 1})  # doctest: +SKIP
    """
    for path in (notebook, out, *([] if working_dir is None else [working_dir])):
        refuse_address(path)
    notebook, out = Path(notebook), Path(out).absolute()
    _check_parameters(notebook, parameters)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mcnlab-", dir=_short_temporary_folder()) as folder:
        place = Path(working_dir or Path.cwd())
        lost, problem = _run_in(Path(folder), notebook, parameters, place, cell_timeout_s, progress)
        executed = nbformat.read(Path(folder) / "out.ipynb", as_version=4)
    executed.metadata.get("papermill", {}).update(input_path=notebook.name, output_path=out.name)
    executed.metadata[OUTPUTS] = count_outputs(executed)
    write_text_atomically(out, nbformat.writes(executed) + "\n")
    if lost:
        raise KernelLostError(f"{notebook.name}: {problem}")
    problem = first_error(executed) or problem
    if problem:
        raise RunError(f"{notebook.name}: {problem}")
    return out


def _run_in(
    folder: Path,
    notebook: Path,
    parameters: Mapping[str, Any],
    working_dir: Path,
    cell_timeout_s: int | None,
    progress: Callable[[int, int], None],
) -> tuple[bool, str | None]:
    """Execute under plain names in a temporary folder, so that papermill formats no path.

    Returns whether the kernel was lost, and what went wrong.
    """
    # papermill and nbclient take half a second, and only an execution needs them
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # or every kernel warns of frozen modules
    source = _read(notebook)
    source.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(source, folder / "in.ipynb")
    cells = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in source.cells) + bool(parameters)
    done = itertools.count(1)
    over_ipc = Config({"KernelManager": {"transport": "ipc", "connection_file": str(folder / "kernel.json")}})
    try:
        papermill.execute_notebook(
            str(folder / "in.ipynb"),
            str(folder / "out.ipynb"),
            parameters=dict(parameters),
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=cell_timeout_s,
            config=over_ipc,
            resources={"metadata": {"path": str(working_dir)}},
            store_widget_state=False,
            extra_arguments=[END_WITH_OWNER, QUIET],
            on_cell_executed=lambda **_: progress(next(done), cells),
        )
    except PapermillExecutionError as error:
        return False, f"{error.ename}: {error.evalue}"
    except CellTimeoutError as error:
        return False, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    except DeadKernelError:
        return True, "its kernel was killed"
    return False, None


def _check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse what papermill would paste into the notebook without asking."""
    declared = declared_parameters(notebook)
    for name, value in parameters.items():
        plain_name = name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name
        if not plain_name or name not in declared:
            raise ConfigError(f"{notebook.name}: no parameter {name!r}; it has {', '.join(declared) or 'none'}")
        if not _is_json(value):
            raise ConfigError(f"{notebook.name}: parameter {name} must be a JSON value, got {value!r:.100}")


def _is_json(value: Any) -> bool:
    """Whether a value arrives in the notebook equal in type and value."""
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(name) is str for name in value) and all(map(_is_json, value.values()))
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def _plain(value: Any) -> Any:
    """A number of numpy or pandas as one of Python; NaN as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(notebook: Path) -> nbformat.NotebookNode:
    """The notebook on disk."""
    try:
        return nbformat.read(notebook, as_version=4)
    except FileNotFoundError as error:
        raise ConfigError(f"{notebook}: no such notebook") from error
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise ConfigError(f"{notebook}: not a notebook ({str(error)[:100]})") from error


def _shipped(kind: str, name: str) -> Path:
    """A file that comes with mcnlab."""
    for folder in (CHECKOUT / kind, SHARED / kind):
        if (folder / name).is_file():
            return folder / name
    known = sorted({path.stem for folder in (CHECKOUT / kind, SHARED / kind) for path in folder.glob("*.[yi]*")})
    own = "`mcnlab init my_study` makes a study of your own" if kind == "studies" else f"there are {', '.join(known)}"
    what = nearest(Path(name).stem, known) or f"; {own}"
    raise ConfigError(f"{name}: no such file here, nor among the {kind} of mcnlab{what}")


def _short_temporary_folder() -> str | None:
    """Where temporary folders go: the system's choice, unless the kernel's sockets would not fit there."""
    return None if len(tempfile.gettempdir()) < LONGEST_SOCKET_FOLDER else "/tmp"
