"""Several stores in one experiment: what is drawn from which, what does not fit, what is measured and written down."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from mcnlab.data.mixing import MixedClips
from mcnlab.data.text import WordVectors
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.build import build_source, build_training_source
from mcnlab.experiment.checks import check_data
from mcnlab.experiment.mixed import data_fingerprint, differing_words, main_store, mapped_words, opened_stores
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.settings_files import read_experiment
from tests.small_store import make_store

SIZES = {"dim": 8, "audio_width": 8, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 32, "words": 4}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Three stores: told, the first; untold without any text; wide with other widths."""
    folder = tmp_path_factory.mktemp("mixing")
    make_store(folder / "told")
    make_store(folder / "untold", seed=1, recordings=12, test=4, missing_text=1.0)
    make_store(folder / "wide", seed=2, video_dim=20)
    make_store(folder / "wordy", seed=2, word_dim=12)
    return folder


def settings(stores, names, weights=None, **changes):
    """An experiment on some of the stores."""
    weights = weights or [1 / len(names)] * len(names)
    shares = {name: {"store": str(stores / name), "weight": w} for name, w in zip(names, weights, strict=True)}
    values = {
        "experiment": "mixed",
        "stages": "VAT",
        "model": SIZES,
        "terms": {"contrast": {}},
        "data": {"stores": shares},
        "training": {"epochs": 1, "batch": 16, "threads": 1, "checkpoint_every": 2, "warmup_steps": 1},
        "evaluation": {"tasks": ["retrieval"]},
    }
    return ExperimentSettings.parse({**values, **changes}, source="test")


def mixed(stores, names=("told", "untold"), weights=(0.7, 0.3)):
    wanted = settings(stores, names, list(weights))
    return build_training_source(wanted, main_store(wanted), seed=0)


def test_batches_draw_from_each_store_by_its_weight(stores):
    source = mixed(stores)
    first = len(source.sources["told"])
    drawn = np.concatenate([p for epoch in range(60) for p in source.epoch((0, "1", epoch), batch=16)])
    assert (drawn < first).mean() == pytest.approx(0.7, abs=0.02)
    assert len(set(drawn.tolist())) == len(source)  # no clip is left out for ever


def test_an_epoch_depends_on_its_key_alone_and_has_as_many_steps_as_all_clips_fill(stores):
    one, two = mixed(stores), mixed(stores)
    two.epoch((0, "1", 5), batch=16)
    for x, y in zip(one.epoch((0, "1", 2), batch=16), two.epoch((0, "1", 2), batch=16), strict=True):
        assert np.array_equal(x, y)
    assert len(one.epoch((0, "1", 2), batch=16)) == len(one) // 16
    assert not np.array_equal(one.epoch((0, "1", 2), batch=16)[0], one.epoch((0, "1", 3), batch=16)[0])


def test_a_share_of_a_batch_is_the_same_whoever_reads_it(stores):
    source = mixed(stores)
    places = source.epoch((0, "1", 0), batch=16)[0]
    whole, halves = source.batch(places), [source.batch(places[:8]), source.batch(places[8:])]
    for modality, x in whole.inputs.items():
        assert torch.equal(x, torch.cat([half.inputs[modality] for half in halves]))


def test_clips_are_those_of_their_store_and_a_store_without_text_gives_none(stores):
    source = mixed(stores)
    first = len(source.sources["told"])
    batch = source.batch(np.array([0, first, 1, first + 3]))
    for place, (name, own) in enumerate([("told", 0), ("untold", 0), ("told", 1), ("untold", 3)]):
        alone = source.sources[name].batch(np.array([own]))
        for modality in ("video", "audio"):
            assert torch.equal(batch.inputs[modality][place], alone.inputs[modality][0])
    assert batch.present["text"].tolist() == [True, False, True, False]
    assert not batch.inputs["text"][1].any()
    assert source.clip_name(first).startswith("untold: ")


def test_one_store_with_weight_1_gives_the_clips_of_that_store(stores):
    wanted = settings(stores, ["told"])
    store = main_store(wanted)
    source, plain = (
        build_training_source(wanted, store, seed=0),
        build_source(wanted, store, "train", shuffle_seed=None),
    )
    assert torch.equal(source.batch(np.arange(8)).inputs["audio"], plain.batch(np.arange(8)).inputs["audio"])


