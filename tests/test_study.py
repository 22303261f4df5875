"""A study: planned before it starts, nothing done twice, failures kept and shown."""

import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import pyarrow.parquet as pq
import pytest

import mcnlab.study
from mcnlab.data.store import open_store
from mcnlab.errors import BusyError, ConfigError, DataError, RunError
from mcnlab.experiment import ExperimentSettings, run_experiment
from mcnlab.experiment.folder import held
from mcnlab.runs import RunFolder
from mcnlab.study import report_again, run_study
from mcnlab.study_plan import StudyFolders, laid_over, plan_runs, prefix_folders, read_study, slug
from mcnlab.workers import Attempt, Done, Job, JobQueue, with_share_of_cores
from tests.fake_study import write_fake_study
from tests.mini_study import BASE, EXPERIMENTS, MCN, write_study

SECRETS = {"AWS_SECRET_ACCESS_KEY": "wJalrPLANTED7MDENG", "HF_TOKEN": "hf_planted0token", "USER": "planted-user-name"}
"""What the environment of a study holds and its files must not; the last is also the end of the home folder."""
TIMED = ("train_s", "evaluate_s", "overhead_s")


def rows(folder):
    """A run's results without its seconds."""
    found = json.loads((folder / "results.json").read_text())["rows"]
    return [row for row in found if row["metric"] not in TIMED]


def weights(folder):
    """Sum of the last checkpoint's weights."""
    newest = sorted((folder / "checkpoints").glob("step_*"))[-1]
    return hashlib.sha256((newest / "model.safetensors").read_bytes()).hexdigest()


def tree(folder):
    """Every file with the time it was last changed."""
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# planning


