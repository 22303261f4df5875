"""The report of a study: an index that answers its question, a page per run and notebook, and all numbers as CSV."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mcnlab.files import remove_partial_files, write_text_atomically
from mcnlab.reporting.answer import answer
from mcnlab.reporting.curves import curves_figure
from mcnlab.reporting.evaluated import OWN, EvaluatedStore, evaluated_stores, measured_on
from mcnlab.reporting.executed import is_readable
from mcnlab.reporting.export import export_html, run_facts
from mcnlab.reporting.figures import legend_of_families, purity_figure, recall_figure
from mcnlab.reporting.gallery import Gallery, galleries
from mcnlab.reporting.graph_figure import GraphFigure, study_graphs
from mcnlab.reporting.guidance import guidance_table
from mcnlab.reporting.heat_figures import localization_figure, localization_pictures
from mcnlab.reporting.heatmaps import additions_figure, factor_purity_figure, retention_figure
from mcnlab.reporting.information import bound_figure, bound_table
from mcnlab.reporting.map_figures import maps_figure
from mcnlab.reporting.maps import StudyMaps, study_maps
from mcnlab.reporting.place_pictures import detection_pictures, explanation_pictures
from mcnlab.reporting.places import attention_figure, curves_of_parts, detection_figure
from mcnlab.reporting.published import PublishedTable, published_tables
from mcnlab.reporting.render import FigureView, TableView, figure_view, render, table_view
from mcnlab.reporting.reproduce import reproduction
from mcnlab.reporting.sprite import sprite
from mcnlab.reporting.students import accuracy_figure, size_figure, told_in_words, told_table
from mcnlab.reporting.style import Figure
from mcnlab.reporting.summary import (
    WORLD_GROUPS,
    Column,
    RunRow,
    StudySummary,
    key_columns,
    retention_columns,
    still_columns,
    still_error_columns,
    summarize,
)
from mcnlab.reporting.tables import ComparisonView, comparison_view, differences_table, means_table, outcome_table
from mcnlab.reporting.transfer import few_shot_figure, probe_figure, transfer_in_words, transfer_table, transfer_tasks
from mcnlab.reporting.unseen import (
    MAIN_MEASURES,
    agreement_figure,
    similarity_figure,
    unseen_columns,
    unseen_figure,
    unseen_in_words,
    unseen_table,
)
from mcnlab.reporting.views import growth_figure

RECALL_LEAD = (
    "R@1: share of queries whose right clip comes first; T→V asks for a video by its caption. Purity: share of clips "
    "in the majority class of their cluster; joint: of all trained modalities together. –: a modality of it was "
    "not trained. Larger is better everywhere."
)
STILLS_LEAD = (
    "Single pictures: share of the clips whose class a linear probe names from the video network's features of the "
    "clip, of its middle frame held still, and of that frame in the network of pictures that it becomes (deflated: "
    "batch norms fitted; naive: not). Larger is better."
)
UNSEEN_LEAD = (
    "Clips of classes that were never trained on. R@1: share whose nearest other clip is of their class; mAP@R and NMI "
    "tell how whole classes lie together. Agreement: rank correlation of the similarities of trained classes with "
    "those of their names. Larger is better, but for agreement where names were dealt to other classes."
)
MAP_CACHE = ".maps"
"""Folder beside the runs where positions on maps are kept."""


@dataclass(frozen=True)
class Section:
    """One part of the index page."""

    anchor: str
    title: str
    sentences: tuple[str, ...] = ()
    comparisons: tuple[ComparisonView, ...] = ()
    figures: tuple[FigureView, ...] = ()
    tables: tuple[tuple[str, TableView], ...] = field(default=())
    open: bool = False
    graphs: tuple[tuple[GraphFigure, tuple[str, ...]], ...] = ()
    """Drawn graphs, with the experiments that have them."""
    galleries: tuple[Gallery, ...] = ()
    """Examples to look at and to hear."""


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
    sections = [section for section in _sections(summary, maps) if section is not None]
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


def _sections(summary: StudySummary, maps: StudyMaps | None) -> list[Section | None]:
    """All parts of the page that the study has something for."""
    if not len(summary.results):
        return [_training(summary)]
    return [
        _views(summary),
        _figure_section("localization", "Localization", localization_figure(summary), localization_pictures(summary)),
        _figure_section("detection", "Detection", detection_figure(summary), detection_pictures(summary)),
        _figure_section(
            "explanation",
            "Explanation",
            attention_figure(summary),
            curves_of_parts(summary),
            explanation_pictures(summary),
        ),
        _comparison(summary),
        _graphs(summary),
        _published(summary),
        _figure_section("kept", "Retention", retention_figure(summary), additions_figure(summary)),
        _figure_section("retrieval", "Retrieval", recall_figure(summary)),
        _gallery(summary),
        _figure_section("clusters", "Clusters", purity_figure(summary), factor_purity_figure(summary)),
        _told(summary),
        _unseen(summary),
        _transfer(summary),
        _figure_section("spaces", "Spaces", maps_figure(maps) if maps is not None else None, clips=True),
        _training(summary),
    ]


def _views(summary: StudySummary) -> Section | None:
    """What one view keeps against the number of views and against shared information; None where nobody asked."""
    figures = tuple(figure_view(one) for one in (growth_figure(summary), bound_figure(summary)) if one is not None)
    bounds = bound_table(summary)
    tables = (("Shared information of every pair, in nats", table_view(bounds)),) if len(bounds) else ()
    return Section("views", "Views", figures=figures, tables=tables) if figures or tables else None


def _comparison(summary: StudySummary) -> Section | None:
    """The main tables; None where nothing was measured that stands in one."""
    recall, kept, stills = key_columns(summary), retention_columns(summary), still_columns(summary)
    views = [comparison_view(summary, recall, lead=RECALL_LEAD, recipes=True)] if recall else []
    views += [comparison_view(summary, kept, lead=_kept_lead(kept), recipes=False)] if kept else []
    views += [comparison_view(summary, stills, lead=STILLS_LEAD, recipes=False)] if stills else []
    unseen = [column for metric in MAIN_MEASURES for column in unseen_columns(summary, metric)]
    views += [comparison_view(summary, unseen, lead=UNSEEN_LEAD, recipes=not views)] if unseen else []
    tested = differences_table(summary, [*recall, *kept, *stills, *unseen])
    tables = [("All tested differences", table_view(tested))] if len(tested) else []
    if errors := still_error_columns(summary):
        tables.append(("Error of the deflated features, relative (L1)", table_view(means_table(summary, errors))))
    if not views and not tables:
        return None
    own = measured_on(summary, OWN)
    return Section("comparison", "Comparison", (own,) if own else (), tuple(views), (), tuple(tables))


def _graphs(summary: StudySummary) -> Section | None:
    """Where modalities meet, drawn."""
    graphs = tuple(study_graphs(summary))
    said = (
        "Boxes are spaces, rings the modalities that arrive there: full with a head of their own, dashed through a map "
        "(arrow). Blue: a pair that training compares.",
    )
    return Section("graphs", "Graphs", said, graphs=graphs) if graphs else None


def _published(summary: StudySummary) -> Section | None:
    """The study beside the literature; None where it was measured on none of the data sets."""
    tables = tuple((one.title, _marked(one)) for one in published_tables(summary))
    said = (
        "Nothing of these data sets was trained on. Only blue lines, marked as measured, come from this study; gray "
        "ones are quoted from the literature. Numbers compare where the clips do: fewer clips make every recall "
        "larger.",
    )
    return Section("published", "Published numbers", said, tables=tables, open=True) if tables else None


def _marked(one: PublishedTable) -> TableView:
    """A table whose published and measured lines look different."""
    return replace(table_view(one.table), marks=tuple(one.table["kind"]), note=one.measured_on)


def _gallery(summary: StudySummary) -> Section | None:
    """The best, the median and the worst query of every direction."""
    found = tuple(galleries(summary))
    said = (
        "For each direction: the query whose right clip is found best, the one in the middle, and the one found worst, "
        "in the run with the best recall. Below each query stand the clips that came first, with their cosine.",
    )
    return Section("examples", "Examples", said, galleries=found) if found else None


def _kept_lead(columns: Sequence[Column]) -> str:
    """What the retention columns are; the world's groups are named by who shares them."""
    if any(column.title in WORLD_GROUPS for column in columns):
        return (
            "Retention: score of a linear probe (0 chance, 1 perfect), mean over the trained modalities that carry the "
            "factors. vat: shared by all three; va: by video and audio; vt: by video and text; at: by audio and text; "
            "v, a, t: private to one."
        )
    return "Retention: score of a linear probe for each factor (0 chance, 1 perfect), mean over the trained modalities."


