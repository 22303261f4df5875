"""The live view and the study board in a real JupyterLab, used as a person uses them."""

import math
import re
import signal

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from mcnlab.runs import RunFolder
from tests.fake_study import FakeExperiment, write_fake_study
from tests.jupyter_lab import CHROMIUM, opened_lab
from tests.mini_study import BASE, EXPERIMENTS, write_study
from tests.test_kill import PATIENCE_S, start, steps, wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
HOSTILE = "<img src=x onerror=alert(1)> & $x$"
SLOW_MS = 60_000
SAME_KERNEL = """
import time
from types import SimpleNamespace
from mcnlab.reporting.live import LiveCurves

curves = LiveCurves(every_s=0.0)
for step in range(1, 31):
    curves(SimpleNamespace(step=step, loss=3 / step, terms={"contrast": 2 / step, "contrast.va": 2 / step}))
    time.sleep(0.05)
"""
WITH_SOUND = """
import io, wave
from pathlib import Path
from types import SimpleNamespace
from mcnlab.reporting.board import board

sound = io.BytesIO()
with wave.open(sound, "wb") as file:
    file.setparams((1, 2, 16000, 0, "NONE", ""))
    file.writeframes(bytes(32000))
made = board("runs", media=lambda run, clip: SimpleNamespace(wav=sound.getvalue()))
"""


def write_notebook(folder, name, source):
    folder.mkdir(exist_ok=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[new_code_cell(source, id="cell")], metadata=kernel), folder / name)


@pytest.fixture
def playwright_there():
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_a_training_of_another_process_is_followed_and_stopped(tmp_path, playwright_there):
    write_study(tmp_path)
    training = {**BASE["training"], "epochs": 20_000, "checkpoint_every": 100_000}
    values = {**BASE, **EXPERIMENTS[1], "experiment": HOSTILE, "data": {"store": str(tmp_path / "store")}}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump({**values, "training": training}))
    run = tmp_path / "run"
    write_notebook(tmp_path / "lab", "n.ipynb", f"from mcnlab.reporting.live import watch\nwatch({str(run)!r});")
    process = start(["-m", "mcnlab"], "train", tmp_path / "experiment.yaml", "--run", run)
    try:
        wait_until(lambda: steps(run) >= 5, process)
        with opened_lab(tmp_path / "lab") as lab:
            page = lab.page
            lab.open("n.ipynb")
            lab.run_all()
            page.wait_for_selector(".mcn.watch polyline", timeout=SLOW_MS)
            assert page.inner_text(".mcn.watch h3") == f"{HOSTILE}, seed 0"
            assert page.inner_text(".mcn.watch .chip") == "running"
            assert f"held by process {process.pid}" in page.inner_text(".mcn.watch")
            assert "all terms finite" in page.inner_text(".mcn.watch dl")
            seen = int(page.get_attribute(".mcn.watch [role=progressbar]", "aria-valuenow"))
            grown = f"() => document.querySelector('.mcn.watch [role=progressbar]').ariaValueNow > {seen}"
            page.wait_for_function(grown, timeout=SLOW_MS)

            page.click(".mcn.watch .keys button:has-text('contrast') >> nth=0")
            page.wait_for_selector(".mcn.watch polyline[data-name=contrast]", state="detached")
            page.focus(".mcn.watch svg >> nth=0")
            page.keyboard.press("ArrowRight")
            assert re.match(r"step \d+: loss [\d.]+", page.inner_text(".mcn.watch .readout >> nth=0"))

            page.click(".mcn.watch button.danger")
            assert page.inner_text(".mcn.watch button.sure") == "Really stop? Click again"
            assert not (run / ".stop").exists()
            page.click(".mcn.watch button.sure")
            page.wait_for_selector(".mcn.watch .chip:text-is('interrupted')", timeout=SLOW_MS)
            assert "goes on from there when called again" in page.inner_text(".mcn.watch")
            assert page.locator(".mcn.watch button.danger").is_hidden()
            assert (lab.errors, lab.outside) == ([], [])
        assert process.wait(timeout=PATIENCE_S) == 128 + signal.SIGTERM
        assert RunFolder(run).status["state"] == "interrupted"
        assert (run / "checkpoints" / f"step_{steps(run):08d}").is_dir()
    finally:
        process.kill()
        process.communicate()


