"""The report of a study: an index that answers its question, a page per run and notebook, and all numbers as CSV."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mcnlab.files import remove_partial_files, write_text_atomically
from mcnlab.reporting.answer import answer
from mcnlab.reporting.evaluated import OWN, EvaluatedStore, evaluated_stores
from mcnlab.reporting.executed import is_readable
from mcnlab.reporting.export import export_html, run_facts
from mcnlab.reporting.figures import legend_of_families
from mcnlab.reporting.maps import StudyMaps, study_maps
from mcnlab.reporting.render import render
from mcnlab.reporting.reproduce import reproduction
from mcnlab.reporting.sections import index_sections
from mcnlab.reporting.sprite import sprite
from mcnlab.reporting.summary import RunRow, StudySummary, summarize

MAP_CACHE = ".maps"
"""Folder beside the runs where positions on maps are kept."""


def write_report(
    study_dir: str | Path,
    report_dir: str | Path,
    *,
    title: str = "",
    question: str = "",
    order: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write all pages of a study from its run folders alone: same runs, same numbers, same order.

    Args:
        study_dir: folder of run folders; executed notebooks of the study in its `notebooks`.
        report_dir: where the pages go; what an earlier report left there is replaced.
        title: headline; the folder's name when empty.
        question: what the study asks.
        order: experiments in the order to show; by recipe when None.
        progress: called with the pages that are written and all.

    Returns:
        Path of `index.html`.

    Raises:
        DataError: there are no runs.
        StorageError: a page cannot be written.
    """
    study, report = Path(study_dir), Path(report_dir)
    summary = summarize(study, title=title, question=question, order=order)
    report.mkdir(parents=True, exist_ok=True)
    remove_partial_files(report)
    for folder in ("runs", "notebooks"):
        shutil.rmtree(report / folder, ignore_errors=True)
        (report / folder).mkdir()
    pages = _Pages(progress, of_runs=_run_notebooks(summary), of_study=_study_notebooks(study))
    links = _write_run_pages(pages, report)
    notebooks = _write_notebook_pages(pages, report)
    write_text_atomically(report / "results.csv", quoted(summary.results).to_csv(index=False))
    maps = study_maps(summary, cache=study / MAP_CACHE)
    page = index_page(summary, maps=maps, links=links, notebooks=notebooks)
    write_text_atomically(report / "index.html", page)
    pages.advance()
    return report / "index.html"


def index_page(
    summary: StudySummary,
    *,
    maps: StudyMaps | None = None,
    links: dict[Path, str] | None = None,
    notebooks: Sequence[tuple[str, str]] = (),
) -> str:
    """The index page as text.

    Args:
        summary: the study.
        maps: the maps of its spaces; None leaves them out.
        links: run folder → address of its page.
        notebooks: (address, words) of the study's notebooks.

    Returns:
        HTML.
    """
    sections = index_sections(summary, maps)
    again = reproduction(summary)
    contents = [
        ("answer", "Answer"),
        *((one.anchor, one.title) for one in sections),
        ("runs", "Runs"),
        *([("reproduce", "How to reproduce")] if again is not None else []),
        ("provenance", "Provenance"),
    ]
    failed = [row for row in summary.runs if row.state != "finished"]
    return render(
        "index.html.j2",
        title=summary.title,
        has_figures=True,
        question=summary.question,
        contents=contents,
        answer=answer(summary),
        problems=f"{len(failed)} of {len(summary.runs)} runs did not finish." if failed else "",
        legend=legend_of_families(summary),
        groups=sections,
        runs=[_runs_view(summary, name, links or {}) for name in summary.experiments],
        failures=[row for row in summary.runs if row.reason],
        notebooks=list(notebooks),
        reproduction=again,
        provenance=study_facts(summary),
        thumbnails=sprite(maps.clips) if maps is not None else None,
    )


def quoted(results: pd.DataFrame) -> pd.DataFrame:
    """Results whose text cells no spreadsheet takes for a formula: a quote stands before a leading = + - @.

    Args:
        results: the eight columns.

    Returns:
        A copy.
    """
    safe = results.copy()
    for column in ("experiment", "task", "subject", "metric"):
        text = safe[column].astype(str)
        safe[column] = text.where(~text.str.match(r"[=+\-@\t\r]"), "'" + text)
    return safe


