"""Making the folder of an own study from a template: settings with comments, notebooks, and a page of commands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import nbformat

from mcnlab.errors import ConfigError, StorageError
from mcnlab.files import make_folder, write_text_atomically
from mcnlab.reporting.notebooks import notebook_path

TEMPLATES = Path(__file__).parent / "study_templates"
NAMES = tuple(sorted(path.name for path in TEMPLATES.iterdir() if path.is_dir()))
"""Templates by name."""
PLACEHOLDER = "STUDY_NAME"
"""What stands for the study's name in a template."""
LONGEST_NAME = 40
TRAINS = "01_train_a_combination"
"""The notebook whose parameter `run_dir` names a run to make."""
FIRST_SPECIAL_NOTEBOOK = "06"
"""Notebooks before this one are about any study; this one and those after it need tasks that a study must ask for."""


def start_study(folder: Path, *, template: str = "world", force: bool = False) -> list[Path]:
    """Make the folder of a new study.

    Args:
        folder: where it goes; made when it is not there. Its name, in small letters, becomes that of the study.
        template: one of `NAMES`.
        force: also into a folder that holds something. Files that are there stay as they are.

    Returns:
        The files that were written, relative to the folder; fewer than all where some were there.

    Raises:
        ConfigError: there is no such template, or the folder holds something and `force` is not set.
        StorageError: the folder cannot be written, or is a file.
    """
    if template not in NAMES:
        raise ConfigError(f"--template {template}: expected {' or '.join(NAMES)}")
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder}: is a file; name a folder that is not there yet: mcnlab init my_study")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder}: the folder is not empty; take another one, or add what is missing with --force, which changes "
            "no file that is there"
        )
    written = []
    for name, text in _files(template, study_name(folder)):
        target = folder / name
        if not target.exists():
            make_folder(target.parent)
            write_text_atomically(target, text)
            written.append(Path(name))
    if template == "media":
        make_folder(folder / "media")
    return written


def study_name(folder: Path) -> str:
    """The name of a study for a folder: small letters, digits, `-` and `_`.

    Example:
        >>> study_name(Path("My first study!"))
        'my_first_study'
    """
    name = re.sub(r"[^a-z0-9_-]+", "_", folder.absolute().name.lower()).strip("_-")[:LONGEST_NAME].rstrip("_-")
    return name or "my_study"


def next_steps(folder: Path, template: str) -> list[str]:
    """The commands that follow, in order.

    Args:
        folder: of the new study.
        template: that it was made from.
    """
    steps = [f"cd {shlex.quote(str(folder))}"]
    if template == "media":
        steps += ["mcnlab import media clips.csv --out stores/mine   # after your rows are in clips.csv"]
    return [*steps, "mcnlab study study.yaml", "mcnlab lab"]


def _files(template: str, name: str) -> Iterator[tuple[str, str]]:
    """Names and contents of all files of a new study."""
    for path in sorted((TEMPLATES / template).iterdir()):
        yield path.name, path.read_text(encoding="utf-8").replace(PLACEHOLDER, name)
    yield ".gitignore", (TEMPLATES / "gitignore").read_text(encoding="utf-8")
    for path in sorted(notebook_path(TRAINS).parent.glob("*.ipynb")):
        general = path.name < FIRST_SPECIAL_NOTEBOOK
        yield (
            f"notebooks/{path.name}",
            _reading(path, f"../runs/{name}") if general and path.stem != TRAINS else path.read_text(encoding="utf-8"),
        )


def _reading(notebook: Path, runs: str) -> str:
    """A notebook that reads this study where it would else train small runs of its own."""
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = re.sub(
                r'^(study_dir|run_dir) = ""  # .*$',
                rf'\1 = "{runs}"  # runs of this study',
                cell.source,
                flags=re.MULTILINE,
            )
    return nbformat.writes(content) + "\n"
