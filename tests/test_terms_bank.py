"""The memory bank as a term: it holds what was seen, draws by the step, resumes bit for bit."""

import math

import pytest
import torch

from mcnlab.batch import MODALITIES, Batch, Outputs
from mcnlab.errors import ConfigError
from mcnlab.losses.memory_bank import bank_nce, bank_normalizer, bank_scores, bank_softmax
from mcnlab.models.graph import shared_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.numerics import l2_normalize
from mcnlab.training.bank_term import KEPT_NORMALIZER, BankRules, BankTerm, _Way
from mcnlab.training.terms import Active
from tests.small_store import make_store
from tests.test_terms_contrast import assert_resumes
from tests.test_training import lines, trainer, weights

CLIPS, DIM, TAU = 40, 6, 0.2
PAIRS = ("va", "vt")
BANK = {"contrast": {"loss": "memory_bank", "temperature": TAU}}


@pytest.fixture(scope="module")
def model():
    sizes = ModelSizes(dict.fromkeys(MODALITIES, 4), dim=DIM, audio_width=8, audio_blocks=1)
    return MultimodalModel(sizes, shared_graph(MODALITIES, PAIRS), faithful=False, decoders=False, seed=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


@pytest.fixture(scope="module")
def holed(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "holed", missing_audio=0.5, missing_text=0.5)


def term(*, present=None, **rules):
    flags = {m: torch.ones(CLIPS, dtype=torch.bool) for m in MODALITIES} | (present or {})
    graph = shared_graph(MODALITIES, PAIRS)
    made = BankRules(**rules)
    return BankTerm(weight=1.0, graph=graph, dims={"joint": DIM}, present=flags, rules=made, temperature=TAU, seed=3)


def step(made, model, clips, number, *, flags=None):
    """One step with random embeddings of some clips."""
    draw = torch.Generator().manual_seed(number)
    present = {m: torch.ones(len(clips), dtype=torch.bool) for m in MODALITIES} | (flags or {})
    embeddings = {
        (m, "joint"): l2_normalize(torch.randn(len(clips), DIM, generator=draw)).requires_grad_() for m in MODALITIES
    }
    batch = Batch({}, {}, present, torch.tensor(clips))
    found = made(model, batch, Outputs({}, embeddings, present), Active(MODALITIES, PAIRS, number))
    return found, {m: x for (m, _), x in embeddings.items()}


def test_both_directions_against_the_other_modalitys_bank_are_added(model):
    made, clips = term(negatives=7), [4, 9, 17]
    before = {m: made.get_buffer(f"bank_{m}_joint").clone() for m in MODALITIES}
    found, x = step(made, model, clips, 0)
    expected = 0.0
    for anchor, other in (("video", "text"), ("text", "video")):
        from_bank = made._negatives(way_of("vt", anchor, other), torch.tensor(clips), 0)
        assert from_bank.shape == (3, 7)
        candidates = torch.cat((torch.tensor(clips)[:, None], from_bank), dim=1)
        expected += bank_softmax(bank_scores(x[anchor], before[other], candidates, temperature=TAU)).item()
    assert found.parts["vt"].item() == pytest.approx(expected, rel=1e-6)
    assert found.total.item() == pytest.approx(sum(part.item() for part in found.parts.values()), rel=1e-6)


def way_of(pair, anchor, other):
    return _Way(pair, anchor, other, "joint")


def test_after_the_loss_the_bank_takes_in_the_batch_and_nothing_else(model):
    made, clips = term(negatives=7), [4, 9, 17]
    before = made.get_buffer("bank_video_joint").clone()
    _, x = step(made, model, clips, 0)
    after = made.get_buffer("bank_video_joint")
    others = [clip for clip in range(CLIPS) if clip not in clips]
    assert torch.equal(after[others], before[others])
    moved = l2_normalize(0.5 * before[clips] + 0.5 * x["video"].detach())
    torch.testing.assert_close(after[clips], moved)


def test_gradients_reach_the_embeddings_and_not_the_bank(model):
    made = term(negatives=CLIPS)
    found, x = step(made, model, [1, 2], 0)
    found.total.backward()
    assert all(bool((one.grad != 0).any()) for one in x.values())
    assert not any(buffer.requires_grad for buffer in made.buffers())


def test_at_most_all_clips_but_one_are_negatives(model):
    made = term(negatives=10_000)
    found = made._negatives(way_of("va", "video", "audio"), torch.tensor([0, 1]), 0)
    assert found.shape == (2, CLIPS - 1)


def test_the_own_clip_is_never_drawn_where_that_is_asked_for():
    clips = torch.arange(CLIPS)
    drawn = {
        out: term(negatives=500, exclude_own=out)._negatives(way_of("va", "video", "audio"), clips, 0)
        for out in (True, False)
    }
    assert not (drawn[True] == clips[:, None]).any()
    assert (drawn[False] == clips[:, None]).any(), "the published draw may take it"
    assert set(drawn[True].unique().tolist()) == set(range(CLIPS)), "and every other clip is"


def test_negatives_are_clips_that_have_the_modality():
    has = torch.zeros(CLIPS, dtype=torch.bool)
    has[5:25] = True
    made = term(present={"audio": has}, exclude_own=True)
    drawn = made._negatives(way_of("va", "video", "audio"), torch.tensor([5, 24]), 0)
    assert drawn.shape == (2, 19)
    assert bool(has[drawn].all())
    assert not (drawn == torch.tensor([[5], [24]])).any()


def test_draws_hang_on_the_step_and_the_direction_alone():
    first, second, clips = term(), term(), torch.tensor([1, 2])
    way = way_of("va", "video", "audio")
    first._negatives(way, clips, 0)
    assert torch.equal(first._negatives(way, clips, 1), second._negatives(way, clips, 1))
    assert not torch.equal(first._negatives(way, clips, 0), first._negatives(way, clips, 1))
    assert not torch.equal(first._negatives(way, clips, 0), first._negatives(way_of("va", "audio", "video"), clips, 0))


@pytest.mark.parametrize("running", [False, True])
def test_the_normalizer_stays_or_follows(model, running):
    made, clips = term(nce=True, negatives=9, running=running), [4, 9, 17]
    seen = []
    for number in range(3):
        bank = made.get_buffer("bank_audio_joint").clone()
        found, x = step(made, model, clips, number)
        way = way_of("va", "video", "audio")
        candidates = torch.cat((torch.tensor(clips)[:, None], made._negatives(way, torch.tensor(clips), number)), dim=1)
        scores = bank_scores(x["video"], bank, candidates, temperature=TAU)
        here = bank_normalizer(scores, clips=CLIPS)
        seen.append(here if not seen else KEPT_NORMALIZER * seen[-1] + (1 - KEPT_NORMALIZER) * here)
        expected = seen[-1] if running else seen[0]
        assert made.get_buffer("normalizer_va_video").item() == pytest.approx(expected.item(), rel=1e-5)
    other = made.get_buffer("normalizer_va_audio").item()
    assert other not in (0.0, made.get_buffer("normalizer_va_video").item()), "one per direction"
    assert bank_nce(scores, clips=CLIPS, normalizer=expected).item() < found.parts["va"].item()


def test_clips_without_a_modality_leave_its_bank_alone(model):
    made = term()
    before = made.get_buffer("bank_text_joint").clone()
    found, _ = step(made, model, [1, 2], 0, flags={"text": torch.zeros(2, dtype=torch.bool)})
    assert set(found.parts) == {"va"}
    assert torch.equal(made.get_buffer("bank_text_joint"), before)


def test_a_bank_of_one_clip_is_refused():
    has = torch.zeros(CLIPS, dtype=torch.bool)
    has[3] = True
    with pytest.raises(ConfigError, match="needs two clips with text, the training split has 1"):
        term(present={"text": has})


@pytest.mark.parametrize("bank", [{}, {"form": "nce", "normalizer": "running", "exclude_own": True, "negatives": 5}])
def test_a_run_with_banks_resumes_bit_for_bit(holed, tmp_path, bank):
    contrast = {"loss": "memory_bank", "bank": bank, "learn_temperature": True}
    assert_resumes(holed, tmp_path, terms={"contrast": contrast})


@pytest.mark.parametrize("graph", ["disjoint", "fac"])
def test_banks_of_every_space_are_kept(store, tmp_path, graph):
    made = trainer(store, tmp_path / "run", graph=graph, pairs=["va", "vt"], terms=BANK, training={"epochs": 3})
    made.train()
    spaces = {"disjoint": ("va", "vt"), "fac": ("va", "vat")}[graph]
    kept = {name for name in weights(made) if ".bank_" in name}
    assert kept == {
        f"contrast.bank_{m}_{space}"
        for m, space in (("video", spaces[0]), ("audio", spaces[0]), ("video", spaces[1]), ("text", spaces[1]))
    }
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path / "run"))


