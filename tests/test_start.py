"""`mcnlab init`: the folder of an own study is whole, valid, and never costs a file that is there."""

import csv
import json
import re

import pytest
import yaml

from mcnlab.cli import main
from mcnlab.data.importers.media_manifest import COLUMNS, read_media_manifest
from mcnlab.experiment.checks import check_settings
from mcnlab.reporting.notebooks import declared_parameters, notebook_path
from mcnlab.start import NAMES, PLACEHOLDER, start_study, study_name
from mcnlab.study_plan import StudyFolders, plan_runs, read_study

CLIP = "kitchen-1,kitchen,media/kitchen.mp4,media/kitchen.mp4,0,4,cut the onion,cut,train,0.2"
"""First row of the example of clips."""
NOTEBOOKS = sorted(path.name for path in notebook_path("01_train_a_combination").parent.glob("*.ipynb"))


def uncommented(text):
    """A template in which every setting that is offered in a comment is switched on."""
    offered = re.compile(r"^(\s*)# ((?:store|evaluation|cluster|reconstruct):|- \{)", re.MULTILINE)
    return offered.sub(r"\1\2", text)


@pytest.mark.parametrize("template", NAMES)
def test_the_folder_holds_settings_that_plan_notebooks_that_read_them_and_a_page(template, tmp_path):
    written = start_study(tmp_path / "My study", template=template)
    folder = tmp_path / "My study"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {str(path) for path in written} == files
    assert {"study.yaml", "README.md", ".gitignore", *(f"notebooks/{name}" for name in NOTEBOOKS)} <= files
    assert not [name for name in files if PLACEHOLDER in (folder / name).read_text(encoding="utf-8")]
    study = read_study(folder / "study.yaml")
    assert study.study == "my_study"
    runs = plan_runs(study, StudyFolders(folder, study.study), folder / "study.yaml")
    assert {run.folder.parent for run in runs} == {folder / "runs" / "my_study"}
    said = (folder / "README.md").read_text(encoding="utf-8")
    assert "runs/my_study/V-T-s0" in said
    assert "V-T-s0" in {run.folder.name for run in runs}


@pytest.mark.parametrize("template", NAMES)
def test_what_a_template_offers_in_comments_is_valid(template, tmp_path):
    start_study(tmp_path / "own", template=template)
    path = tmp_path / "own" / "study.yaml"
    text = path.read_text(encoding="utf-8")
    more = uncommented(text)
    if template == "world":  # two places for the clips exclude each other
        more = more.replace("    world: {train", "    # world: {train")
    path.write_text(more, encoding="utf-8")
    study = read_study(path)
    runs = plan_runs(study, StudyFolders(tmp_path, study.study), path)
    assert len(runs) == more.count("- {experiment:") > text.count("\n  - {experiment:")
    for run in runs:
        check_settings(run.settings)


def test_the_example_of_clips_is_a_manifest_that_explains_its_columns(tmp_path):
    start_study(tmp_path / "own", template="media")
    path = tmp_path / "own" / "clips.csv"
    table = read_media_manifest(path)
    assert {row.split for row in table.rows} == {"train", "test"}
    assert table.rows[1].end_s == 8.0
    lines = path.read_text(encoding="utf-8").splitlines()
    explained = {name for line in lines if line.startswith("#") for name in line[2:13].split()[0:1]}
    explained = {part.partition(":")[0] for name in explained for part in name.split(",")}
    header = next(csv.reader(line for line in lines if not line.startswith("#")))
    assert {name.partition(":")[0] for name in header} <= explained
    assert set(COLUMNS) - {"fps"} <= explained


def test_the_example_of_clips_is_never_taken_for_own_media(tmp_path, capsys):
    start_study(tmp_path / "own", template="media")
    path = tmp_path / "own" / "clips.csv"
    assert main(["import", "media", str(path), "--out", str(tmp_path / "store")]) == 3
    said = capsys.readouterr().err
    assert "no such file: 'media/kitchen.mp4'" in said
    assert f"row {path.read_text(encoding='utf-8').splitlines().index(CLIP) + 1}: " in said
    assert not (tmp_path / "store").exists()


def test_notebooks_about_any_study_read_this_one(tmp_path):
    start_study(tmp_path / "own")
    told = {name: declared_parameters(tmp_path / "own" / "notebooks" / name) for name in NOTEBOOKS}
    runs = "'../runs/own'"
    reading = {name for name, declared in told.items() if runs in (declared.get("study_dir"), declared.get("run_dir"))}
    assert "00_watch.ipynb" in reading
    assert "01_train_a_combination.ipynb" not in reading
    assert {name for name in NOTEBOOKS if "02" <= name < "06"} <= reading
    assert all(name < "06" for name in reading)
    for name in set(NOTEBOOKS) - reading:
        there = (tmp_path / "own" / "notebooks" / name).read_text(encoding="utf-8")
        assert json.loads(there) == json.loads(notebook_path(name).read_text(encoding="utf-8"))


def test_a_folder_with_something_in_it_is_refused_and_no_file_is_ever_changed(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text("mine", encoding="utf-8")
    assert main(["init", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
    assert main(["init", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "study.yaml").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "README.md").exists()
    assert main(["init", str(tmp_path / "study.yaml")]) == 5
    assert "is a file" in capsys.readouterr().err


def test_the_next_commands_are_said(tmp_path, capsys):
    assert main(["init", str(tmp_path / "two words"), "--template", "media"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "two words")
    assert f"cd '{tmp_path / 'two words'}'" in err
    assert "mcnlab import media clips.csv --out stores/mine" in err
    assert "mcnlab study study.yaml" in err
    store = yaml.safe_load((tmp_path / "two words" / "study.yaml").read_text())["base"]["data"]["store"]
    assert store == "stores/mine"


@pytest.mark.parametrize(
    ("folder", "name"), [("a", "a"), ("Été 2026", "t_2026"), ("...", "my_study"), ("x" * 60, "x" * 40), ("-a-", "a")]
)
def test_any_folder_gives_a_valid_name(folder, name, tmp_path):
    assert study_name(tmp_path / folder) == name
