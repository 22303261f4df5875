"""Classes in training: what a batch says of them, balanced batches, and the term that learns them."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mcnlab.batch import Batch, Outputs
from mcnlab.data.labels import LabeledClips, class_numbers, classes_in
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.build import build_model, build_source, build_stages, build_training_source
from mcnlab.experiment.folder import run_key
from mcnlab.experiment.labels import training_classes, training_labels
from mcnlab.experiment.loaded import load_run
from mcnlab.experiment.objective import build_terms
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.plan.measure_steps import _real_step
from mcnlab.plan.step_cost import StepSize, step_cost
from mcnlab.training.terms import Active
from tests.small_store import make_store
from tests.test_training import assert_same, lines, trainer, weights
from tests.test_training import settings as usual_settings


def video(epochs):
    """One stage of the video tower alone."""
    return [{"epochs": epochs, "modalities": ["video"]}]


CLASSIFY = {"stages": video(3), "terms": {"classify": {}}, "data": {"label": "label"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("labels") / "store")


def settings(store, evaluation=None, **changes):
    """A small experiment, measured as said."""
    wanted = usual_settings(store, **changes)
    return (
        wanted
        if evaluation is None
        else ExperimentSettings.parse({**wanted.model_dump(), "evaluation": evaluation}, source="test")
    )


def labeled(store, **data):
    wanted = settings(store, **{**CLASSIFY, "data": {"label": "label", **data}})
    return build_training_source(wanted, store, seed=0)


def test_a_batch_says_the_class_of_each_clip_also_on_another_device_and_in_parts(store):
    wanted, source = settings(store, **CLASSIFY), labeled(store)
    batch = source.batch(np.array([3, 0, 7]))
    named = store.clips("train")["label"].iloc[[3, 0, 7]].tolist()
    assert [training_classes(wanted, store)[number] for number in batch.labels.tolist()] == named
    assert torch.equal(batch.to(torch.device("cpu")).labels, batch.labels)
    assert build_source(wanted, store, "train", shuffle_seed=None).batch(np.arange(2)).labels is None


def test_a_factor_is_a_class_and_a_clip_without_one_has_none():
    clips = pd.DataFrame({"label": ["b", None, "a"], "factor:floor": ["x", "y", None], "factor:rate": [0.5, 1.5, 2.5]})
    assert classes_in([clips], "floor") == ("x", "y")
    assert class_numbers(clips, "floor", ("x", "y")).tolist() == [0, 1, -1]
    assert class_numbers(clips, "label", ("a", "b")).tolist() == [1, -1, 0]
    assert class_numbers(clips, "label", ("b",)).tolist() == [0, -1, -1]  # a class that was not learned
    for name, said in (("rate", "continuous"), ("roof", "no factor 'roof'")):
        with pytest.raises(DataError, match=said):
            classes_in([clips], name)


@pytest.mark.parametrize("classes", [2, 4, 8])
def test_a_balanced_batch_holds_few_classes_and_as_many_clips_of_each(store, classes):
    source = labeled(store, classes_per_batch=classes)
    batches = source.epoch((0, "1:V", 0), batch=16)
    assert len(batches) == len(source) // 16
    for places in batches:
        counts = np.unique(source.batch(places).labels.numpy(), return_counts=True)[1]
        assert counts.tolist() == [16 // classes] * classes


def test_balanced_batches_hang_on_the_key_alone_and_differ_between_epochs(store):
    first, again = labeled(store, classes_per_batch=4), labeled(store, classes_per_batch=4)
    again.epoch((0, "1:V", 5), batch=16)
    key = (0, "1:V", 0)
    assert np.array_equal(first.epoch(key, batch=16), again.epoch(key, batch=16))
    assert not np.array_equal(first.epoch(key, batch=16), first.epoch((0, "1:V", 1), batch=16))


def test_a_class_hands_out_all_its_clips_before_one_comes_again(store):
    labels = np.repeat([0, 1, -1], [6, 6, 52])
    source = LabeledClips(build_source(settings(store), store, "train", shuffle_seed=None), labels, classes_per_batch=2)
    batches = source.epoch((0, "x", 0), batch=4)
    assert len(batches) == 16
    for start in range(0, 15, 3):  # three batches of two clips are all six of a class
        seen = np.concatenate(batches[start : start + 3])
        assert sorted(seen) == list(range(12))


def test_without_classes_per_batch_the_order_is_that_of_the_clips(store):
    plain = build_source(settings(store), store, "train", shuffle_seed=None)
    key = (0, "1:V", 0)
    assert np.array_equal(labeled(store).epoch(key, batch=16), plain.epoch(key, batch=16))


def test_the_term_is_the_cross_entropy_of_the_clips_with_a_class_and_the_modality(store):
    wanted = settings(store, **CLASSIFY)
    model, term = build_model(wanted, store, seed=0), None
    term = build_terms(wanted, model.graph, seed=0)["classify"]
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    present = torch.tensor([True, True, False, True])
    batch = Batch({}, {}, {"video": present}, torch.arange(4), labels=torch.tensor([1, -1, 0, 2]))
    value = term(model, batch, Outputs({"video": x}, {}, {"video": present}), Active(("video",), (), 0))
    scores = model.classifiers["video"](x).log_softmax(dim=1)
    assert value.total.item() == pytest.approx(-(scores[0, 1] + scores[3, 2]).item() / 2, rel=1e-6)
    value.total.backward()
    assert x.grad[[1, 2]].abs().max() == 0
    nobody = Batch({}, {}, {"video": present}, torch.arange(4), labels=torch.full((4,), -1))
    assert term(model, nobody, Outputs({"video": x}, {}, {"video": present}), Active(("video",), (), 0)).total is None


@pytest.mark.parametrize("reads", ["features", "embeddings"])
def test_one_modality_learns_its_classes_and_the_run_opens_again(store, tmp_path, reads):
    wanted = settings(
        store,
        **{
            **CLASSIFY,
            "terms": {"classify": {"reads": reads}},
            "evaluation": {"tasks": ["clusters"]},
            "stages": video(30),
        },
    )
    run = run_experiment(wanted, tmp_path / "run")
    losses = run.metrics()["term.classify.video"]
    assert losses.iloc[-1] < 0.55 * losses.iloc[0]
    assert losses.iloc[0] == pytest.approx(np.log(10), abs=0.5)
    opened = load_run(tmp_path / "run")
    source = build_source(wanted, store, "test", shuffle_seed=None)
    outputs = opened.model()(source.batch(np.arange(len(source))), ["video"])
    space = None if reads == "features" else "joint"
    x = outputs.features["video"] if reads == "features" else outputs.embeddings["video", "joint"]
    told = opened.model().classify(x, modality="video", space=space).argmax(dim=1)
    classes = yaml.safe_load((tmp_path / "run" / "provenance.json").read_text())["classes"]
    right = [classes[k] == label for k, label in zip(told.tolist(), source.clips["label"], strict=True)]
    assert np.mean(right) > 0.7  # chance 0.1
    assert run.results().query("task == 'clusters' and subject == 'video' and metric == 'purity'")["value"].item() > 0.5


def test_training_on_dealt_video_learns_nothing_of_held_out_classes(store, tmp_path):
    found = {}
    for name, dealt in (("plain", []), ("dealt", ["video"])):
        wanted = settings(
            store,
            **{**CLASSIFY, "data": {"label": "label", "shuffle": dealt}, "stages": video(30)},
            evaluation={"tasks": ["geometry"]},
        )
        run_experiment(wanted, tmp_path / name)
        source = build_source(wanted, store, "test", shuffle_seed=None)
        model = load_run(tmp_path / name).model()
        x = model(source.batch(np.arange(len(source))), ["video"]).features["video"]
        truth = class_numbers(source.clips, "label", training_classes(wanted, store))
        found[name] = (model.classify(x, modality="video", space=None).argmax(dim=1).numpy() == truth).mean()
    assert found["plain"] > 0.8
    assert found["dealt"] < 0.4  # chance 0.1, of 32 clips


def test_balanced_training_beside_a_contrast_resumes_bit_for_bit(store, tmp_path):
    changes = {
        "terms": {"contrast": {}, "classify": {"modalities": ["video", "text"]}},
        "stages": "VAT",
        "data": {"label": "vat.object", "classes_per_batch": 4},
        "training": {"max_steps": 10},
    }
    whole = trainer(store, tmp_path / "whole", **changes)
    whole.train()
    halves = trainer(store, tmp_path / "halves", **changes)
    halves.stop_signal = lambda: 15 if halves_step[0] >= 5 else None
    halves_step = [0]
    halves.on_step = lambda record: halves_step.__setitem__(0, record.step)
    with pytest.raises(Exception, match="goes on from there"):
        halves.train()
    rest = trainer(store, tmp_path / "halves", **changes)
    rest.train()
    assert_same(weights(whole), weights(rest))
    assert [r["loss"] for r in lines(tmp_path / "whole")] == [r["loss"] for r in lines(tmp_path / "halves")]
    assert {"term.classify.video", "term.classify.text", "term.contrast.vt"} <= set(lines(tmp_path / "whole")[0])


def test_the_labels_of_several_stores_are_numbered_alike(store, tmp_path):
    other = make_store(tmp_path / "other", recordings=12, test=4, seed=1)
    stores = {"one": {"store": str(store.path), "weight": 0.5}, "two": {"store": str(other.path), "weight": 0.5}}
    wanted = settings(store, **{**CLASSIFY, "data": {"label": "label", "store": None, "stores": stores}})
    source, classes = build_training_source(wanted, store, seed=0), training_classes(wanted, store)
    places = source.epoch((0, "1:V", 0), batch=16)[0]
    named = pd.concat([one.clips("train")["label"] for one in (store, other)]).to_numpy()[places]
    assert [classes[number] for number in source.batch(places).labels.tolist()] == named.tolist()
    assert len(training_labels(wanted, store)) == len(source)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {}}, r"terms\.classify: needs data\.label"),
        ({"terms": {"contrast": {}}, "stages": "VAT"}, r"data\.label: no term learns classes"),
        ({"data": {"label": "label", "classes_per_batch": 3}}, r"3 does not divide training\.batch: 16"),
        ({"data": {"classes_per_batch": 4}}, "classes_per_batch needs label"),
        ({"data": {"label": "label", "sampling": "windows"}}, "label belongs to sampling: captions"),
        ({"terms": {"classify": {"modalities": ["audio"]}}}, r"terms\.classify\.modalities: no stage trains 'audio'"),
        ({"terms": {"classify": {}, "contrast": {}}}, "the term contrast needs two different modalities or more"),
    ],
)
def test_classes_that_do_not_fit_are_refused(store, changes, said):
    with pytest.raises(ConfigError, match=said):
        settings(store, **{**CLASSIFY, **changes})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"label": "vat.color"}, "no factor 'vat.color'; there are label, vat.object"),
        ({"label": "label", "classes_per_batch": 16}, "16 classes were asked for, 'label' has 10"),
    ],
)
def test_a_store_without_the_classes_is_refused_before_anything_is_written(store, tmp_path, data, said):
    with pytest.raises(DataError, match=said):
        run_experiment(settings(store, **{**CLASSIFY, "data": data}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_step_that_learns_classes_can_be_planned_and_measured(store):
    wanted = settings(store, **CLASSIFY)
    stage = build_stages(wanted)[0]
    dims = {"video": 16, "audio": 40, "text": 8}
    assert step_cost(wanted, dims, stage, StepSize(16, 16, False)).gradient_bytes == (16 * 10 + 10) * 4
    loss, _, values = _real_step(wanted, dims)(0)
    assert values["classify"] == pytest.approx(loss)


def test_runs_without_labels_keep_their_key_and_labels_make_another_run(store):
    both = {"terms": {"contrast": {}, "classify": {}}, "data": {"label": "label"}}
    plain, wanted = settings(store), settings(store, **both)
    balanced = settings(store, **{**both, "data": {"label": "label", "classes_per_batch": 4}})
    assert len({run_key(one, 0) for one in (plain, wanted, balanced)}) == 3
    dumped = plain.model_dump(mode="json")
    assert dumped["data"]["label"] is None
    assert dumped["terms"]["classify"] is None
