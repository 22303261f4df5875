"""Retrieval metrics: ties, published rules, agreement with torchmetrics, blocks, refusals."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_recall

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError
from mcnlab.metrics import (
    published_retrieval_metrics,
    ranks_of_true_match,
    retrieval_metrics,
    retrieval_ranks,
    same_label_share,
    summary_of_ranks,
)
from mcnlab.metrics import retrieval as module

torch.set_num_threads(1)
with np.load(Path(__file__).parent / "golden" / "retrieval_metrics.npz", allow_pickle=False) as arrays:
    GOLDEN = {key: arrays[key] for key in arrays.files}
FINITE = sorted(key[:-2] for key in GOLDEN if key.endswith("_x") and np.isfinite(GOLDEN[key]).all())
NOT_FINITE = sorted(key[:-2] for key in GOLDEN if key.endswith("_x") and np.isnan(GOLDEN[key]).any())
KS = (1, 5, 10)


def scored(case, *, transposed=False):
    """Queries and a gallery whose dot products are exactly the stored scores."""
    scores = torch.tensor(GOLDEN[f"{case}_x"])
    scores = (scores.T if transposed else scores).contiguous()
    return scores, torch.eye(len(scores), dtype=scores.dtype)


def as_published(found):
    return [found[name] for name in ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank")]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_ranks(scores, target):
    pairs = zip(scores.tolist(), target.tolist(), strict=True)
    return [sum(other >= row[true] for other in row) for row, true in pairs]


def test_the_place_of_the_true_match_is_its_rank():
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    assert ranks_of_true_match(similarity, torch.tensor([0, 1, 2])).tolist() == [1, 2, 3]


def test_infinite_scores_have_a_place_too():
    similarity = torch.tensor([[-math.inf, 0.0], [math.inf, 0.0]])
    assert ranks_of_true_match(similarity, torch.tensor([0, 0])).tolist() == [2, 1]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), queries=st.integers(1, 8), candidates=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_ranks_are_those_of_counting_by_hand_however_they_are_blocked(data, queries, candidates, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-2, 3, (queries, 3), generator=generator).float()  # integers: many exact ties
    y = torch.randint(-2, 3, (candidates, 3), generator=generator).float()
    target = torch.randint(candidates, (queries,), generator=generator)
    expected = naive_ranks(x @ y.T, target)
    block = data.draw(st.none() | st.integers(1, queries))
    assert retrieval_ranks(x, y, target=target, block=block).tolist() == expected
    assert ranks_of_true_match(x @ y.T, target).tolist() == expected


def test_a_collapsed_space_is_last_everywhere():
    same = torch.ones(20, 4)
    assert retrieval_ranks(same, same).tolist() == [20] * 20
    assert retrieval_metrics(same, same)["recall_at_10"] == 0.0


@pytest.mark.parametrize("width", [3, 17, 64, 301])
def test_copies_in_the_gallery_tie_exactly_whatever_their_column(width):
    queries = random(97, width)
    gallery = random(33, width, seed=1).repeat(3, 1)[:97]  # each candidate two or three times
    copies = torch.bincount(torch.arange(97) % 33, minlength=33)[torch.arange(97) % 33]
    found = published_retrieval_metrics(queries, gallery, rule="optimistic")
    against = retrieval_ranks(queries, gallery)
    distinct = retrieval_ranks(queries[:33].contiguous(), gallery[:33].contiguous())
    assert (against >= copies).all()
    optimistic = summary_of_ranks((against - copies + 1).numpy())
    assert found["mean_rank"] == pytest.approx(optimistic["mean_rank"])
    assert (against[:33] >= distinct).all()


def test_blocks_change_nothing(monkeypatch):
    queries, gallery = random(50, 16), random(50, 16, seed=1)
    whole = retrieval_ranks(queries, gallery)
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 120)
    assert torch.equal(retrieval_ranks(queries, gallery), whole)
    assert torch.equal(retrieval_ranks(queries, gallery, block=7), whole)


def test_never_more_scores_at_once_than_allowed(monkeypatch):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 1000)
    blocks = module.score_blocks(random(300, 4), random(300, 4, seed=1), None)
    assert max(scores.numel() for _, scores in blocks) <= 1000


def test_unrelated_embeddings_are_at_chance():
    found = retrieval_metrics(random(2000, 32), random(2000, 32, seed=1), ks=(1, 100))
    assert found["recall_at_100"] == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 2000))
    assert found["mean_rank"] == pytest.approx(1000.5, abs=4 * 2000 / math.sqrt(12 * 2000))


def test_order_of_queries_and_candidates_does_not_matter():
    queries, gallery = random(40, 8), random(40, 8, seed=1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    found = retrieval_metrics(queries[order], gallery, target=order)
    assert found == retrieval_metrics(queries, gallery)
    assert retrieval_metrics(queries[order], gallery[order]) == found


@pytest.mark.parametrize("k", KS)
def test_recall_agrees_with_torchmetrics_where_there_are_no_ties(k):
    queries, gallery = random(60, 8), random(60, 8, seed=1)
    gallery[:40] += queries[:40]
    scores, truth = queries @ gallery.T, torch.eye(60, dtype=torch.bool)
    found = retrieval_metrics(queries, gallery)[f"recall_at_{k}"]
    for metric in (retrieval_hit_rate, retrieval_recall):
        theirs = np.mean([metric(row, true, top_k=k).item() for row, true in zip(scores, truth, strict=True)])
        assert found == pytest.approx(theirs)


@pytest.mark.parametrize("case", [case for case in FINITE if case.startswith("rand")])
def test_without_ties_ours_is_the_published_number(case):
    assert as_published(retrieval_metrics(*scored(case))) == pytest.approx(GOLDEN[f"{case}_mcn_lang0"].tolist())


@pytest.mark.parametrize("case", FINITE)
def test_published_rules_give_the_published_numbers(case):
    for suffix, transposed in (("lang0", False), ("lang1", True)):
        found = retrieval_metrics(*scored(case, transposed=transposed), ties="published")
        assert as_published(found) == pytest.approx(GOLDEN[f"{case}_mcn_{suffix}"].tolist())
    found = published_retrieval_metrics(*scored(case), rule="mcn", queries_total=1000)
    assert as_published(found) == pytest.approx(GOLDEN[f"{case}_mcn_msrvtt"].tolist())
    found = published_retrieval_metrics(*scored(case), rule="mil_nce")
    assert as_published(found) == pytest.approx(GOLDEN[f"{case}_milnce"].tolist())


@pytest.mark.parametrize("case", FINITE)
@pytest.mark.parametrize(("rule", "name"), [("averaged", "averaging"), ("optimistic", "optimistically")])
def test_everything_at_once_rules_give_its_numbers(case, rule, name):
    for total, suffix in ((None, "N"), (int(GOLDEN[f"{case}_eao_cds"]), "cds")):
        found = published_retrieval_metrics(*scored(case), rule=rule, ks=(1, 5, 10, 50), queries_total=total)
        percent = [100 * found[f"recall_at_{k}"] for k in (1, 5, 10, 50)]
        expected = GOLDEN[f"{case}_eao_{name}_{suffix}"]
        assert [*percent, found["median_rank"], found["mean_rank"]] == pytest.approx(expected[:6].tolist())


@pytest.mark.parametrize("case", FINITE)
def test_our_ties_are_never_kinder_than_the_published_ones(case):
    ours = retrieval_metrics(*scored(case))
    published = published_retrieval_metrics(*scored(case), rule="averaged")
    assert all(ours[f"recall_at_{k}"] <= published[f"recall_at_{k}"] for k in KS)


@pytest.mark.parametrize("case", NOT_FINITE)
def test_a_similarity_that_is_nan_is_refused(case):
    scores = torch.tensor(GOLDEN[f"{case}_x"])
    with pytest.raises(NonFiniteError, match="has a similarity that is NaN"):
        ranks_of_true_match(scores, torch.arange(len(scores)))
    with pytest.raises(NonFiniteError, match=r"query embeddings are not finite, first in row \d"):
        retrieval_metrics(*scored(case))


def test_products_that_overflow_to_nan_are_refused():
    queries = torch.tensor([[1.0, 1.0], [3e38, 3e38]])
    gallery = torch.tensor([[1.0, 0.0], [2e38, -3e38]])
    with pytest.raises(NonFiniteError, match="query 1 has a similarity that is NaN"):
        retrieval_ranks(queries, gallery)


def test_half_precision_embeddings_are_scored_in_float32():
    queries, gallery = random(64, 32).half(), random(64, 32, seed=1).half()
    expected = retrieval_ranks(queries.float(), gallery.float())
    assert torch.equal(retrieval_ranks(queries, gallery), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(retrieval_ranks(queries, gallery), expected)


def test_the_middle_rank_of_an_even_number_is_the_mean_of_two():
    assert summary_of_ranks(np.array([1, 2, 5, 100]))["median_rank"] == 3.5


def test_same_label_share_splits_a_tie():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    gallery = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    share = same_label_share(queries, gallery, torch.tensor([0, 0, 0]), torch.tensor([0, 1]))
    assert share.tolist() == [1.0, 0.0, 0.5]
    assert not same_label_share(queries, gallery, torch.tensor([0, 0, 0]), torch.tensor([-1, -1])).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 3), torch.ones(2, 4)), "queries are 3 wide but the gallery is 4 wide"),
        ((torch.ones(2, 3), torch.ones(5, 3)), "2 queries but 5 candidates, and no target"),
        ((torch.ones(0, 3), torch.ones(0, 3)), "at least one query and one candidate, got 0 and 0"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ShapeError, match=message):
        retrieval_metrics(*arguments)


def test_targets_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="2 queries but 1 targets"):
        ranks_of_true_match(torch.ones(2, 2), torch.tensor([0]))
    with pytest.raises(ShapeError, match="between 0 and 1, got 7"):
        ranks_of_true_match(torch.ones(1, 2), torch.tensor([7]))
    with pytest.raises(ShapeError, match="between 0 and 1, got -1"):
        ranks_of_true_match(torch.ones(1, 2), torch.tensor([-1]))
    with pytest.raises(ShapeError, match="but 1 and 2 labels"):
        same_label_share(torch.ones(2, 2), torch.ones(2, 2), torch.tensor([0]), torch.tensor([0, 1]))


def test_numbers_out_of_range_are_refused_with_their_value():
    eye = torch.eye(2)
    with pytest.raises(ConfigError, match="must be at least 1, got 0"):
        retrieval_metrics(eye, eye, ks=(0,))
    with pytest.raises(ConfigError, match="block must be at least 1, got 0"):
        retrieval_ranks(eye, eye, block=0)
    with pytest.raises(ConfigError, match="queries_total=1 does not go with 2 queries"):
        published_retrieval_metrics(eye, eye, queries_total=1)
    with pytest.raises(ShapeError, match="at least one query, got 0"):
        summary_of_ranks(np.array([], dtype=np.int64))


def test_reports_can_take_the_statistics_without_loading_torch():
    code = "import sys, mcnlab.metrics.statistics, mcnlab.metrics.clustering; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
