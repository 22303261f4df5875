"""The studies as published, from files in the published layouts to their report; sizes are cut, nothing else."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import mcnlab.study
from mcnlab.data.importers.howto100m import import_howto100m
from mcnlab.data.importers.msrvtt import import_msrvtt
from mcnlab.data.importers.youcook2 import import_youcook2
from mcnlab.errors import DataError
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.reporting.notebooks import settings_path
from mcnlab.study import run_study
from mcnlab.study_plan import laid_over, read_study
from tests.howto100m_files import WORDS, write_howto100m

STUDIES = ("howto100m_two_stage.yaml", "mcn_iccv2021.yaml")
SMALL = {
    "model": {"dim": 8, "audio_width": 8, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 64, "words": 4},
    "data": {"clips_per_video": 4, "min_time_s": 5},
    "training": {"epochs": 3, "batch": 16, "warmup_steps": 2, "threads": 1, "precision": "float32"},
}


def clip(number, captions):
    """A clip as the released pickles of YouCook2 and MSR-VTT have it."""
    random = np.random.default_rng(number)
    features = {name: random.random(2048, dtype=np.float32) for name in ("2d", "3d")}
    pooled = {f"{name}_pooled": rows for name, rows in features.items()}
    audio = -80 * torch.from_numpy(random.random((40, 300), dtype=np.float32))
    rows = {f"{name}": rows[None] for name, rows in features.items()} if len(captions) == 1 else features
    return {**rows, **pooled, "audio": audio, "id": f"vid{number // 2:07d}__{number % 2}", **captions}


def sentence(number):
    random = np.random.default_rng(number)
    return " ".join(random.choice(WORDS, 4))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """HowTo100M, YouCook2 and MSR-VTT at their published widths, a few clips of each, beside the studies."""
    root = tmp_path_factory.mktemp("published")
    ids = write_howto100m(root / "howto", videos=10, dim=2048)
    (root / "held.txt").write_text("\n".join(["path", *ids[-2:]]) + "\n")
    words = root / "howto" / "words.bin"
    import_howto100m(
        root / "howto" / "list.csv",
        root / "stores" / "howto100m",
        features=root / "howto" / "features",
        captions=root / "howto" / "caption.json",
        words=words,
        held_out=root / "held.txt",
    )
    cooked = [clip(number, {"caption": sentence(number)}) for number in range(12)]
    (root / "y.pkl").write_bytes(pickle.dumps(cooked))
    import_youcook2(None, root / "y.pkl", root / "stores" / "youcook2", words=words)
    shown = [{**clip(number, {"eval_caption": sentence(number)}), "id": f"video{number}"} for number in range(12)]
    (root / "m.pkl").write_bytes(pickle.dumps(shown))
    import_msrvtt(None, root / "m.pkl", root / "stores" / "msrvtt", words=words)
    (root / "studies").mkdir()
    for name in STUDIES:
        (root / "studies" / name).write_text(settings_path(name).read_text())
    return root


@pytest.mark.parametrize("name", STUDIES)
def test_the_published_sizes_are_in_the_study(name):
    study = read_study(settings_path(name))
    for own in study.experiments:
        merged = ExperimentSettings.parse(laid_over(study.base, own), source=name)
        training, model = merged.training, merged.model
        assert (model.dim, model.audio_width, model.audio_frames, model.words) == (6144, 1024, 1000, 20)
        assert (training.epochs, training.lr, training.batch) == (30, 1e-4, 128 * 32)
        assert sum(stage.epochs or 0 for stage in merged.stages) in (0, 30)
        assert merged.evaluation.queries_total == {"youcook2": 3350, "msrvtt": 1000}


@pytest.mark.parametrize("name", STUDIES)
def test_a_small_study_as_published_runs_from_import_to_zero_shot(name, stores, tmp_path):
    study = read_study(stores / "studies" / name)
    own = study.experiments[-1]
    small = laid_over(laid_over(study.base, own), SMALL)
    if small.get("terms", {}).get("cluster") is not None:
        small["terms"]["cluster"] = {"clusters": 4, "queue_batches": 2}
    small["data"]["store"] = str(stores / "stores" / "howto100m")
    small["evaluation"]["also"] = {key: str(stores / "stores" / key) for key in ("youcook2", "msrvtt")}
    run = run_experiment(ExperimentSettings.parse(small, source=name), tmp_path / "run")
    results = run.results().set_index(["task", "subject", "metric"])["value"]
    for dataset, total in (("youcook2", 3350), ("msrvtt", 1000)):
        found = results[f"retrieval@{dataset}"]
        for subject in ("text->video", "text->audio", "text->video+audio", "video->text"):
            assert found[subject, "chance_at_1"] == pytest.approx(1 / 12)
            assert found[subject, "strict_recall_at_10"] == pytest.approx(found[subject, "recall_at_10"] * 12 / total)
    assert results["retrieval@youcook2"]["text->video", "chance_video_at_1"] == pytest.approx(1 / 6)
    assert np.isfinite(run.metrics()["loss"]).all()


def test_only_the_chosen_video_track_is_read(stores, tmp_path):
    small = {**SMALL, "experiment": "x", "stages": "VT", "evaluation": {"tasks": ["retrieval"]}}
    widths = {}
    for tracks in (None, ["video_2d"], ["video_3d"]):
        data = {"store": str(stores / "stores" / "howto100m"), "video_tracks": tracks}
        settings = ExperimentSettings.parse({**small, "data": data}, source="test")
        run = run_experiment(settings, tmp_path / f"run-{tracks}")
        widths[str(tracks)] = mcnlab.load_run(run.path).model().feature_dims["video"]
    assert widths == {"None": 4096, "['video_2d']": 2048, "['video_3d']": 2048}
    wrong = {"store": str(stores / "stores" / "howto100m"), "video_tracks": ["video_4d"]}
    with pytest.raises(DataError, match=r"no video track 'video_4d'; it has video_2d, video_3d"):
        run_experiment(ExperimentSettings.parse({**small, "data": wrong}, source="test"), tmp_path / "no")


@pytest.mark.slow
def test_the_study_of_orders_has_its_report_with_published_numbers_beside_it(stores, tmp_path):
    study = yaml.safe_load((stores / "studies" / STUDIES[0]).read_text())
    study["base"] = laid_over(study["base"], SMALL)
    study["base"]["terms"]["cluster"] = {"clusters": 4, "queue_batches": 2}
    study["experiments"] = [study["experiments"][0], study["experiments"][1]]
    path = stores / "studies" / "small.yaml"
    path.write_text(yaml.safe_dump(study))
    index = run_study(path, out=tmp_path, workers=2)
    text = index.read_text()
    assert "Zero-shot on YouCook2, beside published numbers" in text
    assert "Zero-shot on MSR-VTT, beside published numbers" in text
    table = pd.read_csv(index.parent / "results.csv")
    assert {"retrieval@youcook2", "retrieval@msrvtt"} <= set(table["task"])
