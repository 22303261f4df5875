"""Detection and explanation from settings to report: tiny runs always, the studies at their own size when asked."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

import mcnlab
from mcnlab.data.scenes import SEGMENT_S
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.build import build_source, prefix_keys
from mcnlab.experiment.checks import check_held_out
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.metrics.statistics import mean_interval
from mcnlab.reporting.notebooks import execute, notebook_path, settings_path
from mcnlab.reporting.pages import index_page
from mcnlab.reporting.places import curves_of_parts
from mcnlab.reporting.summary import summarize
from mcnlab.runs import RunFolder
from mcnlab.study import SOUND_NOTEBOOK, STUDY_NOTEBOOKS, notebooks_of
from mcnlab.study_plan import StudyFolders, plan_runs, read_study
from mcnlab.training.checkpoint import list_checkpoints
from mcnlab.training.detect_term import DetectTerm, PseudoRules
from mcnlab.training.terms import Active
from tests.small_store import make_store

MODEL = {
    "dim": 8,
    "heads": {"video": "linear", "audio": "linear"},
    "audio_width": 8,
    "audio_blocks": 1,
    "video_width": 8,
    "video_backbone": "conv2d",
}
SCENES = {"train_scenes": 24, "val_scenes": 0, "test_scenes": 8, "frames_per_segment": 1, "size_px": 24, "classes": 4}
TRAINING = {"batch": 24, "lr": 0.002, "warmup_steps": 1, "threads": 1, "prefetch": 0}
DETECT = {
    "experiment": "tiny detector",
    "data": {"scenes": {**SCENES, "segments": 2}},
    "model": {**MODEL, "video_frames": 1},
    "terms": {
        "contrast": {"loss": "info_nce", "scorer": "maximum"},
        "detect": {"classes": 4, "width": 8, "queue_rows": 48},
    },
    "stages": [
        {"epochs": 1, "modalities": ["video", "audio"], "terms": ["contrast"]},
        {"epochs": 4, "modalities": ["video", "audio"], "terms": ["detect"], "frozen": ["video", "audio"]},
    ],
    "training": TRAINING,
    "evaluation": {"tasks": ["detection"]},
}
EXPLAIN = {
    "experiment": "tiny attention",
    "data": {"scenes": {**SCENES, "segments": 4, "sounding": "once", "clips": "scenes"}, "label": "label"},
    "model": {**MODEL, "video_frames": 4, "audio_frames": 512, "segments": 4},
    "terms": {"explain": {"width": 8}},
    "stages": [{"epochs": 2, "modalities": ["video", "audio"], "terms": ["explain"]}],
    "training": TRAINING,
    "evaluation": {"tasks": ["explanation"]},
}


def settings(values, **changes):
    return ExperimentSettings.parse({**values, **changes}, source="test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both tiny runs."""
    made = tmp_path_factory.mktemp("places")
    for values, name in ((DETECT, "detect-s0"), (EXPLAIN, "explain-s0")):
        run_experiment(settings(values), made / "runs" / name, stores=made / "stores")
    return made


def rows_of(folder, name):
    rows = json.loads((folder / "runs" / name / "results.json").read_text())["rows"]
    return {(row["task"], row["subject"], row["metric"]): row["value"] for row in rows}


def test_a_detector_is_trained_and_measured_beside_what_it_must_beat(folder):
    rows = rows_of(folder, "detect-s0")
    for ending in ("", "_untrained", "_swapped", "_center"):
        assert 0 <= rows["detection", "heat map", f"pointing{ending}"] <= 1
    for metric in ("accuracy", "accuracy_untrained", "accuracy_chance"):
        assert 0 <= rows["detection", "pseudo-classes", metric] <= 1
    assert rows["detection", "detector", "ap_50"] <= rows["detection", "detector", "ap_30"] <= 1


def test_the_towers_rest_while_the_detector_learns(folder):
    run = RunFolder(folder / "runs" / "detect-s0")
    steps = run.metrics()
    learned = steps[steps["stage"] == "2:VA"]
    assert {f"term.detect.{part}" for part in ("center", "sides", "heard", "seen")} <= set(learned.columns)
    centers = learned["term.detect.center"].dropna()
    assert centers.iloc[-1] < centers.iloc[0]
    contrast, last = (load_file(path / "model.safetensors") for path in list_checkpoints(run.path / "checkpoints"))
    towers = [name for name in contrast if name.startswith(("backbones.", "heads."))]
    assert towers
    assert all(torch.equal(contrast[name], last[name]) for name in towers)


