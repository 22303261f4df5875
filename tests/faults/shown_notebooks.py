"""Faults of what notebooks show: scripts as captions, labels, ids and names on pages of executed notebooks."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.fake_study import ALL, FakeExperiment, write_fake_study
from tests.faults.registry import Trial, fault
from tests.faults.shown import PAYLOADS, WALK, payload

COUNT = 100
"""Payloads in one study, each a clip: one page shows them all."""


def study(folder: Path) -> Path:
    """A study whose clips and experiments bear payloads that tell their numbers."""
    names = tuple(FakeExperiment(payload(number)[:120], ALL) for number in range(0, len(PAYLOADS), 3))
    runs = write_fake_study(folder / "runs", experiments=names, seeds=(0,), clips=COUNT)
    for run in runs.iterdir():
        clips = pd.read_parquet(run / "clips.parquet")
        texts = [payload(row) for row in range(len(clips))]
        clips["caption"], clips["label"], clips["id"] = texts, texts, [f"{row}{one}" for row, one in enumerate(texts)]
        clips.to_parquet(run / "clips.parquet")
    return runs


def notebook_page(folder: Path) -> dict[str, list[Any]]:
    """What a browser did with the page of an executed notebook that shows such a study."""
    from playwright.sync_api import sync_playwright

    from mcnlab.reporting.board import board
    from mcnlab.reporting.board_figures import parallel_figure
    from mcnlab.reporting.examples import retrieved_examples
    from mcnlab.reporting.export import export_html
    from mcnlab.reporting.figures import tradeoff_figure
    from mcnlab.reporting.render import fragment, table_view
    from mcnlab.reporting.run_figures import run_curves
    from mcnlab.reporting.show import bundle
    from mcnlab.runs import run_folders
    from tests.test_reporting_browser import ALL_DRAWN, CHROMIUM, FLAGS

    first = next(iter(run_folders(study(folder))))
    shown = board(folder / "runs")
    clips = first.clips().drop(columns="thumbnail")
    parts = [fragment("table", table_view(table)) for table in (clips, shown.table())]
    parts.append(fragment("retrieved", retrieved_examples(first, "text->video")))
    parts.append(fragment("sentences", list(clips["caption"])))
    figures = (tradeoff_figure(shown.study), parallel_figure(shown.study, shown.columns), run_curves(first))
    outputs = [new_output("display_data", data=bundle(one)) for one in figures if one is not None]
    assert outputs, "no figure to look at"
    outputs += [new_output("display_data", data={"text/html": str(part)}) for part in parts]
    outputs.append(new_output("stream", text="\n".join(clips["caption"])))
    outputs.append(new_output("error", ename=payload(0), evalue=payload(1), traceback=[payload(2)]))
    cell = new_code_cell("# " + payload(3), id="shown", outputs=outputs, execution_count=1)
    nbformat.write(new_notebook(cells=[cell]), folder / "n.ipynb")
    page = export_html(folder / "n.ipynb", folder / "n.html", title=payload(0), run=first.path)
    asked: list[str] = []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_function(ALL_DRAWN, timeout=90_000)
        owned = tab.evaluate(WALK)
        browser.close()
    return {"owned": owned, "asked": [one for one in asked if not one.startswith(("file:", "data:", "blob:"))]}


def _tried(trial: Trial, look: Any) -> str:
    """One payload of those that were shown together."""
    from tests.test_reporting_browser import CHROMIUM

    if CHROMIUM is None:
        return "not tried: no Chromium"
    known = trial.shared / "found.json"
    if not known.exists():
        known.write_text(json.dumps(look(trial.shared)))
    found = json.loads(known.read_text())
    number = trial.number % COUNT
    assert number not in found["owned"], f"was executed: {payload(number)}"
    assert not found["asked"], f"asked for {found['asked'][0]}"
    return "shown as words"


@fault(
    "script-captions-notebooks",
    "the same on the exported page of an executed notebook: tables, legends, sentences, printed lines, errors",
    "none executed and nothing asked for",
    trials=COUNT,
    few=1,
)
def script_on_notebook_page(trial: Trial) -> str:
    """One payload; one page shows them all."""
    return _tried(trial, notebook_page)
