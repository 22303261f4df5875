"""The clustering term's arithmetic against the released code, and the safety of the sound mode."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

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
from mcnlab.losses.kmeans import ClusterSums, OwnCentroids, Share, faithful_kmeans, unit_kmeans
from mcnlab.numerics import l2_normalize

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


def test_unit_kmeans_never_leaves_a_cluster_empty():
    rows = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(20, 1), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])])
    fit = unit_kmeans(rows, torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    assert torch.bincount(fit.assignment, minlength=3).tolist() == [20, 1, 1]


def test_unit_kmeans_survives_huge_rows_in_half_precision():
    rows = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)).half() * 3e3
    fit = unit_kmeans(l2_normalize(rows), rows[:7].float() / 3e3)
    assert bool(fit.centroids.isfinite().all())


def test_more_clusters_than_rows_are_refused_by_unit_kmeans():
    with pytest.raises(ShapeError, match="2 rows, 3 clusters"):
        unit_kmeans(torch.eye(2), torch.ones(3, 2))


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


def test_a_row_without_centroid_takes_no_part_in_the_contrast():
    generator = torch.Generator().manual_seed(0)
    x, centroids = torch.randn(6, 3, generator=generator), torch.randn(4, 3, generator=generator)
    labels = torch.tensor([0, -1, 3, -1, 2, 1])
    some = labels >= 0
    for temperature in (None, 0.1):
        loss = centroid_contrast(x, centroids, labels, temperature=temperature)
        assert loss.item() == pytest.approx(
            centroid_contrast(x[some], centroids, labels[some], temperature=temperature).item(), rel=1e-6
        )
    assert math.isnan(centroid_contrast(x, centroids, torch.full((6,), -1)).item())


def topics(count, *, dim=16, kinds=12, noise=0.8, seed=0):
    """Rows around some directions, long and short ones."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(kinds, dim, generator=generator)
    rows = centers[torch.randint(kinds, (count,), generator=generator)]
    rows = rows + noise * torch.randn(count, dim, generator=generator)
    return rows * torch.rand(count, 1, generator=generator).mul(3).exp()


def test_own_centroids_are_those_of_a_full_search_while_the_centroids_wander(monkeypatch):
    rows, generator = topics(3000), torch.Generator().manual_seed(1)
    own = OwnCentroids([rows[:1000], rows[1000:1001], rows[1001:]], dtype=torch.float32)
    scored = []
    score = own._cosines
    monkeypatch.setattr(
        own, "_cosines", lambda n, places, block, d: (scored.append(len(block)), score(n, places, block, d))[1]
    )
    centroids = torch.randn(12, 16, generator=generator)
    for step in range(12):
        directions = l2_normalize(centroids)
        assert torch.equal(own.update(directions), assign_to_centroids(rows, centroids))
        centroids = centroids + torch.randn(12, 16, generator=generator) * 0.3 / 2**step
    assert 3000 < sum(scored) < 12 * 3000 / 2


def test_sums_over_changed_clusters_have_the_bits_of_a_full_sum():
    rows, generator = topics(500), torch.Generator().manual_seed(1)
    sums, assignment = ClusterSums([rows[:200], rows[200:]], clusters=9), torch.randint(9, (500,), generator=generator)
    for moved in (500, 300, 3, 0):
        assignment = assignment.clone()
        assignment[:moved] = torch.randint(9, (moved,), generator=generator)
        expected = torch.zeros(9, 16).index_add_(0, assignment, rows)
        assert torch.equal(sums.update(assignment), expected)


@pytest.mark.parametrize("fit", [faithful_kmeans, unit_kmeans])
def test_rows_in_pieces_fit_as_in_one(fit):
    rows = l2_normalize(topics(400))
    whole, pieces = (fit(x, rows[:7]) for x in (rows, [rows[:0], rows[:150], rows[150:]]))
    assert torch.equal(whole.assignment, pieces.assignment)
    assert torch.equal(whole.centroids, pieces.centroids)
    assert whole.rounds == pieces.rounds > 1


def shared_out(fit, rows, start, holders):
    """What every one of several holders of rows ends with."""
    barrier, given = Barrier(holders), {}

    def hold(number):
        def reduce(x):
            given[number] = x
            barrier.wait(timeout=30)
            total = torch.stack([given[n] for n in range(holders)]).sum(dim=0)
            barrier.wait(timeout=30)
            return total

        own = slice(number * len(rows) // holders, (number + 1) * len(rows) // holders)
        return fit([rows[own]], start, share=Share(own.start, len(rows), reduce))

    with ThreadPoolExecutor(holders) as pool:
        return list(pool.map(hold, range(holders)))


@pytest.mark.parametrize("fit", [faithful_kmeans, unit_kmeans])
def test_holders_of_shares_end_as_one_who_holds_all(fit):
    rows = l2_normalize(topics(301))
    start = torch.cat([rows[:6], rows[:3]])  # equal ones: clusters that are empty at first
    whole = fit(rows, start)
    fits = shared_out(fit, rows, start, 3)
    assert torch.equal(torch.cat([found.assignment for found in fits]), whole.assignment)
    for found in fits:
        torch.testing.assert_close(found.centroids, whole.centroids, rtol=1e-5, atol=1e-5)
        assert found.rounds == whole.rounds


def test_half_precision_kept_in_float32_fits_as_in_half():
    rows = topics(300).half()
    half = faithful_kmeans(rows, rows[:5])
    kept = faithful_kmeans(rows.float(), rows[:5].float(), dtype=torch.float16)
    assert kept.centroids.dtype == torch.float16
    assert torch.equal(half.centroids, kept.centroids)


def test_inertia_is_that_of_faiss_on_the_same_rows():
    faiss = pytest.importorskip("faiss")
    rows = l2_normalize(topics(4000, kinds=30))
    start = rows[:20].clone()
    search = faiss.Kmeans(16, 20, niter=15, spherical=True, min_points_per_centroid=1, max_points_per_centroid=4000)
    search.train(rows.numpy(), init_centroids=start.numpy())
    ours, theirs = unit_kmeans(rows, start, max_rounds=15).centroids, torch.from_numpy(search.centroids)
    tightness = [(2 - 2 * (rows @ l2_normalize(c).T).amax(dim=1)).sum().item() for c in (ours, theirs)]
    assert tightness[0] <= tightness[1] * 1.005


def test_the_ring_takes_more_rows_than_it_has_slots():
    ring = torch.zeros(3, 1)
    first = push_rows(ring, torch.tensor([[1.0], [2.0]]), first=0)
    assert torch.cat(newest_rows(ring, 2, first=first)).flatten().tolist() == [1, 2]
    first = push_rows(ring, torch.tensor([[3.0], [4.0]]), first=first)
    assert torch.cat(newest_rows(ring, 3, first=first)).flatten().tolist() == [3, 4, 1]
    first = push_rows(ring, torch.arange(5.0)[:, None], first=first)
    assert torch.cat(newest_rows(ring, 3, first=first)).flatten().tolist() == [0, 1, 2]
