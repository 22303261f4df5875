"""Clips that lack a modality: who loses it, and that training goes on as if they had never been in the pair."""

import itertools

import numpy as np
import pytest
import torch

from mcnlab.batch import Batch
from mcnlab.data.missing import ThinnedClips, lost_clips
from mcnlab.errors import ConfigError
from mcnlab.experiment.build import (
    build_loop,
    build_model,
    build_source,
    build_stages,
    build_training_source,
    prefix_keys,
)
from mcnlab.experiment.folder import run_key
from mcnlab.experiment.objective import build_terms
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.losses.contrastive import mil_nce
from mcnlab.training.contrast_term import ContrastTerm
from mcnlab.training.loop import Trainer
from mcnlab.training.stages import PrefixCache
from mcnlab.training.terms import Active
from tests.small_store import make_store

SIZES = {"dim": 8, "audio_width": 8, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 32, "words": 4}
MCN = {"contrast": {}, "cluster": {"clusters": 4, "queue_batches": 2, "refit_every": 2}, "reconstruct": {}}
WRITTEN = {
    "spaces": {
        "fine": {"members": ["video", "audio"], "heads": {"video": "mlp"}},
        "coarse": {"members": ["text"], "dim": 4},
    },
    "maps": [{"source": "fine", "target": "coarse"}],
    "pairs": {"va": "fine", "vt": "coarse", "at": "coarse"},
}
GRAPHS = ("shared", "disjoint", "fac", WRITTEN)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("missing") / "store")


def settings(store, **changes):
    """A small experiment."""
    data = {"store": str(store.path), **changes.pop("data", {})}
    training = {"epochs": 1, "batch": 16, "max_steps": 4, "warmup_steps": 1, **changes.pop("training", {})}
    base = {"experiment": "x", "stages": "VAT", "model": SIZES, "terms": MCN}
    return ExperimentSettings.parse({**base, **changes, "data": data, "training": training}, source="test")


def trained(wanted, store, folder):
    """The trainer of an experiment after its training."""
    model = build_model(wanted, store, seed=0)
    made = Trainer(
        model=model,
        terms=build_terms(wanted, model.graph, seed=0),
        source=build_training_source(wanted, store, seed=0),
        stages=build_stages(wanted),
        settings=build_loop(wanted, seed=0),
        folder=folder,
        prefixes=PrefixCache(None, []),
    )
    losses = []
    made.on_step = lambda record: losses.append(record.loss)
    made.train()
    return made, losses


def test_the_clips_without_text_at_a_share_are_among_those_at_a_larger_one():
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    lost = [lost_clips(4000, share, "text", seed=3) for share in shares]
    assert all((fewer <= more).all() for fewer, more in itertools.pairwise(lost))
    assert [one.mean() for one in lost] == pytest.approx(shares, abs=0.03)
    assert not np.array_equal(lost[2], lost_clips(4000, 0.5, "text", seed=4))
    assert (lost[2] & lost_clips(4000, 0.5, "audio", seed=3)).mean() == pytest.approx(0.25, abs=0.03)


def test_a_lost_modality_is_zero_and_absent_and_the_others_are_untouched(store):
    wanted = settings(store)
    source = build_source(wanted, store, "train", shuffle_seed=None)
    places = np.arange(len(source))
    thinned, whole = ThinnedClips(source, {"text": 0.5}, seed=0).batch(places), source.batch(places)
    lost = torch.from_numpy(lost_clips(len(source), 0.5, "text", seed=0))
    assert torch.equal(thinned.present["text"], whole.present["text"] & ~lost)
    assert not thinned.inputs["text"][lost].any()
    assert not thinned.lengths["text"][lost].any()
    assert torch.equal(thinned.inputs["text"][~lost], whole.inputs["text"][~lost])
    for modality in ("video", "audio"):
        assert torch.equal(thinned.inputs[modality], whole.inputs[modality])
    assert torch.equal(source.batch(places).inputs["text"], whole.inputs["text"])  # nothing was written into the source


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_of_0_to_1_is_refused(share, store):
    with pytest.raises(ConfigError, match=r"data\.missing\.text"):
        settings(store, data={"missing": {"text": share}})
    with pytest.raises(ConfigError, match=rf"data\.missing\.text: expected a share from 0 to 1, got {share}"):
        ThinnedClips(build_source(settings(store), store, "train", shuffle_seed=None), {"text": share}, seed=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph if isinstance(graph, str) else "written")
@pytest.mark.parametrize("missing", [{"text": 0.5}, {"text": 1.0}, {"audio": 1.0, "text": 0.5}], ids=str)
def test_every_graph_trains_without_nan_whatever_is_missing(store, tmp_path, graph, missing, precision):
    pairs = {} if graph != "shared" else {"pairs": ["va", "vt", "at"]}
    wanted = settings(store, graph=graph, data={"missing": missing}, training={"precision": precision}, **pairs)
    made, losses = trained(wanted, store, tmp_path)
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    assert all(x.isfinite().all() for x in made.model.state_dict().values())


def test_without_any_text_the_text_tower_gets_no_gradient_and_does_not_move(store, tmp_path):
    wanted = settings(store, data={"missing": {"text": 1.0}}, terms={"contrast": {}})
    made, _ = trained(wanted, store, tmp_path)
    first = build_model(wanted, store, seed=0).state_dict()
    moved = {name for name, x in made.model.state_dict().items() if not torch.equal(x, first[name])}
    assert not [name for name in moved if "text" in name]
    assert [name for name in moved if "video" in name]


