"""The command line as a user meets it: help, one clear line for every mistake, exit codes, nothing half-written."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import yaml

import mcnlab.cli
import mcnlab.study  # or the first study here would tell that it is loading
from mcnlab.cli import INTERRUPTED, TERMINATED, main
from mcnlab.cli_import import _study_of
from mcnlab.data.store import Clip, Recording, StoreWriter, Track, open_store
from mcnlab.data.text import train_word_vectors
from mcnlab.errors import EXIT_CODES, McnlabError
from mcnlab.processes import Terminated
from tests.small_store import make_store

VERBS = ["study", "train", "evaluate", "report", "extract", "inspect", "lab"]
VERBS += ["import world", "import media", "import howto100m", "import youcook2", "import msrvtt"]
VERBS += ["import crosstask", "import mining-youtube", "import protocol", "plan", "doctor", "init", "verify", "list"]
MADE = "`mcnlab import --help` lists what makes one"
HEAVY = ("torch", "pandas", "numpy", "plotly", "papermill", "pydantic", "sklearn", "umap")
TINY = {
    "experiment": "tiny",
    "stages": "VT",
    "terms": {"contrast": {}},
    "model": {"dim": 8, "audio_width": 8, "audio_blocks": 1},
    "training": {"epochs": 1, "batch": 16, "warmup_steps": 0, "threads": 1},
}


@pytest.fixture
def mcnlab_says(capsys):
    """Runs a command in this process: exit code, standard output, standard error."""

    def run(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small").path


def written(folder, name="experiment.yaml", **changes):
    """An experiment's file."""
    path = folder / name
    path.write_text(yaml.safe_dump({**TINY, **changes}), encoding="utf-8")
    return path


