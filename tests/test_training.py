"""Training: it resumes bit for bit, rests what a stage leaves out, and names what is not finite."""

import json
import math

import numpy as np
import pytest
import torch

from mcnlab.data.loading import ClipWindow, epoch_order, mel_frames, rows_between
from mcnlab.data.store import open_store
from mcnlab.errors import CheckpointError, ConfigError, DataError, NonFiniteError, StoppedError
from mcnlab.experiment.build import build_loop, build_model, build_stages, build_training_source, prefix_keys
from mcnlab.experiment.objective import build_terms, training_facts
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.training.checkpoint import list_checkpoints
from mcnlab.training.loop import Trainer
from mcnlab.training.schedule import warmup_then_cosine
from mcnlab.training.stages import PrefixCache
from tests.faults.numbers import change_shards, not_a_number
from tests.small_store import make_store

ALL_TERMS = {"contrast": {}, "cluster": {"clusters": 6, "queue_batches": 3, "refit_every": 5}, "reconstruct": {}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


@pytest.fixture(scope="module")
def holed_store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "holed", missing_audio=0.5, missing_text=0.5)


def settings(store, **changes):
    base = {
        "experiment": "test",
        "data": {"store": str(store.path)},
        "stages": "AV_T",
        "terms": ALL_TERMS,
        "model": {"dim": 8, "audio_width": 16, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 64, "words": 4},
        "training": {"epochs": 6, "batch": 16, "lr": 0.01, "warmup_steps": 2, "checkpoint_every": 4, "threads": 1},
    }
    merged = {
        **base,
        **{k: {**base[k], **v} if isinstance(v, dict) and k != "terms" else v for k, v in changes.items()},
    }
    return ExperimentSettings.parse(merged, source="test")


def trainer(store, folder, *, seed=0, prefixes=None, **changes):
    wanted = settings(store, **changes)
    folder.mkdir(exist_ok=True)
    source = build_training_source(wanted, store, seed=0)
    model = build_model(wanted, store, seed=seed)
    return Trainer(
        model=model,
        terms=build_terms(wanted, model.graph, seed=seed, facts=training_facts(wanted, source, seed=seed)),
        source=source,
        stages=build_stages(wanted),
        settings=build_loop(wanted, seed=seed),
        folder=folder,
        prefixes=PrefixCache(prefixes, prefix_keys(wanted, fingerprint=store.fingerprint, seed=seed)),
    )


def weights(made):
    found = {f"model.{name}": x.clone() for name, x in made.model.state_dict().items()}
    for term, module in made.terms.items():
        found |= {f"{term}.{name}": x.clone() for name, x in module.state_dict().items()}
    return found


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, x in first.items():
        assert torch.equal(x, second[name]), name


def lines(folder):
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("clips_per_s", "elapsed_s")} for line in read]


@pytest.mark.parametrize("stop_after", [1, 4, 7, 20, 21])
def test_a_run_that_was_stopped_anywhere_ends_bit_for_bit_as_one_that_was_not(store, tmp_path, stop_after):
    whole = trainer(store, tmp_path / "whole")
    end = whole.train()
    first = trainer(store, tmp_path / "parts")
    first.stop_signal = iter([None] * (stop_after - 1) + [15]).__next__
    with pytest.raises(StoppedError):
        first.train()
    second = trainer(store, tmp_path / "parts")
    assert second.train().step == end.step
    assert_same(weights(whole), weights(second))
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")


def test_steps_after_the_last_checkpoint_are_done_again_and_logged_once(store, tmp_path):
    whole = trainer(store, tmp_path / "whole")
    whole.train()
    killed = trainer(store, tmp_path / "killed")

    def die(record):
        if record.step == 6:  # two steps after a checkpoint
            raise KeyboardInterrupt

    killed.on_step = die
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 7, "torn')
    again = trainer(store, tmp_path / "killed")
    again.train()
    assert_same(weights(whole), weights(again))
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed")


def test_a_broken_checkpoint_is_set_aside_and_the_one_before_is_used(store, tmp_path):
    whole = trainer(store, tmp_path / "run")
    whole.train()
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    content = (newest / "model.safetensors").read_bytes()
    (newest / "model.safetensors").write_bytes(content[:-4] + b"\0\0\0\1")
    again = trainer(store, tmp_path / "run")
    with pytest.warns(UserWarning, match="set aside"):
        again.train()
    assert_same(weights(whole), weights(again))


