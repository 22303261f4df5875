"""An executed notebook as one offline page: figures drawn from their JSON, code folded away, nothing loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import plotly.graph_objects as go
import yaml
from markupsafe import Markup

from mcnlab.errors import DataError
from mcnlab.files import write_text_atomically
from mcnlab.reporting.clip_player import SCRIPT
from mcnlab.reporting.executed import notebook_problems, read_executed
from mcnlab.reporting.render import TEMPLATES, fragment, plot_json, render
from mcnlab.runs import RunFolder

PLOTLY = "application/vnd.plotly.v1+json"
LIGHT_CODE, DARK_CODE = "xcode", "monokai"
"""Styles of code whose every color can be read on our pages."""
WIDGET = "application/vnd.jupyter.widget-view+json"


def export_html(
    notebook: str | Path,
    html: str | Path,
    *,
    title: str | None = None,
    back: str | None = None,
    run: str | Path | None = None,
) -> Path:
    """Turn an executed notebook into one self-contained page.

    Args:
        notebook: the executed notebook.
        html: the page to write; its folder is made.
        title: of the browser's tab; the notebook's name when None.
        back: address of the page to link back to; None links nowhere.
        run: run folder whose settings and provenance go to the foot of the page.

    Returns:
        `html`.

    Raises:
        DataError: the notebook cannot be read.
        StorageError: the page cannot be written.
    """
    # nbconvert takes a third of a second, and only an export needs it
    from nbconvert.exporters import HTMLExporter

    source, problem = read_executed(Path(notebook)), next(iter(notebook_problems(Path(notebook))), None)
    figures = [one for cell in source.cells for output in cell.get("outputs", []) if (one := _draw_figure(output))]
    exporter = HTMLExporter(
        template_name="mcnlab",
        extra_template_basedirs=[str(TEMPLATES / "nbconvert")],
        mathjax_url="",
        require_js_url="",
        mermaid_js_url="",
        jquery_url="",
        exclude_anchor_links=True,
        embed_images=True,
    )
    body, _ = exporter.from_notebook_node(source)
    page = render(
        "notebook.html.j2",
        title=title or Path(notebook).stem,
        has_figures=bool(figures),
        css=_code_colors(),
        scripts=[SCRIPT] if SCRIPT in body else [],
        content=Markup(body),
        back=back,
        thumbnails=next((one["thumbnails"] for one in figures if "thumbnails" in one), None),
        problem=problem,
        provenance=_facts_of_run(Path(run)) if run is not None else [],
    )
    html = Path(html)
    html.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(html, page)
    return html


def run_facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Provenance as names and values for a page's foot.

    Args:
        provenance: of a run; groups are written out.

    Returns:
        Names and values; empty ones are left out; each store that was evaluated has a line.
    """
    groups = {name: value for name, value in provenance.items() if name not in ("key", "evaluated")}
    stores = [(f"evaluated on {name}", _in_words(one)) for name, one in provenance.get("evaluated", {}).items()]
    known = [(name, _in_words(value)) for name, value in groups.items() if value not in (None, "", {}, [])]
    return [*known, *stores]


def _code_colors() -> str:
    """Style rules for code, in both themes."""
    # only an export needs it
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style=LIGHT_CODE, nobackground=True).get_style_defs(".highlight")
    dark = HtmlFormatter(style=DARK_CODE, nobackground=True)
    chosen = dark.get_style_defs(':root[data-theme="dark"] .highlight')
    asked = dark.get_style_defs(':root:not([data-theme="light"]) .highlight')
    return f"{light}\n@media screen {{ {chosen} }}\n@media screen and (prefers-color-scheme: dark) {{ {asked} }}"


def _facts_of_run(folder: Path) -> list[tuple[str, str]]:
    """Provenance and settings of a run."""
    run = RunFolder(folder)
    try:
        settings = yaml.safe_dump(run.settings, default_flow_style=True, sort_keys=False, width=10_000).strip()
        return [*run_facts(run.provenance), ("settings", settings)]
    except DataError as error:
        return [("provenance", str(error))]


def _in_words(value: Any) -> str:
    """A plain value in a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(inner)}" for name, inner in value.items() if inner is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _draw_figure(output: nbformat.NotebookNode) -> dict[str, Any] | None:
    """Replace plotly's JSON in an output by what `page.js` draws; gives what the figure tells about itself."""
    data = output.get("data", {})
    data.pop(WIDGET, None)  # a live widget has no life on a page
    if PLOTLY not in data:
        return None
    figure = go.Figure({part: value for part, value in data.pop(PLOTLY).items() if part in ("data", "layout")})
    told = dict(figure.layout.meta) if isinstance(figure.layout.meta, dict) else {}
    title = figure.layout.title.text or ""
    height = int(told.get("height") or figure.layout.height or 400)
    margin = figure.layout.margin.t if told.get("margin_t") is None else told["margin_t"]
    figure.update_layout(title_text=None, meta=None, height=height, margin_t=margin)
    drawn = fragment("plot", plot_json(figure), height, told.get("alt", title), bool(told.get("clips")))
    head = Markup("<h3>{}</h3>").format(Markup(title)) if title else ""
    words = Markup("<figcaption>{}</figcaption>").format(told["caption"]) if told.get("caption") else ""
    beside = Markup(data.get("text/html", ""))
    saves = fragment("saves")
    data["text/html"] = str(Markup("<figure>{}{}{}{}{}</figure>").format(head, drawn, words, saves, beside))
    return {"title": title, **told}