def tree(folder):
    """All that is in a folder, with sizes."""
    return sorted((str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file())


def one_line(err):
    """The text of a refusal, which is one line and nothing else."""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


def test_neither_the_package_nor_its_help_loads_anything_heavy():
    code = (
        "import sys, contextlib, io, mcnlab\n"
        "from mcnlab.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out: code = main(['--help'])\n"
        "assert 'study' in out.getvalue()\n"
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"


def test_the_help_lists_every_exit_code(mcnlab_says):
    def family(kind):
        return {kind, *(one for below in kind.__subclasses__() for one in family(below))}

    codes = {0, INTERRUPTED, TERMINATED, *(kind.exit_code for kind in family(McnlabError))}
    assert set(EXIT_CODES) == codes
    _, out, _ = mcnlab_says("--help")
    words = " ".join(out.split())
    for code, meaning in EXIT_CODES.items():
        assert f" {code} {meaning}" in words


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, mcnlab_says):
    code, out, err = mcnlab_says(*verb.split(), "--help")
    assert (code, err) == (0, "")
    assert f"Example: mcnlab {verb}" in " ".join(out.split())


@pytest.mark.parametrize(
    "verb",
    [
        *("", "import"),
        *(one.name or one.callback.__name__ for one in mcnlab.cli.app.registered_commands),
        *(f"import {one.name}" for one in mcnlab.cli.importers.registered_commands),
    ],
)
def test_no_help_page_of_eighty_columns_cuts_a_word_or_gives_a_flag_a_type(verb, mcnlab_says, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = mcnlab_says(*verb.split(), "--help")
    assert "…" not in out
    assert "<bool>" not in out
    assert "[[" not in out


def test_the_help_begins_with_the_verbs_of_the_first_hour(mcnlab_says):
    _, out, _ = mcnlab_says("--help")
    places = [out.index(f"│ {verb} ") for verb in ("doctor", "init", "import", "study", "list", "train", "extract")]
    assert places == sorted(places)


def test_import_alone_shows_its_help_and_no_empty_error(mcnlab_says):
    code, out, err = mcnlab_says("import")
    assert code == 2
    assert "Usage: mcnlab import" in out + err
    assert "error:" not in out + err


def test_a_wrong_folder_of_runs_is_told_which_was_meant(tmp_path, monkeypatch, mcnlab_says):
    (tmp_path / "runs" / "own" / "V-T-s0").mkdir(parents=True)
    (tmp_path / "runs" / "own" / "V-T-s0" / "settings.yaml").write_text("{}", encoding="utf-8")
    (tmp_path / "reports" / "own").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for verb in ("report", "verify"):
        for typed, meant in {
            "runs/owm": "did you mean 'runs/own'?",
            "runs/own/V-T-s1": "did you mean 'runs/own/V-T-s0'?",
            "reports/own": "give runs/own",
            ".": "give runs/own",
        }.items():
            code, _, err = mcnlab_says(verb, typed)
            assert (code, err.strip().endswith(meant)) == (3, True), (verb, typed, err)
    assert mcnlab_says("report", "runs")[2].strip().endswith("no runs here; give runs/own")
    code, told, _ = mcnlab_says("inspect", "runs/own/V-T-s0")
    assert (code, "pending" in told) == (0, True)


def test_every_verb_is_among_those_that_were_tried():
    commands = [*mcnlab.cli.app.registered_commands, *mcnlab.cli.importers.registered_commands]
    assert len(commands) == len(VERBS)


def test_the_version_is_told(mcnlab_says):
    assert mcnlab_says("--version") == (0, f"mcnlab {mcnlab.__version__}\n", "")


def test_without_a_verb_the_help_is_shown(mcnlab_says):
    code, out, err = mcnlab_says()
    assert code == 2
    assert "Usage: mcnlab" in out + err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stduy"], "stduy"),
        (["study"], "STUDY.yaml"),
        (["study", "x.yaml", "--workers", "two"], "--workers"),
        (["study", "x.yaml", "--workers", "0"], "--workers"),
        (["train", "x.yaml"], "--run"),
        (["train", "x.yaml", "--run", "r", "--sed", "1"], "--sed"),
        (["train", "x.yaml", "--run", "r", "--seed", "-1"], "--seed"),
        (["import", "howto", "x"], "howto"),
        (["import", "world"], "--out"),
        (["study"], "Example: mcnlab study studies/modality_combinations.yaml"),
        (["evaluate"], "Example: mcnlab evaluate runs/tiny"),
        (["studdy"], "Did you mean 'study'? Type: mcnlab --help"),
        (["import", "meda"], "Did you mean 'media'? Type: mcnlab import --help"),
        (["plan"], "expected STUDY.yaml or EXPERIMENT.yaml, or --calibrate. Example: mcnlab plan"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(words, said, mcnlab_says):
    code, _, err = mcnlab_says(*words)
    assert code == 2
    assert said in one_line(err)


@pytest.mark.parametrize(
    ("words", "address"),
    [
        (["import", "world", "--out", "s3://bucket/store"], "s3://bucket/store"),
        (["train", "chance", "--run", "gs://bucket/run"], "gs://bucket/run"),
        (["study", "https://x.org/study.yaml"], "https://x.org/study.yaml"),
        (["verify", "hdfs://x/run"], "hdfs://x/run"),
    ],
)
def test_an_address_is_no_path(words, address, tmp_path, monkeypatch, mcnlab_says):
    monkeypatch.chdir(tmp_path)
    code, _, err = mcnlab_says(*words)
    assert (code, one_line(err)) == (2, f"{address}: is an address, expected a path on this machine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("training.epoch=3", "unknown setting 'training.epoch', did you mean 'epochs'?"),
        ("training.epochs=many", "training.epochs: Input should be a valid integer"),
        ("training.epochs=0", "training.epochs: Input should be greater than 0"),
        ("grahp=shared", "unknown setting 'grahp', did you mean 'graph'?"),
        ("graph=fine", "graph: Input should be 'shared', 'disjoint' or 'fac', got 'fine'"),
        ("evaluation.tasks=[retreival]", "got 'retreival', did you mean 'retrieval'?"),
        ("stages=XY", "stages: expected initials such as VT, VAT or AV_T"),
        ("terms.contrast=null", "terms: expected at least one"),
        ("terms.cluster.clusters=100000", "100000 clusters, but k-means sees at most"),
        ("training", "--set training: expected key=value"),
        ("training.epochs=[", "--set training.epochs=[: not valid YAML"),
        ("data.store.inner=3", "--set data.store.inner=3: data.store.inner is not a setting inside a group"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_nothing_is_written(flag, said, store, tmp_path, mcnlab_says):
    experiment = written(tmp_path, data={"store": str(store)})
    before = tree(tmp_path)
    code, out, err = mcnlab_says("train", experiment, "--run", tmp_path / "run", "--set", flag)
    assert (code, out) == (2, "")
    assert said in one_line(err)
    assert tree(tmp_path) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "expected a mapping of settings, got list"),
        ("", "expected a mapping of settings, got NoneType"),
        ("experiment: x", "data: Field required"),
    ],
)
def test_a_file_that_is_no_experiment_is_named(text, said, tmp_path, mcnlab_says):
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    code, _, err = mcnlab_says("train", path, "--run", tmp_path / "run")
    assert code == 2
    assert str(path) in one_line(err)
    assert said in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "none.yaml", "--run", "run"], 2, "none.yaml: no such file"),
        (["study", "none.yaml"], 2, "none.yaml: no such file"),
        (["evaluate", "none"], 3, "none: no run here"),
        (["report", "none"], 3, "none: no runs here"),
        (["inspect", "none"], 3, "none: no such store"),
        (["import", "media", "none.csv", "--out", "store"], 3, "none.csv: no such manifest"),
        (["lab", "none"], 2, "none: no such folder of notebooks"),
        (["lab", "none"], 2, "without a folder, `mcnlab lab` opens the notebooks of mcnlab"),
        (["study", "none.yaml"], 2, "`mcnlab init my_study` makes a study of your own"),
        (["study", "modality_combination.yaml"], 2, "did you mean 'modality_combinations'?"),
        (["evaluate", "none"], 3, "`mcnlab train EXPERIMENT.yaml --run DIR` makes one"),
        (["report", "none"], 3, "`mcnlab study STUDY.yaml` makes some"),
        (["inspect", "none"], 3, "`mcnlab import --help` lists what makes one"),
        (["import", "media", "none.csv", "--out", "store"], 3, "`mcnlab init my_study --template media` makes one"),
        (["study", "studies/own_media.yaml", "--only", "X*"], 2, "it has 'V+A', 'V+T'"),
        (["study", "studies/tiny_experiment.yaml"], 2, "this is an experiment, not a study; type: mcnlab train "),
        (["train", "modality_combinations.yaml", "--run", "r"], 2, "this is a study, not an experiment; type: mcnlab "),
    ],
)
def test_what_is_not_there_is_named_and_nothing_is_written(words, code, said, tmp_path, mcnlab_says, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, _, err = mcnlab_says(*words)
    assert found == code
    assert said in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_near_by_that_was_probably_meant_is_named(store, tmp_path, mcnlab_says, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "own" / "a-s1"
    run.mkdir(parents=True)
    (run / "settings.yaml").write_text("experiment: a\n", encoding="utf-8")
    (run / "status.json").write_text('{"state": "interrupted"}', encoding="utf-8")
    assert "no runs here; give runs/own" in mcnlab_says("report", ".")[2]
    for folder in (".", "runs/own"):
        assert "there is one in " + str(Path("runs/own/a-s1")) in mcnlab_says("evaluate", folder)[2]
    assert f"there is one in {store}" in mcnlab_says("inspect", store.parent)[2]
    code, _, err = mcnlab_says("report", run)
    assert code == 3
    assert f"go on with it: mcnlab train {run / 'settings.yaml'} --run {run} --seed 1" in one_line(err)


def test_a_file_near_by_that_was_probably_meant_is_named(tmp_path, mcnlab_says, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Example: mcnlab study studies/" in mcnlab_says("study")[2]
    (tmp_path / "study.yaml").write_text("", encoding="utf-8")
    assert one_line(mcnlab_says("study")[2]).endswith("Type: mcnlab study study.yaml")
    (tmp_path / "study.yaml").unlink()
    (tmp_path / "own").mkdir()
    assert "own: is a folder, expected a YAML file; `mcnlab init" in mcnlab_says("study", "own")[2]
    (tmp_path / "own" / "study.yml").write_text("", encoding="utf-8")
    assert f"own: is a folder, expected a YAML file; type: {Path('own/study.yml')}" in mcnlab_says("study", "own")[2]
    assert "no such file, did you mean 'study.yml'?" in mcnlab_says("study", "own/study.yaml")[2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"titel": "x"}, "unknown setting 'titel', did you mean 'title'?"),
        ({"title": "x", "seed": [1]}, "unknown setting 'seed', did you mean 'seeds'?"),
        ({}, "title: Field required"),
    ],
)
def test_a_slip_in_a_study_is_named_before_what_is_missing(changes, said, tmp_path, mcnlab_says):
    path = tmp_path / "own.yaml"
    base = {"study": "own", "question": "?", "base": {"data": "world"}, "experiments": [{"experiment": "a"}]}
    path.write_text(yaml.safe_dump({**base, **changes}), encoding="utf-8")
    code, _, err = mcnlab_says("study", path)
    assert code == 2
    assert one_line(err).endswith(said)


