"""The explorer as somebody uses it: notebook 00 in a real JupyterLab, in headless Chromium."""

import json
import re
import shutil

import nbformat
import pytest

from mcnlab.experiment import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.reporting.notebooks import notebook_path
from tests.fake_study import DEFAULT, HOSTILE_CAPTION, write_fake_study
from tests.jupyter_lab import CHROMIUM, opened_lab

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
PATIENT_MS = 90_000
"""UMAP may have to be compiled first."""
TABLE = ".widget-tab-contents .mx-clips"


def choose(page, words, label):
    """Choose in a menu by the text beside it."""
    page.select_option(f'.widget-dropdown:has(label:text-is("{words}")) select', label=label)


def canvas(page, side="left"):
    return page.locator(".mx-panel canvas").nth(("left", "right").index(side))


def place_of(page, clip, side="left"):
    """Where a clip is drawn, in the window."""
    canvas(page, side).scroll_into_view_if_needed()
    page.wait_for_timeout(150)
    box, place = canvas(page, side).bounding_box(), canvas(page, side).evaluate("(c, clip) => c.placeOf(clip)", clip)
    return box["x"] + place[0], box["y"] + place[1]


def key_of(page, side="left"):
    return page.locator(".mx-key-title").nth(("left", "right").index(side)).inner_text()


def wait_for_maps(page):
    """Until both maps are laid out and nothing is being done."""
    idle = """() => [...document.querySelectorAll('.mx-key-title')].filter((one) => one.textContent).length === 2
      && document.querySelector('.mcnlab-jobs .jupyter-button')?.style.visibility === 'hidden'"""
    page.wait_for_timeout(300)  # what was chosen last reaches the kernel
    page.wait_for_function(idle, timeout=PATIENT_MS)
    page.wait_for_timeout(900)  # the clips move to their places


def rows_of(page, table=TABLE):
    return page.locator(f"{table} tbody tr:visible").count()


def title_of(page, table=TABLE):
    return page.locator(f"{table} caption:visible").inner_text()


def draw_lasso(page, around, reach=60):
    """Draw round a clip of the left map."""
    page.click('.mx-button:text-is("Lasso")')
    x, y = place_of(page, around)
    page.mouse.move(x - reach, y - reach)
    page.mouse.down()
    for dx, dy in ((reach, -reach), (reach, reach), (-reach, reach), (-reach, -reach)):
        page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()
    page.click('.mx-button:text-is("Move")')


def slide_to_end(page):
    """Drag the handle of the visible slider to its right end."""
    handle, bar = (
        page.locator(f".widget-hslider .noUi-{one}:visible").first.bounding_box() for one in ("handle", "base")
    )
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(bar["x"] + bar["width"], bar["y"] + bar["height"] / 2, steps=6)
    page.mouse.up()


def open_tab(page, name):
    page.click(f'.lm-TabBar-tab:has-text("{name}")')


