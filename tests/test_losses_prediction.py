"""Cross-view prediction: errors known on paper, codes, and refusals."""

import math

import pytest
import torch

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.losses.prediction import absolute_error, code_cross_entropy, nearest_codes, squared_error


def test_errors_are_means_over_all_numbers():
    predicted, target = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.zeros(2, 2)
    assert absolute_error(predicted, target).item() == 1.0
    assert squared_error(predicted, target).item() == 2.5


def test_half_precision_is_widened_before_it_is_squared():
    large = torch.full((1, 2), 300.0, dtype=torch.float16)
    assert squared_error(large, torch.zeros_like(large)).item() == 90000.0


def test_a_row_gets_its_nearest_code_however_long_the_codes_are():
    codebook = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 1.0]])
    assert nearest_codes(torch.tensor([[6.0, 0.0], [4.0, 0.0], [0.0, 0.6]]), codebook).tolist() == [1, 0, 2]


def test_knowing_nothing_costs_the_log_of_the_codes():
    assert code_cross_entropy(torch.zeros(5, 7), torch.arange(5)).item() == pytest.approx(math.log(7))


def test_the_gradient_raises_the_right_code():
    logits = torch.zeros(1, 3, requires_grad=True)
    code_cross_entropy(logits, torch.tensor([1])).backward()
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]


def test_refusals_quote_the_value():
    with pytest.raises(ShapeError, match="2 rows but 3 codes"):
        code_cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ConfigError, match="from 0 to 2, got 0 to 3"):
        code_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ShapeError, match="no entries"):
        nearest_codes(torch.zeros(2, 3), torch.zeros(0, 3))