def test_a_folder_that_is_no_store_is_bad_data(tmp_path, mcnlab_says):
    (tmp_path / "empty").mkdir()
    experiment = written(tmp_path, data={"store": "empty"})
    code, _, err = mcnlab_says("train", experiment, "--run", tmp_path / "run")
    assert code == 3
    assert str(tmp_path / "empty") in one_line(err)
    assert not (tmp_path / "run").exists()


def test_a_store_without_recordings_is_bad_data(store, tmp_path, mcnlab_says):
    """As a broken converter might leave it: all files there, no rows."""
    info = json.loads((store / "store.json").read_text())
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "store.json").write_text(json.dumps({**info, "files": {}, "recordings": 0}))
    code, _, err = mcnlab_says("inspect", tmp_path / "hollow")
    assert code == 3
    assert "hollow" in one_line(err)


def words_store(path, *, labels, factors, test=6, train=8, with_video=True):
    """A store of captions, and video features unless asked not to."""
    tracks = [Track("video_2d", "video", 4, 1.0)] if with_video else [Track("audio_mel", "audio", 40, 100.0)]
    words = train_word_vectors(["red ball", "blue cube"] * 4, dim=4, seed=0)
    random = np.random.default_rng(0)
    with StoreWriter(path, name="words", tracks=tracks, words=words) as writer:
        for number in range(train + test):
            rows = random.normal(size=(1 if with_video else 100, tracks[0].dim)).astype(np.float16)
            caption = "red ball" if number % 2 else "blue cube"
            clip = Clip(0.0, 1.0, caption, labels[number % len(labels)], {k: v(number) for k, v in factors.items()})
            split = "train" if number < train else "test"
            writer.add(Recording(f"r{number}", split, 1.0, {tracks[0].name: rows}, (clip,), {}, None))
    return open_store(path)