def notebook_of(folder, study):
    """Notebook 00 in a folder of its own, with the study as its parameter."""
    folder.mkdir()
    notebook = nbformat.read(notebook_path("00_explore"), as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = parameters.source.replace('study_dir = ""', f"study_dir = {json.dumps(str(study))}")
    nbformat.write(notebook, folder / "00_explore.ipynb")
    return folder


@pytest.fixture
def fake_lab(tmp_path):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    study = write_fake_study(tmp_path / "runs", experiments=(DEFAULT[3], DEFAULT[5]), seeds=(0,), clips=40)
    with opened_lab(notebook_of(tmp_path / "lab", study)) as lab:
        lab.open("00_explore.ipynb")
        lab.run_all()
        wait_for_maps(lab.page)
        yield lab


def test_one_colors_draws_a_lasso_and_opens_a_clip(fake_lab):
    page, dialogs = fake_lab.page, []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    choose(page, "color by", "factor:vt.color")
    page.wait_for_function("() => document.querySelector('.mx-key-title').textContent === 'vt.color'")
    assert key_of(page, "right") == "label"

    draw_lasso(page, 5)
    page.wait_for_function("() => !document.querySelector('.mx-clips caption').textContent.startsWith('40 of')")
    chosen = int(re.match(r"(\d+) of 40 clips", title_of(page))[1])
    assert 1 <= chosen < 40
    assert rows_of(page) == chosen

    page.mouse.click(*place_of(page, 0))
    page.wait_for_selector('.mx-card h4:text-is("rec0000:0")')
    assert page.locator(".mx-card blockquote").inner_text() == HOSTILE_CAPTION
    assert page.locator(".mx-near").count() == 2
    assert page.locator(".mx-near .mx-score").count() == 10

    page.click('button:has-text("Clear selection")')
    page.fill('.widget-text:has(label:text-is("search")) input', "alert(1)")
    page.wait_for_function("() => document.querySelector('.mx-clips caption').textContent.startsWith('1 of')")
    assert HOSTILE_CAPTION in page.locator(f"{TABLE} tbody").inner_text()
    page.fill('.widget-text:has(label:text-is("search")) input', "nothing is called so")
    page.wait_for_function("() => document.querySelector('.mx-clips caption').textContent.startsWith('0 of')")
    assert page.locator(f"{TABLE} tbody").inner_text() == "no clip"
    assert (fake_lab.errors, fake_lab.outside, dialogs) == ([], [], [])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two small runs on the narrated world that kept their course."""
    folder = tmp_path_factory.mktemp("trained")
    for name, stages in (("V+A+T", "VAT"), ("AV_T", "AV_T")):
        settings = ExperimentSettings.parse(
            {
                "experiment": name,
                "data": {"world": {"train_recordings": 12, "val_recordings": 0, "test_recordings": 8}},
                "stages": stages,
                "terms": {"contrast": {}},
                "model": {"dim": 16, "audio_width": 8, "audio_blocks": 1, "decoder_hidden": 8},
                "training": {"epochs": 4, "batch": 24, "warmup_steps": 2, "threads": 1, "keep_every": 4},
                "evaluation": {"tasks": ["retrieval"]},
            },
            source="test",
        )
        run_experiment(settings, folder / "runs" / f"{stages.lower()}-s0", stores=folder / "stores")
    return folder / "runs"


@pytest.fixture
def trained_lab(trained, tmp_path):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    runs = shutil.copytree(trained, tmp_path / "runs")
    with opened_lab(notebook_of(tmp_path / "lab", runs)) as lab:
        lab.open("00_explore.ipynb")
        lab.run_all()
        wait_for_maps(lab.page)
        yield lab


@pytest.mark.slow
def test_one_hears_a_clip_asks_a_sentence_and_moves_through_the_training(trained_lab):
    page = trained_lab.page
    words = page.locator(".widget-html:visible").all_inner_texts()
    assert sum("Trustworthiness" in text for text in words) == 2

    choose(page, "left run", "V+A+T, seed 0")
    wait_for_maps(page)
    choose(page, "embedding", "all modalities")
    wait_for_maps(page)
    choose(page, "color by", "modality")
    page.wait_for_function("() => document.querySelector('.mx-key').textContent.includes('audio')")
    choose(page, "embedding", "video")
    wait_for_maps(page)

    page.mouse.click(*place_of(page, 3))
    page.wait_for_selector(".mx-card audio", timeout=30_000)
    page.wait_for_function("() => document.querySelector('.mx-card audio').duration > 0.5", timeout=10_000)
    assert page.locator(".mx-card audio").get_attribute("src").startswith("data:audio/wav;base64,")
    assert page.locator('.mx-frames input[type="range"]').count() == 1
    assert page.locator(".mx-near").count() == 2

    page.mouse.move(*place_of(page, 7))
    page.wait_for_selector(".mx-tip:visible img")

    open_tab(page, "Ask")
    page.fill('.widget-text:has(label:text-is("sentence")) input', "the big red star")
    page.keyboard.press("Enter")
    page.wait_for_selector(f'{TABLE} caption:has-text("the big red star")', timeout=30_000)
    assert rows_of(page) == 20
    first = page.locator(f"{TABLE}:visible tbody tr").first
    clip = first.get_attribute("data-clip")
    first.click()
    page.wait_for_function("(clip) => document.querySelector('.mx-root').dataset.opened === clip", arg=clip)
    choose(page, "ask with", "opened clip: its audio")
    choose(page, "look in", "video")
    page.click('button.jupyter-button:has-text("Ask")')
    page.wait_for_selector(f'{TABLE} caption:has-text("the clip itself has rank")', timeout=30_000)

    open_tab(page, "Training")
    page.click('button.jupyter-button:has-text("Load the checkpoints")')
    page.click('button.jupyter-button:visible:has-text("Cancel")', timeout=5_000)
    page.wait_for_selector('.mcnlab-jobs .widget-label:visible:text-is("cancelled")')
    page.click('button.jupyter-button:has-text("Load the checkpoints")')
    page.wait_for_selector('.widget-readout:has-text("0")', timeout=PATIENT_MS)
    page.wait_for_timeout(1200)
    before = place_of(page, 3)
    slide_to_end(page)
    page.wait_for_timeout(1200)
    assert place_of(page, 3) != before
    assert any("After step" in text for text in page.locator(".widget-html:visible").all_inner_texts())

    open_tab(page, "Changed neighbors")
    page.wait_for_selector(f'{TABLE}:visible caption:has-text("changed most")', timeout=30_000)
    assert rows_of(page) > 10
    assert (trained_lab.errors, trained_lab.outside) == ([], [])
