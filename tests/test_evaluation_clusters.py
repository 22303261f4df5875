"""Cluster evaluation: separable classes, backends, chance, missing clips and labels, refusals."""

import numpy as np
import pytest

from mcnlab.errors import ConfigError, DataError, ShapeError
from mcnlab.evaluation.clusters import _lloyd_of_torch, check_labels, evaluate_clusters, gpus_of, kmeans
from mcnlab.metrics import adjusted_rand_index


def blobs(clips=300, classes=10, width=16, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    classes_of = rng.integers(0, classes, clips)
    centers = rng.normal(size=(classes, width))
    return (centers[classes_of] + spread * rng.normal(size=(clips, width))).astype(np.float32), classes_of


def named(classes):
    return [f"class {number}" for number in classes]


def values(result, subject="video"):
    return {row.metric: row.value for row in result.rows if row.subject == subject}


@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_ten_separate_classes_are_found_whole(backend):
    pytest.importorskip(backend)
    for seed in range(5):
        vectors, classes = blobs(seed=seed)
        found = kmeans(vectors, clusters=10, seed=seed, backend=backend)
        assert adjusted_rand_index(found, classes) == 1.0


def test_both_backends_find_equally_tight_clusters():
    pytest.importorskip("faiss")
    vectors, _ = blobs(spread=1.5)
    tightness = []
    for backend in ("faiss", "torch"):
        found = kmeans(vectors, clusters=10, backend=backend)
        centers = np.stack([vectors[found == cluster].mean(axis=0) for cluster in range(10)])
        tightness.append(float(((vectors - centers[found]) ** 2).sum()))
    assert tightness[0] == pytest.approx(tightness[1], rel=0.02)


def test_the_same_seed_gives_the_same_clusters():
    vectors, _ = blobs(spread=1.5)
    assert (kmeans(vectors, clusters=10, seed=3) == kmeans(vectors, clusters=10, seed=3)).all()


def test_rows_hold_the_metrics_of_the_contract():
    vectors, classes = blobs()
    noise = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    result = evaluate_clusters({"video": vectors, "text": noise}, named(classes), untrained={"video": noise})
    found = values(result)
    assert [found["purity"], found["nmi"], found["ari"]] == pytest.approx([1.0, 1.0, 1.0])
    assert found["chance_purity"] < found["untrained_purity"] + 0.1 < 0.5
    assert "untrained_purity" not in values(result, "text")
    assert values(result, "text")["ari"] == pytest.approx(0, abs=0.05)
    assert values(result, "text")["purity"] == pytest.approx(values(result, "text")["chance_purity"], abs=0.05)
    assert {row.task for row in result.rows} == {"clusters"}


def test_length_of_an_embedding_does_not_matter():
    vectors, classes = blobs()
    lengths = np.random.default_rng(1).uniform(0.1, 10, size=(300, 1)).astype(np.float32)
    assert values(evaluate_clusters({"video": vectors * lengths}, named(classes)))["purity"] == pytest.approx(1.0)


def test_clips_without_embedding_or_label_are_left_out():
    vectors, classes = blobs(60, classes=3)
    labels = [None if place < 5 else name for place, name in enumerate(named(classes))]
    gone = vectors.copy()
    gone[50:] = np.nan
    result = evaluate_clusters({"video": gone}, labels)
    assert result.assignments["video"].isna().tolist() == [place < 5 or place >= 50 for place in range(60)]
    fewer = evaluate_clusters({"video": vectors[5:50]}, labels[5:50])
    assert result.rows == fewer.rows


def test_the_number_of_clusters_can_be_set():
    vectors, classes = blobs()
    result = evaluate_clusters({"video": vectors}, named(classes), clusters=3)
    assert result.assignments["video"].nunique() == 3
    assert values(result)["purity"] < 0.6


def test_a_label_column_that_cannot_be_scored_is_refused_by_name():
    with pytest.raises(DataError, match="command: at least two classes are needed, got only 'bin' in 4 clips"):
        check_labels(["bin", "bin", None, "bin"], column="command")
    with pytest.raises(DataError, match="label: at least two classes are needed, got no label at all in 2 clips"):
        evaluate_clusters({"video": np.ones((2, 2))}, [None, None])


def test_what_does_not_fit_is_refused_by_name():
    vectors, classes = blobs(20, classes=4)
    with pytest.raises(ShapeError, match="video: 19 clips but 20 labels"):
        evaluate_clusters({"video": vectors[:19]}, named(classes))
    with pytest.raises(DataError, match="video: 20 clips with a label cannot make 21 clusters"):
        evaluate_clusters({"video": vectors}, named(classes), clusters=21)
    with pytest.raises(DataError, match="video: 0 clips with a label"):
        evaluate_clusters({"video": np.full((20, 4), np.nan)}, named(classes))
    with pytest.raises(ConfigError, match="got 0 and 5"):
        kmeans(vectors, clusters=0)
    with pytest.raises(ConfigError, match="got 'cuml'"):
        kmeans(vectors, clusters=2, backend="cuml")


def test_the_fallback_fills_an_empty_cluster():
    found = _lloyd_of_torch(np.array([[5.0], [5.1], [9.0]], dtype=np.float32), np.array([[5.0], [5.0], [50.0]]))
    assert sorted(found[1].tolist()) == [0, 1, 2]
    assert found[0] == pytest.approx(0, abs=1e-6)


def test_the_fallback_counts_distances_as_they_are():
    vectors, _ = blobs(spread=1.5)
    tightness, found = _lloyd_of_torch(vectors, vectors[:10])
    centers = np.stack([vectors[found == cluster].mean(axis=0) for cluster in range(10)])
    assert tightness == pytest.approx(float(((vectors - centers[found]) ** 2).sum()), rel=1e-5)


@pytest.mark.gpu
def test_faiss_on_a_gpu_finds_the_classes():
    faiss = pytest.importorskip("faiss")
    if not gpus_of(faiss):
        pytest.skip("this build of faiss knows no GPU")
    vectors, classes = blobs()
    assert adjusted_rand_index(kmeans(vectors, clusters=10, backend="faiss"), classes) == 1.0
