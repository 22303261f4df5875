"""Protocols beside plain clip retrieval: whole videos, missing clips as mistakes, stores that were not trained on."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from mcnlab.cli import main
from mcnlab.data.importers.crosstask import import_crosstask
from mcnlab.data.loading import input_dim
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError, ShapeError
from mcnlab.evaluation.retrieval import Direction, evaluate_retrieval
from mcnlab.experiment import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.metrics import chance_by_video, ranks_by_video, retrieval_ranks
from mcnlab.runs import RunFolder
from mcnlab.study import run_study
from tests.mini_study import BASE, EXPERIMENTS, write_study
from tests.small_store import make_store
from tests.step_files import write_crosstask


def slow_ranks(queries, gallery, query_video, gallery_video):
    """The two protocols as they are written down, one query at a time."""
    by_clip, by_video = [], []
    for query, video in zip(queries, query_video, strict=True):
        scores = gallery @ query
        best = max(score for score, other in zip(scores, gallery_video, strict=True) if other == video)
        rivals = [score for score, other in zip(scores, gallery_video, strict=True) if other != video]
        by_clip.append(1 + sum(score >= best for score in rivals))
        tops = {v: max(s for s, o in zip(scores, gallery_video, strict=True) if o == v) for v in set(gallery_video)}
        by_video.append(sum(top >= best for top in tops.values()))
    return by_clip, by_video


@pytest.mark.parametrize("seed", range(5))
def test_ranks_by_video_are_those_of_the_definition(seed):
    random = np.random.default_rng(seed)
    queries = random.integers(-2, 3, (17, 3)).astype(float)  # whole numbers, so that there are ties
    gallery = random.integers(-2, 3, (40, 3)).astype(float)
    gallery_video = np.concatenate([np.arange(9), random.integers(0, 9, 31)])
    query_video = random.integers(0, 9, 17)
    sides = torch.from_numpy(queries), torch.from_numpy(gallery)
    for block in (None, 4):
        found = ranks_by_video(*sides, query_video=query_video, gallery_video=gallery_video, block=block)
        for ours, slow in zip(found, slow_ranks(queries, gallery, query_video, gallery_video), strict=True):
            assert ours.tolist() == slow


def test_with_one_clip_per_video_all_protocols_are_one():
    random = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(30, 4, generator=random), torch.randn(30, 4, generator=random)
    videos = np.arange(30)
    plain = retrieval_ranks(queries, gallery).numpy()
    for found in ranks_by_video(queries, gallery, query_video=videos, gallery_video=videos):
        np.testing.assert_array_equal(found, plain)


def test_chance_by_video_is_the_mean_over_all_orders():
    gallery_video = np.array([0, 0, 1, 2, 2, 2])
    query_video = np.array([0, 1, 2])
    hits = {1: [0, 0, 0], 2: [0, 0, 0]}
    orders = list(itertools.permutations(gallery_video))
    for order in orders:
        for video in query_video:
            place = order.index(video) + 1
            for k, found in hits.items():
                found[video] += place <= k
    by_clip, by_video = chance_by_video(query_video, gallery_video, ks=(1, 2))
    assert by_clip == {k: pytest.approx(np.mean(found) / len(orders)) for k, found in hits.items()}
    assert by_video == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3)}


def test_a_video_without_clips_is_refused():
    with pytest.raises(ShapeError, match="video 7 is asked for but has no clip"):
        ranks_by_video(torch.eye(2), torch.eye(2), query_video=np.array([0, 7]), gallery_video=np.array([0, 1]))


def test_missing_clips_count_as_mistakes_where_that_is_asked_for():
    queries = np.eye(4, dtype=np.float32)
    queries[3] = np.nan
    found = evaluate_retrieval(
        [Direction("text->video", queries, np.eye(4, dtype=np.float32))], queries_total=10, videos=["a", "a", "b", "c"]
    )
    values = {row.metric: row.value for row in found.rows}
    assert values["recall_at_1"] == 1
    assert values["strict_recall_at_1"] == pytest.approx(0.3)
    assert values["any_clip_recall_at_1"] == values["video_recall_at_1"] == 1
    assert values["chance_video_at_1"] == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="3 queries were asked, more than queries_total = 2"):
        evaluate_retrieval([Direction("text->video", queries, np.eye(4, dtype=np.float32))], queries_total=2)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A run that is measured on two more stores: its own again under another name, and one of other clips."""
    folder = tmp_path_factory.mktemp("elsewhere")
    make_store(folder / "own")
    make_store(folder / "other", seed=5)
    values = {
        **BASE,
        "experiment": "V+T",
        "stages": "VT",
        "data": {"store": str(folder / "own")},
        "evaluation": {
            "tasks": ["retrieval"],
            "also": {"same": str(folder / "own"), "other": str(folder / "other")},
            "by_video": True,
            "queries_total": {"own": 1000, "same": 1000},
        },
    }
    run = run_experiment(ExperimentSettings.parse(values, source="test"), folder / "run")
    return folder, values, run.results().set_index(["task", "subject", "metric"])["value"]


