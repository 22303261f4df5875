"""Draw the pictures of the documentation from finished runs, in headless Chromium.

python docs/make_gallery.py runs/modality_combinations                       # all pages
python docs/make_gallery.py runs/objectives --only objectives_retention      # one picture of another study
"""

import argparse
import base64
import io
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from mcnlab.config import read_yaml
from mcnlab.experiment.settings_files import read_experiment
from mcnlab.reporting.curves import curves_figure
from mcnlab.reporting.examples import rank_figure, retrieved_examples
from mcnlab.reporting.figures import private_figure, purity_figure, recall_figure
from mcnlab.reporting.graph_figure import graph_figure
from mcnlab.reporting.heat_figures import localization_figure, localization_pictures
from mcnlab.reporting.heatmaps import retention_figure
from mcnlab.reporting.information import bound_figure
from mcnlab.reporting.map_figures import maps_figure, modality_figure
from mcnlab.reporting.maps import study_maps
from mcnlab.reporting.overview import best_run, main_direction
from mcnlab.reporting.render import fragment
from mcnlab.reporting.run_figures import run_curves
from mcnlab.reporting.students import accuracy_figure
from mcnlab.reporting.style import Figure
from mcnlab.reporting.summary import StudySummary, summarize
from mcnlab.reporting.unseen import unseen_figure
from mcnlab.runs import RunFolder, run_folders

HERE = Path(__file__).parent
WIDTH = 820
"""Pixels of a page on which a picture is drawn."""
SCALE = 1.5
"""Pixels of the picture for each of them."""
COLORS = (256, 96)
"""Of a picture; fewer where it would become too large."""
LARGEST_BYTES = 150_000
CHROMIUM = Path("/usr/bin/chromium")


@dataclass(frozen=True)
class Picture:
    """One drawing with its words."""

    name: str
    title: str
    caption: str
    alt: str
    html: str
    """A whole page, whose element `#it` is the picture."""