def test_a_run_without_any_usable_checkpoint_never_starts_from_zero(store, tmp_path):
    made = trainer(store, tmp_path / "run")
    made.train()
    for checkpoint in list_checkpoints(tmp_path / "run" / "checkpoints"):
        (checkpoint / "state.json").write_text("{")
    with pytest.warns(UserWarning, match="set aside"), pytest.raises(CheckpointError, match="no usable checkpoint"):
        trainer(store, tmp_path / "run").train()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        trainer(store, tmp_path / "run").train()


def test_towers_that_a_stage_leaves_out_stay_bit_identical(store, tmp_path):
    made = trainer(store, tmp_path / "run", stages="VA")
    before = weights(made)
    made.train()
    after = weights(made)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any("text" in name for name in moved)
    assert any("backbones.audio" in name for name in moved)
    assert any("heads.video" in name for name in moved)


def test_a_frozen_tower_takes_part_and_does_not_move(store, tmp_path):
    stages = [{"epochs": 2, "modalities": ["video", "audio", "text"], "frozen": ["audio"]}]
    made = trainer(store, tmp_path / "run", stages=stages)
    before = weights(made)
    made.train()
    after = weights(made)
    assert all(torch.equal(before[n], after[n]) for n in before if "audio" in n and "decoders" not in n)
    assert any(not torch.equal(before[n], after[n]) for n in before if "heads.video" in n)


def test_equal_first_stages_are_trained_once_and_give_the_same_numbers(store, tmp_path):
    alone = trainer(store, tmp_path / "alone")
    alone.train()
    first = trainer(store, tmp_path / "first", prefixes=tmp_path / "prefixes")
    first.train()
    second = trainer(store, tmp_path / "second", prefixes=tmp_path / "prefixes")
    trained = []
    second.on_step = lambda record: trained.append(record.stage)
    second.train()
    assert set(trained) == {"2:AVT"}
    assert_same(weights(alone), weights(second))
    assert lines(tmp_path / "alone") == lines(tmp_path / "second")


def test_a_prefix_key_changes_with_all_that_the_weights_depend_on(store):
    def keys(seed=0, fingerprint="f", **changes):
        return prefix_keys(settings(store, **changes), fingerprint=fingerprint, seed=seed)

    known = keys()
    assert known == keys(training={"checkpoint_every": 9})
    assert known[0] == keys(stages=[{"epochs": 4, "modalities": ["audio", "video"]}])[0]
    for other in (
        keys(seed=1),
        keys(fingerprint="g"),
        keys(training={"lr": 0.02}),
        keys(mode="faithful"),
        keys(terms={"contrast": {}}),
        keys(model={"dim": 16}),
        keys(stages="VT_A"),
    ):
        assert other[0] != known[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("graph", ["shared", "disjoint"])
@pytest.mark.parametrize(
    "terms", [["contrast"], ["cluster"], ["reconstruct"], ["contrast", "cluster"], list(ALL_TERMS)]
)
def test_no_subset_of_terms_gives_nan_in_sound_mode(store, tmp_path, precision, graph, terms):
    chosen = {name: ALL_TERMS[name] for name in terms}
    training = {"precision": precision, "epochs": 3}
    made = trainer(store, tmp_path / "run", terms=chosen, graph=graph, stages="VAT", training=training)
    made.train()
    assert all(math.isfinite(value) for line in lines(tmp_path / "run") for k, value in line.items() if "term" in k)
    assert all(bool(x.isfinite().all()) for x in weights(made).values())


@pytest.mark.parametrize("graph", ["shared", "disjoint"])
def test_clips_without_sound_or_words_train_without_nan(holed_store, tmp_path, graph):
    made = trainer(holed_store, tmp_path / "run", graph=graph, stages="VAT")
    assert 0 < made.source.present("audio").sum() < len(made.source)
    made.train()
    assert all(bool(x.isfinite().all()) for x in weights(made).values())


def test_a_term_that_is_not_finite_is_named_with_stage_step_and_clips(store, tmp_path):
    made = trainer(store, tmp_path / "run", stages="VT")
    with torch.no_grad():
        made.model.heads["text_in_joint"].linear.bias.fill_(float("nan"))
    with pytest.raises(
        NonFiniteError, match=r"term contrast of vt is nan in stage 1:VT, step 0, clips r\d+:\d"
    ) as error:
        made.train()
    assert error.value.exit_code == 4


def test_a_gradient_that_overflows_stops_the_run_before_it_reaches_the_weights(store, tmp_path):
    made = trainer(store, tmp_path / "run", stages="VT", training={"lr": 1e6, "warmup_steps": 0})
    hook = made.model.heads["text_in_joint"].linear.weight.register_hook(lambda gradient: gradient * 1e30)
    with pytest.raises(
        NonFiniteError, match=r"norm of the gradient is not finite \(inf\) in stage 1:VT, step 0.*heads\.text_in_joint"
    ):
        made.train()
    hook.remove()
    assert all(bool(x.isfinite().all()) for x in weights(made).values())


def test_features_that_are_not_finite_are_refused_when_they_are_read(tmp_path):
    store = make_store(tmp_path / "store")
    change_shards(tmp_path / "store", not_a_number)
    with pytest.raises(DataError, match=r"store: clip r0:1: video holds values that are not finite"):
        trainer(open_store(store.path), tmp_path / "run", stages="VT")


def test_faithful_half_precision_is_recorded_as_not_finite_and_the_run_ends_well(store, tmp_path):
    wanted = settings(
        store,
        mode="faithful",
        stages="VT",
        training={"precision": "float16", "lr": 3.0, "on_non_finite": "record", "epochs": 30},
    )
    run = run_experiment(wanted, tmp_path / "run")
    rows = run.results().query("task == 'outcome' and metric == 'finite'")
    assert rows["value"].tolist() == [0.0]
    assert "term" in json.loads((run.path / "results.json").read_text())["outcome"]["reason"]
    assert run.status["state"] == "finished"


def test_a_finished_run_is_not_touched_again(store, tmp_path):
    wanted = settings(store, stages="VT")
    run = run_experiment(wanted, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != ".lock"}
    run_experiment(wanted, tmp_path / "run")
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != ".lock"}