@pytest.mark.parametrize(
    ("weights", "said"),
    [([0.7, 0.7], "the weights must sum to 1, got 0.7 \\+ 0.7 = 1.4"), ([1.5, -0.5], "weight")],
)
def test_weights_that_are_no_shares_are_refused(stores, weights, said):
    with pytest.raises(ConfigError, match=said):
        settings(stores, ["told", "untold"], weights)
    source = mixed(stores)
    with pytest.raises(ConfigError, match=said):
        MixedClips(source.sources, dict(zip(source.sources, weights, strict=True)))


def test_an_unknown_store_is_named(stores):
    with pytest.raises(DataError, match=r"data.stores.nowhere: .*nowhere"):
        opened_stores(settings(stores, ["told", "nowhere"]))


def test_other_widths_are_refused_with_store_track_and_widths(stores):
    wanted = settings(stores, ["told", "wide"])
    with pytest.raises(DataError, match=r"data.stores.wide: track video_2d is 20 wide, but 16 wide in told"):
        check_data(wanted, main_store(wanted))
    with pytest.raises(DataError, match=r"data.stores.wordy: its word vectors are 12 wide, but 8 wide"):
        opened_stores(settings(stores, ["told", "wordy"]))


def test_stores_of_which_none_has_all_that_is_trained_are_refused(stores):
    with pytest.raises(DataError, match=r"needs one with video, audio, text; untold has video, audio"):
        main_store(settings(stores, ["untold"]))


def test_a_name_that_is_measured_twice_is_refused(stores):
    also = {"also": {"told": str(stores / "told")}}
    with pytest.raises(ConfigError, match=r"evaluation.also.told"):
        settings(stores, ["told", "untold"], evaluation=also)


def test_words_with_other_vectors_are_read_by_those_of_the_main_store(stores):
    first, second = opened_stores(settings(stores, ["told", "untold"])).values()
    own = second.word_vectors
    turned = WordVectors((*own.words, "unheard"), np.vstack([-own.vectors, own.vectors[:1]]))
    assert differing_words(first.word_vectors, own) == 0
    assert differing_words(first.word_vectors, turned) == len(own)
    mapped = second.with_words(mapped_words(first.word_vectors, turned))
    assert mapped.word_vectors.words == own.words
    assert np.array_equal(mapped.word_vectors.vectors, own.vectors)
    assert mapped.with_video_tracks(["video_2d"]).word_vectors is mapped.word_vectors
    assert np.array_equal(pickle.loads(pickle.dumps(mapped)).word_vectors.vectors, own.vectors)


def test_relative_paths_are_taken_from_the_file(stores):
    file = stores / "experiment.yaml"
    file.write_text(
        "experiment: x\nstages: VAT\n"
        "data: {stores: {told: {store: told, weight: 0.5}, b: {store: untold, weight: 0.5}}}\n"
    )
    found = read_experiment(file).data.stores
    assert found["b"].store == (stores / "untold").resolve()


def test_the_fingerprint_changes_with_every_store_and_weight(stores):
    asked = [settings(stores, *x) for x in ((["told", "untold"],), (["told", "untold"], [0.6, 0.4]), (["told"],))]
    found = {data_fingerprint(one, main_store(one)) for one in asked}
    assert len(found) == 3
    assert main_store(asked[0]).fingerprint not in found


def test_a_run_on_two_stores_measures_each_resumes_and_names_both(stores, tmp_path):
    wanted = settings(stores, ["told", "untold"], [0.7, 0.3])
    run = run_experiment(wanted, tmp_path / "run", seed=0)
    rows = pd.DataFrame(run.results())
    assert {"retrieval", "retrieval@told", "retrieval@untold"} <= set(rows.task)
    subjects = set(rows[rows.task == "retrieval@untold"].subject)
    assert "video->audio" in subjects
    assert "text->video" not in subjects
    own, named = (
        rows[(rows.task == task) & (rows.subject == "text->video") & (rows.metric == "recall_at_1")].value.item()
        for task in ("retrieval", "retrieval@told")
    )
    assert own == named
    origin = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert origin["data"]["store"] == "small + small"
    assert origin["data"]["stores"]["untold"]["weight"] == 0.3
    assert set(origin["evaluated"]) == {"own", "told", "untold"}
    before = (tmp_path / "run" / "results.json").stat().st_mtime_ns
    run_experiment(wanted, tmp_path / "run", seed=0)
    assert (tmp_path / "run" / "results.json").stat().st_mtime_ns == before