def main() -> None:
    """Draw what the command line asks for."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("runs", type=Path, help="folder of a study's finished runs")
    asked.add_argument("--only", default="", help="draw this picture alone, and leave gallery.md as it is")
    asked.add_argument("--out", type=Path, default=HERE / "gallery", help="folder of the pictures")
    options = asked.parse_args()
    summary = summarize(options.runs)
    drawn = [one for one in pictures(summary, options.runs, options.only) if options.only in ("", one.name)]
    options.out.mkdir(exist_ok=True)
    with sync_playwright() as player:
        where = {"executable_path": str(CHROMIUM)} if CHROMIUM.exists() else {}
        browser = player.chromium.launch(args=["--no-sandbox", "--disable-gpu", "--disable-quic"], **where)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE)
        for one in drawn:
            print(draw(page, one, options.out))
        browser.close()
    if not options.only:
        (HERE / "gallery.md").write_text(gallery_page(drawn, summary, options.runs), encoding="utf-8")


def draw(page: Page, picture: Picture, out: Path) -> str:
    """Write a picture as PNG; tell its name and size."""
    with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as file:
        file.write(picture.html)
        file.flush()
        page.goto(f"file://{file.name}")
        page.wait_for_timeout(1500)
        shot = Image.open(io.BytesIO(page.locator("#it").screenshot())).convert("RGB")
    target = out / f"{picture.name}.png"
    for colors in COLORS:
        shot.quantize(colors, dither=Image.Dither.NONE).save(target, optimize=True)
        if (size := target.stat().st_size) <= LARGEST_BYTES:
            break
    else:
        raise SystemExit(f"{target}: {size} bytes, more than {LARGEST_BYTES}")
    return f"{target}  {size / 1000:.0f} kB"


def pictures(summary: StudySummary, runs: Path, only: str) -> Iterator[Picture]:
    """Drawings of a study, in the order of the gallery; those that it has no numbers for are left out."""
    main_study = runs.name == "modality_combinations"
    prefix = "" if main_study else f"{runs.name}_"
    direction = main_direction(summary)
    maps = study_maps(summary, cache=runs / ".maps") if main_study and only in ("", "maps", "modalities") else None
    figures: dict[str, Callable[[], Figure | None]] = {
        "recall": lambda: recall_figure(summary, k=1),
        "retention": lambda: retention_figure(summary),
        "private": lambda: private_figure(summary),
        "purity": lambda: purity_figure(summary),
        "ranks": lambda: rank_figure(summary, direction),
        "maps": lambda: maps_figure(maps) if maps else None,
        "modalities": lambda: modality_figure(maps) if maps else None,
        "curves": lambda: curves_figure(summary),
        "stages": lambda: next((run_curves(run) for run in stage_runs(runs)), None),
        "bound": lambda: bound_figure(summary),
        "unseen": lambda: unseen_figure(summary),
        "accuracy": lambda: accuracy_figure(summary),
        "localization": lambda: localization_figure(summary),
        "places": lambda: localization_pictures(summary),
    }
    for name, make in figures.items():
        figure = make() if only in ("", f"{prefix}{name}") else None
        if figure is not None:
            yield of_figure(f"{prefix}{name}", figure)
    if direction and main_study and only in ("", "examples", "world", "graph_shared", "graph_disjoint", "graph_fac"):
        yield of_examples(best_run(summary, direction), direction)
        yield from graphs(runs)
        yield of_world(best_run(summary, direction))


def stage_runs(runs: Path) -> list[RunFolder]:
    """The run whose curves explain stages, where the study has it."""
    path = runs / "MCN-VT_A-s0"
    return [RunFolder(path)] if path.is_dir() else []


def of_figure(name: str, figure: Figure) -> Picture:
    """A plotly figure as the report shows it, without buttons."""
    plot = figure.plot
    plot.update_layout(width=WIDTH - 20, margin_r=24)
    plot.layout.updatemenus = ()  # menus do nothing on a picture
    body = plot.to_html(full_html=False, include_plotlyjs=True, config={"displayModeBar": False})
    return Picture(name, figure.title, figure.caption, figure.alt, _page(body))


def of_examples(run: RunFolder, direction: str) -> Picture:
    """Queries with what came first."""
    rows = retrieved_examples(run, direction, queries=4, shown=4)
    css = (
        "table{border-collapse:collapse;width:100%;table-layout:fixed}td{padding:6px;vertical-align:top;"
        "font:13px/1.35 system-ui,'DejaVu Sans',sans-serif;border-top:1px solid #e3e7ec}small{color:#5d6b7a}"
        "img{image-rendering:pixelated}.right{outline:3px solid #009E73;outline-offset:-3px}thead,tr>td:nth-child(2)"
        "{display:none}"
    )
    alt = "Four sentences, each with the four clips whose video came nearest; the right one has a green frame."
    caption = "A sentence in each row, then the clips whose video lies nearest to it, best on the left."
    title = f"What {run.experiment} finds for a sentence"
    return Picture("examples", title, caption, alt, _page(str(fragment("retrieved", rows)), css))


def graphs(runs: Path) -> Iterator[Picture]:
    """The three named graphs: two of them of runs of this study, the third of the settings of `embedding_graphs`."""
    fac = read_yaml(HERE.parent / "studies" / "embedding_graphs.yaml")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fac.yaml"
        own = next(one for one in fac["experiments"] if one["experiment"] == "FAC")
        path.write_text(str({**fac["base"], **own}), encoding="utf-8")
        settings = {"fac": read_experiment(path).model_dump(mode="json")}
    for name, experiment in {"shared": "V+A+T", "disjoint": "V+A+T disjoint"}.items():
        run = next((run for run in run_folders(runs) if run.experiment == experiment), None)
        if run is not None:
            settings[name] = run.settings
    for name in ("shared", "disjoint", "fac"):
        drawn = graph_figure(settings[name]) if name in settings else None
        if drawn is not None:
            body = f"<div style='width:380px;color:#1d2733'>{drawn.svg}</div>"
            yield Picture(f"graph_{name}", drawn.title, "", drawn.alt, _page(body, inline=True))


def of_world(run: RunFolder) -> Picture:
    """Some held-out clips of the narrated world: picture, sentence, and two of the known causes."""
    clips = run.clips().groupby("label").head(1).head(8)
    cells = []
    for row in clips.to_dict("records"):
        image = "data:image/png;base64," + base64.b64encode(row["thumbnail"]).decode()
        told = escape(f"{row['caption']}")
        heard = escape(f"{row['factor:at.instrument']}, {row['factor:at.register']}")
        cells.append(f"<td><img src='{image}' width='176'><p>{told}</p><p class='heard'>sounds: {heard}</p></td>")
    rows = "".join(f"<tr>{''.join(cells[start : start + 4])}</tr>" for start in range(0, len(cells), 4))
    css = (
        "td{width:190px;vertical-align:top;padding:6px;font:13px/1.35 system-ui,'DejaVu Sans',sans-serif}"
        "img{image-rendering:pixelated}p{margin:4px 0}.heard{color:#5d6b7a}"
    )
    alt = "Eight clips: a picture of an object on a textured ground, the narrator's sentence, and what one hears."
    title = "The narrated world: what is seen, said and heard"
    return Picture("world", title, "Held-out clips of the default study.", alt, _page(f"<table>{rows}</table>", css))


def gallery_page(drawn: list[Picture], summary: StudySummary, runs: Path) -> str:
    """The page of all drawings, with where they come from."""
    made = summary.provenance.get("data", {}).get("fingerprint", "")
    lines = [
        "# Gallery",
        "",
        f"What a report shows, drawn from {len(summary.runs)} finished runs of the study `{runs.name}` by",
        "",
        f"    python docs/make_gallery.py runs/{runs.name}",
        "",
        f"(data fingerprint `{made[:12]}`). In a report, figures tell their numbers on hover and in a table.",
    ]
    for one in drawn:
        lines += [
            "",
            f"## {_words(one.title)}",
            "",
            f"![{_words(one.alt)}](gallery/{one.name}.png)",
            "",
            _words(one.caption),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _words(text: str) -> str:
    """Text that Markdown takes as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


def _page(body: str, css: str = "", *, inline: bool = False) -> str:
    """A page with one element to take a picture of."""
    display = "inline-block" if inline else f"inline-block;min-width:{WIDTH - 24}px"
    return (
        f"<!doctype html><meta charset='utf-8'><style>{css} body{{margin:8px;background:#fff}}"
        f"#it{{display:{display};background:#fff;padding:4px}}</style><body><div id='it'>{body}</div>"
    )


if __name__ == "__main__":
    main()