def test_a_folder_with_another_run_is_refused(store, tmp_path):
    run_experiment(settings(store, stages="VT"), tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run of 'test', seed 0, with other settings"):
        run_experiment(settings(store, stages="VA"), tmp_path / "run")


def test_an_unknown_split_is_refused_before_training(store, tmp_path):
    with pytest.raises(DataError, match="held"):
        run_experiment(settings(store, stages="VT", data={"train_split": "held"}), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_more_clusters_than_rows_are_refused(store):
    wanted = settings(store, terms={"cluster": {"clusters": 500, "queue_batches": 2}})
    with pytest.raises(ConfigError, match="500 clusters, but k-means sees at most 32 rows"):
        build_terms(wanted, build_model(wanted, store, seed=0).graph, seed=0)


def test_the_schedule_agrees_with_the_published_one():
    from tests.test_losses_clustering import golden

    values = golden("queue_and_schedule")
    for step, rate in zip(values["lr_step"], values["lr_value"], strict=True):
        ours = warmup_then_cosine(
            int(step),
            base=float(values["lr_base"]),
            warmup_steps=int(values["lr_warmup"]),
            total_steps=int(values["lr_total"]),
        )
        assert ours == pytest.approx(float(rate), abs=1e-12)


def test_an_epoch_visits_every_clip_once_in_an_order_of_its_own():
    first = np.concatenate(epoch_order(64, key=(0, "1:VA", 0), batch=16))
    assert sorted(first.tolist()) == list(range(64))
    assert not np.array_equal(first, np.concatenate(epoch_order(64, key=(0, "1:VA", 1), batch=16)))
    assert np.array_equal(first, np.concatenate(epoch_order(64, key=(0, "1:VA", 0), batch=16)))


def test_fewer_clips_than_a_batch_make_one_batch():
    assert [len(batch) for batch in epoch_order(5, key=(0,), batch=16)] == [5]


def test_a_clip_sees_its_own_rows_and_not_those_of_the_next_clip():
    track = np.arange(16, dtype=np.float16)[:, None]
    assert rows_between(track, 0.0, 1.28, 6.25)[:, 0].tolist() == list(range(8))
    assert rows_between(track, 1.28, 2.56, 6.25)[:, 0].tolist() == list(range(8, 16))
    assert rows_between(track, 9.0, 9.5, 6.25)[:, 0].tolist() == [15]


def test_a_clip_that_starts_at_zero_has_sound():
    mel = np.full((100, 40), -10, dtype=np.float16)
    frames, real = mel_frames(mel, 0.0, 0.5, window=ClipWindow(audio_frames=64))
    assert real == 48
    assert frames[real - 1, 0] == -10
    assert frames[real, 0] == -80
