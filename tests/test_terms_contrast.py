"""The contrast term: candidate captions, weights of pairs, a learned temperature, and what each of them refuses."""

import math

import pytest
import torch

from mcnlab.batch import MODALITIES, Batch, Outputs
from mcnlab.errors import ConfigError
from mcnlab.experiment.build import build_model
from mcnlab.experiment.objective import build_terms, takes_several_captions
from mcnlab.numerics import l2_normalize
from mcnlab.training.contrast_term import total_of_pairs
from mcnlab.training.terms import Active
from tests.small_store import make_store
from tests.test_training import assert_same, lines, settings, trainer, weights

CLIPS, DIM = 6, 8
TAU = 0.1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


@pytest.fixture(scope="module")
def holed(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "holed", missing_audio=0.5, missing_text=0.5)


def unit(*shape, seed):
    draw = torch.Generator().manual_seed(seed)
    return l2_normalize(torch.randn(*shape, DIM, generator=draw)).requires_grad_()


def value(store, contrast, outputs, *, pairs=("vt",)):
    """The term's value for some outputs."""
    wanted = settings(store, terms={"contrast": {"temperature": TAU, **contrast}}, stages="VAT")
    model = build_model(wanted, store, seed=0)
    term = build_terms(wanted, model.graph, seed=0)["contrast"]
    batch = Batch({}, {}, outputs.present, torch.arange(CLIPS))
    return term(model, batch, outputs, Active(MODALITIES, pairs, 0))


def outputs_of(*, text=True, candidates=None, there=None, without_text=()):
    """Random unit embeddings of all clips."""
    flags = {m: torch.ones(CLIPS, dtype=torch.bool) for m in MODALITIES}
    for clip in without_text:
        flags["text"][clip] = False
    embeddings = {(m, "joint"): unit(CLIPS, seed=place) for place, m in enumerate(MODALITIES)}
    near = {} if candidates is None else {"joint": candidates}
    return Outputs({}, embeddings, flags, near, there)


def one_denominator(scores, own):
    """MIL-NCE by hand: scores (clips, clips of the caption, captions) with -inf for absent ones."""
    losses = []
    for clip in own:
        both = torch.cat((scores[clip].flatten(), scores[:, clip].flatten()))
        losses.append(both.logsumexp(0) - scores[clip, clip].logsumexp(0))
    return torch.stack(losses).mean()


def two_denominators(scores, own):
    losses = []
    for clip in own:
        sides = scores[clip].flatten().logsumexp(0) + scores[:, clip].flatten().logsumexp(0)
        losses.append(sides - 2 * scores[clip, clip].logsumexp(0))
    return torch.stack(losses).mean()


BY_HAND = {"mil_nce": one_denominator, "symmetric_mil_nce": two_denominators}


@pytest.mark.parametrize("loss", BY_HAND)
@pytest.mark.parametrize("pair", ["va", "vt"])
def test_with_one_candidate_mil_nce_is_noise_contrast_over_the_batch(store, loss, pair):
    outputs = outputs_of()
    other = outputs.embeddings["audio" if pair == "va" else "text", "joint"]
    scores = (outputs.embeddings["video", "joint"] @ other.T / TAU)[..., None]
    found = value(store, {"loss": loss}, outputs, pairs=(pair,))
    assert found.parts[pair].item() == pytest.approx(BY_HAND[loss](scores, range(CLIPS)).item(), abs=1e-5)


@pytest.mark.parametrize("loss", BY_HAND)
@pytest.mark.parametrize("pair", ["vt", "at"])
def test_every_candidate_that_is_there_counts(store, loss, pair):
    near, there = unit(CLIPS, 2, seed=9), torch.ones(CLIPS, 2, dtype=torch.bool)
    there[1, 0] = there[2] = there[4] = False
    outputs = outputs_of(candidates=near, there=there, without_text=(2, 3))  # clip 3 has but candidates, clip 2 nothing
    first = outputs.embeddings["video" if pair == "vt" else "audio", "joint"]
    captions = torch.cat((outputs.embeddings["text", "joint"][:, None], near), dim=1)
    present = torch.cat((outputs.present["text"][:, None], there), dim=1)
    scores = torch.einsum("id,jcd->ijc", first, captions).div(TAU).masked_fill(~present, -math.inf)
    found = value(store, {"loss": loss}, outputs, pairs=(pair,)).parts[pair]
    assert found.item() == pytest.approx(BY_HAND[loss](scores, [0, 1, 3, 4, 5]).item(), abs=1e-5)
    found.backward()
    assert (near.grad[~there] == 0).all()
    assert (near.grad[there].abs().sum(dim=1) > 0).all()
    assert (outputs.embeddings["text", "joint"].grad[2:4] == 0).all()
    assert (first.grad[2] != 0).any(), "a clip without text is still a negative of the others' captions"


