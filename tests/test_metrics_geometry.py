"""Geometry metrics: values on paper, blocks, refusals."""

import math

import pytest
import torch

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.metrics import alignment, modality_gap, uniformity
from mcnlab.metrics import geometry as module

torch.set_num_threads(1)


def unit(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1)


def test_equal_pairs_are_aligned_and_opposite_ones_four_apart():
    x = unit(10, 4)
    assert alignment(x, x) == 0.0
    assert alignment(x, -x) == pytest.approx(4.0)


def test_unrelated_directions_are_two_apart():
    assert alignment(unit(4000, 64), unit(4000, 64, seed=1)) == pytest.approx(2.0, abs=0.02)


def test_uniformity_is_the_log_of_the_mean_potential_over_pairs():
    x = unit(40, 5)
    expected = torch.pdist(x).square().mul(-2).exp().mean().log().item()
    assert uniformity(x) == pytest.approx(expected, rel=1e-9)
    assert uniformity(x.float()) == pytest.approx(expected, rel=1e-5)
    assert uniformity(x, sharpness=0.5) == pytest.approx(torch.pdist(x).square().mul(-0.5).exp().mean().log().item())


def test_uniformity_of_two_opposite_points_is_known():
    assert uniformity(torch.tensor([[1.0], [-1.0]])) == pytest.approx(-8.0)


def test_uniformity_falls_when_clips_spread():
    narrow = torch.nn.functional.normalize(unit(50, 8) + 3 * unit(1, 8, seed=1), dim=1)
    assert uniformity(unit(50, 8)) < uniformity(narrow) < uniformity(torch.ones(5, 8)) + 1e-6


def test_far_points_do_not_underflow():
    assert math.isfinite(uniformity(torch.tensor([[0.0], [1000.0]])))


def test_uniformity_does_not_depend_on_the_blocks(monkeypatch):
    x = unit(50, 4)
    whole = uniformity(x)
    monkeypatch.setattr(module, "DISTANCES_AT_ONCE", 170)
    assert uniformity(x) == pytest.approx(whole, rel=1e-12)


def test_the_gap_is_the_distance_of_the_centers():
    x = unit(30, 3)
    offset = torch.tensor([0.3, 0.0, 0.4], dtype=torch.float64)
    assert modality_gap(x, x + offset) == pytest.approx(0.5)
    assert modality_gap(x + offset, x) == pytest.approx(0.5)
    assert modality_gap(x, x.flip(0)[:, :]) == pytest.approx(0.0, abs=1e-12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"x is \(2, 3\) but y is \(2, 4\)"):
        alignment(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ShapeError, match=r"x is \(0, 3\)"):
        modality_gap(torch.ones(0, 3), torch.ones(2, 3))
    with pytest.raises(ShapeError, match="at least two clips, got 1"):
        uniformity(torch.ones(1, 3))
    with pytest.raises(ConfigError, match=r"sharpness must be above 0, got -1\.0"):
        uniformity(torch.ones(2, 3), sharpness=-1.0)
