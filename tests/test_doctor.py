"""`mcnlab doctor`: what it finds is what is there."""

import importlib.metadata
import json
import shutil

import pytest
import torch

from mcnlab.cli import main
from mcnlab.doctor import examine, missing


def test_it_tells_versions_devices_faiss_and_disk(tmp_path):
    found = examine(tmp_path)
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert found["devices"][0]["kind"] == "cpu"
    assert len(found["devices"]) == 1 + torch.cuda.device_count()
    assert found["disk"]["total_bytes"] == shutil.disk_usage(tmp_path).total
    assert found["faiss"] is None or found["faiss"]["version"]


def test_what_is_missing_names_its_command_and_a_remedy(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "faiss" else found(name))
    rows = {row["what"]: row for row in missing(free_bytes=1e9, calibrated=False)}
    assert "mcnlab[cpu]" in rows["faiss"]["remedy"]
    assert rows["a calibration"] == {
        "what": "a calibration", "commands": "mcnlab plan", "remedy": "mcnlab plan --calibrate",
    }  # fmt: skip
    assert "1.0 GB" in rows["free disk"]["remedy"]
    assert "gensim" not in rows


def test_nothing_is_said_of_what_is_there():
    rows = {row["what"] for row in missing(free_bytes=1e12, calibrated=True)}
    assert rows <= {"a GPU", "faiss", "transformers", "distributed", "av"}


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_command_prints_a_page_or_json(flags, tmp_path, capsys):
    assert main(["doctor", "--folder", str(tmp_path), *flags]) == 0
    out = capsys.readouterr().out
    assert ("libraries" in out) if not flags else json.loads(out)["versions"]["python"]


def test_a_folder_that_is_not_there_is_refused(capsys):
    assert main(["doctor", "--folder", "/no/such/folder"]) == 2
    assert "no such folder" in capsys.readouterr().err
