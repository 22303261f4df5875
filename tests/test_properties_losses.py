"""What holds for every loss, whatever the numbers: order, symmetry, masks, gradients, and the plain sum in float64."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcnlab.batch import Batch, Outputs
from mcnlab.losses import (
    centroid_contrast,
    distilled_logits,
    feature_error,
    info_nce,
    margin_loss,
    masked_margin_softmax,
    max_margin_ranking,
    mil_nce,
    multi_similarity,
    negative_cosine,
    reconstruction_error,
    relation_match,
    symmetric_mil_nce,
)
from mcnlab.losses.memory_bank import bank_nce, bank_normalizer, bank_scores, bank_softmax
from mcnlab.losses.prediction import absolute_error, squared_error
from mcnlab.models.graph import shared_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.numerics import l2_normalize
from mcnlab.training.contrast_term import ContrastTerm
from mcnlab.training.terms import Active

FEW = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=25)
MARGIN, TEMPERATURE = 0.2, 0.3
PAIRS = {
    "masked_margin_softmax": lambda x, y: masked_margin_softmax(x @ y.T, margin=MARGIN),
    "info_nce": lambda x, y: info_nce(x, y, temperature=TEMPERATURE),
    "mil_nce": lambda x, y: mil_nce(x, y, temperature=TEMPERATURE),
    "symmetric_mil_nce": lambda x, y: symmetric_mil_nce(x, y, temperature=TEMPERATURE),
    "max_margin_ranking": lambda x, y: max_margin_ranking(x @ y.T, margin=MARGIN),
    "negative_cosine": negative_cosine,
    "absolute_error": absolute_error,
    "squared_error": squared_error,
    "reconstruction_error": lambda x, y: reconstruction_error(x, y).mean(),
    "feature_error": feature_error,
    "distilled_logits": distilled_logits,
}
"""Losses of two rows per clip; row i belongs to row i."""
ONE_SIDED = {"negative_cosine", "feature_error", "distilled_logits"}
"""No gradient goes to the second."""
LABELED = {
    "multi_similarity": multi_similarity,
    "margin_loss": margin_loss,
    "relation_match": lambda x, labels: relation_match(x, torch.eye(4, dtype=x.dtype)[labels][:, None], labels),
}
"""Losses of one row and a class per clip."""

sizes = {"clips": st.integers(1, 6), "dim": st.integers(1, 5), "seed": st.integers(0, 10_000)}
scales = st.sampled_from([0.0, 1e-30, 1e-8, 1.0, 100.0, 1e6])


def numbers(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def order(clips, seed):
    return torch.randperm(clips, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PAIRS)
@given(**sizes)
@FEW
def test_the_order_of_clips_does_not_matter(name, clips, dim, seed):
    x, y, turned = numbers(clips, dim, seed=seed), numbers(clips, dim, seed=seed + 1), order(clips, seed)
    assert PAIRS[name](x[turned], y[turned]).item() == pytest.approx(PAIRS[name](x, y).item(), abs=1e-9)


@pytest.mark.parametrize("name", LABELED)
@given(**sizes)
@FEW
def test_neither_order_nor_the_numbers_of_classes_matter(name, clips, dim, seed):
    x, labels, turned = numbers(clips, dim, seed=seed), order(16, seed)[:clips] % 4, order(clips, seed)
    loss = LABELED[name](x, labels).item()
    assert LABELED[name](x[turned], labels[turned]).item() == pytest.approx(loss, abs=1e-9)
    assert LABELED[name](x, (labels + 1) % 4).item() == pytest.approx(loss, abs=1e-9)
    assert loss >= -1e-12


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - {"distilled_logits"}))
@given(**sizes)
@FEW
def test_the_two_sides_may_change_places(name, clips, dim, seed):
    x, y = numbers(clips, dim, seed=seed), numbers(clips, dim, seed=seed + 1)
    assert PAIRS[name](x, y).item() == pytest.approx(PAIRS[name](y, x).item(), abs=1e-9)


def plain(name, x, y):
    """The loss of two lists of rows, summed up in words."""
    clips = range(len(x))
    unit_x, unit_y = ([[v / math.hypot(*row) for v in row] for row in rows] for rows in (x, y))
    dot = [[sum(a * b for a, b in zip(x[i], y[j], strict=True)) for j in clips] for i in clips]
    cosine = [[sum(a * b for a, b in zip(unit_x[i], unit_y[j], strict=True)) for j in clips] for i in clips]
    warm = [[c / TEMPERATURE for c in row] for row in cosine]
    squares = [(a - b) ** 2 for p, q in zip(x, y, strict=True) for a, b in zip(p, q, strict=True)]
    if name == "masked_margin_softmax":
        taken = [[dot[i][j] - MARGIN * (i == j) for j in clips] for i in clips]
        return sum(mean(lse(row(taken, i, k)) - taken[i][i] for i in clips) for k in (0, 1))
    if name == "info_nce":
        return sum(mean(lse(row(warm, i, k)) - warm[i][i] for i in clips) for k in (0, 1)) / 2
    if name == "mil_nce":
        return mean(lse(row(warm, i, 0) + row(warm, i, 1)) - warm[i][i] for i in clips)
    if name == "symmetric_mil_nce":
        return sum(mean(lse(row(warm, i, k)) - warm[i][i] for i in clips) for k in (0, 1))
    if name == "max_margin_ranking":
        cells = [(i, j) for i in clips for j in clips]
        return mean(sum(max(0.0, MARGIN + dot[i][j] - dot[k][k]) for k in (i, j)) for i, j in cells)
    if name == "negative_cosine":
        return -mean(cosine[i][i] for i in clips)
    if name == "absolute_error":
        return mean(math.sqrt(square) for square in squares)
    if name == "distilled_logits":
        return 16 * mean(divergence([v / 4 for v in q], [v / 4 for v in p]) for p, q in zip(x, y, strict=True))
    return mean(squares)


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def row(table, i, k):
    """A row of a table, or a column."""
    return [table[i][j] if k == 0 else table[j][i] for j in range(len(table))]


def lse(values):
    return max(values) + math.log(math.fsum(math.exp(value - max(values)) for value in values))


def divergence(q, p):
    """Of two rows of scores: Σ q log(q/p)."""
    return math.fsum(math.exp(a - lse(q)) * ((a - lse(q)) - (b - lse(p))) for a, b in zip(q, p, strict=True))


@pytest.mark.parametrize("name", PAIRS)
@given(**sizes, scale=st.sampled_from([0.01, 1.0, 30.0]))
@FEW
def test_float32_agrees_with_the_sum_written_out(name, clips, dim, seed, scale):
    x, y = (scale * numbers(clips, dim, seed=seed + k, dtype=torch.float32) for k in (0, 1))
    wanted = plain(name, x.double().tolist(), y.double().tolist())
    assert PAIRS[name](x.double(), y.double()).item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert PAIRS[name](x, y).item() == pytest.approx(wanted, rel=1e-4, abs=1e-5 * max(1.0, scale**2))


@pytest.mark.parametrize("name", PAIRS)
@given(**sizes, first=scales, second=scales, same=st.booleans())
@FEW
def test_values_and_gradients_are_finite_whatever_the_size(name, clips, dim, seed, first, second, same):
    x = (first * numbers(clips, dim, seed=seed, dtype=torch.float32)).requires_grad_()
    y = (second * numbers(clips, dim, seed=seed + (not same), dtype=torch.float32)).requires_grad_()
    loss = PAIRS[name](x, y)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(x.grad.isfinite().all())
    assert (y.grad is None) if name in ONE_SIDED else bool(y.grad.isfinite().all())


@pytest.mark.parametrize("name", LABELED)
@given(**sizes, scale=scales, same=st.booleans())
@FEW
def test_labeled_losses_have_finite_gradients_whatever_the_size(name, clips, dim, seed, scale, same):
    x = (scale * numbers(clips, dim, seed=seed, dtype=torch.float32)).requires_grad_()
    loss = LABELED[name](x[:1].expand(clips, dim) if same else x, order(16, seed)[:clips] % 4)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("clips", [1, 3])
def test_gradients_are_those_of_small_steps(name, clips):
    x, y = (numbers(clips, 3, seed=k).requires_grad_(k == 0 or name not in ONE_SIDED) for k in (0, 1))
    assert torch.autograd.gradcheck(PAIRS[name], (x, y))


@pytest.mark.parametrize("name", LABELED)
def test_gradients_of_labeled_losses_are_those_of_small_steps(name):
    x, labels = numbers(5, 3, seed=2).requires_grad_(), torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x: LABELED[name](x, labels), (x,))


@pytest.mark.parametrize("loss", [mil_nce, symmetric_mil_nce])
@given(clips=st.integers(1, 4), captions=st.integers(1, 3), seed=st.integers(0, 999), data=st.data())
@FEW
def test_an_absent_caption_changes_nothing_whatever_its_row_holds(loss, clips, captions, seed, data):
    flags = data.draw(st.lists(st.booleans(), min_size=clips * captions, max_size=clips * captions))
    present = torch.tensor(flags)
    video, text = numbers(clips, 3, seed=seed), numbers(clips * captions, 3, seed=seed + 1)
    spoilt = text.clone()
    spoilt[~present] = torch.nan
    spoilt.requires_grad_()
    value = loss(video, spoilt, temperature=TEMPERATURE, present=present)
    assert value.item() == loss(video, text, temperature=TEMPERATURE, present=present).item()
    value.backward()
    assert bool((spoilt.grad[~present] == 0).all())


@given(clips=st.integers(2, 6), seed=st.integers(0, 999), temperature=st.sampled_from([None, 0.1]))
@FEW
def test_a_row_without_a_centroid_changes_nothing(clips, seed, temperature):
    x, centroids = numbers(clips, 4, seed=seed), numbers(3, 4, seed=seed + 1)
    own = order(9, seed)[:clips] % 3
    own[0] = -1
    loss = centroid_contrast(x, centroids, own, margin=MARGIN, temperature=temperature)
    without = centroid_contrast(x[1:], centroids, own[1:], margin=MARGIN, temperature=temperature)
    assert loss.item() == pytest.approx(without.item(), abs=1e-12)


@pytest.fixture(scope="module")
def model():
    small = ModelSizes({"video": 3, "audio": 4}, dim=3, audio_width=8, audio_blocks=1)
    return MultimodalModel(small, shared_graph(("video", "audio"), ("va",)), faithful=False, decoders=False, seed=0)


@given(clips=st.integers(2, 7), seed=st.integers(0, 999), data=st.data())
@FEW
def test_a_clip_that_lacks_a_modality_leaves_no_trace_in_a_pair(model, clips, seed, data):
    flags = torch.tensor(data.draw(st.lists(st.booleans(), min_size=clips, max_size=clips)))
    term = ContrastTerm(weight=1.0, loss=lambda x, y, t, _: info_nce(x, y, temperature=t), temperature=TEMPERATURE)
    video, audio = numbers(clips, 3, seed=seed).requires_grad_(), numbers(clips, 3, seed=seed + 1)

    def value(rows, has_audio):
        present = {"video": torch.ones(len(has_audio), dtype=torch.bool), "audio": has_audio}
        outputs = Outputs({}, {("video", "joint"): video[rows], ("audio", "joint"): audio[rows]}, present)
        batch = Batch({}, {}, present, torch.arange(len(has_audio)))
        return term(model, batch, outputs, Active(("video", "audio"), ("va",), 0)).total

    with_all, alone = value(slice(None), flags), value(flags, flags[flags])
    assert (with_all is None) == (alone is None) == (int(flags.sum()) < 2)
    if with_all is not None:
        assert with_all.item() == pytest.approx(alone.item(), abs=1e-12)
        (gradient,) = torch.autograd.grad(with_all, video)
        assert bool((gradient[~flags] == 0).all())


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
@pytest.mark.parametrize("form", ["softmax", "nce"])
@given(clips=st.integers(1, 5), seed=st.integers(0, 999), same=st.booleans())
@FEW
def test_a_memory_bank_is_finite_at_every_temperature(temperature, form, clips, seed, same):
    anchors = numbers(clips, 4, seed=seed, dtype=torch.float32).requires_grad_()
    bank = l2_normalize(anchors.detach() if same else numbers(clips, 4, seed=seed + 1, dtype=torch.float32))
    candidates = torch.stack([torch.arange(clips), order(clips, seed), order(clips, seed + 1)], dim=1)
    scores = bank_scores(anchors, bank, candidates, temperature=temperature)
    loss = bank_softmax(scores)
    if form == "nce":
        wide = scores.double()  # as the term does it
        loss = bank_nce(wide, clips=clips, normalizer=bank_normalizer(wide, clips=clips))
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(anchors.grad.isfinite().all())


@given(
    **sizes, scale=st.sampled_from([1e-30, 1e-5, 1.0, 1e6, 1e18, 1e25]), dtype=st.sampled_from(["float32", "float64"])
)
@FEW
def test_normalized_rows_are_of_unit_length_or_shorter_or_not_a_number(clips, dim, seed, scale, dtype):
    x = scale * numbers(clips, dim, seed=seed, dtype=getattr(torch, dtype))
    unit = l2_normalize(x).norm(dim=1)
    length = x.double().norm(dim=1)
    whole = (length > 1e-5) & ((length < 1e19) | (x.dtype == torch.float64))
    assert torch.allclose(unit[whole], torch.ones_like(unit[whole]))
    assert bool((unit[length < 1e-6] <= 1).all())
    assert bool(unit[(length > 2e19) & (x.dtype == torch.float32)].isnan().all())
