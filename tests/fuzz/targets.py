"""The readers that are fuzzed: each has small sound files to begin with, and takes bytes."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

Reader = Callable[[Path], object]
SUFFIX = {
    "table": ".csv", "npy": ".npy", "npz": ".npz", "pickle": ".pkl", "captions": ".json", "word vectors": ".bin",
    "word vectors as text": ".txt", "wav": ".wav", "png": ".png", "jpg": ".jpg", "mp4": ".mp4",
}  # fmt: skip
"""Kinds of `tests.faults.readers` that are a single file, and how their names must end."""


def settings(path: Path) -> object:
    """Settings of an experiment."""
    from mcnlab.experiment.settings_files import read_experiment

    return read_experiment(path)


def metrics(path: Path) -> object:
    """The lines of a run."""
    from mcnlab.runs import RunFolder

    return RunFolder(path.parent).metrics()


def parquet(path: Path) -> object:
    """A table of a run."""
    from mcnlab.parquet import read_parquet

    return read_parquet(path)


def embeddings(path: Path) -> object:
    """The vectors of a run, as safetensors."""
    from mcnlab.runs import RunFolder

    return RunFolder(path.parent).embeddings()


def notebook(path: Path) -> object:
    """An executed notebook."""
    from mcnlab.reporting.executed import notebook_problems

    return notebook_problems(path)


def _parquet_file() -> bytes:
    """A small table."""
    import io

    import pandas as pd

    file = io.BytesIO()
    pd.DataFrame({"id": ["a", "b"], "value": [0.5, 1.5]}).to_parquet(file)
    return file.getvalue()


def _safetensors_file() -> bytes:
    """Two vectors."""
    header = json.dumps({"video": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


def _notebook_file() -> bytes:
    """One executed cell."""
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": 1, "source": "1", "outputs": []}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}).encode()


OWN: Mapping[str, tuple[str, Reader, Callable[[], bytes]]] = {
    "settings": ("s.yaml", settings, lambda: b"experiment: V+A\ndata: {store: x}\nterms: {contrast: {}}\nstages: VA\n"),
    "metrics": ("metrics.jsonl", metrics, lambda: b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'),
    "parquet": ("t.parquet", parquet, _parquet_file),
    "safetensors": ("embeddings.safetensors", embeddings, _safetensors_file),
    "notebook": ("n.ipynb", notebook, _notebook_file),
}
"""By name: the file's name, its reader, and a sound file."""
TARGETS = (*SUFFIX, *OWN)


def prepare(name: str, folder: Path) -> tuple[Path, Reader]:
    """Make a reader's folder and its corpus, `corpus/`.

    Args:
        name: one of `TARGETS`.
        folder: made; what the fuzzer found before in its corpus stays.

    Returns:
        Where the file to read is written, and its reader.
    """
    corpus, sound = folder / "corpus", folder / "sound"
    for one in (corpus, sound):
        one.mkdir(parents=True, exist_ok=True)
    if name in SUFFIX:
        from tests.faults.readers import KINDS  # loads torch, which not every reader needs

        kind = KINDS[name]
        (corpus / "sound").write_bytes(kind.made(sound).read_bytes())
        return folder / f"fuzzed{SUFFIX[name]}", kind.read
    file, reader, content = OWN[name]
    (corpus / "sound").write_bytes(content())
    return folder / file, reader
