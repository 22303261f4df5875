"""One page as text: templates, figures as JSON, one packed copy of plotly.js, and a policy that loads nothing."""

import base64
import functools
import gzip
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mcnlab.reporting.private import without_home
from mcnlab.reporting.style import DARK_TWINS, Figure

TEMPLATES = files("mcnlab.reporting") / "templates"
VENDOR = files("mcnlab.reporting") / "vendor"


@dataclass(frozen=True)
class TableView:
    """A table as a template wants it; everything is text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int
    """Leading cells of a row that name it."""
    words: tuple[bool, ...]
    """Which columns hold words instead of numbers."""
    marks: tuple[str, ...] = ()
    """By row: a class of `page.css`; empty where no row has one."""
    note: str = ""
    """A sentence above it."""


@dataclass(frozen=True)
class FigureView:
    """A figure as a template wants it."""

    name: str
    title: str
    caption: str
    alt: str
    plot_json: Markup
    height: int
    numbers: TableView | None
    clips: bool = False
    """Whether its points are clips, to be shown with their thumbnails."""


def render(
    template: str, *, title: str, has_figures: bool, css: str = "", scripts: Sequence[str] = (), **values: Any
) -> str:
    """A whole page.

    Args:
        template: name of a template that extends the page.
        title: of the browser's tab.
        has_figures: whether plotly.js is put in.
        css: style rules beside those of every page.
        scripts: further ones that its content brings along and that may run.
        values: what the template shows; text is escaped.

    Returns:
        HTML that loads nothing from anywhere.
    """
    own = {"theme": _text("theme.js"), "tables": _text("tables.js"), "figures": _text("page.js") if has_figures else ""}
    hashes = [content_hash(one.encode()) for one in (*own.values(), *scripts) if one]
    hashes += [plotly_hash()] if has_figures else []
    values = {"thumbnails": None, **values}
    page = _environment().get_template(template)
    return without_home(
        page.render(
            title=title,
            policy=policy(hashes),
            css=Markup(_text("page.css") + css),
            scripts={name: Markup(text) for name, text in own.items()},
            plotly=Markup(packed_plotly()) if has_figures else "",
            dark_twins=DARK_TWINS,
            **values,
        )
    )


def fragment(macro: str, *arguments: Any, **named: Any) -> Markup:
    """A part of a page by the name of its macro in `parts.html.j2`."""
    return Markup(getattr(_environment().get_template("parts.html.j2").module, macro)(*arguments, **named))


def policy(script_hashes: Sequence[str]) -> str:
    """A content-security policy: no network; only the scripts with these hashes run.

    Args:
        script_hashes: as `content_hash` gives them.

    Returns:
        The value of the header.
    """
    scripts = " ".join(f"'{value}'" for value in script_hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )


def content_hash(content: bytes) -> str:
    """A script's hash as a policy names it.

    Example:
        >>> content_hash(b"")
        'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()


@functools.cache
def packed_plotly() -> str:
    """The vendored plotly.js, compressed, as base64."""
    return base64.b64encode((VENDOR / "plotly-cartesian.min.js.gz").read_bytes()).decode()


@functools.cache
def plotly_hash() -> str:
    """Hash of the unpacked plotly.js."""
    return content_hash(gzip.decompress((VENDOR / "plotly-cartesian.min.js.gz").read_bytes()))


def figure_view(figure: Figure, *, clips: bool = False) -> FigureView:
    """A figure ready for a template.

    Args:
        figure: the figure.
        clips: whether its points are clips with thumbnails.

    Returns:
        Its words, its JSON, its numbers.
    """
    return FigureView(
        figure.name,
        figure.title,
        figure.caption,
        figure.alt,
        plot_json(figure.plot),
        int(figure.plot.layout.height or 400),
        table_view(figure.numbers) if len(figure.numbers) else None,
        clips,
    )


def plot_json(plot: go.Figure) -> Markup:
    """A plotly figure as JSON that may stand inside a script element.

    Arrays that several traces share (`customdata`, the colors of points) are written once; `page.js` puts them back.
    """
    values = plot.to_dict()
    _share(values["data"], lambda trace: trace, "customdata")
    _share(values["data"], lambda trace: trace.get("marker", {}), "color")
    return json_markup(plotly.io.json.to_json_plotly(values))


def json_markup(text: str) -> Markup:
    """JSON text that cannot end the script element it stands in."""
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def table_view(table: pd.DataFrame) -> TableView:
    """A data frame as text: its index names the rows, missing values are empty.

    Args:
        table: any table; floats are shown with four digits.

    Returns:
        The view.
    """
    names = [str(name) if name is not None else "" for name in table.index.names]
    head = [" · ".join(map(str, column)) if isinstance(column, tuple) else str(column) for column in table.columns]
    rows = [
        tuple(map(_cell, (*(index if isinstance(index, tuple) else (index,)), *values)))
        for index, values in zip(table.index, table.itertuples(index=False, name=None), strict=True)
    ]
    words = [any(isinstance(value, str) for value in table.iloc[:, place]) for place in range(table.shape[1])]
    return TableView((*names, *head), tuple(rows), len(names), (*(True for _ in names), *words))


def _cell(value: Any) -> str:
    """One value as text."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _share(traces: Iterable[dict[str, Any]], holder: Any, name: str) -> None:
    """Replace an array by a pointer to the first trace that has an equal one."""
    first: dict[str, int] = {}
    for place, trace in enumerate(traces):
        value = holder(trace).get(name)
        if isinstance(value, list | tuple | dict) and len(value) > 1:
            content = plotly.io.json.to_json_plotly(value)
            if content in first:
                holder(trace)[name] = {"as": first[content]}
            else:
                first[content] = place


@functools.cache
def _environment() -> Environment:
    """Jinja with escaping on, and undefined names as errors."""
    return Environment(
        loader=PackageLoader("mcnlab.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _text(name: str) -> str:
    """A file of ours that goes into every page."""
    return (TEMPLATES / name).read_text(encoding="utf-8")
