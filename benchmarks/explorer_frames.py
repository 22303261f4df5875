"""How fluid the explorer's maps are: frames per second while somebody pans and zooms, in a real JupyterLab page.

A notebook with two maps of so many clips is opened in JupyterLab on the loopback address, in headless Chromium without
a graphics card. The mouse drags one map about and turns its wheel over it; every animation frame in which a canvas was
drawn anew counts. `--with plotly` and `--with jscatter` show the same points by a FigureWidget and by jupyter-scatter
(which must be installed beside us, and is not a dependency) instead of by our own maps.

    python benchmarks/explorer_frames.py
    python benchmarks/explorer_frames.py --with plotly
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from rows import Row, report

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.jupyter_lab import CHROMIUM, opened_lab  # the browser that the tests drive

GOAL_PER_S = 20.0
POINTS = """
import numpy as np
random = np.random.default_rng(0)
groups = random.integers(10, size=CLIPS)
places = (random.normal(size=(10, 2))[groups] * 0.4 + random.normal(size=(CLIPS, 2)) * 0.12).astype("float32")
"""
SHOWN = {
    "ours": """
from mcnlab.reporting.explorer.colors import PointColors
from mcnlab.reporting.explorer.views import MapsView
from mcnlab.reporting.style import CLASS_COLORS
view = MapsView(lambda told, buffers: None, count=CLIPS)
legend = {"title": "group", "palette": list(CLASS_COLORS), "entries": list("abcdefghij")}
colors = PointColors(groups.astype("uint8"), legend)
for side in ("left", "right"):
    view.place(side, places, np.arange(CLIPS), colors)
view
""",
    "plotly": """
import plotly.graph_objects as go
from ipywidgets import HBox, Layout
from mcnlab.reporting.style import CLASS_COLORS
def shown():
    marks = {"size": 4, "color": [CLASS_COLORS[group] for group in groups]}
    layout = {"height": 420, "width": 600, "dragmode": "pan"}
    points = go.Scattergl(x=places[:, 0], y=places[:, 1], mode="markers", marker=marks)
    figure = go.FigureWidget(go.Figure(points, layout))
    figure._config = {"scrollZoom": True}
    return figure
HBox([shown(), shown()])
""",
    "jscatter": """
import jscatter, pandas as pd
table = pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "group": pd.Categorical(groups.astype(str))})
def shown():
    return jscatter.Scatter(data=table, x="x", y="y", color_by="group", size=4, height=420)
jscatter.compose([shown(), shown()])
""",
}
SURFACE = {"ours": ".mx-panel canvas", "plotly": ".nsewdrag", "jscatter": ".jp-OutputArea canvas"}
COUNTING = """(() => {
  window.drawn = 0;
  const watch = (kind, names) => names.forEach((name) => {
    const own = kind.prototype[name];
    kind.prototype[name] = function (...values) { window.drawn += 1; return own.apply(this, values); };
  });
  watch(WebGLRenderingContext, ["drawArrays", "drawElements"]);
  watch(WebGL2RenderingContext, ["drawArrays", "drawElements", "drawArraysInstanced", "drawElementsInstanced"]);
  watch(CanvasRenderingContext2D, ["putImageData"]);
  window.watchFrames = () => {
    window.frames_ = [];
    let before = window.drawn;
    const look = (now) => {
      window.frames_.push([now, window.drawn > before]);
      before = window.drawn;
      window.looking = requestAnimationFrame(look);
    };
    window.looking = requestAnimationFrame(look);
  };
  window.framesSeen = () => { cancelAnimationFrame(window.looking); return window.frames_; };
})()"""


def options(parser: argparse.ArgumentParser) -> None:
    """What one may choose."""
    parser.add_argument("--clips", type=int, default=50_000)
    parser.add_argument("--with", dest="shown", choices=sorted(SHOWN), default="ours")
    parser.add_argument("--picture", type=Path, help="save a picture of the page here")


def measure(chosen: argparse.Namespace) -> Iterator[Row]:
    """Frames per second of panning and of zooming; nothing where there is no Chromium."""
    if CHROMIUM is None:
        print("not measured: no Chromium on this machine", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="frames-") as folder:
        root = Path(folder) / "lab"
        root.mkdir()
        source = f"CLIPS = {chosen.clips}\n{POINTS}{SHOWN[chosen.shown]}"
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(new_notebook(cells=[new_code_cell(source, id="maps")], metadata=kernel), root / "maps.ipynb")
        with opened_lab(root) as lab:
            lab.page.add_init_script(COUNTING)
            lab.open("maps.ipynb")
            lab.run_all()
            surface = lab.page.locator(SURFACE[chosen.shown]).first
            surface.wait_for(timeout=120_000)
            lab.page.wait_for_timeout(5000)
            surface.scroll_into_view_if_needed()
            if chosen.picture:
                lab.page.screenshot(path=str(chosen.picture))
            box = surface.bounding_box()
            middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            for words, act in (("pan", pan), ("zoom", zoom)):
                yield frames(
                    lab.page, f"{chosen.shown}: {words}, {chosen.clips:,} clips on each of two maps", act, middle
                )
            if lab.errors:
                print("console:", *lab.errors[:3], sep="\n  ", file=sys.stderr)


def pan(page: Any, middle: tuple[float, float]) -> None:
    """Drag about for some seconds."""
    page.mouse.move(*middle)
    page.mouse.down()
    for step in range(150):
        page.mouse.move(middle[0] + 2 * (step % 50) - 50, middle[1] + 2 * (step % 40) - 40)
        page.wait_for_timeout(10)
    page.mouse.up()


def zoom(page: Any, middle: tuple[float, float]) -> None:
    """Turn the wheel there and back."""
    page.mouse.move(*middle)
    for step in range(120):
        page.mouse.wheel(0, -40 if step % 60 < 30 else 40)
        page.wait_for_timeout(10)


def frames(page: Any, part: str, act: Callable[[Any, tuple[float, float]], None], middle: tuple[float, float]) -> Row:
    """Frames that were drawn while something was done."""
    page.evaluate("watchFrames()")
    act(page, middle)
    seen = page.evaluate("framesSeen()")
    times = [time for time, drawn in seen if drawn]
    seconds = (seen[-1][0] - seen[0][0]) / 1000
    gaps = sorted(after - before for before, after in pairwise(times))
    worst = f"{gaps[int(0.95 * len(gaps))]:.0f} ms" if gaps else "none drawn"
    detail = f"{len(times)} frames drawn in {seconds:.1f} s, 95 % of gaps within {worst}"
    return Row(part, "one second", len(times) / seconds, GOAL_PER_S, detail=detail)


if __name__ == "__main__":
    report(measure, __doc__, options)
