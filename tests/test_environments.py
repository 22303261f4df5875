"""Files for conda, Docker, Binder and dev containers: they parse, and agree with pyproject.toml."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"torch": "pytorch-gpu", "soundfile": "pysoundfile", "jupyter-server": "jupyter_server"}
"""What conda-forge calls a package."""
CONDA_ALONE = {"python", "cuda-version", "pip"}
"""What only conda has a say in."""
DEV_CONTAINER_NAMES = {
    "name", "image", "build", "features", "runArgs", "remoteUser", "containerUser", "onCreateCommand",
    "updateContentCommand", "postCreateCommand", "postStartCommand", "remoteEnv", "containerEnv", "forwardPorts",
    "portsAttributes", "hostRequirements", "customizations", "mounts",
}  # fmt: skip
"""Names of the development container specification that we know of."""


def conda():
    """The dependencies of environment.yml, name to what is said of its version."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    return dict(re.fullmatch(r"([a-z0-9_-]+)(.*)", one).groups() for one in listed)


def pins():
    """Name to version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}


def requirements(*extras):
    """What a plain installation needs, with extras."""
    return [Requirement(one) for one in (*PROJECT["dependencies"], *(one for extra in extras for one in EXTRAS[extra]))]


def dockerfile():
    """Instructions of the Dockerfile, each as one line."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_conda_asks_for_what_pip_asks_for():
    listed = conda()
    wanted = {CONDA_NAMES.get(one.name, one.name): one for one in requirements("gpu", "resnet", "cluster")}
    assert set(listed) - CONDA_ALONE == set(wanted)
    for name, one in wanted.items():
        if listed[name].startswith("="):  # one version, which pip's range must have room for
            assert one.specifier.contains(f"{listed[name][1:]}.0"), name
        else:
            assert SpecifierSet(listed[name]) == one.specifier, name
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{listed['python'][1:]}.0")


def test_every_requirement_has_a_pin_that_it_allows():
    known = pins()
    for one in requirements(*(set(EXTRAS) - {"gpu"})):
        name = re.sub("[-_.]+", "-", one.name).lower()
        assert one.specifier.contains(Version(known[name])), name


def test_the_image_ends_as_a_user_without_rights_and_asks_for_a_secret():
    steps = dockerfile()
    users = [what for word, what in steps if word == "USER"]
    assert users == ["${NB_UID}"]
    assert ["ARG", "NB_UID=1000"] in steps
    assert ["EXPOSE", "8888"] in steps
    last = json.loads(next(what for word, what in steps if word == "CMD"))
    assert last[:3] == ["mcnlab", "lab", "--public"]
    base = next(what for word, what in steps if word == "ARG")
    assert re.fullmatch(r"BASE=nvidia/cuda:[\d.]+-runtime-ubuntu[\d.]+", base), "a tag, and no latest one"
    assert not re.search(r"token\s*=|password", " ".join(what for _, what in steps), flags=re.IGNORECASE)


def test_what_goes_into_the_image_is_there_and_named():
    allowed = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert allowed == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "mcnlab", "notebooks", "studies"}
    assert all((ROOT / name).exists() for name in allowed)


def test_extras_that_files_ask_for_are_there():
    for name in ("Dockerfile", ".devcontainer/devcontainer.json", "binder/requirements.txt", "Makefile", "README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        asked = re.findall(r"(?:\.|mcnlab)\[([a-z,]+)\]|EXTRAS=([a-z,]+)", text)
        extras = {extra for group in asked for one in group if one for extra in one.split(",")}
        assert extras, name
        assert extras <= set(EXTRAS), name


def test_the_dev_container_uses_names_of_its_specification():
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    settings = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert set(settings) <= DEV_CONTAINER_NAMES
    assert settings["remoteUser"] != "root"
    assert settings["forwardPorts"] == [8888]


def test_binder_installs_this_checkout_on_the_cpu():
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "-c ../constraints.txt" in lines
    assert ".[cpu,resnet]" in lines
    assert (ROOT / "binder" / "runtime.txt").read_text().strip() == f"python-{conda()['python'][1:]}"
    assert (ROOT / "binder" / "postBuild").stat().st_mode & 0o111, "repo2docker runs it"


@pytest.mark.parametrize("script", ["binder/postBuild", ".ci/run"])
def test_scripts_are_bash_that_parses_and_stop_at_the_first_error(script):
    text = (ROOT / script).read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", ROOT / script], check=True)
