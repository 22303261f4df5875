"""How long one waits in the whole explorer with 50,000 clips: notebook 00 in a real JupyterLab page.

Two runs of random groups are written, laid out once by UMAP (kept in the folder of `--study`), and explored as somebody
would: pan, zoom, color, search, lasso, click. An action ends when the page shows its result.

    python benchmarks/explorer_actions.py
    python benchmarks/explorer_actions.py --study /tmp/many   # keeps the runs and their maps for the next time
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import yaml
from explorer_frames import COUNTING, frames, pan, zoom
from PIL import Image
from rows import Row, report
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from mcnlab.reporting.notebooks import notebook_path
from tests.jupyter_lab import CHROMIUM, opened_lab  # the browser that the tests drive

GROUPS = ("ball", "bell", "boat", "cube", "drum", "fish", "kite", "lamp", "star", "tree")
COLORS = ("red", "green", "blue", "yellow")
WIDTH = 64
GOAL_MS = 200.0
LAID_OUT_MS = 540_000
CAPTION = "document.querySelector('.widget-tab-contents .mx-clips caption')?.textContent"


def options(parser: argparse.ArgumentParser) -> None:
    """What one may choose."""
    parser.add_argument("--clips", type=int, default=50_000)
    parser.add_argument("--study", type=Path, help="folder that keeps the runs and their maps")
    parser.add_argument("--pictures", type=Path, help="folder for a picture after each action")


def write_runs(folder: Path, *, clips: int) -> Path:
    """Two runs that embed so many clips of ten groups, with captions and thumbnails, and no model."""
    random = np.random.default_rng(0)
    group, color = random.integers(len(GROUPS), size=clips), random.integers(len(COLORS), size=clips)
    table = pd.DataFrame({"id": [f"rec{row // 3:05d}:{row % 3}" for row in range(clips)]})
    named = zip(np.array(COLORS)[color], np.array(GROUPS)[group], strict=True)
    table["caption"] = [f"a {shade} {thing}, take {row}" for row, (shade, thing) in enumerate(named)]
    table["label"], table["factor:vt.color"] = np.array(GROUPS)[group], np.array(COLORS)[color]
    pictures = [_picture(number) for number in range(len(COLORS))]
    table["thumbnail"] = [pictures[number] for number in color]
    for seed, spread in enumerate((0.5, 0.8)):
        run = folder / f"groups-s{seed}"
        run.mkdir(parents=True)
        centers = random.normal(size=(len(GROUPS), WIDTH))
        shade = random.normal(size=(len(COLORS), WIDTH)) * 0.5
        embeddings = {}
        for kind in ("video", "audio", "text"):
            rows = centers[group] + shade[color] + spread * random.normal(size=(clips, WIDTH))
            embeddings[kind] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
        save_file(embeddings, run / "embeddings.safetensors")
        table.to_parquet(run / "clips.parquet")
        (run / "settings.yaml").write_text(yaml.safe_dump({"experiment": f"spread {spread}"}), encoding="utf-8")
        (run / "provenance.json").write_text(json.dumps({"seed": seed}), encoding="utf-8")
        (run / "status.json").write_text(json.dumps({"state": "finished"}), encoding="utf-8")
    return folder


def _picture(number: int) -> bytes:
    """A small PNG of one color."""
    made = io.BytesIO()
    Image.new("RGB", (32, 32), ((208, 60, 50), (60, 160, 90), (60, 100, 210), (230, 190, 60))[number]).save(made, "PNG")
    return made.getvalue()


def notebook_of(folder: Path, study: Path) -> None:
    """Notebook 00 up to the explorer, with the runs as its parameter."""
    notebook = nbformat.read(notebook_path("00_explore"), as_version=4)
    last = next(at for at, cell in enumerate(notebook.cells) if "explore(study_dir" in cell.source)
    notebook.cells = notebook.cells[: last + 1]
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = parameters.source.replace('study_dir = ""', f"study_dir = {json.dumps(str(study))}")
    nbformat.write(notebook, folder / "00_explore.ipynb")


def measure(chosen: argparse.Namespace) -> Iterator[Row]:
    """Frames of a pan and a zoom, and milliseconds of each action; nothing where there is no Chromium."""
    if CHROMIUM is None:
        print("not measured: no Chromium on this machine", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="actions-") as folder:
        study, root = chosen.study or Path(folder) / "runs", Path(folder) / "lab"
        if not study.exists():
            write_runs(study, clips=chosen.clips)
        root.mkdir()
        notebook_of(root, study)
        with opened_lab(root) as lab:
            lab.page.add_init_script(COUNTING)
            lab.open("00_explore.ipynb")
            lab.run_all()
            laid_out_s = _wait_for_maps(lab.page)
            print(f"shown {laid_out_s:.1f} s after Run All", file=sys.stderr)
            canvas = lab.page.locator(".mx-panel canvas").first
            canvas.scroll_into_view_if_needed()
            lab.page.wait_for_timeout(1500)
            yield from _moving(lab.page, canvas, chosen)
            yield from _acting(lab.page, canvas, chosen)
            for said in lab.errors[:3]:
                print("console:", said, file=sys.stderr)


def _wait_for_maps(page: Any) -> float:
    """Seconds until both maps stand there."""
    begun = time.monotonic()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.mx-key-title')].filter((one) => one.textContent).length === 2",
        timeout=LAID_OUT_MS,
    )
    return time.monotonic() - begun


def _middle(canvas: Any) -> tuple[float, float]:
    """Middle of a map in the window."""
    box = canvas.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _moving(page: Any, canvas: Any, chosen: argparse.Namespace) -> Iterator[Row]:
    """Frames per second while both maps move."""
    for words, act in (("pan", pan), ("zoom", zoom)):
        part = f"whole explorer: {words}, {chosen.clips:,} clips on each of two maps"
        yield frames(page, part, act, _middle(canvas))
    page.click('.mx-button:text-is("Whole map")')
    page.wait_for_timeout(300)


def _acting(page: Any, canvas: Any, chosen: argparse.Namespace) -> Iterator[Row]:
    """Milliseconds of each action."""
    all_of = f"{chosen.clips} of {chosen.clips}"
    search = '.widget-text:has(label:text-is("search")) input'
    color = '.widget-dropdown:has(label:text-is("color by")) select >> nth=0'
    key = "document.querySelector('.mx-key-title').textContent"
    first = f"{CAPTION}.startsWith('{all_of}')"
    lasso = lambda: _lasso(page, canvas)  # noqa: E731
    steps: tuple[tuple[str, Callable[[], Any], str], ...] = (
        ("color by a factor", lambda: page.select_option(color, label="factor:vt.color"), f"{key} === 'vt.color'"),
        ("color by label", lambda: page.select_option(color, label="label"), f"{key} === 'label'"),
        ("search one word", lambda: page.fill(search, "red"), f"!{first}"),
        ("search two words", lambda: page.fill(search, "red fish"), f"parseInt({CAPTION}) < {chosen.clips // 20}"),
        ("search nothing", lambda: page.fill(search, ""), first),
        ("lasso about half of the clips", lasso, f"!{first}"),
        ("clear the selection", lambda: page.click('button:has-text("Clear selection")'), first),
        ("click on a clip", lambda: _click(page, canvas), "document.querySelectorAll('.mx-near').length === 2"),
    )
    for words, act, shown in steps:
        milliseconds = _timed(page, act, shown)
        if chosen.pictures:
            chosen.pictures.mkdir(parents=True, exist_ok=True)
            page.wait_for_timeout(400)
            page.screenshot(path=str(chosen.pictures / f"{words.replace(' ', '_')}.png"))
        shown_on = "until the page shows it"
        yield Row(f"whole explorer: {words}", "one millisecond", milliseconds, GOAL_MS, at_most=True, detail=shown_on)


def _timed(page: Any, act: Callable[[], Any], shown: str) -> float:
    """Milliseconds from the end of an action of the hand to the frame in which its result stands on the page."""
    page.evaluate(
        """(shown) => {
          const done = new Function('return ' + shown);
          window.ended = null;
          window.begun = performance.now();
          for (const kind of ['pointerup', 'input', 'change'])
            window.addEventListener(kind, () => { if (window.ended === null) window.begun = performance.now(); }, true);
          const look = () => { if (done()) window.ended = performance.now(); else requestAnimationFrame(look); };
          requestAnimationFrame(look);
        }""",
        shown,
    )
    act()
    page.wait_for_function("() => window.ended !== null", timeout=60_000)
    return float(page.evaluate("() => window.ended - window.begun"))


def _lasso(page: Any, canvas: Any) -> None:
    """Draw round the left half of a map."""
    page.click('.mx-button:text-is("Lasso")')
    page.evaluate("() => { window.begun = performance.now(); }")
    box = canvas.bounding_box()
    left, right, top, bottom = box["x"] + 4, box["x"] + box["width"] / 2, box["y"] + 4, box["y"] + box["height"] - 4
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def _click(page: Any, canvas: Any) -> None:
    """Click on the clip of row 7."""
    page.click('.mx-button:text-is("Move")')
    box, place = canvas.bounding_box(), canvas.evaluate("(c) => c.placeOf(7)")
    page.mouse.click(box["x"] + place[0], box["y"] + place[1])


if __name__ == "__main__":
    report(measure, __doc__, options)
