"""Transfer: numbers that are known, what must not leak, protocols with splits and several labels, and whole runs."""

import json

import numpy as np
import pytest

from mcnlab.data.importers.protocols import Windows, import_protocol
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError, NonFiniteError, ShapeError
from mcnlab.evaluation.linear_classifiers import chosen_c, linear_scores, standardized
from mcnlab.evaluation.transfer import Targets, chance_scores, evaluate_transfer, few_examples, scores_of_splits
from mcnlab.experiment import evaluate_run, run_experiment
from mcnlab.experiment.loaded import load_run
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.transfer import mean_by_unit, unit_features, units_of
from tests.mini_study import BASE
from tests.protocol_files import ucf_names, write_audioset, write_features, write_ucf101
from tests.small_store import make_store


def targets(numbers, roles, *, groups=None, classes=None):
    truth = np.array(numbers)[:, None] == np.arange(classes or max(numbers) + 1)
    groups = np.arange(len(truth)) if groups is None else np.array(groups)
    return Targets(truth, np.atleast_2d(np.array(roles)), groups)


def blobs(classes=4, each=30, *, noise=0.3, seed=0, width=6):
    """Features around the center of each class, and their classes."""
    random = np.random.default_rng(seed)
    numbers = np.tile(np.arange(classes), each)
    return random.normal(size=(classes, width))[numbers] + noise * random.normal(size=(len(numbers), width)), numbers


def found(result):
    return {(row.subject, row.metric): row for row in result.rows}


def test_separable_classes_are_told_and_noise_is_not():
    x, numbers = blobs()
    roles = np.where(np.arange(len(x)) % 3 == 0, "test", "train")
    noise = np.random.default_rng(1).normal(size=x.shape)
    rows = found(evaluate_transfer({"video": x}, targets(numbers, roles), untrained={"video": noise}, draws=200))
    assert rows["video", "linear_top1"].value == 1.0
    assert rows["video", "svm_top1"].value == 1.0
    assert rows["video", "few_5"].value > 0.95
    assert rows["video", "chance_linear_top1"].value == pytest.approx(0.25)
    assert rows["video", "untrained_linear_top1"].value < 0.5
    assert rows["video", "untrained_few_1"].low <= 0.25 <= rows["video", "untrained_few_1"].high
    assert ("video", "linear_top5") not in rows


def test_more_examples_tell_more():
    x, numbers = blobs(classes=5, each=50, noise=1.5, width=10)
    roles = np.where(np.arange(len(x)) % 2 == 0, "test", "train")
    rows = found(evaluate_transfer({"a": x}, targets(numbers, roles), untrained={}, draws=10, samples=8))
    curve = [rows["a", f"few_{shots}"].value for shots in (1, 2, 5, 10, 20)]
    assert curve == sorted(curve)
    assert curve[0] < curve[-1] - 0.2
    assert curve[-1] <= rows["a", "linear_top1"].value + 0.03


def test_classes_that_are_tested_have_no_say_in_the_choice_of_c():
    x, numbers = blobs(noise=1.5)
    roles = np.where(np.arange(len(x)) % 3 == 0, "test", "train")
    other = np.where(roles == "test", (numbers + 1) % 4, numbers)
    chosen = [
        found(evaluate_transfer({"a": x}, targets(y, roles), untrained={}, shots=(), draws=10))["a", "linear_log10_c"]
        for y in (numbers, other)
    ]
    assert chosen[0].value == chosen[1].value


def test_numbers_are_means_over_the_splits_each_with_its_own_training():
    x, numbers = blobs(classes=2, noise=1.2)
    first = np.where(np.arange(len(x)) % 3 == 0, "test", "train")
    second = np.where(np.arange(len(x)) % 3 == 1, "test", "train")
    alone = [
        found(evaluate_transfer({"a": x}, targets(numbers, roles), untrained={}, shots=(), draws=10))
        for roles in (first, second)
    ]
    both = found(evaluate_transfer({"a": x}, targets(numbers, [first, second]), untrained={}, shots=(), draws=10))
    expected = np.mean([one["a", "svm_top1"].value for one in alone])
    assert both["a", "svm_top1"].value == pytest.approx(expected)


