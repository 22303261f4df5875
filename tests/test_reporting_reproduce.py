"""The box that says how to run a study again, and what a page does not carry away."""

import base64
import html
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from mcnlab.config import laid_over
from mcnlab.experiment.folder import run_key
from mcnlab.reporting.pages import index_page
from mcnlab.reporting.private import without_home
from mcnlab.reporting.reproduce import beyond, command_of, reproduction, shared
from mcnlab.reporting.summary import summarize
from mcnlab.runs import RunFolder
from mcnlab.study_plan import StudyFolders, plan_runs, read_study
from tests.fake_study import DEFAULT, write_fake_study
from tests.mini_study import write_study

NESTED = [
    {"a": 1, "b": {"c": 2, "d": 3, "e": None}, "f": [1]},
    {"a": 1, "b": {"c": 2, "d": 4, "e": {"g": 1}}, "f": [2]},
    {"a": 1, "b": {"c": 2, "d": 3}, "f": [1], "h": {}},
]


@pytest.fixture
def planned(tmp_path):
    """Folders of runs that nobody trained, with the settings that a study gives them."""
    path = write_study(tmp_path, seeds=(0, 1))
    study = read_study(path, overrides=["training.epochs=2", "seeds=[3,5]"])
    runs = plan_runs(study, StudyFolders(tmp_path, study.study), path)
    for run in runs:
        run.folder.mkdir(parents=True)
        plain = run.settings.model_dump(mode="json")
        (run.folder / "settings.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        (run.folder / "status.json").write_text(json.dumps({"state": "interrupted"}), encoding="utf-8")
    record = {"study": "mini", "file": "mini.yaml", "overrides": ["training.epochs=2", "seeds=[3,5]"]}
    (tmp_path / "runs" / "mini" / "study.json").write_text(json.dumps(record), encoding="utf-8")
    return tmp_path, runs


def test_the_file_on_the_page_plans_the_very_same_runs(planned):
    folder, runs = planned
    again = reproduction(summarize(folder / "runs" / "mini", title="Mini", question="Why?"))
    path = folder / again.file
    path.write_bytes(base64.b64decode(again.address.partition("base64,")[2]))
    replanned = plan_runs(read_study(path), StudyFolders(folder, "mini"), path)
    assert {(run_key(one.settings, one.seed), one.folder) for one in replanned} == {
        (run_key(one.settings, one.seed), one.folder) for one in runs
    }


def test_the_command_names_the_file_and_the_overrides(planned):
    folder, _ = planned
    page = index_page(summarize(folder / "runs" / "mini"))
    (command,) = re.findall(r'<pre id="command"[^>]*>(.*?)</pre>', page)
    said = shlex.split(html.unescape(command))
    assert said == ["mcnlab", "study", "mini.yaml", "--set", "training.epochs=2", "--set", "seeds=[3,5]"]
    assert "seeds 3, 5" in page


def test_a_study_that_left_no_record_is_reproduced_from_the_file_on_its_page(tmp_path):
    study = write_fake_study(tmp_path / "study", experiments=DEFAULT[:2], seeds=(7,), clips=20)
    again = reproduction(summarize(study, title="What? A <b>study</b>"))
    assert again.file == "what_a_b_study_b.yaml"
    assert again.command == "mcnlab study what_a_b_study_b.yaml"
    assert again.facts == ("mcnlab 0.1.0, commit fake", "seed 7")
    text = base64.b64decode(again.address.partition("base64,")[2]).decode()
    named = [one["experiment"] for one in yaml.safe_load(text)["experiments"]]
    assert named == ["V+A", "V+T"]


def test_no_shell_takes_a_name_for_a_command():
    line = command_of({"file": "a.yaml; rm -rf x", "overrides": ["x=$(y)"]}, "x.yaml")
    assert shlex.split(line) == ["mcnlab", "study", "a.yaml; rm -rf x", "--set", "x=$(y)"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shared_settings_with_the_rest_laid_over_are_the_settings(count):
    known = NESTED[:count]
    base = shared(known)
    assert [laid_over(base, beyond(base, one)) for one in known] == known


# home folders


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("/home/jane/x", "~/x"),
        ("path /Users/jane", "path ~"),
        ('"/root/stores"', '"~/stores"'),
        (r"C:\Users\jane\x", r"~\x"),
        ("store=/home/jane/a,/home/joe/b", "store=~/a,~/b"),
        ("/homes/jane /data/home/jane /rooted", "/homes/jane /data/home/jane /rooted"),
        ("https://example.org/home/page", "https://example.org/home/page"),
    ],
)
def test_home_folders_are_written_short(raw, shown):
    assert without_home(raw) == shown


def test_the_own_home_folder_is_written_short_wherever_it_is(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/nfs/people/jane"))
    assert without_home("/nfs/people/jane/x /nfs/people/janet") == "~/x /nfs/people/janet"


def test_no_page_tells_whose_home_it_was_made_in(tmp_path):
    study = write_fake_study(tmp_path / "study", experiments=DEFAULT[:2], seeds=(0,), clips=20)
    for run in study.iterdir():
        known = RunFolder(run).provenance
        known["data"]["path"] = "/home/jane/stores/mine"
        (run / "provenance.json").write_text(json.dumps(known), encoding="utf-8")
        settings = RunFolder(run).settings
        settings["data"]["store"] = "/home/jane/stores/mine"
        (run / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    page = index_page(summarize(study))
    assert "~/stores/mine" in page
    assert "jane" not in page
    (address,) = re.findall(r'href="data:text/yaml[^"]*base64,([^"]+)"', page)
    assert "jane" not in base64.b64decode(html.unescape(address)).decode()
