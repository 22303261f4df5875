"""Balanced assignment by Sinkhorn–Knopp."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.losses.assignment import balanced_assignment, transport_plan

SELAVI = dict(np.load(Path(__file__).parent / "golden" / "sk_selavi_lamb5.npz", allow_pickle=False))


def random_scores(clips, classes, scale=1.0):
    return scale * torch.randn(clips, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_labels_are_those_of_the_release():
    log_probabilities = torch.from_numpy(SELAVI["probs"]).log()
    labels = balanced_assignment(log_probabilities, sharpness=float(SELAVI["lamb"]) / 2)
    np.testing.assert_array_equal(labels, SELAVI["labels"])
    cost = -0.5 * log_probabilities[torch.arange(len(labels)), labels].mean()
    assert float(cost) == pytest.approx(float(SELAVI["cost"]), rel=1e-12)


def test_rows_and_columns_of_the_plan_sum_to_equal_shares():
    plan = transport_plan(random_scores(30, 4), sharpness=5.0).exp()
    np.testing.assert_allclose(plan.sum(dim=0), np.full(4, 1 / 4), atol=1e-6)
    np.testing.assert_allclose(plan.sum(dim=1), np.full(30, 1 / 30), atol=1e-6)


def test_a_label_that_all_prefer_is_shared_out():
    scores = torch.stack([torch.full((12,), 5.0), torch.linspace(0, 1, 12)], dim=1)
    assert scores.argmax(dim=1).tolist() == [0] * 12
    assert balanced_assignment(scores, sharpness=20.0).tolist() == [0] * 6 + [1] * 6


def test_scores_before_a_softmax_give_the_same_labels():
    scores = random_scores(20, 5)
    assert balanced_assignment(scores).tolist() == balanced_assignment(scores.log_softmax(dim=1)).tolist()


def test_very_sure_scores_do_not_overflow():
    plan = transport_plan(random_scores(20, 5, scale=1e4), sharpness=10.0)
    assert bool(plan.isfinite().all())


@pytest.mark.parametrize(
    ("scores", "sharpness", "error", "words"),
    [
        (torch.zeros(0, 3), 1.0, ShapeError, r"needs clips and labels, got \(0, 3\)"),
        (torch.zeros(2, 3), 0.0, ConfigError, "sharpness must be above 0, got 0.0"),
        (torch.full((2, 3), -torch.inf), 1.0, NonFiniteError, "its logarithm is not finite"),
    ],
)
def test_what_has_no_balance_is_refused(scores, sharpness, error, words):
    with pytest.raises(error, match=words):
        balanced_assignment(scores, sharpness=sharpness)
