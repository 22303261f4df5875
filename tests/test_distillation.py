"""Teachers and students: the projector and the losses, the classifier that is used again, and one model in the end."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mcnlab.batch import Batch
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.build import build_source, sized_model
from mcnlab.experiment.distillation import inference_parameters
from mcnlab.experiment.exported import export_student, load_student
from mcnlab.experiment.folder import run_key
from mcnlab.experiment.loaded import load_run
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.losses.distillation import distilled_logits, feature_error
from mcnlab.models import DistillationProjector
from mcnlab.models.distillation import FrozenClassifier, matched_maps, pooled, projector_parameters
from mcnlab.reporting.answer import answer
from mcnlab.reporting.notebooks import execute, notebook_path, settings_path
from mcnlab.reporting.students import accuracy_figure, size_figure, told_in_words, told_table
from mcnlab.reporting.summary import summarize
from mcnlab.study import STUDENTS_NOTEBOOK, notebooks_of
from mcnlab.study_plan import StudyFolders, laid_over, plan_runs, read_study
from mcnlab.training.distill_term import DistillTerm
from mcnlab.training.terms import Active
from tests.digit_files import DIGITS, write_digits
from tests.small_store import make_store

GOLDEN = Path(__file__).parent / "golden" / "simkd_s_smaller.npz"
COMPARED = ("teacher", "labels", "SimKD", "KD of equal size")
SEEDS = (0, 1, 2)
TEACHER = {"experiment": "teacher", "model": {"dim": 16}, "terms": {"classify": {"reads": "embeddings"}}}


@pytest.fixture(scope="module")
def golden():
    return {name: torch.from_numpy(np.array(x)) for name, x in np.load(GOLDEN, allow_pickle=False).items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("students") / "store")


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """A study in small: a student that uses its teacher's classifier, then the teacher, then students of all kinds."""
    folder = tmp_path_factory.mktemp("runs")
    run_experiment(student(store, "SimKD"), folder / "simkd-s0")
    before = sorted(path.name for path in (folder / ".teachers").iterdir() if path.is_dir())
    run_experiment(student(store, "KD", method="logits"), folder / "kd-s0")
    assert sorted(path.name for path in (folder / ".teachers").iterdir() if path.is_dir()) == before  # found again
    run_experiment(settings(store, **TEACHER), folder / "teacher-s0")
    return folder


def settings(store, **changes):
    base = {
        "experiment": "x",
        "data": {"store": str(store.path), "label": "label"},
        "stages": [{"epochs": 12, "modalities": ["video"]}],
        "model": {"dim": 4, "audio_width": 8, "audio_blocks": 1, "audio_frames": 32, "words": 4},
        "training": {"batch": 16, "lr": 0.02, "warmup_steps": 2, "threads": 1},
        "evaluation": {"tasks": ["classify"]},
    }
    return ExperimentSettings.parse(laid_over(base, changes), source="test")


def student(store, name, *, method="reuse", teacher=TEACHER, **changes):
    own = {} if method == "reuse" else {"classify": {"reads": "embeddings"}}
    terms = {**own, "distill": {"teacher": teacher, "method": method}}
    return settings(store, **laid_over({"experiment": name, "terms": terms}, changes))