def test_a_split_without_a_test_set_is_tested_on_val_and_never_chooses_by_it():
    x, numbers = blobs(noise=1.5)
    parts = [
        np.where(np.arange(len(x)) % 3 == 0, role, "train")  # the same clips, under either name
        for role in ("test", "val")
    ]
    rows = [found(evaluate_transfer({"a": x}, targets(numbers, p), untrained={}, draws=10)) for p in parts]
    assert rows[0] == rows[1]


def test_recordings_without_the_modality_are_left_out():
    x, numbers = blobs()
    roles = np.where(np.arange(len(x)) % 3 == 0, "test", "train")
    wide = np.concatenate([x, np.full((7, x.shape[1]), np.nan)])
    more = targets([*numbers, *[0] * 7], [*roles, *["test"] * 7])
    less = evaluate_transfer({"a": x}, targets(numbers, roles), untrained={"a": x}, draws=10)
    assert found(evaluate_transfer({"a": wide}, more, untrained={"a": wide}, draws=10)) == found(less)


def test_intervals_draw_recordings_and_grow_when_clips_belong_together():
    random = np.random.default_rng(0)
    hit = np.repeat(random.random(20) < 0.5, 10)  # ten clips of a recording are right or wrong together
    scores = np.where(hit[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
    roles = ["test"] * 200
    single = targets([0] * 200, roles, classes=2)
    together = targets([0] * 200, roles, groups=np.arange(200) // 10, classes=2)
    widths = []
    for one in (single, together):
        score = scores_of_splits(one, [scores], method="linear")["linear_top1"]
        assert score.value == pytest.approx(hit.mean())
        assert score.low < score.value < score.high
        widths.append(score.high - score.low)
    assert widths[1] > 2 * widths[0]


def test_several_labels_give_mean_average_precision_and_d_prime():
    random = np.random.default_rng(0)
    truth = random.random((200, 3)) < 0.3
    x = truth @ random.normal(size=(3, 5)) + 0.8 * random.normal(size=(200, 5))
    roles = np.where(np.arange(200) % 2 == 0, "test", "train")[None]
    several = Targets(truth, roles, np.arange(200), multi_label=True)
    rows = found(evaluate_transfer({"a": x}, several, untrained={}, shots=(5,), draws=100))
    assert rows["a", "linear_map"].value > 0.6
    assert rows["a", "chance_linear_map"].value == pytest.approx(truth[::2].mean(), abs=1e-9)
    assert rows["a", "linear_map"].low > rows["a", "chance_linear_map"].value
    assert rows["a", "linear_auc"].value > 0.8
    assert rows["a", "linear_dprime"].low > 1.0
    assert rows["a", "chance_linear_dprime"].value == 0
    assert 0.3 < rows["a", "few_5"].value < rows["a", "linear_map"].value
    assert ("a", "linear_map11") not in rows


def test_voc_also_has_its_own_measure_at_eleven_recalls():
    truth = np.array([[True, False], [False, True], [False, False], [True, True]])
    scores = np.array([[4.0, 1.0], [3.0, 4.0], [2.0, 3.0], [1.0, 2.0]])
    voc = Targets(truth, np.array([["test"] * 4]), np.arange(4), multi_label=True, eleven_points=True)
    # True at places 1 and 4, and at places 1 and 3, of 4.
    expected = ((6 + 5 * 0.5) / 11 + (6 + 5 * 2 / 3) / 11) / 2
    assert scores_of_splits(voc, [scores], method="linear")["linear_map11"].value == pytest.approx(expected)


def test_chance_is_the_best_constant_answer():
    numbers = [0] * 6 + [1] * 2 + [0, 1, 1, 1]
    constant = chance_scores(targets(numbers, ["train"] * 8 + ["test"] * 4))
    assert constant["linear_top1"].value == 0.25


def test_few_examples_are_of_every_class_and_all_where_there_are_fewer():
    truth = np.array([0, 0, 0, 0, 1, 2, 2])[:, None] == np.arange(3)
    chosen = few_examples(truth, 2, np.random.default_rng(0))
    assert truth[chosen].sum(axis=0).tolist() == [2, 1, 2]


def test_a_class_that_was_never_shown_is_never_the_answer():
    x = np.array([[-1.0], [1.0]])
    truth = np.array([[True, False, False], [False, False, True]])
    assert linear_scores(x, truth, 3 * x, c=1.0).argmax(axis=1).tolist() == [0, 2]
    assert linear_scores(x, truth, 3 * x, c=1.0, kind="svm").argmax(axis=1).tolist() == [0, 2]


def test_a_label_that_nobody_has_says_nothing():
    x = np.array([[-1.0], [1.0]])
    scores = linear_scores(x, np.array([[True, False], [False, False]]), x, c=1.0, multi_label=True)
    assert scores[:, 1].tolist() == [0, 0]
    assert scores[0, 0] > scores[1, 0]


def test_among_equally_good_c_the_strongest_penalty_is_taken():
    x, truth = np.array([[-1.0], [1.0]]), np.eye(2, dtype=bool)
    assert chosen_c(x, truth, x, truth, candidates=(0.01, 0.1, 1.0)) == 0.01


def test_a_feature_that_never_changes_in_training_is_silent():
    inside, outside = standardized(np.array([[1.0, 0.0], [1.0, 2.0]]), np.array([[99.0, 4.0]]))
    assert inside.tolist() == [[0, -1], [0, 1]]
    assert outside.tolist() == [[0, 3]]


def test_averaged_windows_have_the_averaged_decision():
    x, numbers = blobs()
    windows = x[:, None, :] + np.random.default_rng(1).normal(size=(len(x), 10, x.shape[1]))
    truth = np.eye(4, dtype=bool)[numbers]
    mean = mean_by_unit(windows.reshape(-1, x.shape[1]), np.repeat(np.arange(len(x)), 10), len(x))
    of_mean = linear_scores(x, truth, mean, c=0.1)
    each = [linear_scores(x, truth, windows[:, k], c=0.1) for k in range(10)]
    assert of_mean == pytest.approx(np.mean(each, axis=0), abs=1e-4)


def test_what_cannot_be_told_is_refused():
    x, roles = np.zeros((4, 2)), ["train", "train", "test", "test"]
    with pytest.raises(ShapeError, match="3 rows of features but 4 units"):
        evaluate_transfer({"a": x[:3]}, targets([0, 1, 0, 1], roles), untrained={})
    with pytest.raises(DataError, match="a: split 1 has 1 classes to learn"):
        evaluate_transfer({"a": x}, targets([0, 0, 0, 1], roles), untrained={})
    with pytest.raises(DataError, match="split 1 has nothing to test"):
        evaluate_transfer({"a": x}, targets([0, 1, 0, 1], ["train"] * 4), untrained={})
    with pytest.raises(NonFiniteError, match="a: 1 embeddings"):
        evaluate_transfer({"a": np.array([[1, np.inf]] + [[0, 0]] * 3)}, targets([0, 1, 0, 1], roles), untrained={})
    with pytest.raises(ShapeError, match="split 0: 1 decisions for 2 tested"):
        scores_of_splits(targets([0, 1, 0, 1], roles), [np.zeros((1, 2))], method="x")


def experiment(store, *, tasks, **changes):
    base = {**BASE, "experiment": "small", "data": {"store": str(store)}, "stages": "VAT", **changes}
    return ExperimentSettings.parse({**base, "evaluation": {"tasks": tasks}}, source="test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps on a store without a protocol, with transfer among its tasks."""
    folder = tmp_path_factory.mktemp("trained")
    make_store(folder / "store", video_dim=6, clips=3)
    return run_experiment(experiment(folder / "store", tasks=["transfer"]), folder / "run")


def test_a_run_measures_transfer_on_its_own_labels(trained):
    rows = trained.results().set_index(["subject", "metric"])
    assert set(trained.results()["task"]) == {"transfer", "outcome"}
    for modality in ("video", "audio", "text"):
        assert {"linear_top1", "untrained_linear_top1", "few_1"} <= set(rows.loc[f"{modality}:backbone"].index)
    assert rows.loc[("video", "linear_top1"), "value"] > rows.loc[("video", "chance_linear_top1"), "value"]
    assert rows.loc[("video", "linear_top1"), "low"] <= rows.loc[("video", "linear_top1"), "value"]


def test_measuring_again_gives_the_same(trained):
    before = json.loads((trained.path / "results.json").read_text())["rows"]
    again = json.loads((evaluate_run(trained.path, tasks=["transfer"]).path / "results.json").read_text())["rows"]
    assert [row for row in again if row["task"] == "transfer"] == [row for row in before if row["task"] == "transfer"]


def test_another_store_is_measured_by_its_official_splits(trained, tmp_path):
    features = write_features(tmp_path / "f", ucf_names(), width=6, rows=8)
    import_protocol(
        "ucf101", write_ucf101(tmp_path / "l"), tmp_path / "ucf", features=features, windows=Windows(4, 2.0)
    )
    rows = evaluate_run(trained.path, store=tmp_path / "ucf", tasks=["transfer"]).results()
    rows = rows[rows.task == "transfer@ucf101"].set_index(["subject", "metric"])
    assert set(rows.index.get_level_values(0)) == {"video:backbone", "video"}  # it has no sound and no text
    assert rows.loc[("video:backbone", "linear_top1"), "value"] > 0.9
    assert rows.loc[("video:backbone", "chance_linear_top1"), "value"] == pytest.approx(1 / 3)


def test_windows_of_a_recording_are_one_unit(trained, tmp_path):
    names = ucf_names()
    features = write_features(tmp_path / "f", names, width=6, rows=8)
    import_protocol("ucf101", write_ucf101(tmp_path / "l"), tmp_path / "s", features=features, windows=Windows(4, 2.0))
    store, run = open_store(tmp_path / "s"), load_run(trained.path)
    units = units_of(run.settings, store, "test")
    assert units.targets.truth.shape == (36, 3)
    assert len(units.clips) == 4 * 36
    assert units.targets.roles.shape == (3, 36)
    x = unit_features(run.settings, run.model(run.store()), store, units)
    place = units.of_clip.tolist().index(units.of_clip[0])
    first = store[int(units.clips["recording"].iloc[place])]
    pooled = [first.tracks["video_2d"][2 * k : 2 * k + 2].astype(np.float32).max(axis=0) for k in range(4)]
    expected = np.mean([one / np.linalg.norm(one) for one in pooled], axis=0)
    assert x["video:backbone"][units.of_clip[0]] == pytest.approx(expected, abs=2e-3)


def test_audioset_is_scored_by_all_labels_of_a_clip(trained, tmp_path):
    told = write_audioset(tmp_path / "l")
    features = write_features(tmp_path / "f", [(labels[0], id_) for labels, id_ in told], width=6, rows=4)
    import_protocol("audioset", tmp_path / "l", tmp_path / "s", features=features)
    rows = evaluate_run(trained.path, store=tmp_path / "s", tasks=["transfer"]).results()
    rows = rows[rows.task == "transfer@audioset"].set_index(["subject", "metric"])["value"]
    assert rows["video:backbone", "linear_map"] > rows["video:backbone", "chance_linear_map"]
    assert rows["video:backbone", "linear_dprime"] > 0.5


@pytest.mark.slow
def test_fine_tuning_trains_a_copy_beside_one_from_scratch(trained):
    before = [tensor.clone() for tensor in load_run(trained.path).model().state_dict().values()]
    rows = evaluate_run(trained.path, tasks=["finetune"]).results()
    rows = rows[rows.task == "finetune"].set_index(["subject", "metric"])["value"]
    for modality in ("video", "audio", "text"):
        assert rows[modality, "tuned_top1"] > 2 * rows[modality, "chance_tuned_top1"]
        assert rows[modality, "untrained_tuned_top1"] > rows[modality, "chance_tuned_top1"]
    after = load_run(trained.path).model().state_dict().values()
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    again = evaluate_run(trained.path, tasks=["finetune"]).results()
    assert again[again.task == "finetune"].set_index(["subject", "metric"])["value"].equals(rows)


def test_a_store_without_classes_is_refused_before_training(tmp_path, monkeypatch):
    store = make_store(tmp_path / "store", recordings=12, test=4)
    clips = store.clips
    monkeypatch.setattr(store, "clips", lambda split=None: clips(split).assign(label=None))
    with pytest.raises(DataError, match="needs a protocol, or labels of two classes"):
        units_of(experiment(tmp_path / "store", tasks=["transfer"]), store, "test")


def test_fine_tuning_by_several_processes_is_refused_before_training(tmp_path, monkeypatch):
    make_store(tmp_path / "store", recordings=12, test=4)
    monkeypatch.setattr("mcnlab.experiment.checks.world_size", lambda: 2)
    with pytest.raises(ConfigError, match="finetune takes one process"):
        run_experiment(experiment(tmp_path / "store", tasks=["finetune"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
