"""Cross-view prediction as a term: frozen standardized targets, both directions, every graph, missing modalities."""

import math

import numpy as np
import pytest
import torch

from mcnlab.batch import Batch
from mcnlab.data.loading import ClipSource, ClipWindow
from mcnlab.errors import ConfigError, NonFiniteError
from mcnlab.experiment.objective import training_facts
from mcnlab.losses.prediction import fitted_codebook, nearest_codes
from mcnlab.training.predict_term import input_statistics, mean_inputs
from tests.small_store import make_store
from tests.test_terms_contrast import assert_resumes
from tests.test_training import lines, settings, trainer, weights

WINDOW = ClipWindow(audio_frames=64, words=4)
LOSSES = {"l1": {"loss": "l1"}, "l2": {}, "codes": {"loss": "codes", "codes": 6}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


@pytest.fixture(scope="module")
def holed(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "holed", missing_audio=0.5, missing_text=0.5)


def test_targets_are_means_over_what_is_real():
    words, mel = torch.zeros(2, 3, 2), torch.full((2, 2, 4), -80.0)
    words[0] = torch.tensor([[2.0, 0.0], [4.0, 1.0], [100.0, 100.0]])
    mel[0, :, :2] = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    video = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    lengths = {"video": torch.tensor([1, 1]), "audio": torch.tensor([2, 0]), "text": torch.tensor([2, 0])}
    present = {name: count > 0 for name, count in lengths.items()}
    inputs = {"video": video, "audio": mel, "text": words}
    found = mean_inputs(Batch(inputs, lengths, present, torch.arange(2)))
    assert torch.equal(found["video"], video)
    assert found["audio"].tolist() == [[2.0, 6.0], [0.0, 0.0]]
    assert found["text"].tolist() == [[3.0, 0.5], [0.0, 0.0]]


def test_statistics_are_those_of_the_training_clips(holed):
    source = ClipSource(holed, "train", window=WINDOW)
    found = input_statistics(source, ("video", "audio", "text"), codes=None, seed=0)
    everything = source.batch(np.arange(len(source)))
    means = mean_inputs(everything)
    for modality, known in found.items():
        rows = means[modality][everything.present[modality]]
        torch.testing.assert_close(known.mean, rows.mean(dim=0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(known.spread, rows.std(dim=0, correction=0), rtol=1e-3, atol=1e-4)


def test_every_code_is_the_mean_of_the_rows_that_are_nearest_to_it():
    rows = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
    first, second = (
        fitted_codebook(rows, codes=5, generator=torch.Generator().manual_seed(1), rounds=60) for _ in "ab"
    )
    own = nearest_codes(rows, first)
    assert sorted(own.unique().tolist()) == list(range(5))
    for code in range(5):
        torch.testing.assert_close(first[code], rows[own == code].mean(dim=0))
    assert torch.equal(first, second)


def test_fewer_rows_than_codes_are_refused():
    with pytest.raises(ConfigError, match="a codebook of 4 entries needs at least as many rows, got 3"):
        fitted_codebook(torch.zeros(3, 2), codes=4, generator=torch.Generator())


def test_more_codes_than_clips_are_refused(store):
    wanted = settings(store, terms={"predict": {"loss": "codes", "codes": 500}})
    source = ClipSource(store, "train", window=WINDOW)
    with pytest.raises(ConfigError, match=r"terms.predict: 500 clips with video are needed, found 64"):
        training_facts(wanted, source, seed=0)


@pytest.mark.parametrize(("graph", "loss"), [("shared", "l1"), ("disjoint", "l2"), ("fac", "codes")])
def test_prediction_learns_in_every_graph(store, tmp_path, graph, loss):
    how = {"graph": graph, "pairs": ["va", "vt"], "terms": {"predict": LOSSES[loss]}, "training": {"epochs": 15}}
    made = trainer(store, tmp_path / "run", **how, stages="VAT")
    made.train()
    found = lines(tmp_path / "run")
    directions = {"video->audio", "audio->video", "video->text", "text->video"}
    assert directions <= {name.removeprefix("term.predict.") for name in found[0]}
    for direction in directions:
        name = f"term.predict.{direction}"
        first, last = (sum(line[name] for line in part) / 4 for part in (found[:4], found[-4:]))
        assert last < 0.98 * first, direction


@pytest.mark.parametrize(("loss", "precision"), [("l1", "bfloat16"), ("l2", "float32"), ("codes", "bfloat16")])
def test_missing_modalities_give_no_nan(holed, tmp_path, loss, precision):
    terms = {"contrast": {}, "predict": LOSSES[loss], "reconstruct": {}}
    made = trainer(holed, tmp_path / "run", terms=terms, training={"epochs": 3, "precision": precision})
    made.train()
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path / "run"))
    assert all(bool(x.isfinite().all()) for x in weights(made).values())


def test_targets_stay_as_they_are_while_towers_and_predictors_move(store, tmp_path):
    made = trainer(store, tmp_path / "run", terms={"predict": LOSSES["codes"]}, stages="VA")
    before = weights(made)
    made.train()
    after = weights(made)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("predict.") for name in moved)
    assert {
        "model.predictors.video_in_joint_to_audio.outer.weight",
        "model.heads.video_in_joint.linear.weight",
    } <= moved
    assert any(name.startswith("model.backbones.audio") for name in moved)
    assert not any("text" in name for name in moved)


@pytest.mark.parametrize("loss", ["l2", "codes"])
def test_a_run_with_prediction_resumes_bit_for_bit(holed, tmp_path, loss):
    assert_resumes(holed, tmp_path, terms={"predict": LOSSES[loss]})


def test_without_the_term_there_are_no_predictors(store, tmp_path):
    assert not any("predictors" in name for name in weights(trainer(store, tmp_path / "run")))


def test_a_prediction_that_is_not_finite_is_named_with_its_clips(store, tmp_path):
    made = trainer(store, tmp_path / "run", terms={"predict": {}}, stages="VT")
    with torch.no_grad():
        made.model.heads["text_in_joint"].linear.bias.fill_(float("nan"))
    with pytest.raises(
        NonFiniteError, match=r"term predict of text->video is nan in stage 1:VT, step 0, clips r\d+:\d"
    ):
        made.train()
