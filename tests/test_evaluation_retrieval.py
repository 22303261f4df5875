"""Retrieval evaluation: values, missing clips, chance, ceiling, labels, untrained, refusals."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcnlab.errors import DataError, NonFiniteError, ShapeError
from mcnlab.evaluation import retrieval as module
from mcnlab.evaluation.retrieval import Direction, ceiling_of_recall, chance_of_recall, evaluate_retrieval
from mcnlab.metrics import retrieval_metrics

torch.set_num_threads(1)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def related(clips=80, width=8, seed=0):
    gallery = random(clips, width, seed=seed)
    return gallery + 0.5 * random(clips, width, seed=seed + 1), gallery


def without(vectors, *rows):
    vectors = vectors.copy()
    vectors[list(rows)] = np.nan
    return vectors


def values(result, subject="text->video"):
    return {row.metric: row.value for row in result.rows if row.subject == subject}


def test_rows_hold_the_metrics_of_the_contract_with_intervals():
    queries, gallery = related()
    result = evaluate_retrieval([Direction("text->video", queries, gallery)])
    expected = retrieval_metrics(torch.from_numpy(queries), torch.from_numpy(gallery))
    assert {name: values(result)[name] for name in expected} == expected
    for row in result.rows:
        assert row.task == "retrieval"
        if row.metric in expected:
            assert row.low <= row.value <= row.high
        else:
            assert row.low is None


def test_ranks_are_written_where_both_sides_are_there():
    queries, gallery = related(10)
    direction = Direction("text->video", without(queries, 2), without(gallery, 5))
    ranks = evaluate_retrieval([direction]).ranks["text->video"]
    assert ranks.isna().tolist() == [row in (2, 5) for row in range(10)]
    assert str(ranks.dtype) == "Int64"


def test_a_candidate_whose_query_is_missing_still_stands_in_the_gallery():
    gallery = np.eye(4, dtype=np.float32)
    queries = gallery.copy()
    queries[0] = gallery[3]  # asks for clip 0, but looks like clip 3
    found = evaluate_retrieval([Direction("text->video", without(queries, 3), gallery)])
    assert found.ranks["text->video"].tolist()[0] == 4  # clip 3 first, then 1 and 2 tie with the true match
    missing = evaluate_retrieval([Direction("text->video", without(queries, 3), without(gallery, 3))])
    assert missing.ranks["text->video"].tolist()[0] == 3
    assert values(missing)["chance_at_1"] == pytest.approx(1 / 3)


def test_dropping_missing_clips_gives_the_numbers_of_a_smaller_set():
    queries, gallery = related(30)
    gone = [3, 4, 17]
    kept = np.setdiff1d(np.arange(30), gone)
    all_rows = evaluate_retrieval([Direction("text->video", without(queries, *gone), without(gallery, *gone))])
    fewer = evaluate_retrieval([Direction("text->video", queries[kept], gallery[kept])])
    assert all_rows.rows == fewer.rows


def test_shuffled_pairs_fall_to_chance():
    queries, gallery = related(400)
    shuffled = queries[np.random.default_rng(0).permutation(400)]
    found = values(evaluate_retrieval([Direction("text->video", shuffled, gallery)]))
    assert found["chance_at_10"] == 0.025
    assert found["recall_at_10"] == pytest.approx(0.025, abs=4 * math.sqrt(0.025 / 400))


def test_a_collapsed_space_is_not_at_chance_but_at_zero():
    same = np.ones((50, 4), dtype=np.float32)
    found = values(evaluate_retrieval([Direction("text->video", same, same)], labels=["a", "b"] * 25))
    assert found["recall_at_10"] == 0.0
    assert found["same_label_at_1"] == pytest.approx(found["chance_same_label_at_1"])


def test_directions_do_not_change_each_other():
    queries, gallery = related(40)
    one = Direction("text->video", queries, gallery)
    other = Direction("video->text", gallery, queries)
    alone, together = evaluate_retrieval([one]), evaluate_retrieval([other, one])
    assert values(alone) == values(together)
    assert set(alone.rows) <= set(together.rows)
    assert list(together.ranks) == ["video->text", "text->video"]


def test_directions_that_mirror_each_other_share_one_pass_and_keep_their_numbers(monkeypatch):
    queries, gallery = related(60)
    queries, gallery = without(queries, 3, 8, 40), without(gallery, 8, 9)
    there, back = Direction("text->video", queries, gallery), Direction("video->text", gallery, queries)
    apart = [evaluate_retrieval([one]) for one in (there, back)]
    passes, real = [], module.ranks_both_ways
    monkeypatch.setattr(module, "ranks_both_ways", lambda *sides, **more: passes.append(1) or real(*sides, **more))
    together = evaluate_retrieval([there, back])
    assert len(passes) == 1
    assert together.rows == apart[0].rows + apart[1].rows
    for one, direction in zip(apart, (there, back), strict=True):
        pd.testing.assert_series_equal(together.ranks[direction.subject], one.ranks[direction.subject])
    evaluate_retrieval([there, Direction("video->text", 2 * gallery, queries)])
    assert len(passes) == 3  # the names mirror each other, the numbers do not


def test_the_untrained_model_stands_beside_the_trained_one():
    queries, gallery = related()
    before = Direction("text->video", random(80, 3, seed=5), random(80, 3, seed=6))
    found = values(evaluate_retrieval([Direction("text->video", queries, gallery)], untrained=[before], ks=(1, 10)))
    expected = values(evaluate_retrieval([before], ks=(1, 10)))
    assert found["untrained_at_10"] == expected["recall_at_10"]
    assert found["untrained_at_1"] < found["recall_at_1"]


def test_an_oracle_that_knows_the_key_reaches_the_ceiling_and_no_more():
    generator = np.random.default_rng(0)
    keys = generator.integers(0, 30, 600)
    vectors = np.eye(30, dtype=np.float32)[keys] + 1e-3 * random(600, 30)  # ties broken at random
    direction = Direction("text->video", np.eye(30, dtype=np.float32)[keys], vectors, keys)
    found = values(evaluate_retrieval([direction]))
    for k in (1, 5, 10):
        assert found[f"recall_at_{k}"] == pytest.approx(found[f"ceiling_at_{k}"], abs=0.05)
    assert found["ceiling_at_1"] == pytest.approx(30 / 600)


def test_the_ceiling_of_two_twins_and_a_single_is_known():
    keys = np.array(["red", "red", "blue"])
    assert ceiling_of_recall(keys, ks=(1, 2)) == {1: pytest.approx(2 / 3), 2: 1.0}
    only_blue = np.array([False, False, True])
    assert ceiling_of_recall(keys, asked=only_blue, ks=(1,)) == {1: 1.0}
    without_a_twin = np.array([True, False, True])
    assert ceiling_of_recall(keys, asked=without_a_twin, candidates=without_a_twin, ks=(1,)) == {1: 1.0}


def test_keys_may_be_any_hashable_values():
    keys = np.empty(3, dtype=object)
    keys[:] = [("red", 1), ("red", 1), None]
    assert ceiling_of_recall(keys, ks=(1,)) == {1: pytest.approx(2 / 3)}


@settings(max_examples=30, deadline=None)
@given(keys=st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_a_ceiling_lies_between_chance_and_one_and_grows_with_k(keys):
    ceiling = ceiling_of_recall(np.array(keys), ks=(1, 2, 5))
    chance = chance_of_recall(len(keys), ks=(1, 2, 5))
    assert ceiling[1] == pytest.approx(len(set(keys)) / len(keys))
    assert all(chance[k] - 1e-12 <= ceiling[k] <= 1.0 for k in (1, 2, 5))
    assert ceiling[1] <= ceiling[2] <= ceiling[5]


def test_the_best_candidate_has_the_right_label_as_often_as_by_hand():
    queries, gallery = related(60)
    labels = np.array(["cat", "dog", None], dtype=object)[np.arange(60) % 3]
    found = values(evaluate_retrieval([Direction("text->video", queries, gallery)], labels=labels))
    best = (queries @ gallery.T).argmax(axis=1)
    labeled = np.flatnonzero(labels != None)  # noqa: E711
    assert found["same_label_at_1"] == pytest.approx(np.mean(labels[best[labeled]] == labels[labeled]))
    assert found["chance_same_label_at_1"] == pytest.approx(1 / 3)


def test_without_any_label_there_is_no_label_row():
    queries, gallery = related(10)
    found = values(evaluate_retrieval([Direction("text->video", queries, gallery)], labels=[None] * 10))
    assert not any("label" in metric for metric in found)


def test_the_same_seed_gives_the_same_rows():
    direction = Direction("text->video", *related(40))
    assert evaluate_retrieval([direction], seed=3).rows == evaluate_retrieval([direction], seed=3).rows
    assert evaluate_retrieval([direction], seed=3).rows != evaluate_retrieval([direction], seed=4).rows


def test_no_direction_gives_no_rows():
    found = evaluate_retrieval([])
    assert found.rows == ()
    pd.testing.assert_frame_equal(found.ranks, pd.DataFrame())


def test_what_cannot_be_compared_is_refused_by_name():
    queries, gallery = related(6)
    with pytest.raises(DataError, match="text->video: none of 6 clips has both sides"):
        evaluate_retrieval([Direction("text->video", without(queries, 0, 1, 2), without(gallery, 3, 4, 5))])
    with pytest.raises(ShapeError, match=r"text->video: queries are \(6, 8\) but the gallery is \(5, 8\)"):
        evaluate_retrieval([Direction("text->video", queries, gallery[:5])])
    with pytest.raises(ShapeError, match="text->video: 6 clips but 2 labels"):
        evaluate_retrieval([Direction("text->video", queries, gallery)], labels=["a", "b"])
    with pytest.raises(DataError, match="at least one candidate, got 0"):
        chance_of_recall(0)


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_a_row_that_is_broken_in_part_is_no_missing_clip(broken):
    queries, gallery = related(6)
    queries[2, 1] = broken
    with pytest.raises(NonFiniteError, match="text->video: 1 embeddings are not finite, first in row 2"):
        evaluate_retrieval([Direction("text->video", queries, gallery)])