def test_names_become_different_file_names():
    names = ["V+T", "V T", "MCN AV_T", "../../etc", "ä", "", "x" * 80, "x" * 79]
    slugs = [slug(name) for name in names]
    assert slugs[:3] == ["V-T", "V-T", "MCN-AV_T"]
    assert all(set(one) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") for one in slugs)
    assert len(set(slugs)) == len(slugs) - 1
    assert max(map(len, slugs)) <= 51


def test_own_settings_lie_over_the_base():
    base = {"model": {"dim": 8, "words": 3}, "graph": "shared"}
    assert laid_over(base, {"model": {"dim": 16}}) == {"model": {"dim": 16, "words": 3}, "graph": "shared"}
    assert laid_over(base, {"model": None}) == {"model": None, "graph": "shared"}


@pytest.mark.parametrize(
    ("experiments", "said"),
    [
        ([{"experiment": "A", "stages": "VT", "trainig": {}}], "experiment A: unknown setting 'trainig'"),
        (
            [{"experiment": "A", "stages": "VT"}, {"experiment": "A", "stages": "VA"}],
            "two experiments have the name 'A'",
        ),
        (
            [{"experiment": "A+B", "stages": "VT"}, {"experiment": "A B", "stages": "VA"}],
            "two experiments have the name",
        ),
        ([{"stages": "VT"}], "experiment number 1: experiment: Field required"),
        ([{"experiment": "A", "stages": "VT", "training": {"device": "cuda"}}], "no usable GPU"),
        ([], "experiments: "),
    ],
)
def test_a_wrong_experiment_is_refused_before_anything_starts(experiments, said, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = write_study(tmp_path, experiments=experiments)
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=said):
        run_study(path, out=tmp_path / "out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["seed=[1]"], "unknown setting 'seed', did you mean 'seeds'|unknown setting 'seed'"),
        (["seeds=[1, 1]"], "expected different seeds"),
        (["seeds=[-1]"], "seeds.0"),
        (["training.epoch=2"], "unknown setting 'training.epoch', did you mean 'epochs'"),
    ],
)
def test_a_wrong_flag_is_refused(flags, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        run_study(write_study(tmp_path), out=tmp_path / "out", overrides=flags)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:9"}, "--workers belongs to this machine"),
        ({"gpus_per_run": 1.0}, "--gpus-per-run belongs to --scheduler"),
    ],
)
def test_options_of_two_places_are_refused_together(options, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        run_study(write_study(tmp_path), out=tmp_path / "out", **options)


def test_a_glob_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--only X\*: no experiment"):
        run_study(write_study(tmp_path), out=tmp_path / "out", only="X*")


def test_a_study_needs_stores_that_have_its_modalities(tmp_path):
    path = write_study(tmp_path, experiments=[{"experiment": "A", "stages": "VT", "evaluation": {"split": "val"}}])
    with pytest.raises(DataError, match="no held-out split val"):
        run_study(path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_flags_reach_the_base_or_the_study(tmp_path):
    path = write_study(tmp_path)
    study = read_study(path, overrides=["seeds=[4]", "training.epochs=7", "title=Other"])
    assert (study.seeds, study.title, study.base["training"]["epochs"]) == ((4,), "Other", 7)
    runs = plan_runs(study, StudyFolders(tmp_path, "mini"), path)
    assert [run.folder.name for run in runs] == ["V-T-s4", "MCN-AV_T-s4"]
    assert runs[1].settings.stages[0].epochs == 5


def test_a_study_that_another_process_runs_is_busy(tmp_path):
    path = write_study(tmp_path)
    runs = tmp_path / "out" / "runs" / "mini"
    runs.mkdir(parents=True)
    with held(runs), pytest.raises(BusyError, match=r"held by process \d+ on "):
        run_study(path, out=tmp_path / "out")


# equal stage prefixes


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """Two experiments that begin alike, trained with a cache of prefixes, and the second also without."""
    folder = tmp_path_factory.mktemp("prefixes")
    write_study(folder)
    common = {**BASE, "data": {"store": str(folder / "store")}, "terms": MCN}
    first = {"epochs": 2, "modalities": ["video", "audio"]}
    steps, runs = {}, {}
    for name, epochs, cache in (("one", 1, "cache"), ("two", 2, "cache"), ("alone", 2, None)):
        stages = [first, {"epochs": epochs, "modalities": ["video", "audio", "text"]}]
        settings = ExperimentSettings.parse({**common, "experiment": "staged", "stages": stages}, source=name)
        taken = []
        runs[name] = run_experiment(
            settings,
            folder / name,
            seed=1,
            on_step=taken.append,
            prefix_cache=folder / cache if cache else None,
        ).path
        steps[name] = [record.step for record in taken]
    return folder, steps, runs


def test_equal_stage_prefixes_are_trained_once(staged):
    folder, steps, _ = staged
    assert steps == {"one": list(range(1, 13)), "two": list(range(9, 17)), "alone": list(range(1, 17))}
    assert len([path for path in (folder / "cache").iterdir() if path.is_dir()]) == 1


def test_a_shared_prefix_changes_no_number(staged):
    _, _, runs = staged
    assert weights(runs["two"]) == weights(runs["alone"])
    assert rows(runs["two"]) == rows(runs["alone"])
    shown = [RunFolder(runs[name]).metrics().drop(columns=["clips_per_s", "elapsed_s"]) for name in ("two", "alone")]
    pd.testing.assert_frame_equal(*shown)


@pytest.mark.parametrize("change", [{"seed": 2}, {"model": {**BASE["model"], "dim": 4}}, {"mode": "faithful"}])
def test_another_seed_model_or_mode_has_a_prefix_of_its_own(change, staged):
    folder, _, _ = staged
    change = dict(change)
    seed = change.pop("seed", 1)
    stages = [{"epochs": 2, "modalities": ["video", "audio"]}, {"epochs": 1, "modalities": ["video", "audio", "text"]}]
    values = {**BASE, "data": {"store": str(folder / "store")}, "terms": MCN, "stages": stages, "experiment": "other"}
    taken = []
    run_experiment(
        ExperimentSettings.parse({**values, **change}, source="test"),
        folder / f"other-{len(list(folder.iterdir()))}",
        seed=seed,
        on_step=taken.append,
        prefix_cache=folder / "cache",
    )
    assert len(taken) == 12


def test_a_job_waits_for_the_one_that_makes_its_first_stage(tmp_path):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    stages = {"a": (one,), "b": (one, two), "c": (one, two), "d": (three,)}
    jobs = [Job({"run_dir": name}, prefixes=paths) for name, paths in stages.items()]
    queue = JobQueue(jobs)
    taken = [queue.take() for _ in range(3)]
    assert [attempt and attempt.job.folder.name for attempt in taken] == ["a", "d", None]
    one.mkdir()  # a has finished its first stage
    assert queue.take().job.folder.name == "b"
    assert queue.take() is None  # c begins with two stages of b
    queue.ended(taken[0], again=Attempt(taken[0].job, 2))
    again = queue.take()
    assert (again.job.folder.name, again.number) == ("a", 2)
    for attempt in (again, Attempt(jobs[1])):  # b ends without its second stage
        queue.ended(attempt)
    assert queue.take().job.folder.name == "c"
    assert len(queue) == 0


def test_a_job_that_was_put_off_lets_others_pass():
    queue = JobQueue([Job({"run_dir": name}) for name in "ab"])
    first = queue.take()
    queue.ended(first, again=Attempt(first.job, refusals=1, not_before=time.monotonic() + 3600))
    assert queue.take().job.folder.name == "b"
    assert queue.take() is None
    assert len(queue) == 1


def test_runs_that_begin_alike_name_the_same_folder(tmp_path):
    stages = [
        {"epochs": 2, "modalities": names} for names in (["audio", "video"], ["audio", "text"], ["text", "video"])
    ]
    three = {"experiment": "same start", "stages": stages, "terms": MCN}
    path = write_study(tmp_path, experiments=[*EXPERIMENTS, three])
    runs = plan_runs(read_study(path), StudyFolders(tmp_path, "mini"), path)
    store = open_store(tmp_path / "store")
    alone, first, second = (prefix_folders(run, store, tmp_path / "shared") for run in runs)
    assert alone == ()
    assert first == second[:1]
    assert len(second) == 2
    assert {path.parent for path in second} == {tmp_path / "shared"}


def test_settings_without_threads_share_the_cores():
    open_, fixed = Job({"run_dir": "a"}), Job({"run_dir": "a"}, threads=3)
    assert [with_share_of_cores(open_, 8, at_once).threads for at_once in (1, 2, 3, 9)] == [None, 4, 2, 1]
    assert with_share_of_cores(fixed, 8, 2).threads == 3


# a run folder that is used again


def test_a_run_of_other_settings_or_other_data_is_not_touched(tmp_path):
    write_study(tmp_path)
    values = {**BASE, **EXPERIMENTS[0], "data": {"store": str(tmp_path / "store")}}
    settings = ExperimentSettings.parse(values, source="test")
    run = run_experiment(settings, tmp_path / "run").path
    before = tree(run)
    other = ExperimentSettings.parse({**values, "training": {**BASE["training"], "lr": 0.1}}, source="test")
    for wanted, seed, said in ((other, 0, "with other settings"), (settings, 1, "with other settings")):
        with pytest.raises(ConfigError, match=said):
            run_experiment(wanted, run, seed=seed)
    (tmp_path / "store").rename(tmp_path / "old")
    run_experiment(settings, run)  # the finished run stands without its store
    from tests.small_store import make_store

    make_store(tmp_path / "store", seed=1)
    with pytest.raises(ConfigError, match="on other data"):
        run_experiment(settings, run)
    assert tree(run) == before


# the whole thing, in worker processes and kernels


@dataclass(frozen=True)
class Story:
    """What a study left behind, call after call."""

    first: str
    failed: RunFolder
    notebook: nbformat.NotebookNode
    report: str
    before: dict
    after: dict
    superseded: list
    renewed: list
    folder: Path


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A study of which one run fails; called again; called with other settings. Maps and comparisons are left out."""
    folder = tmp_path_factory.mktemp("story")
    boom = {"experiment": "boom", "stages": "VT", "training": {"lr": 1e30, "warmup_steps": 0}}
    path = write_study(folder, experiments=[EXPERIMENTS[0], boom])
    runs = folder / "runs" / "mini"
    (home := tmp_path_factory.mktemp("home") / SECRETS["USER"]).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SECRETS, "HOME": str(home)}.items():
            patch.setenv(name, value)
        patch.setattr(mcnlab.study, "STUDY_NOTEBOOKS", ())
        patch.setattr("mcnlab.reporting.pages.study_maps", lambda *_, **__: None)
        with pytest.raises(RunError) as error:
            run_study(path, out=folder, workers=2)
        failed = RunFolder(runs / "boom-s0")
        notebook = nbformat.read(failed.path / "notebook.ipynb", as_version=4)
        report = (folder / "reports" / "mini" / "index.html").read_text()
        before = tree(runs / "V-T-s0")
        run_study(path, out=folder, only="V+T")
        after = tree(runs / "V-T-s0")
        run_study(path, out=folder, only="V+T", overrides=["training.epochs=1"])
    superseded = [one.name for one in (runs / ".superseded").iterdir()]
    renewed = RunFolder(runs / "V-T-s0").metrics()["step"].tolist()
    return Story(str(error.value), failed, notebook, report, before, after, superseded, renewed, folder)


def test_a_failed_run_is_named_with_its_reason(story):
    assert story.first.startswith("1 of 2 runs or notebooks failed, first boom-s0: term contrast of vt is nan")
    assert story.first.endswith("index.html")
    assert story.failed.status["state"] == "failed"
    assert "in stage 1:VT, step" in story.failed.status["reason"]


def test_the_executed_notebook_of_a_failed_run_holds_its_error(story):
    errors = [out for cell in story.notebook.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert [error.ename for error in errors] == ["NonFiniteError"]


def test_the_report_shows_a_failed_run(story):
    assert "1 of 2 runs did not finish" in story.report
    assert "term contrast of vt is nan" in story.report
    assert 'href="runs/boom-s0.html"' in story.report


def test_a_finished_run_is_not_touched_again(story):
    assert story.after == story.before


def test_changed_settings_set_the_old_run_aside(story):
    assert len(story.superseded) == 1
    assert story.superseded[0].startswith("V-T-s0-")
    assert story.renewed == [1, 2, 3, 4]


def test_no_file_of_a_study_tells_a_secret_of_the_environment(story):
    files = [path for path in story.folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert names >= {"notebook.ipynb", "index.html", "provenance.json", "status.json", "metrics.jsonl", "clips.parquet"}
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".parquet":  # its pages are compressed
            content += repr(pq.read_table(path).to_pydict()).encode()
        for name, value in SECRETS.items():
            assert value.encode() not in content, f"{path.relative_to(story.folder)} holds {name}"


@pytest.mark.slow
def test_the_number_of_workers_and_the_load_change_no_number(tmp_path, monkeypatch):
    monkeypatch.setattr(mcnlab.study, "STUDY_NOTEBOOKS", ())
    monkeypatch.setattr("mcnlab.reporting.pages.study_maps", lambda *_, **__: None)
    path = write_study(tmp_path, seeds=(0, 1))
    tables = []
    for workers in (1, 3):
        run_study(path, out=tmp_path / str(workers), workers=workers)
        table = pd.read_csv(tmp_path / str(workers) / "reports" / "mini" / "results.csv")
        tables.append(table[~table["metric"].isin(TIMED)])
    pd.testing.assert_frame_equal(*tables)


def test_what_a_stopped_call_spent_is_added_to_by_the_next(tmp_path):
    folders = StudyFolders(tmp_path, "mini")
    folders.runs.mkdir(parents=True)
    study = read_study(write_study(tmp_path))

    def record(spent_s, **ended):
        mcnlab.study.write_study_record(study, folders, asked={}, spent_s=spent_s, ended=ended, workers=1)
        return json.loads((folders.runs / "study.json").read_text())

    stopped = record(9.0, a=Done(5.0), b=Done(3.0, "the study was stopped", stopped=True))
    assert (stopped["wall_s"], stopped["run_s"], stopped["in_part"]) == (9.0, {"a": 5.0, "b": 3.0}, ["b"])
    ended = record(6.0, b=Done(4.0))
    assert (ended["wall_s"], ended["run_s"], ended["in_part"]) == (15.0, {"a": 5.0, "b": 7.0}, [])
    assert record(2.0, b=Done(1.0))["run_s"] == {"a": 5.0, "b": 1.0}  # made anew


@pytest.mark.slow
@pytest.mark.notebook
def test_a_log_says_which_notebook_runs_and_how_long_it_took(tmp_path, monkeypatch, capsys):
    parameters = nbformat.v4.new_code_cell('study_dir = ""', metadata={"tags": ["parameters"]})
    (tmp_path / "notebooks").mkdir()
    for name, source in (("one", "1 + 1"), ("two", "1 / 0")):
        cells = [parameters, nbformat.v4.new_code_cell(source, id="sum")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setattr("mcnlab.reporting.notebooks.CHECKOUT", tmp_path)
    monkeypatch.setattr(mcnlab.study, "STUDY_NOTEBOOKS", ("one", "two"))
    folders = StudyFolders(tmp_path, "fake")
    write_fake_study(folders.runs)
    monkeypatch.setattr("mcnlab.reporting.pages.study_maps", lambda *_, **__: None)
    _, problems = mcnlab.study.write_study_report(folders)
    assert "ZeroDivisionError" in problems[0]
    lines = [re.sub(r"[\d.]+ s$", "N s", line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "one: running, 0 of 2 notebooks done",
        "one: N s",
        "two: running, 1 of 2 notebooks done",
        "two: failed, N s",
        "notebooks: two.ipynb: cell 'sum': ZeroDivisionError: division by zero; `mcnlab study` executes it again",
        "writing the report",
    ]


@pytest.mark.slow
def test_a_study_ends_with_its_whole_report(tmp_path):
    index = run_study(write_study(tmp_path, seeds=(0, 1)), out=tmp_path)
    assert index == tmp_path / "reports" / "mini" / "index.html"
    pages = {path.relative_to(index.parent).as_posix() for path in index.parent.rglob("*.html")}
    assert {f"runs/{name}-s{seed}.html" for name in ("V-T", "MCN-AV_T") for seed in (0, 1)} < pages
    assert len([page for page in pages if page.startswith("notebooks/")]) == 4
    assert len(pd.read_csv(index.parent / "results.csv")["experiment"].unique()) == 2
    record = json.loads((tmp_path / "runs" / "mini" / "study.json").read_text())
    assert record["wall_s"] > 0
    assert len(record["run_s"]) == 4
    assert (record["file"], record["overrides"]) == ("mini.yaml", [])
    assert "mcnlab study mini.yaml</pre>" in index.read_text(encoding="utf-8")
    assert len(list((tmp_path / "runs" / "mini").glob("*/sounds.parquet"))) == 4


@pytest.mark.parametrize(("runs", "report"), [("runs/own", "reports/own"), ("runs", "reports/runs")])
def test_the_pages_of_a_folder_lie_beside_the_runs_also_of_no_study(runs, report, tmp_path, monkeypatch):
    (tmp_path / "work" / runs / "V-T-s0").mkdir(parents=True)
    (tmp_path / "work" / runs / "V-T-s0" / "settings.yaml").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("mcnlab.study.report_of", lambda folder, target: target / "index.html")
    assert report_again(tmp_path / "work" / runs, None) == tmp_path / "work" / report / "index.html"