def released(golden):
    """The released projector."""
    projector = DistillationProjector(6, 8, factor=4).double()
    state = {name.removeprefix("sd."): x for name, x in golden.items() if name.startswith("sd.transfer")}
    projector.load_state_dict(state)
    return projector


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_projector_agrees_with_the_released_one_and_its_gradients(golden, mode):
    projector, maps = released(golden).train(mode == "train"), golden["feat_s"].clone().requires_grad_()
    small, target = matched_maps(maps, golden["feat_t"])
    found = projector(small)
    torch.testing.assert_close(found, golden[f"{mode}_trans_s"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(target, golden[f"{mode}_trans_t"], rtol=1e-9, atol=1e-9)
    scores = nn.functional.linear(pooled(found), golden["cls.weight"], golden["cls.bias"])
    torch.testing.assert_close(scores, golden[f"{mode}_pred"], rtol=1e-9, atol=1e-9)
    error = feature_error(found, target)
    assert error.item() == pytest.approx(golden[f"{mode}_mse"].item(), rel=1e-9)
    error.backward()
    torch.testing.assert_close(maps.grad, golden[f"{mode}_grad_feat_s"], rtol=1e-7, atol=1e-10)
    first = projector.transfer[0].weight.grad
    torch.testing.assert_close(first.reshape(first.shape[:2]), golden[f"{mode}_grad_conv0"].reshape(first.shape[:2]))
    assert projector.parameters_counted == int(golden["n_params"])


@pytest.mark.parametrize(("s", "t", "r", "maps"), list(itertools.product((6, 16), (8, 64), (2, 4), (True, False))))
def test_the_parameters_of_a_projector_are_those_of_the_formula(s, t, r, maps):
    counted = DistillationProjector(s, t, factor=r, maps=maps).parameters_counted
    assert counted == projector_parameters(s, t, factor=r, maps=maps)
    if maps:
        assert counted == s * t // r + 9 * (t // r) ** 2 + t * t // r + 4 * t // r + 2 * t


def test_a_signed_projector_can_give_what_a_relu_cannot():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    plain, signed = (DistillationProjector(4, 8, maps=False, signed=one) for one in (False, True))
    assert plain(x).min().item() >= 0.0
    assert signed(x).min().item() < 0.0


def test_the_larger_map_is_averaged_down_to_the_smaller():
    large, small = torch.arange(16.0).reshape(1, 1, 4, 4), torch.zeros(1, 3, 2, 2)
    expected = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    assert torch.equal(matched_maps(large, small)[0], expected)
    assert torch.equal(matched_maps(small, large)[1], expected)


def test_scores_are_compared_by_their_flattened_distributions():
    student, teacher = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p = torch.tensor([1.0, 0.0]).softmax(0)  # 4 over the temperature
    expected = 16 * (0.5 * torch.log(0.5 / p)).sum().item()
    assert distilled_logits(student, teacher, temperature=4.0).item() == pytest.approx(expected, rel=1e-5)
    assert distilled_logits(student + 3.0, student).item() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ConfigError, match=r"above 0, got 0\.0"):
        distilled_logits(student, teacher, temperature=0.0)


@pytest.mark.parametrize("loss", [distilled_logits, feature_error])
def test_a_step_down_the_gradient_brings_the_student_nearer_and_none_goes_to_the_teacher(loss):
    draw = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(5, 3, generator=draw).requires_grad_() for _ in range(2))
    before = loss(student, teacher)
    before.backward()
    assert teacher.grad is None
    assert loss(student - 0.1 * student.grad, teacher) < before


def test_the_teachers_classifier_is_the_students_bit_for_bit_and_never_trains(runs):
    simkd, teacher = (load_run(runs / f"{name}-s0").model() for name in ("simkd", "teacher"))
    mine, hers = simkd.classifiers["video_in_joint"], teacher.classifiers["video_in_joint"]
    assert isinstance(mine, FrozenClassifier)
    assert torch.equal(mine.get_buffer("weight"), hers.weight)
    assert torch.equal(mine.get_buffer("bias"), hers.bias)
    assert not list(mine.parameters())


def test_a_student_tells_classes_by_its_teachers_classifier_and_not_with_its_channels_dealt_anew(runs):
    found = told(runs / "simkd-s0")
    assert found["accuracy"] > 0.7
    assert found["permuted_accuracy"] <= 0.4
    assert found["untrained_accuracy"] < 0.5
    assert found["chance_accuracy"] < 0.3
    assert found["accuracy"] > told(runs / "teacher-s0")["accuracy"] - 0.2