@pytest.mark.parametrize("loss", ["masked_margin_softmax", "info_nce"])
def test_losses_of_one_caption_take_the_own_one(store, loss):
    there = torch.ones(CLIPS, 2, dtype=torch.bool)
    plain, rich = outputs_of(), outputs_of(candidates=unit(CLIPS, 2, seed=9), there=there)
    assert value(store, {"loss": loss}, plain).total.item() == value(store, {"loss": loss}, rich).total.item()
    assert not takes_several_captions(settings(store, terms={"contrast": {"loss": loss}}, data={"candidates": 3}))


def test_no_text_at_all_gives_no_value(store):
    there = torch.zeros(CLIPS, 2, dtype=torch.bool)
    outputs = outputs_of(candidates=unit(CLIPS, 2, seed=9), there=there, without_text=range(CLIPS))
    assert value(store, {"loss": "mil_nce"}, outputs).total is None


def test_weights_of_pairs_make_the_term_their_weighted_mean(store):
    outputs, pairs = outputs_of(), ("va", "vt")
    plain = value(store, {}, outputs, pairs=pairs)
    weighted = value(store, {"pair_weights": {"va": 3.0, "vt": 0.5}}, outputs, pairs=pairs)
    expected = (3.0 * plain.parts["va"] + 0.5 * plain.parts["vt"]) / 3.5
    assert plain.total.item() == pytest.approx((plain.parts["va"] + plain.parts["vt"]).item())
    assert weighted.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert weighted.parts["vt"].item() == plain.parts["vt"].item()


def test_a_pair_that_no_clip_has_counts_as_zero_in_the_mean():
    found = total_of_pairs({"va": torch.tensor(2.0)}, ("va", "vt"), weights={"vt": 3.0})
    assert found.item() == pytest.approx(2.0 / 4.0)
    assert total_of_pairs({}, ("va",), weights={"va": 1.0}) is None


LEARNED = {"contrast": {"temperature": TAU, "learn_temperature": True}}


def test_a_learned_temperature_starts_where_it_is_told_and_moves(store, tmp_path):
    made = trainer(store, tmp_path / "run", terms=LEARNED, stages="VT")
    made.train()
    logged = [line["term.contrast.temperature"] for line in lines(tmp_path / "run")]
    assert logged[0] == pytest.approx(TAU)
    assert len(set(logged)) > 2
    assert all(math.isfinite(one) and one >= 0.01 for one in logged)
    kept = weights(made)["model.log_scales.contrast"]
    assert kept.item() != pytest.approx(-math.log(TAU))


def test_a_learned_temperature_changes_nothing_before_it_moves(store):
    outputs = outputs_of()
    for loss in ("masked_margin_softmax", "info_nce", "mil_nce", "symmetric_mil_nce"):
        fixed = value(store, {"loss": loss}, outputs)
        learned = value(store, {"loss": loss, "learn_temperature": True}, outputs)
        assert learned.total.item() == pytest.approx(fixed.total.item(), rel=1e-5)
        assert learned.total.grad_fn is not None


def test_a_learned_temperature_never_falls_below_a_hundredth(store):
    wanted = settings(store, terms=LEARNED, stages="VT")
    model = build_model(wanted, store, seed=0)
    with torch.no_grad():
        model.log_scales["contrast"].fill_(9.0)
    temperature = model.learned_temperature("contrast")
    assert temperature.item() == pytest.approx(0.01)
    temperature.backward()
    assert model.log_scales["contrast"].grad.item() < 0, "at the border the gradient still leads back"


def test_a_fixed_temperature_is_no_parameter(store):
    model = build_model(settings(store, terms={"contrast": {}}), store, seed=0)
    assert model.learned_temperature("contrast") is None
    assert not any("log_scales" in name for name in model.state_dict())


@pytest.mark.parametrize(("graph", "precision"), [("shared", "float32"), ("disjoint", "bfloat16"), ("fac", "float32")])
def test_candidates_train_in_every_graph_with_missing_modalities(holed, tmp_path, graph, precision):
    made = trainer(
        holed,
        tmp_path / "run",
        graph=graph,
        pairs=["va", "vt"],
        data={"candidates": 3},
        terms={"contrast": {"loss": "mil_nce", "learn_temperature": True}},
        training={"epochs": 3, "precision": precision},
    )
    made.train()
    assert all(bool(x.isfinite().all()) for x in weights(made).values())
    found = lines(tmp_path / "run")
    assert all(math.isfinite(line["loss"]) for line in found)
    assert any("term.contrast.vt" in line for line in found)


