"""Promises that no other test is about: strict reading, sound checkpoints, errors in one line."""

import json

import pytest
import torch

from mcnlab.data.importers import evaluation_annotations
from mcnlab.data.store import open_store
from mcnlab.errors import DataError, NonFiniteError, StorageError
from mcnlab.files import parse_json, read_json
from mcnlab.runs import RunFolder
from mcnlab.training import checkpoint as checkpoints
from mcnlab.training.checkpoint import Position, check_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from tests.small_store import make_store
from tests.test_training import trainer

AMBIGUOUS = {
    '{"state": "running", "state": "finished"}': "the key 'state' stands twice",
    '{"state": {"a": 1, "a": 1}}': "the key 'a' stands twice",
    '{"state": NaN}': "the number NaN",
    '{"state": [-Infinity]}': "the number -Infinity",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


@pytest.mark.parametrize(("text", "said"), AMBIGUOUS.items())
def test_json_that_two_readers_could_read_differently_is_refused(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        parse_json(text)
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(DataError, match=rf"status\.json: .*{said}"):
        RunFolder(tmp_path).read_json("status.json")
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(DataError, match=rf"store\.json: .*{said}"):
        open_store(tmp_path)
    (tmp_path / "state.json").write_text(text)
    assert said in check_checkpoint(tmp_path)


def test_a_json_file_may_only_be_so_large(tmp_path, monkeypatch):
    path = tmp_path / "large.json"
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    monkeypatch.setattr("mcnlab.files.MOST_JSON_BYTES", 7)
    with pytest.raises(ValueError, match="more than 7 bytes"):
        read_json(path)


def test_annotations_may_only_be_so_large(tmp_path, monkeypatch):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"database": {"v": {}}}))
    monkeypatch.setattr("mcnlab.data.importers.evaluation_annotations._MOST_BYTES", 10)
    with pytest.raises(DataError, match=r"annotations\.json: .*more than 10 bytes"):
        evaluation_annotations._read_json(path)


def test_a_queue_that_is_not_finite_is_not_saved(store, tmp_path):
    state = trainer(store, tmp_path / "run")._state()
    buffers = (buffer for term in state.terms.values() for buffer in term.named_buffers())
    name, queue = next((name, buffer) for name, buffer in buffers if buffer.is_floating_point())
    queue.view(-1)[0] = torch.nan
    with pytest.raises(NonFiniteError, match=rf"term_\w+: {name} is not finite after step 5"):
        save_checkpoint(tmp_path / "checkpoints", state, Position(step=5))
    assert not list_checkpoints(tmp_path / "checkpoints")


def test_an_older_checkpoint_stays_until_the_newest_was_read_again(store, tmp_path, monkeypatch):
    state, folder = trainer(store, tmp_path / "run")._state(), tmp_path / "checkpoints"
    for step in (1, 2):
        save_checkpoint(folder, state, Position(step=step))
    good = checkpoints.write_bytes_atomically
    monkeypatch.setattr(checkpoints, "write_bytes_atomically", lambda path, content: good(path, content[:-1]))
    with pytest.raises(StorageError, match=r"cannot be read back \(step_00000003: .*; older checkpoints stay"):
        save_checkpoint(folder, state, Position(step=3))
    assert [one.name for one in list_checkpoints(folder)][:2] == ["step_00000001", "step_00000002"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: about["files"].update({"../../model": about["files"]["model"]}), "no file of a checkpoint"),
        (lambda about: about["position"].update(step=-1), "no position in a run"),
        (lambda about: about["position"].update(stage="first"), "no position in a run"),
        (lambda about: about["position"].update(train_s="long"), "train_s must be seconds"),
    ],
)
def test_what_a_checkpoint_says_of_itself_is_checked(store, tmp_path, change, said):
    state = trainer(store, tmp_path / "run")._state()
    saved = save_checkpoint(tmp_path / "checkpoints", state, Position(step=1))
    about = json.loads((saved / "state.json").read_text())
    change(about)
    (saved / "state.json").write_text(json.dumps(about))
    with pytest.raises(checkpoints.CheckpointError, match=said):
        load_checkpoint(saved, state)
