"""Checks that stand between a folder on disk and a `Store`: files, columns, widths and row ranges."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from mcnlab.config import nearest_place
from mcnlab.data.manifest import Manifest
from mcnlab.data.shards import shard_file, tensor_shapes
from mcnlab.data.store_writer import FORMAT
from mcnlab.errors import DataError, reading_error
from mcnlab.files import read_json

MOST_NAMED = 5
"""Stores that an error names."""


def read_info(path: Path) -> dict[str, Any]:
    """The checked content of `store.json`.

    Args:
        path: folder of the store.

    Returns:
        Its plain values.

    Raises:
        DataError: there is no store, or its `store.json` is damaged, of another format, or lacks a field.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such store{how_to_get_one(path)}")
    file = path / "store.json"
    try:
        info = read_json(file)
    except FileNotFoundError as error:
        inside = sorted([*path.glob("*/store.json"), *path.glob("stores/*/store.json")])
        if (path / "settings.yaml").exists():
            raise DataError(f"{path}: a run, not a store; `mcnlab list` and `mcnlab verify` look at runs") from error
        next_step = f"; there is one in {inside[0].parent}" if inside else how_to_get_one(path)
        raise DataError(f"{path}: not a store (it has no store.json){next_step}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise reading_error(error)(f"{file}: not readable JSON ({error})") from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        found = info.get("format") if isinstance(info, dict) else type(info).__name__
        raise DataError(f"{file}: format {found!r}, expected {FORMAT}")
    absent = [name for name in ("name", "fingerprint", "tracks", "files", "words") if name not in info]
    if absent:
        raise DataError(f"{file}: the field {absent[0]!r} is missing")
    return info


def how_to_get_one(path: Path) -> str:
    """What to do where there is no store, for the end of an error: the name that was meant, others, how to make one.

    Args:
        path: where a store was expected.
    """
    near = {shown(file.parent): file.parent.name for file in (*path.parent.glob("*/store.json"), *_stores_here())}
    if meant := nearest_place(path.name, near):
        return f", did you mean {meant!r}?"
    more = f" and {len(near) - MOST_NAMED} more" if len(near) > MOST_NAMED else ""
    said = f"; there {'are' if len(near) > 1 else 'is'} {', '.join(sorted(near)[:MOST_NAMED])}{more}" if near else ""
    table = path.parent.parent / "clips.csv"  # as `mcnlab init --template media` lays it out
    if table.is_file() and path.parent.name == "stores":
        return f"{said}; type: mcnlab import media {quote(shown(table))} --out {quote(shown(path))}"
    return f"{said}; `mcnlab import --help` lists what makes one"


def shown(path: Path) -> str:
    """A path as short as it can be typed here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


def _stores_here() -> list[Path]:
    """The stores in the folder `stores` here."""
    return sorted(Path("stores").glob("*/store.json"))


def check_rows(path: Path, info: Mapping[str, Any], manifest: Manifest) -> None:
    """Compare the manifest with the shards.

    Args:
        path: folder of the store.
        info: content of `store.json`.
        manifest: one row per recording.

    Raises:
        DataError: a row points outside its shard, or a shard has another width than its track.
    """
    shards, of_row = np.unique(manifest.numbers["shard"], return_inverse=True)
    shapes = [tensor_shapes(path / shard_file(int(shard))) for shard in shards]
    for track in info["tracks"]:
        name = track["name"]
        for shard, known in zip(shards, shapes, strict=True):
            shape = known.get(name)
            if shape is None or len(shape) != 2 or shape[1] != track["dim"]:
                raise DataError(
                    f"{path / shard_file(int(shard))}: {name} is {shape or 'missing'}, expected (rows, {track['dim']})"
                )
        start = manifest.numbers[f"{name}_start"]
        end = start + manifest.numbers[f"{name}_rows"]
        there = np.array([known[name][0] for known in shapes])[of_row]  # (recordings,)
        outside = np.flatnonzero((start < 0) | (end < start) | (end > there))
        if len(outside):
            culprit = manifest.ids[int(outside[0])].as_py()
            raise DataError(f"{path / 'manifest.parquet'}: {culprit}: {name} rows lie outside the shard")
