"""A store or a run that may not be read ends a command with exit code 5 and the path, and nothing is set aside."""

import ctypes
import os
import shutil
import struct
from contextlib import contextmanager

import pytest
import yaml

from mcnlab.cli import main
from mcnlab.experiment import run_experiment
from mcnlab.training.checkpoint import list_checkpoints
from tests.mini_study import BASE
from tests.small_store import make_store

CAPABILITIES_3 = 0x20080522
READS_ALL = (1 << 1) | (1 << 2)
"""The bits of root's rights to read whatever a mode says."""


@contextmanager
def rights_of_modes():
    """Inside, this thread is bound by the modes of files, also where it is root's."""
    libc, head = ctypes.CDLL(None, use_errno=True), struct.pack("Ii", CAPABILITIES_3, 0)
    before = ctypes.create_string_buffer(24)
    assert libc.capget(head, before) == 0
    effective, *others = struct.unpack("6I", before.raw)
    libc.capset(head, struct.pack("6I", effective & ~READS_ALL, *others))
    try:
        yield
    finally:
        libc.capset(head, before.raw)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store and a run of it."""
    root = tmp_path_factory.mktemp("made")
    make_store(root / "store")
    values = {**BASE, "experiment": "small", "stages": "VT", "evaluation": {"tasks": ["retrieval"]}}
    values |= {"data": {"store": str(root / "store")}, "training": {**BASE["training"], "epochs": 1}}
    (root / "experiment.yaml").write_text(yaml.safe_dump(values))
    run_experiment(root / "experiment.yaml", root / "run")
    return root


@pytest.fixture
def place(made, tmp_path):
    """A copy of it; the run names the store of the first."""
    for name in ("store", "run"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copy(made / "experiment.yaml", tmp_path)
    return tmp_path


def refused(path, capsys, *words):
    """What a command says when something may not be read."""
    assert path.exists()
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with rights_of_modes():
            with pytest.raises(PermissionError):
                os.open(path, os.O_RDONLY)
            code = main(list(map(str, words)))
    finally:
        path.chmod(mode)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 5, said
    assert said.startswith("error: ")
    assert str(path) in said
    return said


@pytest.mark.parametrize("file", ["", "store.json", "manifest.parquet", "shards/00000.safetensors"])
def test_a_store_that_may_not_be_read(place, capsys, file):
    refused(place / "store" / file, capsys, "inspect", place / "store")


@pytest.mark.parametrize("file", ["", "settings.yaml", "status.json", "results.json", "metrics.jsonl"])
def test_a_run_that_may_not_be_read(place, capsys, file):
    refused(place / "run" / file, capsys, "verify", place / "run", "--quick")


def test_an_experiment_that_may_not_be_read(place, capsys):
    path = place / "experiment.yaml"
    refused(path, capsys, "train", path, "--run", place / "run")


def test_a_checkpoint_that_may_not_be_read_is_not_set_aside(place, capsys):
    newest = list_checkpoints(place / "run" / "checkpoints")[-1]
    refused(newest / "model.safetensors", capsys, "evaluate", place / "run")
    (place / "run" / "status.json").write_text('{"state": "interrupted"}')
    words = ("train", place / "experiment.yaml", "--run", place / "run")
    assert newest.name in refused(newest / "state.json", capsys, *words)
    assert list_checkpoints(place / "run" / "checkpoints")[-1] == newest
    assert main(list(map(str, words))) == 0
