"""Losses of labeled embeddings and of language guidance: released values, numbers on paper, directions, refusals."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.losses import margin_loss, multi_similarity, relation_match
from mcnlab.losses.language import language_similarity
from mcnlab.numerics import l2_normalize

GOLDEN = Path(__file__).parent / "golden" / "language_guidance.npz"


@pytest.fixture(scope="module")
def golden():
    return {name: torch.from_numpy(np.array(x)) for name, x in np.load(GOLDEN, allow_pickle=False).items()}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("names", ["elg", "plg"])
@pytest.mark.parametrize("direction", ["backward", "forward"])
@pytest.mark.parametrize("temperature", [1, 2])
@pytest.mark.parametrize("shift", [1, 0.5])
def test_guidance_agrees_with_the_released_loss_and_gradient(golden, names, direction, temperature, shift):
    known = golden[f"{names}_embeds"]
    known = known[:, None] if known.ndim == 2 else known
    batch = golden["batch"].clone().requires_grad_()
    loss = relation_match(
        batch,
        known[golden["labels"]],
        golden["labels"],
        shift=float(shift),
        temperature=float(temperature),
        direction=direction,
    )
    loss.backward()
    key = f"{names}_{direction}_T{temperature}_shift{shift}"
    assert loss.item() == pytest.approx(golden[f"{key}_loss"].item(), rel=1e-9)
    released, rows = golden[f"{key}_grad"], golden["batch"]  # there rows are not scaled to unit length, as here
    along = released - (released * rows).sum(dim=1, keepdim=True) * rows  # so that length has no gradient
    torch.testing.assert_close(batch.grad, along, rtol=1e-7, atol=1e-9)


def test_the_similarities_of_language_are_the_released_ones(golden):
    plg = golden["plg_embeds"][golden["labels"]]
    torch.testing.assert_close(language_similarity(plg), golden["plg_lang_sims"], rtol=1e-9, atol=1e-9)


def test_embeddings_arranged_as_language_says_cost_nothing_and_others_more():
    language, labels = drawn(5, 1, 7), torch.arange(5)
    assert relation_match(language[:, 0], language, labels, shift=0.0).item() == pytest.approx(0.0, abs=1e-12)
    assert relation_match(drawn(5, 7, seed=1), language, labels, shift=0.0).item() > 0.01


def test_guidance_does_not_change_with_the_order_of_clips_or_the_length_of_embeddings():
    x, language, labels = drawn(6, 4), drawn(6, 2, 5, seed=1), torch.tensor([0, 0, 1, 2, 2, 3])
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    found = relation_match(x, language, labels)
    assert relation_match(x[order] * 7, language[order], labels[order]).item() == pytest.approx(found.item())


def test_guidance_turns_a_clip_towards_what_language_calls_close():
    labels, language = torch.arange(3), l2_normalize(torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1.0]]))[:, None]
    x = l2_normalize(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])).requires_grad_()
    relation_match(x, language, labels).backward()
    assert x.grad[0, 1] < x.grad[0, 2] - 1e-3  # down the gradient: more towards the second clip than the third


def test_multi_similarity_of_two_clips_of_two_classes_on_paper():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = math.log1p(math.exp(40 * 0.5)) / 40  # nobody to pull: the farthest of the own class is nowhere
    assert multi_similarity(x, torch.tensor([0, 1]), margin=0.1).item() == pytest.approx(0.0)
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    near = math.log1p(math.exp(-2 * 0.5)) / 2
    both = near + expected
    assert multi_similarity(x, labels).item() == pytest.approx((2 * both + 0.0) / 3, rel=1e-5)


def test_pairs_that_are_right_by_the_margin_cost_nothing():
    x, labels = torch.tensor([[1.0, 0.0], [0.99, 0.01], [0.0, 1.0], [0.01, 0.99]]), torch.tensor([0, 0, 1, 1])
    assert multi_similarity(x, labels).item() == pytest.approx(0.0)
    assert multi_similarity(x, torch.tensor([0, 1, 0, 1])).item() > 0.3


def test_margin_loss_on_paper():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert margin_loss(x, torch.tensor([0, 0])).item() == pytest.approx(math.sqrt(2) - 1.0, rel=1e-5)
    assert margin_loss(x, torch.tensor([0, 1])).item() == pytest.approx(0.0)  # farther than 1.2 + 0.2
    assert margin_loss(x, torch.tensor([0, 1]), margin=0.3).item() == pytest.approx(1.5 - math.sqrt(2), rel=1e-5)


@pytest.mark.parametrize("loss", [multi_similarity, margin_loss])
def test_a_step_down_the_gradient_brings_a_class_together(loss):
    x, labels = drawn(12, 6).requires_grad_(), torch.arange(12) % 3
    before = loss(x, labels)
    before.backward()
    assert torch.isfinite(x.grad).all()
    assert loss((x - 0.1 * x.grad).detach(), labels) < before


@pytest.mark.parametrize("loss", [multi_similarity, margin_loss])
def test_equal_embeddings_have_a_finite_gradient(loss):
    x = torch.ones(4, 3, requires_grad=True)
    loss(x, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda x, y: multi_similarity(x, y[:3]), ShapeError, "4 embeddings but 3 labels"),
        (lambda x, y: multi_similarity(x, y, beta=0.0), ConfigError, "must be above 0, got 2.0 and 0.0"),
        (lambda x, y: multi_similarity(x, y, margin=-0.5), ConfigError, "margin must not be negative, got -0.5"),
        (lambda x, y: margin_loss(x, y, boundary=0.0), ConfigError, "got 0.0 and 0.2"),
        (lambda x, y: relation_match(x, x[:3, None], y), ShapeError, "4 embeddings but 3 rows of language"),
        (lambda x, y: relation_match(x, x[:, None], y, temperature=0.0), ConfigError, "above 0, got 0.0"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call(torch.eye(4), torch.arange(4))