@pytest.mark.parametrize("loss", ["masked_margin_softmax", "info_nce"])
def test_the_loss_is_that_of_the_clips_that_have_both_and_absent_rows_get_no_gradient(store, loss):
    wanted = settings(store, stages="VT", terms={"contrast": {"loss": loss}}, data={"missing": {"text": 0.5}})
    model = build_model(wanted, store, seed=0).train()
    batch = build_training_source(wanted, store, seed=0).batch(np.arange(16))
    here = batch.present["text"].nonzero().flatten()
    assert 2 <= len(here) < 16
    only = Batch(
        *({m: x[here] for m, x in group.items()} for group in (batch.inputs, batch.lengths, batch.present)), here
    )
    found, alone = (contrast(wanted, model, one) for one in (batch, only))
    torch.testing.assert_close(found[0], alone[0], rtol=1e-6, atol=1e-6)
    lost = ~batch.present["text"]
    assert all(float(gradient[lost].abs().max()) == 0.0 for gradient in found[1].values())
    assert float(found[1]["text"][~lost].abs().max()) > 0


def test_in_mil_nce_a_clip_without_text_is_a_negative_video_and_its_text_row_gets_no_gradient(store):
    wanted = settings(store, stages="VT", terms={"contrast": {"loss": "mil_nce"}}, data={"missing": {"text": 0.5}})
    model = build_model(wanted, store, seed=0).train()
    batch = build_training_source(wanted, store, seed=0).batch(np.arange(16))
    value, gradients, embeddings = contrast(wanted, model, batch, with_embeddings=True)
    there = batch.present["text"]
    video, text = (embeddings[m] for m in ("video", "text"))
    torch.testing.assert_close(value, mil_nce(video, text, temperature=0.07, present=there).detach())
    without = mil_nce(video[there], text[there], temperature=0.07)
    assert float(value) > float(without)  # more negatives
    assert float(gradients["text"][~there].abs().max()) == 0.0
    assert float(gradients["video"][~there].abs().min(dim=0).values.max()) > 0


def contrast(wanted, model, batch, *, with_embeddings=False):
    """Value of the contrast term, and its gradient for the embeddings by modality."""
    term = build_terms(wanted, model.graph, seed=0)["contrast"]
    assert isinstance(term, ContrastTerm)
    outputs = model(batch, ("video", "text"), pairs=("vt",))
    found = {modality: outputs.embeddings[modality, "joint"] for modality in ("video", "text")}
    for x in found.values():
        x.retain_grad()
    value = term(model, batch, outputs, Active(("video", "text"), ("vt",), 0)).total
    value.backward()
    result = value.detach(), {modality: x.grad for modality, x in found.items()}
    return (*result, {m: x.detach() for m, x in found.items()}) if with_embeddings else result


def test_only_the_dealt_modality_is_shuffled(store):
    whole, texts, both = (
        build_training_source(settings(store, data=data), store, seed=0).batch(np.arange(32))
        for data in ({}, {"shuffle": ["text"]}, {"shuffle_pairs": True})
    )
    for modality in ("video", "audio"):
        assert torch.equal(whole.inputs[modality], texts.inputs[modality])
    assert not torch.equal(whole.inputs["text"], texts.inputs["text"])
    assert torch.equal(texts.inputs["text"], both.inputs["text"])
    assert not torch.equal(whole.inputs["audio"], both.inputs["audio"])


def test_shuffling_twice_is_refused(store):
    with pytest.raises(ConfigError, match="shuffle_pairs deals audio and text already"):
        settings(store, data={"shuffle_pairs": True, "shuffle": ["text"]})


def test_runs_and_prefixes_know_what_is_missing_and_usual_settings_keep_their_key(store):
    plain, halved, dealt = (settings(store, data=d) for d in ({}, {"missing": {"text": 0.5}}, {"shuffle": ["text"]}))
    assert len({run_key(one, 0) for one in (plain, halved, dealt)}) == 3
    assert len({prefix_keys(one, fingerprint="f", seed=0)[0] for one in (plain, halved, dealt)}) == 3
    assert run_key(plain, 0) == run_key(settings(store, data={"missing": {}, "shuffle": []}), 0)


@pytest.mark.slow
def test_shuffled_text_finds_its_video_by_chance_and_leaves_video_and_audio_alone(tmp_path):
    world = {"train_recordings": 120, "val_recordings": 0, "test_recordings": 40}
    found = {}
    for name, data in (("plain", {}), ("shuffled", {"shuffle": ["text"]})):
        wanted = ExperimentSettings.parse(
            {
                "experiment": name,
                "data": {"world": world, **data},
                "stages": "VAT",
                "graph": "disjoint",
                "pairs": ["va", "vt"],  # with at, the audio tower would see the text
                "terms": {"contrast": {"temperature": 0.1}},
                "model": {"dim": 32, "audio_width": 32, "audio_blocks": 1},
                "training": {"epochs": 12, "batch": 64, "lr": 0.003, "warmup_steps": 10},
                "evaluation": {"tasks": ["retrieval"]},
            },
            source="test",
        )
        rows = run_experiment(wanted, tmp_path / name, stores=tmp_path / "stores").results()
        found[name] = rows[rows.task == "retrieval"].set_index(["subject", "metric"])["value"]
    chance = found["plain"]["text->video", "chance_at_1"]
    assert found["plain"]["text->video", "recall_at_10"] > 30 * chance
    assert found["shuffled"]["text->video", "recall_at_10"] < 25 * chance  # 10 chances, and what equal captions add
    same = [found[name]["video->audio", "recall_at_10"] for name in found]
    assert same[0] == same[1]  # a space of its own, and the same draws: not a bit is touched