@pytest.mark.parametrize(
    ("labels", "with_video", "changes", "said"),
    [
        (["cat", "dog"], False, {}, "experiment 'tiny' needs video; the store has audio, text"),
        (["cat"], True, {}, "split 'test': label: at least two classes are needed, got only 'cat' in 6 clips"),
        (["cat", "dog"], True, {"evaluation": {"split": "val"}}, "no held-out split val; it has train, test"),
        (["cat", "dog"], True, {"data": {"train_split": "tarin"}}, "no split 'tarin' to train on; it has train, test"),
        (
            ["cat", "dog"],
            True,
            {"evaluation": {"clusters": 9}},
            "label: 9 clusters need as many clips with video, got 6",
        ),
    ],
)
def test_data_that_cannot_be_scored_are_refused_before_training(
    labels, with_video, changes, said, tmp_path, mcnlab_says
):
    words_store(tmp_path / "store", labels=labels, factors={}, with_video=with_video)
    data = {"store": "store", **changes.pop("data", {})} if "data" in changes else {"store": "store"}
    experiment = written(tmp_path, **changes, data=data)
    before = tree(tmp_path)
    code, out, err = mcnlab_says("train", experiment, "--run", tmp_path / "run")
    assert (code, out) == (3, "")
    assert said in one_line(err)
    assert str(tmp_path / "store") in err
    assert tree(tmp_path) == before


