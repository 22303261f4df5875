"""What the index page of a study shows, part by part: sentences, tables, figures, examples."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mcnlab.reporting.curves import curves_figure
from mcnlab.reporting.evaluated import OWN, measured_on
from mcnlab.reporting.figures import purity_figure, recall_figure
from mcnlab.reporting.gallery import Gallery, galleries
from mcnlab.reporting.graph_figure import GraphFigure, study_graphs
from mcnlab.reporting.guidance import guidance_table
from mcnlab.reporting.heat_figures import localization_figure, localization_pictures
from mcnlab.reporting.heatmaps import additions_figure, factor_purity_figure, retention_figure
from mcnlab.reporting.information import bound_figure, bound_table
from mcnlab.reporting.map_figures import maps_figure
from mcnlab.reporting.maps import StudyMaps
from mcnlab.reporting.place_pictures import detection_pictures, explanation_pictures
from mcnlab.reporting.places import attention_figure, curves_of_parts, detection_figure
from mcnlab.reporting.published import PublishedTable, published_tables
from mcnlab.reporting.render import FigureView, TableView, figure_view, table_view
from mcnlab.reporting.students import accuracy_figure, size_figure, told_in_words, told_table
from mcnlab.reporting.style import Figure
from mcnlab.reporting.summary import (
    WORLD_GROUPS,
    Column,
    StudySummary,
    key_columns,
    retention_columns,
    still_columns,
    still_error_columns,
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


def index_sections(summary: StudySummary, maps: StudyMaps | None) -> list[Section]:
    """The parts of the index page that the study has something for, in the order of the page.

    Args:
        summary: the study.
        maps: the maps of its spaces; None leaves them out.
    """
    if not len(summary.results):
        return [section for section in (_training(summary),) if section is not None]
    found = [
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
    return [section for section in found if section is not None]


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
