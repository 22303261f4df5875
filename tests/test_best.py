"""The best weights: they outlive newer checkpoints, and nothing else about a run changes or depends on them."""

import json

import pytest
from torch import nn

from mcnlab.cli import main
from mcnlab.errors import CheckpointError, StoppedError
from mcnlab.experiment.folder import run_key
from mcnlab.experiment.loaded import best_checkpoint, load_run
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.verify import verify
from mcnlab.training.best import BestWeights, best_facts
from mcnlab.training.checkpoint import Position, list_checkpoints
from tests.small_store import make_store
from tests.test_training import assert_same, lines, settings, trainer, weights

TRAINING = {"keep_best": True, "checkpoint_every": 2, "epochs": 5, "lr": 20.0, "warmup_steps": 0}
SMALL = {"stages": "VT", "terms": {"contrast": {}}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """A run that kept its best, and got worse after it: its learning rate is far too high."""
    made = trainer(store, tmp_path_factory.mktemp("runs") / "whole", **SMALL, training=TRAINING)
    made.train()
    return made


def kept_at(folder):
    return [int(one.name.removeprefix("step_")) for one in list_checkpoints(folder)]


def content(folder):
    """What is known of the best, and its weights."""
    return best_facts(folder / "best"), (best_checkpoint(folder) / "model.safetensors").read_bytes()


def teach(best, losses, *, stage="1:VT", first=1, every=2):
    """Train as the loop does, with losses that the test decides."""
    best.begin_stage(stage, best._folder / "none")
    for step, loss in enumerate(losses, first):
        best.note(loss)
        if step % every == 0:
            best.keep(nn.Linear(2, 2), Position(step=step))
            best.forget_older()


def test_the_lowest_mean_between_two_checkpoints_wins(tmp_path):
    teach(BestWeights(tmp_path, every=2), [5.0, 5.0, 1.0, 3.0, 0.5, 9.0, 2.0, 2.0])
    assert kept_at(tmp_path) == [4]  # the first of two that are equal
    assert best_facts(tmp_path) == {"step": 4, "stage": "1:VT", "loss": 2.0}


def test_a_new_stage_begins_anew_since_its_losses_are_others(tmp_path):
    best = BestWeights(tmp_path, every=2)
    teach(best, [1.0, 1.0])
    teach(best, [9.0, 9.0], stage="2:AVT", first=3)
    assert best_facts(tmp_path) == {"step": 4, "stage": "2:AVT", "loss": 9.0}


def test_a_best_after_the_step_that_a_run_goes_on_from_is_forgotten(tmp_path):
    best = BestWeights(tmp_path, every=2)
    teach(best, [2.0, 2.0])
    best.note(1.0)
    best.note(1.0)
    best.keep(nn.Linear(2, 2), Position(step=4))  # and killed before the checkpoint
    assert kept_at(tmp_path) == [2, 4]
    best.go_on(step=2)
    assert kept_at(tmp_path) == [2]


def test_the_best_outlives_the_checkpoints_after_it(store, whole, tmp_path):
    losses = [line["loss"] for line in lines(whole.folder)]
    means = {step: (losses[step - 2] + losses[step - 1]) / 2 for step in range(2, len(losses) + 1, 2)}
    step = min(means, key=means.__getitem__)
    assert best_facts(whole.folder / "best") == {"step": step, "stage": "1:VT", "loss": pytest.approx(means[step])}
    assert step not in kept_at(whole.folder / "checkpoints")
    assert kept_at(whole.folder / "best") == [step]


def test_keeping_the_best_changes_no_number_and_makes_no_other_run(store, whole, tmp_path):
    plain = trainer(store, tmp_path / "plain", **SMALL, training={**TRAINING, "keep_best": False})
    plain.train()
    assert_same(weights(plain), weights(whole))
    assert lines(plain.folder) == lines(whole.folder)
    assert not (plain.folder / "best").exists()
    with pytest.raises(CheckpointError, match=r"no best weights; .*training\.keep_best=true"):
        best_checkpoint(plain.folder)
    assert run_key(settings(store), 0) == run_key(settings(store, training={"keep_best": True}), 0)


@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_run_that_was_stopped_between_has_the_same_best(store, whole, tmp_path, stop_after):
    first = trainer(store, tmp_path / "run", **SMALL, training=TRAINING)
    first.stop_signal = iter([None] * (stop_after - 1) + [15]).__next__
    with pytest.raises(StoppedError):
        first.train()
    trainer(store, tmp_path / "run", **SMALL, training=TRAINING).train()
    assert content(tmp_path / "run") == content(whole.folder)


@pytest.mark.parametrize("damage", ["state.json", "model.safetensors"])
def test_a_broken_best_is_set_aside_and_the_run_goes_on(store, tmp_path, damage):
    run = tmp_path / "run"
    first = trainer(store, run, **SMALL, training=TRAINING)
    first.stop_signal = iter([None] * 3 + [15]).__next__
    with pytest.raises(StoppedError):
        first.train()
    (best_checkpoint(run) / damage).write_bytes(b"{")
    again = trainer(store, run, **SMALL, training=TRAINING)
    with pytest.warns(UserWarning, match=r"best: step_0000000\d: .*set aside and the best sought anew"):
        again.train()
    assert again.total_steps == len(lines(run))
    assert best_facts(run / "best")["step"] > 4


def test_a_finished_run_names_its_best_loads_it_and_notices_damage(store, tmp_path, capsys):
    run = run_experiment(settings(store, **SMALL, training=TRAINING), tmp_path / "run").path
    assert main(["inspect", str(run), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["best"] == best_facts(run / "best")
    assert facts["state"] == "finished"
    assert facts["checkpoints"] == kept_at(run / "checkpoints")
    assert main(["inspect", str(run)]) == 0
    assert f"step {facts['best']['step']}, mean loss " in " ".join(capsys.readouterr().out.split())
    model, best = load_run(run).model(), load_run(run).model(weights=best_checkpoint(run))
    assert any(not x.equal(y) for x, y in zip(model.parameters(), best.parameters(), strict=True))
    (best_checkpoint(run) / "model.safetensors").write_bytes(b"")
    problems = [problem for check in verify(run, recompute=False) for problem in check.problems]
    assert len(problems) == 1
    assert problems[0].startswith(f"best: step_{facts['best']['step']:08d}: model.safetensors")
    assert main(["inspect", str(run)]) == 0
    assert "do not match the recorded size" in capsys.readouterr().out
