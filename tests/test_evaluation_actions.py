"""Searching videos for their steps: known answers, chance, shuffled controls, and whole runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from mcnlab.data.frames import FrameGrid, FrameSource, frame_grid
from mcnlab.data.importers.crosstask import import_crosstask
from mcnlab.data.importers.mining_youtube import import_mining_youtube
from mcnlab.data.loading import ClipWindow
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store import StoreWriter, open_store
from mcnlab.data.text import train_word_vectors
from mcnlab.data.world import WorldSettings, build_world
from mcnlab.errors import DataError, ShapeError
from mcnlab.evaluation.actions import METRICS, evaluate_actions
from mcnlab.evaluation.found_steps import ActionVideo, evenly_spread, found_in
from mcnlab.experiment import evaluate_run, run_experiment
from mcnlab.experiment.actions import steps_of
from mcnlab.runs import RunFolder
from tests.mini_study import BASE
from tests.small_store import make_store
from tests.step_files import features_of, srt, write_crosstask

SUBJECT = "text->video"


def video(number, *, frames=40, steps=5, task="tea", group=None, seed=0):
    """A video whose steps fill about half of it, in order, with gaps of changing length."""
    random = np.random.default_rng([seed, number])
    borders = np.sort(random.choice(np.arange(1, frames), 2 * steps - 1, replace=False))
    starts, ends = np.concatenate([[0], borders[1::2]]), borders[::2]
    truth = np.zeros((frames, steps), dtype=bool)
    for step, (start, end) in enumerate(zip(starts, ends, strict=True)):
        truth[start:end, step] = True
    intervals = {
        step: np.array([[float(start), float(end)]]) for step, (start, end) in enumerate(zip(starts, ends, strict=True))
    }
    return ActionVideo(f"v{number}", task, truth, intervals, group)


def scores_of(one, *, noise=0.0, seed=0):
    """(frames, steps + 1): 1 where a step is, and a little in between for background."""
    given = np.column_stack([one.truth, ~one.truth.any(axis=1)]).astype(float)
    return given + noise * np.random.default_rng(seed).normal(size=given.shape)


def values(result, subject=SUBJECT):
    return {row.metric: row.value for row in result.rows if row.subject == subject}


VIDEOS = [video(number, task=("tea", "jam", "egg")[number % 3]) for number in range(30)]


def test_who_knows_the_truth_finds_everything():
    found = values(evaluate_actions(VIDEOS, {SUBJECT: [scores_of(one) for one in VIDEOS]}))
    assert {metric: found[metric] for metric in METRICS} == pytest.approx(dict.fromkeys(METRICS, 1.0))
    assert found["mean_average_precision"] == pytest.approx(1.0)
    assert (found["videos_scored"], found["videos_not_scored"]) == (30, 0)
    for metric in METRICS:
        assert found[f"chance_{metric}"] < 0.8
        assert found[f"uniform_{metric}"] < 1.0


def test_every_row_is_of_the_task_and_lies_in_its_interval():
    scores = {SUBJECT: [scores_of(one, noise=0.8, seed=k) for k, one in enumerate(VIDEOS)]}
    rows = evaluate_actions(VIDEOS, scores).rows
    assert {row.task for row in rows} == {"actions"}
    assert len({(row.subject, row.metric) for row in rows}) == len(rows)
    for row in rows:
        if row.metric in METRICS:
            assert 0 <= row.low <= row.value <= row.high <= 1
            assert row.high - row.low > 0.01
        else:
            assert row.low is row.high is None


@pytest.mark.parametrize("control", ["noise", "other videos", "other order"])
def test_scores_that_know_nothing_reach_what_chance_reaches(control):
    videos = [video(number, task=f"t{number % 4}", seed=7) for number in range(240)]
    generator = np.random.default_rng(0)
    if control == "noise":
        scores = [generator.normal(size=(40, 6)) for _ in videos]
    elif control == "other videos":  # pairs are shuffled: what is scored is where nothing of it is
        scores = [generator.permutation(scores_of(one, noise=0.3, seed=k)) for k, one in enumerate(videos)]
    else:
        scores = [scores_of(one, noise=0.3, seed=k) for k, one in enumerate(videos)]
        scores = [np.column_stack([s[:, [1, 2, 3, 4, 0]], s[:, 5]]) for s in scores]  # no step keeps its place
    found = values(evaluate_actions(videos, {SUBJECT: scores}, draws=10))
    if control == "other order":
        assert found["step_recall_unordered"] < found["chance_step_recall_unordered"]
        assert found["step_recall"] < found["chance_step_recall"] + 0.03
        return
    for metric in ("step_recall", "step_recall_pooled", "step_recall_unordered", "mean_average_precision"):
        assert found[metric] == pytest.approx(found[f"chance_{metric}"], abs=0.03)


def test_tasks_of_different_size_count_alike():
    videos = [video(0, task="a"), *(video(number, task="b") for number in range(1, 10))]
    scores = [scores_of(videos[0]), *(-scores_of(one) for one in videos[1:])]
    found = values(evaluate_actions(videos, {SUBJECT: scores}))
    hits = [np.sum(found_in(one, given).placed & one.truth) / 5 for one, given in zip(videos, scores, strict=True)]
    assert found["step_recall"] == pytest.approx((hits[0] + np.mean(hits[1:])) / 2)
    assert found["frame_accuracy"] < 0.5  # the mean over videos, of which nine are wrong


def test_groups_have_rows_of_their_own():
    videos = [replace(one, group=("cook", "non-cook")[number % 2]) for number, one in enumerate(VIDEOS)]
    scores = [scores_of(one) if one.group == "cook" else -scores_of(one) for one in videos]
    result = evaluate_actions(videos, {SUBJECT: scores}, untrained={SUBJECT: scores[::-1][:0] + scores})
    assert values(result, f"{SUBJECT}:cook")["step_recall"] == 1.0
    assert values(result, f"{SUBJECT}:non-cook")["step_recall"] < 0.5
    assert values(result, f"{SUBJECT}:cook")["videos_scored"] == 15
    assert values(result)["untrained_step_recall"] == values(result)["step_recall"]


def test_what_cannot_be_scored_is_told_and_leaves_the_rest_alone():
    none = ActionVideo("none", "tea", np.zeros((9, 3), dtype=bool), {})
    short = ActionVideo("short", "tea", np.ones((2, 3), dtype=bool), {0: np.array([[0.0, 2.0]])})
    deaf = replace(VIDEOS[0], id="deaf")
    scores = [scores_of(one, noise=0.5) for one in VIDEOS]
    alone = evaluate_actions(VIDEOS, {SUBJECT: scores})
    odd = [np.zeros((9, 4)), np.zeros((2, 4)), None]
    result = evaluate_actions([*VIDEOS, none, short, deaf], {SUBJECT: [*scores, *odd]})
    assert result.not_scored[SUBJECT] == {
        "no annotated step": ["none"],
        "fewer frames than steps": ["short"],
        "nothing to compare: a modality is missing": ["deaf"],
    }
    before, after = values(alone), values(result)
    assert after["videos_not_scored"] == 3
    assert {m: after[m] for m in METRICS} == pytest.approx({m: before[m] for m in METRICS})


def test_unknown_frames_and_steps_are_never_preferred():
    one, given = VIDEOS[0], scores_of(VIDEOS[0])
    given[-5:] = np.nan
    assert not found_in(one, given).placed[-5:].any()
    with pytest.raises(ShapeError, match=r"v0: scores are \(40, 5\), expected \(40, 6\)"):
        evaluate_actions([one], {SUBJECT: [given[:, :-1]]})
    with pytest.raises(ShapeError, match="2 videos but 1 matrices"):
        evaluate_actions(VIDEOS[:2], {SUBJECT: [given]})


def test_even_spreading_is_right_where_steps_are_even():
    truth = np.repeat(np.eye(4, dtype=bool), 5, axis=0)
    one = ActionVideo("x", "x", truth, {k: np.array([[5.0 * k, 5.0 * k + 5]]) for k in range(4)})
    found = evenly_spread(one)
    assert found.placed.argmax(axis=0).tolist() == [2, 7, 12, 17]
    assert (found.labels == one.labels).all()
    assert one.order == [0, 1, 2, 3]


def counting_store(path, **info):
    """A recording of 20 s whose video features count the seconds, and whose sound counts them too."""
    seconds = np.arange(20, dtype=np.float32)
    tracks = [Track("video_2d", "video", 2, 1.0), Track("audio_mel", "audio", 40, 100.0)]
    rows = {
        "video_2d": np.stack([seconds + 1, np.zeros(20)], axis=1).astype(np.float16),
        "audio_mel": np.repeat(seconds, 100)[:, None].repeat(40, axis=1).astype(np.float16),
    }
    clips = (Clip(0.0, 8.0, "one"), Clip(8.0, 20.0, "two", missing=("audio",)))
    words = train_word_vectors(["one two"], dim=4)
    with StoreWriter(path, name="x", tracks=tracks, words=words, info=info) as writer:
        writer.add(Recording("r", "test", 20.0, rows, clips))
    return open_store(path)


def test_a_frame_hears_four_seconds_to_either_side_shifted_inward_at_the_ends(tmp_path):
    store = counting_store(tmp_path / "s", action_frames={"hop_s": 1.0, "video_s": [0.0, 1.0], "audio_s": [-4.0, 4.0]})
    grid = frame_grid(store)
    assert grid == FrameGrid(1.0, (0.0, 1.0), (-4.0, 4.0))
    source = FrameSource(store, [0], grid, window=ClipWindow(audio_frames=10))
    assert len(source) == 20
    batch = source.batch(np.arange(20))
    assert batch.inputs["audio"].shape == (20, 40, 800)
    heard = batch.inputs["audio"][:, 0, :]
    assert [int(heard[i, :790].min()) for i in (0, 3, 4, 10)] == [0, 0, 0, 5]  # a log-mel frame reaches back a little
    assert [int(heard[i, 790]) for i in (0, 3, 4, 10, 19)] == [7, 7, 7, 13, 19]
    assert batch.present["audio"].tolist() == [True] * 8 + [False] * 12
    assert batch.present["video"].all()
    assert not batch.present["text"].any()


def test_other_stores_are_seen_a_quarter_of_a_clip_apart(tmp_path):
    store = make_store(tmp_path / "s", recordings=2, test=1)
    grid = frame_grid(store)
    assert grid.hop_s == pytest.approx(0.16)
    assert grid.video_s == grid.audio_s == pytest.approx((-0.08, 0.24))
    assert grid.frames(2.56) == 16
    assert grid.covered(0.64, 1.28, 2.56) == slice(4, 8)
    assert grid.covered(2.55, 9.0, 2.56) == slice(15, 16)


def settings_for(store, *, stages="VT", **training):
    return {
        **BASE,
        "experiment": stages,
        "stages": stages,
        "data": {"store": str(store)},
        "training": {**BASE["training"], **training},
        "evaluation": {"tasks": ["actions"]},
    }


def run(folder, store, **training):
    path = folder / "e.yaml"
    path.write_text(yaml.safe_dump(settings_for(store, **training)))
    return run_experiment(path, folder / "run", seed=0)


def numbers(folder, subject=SUBJECT):
    table = RunFolder(folder.path).results()
    table = table[(table.task == "actions") & (table.subject == subject)]
    return dict(zip(table.metric, table.value, strict=True))


def test_a_trained_run_finds_steps_and_the_untrained_one_does_not(tmp_path):
    make_store(tmp_path / "store", recordings=44, clips=6, test=12)
    done = run(tmp_path, tmp_path / "store", epochs=20, lr=0.01)
    found = numbers(done)
    assert found["videos_scored"] == 12
    assert found["step_recall_unordered"] > found["chance_step_recall_unordered"] + 0.25
    assert found["mean_average_precision"] > found["chance_mean_average_precision"] + 0.25
    assert found["step_recall"] > found["untrained_step_recall"]
    assert found["chance_step_recall_unordered"] == pytest.approx(1 / 6, abs=0.05)
    assert {row.split(":")[0] for row in done.results().subject} >= {SUBJECT, "text->audio", "text->video+audio"}
    told = json.loads((done.path / "actions.json").read_text())
    assert len(told["examples"]) == 3
    example = told["examples"][0]
    assert np.array(example["scores"]).shape == (24, len(example["steps"])) == (24, 6)
    assert all(0 < second < 3.84 for second in example["found_s"])
    inside = [start <= example["found_s"][number] < end for number, start, end in example["spans"]]
    assert example["hit"] == inside


def test_a_run_on_shuffled_pairs_finds_no_more_than_chance(tmp_path):
    make_store(tmp_path / "store", recordings=44, clips=6, test=12)
    settings = settings_for(tmp_path / "store", epochs=20, lr=0.01)
    settings["data"]["shuffle_pairs"] = True
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(settings))
    found = numbers(run_experiment(tmp_path / "e.yaml", tmp_path / "run", seed=0))
    for metric in ("step_recall_unordered", "mean_average_precision"):
        assert found[metric] < found[f"chance_{metric}"] + 0.12


def test_the_narrated_world_is_searched_as_it_is(tmp_path):
    build_world(
        WorldSettings(train_recordings=4, val_recordings=0, test_recordings=3, video_dim=8, word_dim=8),
        tmp_path / "w",
    )
    store = open_store(tmp_path / "w")
    known = steps_of(store[4])
    assert len(known.texts) == 6
    assert known.texts == tuple(clip.caption for clip in store[4].clips)
    found = numbers(run(tmp_path, tmp_path / "w", epochs=1))
    assert found["videos_scored"] == 3
    assert found["uniform_step_recall"] == 1.0  # its events are equally long: order alone tells them
    assert found["chance_step_recall_unordered"] == pytest.approx(1 / 6, abs=0.12)


@pytest.fixture
def crosstask(tmp_path):
    write_crosstask(tmp_path, videos=24, audio=True)
    import_crosstask(
        tmp_path / "videos.csv",
        tmp_path / "store",
        annotations=tmp_path / "annotations",
        features=tmp_path / "features",
        tasks=[tmp_path / "tasks.txt"],
        audio=tmp_path / "audio",
        cook=tmp_path / "cook.txt",
        held_out=tmp_path / "held_out.csv",
    )
    return tmp_path


def test_crosstask_from_files_to_step_recall(crosstask):
    found_run = run(crosstask, crosstask / "store", epochs=30, lr=0.005)
    found = numbers(found_run, SUBJECT)
    assert found["videos_scored"] == 12
    assert found["step_recall"] > found["chance_step_recall"] + 0.2
    assert numbers(found_run, f"{SUBJECT}:cook")["videos_scored"] == 6
    assert numbers(found_run, f"{SUBJECT}:non-cook")["videos_scored"] == 6
    again = evaluate_run(found_run.path, tasks=["actions"])
    assert numbers(again, SUBJECT) == found


def test_mining_youtube_from_files_to_iou(tmp_path):
    for name in ("annotations", "features"):
        (tmp_path / name).mkdir()
    actions = [("crack_egg", 0, 5), ("whisk_egg", 6, 11), ("add_salt", 14, 17), ("pour_egg", 17, 24)]
    for number in range(12):
        moved = [(name, start + number % 3, end + number % 3) for name, start, end in actions]
        (tmp_path / "annotations" / f"v{number}.srt").write_text(srt(moved), encoding="utf-8")
        np.save(tmp_path / "features" / f"v{number}.npy", features_of(moved, 28, seed=number))
    (tmp_path / "test.txt").write_text("\n".join(f"v{number}" for number in range(6, 12)))
    import_mining_youtube(
        tmp_path / "annotations", tmp_path / "store", features=tmp_path / "features", held_out=tmp_path / "test.txt"
    )
    settings = settings_for(tmp_path / "store", epochs=40, lr=0.005)
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(settings))
    found = numbers(run_experiment(tmp_path / "e.yaml", tmp_path / "run", seed=0), SUBJECT)
    assert found["iou"] > found["chance_iou"] + 0.1
    assert found["iod"] >= found["iou"]
    assert found["videos_scored"] == 6


def test_a_store_without_steps_is_refused_before_training(tmp_path):
    make_store(tmp_path / "store", clips=1)
    with pytest.raises(DataError, match="no recording has two steps or more, as the task actions needs"):
        run(tmp_path, tmp_path / "store")
    assert not (tmp_path / "run" / "checkpoints").exists()