def test_parameters_count_tower_projector_and_classifier(runs):
    model = load_run(runs / "simkd-s0").model()
    head = 16 * 4 + 4 + 4 * 4 + 4  # gated unit
    assert (
        inference_parameters(model, "video", "joint") == head + projector_parameters(4, 16, maps=False) + 16 * 10 + 10
    )
    assert told(runs / "simkd-s0")["parameters"] == inference_parameters(model, "video", "joint")
    teacher = load_run(runs / "teacher-s0").model()
    assert inference_parameters(teacher, "video", "joint") == 16 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10


def test_a_student_needs_neither_its_teacher_nor_labels(store, tmp_path):
    run_experiment(student(store, "SimKD"), tmp_path / "simkd")
    source = build_source(load_run(tmp_path / "simkd").settings, store, "test", shuffle_seed=None)
    batch = source.batch(np.arange(len(source)))
    before = scores(load_run(tmp_path / "simkd").model(), batch)
    shutil.rmtree(tmp_path / ".teachers")
    assert torch.equal(scores(load_run(tmp_path / "simkd").model(), batch), before)
    folder = export_student(tmp_path / "simkd", tmp_path / "student")
    shutil.rmtree(tmp_path / "simkd")
    exported = load_student(folder)
    assert exported.classes == tuple(f"class{k}" for k in range(10))
    assert torch.equal(exported(batch.inputs["video"]), before)
    assert {name.split(".")[2].split("_in_")[0] for name in exported.state_dict()} == {"video"}
    (folder / "model.yaml").unlink()
    with pytest.raises(DataError, match=r"model\.yaml: missing from the student"):
        load_student(folder)


def test_the_term_reads_no_label(store, runs):
    known = load_run(runs / "simkd-s0")
    model = known.model().train()
    batch = build_source(known.settings, store, "train", shuffle_seed=None).batch(np.arange(16))
    assert batch.labels is None
    term = DistillTerm(weight=1.0, method="reuse", taught={("video", "joint"): torch.zeros(100, 16)})
    outputs = model(batch, ["video"])
    value = term(model, batch, outputs, Active(("video",), (), 0))
    projected = model.projectors["video_in_joint"]
    expected = projected(outputs.embeddings["video", "joint"]).square().mean()
    assert value.total.item() == pytest.approx(expected.item(), rel=1e-5)
    absent = Batch(batch.inputs, batch.lengths, {"video": torch.zeros(16, dtype=torch.bool)}, batch.clips)
    assert term(model, absent, model(absent, ["video"]), Active(("video",), (), 0)).total is None


def test_a_teacher_may_be_a_folder_and_must_be_finished(store, runs, tmp_path):
    folder = tmp_path / "teacher"
    shutil.copytree(runs / "teacher-s0", folder)
    wanted = student(store, "SimKD", teacher=str(folder), stages=[{"epochs": 1, "modalities": ["video"]}])
    run_experiment(wanted, tmp_path / "simkd")
    assert not (tmp_path / ".teachers").exists()
    mine = load_run(tmp_path / "simkd").model().classifiers["video_in_joint"]
    assert torch.equal(mine.get_buffer("weight"), load_run(folder).model().classifiers["video_in_joint"].weight)
    (folder / "status.json").write_text(json.dumps({"state": "running"}))
    with pytest.raises(DataError, match=r"terms\.distill\.teacher: .*teacher: its run is not finished"):
        run_experiment(wanted, tmp_path / "again")