def test_curves_of_a_run_in_the_same_kernel_grow(tmp_path, playwright_there):
    write_notebook(tmp_path / "lab", "n.ipynb", SAME_KERNEL)
    with opened_lab(tmp_path / "lab") as lab:
        page = lab.page
        lab.open("n.ipynb")
        lab.run_all()
        page.wait_for_selector(".mcn.watch polyline[data-name=loss]", timeout=SLOW_MS)
        points = "document.querySelector('polyline[data-name=loss]').getAttribute('points').split(' ').length"
        page.wait_for_function(f"() => {points} === 30", timeout=SLOW_MS)
        assert page.locator(".mcn.watch polyline").count() == 2
        assert page.locator(".mcn.watch .chip").is_hidden()
        assert page.locator(".mcn.watch button.danger").is_hidden()
        assert (lab.errors, lab.outside) == ([], [])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A folder for JupyterLab with a study of three experiments, one of them with a hostile name, and a board."""
    folder = tmp_path_factory.mktemp("served") / "lab"
    experiments = (
        FakeExperiment("V+A", ("va",)),
        FakeExperiment("V+A+T", ("va", "vt", "at")),
        FakeExperiment(HOSTILE, ("vt",)),
    )
    study = write_fake_study(folder / "runs", experiments=experiments, seeds=(0, 1), clips=40)
    ran = new_code_cell("1 + 1", id="sum", outputs=[new_output("stream", text="the sum is two")])
    nbformat.write(new_notebook(cells=[ran]), study / "v-a-t-s0" / "notebook.ipynb")
    write_notebook(folder, "n.ipynb", WITH_SOUND)
    return folder


@pytest.mark.parametrize(("theme", "width"), [("Light", 1440), ("Dark", 900)])
def test_a_board_is_sorted_filtered_compared_and_opened(served, playwright_there, theme, width):
    with opened_lab(served, theme=theme, width=width) as lab:
        page = lab.page
        lab.open("n.ipynb")
        lab.run_all()
        page.wait_for_selector(".board-widget table.board", timeout=SLOW_MS)
        names = lambda: page.eval_on_selector_all(  # noqa: E731
            "table.board tbody th", "all => all.map(one => one.firstChild.textContent)"
        )
        assert names()[0] == "V+A+T"  # the baseline stays on top
        assert set(names()) == {"V+A", "V+A+T", HOSTILE}
        assert page.locator(".board-widget.dark").count() == (theme == "Dark")

        value = "table.board tbody:last-child tr td:nth-child(7)"
        page.click("table.board thead button:has-text('T→V R@1')")
        found = page.eval_on_selector_all(value, "all => all.map(one => parseFloat(one.textContent))")
        known = [one for one in found if not math.isnan(one)]  # V+A trained no text: its dash stays last either way
        assert (known, len(found)) == (sorted(known, reverse=True), len(known) + 1)
        assert math.isnan(found[-1])
        page.keyboard.press("Enter")  # the button kept the focus
        page.wait_for_selector("table.board th[aria-sort=ascending]")
        again = page.eval_on_selector_all(value, "all => all.map(one => parseFloat(one.textContent))")
        assert (again[:-1], names()[0]) == (known[::-1], "V+A+T")
        assert math.isnan(again[-1])

        page.fill(".board-widget input[type=search]", "onerror")
        assert names() == ["V+A+T", HOSTILE]
        page.fill(".board-widget input[type=search]", "")
        page.select_option(".board-widget select[aria-label=Baseline]", "V+A")
        page.wait_for_function("() => document.querySelector('tbody.pinned th').firstChild.textContent === 'V+A'")

        page.select_option(".board-widget .controls select >> nth=0", "runs")
        assert page.locator("table.board tbody tr").count() == 6
        with page.expect_popup() as popup:
            page.click("table.board button.link")
        shown = popup.value.frame_locator("iframe")
        assert "the sum is two" in shown.locator("body").inner_text(timeout=SLOW_MS)
        page.bring_to_front()
        page.click("table.board a:text-is('notebook')")
        page.wait_for_selector(".lm-TabBar-tabLabel:text-is('notebook.ipynb')", timeout=SLOW_MS)
        page.click(".lm-TabBar-tabLabel:text-is('n.ipynb')")

        page.focus(".board-widget [role=tab][aria-selected=true]")
        page.keyboard.press("ArrowRight")
        assert page.locator(".board-widget .parallel path").count() == 6
        page.keyboard.press("ArrowRight")
        assert page.locator(".board-widget table.forest tbody tr").count() == 1  # V→A: no caption was trained in V+A
        page.select_option(".board-widget .controls label:has-text('column') select", "purity video")
        assert page.locator(".board-widget table.forest tbody tr").count() == 2
        page.select_option(".board-widget .controls label:has-text('column') select", "T→V R@1")
        assert "no value there" in page.inner_text(".board-widget")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(".board-widget .error img", timeout=SLOW_MS)
        counts = [int(one) for one in page.locator(".board-widget .counts b").all_inner_texts()]
        assert sum(counts) == 40
        page.click(".board-widget .error button:has-text('play') >> nth=0")
        page.wait_for_selector(".board-widget .error audio", timeout=SLOW_MS)
        ready = "() => document.querySelector('.board-widget .error audio').duration === 1"
        page.wait_for_function(ready, timeout=SLOW_MS)
        assert page.eval_on_selector(".board-widget", "one => one.scrollWidth <= one.clientWidth")
        assert (lab.errors, lab.outside) == ([], [])
