"""The list of a finished run's files with their checksums, which `mcnlab verify` compares with the disk."""

from pathlib import Path
from typing import Any

from mcnlab.data.shards import file_checksum
from mcnlab.errors import DataError
from mcnlab.files import read_json, write_json_atomically

RECORD = "files.json"
"""Name of the list, beside the files."""
NOT_OURS = {RECORD, "status.json", "experiment.yaml", "notebook.ipynb", "notebook.html"}
"""What changes after a run has finished, or is written by who asked for it."""


def write_record(folder: Path) -> None:
    """Put the list of a run's files in place; the last thing before a run counts as finished.

    Args:
        folder: the run folder. Checkpoints have checksums of their own.
    """
    files = {path.name: _facts(path) for path in sorted(folder.iterdir()) if _listed(path)}
    write_json_atomically(folder / RECORD, {"files": files})


def drop_record(folder: Path) -> None:
    """Remove the list, since the files are about to change.

    Args:
        folder: the run folder.
    """
    (folder / RECORD).unlink(missing_ok=True)


def compare_with_record(folder: Path) -> list[str] | None:
    """What has changed since the list was written.

    Args:
        folder: the run folder.

    Returns:
        One line per file; None when there is no list.

    Raises:
        DataError: the list itself is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        known = read_json(path)["files"]
        return [line for name, facts in known.items() if (line := _difference(folder / name, facts))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a list of files ({' '.join(str(error).split())})") from error


def _listed(path: Path) -> bool:
    """Whether a file belongs to what a run has computed."""
    return path.is_file() and not path.name.startswith(".") and path.name not in NOT_OURS


def _facts(path: Path) -> dict[str, Any]:
    """Size and checksum of a file."""
    return {"bytes": path.stat().st_size, "sha256": file_checksum(path)}


def _difference(path: Path, facts: dict[str, Any]) -> str | None:
    """How a file differs from what is known of it."""
    if not path.is_file():
        return f"{path.name}: missing"
    if path.stat().st_size != facts["bytes"]:
        return f"{path.name}: {path.stat().st_size} bytes, expected {facts['bytes']}"
    return None if file_checksum(path) == facts["sha256"] else f"{path.name}: its content has changed (sha256 differs)"