def test_a_student_of_embeddings_comes_near_those_of_three_modalities(store, tmp_path):
    teacher = {
        "experiment": "MCN",
        "stages": [{"epochs": 6, "modalities": ["video", "audio", "text"]}],
        "terms": {"contrast": {}},
        "model": {"audio_width": 16},
        "data": {"label": None},
    }
    wanted = settings(
        store,
        experiment="narrow",
        data={"label": None},
        stages=[{"epochs": 6, "modalities": ["video", "audio", "text"]}],
        terms={"distill": {"teacher": teacher, "method": "embeddings"}},
        evaluation={"tasks": ["retrieval", "retention"]},
    )
    run = run_experiment(wanted, tmp_path / "narrow")
    losses = run.metrics()["loss"]
    assert losses.iloc[-1] < 0.7 * losses.iloc[0]
    rows = run.results()
    found = rows[rows.subject == "text->video"].set_index("metric")["value"]
    assert found["recall_at_10"] > found["chance_at_10"]
    assert {"score", "untrained"} <= set(rows[(rows.task == "retention")]["metric"])


def test_another_teacher_makes_another_run(store):
    plain = student(store, "SimKD")
    wider = student(store, "SimKD", teacher=laid_over(TEACHER, {"model": {"dim": 32}}))
    assert run_key(plain, 0) == run_key(ExperimentSettings.parse(plain.model_dump(), source="again"), 0)
    assert len({run_key(one, seed) for one, seed in ((plain, 0), (wider, 0), (plain, 1))}) == 3


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"distill": {"teacher": {"experiment": "t", "terms": {"metric": {}}}}}, "must have the term classify"),
        ({"classify": {}, "distill": {"teacher": TEACHER}}, "reuse takes the teacher's classifier"),
        ({"distill": {"teacher": TEACHER, "modalities": ["audio"]}}, r"terms\.distill\.modalities: no stage trains"),
        ({"distill": {}}, "teacher"),
    ],
)
def test_students_that_cannot_learn_are_refused(store, terms, said):
    with pytest.raises(ConfigError, match=said):
        settings(store, terms=terms)


@pytest.mark.parametrize("data", [{"changes": {"frames": {"shift_px": 1}}}, {"looks": 2}])
def test_a_teacher_that_looks_once_does_not_teach_clips_that_change(store, data):
    with pytest.raises(ConfigError, match=r"terms\.distill: the teacher looks at every clip once"):
        student(store, "SimKD", data=data)