def test_one_class_is_enough_when_clusters_are_not_asked_for(tmp_path, mcnlab_says):
    words_store(tmp_path / "store", labels=["cat"], factors={})
    experiment = written(tmp_path, data={"store": "store"}, evaluation={"tasks": ["retrieval"]})
    code, out, err = mcnlab_says("train", experiment, "--run", tmp_path / "run")
    assert code == 0
    assert out.strip() == str(tmp_path / "run")
    assert "training: " in err
    assert "Next: mcnlab report" in err
    code, out, err = mcnlab_says("train", experiment, "--run", tmp_path / "run")
    assert (code, out.strip()) == (0, str(tmp_path / "run"))
    assert "nothing to do: this run was finished before" in err


def test_a_factor_that_never_changes_is_left_out_and_said(tmp_path, mcnlab_says):
    factors = {"speed": lambda number: float(number % 3), "camera": lambda number: "left"}
    words_store(tmp_path / "store", labels=["cat", "dog"], factors=factors)
    experiment = written(tmp_path, data={"store": "store"})
    code, _, err = mcnlab_says("train", experiment, "--run", tmp_path / "run")
    assert code == 0
    assert "left out of retention: factor camera" in err
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    kept = {row["subject"] for row in rows if row["task"] == "retention"}
    assert "video:speed" in kept
    assert not any("camera" in subject for subject in kept)


def test_media_without_frames_or_samples_are_counted_and_the_rest_is_kept(tmp_path, mcnlab_says):
    soundfile.write(tmp_path / "silent.wav", np.zeros(0, dtype=np.float32), 16000)
    soundfile.write(tmp_path / "good.wav", np.sin(np.arange(16000) / 9).astype(np.float32), 16000)
    with av.open(str(tmp_path / "none.mp4"), "w") as container:
        container.add_stream("mpeg4", rate=10).width = 32
    lines = ["id,video,audio,caption,label,split"]
    lines += [f"g{k},,good.wav,word{k % 2} here,{'ab'[k % 2]},{'train' if k < 4 else 'val'}" for k in range(8)]
    lines += ["novideo,none.mp4,,a caption,a,train", "nosound,,silent.wav,a caption,a,train"]
    lines += ["quiet,,good.wav,,a,train", f"endless,,good.wav,{'word ' * 20000},a,train"]
    (tmp_path / "clips.csv").write_text("\n".join(lines), encoding="utf-8")
    code, out, err = mcnlab_says("import", "media", tmp_path / "clips.csv", "--out", tmp_path / "store")
    assert code == 0
    assert "1 kept, but not whole: audio: no samples: 'nosound'" in err
    report = open_store(tmp_path / "store").import_report
    told = json.dumps(report)
    for name in ("novideo", "nosound"):
        assert name in told
    assert "checksums" in out
    experiment = written(tmp_path, data={"store": "store"}, stages="AT")
    code, _, err = mcnlab_says("train", experiment, "--run", tmp_path / "run")
    assert code == 0, err


@pytest.mark.parametrize(
    ("kind", "said"),
    [("video", "video: no frames (an array of shape (0, 8, 8, 3)): 'one'"), ("audio", "audio: no samples: 'one'")],
)
def test_a_manifest_of_nothing_but_broken_media_is_refused(kind, said, tmp_path, mcnlab_says):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, dtype=np.float32), 16000)
    np.save(tmp_path / "empty.npy", np.zeros((0, 8, 8, 3), dtype=np.uint8))
    name = {"video": "empty.npy", "audio": "empty.wav"}[kind]
    (tmp_path / "clips.csv").write_text(f"id,{kind},fps\none,{name},10\n", encoding="utf-8")
    before = tree(tmp_path)
    code, out, err = mcnlab_says("import", "media", tmp_path / "clips.csv", "--out", tmp_path / "store")
    assert (code, out) == (3, "")
    assert "nothing in it can be used" in one_line(err)
    assert said in err
    assert tree(tmp_path) == before
    assert not (tmp_path / "store").exists()


