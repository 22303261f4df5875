"""Ranks counted in tiles: those of the whole matrix, both ways, with ties and copies, in bounded memory."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.metrics import ranks_both_ways, ranks_of_true_match, retrieval_ranks, tiles, vectors

torch.set_num_threads(1)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(x, y, pairs=None):
    """Ranks both ways from the whole matrix."""
    pairs, scores = len(x) if pairs is None else pairs, x @ y.T
    own = torch.arange(pairs)
    return [ranks_of_true_match(scores[:pairs], own).tolist(), ranks_of_true_match(scores.T[:pairs], own).tolist()]


def tiled(*sides, **options):
    return [ranks.tolist() for ranks in ranks_both_ways(*sides, **options)]


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), tile=st.none() | st.integers(1, 10), data=st.data())
def test_ranks_are_those_of_the_whole_matrix_both_ways(rows, columns, tile, data):
    pairs = data.draw(st.integers(1, min(rows, columns)))
    numbers = st.integers(-2, 2).map(float)  # integers: many exact ties and equal rows
    x, y = (
        torch.tensor(data.draw(st.lists(st.tuples(numbers, numbers), min_size=size, max_size=size)))
        for size in (rows, columns)
    )
    assert tiled(x, y, pairs=pairs, tile=tile) == whole(x, y, pairs)


@pytest.mark.parametrize(("rows", "columns", "pairs"), [(300, 300, 300), (300, 170, 150), (90, 300, 70), (40, 300, 40)])
@pytest.mark.parametrize("width", [33, 512])
def test_random_scores_give_the_very_ranks_of_the_whole_matrix(rows, columns, pairs, width):
    x, y = random(rows, width), random(columns, width, seed=1)
    for tile in (48, 64, 100, None):
        assert tiled(x, y, pairs=pairs, tile=tile) == whole(x, y, pairs)


def test_candidates_that_differ_only_where_queries_are_zero_tie():
    x, y = random(200, 64), random(200, 64, seed=1)
    x[:, 40:] = 0
    y[:, :40] = y[torch.arange(200) % 50, :40]  # four of each as far as the queries can see
    there, _ = ranks_both_ways(x, y, tile=64)
    assert there.tolist() == whole(x, y)[0]
    seen = (x[:, :40].double() @ y[:50, :40].double().T).argsort(dim=1, descending=True)
    place = (seen == (torch.arange(200) % 50)[:, None]).nonzero()[:, 1]
    assert there.tolist() == (4 * place + 4).tolist()


def test_neighboring_numbers_are_told_apart():
    ladder = [1.0]
    while len(ladder) < 100:
        ladder.append(float(np.nextafter(np.float32(ladder[-1]), np.float32(2.0))))
    y = torch.zeros(100, 3)
    y[:, 1] = torch.tensor(ladder)[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    x = torch.tensor([[0.0, 1.0, 0.0]]).repeat(100, 1)
    there, back = ranks_both_ways(x, y, tile=32)
    assert sorted(there.tolist()) == list(range(1, 101))
    assert back.tolist() == [100] * 100  # all queries are one
    assert there.tolist() == whole(x, y)[0]


@pytest.mark.parametrize("tile", [4, 5, 7, 64, None])
@pytest.mark.parametrize("width", [33, 256])
def test_copies_of_the_true_match_tie_with_it_whatever_the_tile(tile, width):
    kinds = torch.arange(45) % 15
    x, y = random(15, width)[kinds], random(15, width, seed=1)[kinds]
    there, back = ranks_both_ways(x, y, tile=tile)
    scores = x[:15].double() @ y[:15].double().T
    places = [ranks_of_true_match(side, torch.arange(15)) for side in (scores, scores.T)]
    assert there.tolist() == (3 * places[0])[kinds].tolist()
    assert back.tolist() == (3 * places[1])[kinds].tolist()
    collapsed = random(1, width).expand(50, width)
    assert tiled(collapsed, collapsed, tile=tile) == [[50] * 50] * 2


def test_both_ways_are_each_others_mirror():
    x, y = random(130, 16), random(90, 16, seed=1)
    assert tiled(x, y, pairs=80, tile=32) == tiled(y, x, pairs=80, tile=32)[::-1]
    assert retrieval_ranks(x[:80], y, target=torch.arange(80)).tolist() == tiled(x, y, pairs=80)[0]


def test_never_more_scores_at_once_than_a_tile_holds(monkeypatch):
    monkeypatch.setitem(tiles.TILE_BYTES, "cpu", 4096)
    seen, real = [], torch.mm
    monkeypatch.setattr(torch, "mm", lambda *sides, out: seen.append(out.nbytes) or real(*sides, out=out))
    assert tiled(random(300, 4), random(300, 4, seed=1)) == whole(random(300, 4), random(300, 4, seed=1))
    assert max(seen) <= 4096
    assert sum(seen) < 1.3 * 4 * 300**2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_widened_and_double_stays(dtype):
    x, y = random(60, 32).to(dtype), random(60, 32, seed=1).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    assert tiled(x, y, tile=32) == whole(x.to(wide), y.to(wide))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tiled(x, y, tile=32) == whole(x.to(wide).double(), y.to(wide).double())


def test_large_scores_have_a_place_and_nan_is_refused():
    x = torch.tensor([[1.0, 1.0], [3e38, 3e38]])
    with pytest.raises(NonFiniteError, match="query 1 has a similarity that is NaN"):
        ranks_both_ways(x, torch.tensor([[1.0, 0.0], [2e38, -3e38]]))
    large = torch.tensor([[1.0, 1.0], [2e38, 3e38]])
    assert tiled(x, large) == whole(x, large) == [[2, 2], [2, 2]]
    with pytest.raises(NonFiniteError, match="1 of 3 candidate embeddings are not finite, first in row 2"):
        ranks_both_ways(torch.ones(3, 1), torch.tensor([[1.0], [1.0], [math.inf]]))


def test_what_does_not_fit_is_refused_with_its_value():
    with pytest.raises(ShapeError, match="pairs must lie between 1 and 2, got 3"):
        ranks_both_ways(torch.ones(2, 1), torch.ones(4, 1), pairs=3)
    with pytest.raises(ShapeError, match="2 queries but 4 candidates"):
        ranks_both_ways(torch.ones(2, 1), torch.ones(4, 1))
    with pytest.raises(ShapeError, match="queries are 1 wide but the gallery is 2 wide"):
        ranks_both_ways(torch.ones(2, 1), torch.ones(2, 2))
    with pytest.raises(ConfigError, match="tile must be at least 1, got 0"):
        ranks_both_ways(torch.ones(2, 1), torch.ones(2, 1), tile=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_equal_rows_are_found_also_where_sums_of_bits_collide(monkeypatch, dtype):
    rows = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], dtype=dtype)
    expected = [0, 1, 0, 3, 1]
    assert vectors.first_equal_row(rows).tolist() == expected
    assert [part.tolist() for part in vectors.distinct_rows(rows)[1:]] == [[0, 1, 0, 2, 1], [2, 2, 1]]
    monkeypatch.setattr(vectors, "NUMBERS_AT_ONCE", 3)
    assert vectors.first_equal_row(rows).tolist() == expected
    monkeypatch.setattr(vectors, "_sums_of_bits", lambda part: torch.zeros(len(part), dtype=torch.int64))
    found = vectors.first_equal_row(rows)
    assert (found[:, None] == found[None, :]).tolist() == [[a == b for b in expected] for a in expected]


def in_little_memory(rows, width, limit):
    """What `tests/many_ranks.py` tells."""
    root = Path(__file__).parents[1]
    words = [sys.executable, str(root / "tests" / "many_ranks.py"), str(rows), str(width), str(limit)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(os.cpu_count())}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_hundred_thousand_by_a_hundred_thousand_fit_into_two_gigabytes():
    told = in_little_memory(100_000, 512, 6 * 2**30)
    assert told["wrong"] == [0, 0]
    assert told["planted"] == 2 + 3 + 5 + 3
    assert told["peak_bytes"] < 2e9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tile", [None, 64])
def test_a_gpu_finds_the_same_ranks(tile):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(-3, 4, (500, 64), generator=generator).float() for _ in range(2))  # exact on both
    found = ranks_both_ways(x.cuda(), y.cuda(), tile=tile)
    assert [ranks.device.type for ranks in found] == ["cuda", "cuda"]
    assert [ranks.tolist() for ranks in found] == whole(x, y)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copies_tie_on_a_gpu_as_well():
    kinds = torch.arange(3000) % 1000
    x, y = random(1000, 512)[kinds].cuda(), random(1000, 512, seed=1)[kinds].cuda()
    there, back = ranks_both_ways(x, y, tile=256)
    assert not (there % 3).any()
    assert not (back % 3).any()