def test_classifiers_that_there_are_not_are_not_asked(store, tmp_path):
    with pytest.raises(ConfigError, match="classify needs the term classify"):
        run_experiment(settings(store, terms={"metric": {}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_report_says_what_students_keep_and_what_they_take(runs):
    study = summarize(runs)
    assert accuracy_figure(study) is not None
    assert "parameters" in size_figure(study).caption or size_figure(study).numbers.shape[1] == 2
    table = told_table(study)
    assert table.loc["SimKD", "learned from"] == "teacher"
    assert table.loc["teacher", "learned from"] == ""
    said = " ".join(told_in_words(study))
    assert "SimKD: " in said
    assert "points beside teacher" in said
    assert "points beside SimKD" in said  # KD is smaller
    (part,) = (part for part in answer(study) if part.heading == "What students keep")
    assert part.lead.startswith("Nearest to its teacher comes ")


def told(folder):
    """By metric: what classifiers were found to tell."""
    rows = load_run(folder).results()
    return rows[rows.task == "classify"].set_index("metric")["value"]


@torch.no_grad()
def scores(model, batch):
    outputs = model(batch, ["video"])
    x = model.class_inputs(outputs, modality="video", space="joint")
    return model.classify(x, modality="video", space="joint")


def test_the_study_compares_students_of_equal_size():
    path = settings_path("studies/distillation.yaml")
    runs = plan_runs(read_study(path), StudyFolders(Path(), "x"), path)
    planned = {run.settings.experiment: run.settings for run in runs}
    assert {"teacher", "labels", "SimKD", "KD of equal size"} <= set(planned)
    assert size(planned["KD of equal size"]) >= size(planned["SimKD"])
    assert size(planned["SimKD"]) < size(planned["teacher"]) / 3


def size(wanted):
    """Parameters at inference on color frames of the world."""
    model = sized_model(wanted, {"video": 3 * 40 * 40}, seed=0, frame=(3, 40, 40), classes=10)
    return inference_parameters(model, "video", None)


@pytest.mark.slow
def test_a_student_with_its_teachers_classifier_comes_nearest_in_the_study(tmp_path):
    path = settings_path("studies/distillation.yaml")
    folders = StudyFolders(tmp_path, "distillation")
    planned = [run for run in plan_runs(read_study(path), folders, path) if run.settings.experiment in COMPARED]
    for run in planned:
        run_experiment(run.settings, run.folder, seed=run.seed, stores=folders.stores)
    assert_goals({(run.settings.experiment, run.seed): run.folder for run in planned})


@pytest.mark.slow
@pytest.mark.skipif(not (DIGITS / "images_train.npz").is_file(), reason="the real digits are not on this machine")
def test_a_student_with_its_teachers_classifier_comes_nearest_on_real_digits(tmp_path):
    store = write_digits(tmp_path / "store", train=1000, test=1539)
    base = {
        "data": {"store": str(store.path), "label": "label"},
        "stages": [{"epochs": 60, "modalities": ["video"]}],
        "model": {"dim": 8, "video_frames": 1, "video_backbone": "conv2d", "video_width": 8},
        "training": {"batch": 50, "lr": 0.005, "warmup_steps": 20, "checkpoint_every": 10_000, "threads": 1},
        "evaluation": {"tasks": ["classify"]},
    }
    teacher = {"experiment": "teacher", "model": {"video_width": 64}, "terms": {"classify": {}}}
    scores = {"classify": {}, "distill": {"teacher": teacher, "method": "logits"}}
    own = (
        teacher,
        {"experiment": "labels", "terms": {"classify": {}}},
        {"experiment": "SimKD", "terms": {"distill": {"teacher": teacher}}},
        {"experiment": "KD of equal size", "model": {"video_width": 32}, "terms": scores},
    )
    folders = {}
    for seed, changes in itertools.product(SEEDS, own):
        wanted = ExperimentSettings.parse(laid_over(base, changes), source="test")
        folders[wanted.experiment, seed] = tmp_path / f"{wanted.experiment}-s{seed}"
        run_experiment(wanted, folders[wanted.experiment, seed], seed=seed)
    assert_goals(folders)


def assert_goals(folders):
    """Near the teacher, above labels and above scores at equal size; by the teacher's classifier alone."""
    found = {key: told(folders[key]) for key in itertools.product(COMPARED, SEEDS)}
    mean = {name: np.mean([found[name, seed]["accuracy"] for seed in SEEDS]) for name in COMPARED}
    assert mean["SimKD"] >= mean["teacher"] - 0.03, mean
    assert mean["SimKD"] >= mean["labels"] + 0.02, mean
    assert mean["SimKD"] > mean["KD of equal size"], mean
    for seed in SEEDS:
        assert found["KD of equal size", seed]["parameters"] >= found["SimKD", seed]["parameters"]
        assert found["SimKD", seed]["permuted_accuracy"] <= 0.4
        student, teacher = (load_run(folders[name, seed]).model() for name in ("SimKD", "teacher"))
        for name in ("weight", "bias"):
            hers = teacher.classifiers["video"].get_parameter(name)
            assert torch.equal(student.classifiers["video"].get_buffer(name), hers)


@pytest.mark.notebook
def test_the_notebook_records_how_many_clips_are_named_right(runs, tmp_path):
    assert STUDENTS_NOTEBOOK in notebooks_of(runs)
    out = tmp_path / "numbers.json"
    execute(notebook_path(STUDENTS_NOTEBOOK), tmp_path / "n.ipynb", {"study_dir": str(runs), "out": str(out)})
    assert json.loads(out.read_text())["accuracy video SimKD"] == pytest.approx(told(runs / "simkd-s0")["accuracy"])
