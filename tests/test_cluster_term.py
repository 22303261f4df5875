"""The clustering term over many steps: its ring, its state, what it keeps out, and that it never waits for a GPU."""

import pytest
import torch

from mcnlab.batch import MODALITIES, Batch, Outputs
from mcnlab.models.graph import shared_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.numerics import l2_normalize
from mcnlab.training.terms import Active, ClusterSizes, ClusterTerm

PAIRS = ("va", "vt", "at")
CLIPS = 8


@pytest.fixture(scope="module")
def model():
    sizes = ModelSizes(dict.fromkeys(MODALITIES, 4), dim=6, audio_width=8, audio_blocks=1)
    return MultimodalModel(sizes, shared_graph(MODALITIES, PAIRS), faithful=True, decoders=False, seed=0)


def term(*, faithful=False, refit_every=5):
    return ClusterTerm(
        weight=1.0,
        sizes=ClusterSizes(4, queue_rows=10, rows_per_step=4, refit_every=refit_every),
        spaces={"joint": 6},
        faithful=faithful,
        temperature=0.1,
        margin=0.001,
        divide=True,
        seed=0,
    )


def embeddings(step):
    generator = torch.Generator().manual_seed(step)
    return {(m, "joint"): torch.randn(CLIPS, 6, generator=generator) for m in MODALITIES}


def value(made, model, step, *, change=lambda found: found, present=None):
    """The term's value for the embeddings of a step."""
    flags = dict.fromkeys(MODALITIES, torch.ones(CLIPS, dtype=torch.bool)) | (present or {})
    outputs = Outputs({}, change(embeddings(step)), flags)
    return made(model, Batch({}, {}, flags, torch.arange(CLIPS)), outputs, Active(MODALITIES, PAIRS, step))


@pytest.mark.parametrize("faithful", [False, True])
def test_a_term_goes_on_from_its_state_with_the_same_bits(model, faithful):
    made = term(faithful=faithful)
    for step in range(4):
        value(made, model, step)
    other = term(faithful=faithful)
    other.load_state_dict(made.state_dict())
    for step in range(4, 13):
        assert value(made, model, step).total.item() == value(other, model, step).total.item()
    assert all(torch.equal(x, other.state_dict()[name]) for name, x in made.state_dict().items())


@pytest.mark.parametrize("faithful", [False, True])
def test_a_state_from_before_the_ring_is_read(model, faithful):
    fused = [torch.stack(list(embeddings(step).values())).sum(dim=0) / 3 for step in range(3)]
    old = torch.cat([rows[:4] for rows in reversed(fused)])[:10]  # newest first, raw
    made = term(faithful=faithful)
    for step in range(3):
        value(made, model, step)
    state = {name: x for name, x in made.state_dict().items() if name != "_extra_state"}
    state |= {"queue_joint": old, "filled_joint": torch.tensor(10), "fitted_joint": torch.tensor(1)}
    other = term(faithful=faithful)
    other.load_state_dict(state)
    for step in range(3, 12):
        assert value(made, model, step).total.item() == value(other, model, step).total.item()


def test_a_state_that_lacks_its_progress_is_refused():
    state = {name: x for name, x in term().state_dict().items() if name != "_extra_state"}
    with pytest.raises(RuntimeError, match="_extra_state"):
        term().load_state_dict(state)


def test_clips_without_any_modality_never_enter_the_queue(model):
    made = term()
    gone = torch.tensor([False, True] * 4)
    value(made, model, 0, present=dict.fromkeys(MODALITIES, gone))
    fused = torch.stack(list(embeddings(0).values())).sum(dim=0) / 3
    assert made.progress["joint"].filled == 4
    assert torch.equal(made.queue_joint[made.progress["joint"].first :], l2_normalize(fused[gone]))


def test_a_modality_that_no_clip_has_is_no_part(model):
    made = term()
    value(made, model, 0)
    found = value(made, model, 1, present={"audio": torch.zeros(CLIPS, dtype=torch.bool)})
    assert set(found.parts) == {"video", "text"}
    assert found.total.item() == pytest.approx((found.parts["video"] + found.parts["text"]).item() / 2)


def broken(found):
    found["text", "joint"][2, 1] = float("nan")
    return found


@pytest.mark.parametrize("step", [5, 6])
def test_what_is_not_finite_is_said_and_never_kept(model, step):
    made = term()
    for number in range(4):
        value(made, model, number)
    found = value(made, model, step, change=broken)
    assert {part for part, x in found.parts.items() if not bool(x.isfinite())} == {"text"}
    assert all(bool(x.isfinite().all()) for x in made.state_dict().values())


def test_a_fused_row_that_overflows_is_said_where_no_score_does(model):
    made = term(faithful=True)
    value(made, model, 0)
    made.centroids_joint.mul_(1e-3)
    found = value(made, model, 1, change=lambda x: {key: torch.full_like(e, 3e4).half() for key, e in x.items()})
    assert bool(found.total.isnan())


@pytest.mark.gpu
@pytest.mark.parametrize("faithful", [False, True])
def test_steps_between_two_fits_never_wait_for_the_gpu(model, faithful):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    made = term(faithful=faithful).cuda()
    value(made, model, 0, change=lambda x: {key: e.cuda() for key, e in x.items()})
    there = [{key: e.cuda() for key, e in embeddings(step).items()} for step in range(1, 5)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, x in enumerate(there, start=1):
            value(made, model, step, change=lambda _, x=x: x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
