"""The documentation: it is whole before it is built, and builds without a warning or a network."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mcnlab.config import Settings
from mcnlab.experiment.settings import ExperimentSettings
from tests.test_architecture import test_names_that_others_build_on_are_where_they_are_promised as promised

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
WITHOUT_FIGURE = {"cluster", "containers", "notebooks", "own_data", "performance", "reliability"}
"""Pages that explain no method and show no result."""
LARGEST_BYTES = 150_000


@pytest.fixture(scope="module")
def generated():
    """The module that writes pages from the code."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_promised_name_has_its_entry_and_a_docstring(generated):
    page = generated.contract_page()
    wanted = {f"mcnlab.{part}.{name}" for part, names in promised.pytestmark[0].args[1] for name in names.split()}
    wanted |= {"mcnlab.load_run", "mcnlab.embed", "mcnlab.list_runs"}
    assert set(re.findall(r":: (mcnlab\S+)$", page, flags=re.MULTILINE)) >= wanted
    for module, names in generated.CONTRACT.items():
        for name in names:
            assert getattr(importlib.import_module(module), name).__doc__.strip(), name


def test_every_setting_has_a_row_with_its_meaning(generated):
    page = generated.settings_page()
    assert "| `training.epochs` | `" in page
    assert "| `terms.contrast.temperature` |" in page
    assert not re.findall(r"^\| `.*\| *\|$", page, flags=re.MULTILINE), "a setting without a meaning"
    groups = [
        inner for field in ExperimentSettings.model_fields.values() for inner in generated._models(field.annotation)
    ]
    assert all(issubclass(group, Settings) for group in groups)
    for group in groups:
        assert all(f".{name}`" in page for name in group.model_fields), group


def test_every_verb_is_shown_with_its_example(generated):
    page = generated.commands_page()
    for verb in ("study", "import media", "init", "lab"):
        assert f"## mcnlab {verb}\n" in page
        assert f"Example: mcnlab {verb}" in page


def test_every_page_is_in_the_table_of_contents():
    listed = set(re.findall(r"^([a-z_/]+)$", (DOCS / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {page.stem for page in PAGES} - {"index"} <= listed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_are_there_small_and_told_in_words(page):
    pictures = re.findall(r"!\[([^\n]*?)\]\(([^)\n]+)\)", page.read_text(encoding="utf-8"))
    assert bool(pictures) != (page.stem in WITHOUT_FIGURE)
    for alt, name in pictures:
        assert len(alt) > 10, name
        assert (DOCS / name).stat().st_size < LARGEST_BYTES, name


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_ask_nothing_of_the_network(tmp_path):
    pytest.importorskip("sphinx")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-q",
        "-b",
        "html",
        "-d",
        tmp_path / "trees",
        DOCS,
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "out").rglob("*.html"))
    assert len(pages) > len(PAGES)
    loaded = r"<(?:script|img|iframe|source|audio|video)[^>]+src=\"https?://|<link[^>]+stylesheet[^>]+href=\"https?://"
    for page in pages:
        assert not re.findall(loaded, page.read_text(encoding="utf-8")), page
    for sheet in (tmp_path / "out").rglob("*.css"):
        assert not re.findall(r"@import|url\(['\"]?https?://", sheet.read_text(encoding="utf-8")), sheet
    reference = (tmp_path / "out" / "_generated" / "python.html").read_text(encoding="utf-8")
    assert 'id="mcnlab.losses.info_nce"' in reference


def test_every_stored_picture_stands_on_a_page():
    text = "".join(path.read_text(encoding="utf-8") for path in (*PAGES, ROOT / "README.md"))
    stored = sorted(path.name for folder in ("gallery", "images") for path in (DOCS / folder).iterdir())
    assert [name for name in stored if name not in text] == []