def test_a_file_where_the_run_should_go_is_a_storage_error(store, tmp_path, mcnlab_says):
    experiment = written(tmp_path, data={"store": str(store)})
    (tmp_path / "run").write_text("mine")
    code, _, err = mcnlab_says("train", experiment, "--run", tmp_path / "run")
    assert code == 5
    assert str(tmp_path / "run") in one_line(err)
    assert (tmp_path / "run").read_text() == "mine"


def test_debug_shows_the_traceback_and_keeps_line_and_code(mcnlab_says):
    code, _, err = mcnlab_says("--debug", "study", "none.yaml")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: none.yaml: no such file")


def test_a_mistyped_folder_is_answered_with_those_that_are_there(mcnlab_says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("stores/mine/store.json", "runs/first/V-A-s0/settings.yaml", "clips.csv"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("", encoding="utf-8")
    assert "no such store, did you mean 'stores/mine'?" in one_line(mcnlab_says("inspect", "stores/mien")[2])
    assert one_line(mcnlab_says("inspect", "x")[2]).endswith(
        f"x: no such store; there is {Path('stores/mine')}; {MADE}"
    )
    said = mcnlab_says("inspect", "stores/other")[2]
    assert "type: mcnlab import media clips.csv --out stores/other" in one_line(said)
    said = one_line(mcnlab_says("import", "media", "clips.csv", "--out", "stores/mine")[2])
    assert "exists already; `mcnlab inspect stores/mine` says what it is, `rm -r stores/mine` removes it" in said
    assert "in runs there are first" in one_line(mcnlab_says("list", "runs/frist")[2])
    assert "no such folder" in one_line(mcnlab_says("verify", "runs/frist")[2])
    code, _, err = mcnlab_says("import", "media", "clip.csv", "--out", "x")
    assert (code, "no such manifest, did you mean 'clips.csv'?" in one_line(err)) == (3, True)


def test_the_study_named_after_an_import_reads_the_store_that_was_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("base: {data: {store: stores/mine}}", encoding="utf-8")
    assert _study_of(Path("stores/mine")) == "study.yaml"
    assert _study_of(Path("stores/other")) == f"study.yaml --set data.store={tmp_path / 'stores/other'}"
    Path("study.yaml").write_text("base: {data: [", encoding="utf-8")
    assert _study_of(Path("stores/mine")).startswith("study.yaml --set")


def test_control_characters_do_not_reach_the_terminal(mcnlab_says):
    code, _, err = mcnlab_says("inspect", "no\x1b[31m\nstore")
    assert code == 3
    assert one_line(err).isprintable()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(), 143, "terminated"),
        (OSError(28, "No space"), 5, "No s"),
        (MemoryError(), 5, "error: out of memory: MemoryError\n"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory:\nyou tried"),
            5,
            "can't allocate memory: you tried\n",
        ),
    ],
)
def test_signals_and_the_disk_have_codes_of_their_own(error, code, said, mcnlab_says, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("mcnlab.data.store.open_store", fails)
    found, _, err = mcnlab_says("inspect", "x")
    assert found == code
    assert said in err


def test_a_fault_of_ours_is_not_hidden(mcnlab_says, monkeypatch):
    def fails(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("mcnlab.data.store.open_store", fails)
    with pytest.raises(ZeroDivisionError):
        mcnlab_says("inspect", "x")


def test_sigterm_ends_a_command_with_143(monkeypatch, mcnlab_says):
    def waits(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("mcnlab.data.store.open_store", waits)
    before = signal.getsignal(signal.SIGTERM)
    code, _, err = mcnlab_says("inspect", "x")
    assert (code, err) == (143, "error: terminated\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        ("study 'my study.yaml' --workers 2", True),
        ("--debug train e.yaml --run r", True),
        ("import howto100m l.csv --features f --captions c --text w --out s", True),
        ("import media clips.csv --out s", False),
        ("report runs/x", False),
    ],
)
@pytest.mark.parametrize(("error", "said"), [(Terminated(), "terminated"), (KeyboardInterrupt(), "interrupted")])
def test_a_command_that_goes_on_says_so_with_what_to_type(words, goes_on, error, said, mcnlab_says, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(mcnlab.cli, "app", fails)
    _, _, err = mcnlab_says(*shlex.split(words))
    more = f"; what is done is kept. To go on, type: mcnlab {words}" if goes_on else ""
    assert err.splitlines()[-1] == f"error: {said}{more}"


def test_runs_are_listed_by_when_they_wrote_last(tmp_path, mcnlab_says, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "runs: no such folder here; `mcnlab study" in one_line(mcnlab_says("list")[2])
    for place, (name, elapsed_s) in enumerate({"first/b-s0": 0.42, "second/c-s0": 95.0, "first/a-s0": 8000.0}.items()):
        run = Path("runs") / name
        run.mkdir(parents=True)
        (run / "status.json").write_text('{"state": "finished"}', encoding="utf-8")
        (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "elapsed_s": elapsed_s}), encoding="utf-8")
        for file in run.iterdir():
            os.utime(file, (10_000.0 * place, 10_000.0 * place))
    code, out, _ = mcnlab_says("list")
    lines = [line.split() for line in out.splitlines() if "finished" in line]
    assert code == 0
    assert [line[:2] for line in lines] == [["first", "b"], ["second", "c"], ["first", "a"]]
    assert [" ".join(line[5:-2]) for line in lines] == ["0.42 s", "1 min 35 s", "2 h 13 min"]
    assert "the run that wrote last stands last" in out
    found = json.loads(mcnlab_says("list", "runs/first", "--json")[1])
    assert [(one["study"], one["experiment"]) for one in found] == [("first", "b"), ("first", "a")]
    shutil.move("runs/first/b-s0", "runs/b-s0")
    assert [one["study"] for one in json.loads(mcnlab_says("list", "--json")[1])] == ["", "second", "first"]
    assert f"is one run; type: mcnlab list {Path('runs/first')}" in one_line(mcnlab_says("list", "runs/first/a-s0")[2])


def test_a_reader_that_goes_away_is_no_error(store):
    done = subprocess.run(
        f"{sys.executable} -m mcnlab inspect {store} | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.stderr == ""


def test_lab_stays_on_this_machine_and_opens_the_notebooks(tmp_path, monkeypatch, mcnlab_says):
    started = []
    monkeypatch.setattr("os.execv", lambda program, words: started.append(words))
    monkeypatch.chdir(tmp_path)
    assert mcnlab_says("lab", "--port", 9000)[0] == 0
    (tmp_path / "notebooks").mkdir()
    assert mcnlab_says("lab")[0] == 0
    assert {"--ServerApp.ip=127.0.0.1", "--ServerApp.allow_remote_access=False"} <= set(started[0])
    assert f"--ServerApp.root_dir={Path(__file__).parents[1] / 'notebooks'}" in started[0]
    assert {f"--ServerApp.root_dir={tmp_path}", "--LabApp.default_url=/lab/tree/notebooks"} <= set(started[1])
    assert not any("token" in word or "password" in word for word in started[0])


WARNING_VERB = """
import warnings
from mcnlab.cli import app, main
app.command("warn")(lambda text: warnings.warn(text + chr(27) + "[31m\\nmore", stacklevel=2))
assert main(["warn", "plain"]) == main(["--debug", "warn", "debugged"]) == 0
"""


def test_a_warning_is_one_line_without_a_place_in_the_code():
    done = subprocess.run([sys.executable, "-c", WARNING_VERB], capture_output=True, text=True, check=True)
    first, *others = done.stderr.splitlines()
    assert first == "warning: plain [31m more"
    assert "UserWarning: debugged" in others[0]
    assert not any(line.startswith("warning:") for line in others)
