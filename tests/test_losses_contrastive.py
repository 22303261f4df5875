"""Contrastive losses: known values, published arithmetic, symmetry, gradients, precision, refusals."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.losses import info_nce, masked_margin_softmax, max_margin_ranking, mil_nce, symmetric_mil_nce

torch.set_num_threads(1)
GOLDEN = Path(__file__).parent / "golden"


def golden(name):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


MMS, MIL, MARGIN, MMV = (
    golden(name) for name in ("mms_loss_small", "milnce_loss_small", "maxmargin_loss", "mmv_losses")
)
# The released margin is float32(0.001), 5e-11 from ours.
RELEASED = {"rel": 1e-9, "abs": 1e-9}


def cases(arrays, field):
    return sorted((key.split("_")[0] for key in arrays if key.endswith(f"_{field}") and key.startswith("c")), key=str)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- masked margin softmax ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_equal_similarities_cost_two_log_batch(batch):
    loss = masked_margin_softmax(torch.full((batch, batch), 3.0), margin=0.0)
    assert loss.item() == pytest.approx(2 * math.log(batch), abs=1e-6)


def test_a_margin_costs_as_if_the_true_score_were_lower():
    similarity = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    expected = 2 * math.log1p(math.exp(-(1.0 - 0.25)))
    assert masked_margin_softmax(similarity, margin=0.25).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("case", cases(MMS, "S"))
def test_masked_margin_softmax_agrees_with_the_released_loss_and_gradient(case):
    similarity = torch.tensor(MMS[f"{case}_S"], requires_grad=True)
    loss = masked_margin_softmax(similarity, margin=float(MMS[f"{case}_margin"]))
    loss.backward()
    assert loss.item() == pytest.approx(float(MMS[f"{case}_loss64"]), **RELEASED)
    np.testing.assert_allclose(similarity.grad.numpy(), MMS[f"{case}_dS64"], rtol=1e-8, atol=1e-9)
    in_single = masked_margin_softmax(torch.tensor(MMS[f"{case}_S"]).float(), margin=float(MMS[f"{case}_margin"]))
    assert in_single.item() == pytest.approx(float(MMS[f"{case}_loss32"]), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("edge", sorted(key[5:-2] for key in MMS if key.startswith("edge_") and key.endswith("_S")))
def test_masked_margin_softmax_is_finite_or_nan_where_the_released_one_is(edge):
    loss = masked_margin_softmax(torch.tensor(MMS[f"edge_{edge}_S"]))
    assert loss.item() == pytest.approx(float(MMS[f"edge_{edge}_loss32"]), rel=1e-6, nan_ok=True)


def test_masked_margin_softmax_on_scaled_scores_is_the_released_norm_softmax():
    scaled = torch.tensor(MMS["normsoftmax1_S"]) / float(MMS["normsoftmax1_tau"])
    assert masked_margin_softmax(scaled, margin=0.0).item() == pytest.approx(
        float(MMS["normsoftmax1_loss64"]), rel=1e-10
    )


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 6), seed=st.integers(0, 10_000), shift=st.floats(-50, 50))
def test_masked_margin_softmax_ignores_direction_order_and_a_common_shift(batch, seed, shift):
    similarity = random(batch, batch, seed=seed)
    loss = masked_margin_softmax(similarity)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    for same in (similarity.T, similarity[order][:, order], similarity + shift):
        assert masked_margin_softmax(same).item() == pytest.approx(loss.item(), rel=1e-9, abs=1e-9)


def test_descending_raises_true_scores_and_lowers_the_others():
    similarity = random(5, 5).requires_grad_()
    masked_margin_softmax(similarity).backward()
    true = torch.eye(5, dtype=torch.bool)
    assert (similarity.grad[true] < 0).all()
    assert (similarity.grad[~true] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_widened(dtype):
    similarity = (200 * random(6, 6)).to(dtype)
    loss = masked_margin_softmax(similarity)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(masked_margin_softmax(similarity.double()).item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 3), (0, 0)])
def test_a_similarity_that_is_not_square_is_refused_with_its_shape(shape):
    for loss in (masked_margin_softmax, max_margin_ranking):
        with pytest.raises(ShapeError, match=f"got {shape[0]} x {shape[1]}"):
            loss(torch.zeros(shape))


@pytest.mark.parametrize("margin", [-0.5, math.nan, math.inf])
def test_a_negative_or_infinite_margin_is_refused_with_its_value(margin):
    for loss in (masked_margin_softmax, max_margin_ranking):
        with pytest.raises(ConfigError, match=f"margin must not be negative, got {margin}"):
            loss(torch.zeros(2, 2), margin=margin)


# --- InfoNCE -----------------------------------------------------------------------------------------------------


def test_equal_rows_cost_log_batch():
    same = torch.ones(8, 4)
    assert info_nce(same, same, temperature=0.07).item() == pytest.approx(math.log(8), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_info_nce_agrees_with_the_released_two_way_loss(temperature):
    video, audio = torch.tensor(MMV["v"]), torch.tensor(MMV["a"])
    two_ways = 2 * info_nce(video, audio, temperature=temperature)
    assert two_ways.item() == pytest.approx(float(MMV[f"sym_nce_va_T{temperature}"]), rel=1e-10)


def test_info_nce_is_symmetric_and_blind_to_length():
    x, y = random(6, 4), random(6, 4, seed=1)
    loss = info_nce(x, y, temperature=0.2).item()
    assert info_nce(y, x, temperature=0.2).item() == pytest.approx(loss, rel=1e-12)
    assert info_nce(17 * x, 0.01 * y, temperature=0.2).item() == pytest.approx(loss, rel=1e-9)


def test_info_nce_gradient_is_that_of_finite_differences():
    x, y = random(3, 4).requires_grad_(), random(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, temperature=0.3), (x, y))


def test_info_nce_descent_turns_true_pairs_towards_each_other():
    x, y = random(6, 4).requires_grad_(), random(6, 4, seed=1)
    info_nce(x, y, temperature=0.1).backward()
    moved = x.detach() - 0.01 * x.grad
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(moved, y).mean() > cosine(x.detach(), y).mean()


def test_a_zero_row_gives_a_finite_loss_and_gradient():
    x = random(4, 8, dtype=torch.float32)
    x[0] = 0
    x.requires_grad_()
    loss = info_nce(x, random(4, 8, seed=1, dtype=torch.float32), temperature=0.07)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


def test_autocast_does_not_reach_into_the_loss():
    x, y = 300 * random(8, 64, dtype=torch.float32), 300 * random(8, 64, seed=1, dtype=torch.float32)
    outside = info_nce(x, y, temperature=0.07), mil_nce(x, y, temperature=None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = info_nce(x, y, temperature=0.07), mil_nce(x, y, temperature=None)
    assert inside == outside
    assert info_nce(x.half(), y.half(), temperature=0.07).isfinite()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_not_above_zero_is_refused_with_its_value(temperature):
    for loss in (info_nce, mil_nce):
        with pytest.raises(ConfigError, match=f"temperature must be above 0, got {temperature}"):
            loss(torch.ones(2, 3), torch.ones(2, 3), temperature=temperature)


def test_pairs_of_different_shape_are_refused_with_both_shapes():
    with pytest.raises(ShapeError, match=r"x is \(2, 3\) but y is \(4, 3\)"):
        info_nce(torch.ones(2, 3), torch.ones(4, 3), temperature=1.0)
    with pytest.raises(ShapeError, match="got 0 x 0"):
        info_nce(torch.ones(0, 3), torch.ones(0, 3), temperature=1.0)


# --- MIL-NCE -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("candidates", [1, 2, 5])
def test_a_lone_clip_costs_log_two(candidates):
    assert mil_nce(random(1, 4), random(candidates, 4, seed=1)).item() == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("case", cases(MIL, "video"))
def test_mil_nce_agrees_with_the_released_loss_and_gradients(case):
    video = torch.tensor(MIL[f"{case}_video"], requires_grad=True)
    text = torch.tensor(MIL[f"{case}_text"], requires_grad=True)
    loss = mil_nce(video, text)
    loss.backward()
    assert loss.item() == pytest.approx(float(MIL[f"{case}_loss64"]), rel=1e-10)
    np.testing.assert_allclose(video.grad.numpy(), MIL[f"{case}_dvideo64"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(text.grad.numpy(), MIL[f"{case}_dtext64"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_mil_nce_with_temperature_agrees_with_the_released_one(temperature):
    video, audio, text = (torch.tensor(MMV[key]) for key in "vat")
    assert mil_nce(video, text, temperature=temperature).item() == pytest.approx(
        float(MMV[f"milnce_vt_T{temperature}"]), rel=1e-9
    )
    assert mil_nce(video, audio, temperature=temperature).item() == pytest.approx(
        float(MMV[f"nce_va_T{temperature}"]), rel=1e-9
    )


@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_two_denominators_agree_with_the_released_variant(temperature):
    video, audio, text = (torch.tensor(MMV[key]) for key in "vat")
    for other, name in ((text, "milnce_vt"), (audio, "nce_va")):
        expected = pytest.approx(float(MMV[f"sym_{name}_T{temperature}"]), rel=1e-9)
        assert symmetric_mil_nce(video, other, temperature=temperature).item() == expected


def test_one_candidate_and_two_denominators_are_the_nce_of_both_directions():
    video, text = random(5, 4), random(5, 4, seed=1)
    expected = 2 * info_nce(video, text, temperature=0.3)
    assert symmetric_mil_nce(video, text, temperature=0.3).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("candidates", [1, 3])
def test_a_lone_clip_costs_nothing_with_two_denominators(candidates):
    assert symmetric_mil_nce(random(1, 4), random(candidates, 4, seed=1)).item() == pytest.approx(0.0, abs=1e-12)


def test_no_text_at_all_costs_nothing_with_two_denominators():
    text = torch.full((3, 4), math.nan, dtype=torch.float64, requires_grad=True)
    loss = symmetric_mil_nce(random(3, 4), text, present=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert not text.grad.any()


def test_mil_nce_of_one_caption_and_a_margin_is_the_released_sink_loss():
    for case in (key[:-2] for key in MIL if key.startswith("sink") and key.endswith("_S")):
        scores = torch.tensor(MIL[f"{case}_S"])
        unit = torch.eye(len(scores), dtype=torch.float64)
        loss = mil_nce(scores - 0.001 * unit, unit)  # the product with I leaves the scores as they are
        assert loss.item() == pytest.approx(float(MIL[f"{case}_loss64"]), **RELEASED)


def test_absent_text_is_left_out_as_published():
    video, text = (torch.tensor(MMV[key]) for key in "vt")
    present = torch.tensor(MMV["text_mask"]).bool()
    expected = pytest.approx(float(MMV["milnce_vt_masked_T0.07"]), rel=1e-9)
    assert mil_nce(video, text, temperature=0.07, present=present).item() == expected
    per_caption = present.repeat_interleave(3)
    assert mil_nce(video, text, temperature=0.07, present=per_caption).item() == expected


def test_no_text_at_all_costs_nothing_and_moves_nothing():
    video, text = random(3, 4).requires_grad_(), random(3, 4, seed=1).requires_grad_()
    loss = mil_nce(video, text, temperature=0.07, present=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert not video.grad.any()
    assert not text.grad.any()


@pytest.mark.parametrize("filling", [0.0, 1e30, math.nan, math.inf])
def test_absent_rows_change_nothing_and_get_no_gradient_whatever_they_hold(filling):
    video, text = random(4, 5), random(8, 5, seed=1)
    present = torch.tensor([True, True, False, True, False, False, True, True])
    reference = mil_nce(video, text, temperature=0.2, present=present)
    filled = text.clone()
    filled[~present] = filling
    filled.requires_grad_()
    loss = mil_nce(video, filled, temperature=0.2, present=present)
    loss.backward()
    assert loss.item() == reference.item()
    assert not filled.grad[~present].any()
    assert filled.grad[present].isfinite().all()


def test_a_clip_without_text_still_serves_as_a_negative_video():
    video, text = random(3, 4).requires_grad_(), random(3, 4, seed=1)
    mil_nce(video, text, temperature=0.2, present=torch.tensor([True, True, False])).backward()
    assert video.grad[2].any()


def test_the_order_of_clips_and_of_candidates_does_not_matter():
    video, text = random(4, 5), random(4, 3, 5, seed=1)
    loss = mil_nce(video, text.reshape(12, 5)).item()
    assert mil_nce(video.flip(0), text.flip(0).reshape(12, 5)).item() == pytest.approx(loss, rel=1e-12)
    assert mil_nce(video, text.flip(1).reshape(12, 5)).item() == pytest.approx(loss, rel=1e-12)


def test_captions_that_cannot_be_shared_out_are_refused_with_the_numbers():
    with pytest.raises(ShapeError, match="5 captions cannot be shared out evenly among 2 clips"):
        mil_nce(torch.ones(2, 3), torch.ones(5, 3))
    with pytest.raises(ShapeError, match="video is 3 wide but text is 4 wide"):
        mil_nce(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ShapeError, match="present has 3 entries, expected 2"):
        mil_nce(torch.ones(2, 3), torch.ones(4, 3), present=torch.ones(3, dtype=torch.bool))


# --- max-margin ranking ------------------------------------------------------------------------------------------


def test_equal_scores_cost_twice_the_margin():
    assert max_margin_ranking(torch.zeros(4, 4), margin=0.3).item() == pytest.approx(0.6)


@pytest.mark.parametrize("case", cases(MARGIN, "S"))
def test_max_margin_ranking_agrees_with_the_released_loss(case):
    weighted = bool(MARGIN[f"{case}_negw"])
    loss = max_margin_ranking(
        torch.tensor(MARGIN[f"{case}_S"]),
        margin=float(MARGIN[f"{case}_margin"]),
        clips_per_video=int(MARGIN[f"{case}_npair"]),
        hard_negative_rate=float(MARGIN[f"{case}_hard_rate"]) if weighted else None,
    )
    # The released weights are rounded to float32.
    assert loss.item() == pytest.approx(float(MARGIN[f"{case}_loss64"]), rel=1e-7 if weighted else 1e-10)


def test_max_margin_ranking_is_symmetric_and_pushes_wrong_pairs_down():
    similarity = random(6, 6).requires_grad_()
    loss = max_margin_ranking(similarity, margin=1.0)
    loss.backward()
    assert max_margin_ranking(similarity.T, margin=1.0).item() == pytest.approx(loss.item(), rel=1e-12)
    true = torch.eye(6, dtype=torch.bool)
    assert (similarity.grad[~true] >= 0).all()
    assert (similarity.grad[true] <= 0).all()


def test_weights_average_one_and_a_lone_video_has_the_hard_negatives_share():
    flat = torch.zeros(6, 6, dtype=torch.float64)
    assert max_margin_ranking(flat, margin=0.5, clips_per_video=2, hard_negative_rate=0.5).item() == pytest.approx(1.0)
    assert max_margin_ranking(flat, margin=0.5, clips_per_video=6, hard_negative_rate=0.25).item() == pytest.approx(
        0.25
    )


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5])
def test_a_hard_negative_rate_out_of_range_is_refused_with_its_value(rate):
    with pytest.raises(ConfigError, match=f"hard_negative_rate must be above 0 and at most 1, got {rate}"):
        max_margin_ranking(torch.zeros(2, 2), hard_negative_rate=rate)


def test_clips_that_do_not_fill_whole_videos_are_refused():
    with pytest.raises(ShapeError, match="5 clips cannot be split into videos of 2"):
        max_margin_ranking(torch.zeros(5, 5), clips_per_video=2, hard_negative_rate=0.5)
