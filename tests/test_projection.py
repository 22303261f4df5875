"""Maps of embeddings: exact neighbors, honest numbers, the same places again, and room for many clips."""

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from mcnlab.errors import ConfigError
from mcnlab.numerics import limited_threads
from mcnlab.reporting import neighbors
from mcnlab.reporting.layout import MapSettings, _keep_compiled, _sampled, umap_library
from mcnlab.reporting.neighbors import nearest, neighbors_of, trust_and_overlap, unit_rows
from mcnlab.reporting.projection import aligned_maps


def cloud(points=300, dim=8, seed=0):
    random = np.random.default_rng(seed)
    centers = 3 * random.normal(size=(6, dim))
    return (centers[np.arange(points) % 6] + random.normal(size=(points, dim))).astype(np.float32)


@pytest.fixture(params=["faiss", "numpy"])
def search(request, monkeypatch):
    """Both ways to search."""
    if request.param == "faiss":
        pytest.importorskip("faiss")
    else:
        monkeypatch.setattr(neighbors, "find_spec", lambda name: None)
        monkeypatch.setattr(neighbors, "BLOCK_ENTRIES", 5_000)  # so that there are several blocks


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("points", [9, 70, 300])
def test_neighbors_are_those_of_cosine_distance(points):
    embedding = cloud(points)
    away, near = NearestNeighbors(n_neighbors=7, metric="cosine").fit(embedding.astype(float)).kneighbors()
    found, distances = neighbors_of(unit_rows(embedding), count=8)
    np.testing.assert_array_equal(found[:, 1:], near)
    np.testing.assert_array_equal(found[:, 0], np.arange(points))
    np.testing.assert_allclose(distances[:, 1:], away, rtol=1e-4, atol=1e-7)  # float32 unit rows
    assert (distances[:, 0] == 0).all()


def test_both_libraries_find_the_same_to_the_last_bit(monkeypatch):
    pytest.importorskip("faiss")
    points = unit_rows(cloud(400))
    by_faiss = nearest(points[:50], points[50:], count=5)
    monkeypatch.setattr(neighbors, "find_spec", lambda name: None)
    by_numpy = nearest(points[:50], points[50:], count=5)
    assert all(np.array_equal(*pair) for pair in zip(by_faiss, by_numpy, strict=True))


@pytest.mark.usefixtures("search")
def test_a_point_comes_first_however_many_equal_it():
    points = unit_rows(np.repeat(cloud(4), 30, axis=0))
    found, distances = neighbors_of(points, count=5)
    np.testing.assert_array_equal(found[:, 0], np.arange(120))
    assert all(len(set(row)) == 5 for row in found.tolist())
    assert (distances == 0).all()


def test_a_point_of_no_length_is_far_from_all():
    embedding = cloud(20)
    embedding[3] = 0
    found, distances = neighbors_of(unit_rows(embedding), count=3)
    assert found[3, 0] == 3
    np.testing.assert_allclose(distances[3, 1:], 1, rtol=1e-6)  # as cosine distance has it


def test_trust_agrees_with_scikit_learn_and_overlap_with_counting():
    embedding, places = cloud(), cloud(dim=2, seed=1)
    near = NearestNeighbors(n_neighbors=6, metric="cosine").fit(embedding).kneighbors(return_distance=False)
    shown = NearestNeighbors(n_neighbors=6).fit(places).kneighbors(return_distance=False)
    kept = np.mean([len(set(a) & set(b)) / 6 for a, b in zip(near.tolist(), shown.tolist(), strict=True)])
    trust, overlap = trust_and_overlap(unit_rows(embedding), places, count=6)
    assert trust == pytest.approx(trustworthiness(embedding, places, n_neighbors=6, metric="cosine"), abs=1e-9)
    assert overlap == pytest.approx(kept, abs=1e-9)


def test_a_sample_of_points_judges_nearly_as_all_do(monkeypatch):
    points, places = unit_rows(cloud(600)), cloud(600)[:, :2]
    exact = trust_and_overlap(points, places, count=6)
    monkeypatch.setattr(neighbors, "MOST_JUDGED", 200)
    sampled = trust_and_overlap(points, places, count=6)
    assert sampled != exact
    np.testing.assert_allclose(sampled, exact, atol=0.02)  # three standard errors of a mean over 200 points


def test_what_a_map_cannot_keep_is_told_as_chance():
    """Round noise in 32 dimensions has no two to show: of 10 neighbors 10 in 2,999 are so by chance."""
    random = np.random.default_rng(0)
    noise, places = unit_rows(random.normal(size=(3_000, 32))), random.normal(size=(3_000, 2))
    assert trust_and_overlap(noise, places, count=10)[1] == pytest.approx(10 / 2_999, abs=0.0012)  # three errors
    angles = np.sort(random.uniform(0, np.pi / 2, size=3_000))
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # a map may keep all of it
    assert trust_and_overlap(unit_rows(arc), arc, count=10)[1] > 0.95  # rounding puts near ones in another order


