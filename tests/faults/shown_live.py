"""Faults of what live widgets show: scripts in captions, labels, names and terms, in a real JupyterLab that is used."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.fake_study import ALL, FakeExperiment, write_fake_study
from tests.faults.registry import Trial, fault
from tests.faults.shown import payload
from tests.faults.widgets_used import (
    CAPTIONS,
    KEY,
    KINDS,
    LABELS,
    NAMES,
    TERMS,
    Used,
    use_board,
    use_explorer,
    use_watch,
)

CLIPS = 40
PLANTED = ""
"""Code that a kernel runs first; `tests.faults.plants` puts a defect here."""
NOTEBOOKS = ("00_explore", "00_board", "00_watch")
RUN_AS_MARKUP = """async (words) => {
    const box = document.createElement('div');
    box.innerHTML = words;
    document.body.append(box);
    await new Promise((done) => setTimeout(done, 500));
    box.remove();
    return window.__owned || [];
}"""


def write_runs(folder: Path) -> Path:
    """Runs whose clips and experiments bear payloads, and one apart that failed, with payloads in all that it tells."""
    names = tuple(FakeExperiment(payload(number), ALL) for number in NAMES)
    runs = write_fake_study(folder / "runs", experiments=names, seeds=(0,), clips=CLIPS, steps=12)
    for run in runs.iterdir():
        clips = pd.read_parquet(run / "clips.parquet")
        clips["caption"] = [payload(CAPTIONS[row % KINDS]) for row in range(CLIPS)]
        clips["label"] = [payload(LABELS[row % KINDS]) for row in range(CLIPS)]
        clips["id"] = [f"{row}{one}" for row, one in enumerate(clips["label"])]
        clips[f"factor:vt.{payload(LABELS[1])}"] = clips["label"]
        clips.to_parquet(run / "clips.parquet")
        _write_notebook(run / "notebook.ipynb")
    (watched,) = write_fake_study(
        folder / "watched", experiments=names[:1], seeds=(0,), failed=(names[0].name,)
    ).iterdir()
    words = " ".join(map(payload, TERMS))
    settings = yaml.safe_load((watched / "settings.yaml").read_text()) | {"experiment": words}
    (watched / "settings.yaml").write_text(yaml.safe_dump(settings))
    (watched / "status.json").write_text(json.dumps({"state": "failed", "reason": words}))
    terms = {f"term.{payload(number)}": 1 + number / 100 for number in TERMS}
    lines = [{"step": step, "stage": words, "loss": 9 / step, "grad_norm": 1.0, **terms} for step in range(1, 9)]
    (watched / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return watched


def _write_notebook(path: Path) -> None:
    """What a run left, with payloads on it; the board shows it as a page."""
    outputs = [new_output("stream", text="\n".join(map(payload, NAMES)))]
    nbformat.write(new_notebook(cells=[new_code_cell("1", id="a", outputs=outputs, execution_count=1)]), path)


def write_notebooks(folder: Path, watched: Path) -> None:
    """The notebooks of the explorer, the board and the live view, with these runs as their parameters."""
    from mcnlab.reporting.notebooks import notebook_path

    given = {"study_dir": str(watched.parents[1] / "runs"), "run_dir": str(watched)}
    folder.mkdir()
    for name in NOTEBOOKS:
        notebook = nbformat.read(notebook_path(name), as_version=4)
        parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        for parameter, value in given.items():
            parameters.source = parameters.source.replace(f'{parameter} = ""', f"{parameter} = {value!r}")
        parameters.source = PLANTED + parameters.source
        nbformat.write(notebook, folder / f"{name}.ipynb")


SHOWN = {
    CAPTIONS: ("tip", "card", "table"),
    LABELS: ("tip", "card", "table"),
    NAMES: ("menu", "board", "board's tab 1", "board's tab 2"),
    TERMS: ("watch", "watch h3", "watch dl", "watch .readout >> nth=0"),
}
"""Where a payload must have been seen as words."""


def live(folder: Path) -> dict[str, Any]:
    """What JupyterLab did with explorer, board and live view of such runs."""
    from tests.jupyter_lab import opened_lab

    write_notebooks(folder / "lab", write_runs(folder))
    with opened_lab(folder / "lab") as lab:
        used = Used(lab)
        lab.open("00_watch.ipynb")
        assert 1 in lab.page.evaluate(RUN_AS_MARKUP, payload(1)), "payloads do nothing even where they are markup"
        broke = "".join(used.through(use) for use in (use_explorer, use_board, use_watch))
    texts = {where: [" ".join(one.split()) for one in texts] for where, texts in used.read.items()}
    return {"owned": used.owned, "asked": used.asked + lab.outside, "read": texts, "broke": broke}


def was_read(number: int, read: dict[str, list[str]]) -> list[str]:
    """Where a payload was not seen as words."""
    places = next(places for numbers, places in SHOWN.items() if number in numbers)
    key = " ".join(payload(number).split())[:KEY]
    return [place for place in places if not any(key in text for text in read.get(place, []))]


@fault(
    "script-captions-live",
    "the same as captions, labels, ids, names and terms in explorer, board and live view of a JupyterLab that is used",
    "none executed, none became markup, nothing asked for beyond loopback; each is read as words in its widgets",
    trials=4 * KINDS,
    few=0,
)
def script_in_widget(trial: Trial) -> str:
    """One payload in one kind of place; one JupyterLab shows them all, and is used once."""
    from tests.jupyter_lab import CHROMIUM

    if CHROMIUM is None:
        return "not tried: no Chromium"
    known = trial.shared / "found.json"
    if not known.exists():
        known.write_text(json.dumps(live(trial.shared)))
    found = json.loads(known.read_text())
    number = trial.number % (4 * KINDS)
    assert number not in found["owned"], f"was executed, or became markup: {payload(number)}"
    other = [one for one in found["owned"] if not isinstance(one, int)]
    assert not other, f"became markup: {other[0]}"
    assert not found["asked"], f"asked for {found['asked'][0]}"
    assert not found["broke"], f"the widgets could not be used: {found['broke'][-400:]}"
    missing = was_read(number, found["read"])
    assert not missing, f"is not to be read in {', '.join(missing)}: {payload(number)}"
    return "shown as words"