def _transfer(summary: StudySummary) -> Section | None:
    """What the frozen features are good for, on each store where that was measured."""
    tasks = transfer_tasks(summary)
    views = [
        figure_view(one)
        for task in tasks
        for one in (probe_figure(summary, task), few_shot_figure(summary, task))
        if one
    ]
    tables = tuple((_title_of_transfer(task), table_view(transfer_table(summary, task))) for task in tasks)
    said = tuple(sentence for task in tasks for sentence in transfer_in_words(summary, task))
    return Section("transfer", "Transfer", said, figures=tuple(views), tables=tables) if views else None


def _told(summary: StudySummary) -> Section | None:
    """Classes that the experiments' own classifiers tell, and what that takes."""
    views = tuple(figure_view(one) for one in (accuracy_figure(summary), size_figure(summary)) if one is not None)
    tables = (("All measures of classifiers", table_view(told_table(summary))),)
    said = told_in_words(summary)
    return Section("told", "Teachers and students", said, figures=views, tables=tables) if views else None


def _unseen(summary: StudySummary) -> Section | None:
    """Classes that were not trained on, and whether classes lie as language says."""
    drawn = (unseen_figure(summary), agreement_figure(summary), similarity_figure(summary))
    views = tuple(figure_view(one) for one in drawn if one is not None)
    tables = (
        ("All measures of classes that were not trained on", unseen_table(summary)),
        ("What guidance changes: mean difference in equal seeds with its 95 % interval", guidance_table(summary)),
    )
    told = tuple((title, table_view(table)) for title, table in tables if len(table))
    said = unseen_in_words(summary)
    return Section("unseen", "Unseen classes and language", said, figures=views, tables=told) if views else None


def _title_of_transfer(task: str) -> str:
    """What the table of a task is called."""
    what, _, store = task.partition("@")
    measures = "All measures of transfer" if what == "transfer" else "All measures of fine-tuning"
    return f"{measures} on {store or 'the own store'}"


def _training(summary: StudySummary) -> Section | None:
    """Curves and outcomes."""
    curves = curves_figure(summary)
    if curves is None:
        return None
    outcomes = (("How the training ended", table_view(outcome_table(summary))),)
    varied = any(row.finite is False for row in summary.runs)
    return Section("training", "Training", figures=(figure_view(curves),), tables=outcomes, open=varied)


def _figure_section(anchor: str, title: str, *figures: Figure | None, clips: bool = False) -> Section | None:
    """A part with figures; None when none of them can be drawn."""
    views = tuple(figure_view(one, clips=clips) for one in figures if one is not None)
    return Section(anchor, title, figures=views) if views else None


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
