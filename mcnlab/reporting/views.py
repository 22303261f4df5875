"""Studies of many views: how what one view keeps grows with their number."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from mcnlab.metrics.statistics import Interval, mean_interval
from mcnlab.modalities import MODALITIES, in_order, pairs_among, pairs_with
from mcnlab.reporting.intervals import interval_text, told_interval, whiskers
from mcnlab.reporting.recipe import Recipe
from mcnlab.reporting.style import CLASS_COLORS, QUIET, Figure, safe, styled
from mcnlab.reporting.summary import Column, StudySummary, carriers

CORE, FULL = "core view", "full graph"
KINDS_OF_MARK = ("circle", "diamond", "square", "x")


@dataclass(frozen=True)
class Line:
    """Experiments that differ in the number of views alone."""

    name: str
    experiments: Mapping[int, str]
    """Number of views → experiment, fewest first."""


def core_modality(summary: StudySummary) -> str | None:
    """The first modality that every experiment trains; None without one."""
    trained = [set(recipe.modalities) for recipe in summary.recipes.values()]
    common = in_order(set.intersection(*trained)) if trained else ()
    return common[0] if common else None


def quality_column(summary: StudySummary, modality: str) -> Column:
    """How much one view keeps: mean score over all factors that it carries, each counted once.

    Args:
        summary: the study.
        modality: the view.

    Returns:
        The column; without subjects where no factor was probed.
    """
    own = [one for one in summary.subjects("retention") if one.startswith(f"{modality}:")]
    own = [one for one in own if _carries(modality, one.split(":", 1)[1].split(".")[0])]
    single = [one for one in own if "." in one]
    return Column(f"what {modality} keeps", "retention", tuple(single or own), "score")


def _carries(modality: str, group: str) -> bool:
    """Whether a view may hold a factor group; of further views that is not known."""
    return modality not in MODALITIES or modality in carriers(group)


def view_lines(summary: StudySummary) -> list[Line]:
    """The experiments of a study by arrangement of pairs and terms, ordered by their number of views.

    With two views the core view and the full graph are the same, and such an experiment belongs to both.

    Args:
        summary: the study.

    Returns:
        Lines with two points or more; none where a study has no views beside video, audio and text, or several
        experiments with the same number.
    """
    core, found = core_modality(summary), dict[str, dict[int, str]]()
    if core is None or len(summary.modalities) == len(MODALITIES):
        return []
    for experiment in summary.experiments:
        recipe = summary.recipes.get(experiment)
        for name in _arrangements(recipe, core) if recipe is not None else ():
            line, views = found.setdefault(name, {}), len(recipe.modalities) if recipe is not None else 0
            if views in line:
                return []
            line[views] = experiment
    return [Line(name, dict(sorted(line.items()))) for name, line in sorted(found.items()) if len(line) > 1]


def _arrangements(recipe: Recipe, core: str) -> list[str]:
    """The names of the lines that an experiment belongs to."""
    terms = "" if recipe.terms == ("contrast",) else f", {' + '.join(recipe.terms)}"
    kinds = {CORE: pairs_with(core, recipe.modalities), FULL: pairs_among(recipe.modalities)}
    return [kind + terms for kind, pairs in kinds.items() if set(pairs) == set(recipe.pairs)]


def growth_figure(summary: StudySummary) -> Figure | None:
    """What view 1 keeps against the number of views, a line for the core view and one for the full graph.

    Args:
        summary: the study.

    Returns:
        The figure; None where the number of views does not vary, or no factor was probed.
    """
    core, lines = core_modality(summary), view_lines(summary)
    if core is None or not lines:
        return None
    column = quality_column(summary, core)
    after, before = (summary.intervals(Column("", "retention", column.subjects, m)) for m in ("score", "untrained"))
    if not after:
        return None
    plot = go.Figure([_line_trace(line, number, after) for number, line in enumerate(lines)])
    counts = sorted({count for line in lines for count in line.experiments})
    untrained = mean_interval([one.value for one in before.values()]).value if before else None
    if untrained is not None:
        words = {"text": "before training", "font": {"color": QUIET, "size": 11}, "textposition": "start"}
        plot.add_hline(y=untrained, line={"color": QUIET, "dash": "dash", "width": 1.4}, label=words)
    plot.update_xaxes(title_text=f"views, {core} among them (count)", tickvals=counts)
    plot.update_yaxes(title_text=f"score of {core} (0 chance, 1 perfect)", range=[0, 1.02])
    cells = {
        line.name: {count: told_interval(after, name) for count, name in line.experiments.items()} for line in lines
    }
    return Figure(
        name="growth",
        title=f"What {core} keeps grows with the number of views" if grows(summary, lines) else f"What {core} keeps",
        caption=f"Mean score of a linear probe over the {len(column.subjects)} factors that {core} carries (R² or "
        "balanced accuracy above chance; 0 is chance, larger is better). Points: mean over seeds; whiskers: 95 % "
        "interval over seeds. Core view: every view is compared with view 1 alone; full graph: each with every other. "
        "Dashed: the same towers before training.",
        alt=" ".join(line_in_words(summary, line) for line in lines),
        plot=styled(plot, height=380),
        numbers=pd.DataFrame(cells).rename_axis(index="views"),
    )


def _line_trace(line: Line, number: int, found: Mapping[str, Interval]) -> go.Scatter:
    """One line with whiskers, a little beside the others so that whiskers do not hide each other."""
    drawn = {count: found[name] for count, name in line.experiments.items() if name in found}
    aside = 0.03 * number
    return go.Scatter(
        x=[count + aside for count in drawn],
        y=[interval.value for interval in drawn.values()],
        mode="lines+markers",
        name=safe(line.name),
        line={"color": CLASS_COLORS[number % len(CLASS_COLORS)], "width": 2},
        marker={"size": 9, "symbol": KINDS_OF_MARK[number % len(KINDS_OF_MARK)]},
        error_y=whiskers(list(drawn.values())),
        customdata=[[count, interval_text(interval)] for count, interval in drawn.items()],
        hovertemplate="%{customdata[0]} views: %{customdata[1]}<extra></extra>",
    )


def line_in_words(summary: StudySummary, line: Line) -> str:
    """The scores of one line, and in how many seeds every added view raised them."""
    core = core_modality(summary) or ""
    column = quality_column(summary, core)
    found = summary.intervals(column)
    told = " → ".join(f"{found[name].value:.3f}" for name in line.experiments.values() if name in found)
    views = ", ".join(map(str, line.experiments))
    by_seed = _by_seed(summary, column, line)
    rising = sum(all(a < b for a, b in itertools.pairwise(values)) for values in by_seed)
    return f"{line.name} with {views} views: {told}; higher with every view in {rising} of {len(by_seed)} seeds."


def against_core(summary: StudySummary, lines: Sequence[Line]) -> str:
    """The full graph beside the core view, at the largest number of views that both have."""
    core, full = (next(line.experiments for line in lines if line.name == kind) for kind in (CORE, FULL))
    both = sorted(set(core) & set(full))
    column = quality_column(summary, core_modality(summary) or "")
    values = summary.run_values(column)
    if both[-1:] == [2] or core[both[-1]] not in values or full[both[-1]] not in values:
        return ""
    one, other = values[full[both[-1]]], values[core[both[-1]]]
    gaps = mean_interval([one[seed] - other[seed] for seed in one if seed in other])
    ends = "" if gaps.low is None or gaps.high is None else f" (95 % interval {gaps.low:+.3f} to {gaps.high:+.3f})"
    return f"Full graph minus core view at {both[-1]} views: {gaps.value:+.3f}{ends}.".replace("-", "−")


def grows(summary: StudySummary, lines: Sequence[Line]) -> bool:
    """Whether the mean over seeds rises with every added view, on every line."""
    found = summary.intervals(quality_column(summary, core_modality(summary) or ""))
    rows = [[found[name].value for name in line.experiments.values() if name in found] for line in lines]
    return all(a < b for values in rows for a, b in itertools.pairwise(values))


def _by_seed(summary: StudySummary, column: Column, line: Line) -> list[list[float]]:
    """For every seed that ran all of a line: the scores, fewest views first."""
    values = summary.run_values(column)
    runs = [values.get(name, {}) for name in line.experiments.values()]
    seeds = sorted(set.intersection(*(set(one) for one in runs))) if runs else []
    return [[one[seed] for one in runs] for seed in seeds]
