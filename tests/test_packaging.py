"""An installed wheel does what the checkout does: notebooks and studies travel with it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("mcnlab", "notebooks", "studies", "pyproject.toml", "README.md", "LICENSE")


def run(*words, cwd):
    """A command that must succeed; its standard output."""
    templates = Path(sysconfig.get_path("data")) / "share" / "jupyter"  # nbconvert's, which lie beside its library
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**clean, "OMP_NUM_THREADS": "1", "JUPYTER_PATH": str(templates)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the checkout stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source)
    run(sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "-q", "-w", out, cwd=source)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The commands' folder of an environment in which the wheel is installed; its libraries are borrowed."""
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=home)
    libraries = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (libraries / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


@pytest.mark.slow
def test_the_wheel_holds_every_notebook_study_and_template(wheel):
    names = {name.split(".data/data/")[-1] for name in zipfile.ZipFile(wheel).namelist()}
    shipped = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "studies").glob("*.yaml")]
    assert {f"share/mcnlab/{path.parent.name}/{path.name}" for path in shipped} <= names
    inside = [path for path in (ROOT / "mcnlab").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in inside} <= names


@pytest.mark.slow
def test_an_installed_mcnlab_trains_a_shipped_experiment_from_anywhere(installed, tmp_path):
    where = "import mcnlab; from mcnlab.reporting.notebooks import notebook_path as n; print(n('05'), mcnlab.__file__)"
    where = where.replace("'05'", "'05_compare_the_combinations'")
    notebook, package = run(installed / "python", "-c", where, cwd=tmp_path).split()
    assert Path(notebook) == installed.parent / "share" / "mcnlab" / "notebooks" / "05_compare_the_combinations.ipynb"
    assert installed.parent in Path(package).parents
    said = run(installed / "mcnlab", "train", "tiny_experiment.yaml", "--run", "mine", cwd=tmp_path)
    assert said.strip() == str(tmp_path / "mine")
    assert json.loads((tmp_path / "mine" / "status.json").read_text()) == {"state": "finished"}
    run(installed / "mcnlab", "init", "own", cwd=tmp_path)
    made = {str(path.relative_to(tmp_path / "own")) for path in (tmp_path / "own").rglob("*") if path.is_file()}
    assert {"study.yaml", "README.md", ".gitignore", "notebooks/05_compare_the_combinations.ipynb"} <= made
    page = run(installed / "mcnlab", "report", "mine", cwd=tmp_path)
    assert Path(page.strip()).read_text(encoding="utf-8").startswith("<!doctype html>")
