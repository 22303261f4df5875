"""Geometry evaluation: rows of pairs and modalities, missing clips, refusals."""

import numpy as np
import pytest

from mcnlab.errors import DataError, ShapeError
from mcnlab.evaluation.geometry import evaluate_geometry
from mcnlab.evaluation.rows import present_rows, unit_rows


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def without(vectors, *rows):
    vectors = vectors.copy()
    vectors[list(rows)] = np.nan
    return vectors


def test_pairs_have_alignment_and_gap_and_modalities_uniformity():
    x, y = random(30, 4), random(30, 4, seed=1)
    rows = evaluate_geometry({"video-text": (x, y)}, {"video": x, "text": y})
    found = {(row.subject, row.metric): row.value for row in rows}
    assert list(found) == [
        ("video-text", "alignment"),
        ("video-text", "modality_gap"),
        ("video", "uniformity"),
        ("text", "uniformity"),
    ]
    by_hand = ((unit_rows(x) - unit_rows(y)) ** 2).sum(axis=1).mean()
    assert found["video-text", "alignment"] == pytest.approx(by_hand, rel=1e-5)
    assert {row.task for row in rows} == {"geometry"}


def test_length_does_not_matter_and_equal_sides_coincide():
    x = random(20, 4)
    alignment, gap = evaluate_geometry({"video-text": (x, 3 * x)}, {})
    assert alignment.value == pytest.approx(0, abs=1e-6)
    assert gap.value == pytest.approx(0, abs=1e-6)


def test_missing_clips_count_where_they_are_there():
    x, y = random(10, 4), random(10, 4, seed=1)
    alignment, gap = evaluate_geometry({"video-text": (without(x, 0), without(y, 1))}, {})
    expected, _ = evaluate_geometry({"video-text": (x[2:], y[2:])}, {})
    assert alignment.value == pytest.approx(expected.value)
    centers = [unit_rows(np.delete(side, row, axis=0)).mean(axis=0) for row, side in enumerate((x, y))]
    assert gap.value == pytest.approx(np.linalg.norm(centers[0] - centers[1]), rel=1e-5)


def test_a_row_of_zeros_stays_finite():
    assert not unit_rows(np.zeros((1, 3), dtype=np.float16)).any()
    assert present_rows("video", np.zeros((1, 3))).all()


def test_what_cannot_be_compared_is_refused_by_name():
    x = random(4, 3)
    with pytest.raises(DataError, match="video-text: none of 4 clips has both sides"):
        evaluate_geometry({"video-text": (without(x, 0, 1), without(x, 2, 3))}, {})
    with pytest.raises(ShapeError, match=r"video-text: one side is \(4, 3\) but the other is \(4, 2\)"):
        evaluate_geometry({"video-text": (x, x[:, :2])}, {})
    with pytest.raises(DataError, match="video: uniformity needs at least two clips, got 1"):
        evaluate_geometry({}, {"video": without(x, 0, 1, 2)})
