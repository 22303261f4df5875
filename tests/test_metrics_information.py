"""The lower bound of mutual information: values on paper, its limits, and agreement with the loss it comes from."""

import math

import numpy as np
import pytest
import torch

from mcnlab.errors import ConfigError, DataError, NonFiniteError, ShapeError
from mcnlab.evaluation.information import evaluate_information
from mcnlab.losses.contrastive import info_nce
from mcnlab.metrics.information import information_bound


def vectors(rows, width=5, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block", [1, 3, 100])
def test_the_bound_is_log_k_minus_the_loss(block):
    x, y = vectors(10), vectors(10, seed=1)
    bound = information_bound(x, y, temperature=0.3, block=block).mean()
    assert bound.item() == pytest.approx(math.log(10) - info_nce(x, y, temperature=0.3).item(), abs=1e-6)


@pytest.mark.parametrize("clips", [2, 7, 50])
def test_embeddings_that_are_all_alike_show_no_information(clips):
    x = torch.ones(clips, 3)
    assert information_bound(x, x, temperature=0.1).tolist() == pytest.approx([0.0] * clips, abs=1e-6)


def test_no_bound_exceeds_the_logarithm_of_the_candidates():
    x = torch.eye(8)
    bound = information_bound(x, x, temperature=0.001)
    assert bound.max() <= math.log(8)
    assert bound.mean().item() == pytest.approx(math.log(8), abs=1e-6)


def test_a_shared_factor_of_k_values_shows_log_k_nats():
    """Four values, each held by 100 clips whose embeddings are equal: among 400, the 100 cannot be told apart."""
    x = torch.eye(4).repeat(100, 1)
    assert information_bound(x, x, temperature=0.01).mean().item() == pytest.approx(math.log(4), abs=1e-6)


def test_the_bound_is_the_same_from_either_side():
    x, y = vectors(9), vectors(9, seed=1)
    assert torch.allclose(information_bound(x, y, temperature=0.2), information_bound(y, x, temperature=0.2))


@pytest.mark.parametrize(
    ("x", "y", "temperature", "block", "error", "said"),
    [
        (vectors(3), vectors(4), 0.1, 8, ShapeError, "y is (4, 5)"),
        (vectors(1), vectors(1), 0.1, 8, ShapeError, "at least two clips, got 1"),
        (vectors(3), vectors(3), 0.0, 8, ConfigError, "above 0, got 0.0"),
        (vectors(3), vectors(3), 0.1, 0, ConfigError, "at least 1, got 0"),
        (vectors(3) * math.inf, vectors(3), 0.1, 8, NonFiniteError, ""),
    ],
)
def test_what_cannot_be_compared_is_refused(x, y, temperature, block, error, said):
    with pytest.raises(error) as raised:
        information_bound(x, y, temperature=temperature, block=block)
    assert said in str(raised.value)


def test_clips_that_lack_a_side_are_no_candidates():
    x = np.vstack([np.eye(4), np.full((2, 4), np.nan)])
    rows = {row.metric: row for row in evaluate_information({"va": (x, x)}, temperature=0.01, shared_nats={"va": 1.0})}
    assert rows["log_candidates"].value == pytest.approx(math.log(4))
    assert rows["shared_nats"].value == 1.0
    assert rows["information_nats"].low <= rows["information_nats"].value <= rows["information_nats"].high


def test_a_pair_without_common_clips_is_refused():
    x = np.array([[1.0], [np.nan]])
    with pytest.raises(DataError, match="va: a bound needs at least two clips with both sides, got 0"):
        evaluate_information({"va": (x, x[::-1])}, temperature=0.1)