def study_facts(summary: StudySummary) -> list[tuple[str, str]]:
    """Where the numbers of a study come from, in the order of the page's foot.

    Args:
        summary: the study.

    Returns:
        Names and values.
    """
    facts = run_facts(summary.provenance)
    finished = summary.finished()
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in summary.runs}))
    own = [("runs", f"{len(finished)} finished of {len(summary.runs)}; seeds {seeds}"), *_seconds(summary)]
    stores = [_store_fact(one) for one in evaluated_stores(summary)]
    return [*own, *stores, *(fact for fact in facts if fact[0] != "seed" and not fact[0].startswith("evaluated on"))]


def _store_fact(one: EvaluatedStore) -> tuple[str, str]:
    """A store that numbers come from."""
    name = "evaluated on its own store" if one.name == OWN else f"evaluated on {one.name}"
    return name, f"{one.in_words}; fingerprint {one.fingerprint}; {one.path}"


def _seconds(summary: StudySummary) -> list[tuple[str, str]]:
    """Training time, and the share of everything that is neither training nor evaluation."""
    finished = summary.finished()
    train, now, evaluate = (
        sum(getattr(row, name) or 0.0 for row in finished) for name in ("train_s", "trained_now_s", "evaluate_s")
    )
    facts = [("training", f"{train:.0f} s in all runs; evaluation {evaluate:.0f} s")]
    run_s = summary.record.get("run_s") or {}
    spent = sum(seconds for seconds in run_s.values())
    if spent > 0 and all(row.folder.name in run_s for row in finished):
        share = max(0.0, spent - now - evaluate) / spent
        facts.append(("notebook and kernel overhead", f"{share:.0%} of {spent:.0f} s in run notebooks"))
    if summary.record.get("wall_s"):  # 0 where the command that trained was interrupted
        workers = summary.record.get("workers", "unknown")
        facts.append(("wall time", f"{summary.record['wall_s']:.0f} s with {workers} worker processes"))
    return facts


def _runs_view(summary: StudySummary, name: str, links: dict[Path, str]) -> dict[str, Any]:
    """One line of the table of runs: all seeds of an experiment."""
    rows = [row for row in summary.runs if row.experiment == name]
    return {
        "experiment": name,
        "seeds": [{"seed": row.seed, "state": row.state, "link": links.get(row.folder, "")} for row in rows],
        "steps": max(row.steps for row in rows),
        "train": _mean_seconds([row.train_s for row in rows]),
        "evaluate": _mean_seconds([row.evaluate_s for row in rows]),
    }


def _mean_seconds(values: Sequence[float | None]) -> str:
    """Mean of the known values as text."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.1f} s" if known else ""


@dataclass
class _Pages:
    """The executed notebooks that become pages, and how many are written; the index is one more."""

    progress: Callable[[int, int], None]
    of_runs: Sequence[RunRow]
    of_study: Sequence[Path]
    written: int = -1

    def __post_init__(self) -> None:
        self.advance()

    def advance(self) -> None:
        """One more is written; at first none."""
        self.written += 1
        self.progress(self.written, len(self.of_runs) + len(self.of_study) + 1)


def _run_notebooks(summary: StudySummary) -> list[RunRow]:
    """The runs that have an executed notebook, failed or not."""
    return [row for row in summary.runs if is_readable(row.folder / "notebook.ipynb")]


def _study_notebooks(study: Path) -> list[Path]:
    """The executed notebooks of the study."""
    return list(filter(is_readable, sorted((study / "notebooks").glob("*.ipynb"))))


def _write_run_pages(pages: _Pages, report: Path) -> dict[Path, str]:
    """A page for every run that has an executed notebook."""
    links = {}
    for row in pages.of_runs:
        page = report / "runs" / f"{row.folder.name}.html"
        title = f"{row.experiment}, seed {row.seed}"
        export_html(row.folder / "notebook.ipynb", page, title=title, back="../index.html", run=row.folder)
        links[row.folder] = f"runs/{page.name}"
        pages.advance()
    return links


def _write_notebook_pages(pages: _Pages, report: Path) -> list[tuple[str, str]]:
    """A page for every executed notebook of the study."""
    found = []
    for notebook in pages.of_study:
        words = notebook.stem.lstrip("0123456789_").replace("_", " ").capitalize()
        export_html(notebook, report / "notebooks" / f"{notebook.stem}.html", title=words, back="../index.html")
        found.append((f"notebooks/{notebook.stem}.html", words))
        pages.advance()
    return found