def test_candidates_and_a_learned_temperature_resume_bit_for_bit(holed, tmp_path):
    how = {
        "data": {"candidates": 3},
        "terms": {"contrast": {"loss": "symmetric_mil_nce", "learn_temperature": True, "pair_weights": {"vt": 2.0}}},
    }
    assert_resumes(holed, tmp_path, **how)


def assert_resumes(store, tmp_path, **how):
    """A run that dies between two checkpoints ends with the same bits as one that does not."""
    whole = trainer(store, tmp_path / "whole", **how)
    whole.train()
    killed = trainer(store, tmp_path / "killed", **how)

    def die(record):
        if record.step == 6:  # two steps after a checkpoint
            raise KeyboardInterrupt

    killed.on_step = die
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    again = trainer(store, tmp_path / "killed", **how)
    again.train()
    assert_same(weights(whole), weights(again))
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"terms": {"contrast": {"temperature": 0.0}}}, r"terms.contrast.temperature: .*greater than 0, got 0.0"),
        ({"terms": {"contrast": {"temperature": -0.5}}}, r"terms.contrast.temperature: .*greater than 0, got -0.5"),
        ({"terms": {"contrast": {"temperature": math.inf}}}, r"terms.contrast.temperature: .*finite"),
        (
            {"terms": {"contrast": {"temperature": 0.001, "learn_temperature": True}}},
            "temperature must be at least 0.01 to be learned, got 0.001",
        ),
        (
            {"terms": {"contrast": {"learn_temperature": True}}, "mode": "faithful"},
            "learn_temperature: faithful mode compares without a temperature",
        ),
        ({"terms": {"contrast": {"bank": {}}}}, "bank belongs to loss: memory_bank, but loss is masked_margin_softmax"),
        (
            {"terms": {"contrast": {"loss": "memory_bank", "bank": {"normalizer": "running"}}}},
            "normalizer belongs to form: nce, but form is softmax",
        ),
        (
            {"terms": {"contrast": {"loss": "memory_bank", "bank": {"momentum": 1.5}}}},
            "terms.contrast.bank.momentum: .*less than or equal to 1",
        ),
        (
            {"terms": {"contrast": {"loss": "memory_bank", "bank": {"negatives": 0}}}},
            "terms.contrast.bank.negatives: .*greater than 0",
        ),
        (
            {"terms": {"contrast": {"loss": "memory_bank"}}, "data": {"sampling": "published"}},
            "memory_bank keeps a row for every clip and needs data.sampling: captions, but sampling is published",
        ),
        ({"data": {"candidates": 0}}, "data.candidates: .*greater than 0, got 0"),
        (
            {"data": {"candidates": 3, "sampling": "windows"}},
            "candidates belongs to sampling: captions, but sampling is windows",
        ),
        (
            {"terms": {"contrast": {"pair_weights": {"at": 1.0}}}, "stages": "VA"},
            "terms.contrast.pair_weights.at: no stage compares it, only va",
        ),
        ({"terms": {"contrast": {"pair_weights": {"va": 0.0}}}}, "terms.contrast.pair_weights.va: .*greater than 0"),
        ({"terms": {"predict": {"codes": 8}}}, "codes belongs to loss: codes, but loss is l2"),
        ({"terms": {"predict": {"loss": "codes", "codes": 1}}}, "terms.predict.codes: .*greater than or equal to 2"),
        ({"terms": {"contrast": {"los": "mil_nce"}}}, "unknown setting 'terms.contrast.los', did you mean 'loss'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(store, changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        settings(store, **changes)


def test_candidates_in_chunks_train_as_the_whole_batch_does(holed, tmp_path):
    how = {"data": {"candidates": 3}, "terms": {"contrast": {"loss": "mil_nce"}}, "stages": "VT"}
    found = []
    for chunk in (None, 5):
        made = trainer(holed, tmp_path / f"chunk-{chunk}", **how, training={"epochs": 1, "lr": 0.001, "chunk": chunk})
        made.train()
        found.append((weights(made), [line["loss"] for line in lines(tmp_path / f"chunk-{chunk}")]))
    (whole, losses), (chunked, others) = found
    assert others == pytest.approx(losses, rel=1e-5)
    for name, x in whole.items():
        torch.testing.assert_close(chunked[name], x, rtol=1e-4, atol=1e-5, msg=name)