def test_the_loss_falls_below_that_of_knowing_nothing(store, tmp_path):
    made = trainer(store, tmp_path / "run", terms=BANK, stages="VT", training={"epochs": 15})
    made.train()
    negatives = len(made.source) - 1
    found = [line["term.contrast.vt"] for line in lines(tmp_path / "run")]
    assert sum(found[-4:]) / 4 < 2 * math.log(negatives + 1) < found[0] + 1.0


def test_noise_contrast_is_finite_at_the_lowest_temperature(model):
    made = term(nce=True, negatives=9)
    made.temperature = 0.01
    bank = made.get_buffer("bank_audio_joint")
    bank.copy_(l2_normalize(torch.ones(CLIPS, DIM)))
    flags = {m: torch.ones(2, dtype=torch.bool) for m in MODALITIES}
    embeddings = {(m, "joint"): l2_normalize(torch.ones(2, DIM)).requires_grad_() for m in MODALITIES}
    batch = Batch({}, {}, flags, torch.tensor([0, 1]))
    found = made(model, batch, Outputs({}, embeddings, flags), Active(MODALITIES, PAIRS, 0))
    found.total.backward()
    assert math.isfinite(found.total.item())
    assert all(bool(x.grad.isfinite().all()) for x in embeddings.values() if x.grad is not None)