def test_attention_is_measured_in_time_in_space_and_in_both_beside_chance(folder):
    rows = rows_of(folder, "explain-s0")
    for subject in ("time", "space", "space and time"):
        assert {"pointing", "untrained_pointing", "chance"} <= {m for _, s, m in rows if s == subject}
    assert rows["explanation", "space and time", "chance"] < rows["explanation", "time", "chance"] < 1
    assert {s for _, s, _ in rows if s.startswith(("delete", "keep"))} == {
        f"{kind}:{count}" for kind in ("delete", "keep") for count in (1, 2, 3)
    }


@pytest.mark.slow
def test_the_report_shows_pictures_of_both(folder):
    page = index_page(summarize(folder / "runs"))
    for title in ("Where sound points, and what the detector finds", "Where and when attention looks"):
        assert title in page
    for name, columns in (("detect-s0/detection", {"heat", "found"}), ("explain-s0/explanation", {"space", "time"})):
        table = pd.read_parquet(folder / "runs" / f"{name}.parquet")
        assert columns <= set(table.columns)
        assert len(table) > 0


@pytest.mark.parametrize("run", ["explain-s0", "detect-s0"])
def test_a_study_with_attention_or_a_detector_is_shown_in_the_notebook_on_sound(folder, tmp_path, run):
    (tmp_path / "runs").mkdir()
    copied = shutil.copytree(folder / "runs" / run, tmp_path / "runs" / run).parent
    assert notebooks_of(copied) == (*STUDY_NOTEBOOKS, SOUND_NOTEBOOK)


@pytest.mark.slow
@pytest.mark.notebook
def test_the_notebook_on_sound_records_where_attention_points(folder, tmp_path):
    out = tmp_path / "numbers.json"
    values = {"study_dir": str(folder / "runs"), "out": str(out)}
    execute(notebook_path(SOUND_NOTEBOOK), tmp_path / "done.ipynb", values)
    own = rows_of(folder, "explain-s0")["explanation", "space", "pointing"]
    recorded = json.loads(out.read_text())
    assert recorded["pointing in space tiny attention"] == pytest.approx(own)
    found = rows_of(folder, "detect-s0")["detection", "heat map", "pointing"]
    assert found in [pytest.approx(value) for name, value in recorded.items() if " in " not in name]


def test_curves_begin_with_all_parts_and_end_with_them(folder):
    curves = curves_of_parts(summarize(folder / "runs"))
    solid = [line for line in curves.plot.data if line.line.dash == "solid"]
    assert [list(line.x) for line in solid] == [[0, 1, 2, 3], [1, 2, 3, 4]]
    whole = rows_of(folder, "explain-s0")["explanation", "clips", "accuracy"]
    assert (solid[0].y[0], solid[1].y[-1]) == (whole, whole)


def test_without_boxes_nothing_is_said_of_pointing(folder, tmp_path):
    stores = (folder / "stores").glob("scenes-*")
    [stored] = [one for one in stores if open_store(one).boxes["end_s"].max() > 2 * SEGMENT_S]
    bare = shutil.copytree(stored, tmp_path / "bare")
    (bare / "boxes.parquet").unlink()
    info = json.loads((bare / "store.json").read_text())
    del info["files"]["boxes.parquet"]
    (bare / "store.json").write_text(json.dumps(info))
    data = {"store": str(bare), "label": "label"}
    run_experiment(settings(EXPLAIN, data=data), tmp_path / "runs" / "bare-s0")
    subjects = {subject for task, subject, _ in rows_of(tmp_path, "bare-s0") if task == "explanation"}
    assert {"clips", "delete:1", "keep:3"} <= subjects
    assert not subjects & {"time", "space", "space and time"}
    page = index_page(summarize(tmp_path / "runs"))
    assert "Where and when attention looks" in page
    assert "Where attention points" not in page


def detect_term(**changes):
    rules = PseudoRules(classes=3, queue_rows=60, sharpness=10.0, refit_every=2)
    return DetectTerm(weight=1.0, pair="va", dim=4, rules=rules, **changes)


