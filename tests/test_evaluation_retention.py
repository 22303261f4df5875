"""Retention: what is there is found, what is not is at chance, folds never share a recording, refusals."""

import time

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mcnlab.errors import ConfigError, DataError, NonFiniteError, ShapeError
from mcnlab.evaluation.probe import PENALTIES, held_out_predictions
from mcnlab.evaluation.retention import check_factors, evaluate_retention, folds_of_recordings

CLIPS = 400


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def words(classes=4, clips=CLIPS, seed=0):
    return np.array(["red", "green", "blue", "gray", "pink"])[:classes][
        np.random.default_rng(seed).integers(0, classes, clips)
    ]


def indicator(names):
    return (names[:, None] == np.unique(names)).astype(float)


def scores(embedding, factors, recordings=None, **options):
    recordings = np.arange(len(embedding)) if recordings is None else recordings
    rows = evaluate_retention({"video": embedding}, factors, recordings, **options).rows
    return {row.subject.removeprefix("video:"): row for row in rows if row.metric == "score"}


def test_factors_that_are_there_are_read_and_others_are_not():
    rate, color, unseen, mood = random(CLIPS), words(), random(CLIPS, seed=2), words(seed=3)
    embedding = np.column_stack((rate, indicator(color), random(CLIPS, 8, seed=4))) @ random(13, 32, seed=5)
    factors = {"va.rate": rate, "vt.color": color, "a.noise": unseen, "t.mood": mood}
    found = {subject: row.value for subject, row in scores(embedding, factors).items()}
    assert found["va.rate"] > 0.99
    assert found["vt.color"] > 0.99
    assert found["a.noise"] == pytest.approx(0, abs=0.05)
    assert found["t.mood"] == pytest.approx(0, abs=0.1)


def test_half_the_variance_gives_a_score_of_a_half():
    signal = random(4000)
    found = scores(signal[:, None] + random(4000, 1, seed=1), {"va.rate": signal})["va.rate"]
    assert found.value == pytest.approx(0.5, abs=0.04)
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.08


def test_balanced_accuracy_is_measured_above_chance_and_blind_to_class_sizes():
    rng = np.random.default_rng(0)
    rare = np.where(rng.random(2000) < 0.1, "yes", "no")
    noise = random(2000, 4)
    assert scores(noise, {"v.rare": rare})["v.rare"].value == pytest.approx(0, abs=0.1)
    shown = noise.copy()
    shown[:, 0] += 3 * (rare == "yes")  # two normals 3 apart: the best balanced accuracy is Phi(1.5) = 0.933
    assert scores(shown, {"v.rare": rare})["v.rare"].value == pytest.approx(2 * 0.933 - 1, abs=0.04)


def test_a_class_between_two_others_is_not_masked():
    size = np.array(["small", "medium", "large"])[np.arange(CLIPS) % 3]
    place = (np.arange(CLIPS) % 3)[:, None] + 0.15 * random(CLIPS, 1)
    assert scores(place, {"vt.size": size})["vt.size"].value > 0.95


@pytest.mark.parametrize("width", [2, 1000])
def test_noise_is_at_chance_without_bias_in_few_and_in_many_dimensions(width):
    found = []
    for seed in range(8):
        factors = {"t.mood": words(seed=seed, clips=200), "t.rate": random(200, seed=seed)}
        result = scores(random(200, width, seed=100 + seed), factors, draws=1)
        found.append([result["t.mood"].value, result["t.rate"].value])
    mood, rate = np.mean(found, axis=0)
    assert mood == pytest.approx(0, abs=0.04)
    assert -0.05 < rate < 0.02


def test_a_group_is_the_mean_of_its_factors():
    factors = {"va.rate": random(CLIPS), "va.height": random(CLIPS, seed=1), "command": words()}
    found = scores(np.column_stack((factors["va.rate"], random(CLIPS, 3, seed=2))), factors)
    assert found["va"].value == pytest.approx((found["va.rate"].value + found["va.height"].value) / 2)
    assert found["va"].low <= found["va"].value <= found["va"].high
    assert list(found) == ["va", "command", "va.rate", "va.height"]


