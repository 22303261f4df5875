"""`mcnlab doctor`: what it finds is what is there."""

import importlib.metadata
import json
import shutil

import pytest
import torch

from mcnlab.cli import main
from mcnlab.doctor import _cores_in_words, examine, missing


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
    optional = {"a GPU", "faiss", "transformers", "distributed", "av", "sphinx", "playwright", "chromium"}
    assert rows <= optional | {"a plain user"}


def test_the_next_step_is_that_of_the_folder_where_it_was_asked(tmp_path, monkeypatch, capsys):
    def told():
        assert main(["doctor", "--folder", str(tmp_path)]) == 0
        return capsys.readouterr().out

    assert "Next: mcnlab init my_study" in told()
    (tmp_path / "study.yaml").write_text("", encoding="utf-8")
    assert "Next: mcnlab study study.yaml" in told()
    (tmp_path / "clips.csv").write_text("", encoding="utf-8")
    assert "Next: mcnlab import media clips.csv" in told()
    (tmp_path / "stores" / "mine").mkdir(parents=True)
    (tmp_path / "stores" / "mine" / "store.json").write_text("", encoding="utf-8")
    assert "Next: mcnlab study study.yaml" in told()


def test_cores_that_are_held_back_are_told(monkeypatch):
    monkeypatch.setattr("mcnlab.doctor.own_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert _cores_in_words(4) == "4 cores"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert _cores_in_words(1) == "1 of 8 cores, as OMP_NUM_THREADS says"


def test_root_is_warned_and_a_plain_user_is_not(monkeypatch):
    def told():
        rows = missing(free_bytes=1e12, calibrated=True)
        return [row["remedy"] for row in rows if row["what"] == "a plain user"]

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert told() == []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "you are root" in told()[0]


def test_extras_for_browser_and_documentation_are_missed_by_name(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    rows = {row["what"]: row for row in missing(free_bytes=1e12, calibrated=True)}
    assert rows["sphinx"]["commands"] == "make docs"
    assert "mcnlab[docs]" in rows["sphinx"]["remedy"]
    assert {"playwright", "chromium"} <= set(rows)


def test_the_page_fits_into_eighty_columns_and_says_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["doctor", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("Next: mcnlab init my_study")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_command_prints_a_page_or_json(flags, tmp_path, capsys):
    assert main(["doctor", "--folder", str(tmp_path), *flags]) == 0
    out = capsys.readouterr().out
    assert ("libraries" in out) if not flags else json.loads(out)["versions"]["python"]


def test_a_folder_that_is_not_there_is_refused(capsys):
    assert main(["doctor", "--folder", "/no/such/folder"]) == 2
    assert "no such folder" in capsys.readouterr().err