def rows(count, seed=0):
    draws = torch.Generator().manual_seed(seed)
    centers = torch.eye(3, 8)[torch.randint(3, (count,), generator=draws)]
    return torch.nn.functional.normalize(centers + 0.1 * torch.randn(count, 8, generator=draws), dim=1)


def test_pseudo_classes_go_on_as_they_were_after_a_checkpoint():
    one, other = detect_term(), detect_term()
    for step in range(3):
        one._labels(rows(20, seed=step), step)
    other.load_state_dict(one.state_dict())
    assert one._labels(rows(20, seed=9), 3).tolist() == other._labels(rows(20, seed=9), 3).tolist()


def test_no_label_is_given_before_enough_clips_were_seen():
    term = detect_term()
    assert [term._labels(rows(20, seed=step), step) is None for step in range(3)] == [True, True, False]


@pytest.mark.parametrize(("deal", "boxes_stay", "labels_stay"), [("nothing", 1, 1), ("classes", 1, 0), ("boxes", 0, 0)])
def test_a_control_deals_what_it_says(deal, boxes_stay, labels_stay):
    boxes, labels = torch.arange(80.0).reshape(20, 4), torch.arange(20)
    dealt = detect_term(deal=deal)._dealt(boxes, labels, 0)
    assert (torch.equal(dealt[0], boxes), torch.equal(dealt[1], labels)) == (bool(boxes_stay), bool(labels_stay))
    if deal == "boxes":
        assert torch.equal(dealt[0][:, 0] / 4, dealt[1].float())  # a box keeps its class


def test_what_is_dealt_says_nothing_about_a_clip():
    boxes, labels = torch.zeros(20, 4), torch.arange(20)
    dealt = [detect_term(deal="classes")._dealt(boxes, labels, step)[1] for step in range(50)]
    assert all((one != labels).all() for one in dealt)  # its own label now and then would be told, on average
    assert all(one.sort().values.tolist() == labels.tolist() for one in dealt)
    alone = detect_term(deal="classes")._dealt(boxes[:1], labels[:1], 0)
    assert alone[1].tolist() == [0]


def test_a_control_shares_the_stage_before_its_term_is_at_work():
    dealt = {**DETECT["terms"], "detect": {**DETECT["terms"]["detect"], "deal": "classes"}}
    wide = {**DETECT["terms"], "detect": {**DETECT["terms"]["detect"], "width": 16}}
    own, control, other = (
        prefix_keys(settings(DETECT, terms=terms), fingerprint="f", seed=0) for terms in (DETECT["terms"], dealt, wide)
    )
    assert own[0] == control[0] != other[0]  # another width has other first weights
    assert own[1] != control[1]


@pytest.mark.parametrize("deal", ["classes", "boxes"])
def test_no_clip_is_dealt_its_own(deal):
    own, term = torch.arange(5), detect_term(deal=deal)
    dealt = torch.stack([term._dealt(torch.zeros(5, 4), own, step)[1] for step in range(400)])
    assert (dealt.sort(dim=1).values == own).all()
    assert (dealt != own).all()
    shares = torch.stack([(dealt == other).float().mean(dim=0) for other in own])  # by whose it was, and whose it is
    assert (shares + torch.eye(5) / 4 - 1 / 4).abs().max() < 0.08  # 0.02 is one standard deviation


