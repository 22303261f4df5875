"""Completion by Tab: what the shell offers is what the commands take."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from mcnlab import completion
from mcnlab.data.importers.protocol_files import READERS
from mcnlab.experiment.evaluation_settings import Task
from mcnlab.study_plan import read_study

ROOT = Path(__file__).parents[1]


def offered(line, cwd=ROOT):
    """What bash is told for a line that ends where the cursor stands."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_MCNLAB_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-m", "mcnlab"],
        env={**os.environ, **asked, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    return done.stdout.split("\n")[:-1] if done.stdout.endswith("\n") else done.stdout.split("\n")


def test_bash_is_offered_studies_experiments_tasks_formats_and_templates():
    assert "studies/modality_combinations.yaml" in offered("mcnlab study studies/mod")
    assert offered("mcnlab study studies/modality_combinations.yaml --only MCN")[:2] == ["MCN", "MCN\\ AV_T"]
    assert offered("mcnlab evaluate run --tasks retrieval,ret") == ["retrieval,retention"]
    assert set(offered("mcnlab import m")) == {"media", "msrvtt", "mining-youtube"}
    assert offered("mcnlab init own --template m") == ["media"]


def test_shipped_studies_are_offered_anywhere_and_own_files_first(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text("experiments:\n- {experiment: A, stages: VT}\n", encoding="utf-8")
    (tmp_path / "stores").mkdir()
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = completion.settings_files("")
    assert found[:2] == ["own.yaml", "stores/"]
    assert "studies/own_media.yaml" in found
    assert completion.settings_files("own_m") == ["own_media.yaml"]
    assert completion.settings_files("stor") == []  # nothing in it
    (tmp_path / "stores" / "a.yaml").write_text("", encoding="utf-8")
    assert completion.settings_files("stor") == ["stores/", "stores/a.yaml"]  # so that bash puts no space behind it
    assert completion.experiments("own.yaml", "") == ["A"]
    assert completion.experiments("none.yaml", "") == []
    assert completion.experiments(None, "") == []


@pytest.mark.parametrize("study", sorted(path.name for path in (ROOT / "studies").glob("*.yaml")))
def test_every_experiment_of_a_shipped_study_is_offered(study):
    path = ROOT / "studies" / study
    if study.startswith("tiny"):
        return
    names = [own["experiment"] for own in read_study(path).experiments]
    assert set(names) <= set(completion.experiments(str(path), ""))


def test_tasks_and_data_sets_are_those_that_are_taken():
    assert set(completion.TASKS) == set(get_args(Task))
    assert {*READERS, "spectrograms"} == set(completion.PROTOCOLS)
    assert completion.tasks("retrieval,retrieval") == []
    assert completion.protocols("es") == ["esc50"]
