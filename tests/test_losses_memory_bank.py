"""Memory banks against CMC's released ones, and what noise contrast costs where it is known on paper."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.losses.memory_bank import (
    WHOLE_BANK,
    bank_nce,
    bank_normalizer,
    bank_scores,
    bank_softmax,
    first_bank,
    moved_rows,
)

CMC = dict(np.load(Path(__file__).parent / "golden" / "cmc_softmax.npz", allow_pickle=False))
VIEWS = ("l", "ab")


def released(name):
    return torch.tensor(CMC[name])


def test_two_steps_agree_with_the_released_bank():
    banks = {view: released(f"memory_{view}0") for view in VIEWS}
    candidates, own = released("idx"), released("y")
    for step in ("s1", "s2"):
        embeddings = {view: released(f"{step}_{view}").requires_grad_() for view in VIEWS}
        for view, other in (("l", "ab"), ("ab", "l")):
            scores = bank_scores(embeddings[view], banks[other], candidates, temperature=float(CMC["T"]))
            np.testing.assert_allclose(scores.detach().numpy(), CMC[f"{step}_out_{view}"], rtol=1e-10)
            loss = bank_softmax(scores)
            assert loss.item() == pytest.approx(float(CMC[f"{step}_loss_{view}"]), rel=1e-10)
        for view in VIEWS:
            rows = moved_rows(banks[view], own, embeddings[view], momentum=float(CMC["momentum"]))
            banks[view] = banks[view].index_copy(0, own, rows)
            np.testing.assert_allclose(banks[view].numpy(), CMC[f"{step}_memory_{view}"], rtol=1e-10)


def test_equal_scores_cost_the_log_of_the_candidates():
    assert bank_softmax(torch.zeros(3, 8)).item() == pytest.approx(math.log(8))


def test_noise_contrast_of_equal_scores_is_that_of_a_coin_with_known_odds():
    clips, negatives = 100, 9
    scores = torch.zeros(4, negatives + 1, dtype=torch.float64)
    normalizer = bank_normalizer(scores, clips=clips)
    assert normalizer.item() == clips
    p, noise = 1 / clips, negatives / clips
    expected = -math.log(p / (p + noise)) - negatives * math.log(noise / (p + noise))
    assert bank_nce(scores, clips=clips, normalizer=normalizer).item() == pytest.approx(expected, rel=1e-5)


def test_noise_contrast_draws_the_own_row_near_and_the_others_away():
    scores = torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    bank_nce(scores, clips=20, normalizer=torch.tensor(20.0, dtype=torch.float64)).backward()
    assert (scores.grad[:, 0] < 0).all()
    assert (scores.grad[:, 1:] > 0).all()


def test_the_first_bank_has_rows_of_length_about_one():
    bank = first_bank(500, 48, generator=torch.Generator().manual_seed(0))
    assert bank.norm(dim=1).mean().item() == pytest.approx(1.0, abs=0.02)
    assert bank.abs().max() <= 1 / math.sqrt(16)


def test_a_bank_without_memory_holds_the_newest_rows():
    bank, new = torch.zeros(4, 3), torch.eye(3)[:2]
    assert torch.equal(moved_rows(bank, torch.tensor([2, 0]), new, momentum=0.0), new)


def test_refusals_quote_the_value():
    scores = {"temperature": 0.1}
    with pytest.raises(ShapeError, match="3 anchors but 2 rows"):
        bank_scores(torch.ones(3, 2), torch.ones(4, 2), torch.zeros(2, 3, dtype=torch.int64), **scores)
    with pytest.raises(ConfigError, match=r"above 0, got 0\.0"):
        bank_scores(torch.ones(2, 2), torch.ones(4, 2), torch.zeros(2, 3, dtype=torch.int64), temperature=0.0)
    with pytest.raises(ConfigError, match=r"from 0 to 1, got 1\.5"):
        moved_rows(torch.ones(2, 2), torch.tensor([0]), torch.ones(1, 2), momentum=1.5)


def test_a_bank_that_is_multiplied_whole_gives_the_scores_of_picked_rows():
    draw = torch.Generator().manual_seed(0)
    anchors = torch.randn(3, 6, generator=draw, dtype=torch.float64).requires_grad_()
    bank = torch.randn(WHOLE_BANK * 5 + 1, 6, generator=draw, dtype=torch.float64)
    candidates = torch.randint(len(bank) - 1, (3, 5), generator=draw)
    picked = bank_scores(anchors, bank, candidates, temperature=0.2)
    short = bank[:-1].clone()
    whole = bank_scores(anchors, short, candidates, temperature=0.2)
    torch.testing.assert_close(whole, picked, rtol=1e-12, atol=1e-12)
    short.zero_()  # as when the bank takes in the batch before gradients are asked for
    expected, found = (torch.autograd.grad(bank_softmax(scores), anchors)[0] for scores in (picked, whole))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
