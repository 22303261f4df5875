"""Kept checkpoints: weights of a run's course stay on disk, and nothing else about the run changes."""

import pytest
import torch

from mcnlab.errors import NonFiniteError, StoppedError
from mcnlab.experiment.build import build_model
from mcnlab.experiment.folder import run_key
from mcnlab.training.checkpoint import list_checkpoints, load_model_weights
from tests.small_store import make_store
from tests.test_training import assert_same, lines, settings, trainer, weights

KEEP = {"keep_every": 5}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


def steps(folder):
    return [int(kept.name.removeprefix("step_")) for kept in list_checkpoints(folder / "kept")]


def kept_weights(store, folder, step):
    model = build_model(settings(store), store, seed=9)
    load_model_weights(folder / "kept" / f"step_{step:08d}", model)
    return {f"model.{name}": x.clone() for name, x in model.state_dict().items()}


def test_every_nth_step_and_the_end_of_every_stage_stay(store, tmp_path):
    plain, keeping = trainer(store, tmp_path / "plain"), trainer(store, tmp_path / "keeping", training=KEEP)
    end = plain.train()
    assert keeping.train().step == end.step
    first_stage = keeping.stage_steps(keeping.stages[0])
    assert steps(tmp_path / "keeping") == sorted({*range(5, end.step, 5), first_stage, end.step})
    assert steps(tmp_path / "plain") == []
    assert_same(weights(plain), weights(keeping))
    assert lines(tmp_path / "plain") == lines(tmp_path / "keeping")


def test_what_is_kept_are_the_weights_of_that_step(store, tmp_path):
    made, seen = trainer(store, tmp_path / "run", training=KEEP), {}
    made.on_step = lambda record: seen.update({record.step: weights(made)})
    made.train()
    for step in steps(tmp_path / "run"):
        assert_same(
            kept_weights(store, tmp_path / "run", step), {k: x for k, x in seen[step].items() if k[:6] == "model."}
        )


def test_a_kept_one_is_smaller_and_never_gone_on_from(store, tmp_path):
    made = trainer(store, tmp_path / "run", training=KEEP)
    made.train()
    kept = list_checkpoints(tmp_path / "run" / "kept")[-1]
    assert sorted(file.name for file in kept.iterdir()) == ["model.safetensors", "state.json"]
    assert len(list_checkpoints(tmp_path / "run" / "checkpoints")) == 2


@pytest.mark.parametrize("stop_after", [5, 7, 20])
def test_a_stopped_run_ends_with_the_same_ones(store, tmp_path, stop_after):
    trainer(store, tmp_path / "whole", training=KEEP).train()
    first = trainer(store, tmp_path / "parts", training=KEEP)
    first.stop_signal = iter([None] * (stop_after - 1) + [15]).__next__
    with pytest.raises(StoppedError):
        first.train()
    trainer(store, tmp_path / "parts", training=KEEP).train()
    assert steps(tmp_path / "parts") == steps(tmp_path / "whole")
    for step in steps(tmp_path / "whole"):
        assert_same(kept_weights(store, tmp_path / "whole", step), kept_weights(store, tmp_path / "parts", step))


def test_what_was_kept_after_the_last_checkpoint_is_dropped_with_its_log(store, tmp_path):
    killed = trainer(store, tmp_path / "run", training=KEEP)  # checkpoints at 4, 8, …; kept at 5

    def die(record):
        if record.step == 6:
            raise KeyboardInterrupt

    killed.on_step = die
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert steps(tmp_path / "run") == [5]
    seen = []
    again = trainer(store, tmp_path / "run", training=KEEP)
    again.on_step = lambda record: seen.append((record.step, steps(tmp_path / "run")))
    again.train()
    assert seen[0] == (5, [])
    assert steps(tmp_path / "run")[0] == 5


def test_a_first_stage_taken_from_others_brings_what_they_kept(store, tmp_path):
    trainer(store, tmp_path / "first", training=KEEP, prefixes=tmp_path / "prefixes").train()
    second = trainer(store, tmp_path / "second", training=KEEP, prefixes=tmp_path / "prefixes")
    taken = []
    second.on_step = lambda record: taken.append(record.step)
    second.train()
    assert min(taken) > second.stage_steps(second.stages[0])
    assert steps(tmp_path / "second") == steps(tmp_path / "first")


def test_a_first_stage_of_others_who_kept_nothing_still_leaves_its_end(store, tmp_path):
    trainer(store, tmp_path / "first", prefixes=tmp_path / "prefixes").train()
    second = trainer(store, tmp_path / "second", training=KEEP, prefixes=tmp_path / "prefixes")
    second.train()
    first_stage = second.stage_steps(second.stages[0])
    assert steps(tmp_path / "second")[0] == first_stage


def test_keeping_makes_no_other_run(store):
    assert run_key(settings(store), 0) == run_key(settings(store, training=KEEP), 0)


def test_weights_that_are_not_finite_are_not_kept(store, tmp_path):
    made = trainer(store, tmp_path / "run", training=KEEP)
    with torch.no_grad():
        next(made.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="not finite"):
        made._keep(made._resumed())
    assert steps(tmp_path / "run") == []
