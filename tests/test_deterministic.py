"""`--deterministic`: the same bytes on a CPU, on record, and an error where torch cannot do it."""

import os

import pytest
import torch
import yaml

from mcnlab.cli import main
from mcnlab.errors import ConfigError
from mcnlab.experiment.folder import run_key
from mcnlab.experiment.training_settings import TrainingSettings
from mcnlab.numerics import WORKSPACE, deterministic_torch
from mcnlab.runs import RunFolder
from tests.mini_study import BASE, MCN
from tests.small_store import make_store
from tests.test_training import lines, settings


@pytest.fixture(autouse=True)
def environment_as_it_was(monkeypatch):
    """A run leaves the variable of cuBLAS behind, which is read only once."""
    monkeypatch.setenv(WORKSPACE, "none")
    monkeypatch.delenv(WORKSPACE)


def train(folder, name, *options):
    """A run by its command, with all terms and all modalities."""
    values = {**BASE, "experiment": "all", "stages": "VAT", "terms": MCN, "data": {"store": str(folder / "store")}}
    values |= {"training": {**BASE["training"], "epochs": 1}, "evaluation": {"tasks": ["retrieval"]}}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))
    assert main(["train", str(folder / "experiment.yaml"), "--run", str(folder / name), *options]) == 0
    return folder / name


def test_a_deterministic_run_has_the_bytes_of_one_that_is_not_on_a_cpu(tmp_path):
    make_store(tmp_path / "store")
    plain, fixed = train(tmp_path, "plain"), train(tmp_path, "fixed", "--deterministic")
    for name in ("checkpoints/*/model.safetensors", "embeddings.safetensors"):
        first, second = (max(run.glob(name)) for run in (plain, fixed))
        assert first.read_bytes() == second.read_bytes(), name
    assert lines(plain) == lines(fixed)
    assert RunFolder(fixed).settings["training"]["deterministic"] is True
    assert RunFolder(fixed).provenance["deterministic"] == {"threads": 1, WORKSPACE: ":4096:8"}
    assert "deterministic" not in RunFolder(plain).provenance
    assert not torch.are_deterministic_algorithms_enabled()
    assert main(["train", str(tmp_path / "experiment.yaml"), "--run", str(plain), "--deterministic"]) == 2


def test_threads_are_fixed_where_they_are_not_given():
    assert TrainingSettings(deterministic=True).threads == 1
    assert TrainingSettings(deterministic=True, threads=3).threads == 3
    assert TrainingSettings().threads is None


def test_a_run_is_another_one_with_it_and_the_same_without(tmp_path):
    store = make_store(tmp_path / "store")
    assert run_key(settings(store), 0) != run_key(settings(store, training={"deterministic": True}), 0)


def test_cublas_is_told_before_cuda_starts(monkeypatch):
    with deterministic_torch():
        assert os.environ[WORKSPACE] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled()
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with deterministic_torch():
        assert os.environ[WORKSPACE] == ":16:8"
    monkeypatch.delenv(WORKSPACE)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ConfigError, match="CUDA has started already"), deterministic_torch():
        pass


def test_what_torch_cannot_repeat_is_one_clear_error():
    said = r"deterministic: torch cannot do it here: put_ .*deterministic"
    with pytest.raises(ConfigError, match=said), deterministic_torch():
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1), accumulate=False)
    with pytest.raises(RuntimeError, match="something else"), deterministic_torch():
        raise RuntimeError("something else")


def test_a_study_hands_it_to_every_experiment(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("mcnlab.study.run_study", lambda path, **options: asked.update(options) or path)
    assert main(["study", "any.yaml", "--deterministic", "--set", "training.epochs=1"]) == 0
    assert asked["overrides"] == ["training.epochs=1", "training.deterministic=true"]