def test_a_map_shows_neighbors_as_neighbors():
    maps = aligned_maps({"a": cloud()}, settings=MapSettings(neighbors=10, epochs=50))
    assert maps.trust["a"] > 0.9
    assert maps.repeatable


@pytest.mark.parametrize("names", ["a", "ab"])
def test_the_rest_of_a_sample_is_placed_among_its_neighbors(names):
    embeddings = {name: cloud() for name in names}
    maps = aligned_maps(embeddings, settings=MapSettings(neighbors=10, epochs=50, most=100))
    for name in names:
        assert np.isfinite(maps.positions[name]).all()
        assert maps.trust[name] > 0.85  # all in one place: 0.5


def test_maps_of_the_same_clips_sample_the_same_and_a_rare_one_is_whole():
    rows = {"a": np.arange(500), "b": np.arange(500), "rare": np.arange(0, 500, 20)}
    ids = {name: [f"clip {number}" for number in range(500)] for name in rows}
    chosen = _sampled(rows, ids, MapSettings(most=30))
    assert len(chosen["a"]) == 30
    np.testing.assert_array_equal(chosen["a"], chosen["b"])
    np.testing.assert_array_equal(chosen["rare"], rows["rare"])
    assert chosen["a"].tolist() != list(range(30))


def test_aligned_maps_hold_equal_embeddings_in_equal_places():
    embeddings = {"a": cloud(), "b": cloud() + 1e-3}
    settings = MapSettings(neighbors=10, epochs=50)
    together = aligned_maps(embeddings, settings=settings).positions
    apart = np.linalg.norm(together["a"] - together["b"], axis=1)
    assert np.median(apart) < 0.2  # the map is two wide


@pytest.mark.parametrize("shared", [0, 1, 25])
def test_maps_of_which_few_or_no_clips_are_the_same_are_laid_out(shared):
    random = np.random.default_rng(0)
    values = {name: random.normal(size=(40, 6)) for name in "abc"}
    ids = {name: [str(row) if row < shared else f"{name}{row}" for row in range(40)] for name in values}
    maps = aligned_maps(values, ids=ids, settings=MapSettings(neighbors=5, epochs=20))
    again = aligned_maps(values, ids=ids, settings=MapSettings(neighbors=5, epochs=20))
    for name in values:
        assert np.abs(maps.positions[name]).max() <= 1.1
        np.testing.assert_array_equal(maps.positions[name], again.positions[name])


def test_without_a_seed_maps_say_that_they_cannot_be_repeated(tmp_path):
    embeddings = {"a": cloud()}
    settings = MapSettings(neighbors=6, epochs=20, seed=None)
    first = aligned_maps(embeddings, settings=settings, cache=tmp_path)
    shown_again = aligned_maps(embeddings, settings=settings, cache=tmp_path)
    computed_again = aligned_maps(embeddings, settings=settings)
    assert not first.repeatable
    assert not shown_again.repeatable
    np.testing.assert_array_equal(first.positions["a"], shown_again.positions["a"])
    assert not np.array_equal(first.positions["a"], computed_again.positions["a"])


def test_a_map_from_many_threads_leaves_torch_its_own_number():
    with limited_threads(1):
        aligned_maps({"a": cloud()}, settings=MapSettings(neighbors=6, epochs=20, seed=None))
        assert torch.get_num_threads() == 1


def test_code_compiled_for_many_threads_is_kept_apart_from_the_same_code_for_one(tmp_path, monkeypatch):
    """Numba names what it keeps without saying whether it is parallel: a seeded map would load the other."""
    numba = umap_library().layouts.numba  # not imported before the library says where compiled code is kept
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    for parallel in (False, True):
        function = numba.njit(_total, parallel=parallel)
        _keep_compiled(function)
        assert function(np.ones(5)) == 5
    assert len(list(tmp_path.rglob("*.nbi"))) == 2
    assert _total.__qualname__ == "_total"


def _total(values):
    """What numba can compile both ways."""
    return (values * 1.0).sum()


@pytest.mark.parametrize(("field", "value"), [("neighbors", 1), ("epochs", 0), ("most", 7)])
def test_settings_that_make_no_map_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"{field} of a map must be at least .*, got {value}"):
        aligned_maps({"a": cloud()}, settings=MapSettings(**{field: value}))


@pytest.mark.parametrize("names", ["a", "ab"])
def test_how_far_a_layout_has_come_is_told_epoch_by_epoch(names):
    said = []
    embeddings = {name: cloud() for name in names}
    aligned_maps(embeddings, settings=MapSettings(neighbors=6, epochs=20), told=said.append)
    assert said == sorted(said)
    assert said[-1] == pytest.approx(1)
    assert len(said) == 20 + 2 * len(names)  # epochs, and per map the search of neighbors and the judgement
