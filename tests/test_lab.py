"""`mcnlab lab`: what JupyterLab opens, and who may reach it."""

import json
import os
from pathlib import Path

import pytest

from mcnlab.cli import main
from mcnlab.lab import SHORTEST_TOKEN, check_secret, has_password
from mcnlab.start import start_study

GOOD = "k" * SHORTEST_TOKEN


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The command lines that JupyterLab would have been started with; no password and no token are set."""
    lines = []
    monkeypatch.setattr("os.execv", lambda program, words: lines.append(words))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")  # which is put back afterwards
    monkeypatch.chdir(tmp_path)
    return lines


def test_in_a_folder_made_by_init_it_shows_the_study_and_opens_the_explorer(started, tmp_path, monkeypatch):
    start_study(tmp_path / "own")
    assert main(["lab", "own"]) == 0
    monkeypatch.chdir(tmp_path / "own")
    assert main(["lab"]) == 0
    for words in started:
        assert f"--ServerApp.root_dir={tmp_path / 'own'}" in words
        assert "--LabApp.default_url=/lab/tree/notebooks/00_explore.ipynb" in words
        assert "--ServerApp.ip=127.0.0.1" in words


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("own/notebookz", "did you mean 'own/notebooks'? Type: mcnlab lab own/notebooks"),
        ("onw", "did you mean 'own'? Type: mcnlab lab own"),
        (
            "00_explore",
            "is a notebook, expected a folder; without a folder, `mcnlab lab` opens the notebooks of mcnlab",
        ),
        ("00_explroe", "opens the notebooks of mcnlab with 00_explore in it"),
        ("xyz", "folders of notebooks: own; without a folder, `mcnlab lab` opens the notebooks of mcnlab: 00_board, "),
    ],
)
def test_a_mistyped_folder_of_notebooks_is_answered_with_what_is_there(typed, said, started, tmp_path, capsys):
    start_study(tmp_path / "own")
    assert main(["lab", typed]) == 2
    assert said in capsys.readouterr().err
    assert started == []


def test_it_asks_nothing_about_news(started, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/elsewhere")
    assert main(["lab"]) == 0
    own, others = os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert others == "/elsewhere"
    config = json.loads((Path(own) / "labconfig" / "page_config.json").read_text(encoding="utf-8"))
    assert config["disabledExtensions"] == {"@jupyterlab/apputils-extension:announcements": True}


def test_public_without_a_secret_is_refused_and_says_how(started, capsys):
    assert main(["lab", "--public"]) == 2
    err = capsys.readouterr().err
    assert "jupyter lab password" in err
    assert "JUPYTER_TOKEN" in err
    assert started == []


@pytest.mark.parametrize("name", ["JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE"])
@pytest.mark.parametrize("token", ["", "short", " " * SHORTEST_TOKEN])
def test_a_token_that_can_be_guessed_is_refused(name, token, started, tmp_path, monkeypatch, capsys):
    (tmp_path / "token").write_text(token, encoding="utf-8")
    monkeypatch.setenv(name, str(tmp_path / "token") if name.endswith("FILE") else token)
    assert main(["lab", "--public"]) == 2
    assert name in capsys.readouterr().err
    assert started == []


def test_a_token_file_that_is_not_there_is_named(started, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JUPYTER_TOKEN_FILE", "no/token")
    assert main(["lab", "--public"]) == 2
    assert "no/token" in capsys.readouterr().err


def test_with_a_token_it_is_public_and_the_token_is_not_in_the_command_line(started, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_TOKEN", GOOD)
    assert main(["lab", "--public"]) == 0
    assert {"--ServerApp.ip=0.0.0.0", "--ServerApp.allow_remote_access=True"} <= set(started[0])
    assert not any(GOOD in word for word in started[0])


def test_a_password_is_found_where_jupyter_puts_it(started, tmp_path):
    from jupyter_server.auth import passwd
    from jupyter_server.auth.security import set_password

    assert not has_password()
    (tmp_path / "config").mkdir()
    set_password(password="a long one, for a test", config_file=str(tmp_path / "config" / "jupyter_server_config.json"))
    assert has_password()
    assert passwd("x").startswith("argon2:")
    assert main(["lab", "--public"]) == 0
    check_secret({})


@pytest.mark.parametrize("config", ["", "[]", "{}", json.dumps({"ServerApp": {"password": ""}}), '{"ServerApp": 3}'])
def test_a_configuration_without_a_password_is_none(config, started, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "jupyter_server_config.json").write_text(config, encoding="utf-8")
    assert not has_password()


def test_root_is_warned(started, monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main(["lab"]) == 0
    assert "root" in capsys.readouterr().err
    assert "--allow-root" in started[0]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["lab"]) == 0
    assert "root" not in capsys.readouterr().err
    assert "--allow-root" not in started[1]
