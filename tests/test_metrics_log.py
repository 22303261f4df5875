"""The log of a run when it goes on: cut back to the checkpoint, and never continued after a gap."""

import json

import pytest

from mcnlab.errors import DataError, StoppedError
from mcnlab.reporting.followed import FollowedLog
from mcnlab.runs import RunFolder
from mcnlab.training.checkpoint import list_checkpoints
from mcnlab.training.metrics_log import cut_back
from tests.small_store import make_store
from tests.test_training import trainer

SMALL = {"stages": "VT", "terms": {"contrast": {}}, "training": {"epochs": 2, "checkpoint_every": 2}}


def line(step):
    return json.dumps({"step": step, "loss": 0.5}) + "\n"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(map(line, range(1, 6))))
    return path


@pytest.mark.parametrize("step", [0, 3, 5])
def test_lines_after_the_checkpoint_are_dropped(log, step):
    cut_back(log, step=step)
    assert log.read_text() == "".join(map(line, range(1, step + 1)))


@pytest.mark.parametrize("torn", ['{"step": 6, "lo', '{"step": 6}\xff', "[]", "{}\n", '{"step": "x"}\n'])
def test_a_torn_end_is_dropped(log, torn):
    log.write_bytes(log.read_bytes() + torn.encode("latin-1"))
    cut_back(log, step=5)
    assert log.read_text() == "".join(map(line, range(1, 6)))


def test_a_whole_last_line_without_its_end_gets_one(log):
    log.write_text(log.read_text().rstrip("\n"))
    cut_back(log, step=5)
    assert log.read_text() == "".join(map(line, range(1, 6)))


@pytest.mark.parametrize(
    ("steps", "missing"), [([], 1), ([1, 2], 3), ([2, 3, 4, 5], 1), ([1, 2, 4, 5], 3), ([1, 2, 2, 3, 4, 5], 3)]
)
def test_a_line_before_the_checkpoint_that_is_not_there_is_named(log, steps, missing):
    log.write_text("".join(map(line, steps)))
    before = log.read_bytes()
    with pytest.raises(
        DataError, match=rf"metrics\.jsonl: the line of step {missing} is missing .*checkpoint is of step 5"
    ):
        cut_back(log, step=5)
    assert log.read_bytes() == before


def test_a_log_that_is_not_there_is_right_only_before_the_first_step(tmp_path):
    cut_back(tmp_path / "metrics.jsonl", step=0)
    with pytest.raises(DataError, match="the line of step 1 is missing"):
        cut_back(tmp_path / "metrics.jsonl", step=1)


@pytest.mark.parametrize("damage", [lambda log: log.unlink(), lambda log: log.write_text(line(1))])
def test_a_run_without_its_log_does_not_go_on_and_loses_nothing(tmp_path, damage):
    store, run = make_store(tmp_path / "store"), tmp_path / "run"
    first = trainer(store, run, **SMALL)
    first.stop_signal = iter([None, None, None, 15]).__next__
    with pytest.raises(StoppedError):
        first.train()
    whole = (run / "metrics.jsonl").read_text()
    checkpoints = list_checkpoints(run / "checkpoints")
    damage(run / "metrics.jsonl")
    with pytest.raises(DataError, match=r"metrics\.jsonl: the line of step \d is missing"):
        trainer(store, run, **SMALL).train()
    assert list_checkpoints(run / "checkpoints") == checkpoints
    (run / "metrics.jsonl").write_text(whole)
    again = trainer(store, run, **SMALL)
    assert again.train().step == again.total_steps


def test_a_line_may_only_be_so_long(log, monkeypatch):
    for module in ("mcnlab.files", "mcnlab.reporting.followed"):
        monkeypatch.setattr(f"{module}.MOST_LINE_BYTES", 100)
    assert len(RunFolder(log.parent).metrics()) == FollowedLog(log).read() == 5
    with log.open("a") as file:
        file.write(json.dumps({"step": 6, "note": "x" * 100}) + "\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl: line 6 has more than 100 bytes"):
        RunFolder(log.parent).metrics()
    with pytest.raises(DataError, match=r"metrics\.jsonl: line 6 is not a step in JSON \(more than 100 bytes\)"):
        FollowedLog(log).read()
    cut_back(log, step=5)
    assert len(RunFolder(log.parent).metrics()) == 5
