"""The clustering term's arithmetic against the released code, and the safety of the sound mode."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.errors import ShapeError
from mcnlab.losses.clustering import (
    assign_to_centroids,
    centroid_contrast,
    newest_rows,
    push_rows,
    start_centroids,
)
from mcnlab.losses.kmeans import faithful_kmeans, sound_kmeans

GOLDEN = Path(__file__).parent / "golden"


def golden(name):
    return np.load(GOLDEN / f"{name}.npz", allow_pickle=False)


def cases(values, ending):
    return [key.removesuffix(ending) for key in values.files if key.endswith(ending) and not key.startswith("tri")]


def test_centroid_contrast_and_its_gradient_agree_with_the_released_code():
    values = golden("cluster_loss")
    for case in cases(values, "_loss64"):
        x = torch.tensor(values[f"{case}_x"], requires_grad=True)
        loss = centroid_contrast(x, torch.tensor(values[f"{case}_centroid"]), torch.tensor(values[f"{case}_labels"]))
        loss.backward()
        assert loss.item() == pytest.approx(float(values[f"{case}_loss64"]), abs=1e-9)  # their margin is a float32
        np.testing.assert_allclose(x.grad.numpy(), values[f"{case}_dx64"], atol=1e-9)


def test_half_precision_overflows_as_published_where_float32_does_not():
    values = golden("cluster_loss")
    x, centroids = values["edge_overflow_x"], values["edge_overflow_centroid"]
    labels = torch.zeros(len(x), dtype=torch.int64)
    half = centroid_contrast(torch.tensor(x).half(), torch.tensor(centroids).half(), labels)
    single = centroid_contrast(torch.tensor(x).float(), torch.tensor(centroids).float(), labels)
    assert math.isnan(half.item()) == math.isnan(float(values["edge_overflow_f16S_nce0"]))
    assert single.item() == pytest.approx(float(values["edge_overflow_f32_nce0"]), rel=1e-5)


def test_one_centroid_costs_nothing_and_equal_scores_cost_the_log_of_their_number():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert centroid_contrast(x, torch.ones(1, 3), torch.zeros(5, dtype=torch.int64), margin=0.0).item() == 0
    loss = centroid_contrast(x, torch.zeros(4, 3), torch.zeros(5, dtype=torch.int64), margin=0.0)
    assert loss.item() == pytest.approx(math.log(4), abs=1e-6)


def test_the_gradient_pulls_a_row_to_its_own_centroid():
    x = torch.zeros(1, 2, requires_grad=True)
    centroid_contrast(x, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0])).backward()
    assert x.grad[0, 0] < 0 < x.grad[0, 1]


@pytest.mark.parametrize(("margin", "temperature", "said"), [(-0.5, None, "-0.5"), (0.0, 0.0, "0.0")])
def test_numbers_out_of_range_are_refused(margin, temperature, said):
    with pytest.raises(ShapeError, match=said):
        centroid_contrast(
            torch.zeros(1, 2), torch.zeros(2, 2), torch.tensor([0]), margin=margin, temperature=temperature
        )


def test_a_wrong_number_of_assignments_is_refused():
    with pytest.raises(ShapeError, match="2 rows but 1 assignments"):
        centroid_contrast(torch.zeros(2, 2), torch.zeros(2, 2), torch.tensor([0]))


@pytest.mark.parametrize("case", ["generic", "generic_k16", "oneiter", "empty", "dupcentroid", "scaled", "zerorows"])
@pytest.mark.parametrize(("version", "dtype"), [("v016_f32", torch.float32), ("v022_f64", torch.float64)])
def test_faithful_kmeans_agrees_with_the_published_one(case, version, dtype):
    values = golden("kmeans")
    rows, start = (torch.tensor(values[f"{case}_{part}"]).to(dtype) for part in ("X", "C0"))
    fit = faithful_kmeans(rows, start, max_rounds=int(values[f"{case}_max_iter"]))
    np.testing.assert_array_equal(fit.assignment.numpy(), values[f"{case}_{version}_labels"])
    np.testing.assert_allclose(fit.centroids.numpy(), values[f"{case}_{version}_centroids"], rtol=1e-5, atol=1e-6)
    assert fit.rounds == int(values[f"{case}_{version}_iters"])


def test_long_embeddings_give_nan_in_faithful_half_precision_and_not_in_float32():
    generator = torch.Generator().manual_seed(0)
    # what training drifts to: a direction that all embeddings share, so that one cluster sums thousands of rows
    rows = torch.nn.functional.normalize(torch.randn(8192, 16, generator=generator) * 0.3 + 1.0, dim=1) * 251.0
    losses = {}
    for dtype in (torch.float16, torch.float32):
        x = rows.to(dtype)
        fit = faithful_kmeans(x, start_centroids([x], 4, generator=torch.Generator().manual_seed(1)), max_rounds=5)
        losses[dtype] = centroid_contrast(x, fit.centroids, assign_to_centroids(x, fit.centroids)).item()
    assert math.isnan(losses[torch.float16])
    assert math.isfinite(losses[torch.float32])


def test_sound_kmeans_never_leaves_a_cluster_empty():
    rows = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(20, 1), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])])
    fit = sound_kmeans(rows, torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    assert torch.bincount(fit.assignment, minlength=3).tolist() == [20, 1, 1]


def test_sound_kmeans_survives_huge_rows_in_half_precision():
    rows = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)).half() * 3e3
    fit = sound_kmeans(rows, rows[:7].float() / 3e3)
    assert bool(fit.centroids.isfinite().all())


def test_more_clusters_than_rows_are_refused_by_sound_kmeans():
    with pytest.raises(ShapeError, match="2 rows, 3 clusters"):
        sound_kmeans(torch.eye(2), torch.ones(3, 2))


def test_the_queue_keeps_the_newest_rows_first_as_published():
    values = golden("queue_and_schedule")
    ring, first = torch.zeros(48, 1), 0
    queue = torch.cat(newest_rows(ring, 48, first=first))
    for step in range(6):
        fused = torch.tensor(values[f"s{step}_fused"])
        used = bool(queue[-1].any())  # the release does not use the queue before it is full
        seen = torch.cat([queue[:, 0], fused]) if used else fused
        np.testing.assert_array_equal(seen.numpy(), values[f"s{step}_out"])
        assert used == bool(values[f"s{step}_use"])
        kept = fused.reshape(8, 4)[:, :2].reshape(-1, 1)  # the first two of each recording's four clips
        first = push_rows(ring, kept, first=first)
        queue = torch.cat(newest_rows(ring, 48, first=first))
        np.testing.assert_array_equal(queue[:, 0].numpy(), values[f"s{step}_queue"])