def test_a_lone_clip_trains_no_control(folder):
    run = mcnlab.load_run(folder / "runs" / "detect-s0")
    store = run.store()
    model = run.model(store).eval()
    batch = build_source(run.settings, store, "train", shuffle_seed=None).batch(np.array([0]))
    outputs, active = model(batch, ("video", "audio")), Active(("video", "audio"), ("va",), 0)
    rules = PseudoRules(classes=4, queue_rows=48, sharpness=10.0, refit_every=20)
    known = torch.nn.functional.normalize(torch.randn(48, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    for deal, trains in (("nothing", True), ("classes", False), ("boxes", False)):
        term = DetectTerm(weight=1.0, pair="va", dim=8, rules=rules, deal=deal)
        term._labels(known, 0)
        assert (term(model, batch, outputs, active).total is not None) is trains


@pytest.mark.parametrize(
    ("values", "changes", "words"),
    [
        (DETECT, {"model": {**MODEL, "video_backbone": "shift"}}, "terms.detect needs model.video_backbone: conv2d"),
        (EXPLAIN, {"model": MODEL}, "terms.explain needs model.segments"),
        (DETECT, {"evaluation": {"tasks": ["explanation"]}}, "explanation measures what terms.explain trains"),
        (DETECT, {"mode": "faithful"}, "scorer: maximum compares cosines"),
        (
            DETECT,
            {"terms": {"contrast": {"loss": "mil_nce", "scorer": "maximum"}}, "stages": "VA"},
            "maximum belongs to info_nce and masked_margin_softmax, but loss is mil_nce",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(values, changes, words):
    with pytest.raises(ConfigError, match=words):
        settings(values, **changes)


def test_a_store_without_frames_is_refused_before_anything_is_trained(tmp_path):
    store = make_store(tmp_path / "store")
    wanted = settings(DETECT, data={"store": str(store.path)})
    with pytest.raises(DataError, match=r"terms\.detect needs video that is trained from the track video_frames"):
        run_experiment(wanted, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_store_that_cannot_name_classes_is_refused_before_it_is_scored(folder, monkeypatch):
    store = mcnlab.load_run(folder / "runs" / "detect-s0").store()
    words = "the task detection names pseudo-classes by labels of training clips, but no clip of the split '{}' has one"
    with pytest.raises(DataError, match=words.format("nobody")):
        check_held_out(settings(DETECT, data={**DETECT["data"], "train_split": "nobody"}), store)
    monkeypatch.setattr(store, "clips", lambda split: type(store).clips(store, split).assign(label=None))
    with pytest.raises(DataError, match=words.format("train")):
        check_held_out(settings(DETECT), store)


def study_rows(name, folder):
    """All runs of a study, and the mean over seeds of a quantity with its interval."""
    path = settings_path(f"studies/{name}.yaml")
    study, folders = read_study(path), StudyFolders(folder, name)
    frames = []
    for run in plan_runs(study, folders, path):
        shared = folder / "stages"
        run_experiment(run.settings, run.folder, seed=run.seed, stores=folders.stores, prefix_cache=shared)
        frames.append(pd.DataFrame(json.loads((run.folder / "results.json").read_text())["rows"]))
    table = pd.concat(frames)

    def mean(experiment, subject, metric):
        own = table[(table.experiment == experiment) & (table.subject == subject) & (table.metric == metric)]
        assert len(own) == 3
        return mean_interval(own["value"].tolist()).value

    return mean


@pytest.mark.slow
def test_sound_teaches_a_detector(tmp_path):
    mean = study_rows("self_supervised_detection", tmp_path)
    pointing = mean("detector", "heat map", "pointing")
    assert pointing >= 0.6
    assert pointing > 1.5 * mean("detector", "heat map", "pointing_untrained")
    assert pointing > 1.5 * mean("detector", "heat map", "pointing_swapped")
    assert mean("detector", "pseudo-classes", "accuracy") >= 0.9
    found = mean("detector", "detector", "ap_30")
    assert found >= 0.7
    assert found >= 5 * mean("classes dealt", "detector", "ap_30")
    assert found >= 5 * mean("boxes dealt", "detector", "ap_30")
    assert found >= 5 * mean("detector", "detector", "ap_30_untrained")


@pytest.mark.slow
def test_attention_explains_a_class(tmp_path):
    mean = study_rows("explanations", tmp_path)
    full, no_space, no_time = "space and time", "no attention in space", "no attention in time"
    assert mean(full, "time", "pointing") >= 0.8
    assert mean(full, "space and time", "pointing") >= 0.6
    whole = mean(full, "clips", "accuracy")
    own, random = (whole - mean(full, "delete:3", metric) for metric in ("accuracy", "random"))
    assert own >= 3 * random
    assert mean(no_space, "space", "pointing") < 0.5 * mean(full, "space", "pointing")
    assert mean(no_time, "time", "pointing") < 0.5 * mean(full, "time", "pointing")
    assert mean(no_space, "time", "pointing") > 2 * np.mean(mean(no_space, "time", "chance"))
    assert mean(no_time, "space", "pointing") > 2 * mean(no_time, "space", "chance")


def test_the_studies_can_be_read():
    for name in ("self_supervised_detection", "explanations"):
        path = settings_path(f"studies/{name}.yaml")
        assert len(read_study(path).experiments) == 3
        assert yaml.safe_load(path.read_text())["seeds"] == [0, 1, 2]