def test_a_store_that_was_trained_on_gives_the_same_numbers_under_another_name(elsewhere):
    _, _, results = elsewhere
    own, same = results["retrieval"].drop("untrained_at_1", level="metric"), results["retrieval@same"]
    shared = [key for key in own.index if not key[1].startswith("untrained")]
    assert len(shared) > 20
    np.testing.assert_array_equal(own[shared].to_numpy(), same[shared].to_numpy())


def test_a_run_says_which_stores_it_was_measured_on(elsewhere):
    folder, _, _ = elsewhere
    said = RunFolder(folder / "run").provenance["evaluated"]
    assert list(said) == ["own", "same", "other"]
    for name, path in (("own", "own"), ("same", "own"), ("other", "other")):
        store = open_store(folder / path)
        assert said[name] == {
            "store": "small",
            "split": "test",
            "clips": store.splits["test"],
            "fingerprint": store.fingerprint,
            "path": str(store.path),
        }


def test_another_store_has_numbers_of_its_own(elsewhere):
    _, _, results = elsewhere
    other = results["retrieval@other"]
    assert other["text->video", "mean_rank"] != results["retrieval"]["text->video", "mean_rank"]
    assert ("text->video", "video_recall_at_1") in other.index
    assert ("text->video", "strict_recall_at_1") not in other.index


def test_a_store_that_the_model_cannot_read_is_refused_before_training(elsewhere, tmp_path):
    _, values, _ = elsewhere
    make_store(tmp_path / "wide", video_dim=7)
    for path, said in ((tmp_path / "wide", "video is 7 wide, but"), (tmp_path / "none", "none")):
        broken = {**values, "evaluation": {"tasks": ["retrieval"], "also": {"x": str(path)}}}
        with pytest.raises(DataError, match=said):
            run_experiment(ExperimentSettings.parse(broken, source="test"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="also"):
        ExperimentSettings.parse({**values, "evaluation": {"also": {"Bad Name": "x"}}}, source="test")


def test_a_store_with_lists_of_steps_is_searched_too(tmp_path):
    write_crosstask(tmp_path)
    import_crosstask(
        tmp_path / "videos.csv",
        tmp_path / "store",
        annotations=tmp_path / "annotations",
        features=tmp_path / "features",
        tasks=[tmp_path / "tasks.txt"],
        held_out=tmp_path / "videos.csv",
    )
    other = open_store(tmp_path / "store")
    make_store(tmp_path / "own", video_dim=input_dim(other, "video"), word_dim=input_dim(other, "text"))
    values = {**BASE, "experiment": "V+T", "stages": "VT", "data": {"store": str(tmp_path / "own")}}
    values |= {"evaluation": {"tasks": ["retrieval"], "also": {"crosstask": str(tmp_path / "store")}}}
    run = run_experiment(ExperimentSettings.parse(values, source="test"), tmp_path / "run")
    found = run.results().set_index(["task", "subject", "metric"])["value"]
    assert 0 <= found["actions@crosstask", "text->video", "step_recall"] <= 1
    assert "actions" not in found.index.get_level_values("task")
    assert not (run.path / "actions.json").exists()


@pytest.mark.slow
def test_evaluating_on_another_store_leaves_the_runs_own_numbers_and_files(tmp_path, capsys):
    write_study(tmp_path, experiments=[EXPERIMENTS[0]])
    make_store(tmp_path / "other", seed=5)
    run_study(tmp_path / "mini.yaml", out=tmp_path, workers=1)
    run = tmp_path / "runs" / "mini" / "V-T-s0"
    changing = ("results.json", "files.json")  # its rows, and its checksum
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name not in changing}
    own = RunFolder(run).results()
    assert main(["evaluate", str(run), "--store", str(tmp_path / "other")]) == 0
    assert "retrieval@small" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--store", str(tmp_path / "other"), "--tasks", "actions"]) == 0
    after = RunFolder(run).results()
    kept = after[after["task"].isin(own["task"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        kept.sort_values(["task", "subject", "metric"], ignore_index=True),
        own.sort_values(["task", "subject", "metric"], ignore_index=True),
    )
    assert {"retrieval@small", "retention@small", "clusters@small", "actions@small"} <= set(after["task"])
    assert {path: path.read_bytes() for path in before} == before
    assert main(["report", str(run.parent)]) == 0
    make_store(tmp_path / "wide", word_dim=5)
    assert main(["evaluate", str(run), "--store", str(tmp_path / "wide")]) == 3
    assert "its text is 5 wide, but 8 wide in" in capsys.readouterr().err