def test_recordings_never_stand_on_both_sides_of_a_fold():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 12, 60)
    groups = rng.permutation(np.repeat(np.arange(60), sizes))
    fold = folds_of_recordings(groups, folds=5, generator=rng)
    assert all(len(set(fold[groups == group])) == 1 for group in range(60))
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 2


def test_what_only_names_the_recording_is_worth_nothing():
    groups = np.repeat(np.arange(100), 4)
    fingerprint = random(100, 90)[groups]  # tells recordings apart, says nothing about the factor
    factor = random(100, seed=1)[groups]
    assert scores(fingerprint, {"v.light": factor}, groups)["v.light"].value < 0.05
    assert scores(fingerprint, {"v.light": factor}, np.arange(400))["v.light"].value > 0.8  # what would have come out


def test_the_probe_is_ridge_regression_with_a_penalty_chosen_by_the_other_folds():
    x, y, fold = random(120, 7), random(120, 2, seed=1) + random(120, 1), np.arange(120) % 4
    y[:, 0] += x[:, 0]
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    found = held_out_predictions(x, y, fold)
    predicted, means = found.rise + found.means, found.means
    for name in range(4):
        train = fold != name
        best = []
        for column in range(2):
            errors = []
            for penalty in PENALTIES:
                error = 0.0
                for inner in set(range(4)) - {name}:
                    used = train & (fold != inner)
                    model = Ridge(alpha=penalty * used.sum()).fit(scaled[used], y[used, column])
                    error += ((model.predict(scaled[fold == inner]) - y[fold == inner, column]) ** 2).sum()
                errors.append(error)
            best.append(PENALTIES[int(np.argmin(errors))])
        for column, penalty in enumerate(best):
            model = Ridge(alpha=penalty * train.sum()).fit(scaled[train], y[train, column])
            np.testing.assert_allclose(predicted[~train, column], model.predict(scaled[~train]), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(means[~train], np.tile(y[train].mean(axis=0), (30, 1)))


def test_both_ways_to_solve_agree():
    x, y, fold = random(60, 20), random(60, 3, seed=1), np.arange(60) % 5
    y += x[:, :3]
    few = held_out_predictions(x, y, fold)  # by features
    many = held_out_predictions(np.concatenate((x, np.zeros((60, 40))), axis=1), y, fold)  # by clips
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_scale_offset_and_constant_features_change_nothing():
    embedding, factor = random(CLIPS, 6), {"va.rate": random(CLIPS) + random(CLIPS, seed=1)}
    moved = np.column_stack((embedding * [1e-3, 1, 5, 1e4, 1, 1] + 7, np.full(CLIPS, 3.0)))
    assert scores(moved, factor)["va.rate"].value == pytest.approx(scores(embedding, factor)["va.rate"].value, abs=1e-6)


def test_a_collapsed_embedding_retains_nothing():
    found = scores(np.ones((CLIPS, 8)), {"va.rate": random(CLIPS), "vt.color": words()})
    assert found["va.rate"].value == pytest.approx(0, abs=0.02)
    assert found["vt.color"].value == pytest.approx(0, abs=1e-9)


def test_missing_clips_and_unknown_values_are_left_out():
    embedding = random(CLIPS, 5).astype(np.float32)
    rate = embedding[:, 0].astype(float)
    gone = embedding.copy()
    gone[:50] = np.nan
    color = np.array([None if place >= 300 else name for place, name in enumerate(words())], dtype=object)
    found = scores(gone, {"va.rate": rate, "vt.color": color}, np.arange(CLIPS))
    fewer = scores(embedding[50:], {"va.rate": rate[50:], "vt.color": color[50:]}, np.arange(50, CLIPS))
    assert found == fewer
    assert found["va.rate"].value > 0.99


def test_classes_of_a_single_recording_are_left_out():
    color = words(3).astype(object)
    color[0] = "ultraviolet"
    found = scores(indicator(words(3)), {"vt.color": color})
    assert found["vt.color"].value == pytest.approx(1.0)


def test_the_untrained_model_has_rows_of_its_own():
    rate = random(CLIPS)
    rows = evaluate_retention(
        {"video": random(CLIPS, 4, seed=1), "text": random(CLIPS, 4, seed=2)},
        {"va.rate": rate},
        np.arange(CLIPS),
        untrained={"video": rate[:, None]},
    ).rows
    found = {(row.subject, row.metric): row.value for row in rows}
    assert found["video:va", "untrained"] > 0.99 > 0.1 > found["video:va", "score"]
    assert ("text:va", "untrained") not in found
    assert {row.task for row in rows} == {"retention"}


def test_the_same_seed_gives_the_same_rows():
    arguments = random(CLIPS, 4), {"va.rate": random(CLIPS, seed=1)}
    assert scores(*arguments, seed=1) == scores(*arguments, seed=1)
    assert scores(*arguments, seed=1) != scores(*arguments, seed=2)


def test_truth_values_are_classes_and_whole_numbers_are_values():
    flag = random(CLIPS) > 0
    found = scores(flag[:, None] + 0.0, {"v.flag": flag, "v.count": flag * 3})
    assert found["v.flag"].value == pytest.approx(1.0)
    assert found["v.count"].value > 0.999


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["red"] * 20, "factor vt.color: at least two classes are needed, got only 'red', in 20 clips"),
        (["red"] * 19 + ["blue"], "got 2 classes, of which 1 occur in two recordings or more, in 20 clips"),
        ([0.5] * 20, "factor vt.color: at least two different values are needed, got always 0.5 in 20 clips"),
        ([None] * 20, "factor vt.color: at least two different values are needed, got no value in 0 clips"),
        ([1.0, 2.0, 3.0] + [None] * 17, "factor vt.color: 5 folds need as many recordings, got 3"),
    ],
)
def test_a_factor_that_cannot_be_scored_is_refused_by_name(values, message):
    for call in (
        lambda: check_factors({"vt.color": values}, np.arange(20)),
        lambda: scores(random(20, 3), {"vt.color": values}),
    ):
        with pytest.raises(DataError) as caught:
            call()
        assert message in str(caught.value)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ShapeError, match="video: 20 clips but 19 recordings named"):
        scores(random(20, 3), {"v.x": random(20)}, np.arange(19))
    with pytest.raises(ShapeError, match=r"factor v\.x: 19 values for 20 clips"):
        scores(random(20, 3), {"v.x": random(19)})
    with pytest.raises(ConfigError, match="folds must be at least 3, got 2"):
        scores(random(20, 3), {"v.x": random(20)}, folds=2)
    with pytest.raises(DataError, match="5 folds need as many recordings, got 2"):
        scores(random(20, 3), {"v.x": random(20)}, np.arange(20) % 2)
    with pytest.raises(NonFiniteError, match="video: 1 embeddings are not finite, first in row 0"):
        scores(np.vstack(([[np.inf, 1.0]], random(19, 2))), {"v.x": random(20)})


def test_a_whole_run_is_probed_within_a_blink():
    embeddings = {name: random(600, 64, seed=place) for place, name in enumerate(("video", "audio", "text", "joint"))}
    factors = {f"g{place % 5}.c{place}": random(600, seed=place) for place in range(12)}
    factors |= {f"h.k{place}": words(clips=600, seed=place) for place in range(6)}
    evaluate_retention(embeddings, factors, np.arange(600) // 4, draws=10)
    start = time.process_time()
    evaluate_retention(embeddings, factors, np.arange(600) // 4)
    assert time.process_time() - start < 2.0  # 0.15 s on an idle core
