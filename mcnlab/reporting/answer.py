"""The answer of a study in sentences with numbers: what each combination retained, what more terms and stages add."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcnlab.reporting.comparison import differences_from
from mcnlab.reporting.graph_answer import graphs_in_words
from mcnlab.reporting.guidance import guidance_answer
from mcnlab.reporting.heat_figures import localization_answer
from mcnlab.reporting.information import views_in_words
from mcnlab.reporting.missing import missing_lead, missing_lines, shares_of
from mcnlab.reporting.objectives import objectives_in_words
from mcnlab.reporting.places import detection_in_words, explanation_in_words
from mcnlab.reporting.recipe import ALL_PAIRS, CONTROL, MORE_TERMS, ONE_PAIR, PAIRS, STAGED, Recipe
from mcnlab.reporting.stills import stills_answer
from mcnlab.reporting.students import nearest_student
from mcnlab.reporting.summary import Column, StudySummary, carriers, factor_groups, retention_columns, short_direction
from mcnlab.reporting.views import view_lines

RECALL = Column("T→V recall at 1", "retrieval", ("text->video",), "recall_at_1", trained_only=True)
PRIVATE = {"v": "video", "a": "audio", "t": "text"}
"""Factor groups of the world that one modality alone carries."""
GROUP_WORDS = {
    "vat": "what all three share (vat)",
    "va": "what video and audio share (va)",
    "vt": "what video and text share (vt)",
    "at": "what audio and text share (at)",
}
NOTICEABLE = 0.005
"""Differences below this are called none."""


@dataclass(frozen=True)
class Part:
    """One paragraph of the answer."""

    heading: str
    lead: str
    points: tuple[str, ...] = ()


def answer(summary: StudySummary) -> list[Part]:
    """What the study found, as far as its experiments allow.

    Args:
        summary: the study.

    Returns:
        Paragraphs; the first one is the answer in a sentence.
    """
    if not summary.finished():
        return [Part("", "No run has finished yet, so there is no answer.")]
    students = _found(nearest_student(summary))
    parts = [
        students,
        _found(localization_answer(summary)),
        _found(detection_in_words(summary)),
        _found(explanation_in_words(summary)),
        _found(guidance_answer(summary)),
        _found(stills_answer(summary)),
        _views(summary),
        _graphs(summary),
        *_missing(summary),
        _objectives(summary),
        _retained(summary),
        _elsewhere(summary),
        _added(summary) if students is None else None,
        _outcomes(summary),
        _control(summary),
    ]
    return [part for part in parts if part is not None] or [Part("", _nothing_to_compare(summary))]


def _views(summary: StudySummary) -> Part | None:
    """What the number of views and the information that they share mean for one of them."""
    lead, points = views_in_words(summary)
    return Part("Number of views" if view_lines(summary) else "Shared information", lead, points) if lead else None


def _found(found: tuple[str, str, tuple[str, ...]] | None) -> Part | None:
    """What a module of its own has put into words, if it found anything."""
    return None if found is None else Part(*found)


def _graphs(summary: StudySummary) -> Part | None:
    """What the graphs mean for fine detail, and for pairs that were never trained."""
    lead, points = graphs_in_words(summary)
    return Part("Where modalities meet", lead, points) if points else None


def _nothing_to_compare(summary: StudySummary) -> str:
    """What is said where no comparison can be worded."""
    if summary.results.empty:
        return "The runs were not evaluated."
    return "These experiments differ in nothing that could be put into a sentence; their numbers stand below."


def _missing(summary: StudySummary) -> list[Part]:
    """What clips without a modality cost, for every modality of which experiments lack shares."""

    def in_words(column: Column, name: str) -> str:
        return _with_interval(summary, column, name)

    parts = []
    for modality, named in shares_of(summary).items():
        lead = missing_lead(summary, modality, named, in_words=in_words)
        lines = missing_lines(summary, modality, named, in_words=in_words)
        parts.append(Part(f"What missing {modality} costs", lead, tuple(lines)))
    return [part for part in parts if part.points]


def _objectives(summary: StudySummary) -> Part | None:
    """Contrast against prediction, where a study holds them against each other."""
    found = objectives_in_words(summary)
    return None if found is None else Part(*found)


def _retained(summary: StudySummary) -> Part | None:
    """What each combination retained by contrast alone."""
    alone = [name for name in summary.experiments if _recipe(summary, name).family in (ONE_PAIR, ALL_PAIRS)]
    alone = [name for name in alone if _usual(_recipe(summary, name))]
    recall = _means(summary, RECALL, alone)
    if len(alone) < 2:
        return None
    points = [*_recall_points(summary, recall), *_pair_points(summary, alone), *_private_points(summary, alone)]
    lead = " ".join([*_cost_of_one_space(summary, alone), *_kept_with_partner(summary, alone)])
    return Part("What each combination retained", lead or "Contrast alone, by combination:", tuple(points))


def _cost_of_one_space(summary: StudySummary, names: Sequence[str]) -> list[str]:
    """What one space for all modalities costs text to video retrieval, and whether a space per pair helps."""
    wanted = (("vt", "shared"), ("", "shared"), ("", "disjoint"))
    alone, shared, apart = (_first(summary, names, pair, graph) for pair, graph in wanted)
    found = summary.intervals(RECALL)
    if alone not in found or shared not in found:
        return []
    tested = [one for one in differences_from(summary, [RECALL], alone) if one.experiment == shared and one.clear]
    verb = "makes no clear difference to" if not tested else "costs" if tested[0].test.difference < 0 else "helps"
    sentence = (
        f"By contrast alone, pulling all three modalities into one space {verb} finding the video of a caption: "
        f"T→V recall at 1 is {_with_interval(summary, RECALL, alone)} for {alone} and "
        f"{_with_interval(summary, RECALL, shared)} for {shared}"
    )
    apart_too = f"; with a space for each pair it is {_with_interval(summary, RECALL, apart)}" if apart in found else ""
    return [f"{sentence}{apart_too}."]


def _kept_with_partner(summary: StudySummary, names: Sequence[str]) -> list[str]:
    """Whether the video embedding keeps what its partner shares."""
    kept = {group: summary.intervals(Column("", "retention", (f"video:{group}",), "score")) for group in ("va", "vt")}
    audio, text = (_first(summary, names, pair, "shared") for pair in ("va", "vt"))
    if any(name not in kept[group] for name in (audio, text) for group in kept):
        return []
    of = {(name, group): _n(kept[group][name].value) for name in (audio, text) for group in kept}
    return [
        f"The video embedding keeps what its partner shares with it: of the factors shared with audio "
        f"{of[audio, 'va']} in {audio} and {of[text, 'va']} in {text}, of those shared with text {of[audio, 'vt']} "
        f"and {of[text, 'vt']}."
    ]


def _first(summary: StudySummary, names: Sequence[str], pair: str, graph: str) -> str:
    """The experiment that trains one pair, or all three for an empty one; empty when there is none."""
    wanted = (pair,) if pair else PAIRS
    fits = [n for n in names if _recipe(summary, n).pairs == wanted and (pair or _recipe(summary, n).graph == graph)]
    return fits[0] if fits else ""


def _recall_points(summary: StudySummary, recall: Mapping[str, float]) -> list[str]:
    """Recall of all combinations, best first, beside chance and ceiling."""
    if not recall:
        return []
    ordered = sorted(recall, key=lambda name: -recall[name])
    chance = summary.level("retrieval", "text->video", "chance_at_1")
    ceiling = summary.level("retrieval", "text->video", "ceiling_at_1")
    beside = f" (chance {_n(chance, _digits(chance))}" + (f", ceiling {_n(ceiling)})" if ceiling is not None else ")")
    listed = ", ".join(f"{name} {_with_interval(summary, RECALL, name)}" for name in ordered)
    return [f"T→V recall at 1: {listed}{beside}."]


def _pair_points(summary: StudySummary, names: Sequence[str]) -> list[str]:
    """How much of shared factors each combination holds, in the first modality that has them."""
    points = []
    for group in factor_groups(summary.subjects("retention")):
        modality = carriers(group)[0]
        column = Column(group, "retention", (f"{modality}:{group}",), "score")
        trained = [name for name in names if summary.trains(name, modality)]
        means = _means(summary, column, trained)
        before = summary.level("retention", f"{modality}:{group}", "untrained")
        if len(means) > 1 and group not in PRIVATE:
            listed = ", ".join(f"{name} {_n(means[name])}" for name in sorted(means, key=lambda name: -means[name]))
            what = GROUP_WORDS.get(group, f"the factor {group}")
            beside = "" if before is None else f" (before training {_n(before)})"
            points.append(f"Of {what}, the {modality} embedding keeps: {listed}{beside}.")
    return points


def _private_points(summary: StudySummary, names: Sequence[str]) -> list[str]:
    """What becomes of factors that one modality has for itself."""
    words = []
    for group, modality in PRIVATE.items():
        means = _means(summary, Column(group, "retention", (f"{modality}:{group}",), "score"), names)
        means = {name: value for name, value in means.items() if summary.trains(name, modality)}
        before = summary.level("retention", f"{modality}:{group}", "untrained")
        if means and before is not None:
            words.append(f"{modality} {_n(before)} → {_range(list(means.values()))}")
    return [f"Private factors, before → after training: {'; '.join(words)}."] if words else []


def _added(summary: StudySummary) -> Part | None:
    """What clustering, reconstruction and the order of stages add to the reference."""
    base = summary.reference
    more = [name for name in summary.experiments if _recipe(summary, name).family in (MORE_TERMS, STAGED)]
    more = [name for name in more if name != base]
    if base is None or not more:
        return None
    same_form = [name for name in more if _form(_recipe(summary, name)) == _form(_recipe(summary, base))] or more
    joint = [name for name in same_form if _recipe(summary, name).family == MORE_TERMS]
    staged = [name for name in same_form if _recipe(summary, name).family == STAGED]
    points = [_change(summary, name, base) for name in joint]
    if staged:
        stayed = joint[-1] if joint else base
        points += _stage_points(summary, staged, stayed)
    usual = _recipe(summary, base).family == ALL_PAIRS and _recipe(summary, base).graph == "shared"
    what = "all pairs in one space, contrast alone" if usual else _recipe(summary, base).in_words
    lead = f"Measured against {base}: {what}."
    heading = "What more terms and the order of stages add" if staged else "What more terms add"
    said = tuple(point for point in points if point)
    return Part(heading, lead, said) if said else None


def _elsewhere(summary: StudySummary) -> Part | None:
    """Zero-shot retrieval on stores that were not trained on: recall, the number of clips, and chance."""
    tasks = [str(task) for task in summary.results["task"].unique() if str(task).startswith("retrieval@")]
    points = []
    for task in tasks:
        column = Column("", task, ("text->video",), "recall_at_1", trained_only=True)
        found = summary.intervals(column)
        chance = summary.level(task, "text->video", "chance_at_1")
        if found and chance:
            words = ", ".join(f"{name} {_with_interval(summary, column, name)}" for name in found)
            among = f"among {round(1 / chance)} clips (chance {chance:.4f})"
            points.append(f"{task.partition('@')[2]}, T→V recall at 1 {among}: {words}.")
    return Part("Zero-shot on other data", "Clips of data that was not trained on:", tuple(points)) if points else None


def _change(summary: StudySummary, name: str, base: str) -> str:
    """What the terms of one experiment change."""
    extra = [term for term in _recipe(summary, name).terms if term not in _recipe(summary, base).terms]
    words = [_moved(summary, RECALL, name, base)]
    words.append(_moved(summary, Column("video purity", "clusters", ("video",), "purity"), name, base))
    for group, modality in PRIVATE.items():
        column = Column(f"{group} in {modality}", "retention", (f"{modality}:{group}",), "score")
        words.append(_moved(summary, column, name, base))
    listed = "; ".join(word for word in words if word)
    return f"{name} (adds {' and '.join(extra) or 'nothing'}): {listed}." if listed else ""


def _stage_points(summary: StudySummary, staged: Sequence[str], joint: str) -> list[str]:
    """Recall and retention of each order of stages beside training all at once."""
    means = _means(summary, RECALL, [joint, *staged])
    words = ", ".join(f"{name} {_with_interval(summary, RECALL, name)}" for name in [joint, *staged] if name in means)
    points = [f"The order of stages, T→V recall at 1: {words}."] if means else []
    for group in retention_columns(summary):
        values = _means(summary, group, [joint, *staged])
        if joint in values and len(values) > 1:
            best = max(values, key=lambda name: values[name])
            gain = values[best] - values[joint]
            if best != joint and gain > 0.05:
                points.append(
                    f"{group.title} factors: {best} keeps {_n(values[best])}, all at once {_n(values[joint])}."
                )
    return points


def _outcomes(summary: StudySummary) -> Part | None:
    """Which runs ended with a loss that is not finite, if any did or if the study varies precision or mode."""
    known = [row for row in summary.runs if row.finite is not None]
    broken = sorted({row.experiment for row in known if row.finite is False}, key=summary.experiments.index)
    forms = {_form(recipe) for recipe in summary.recipes.values()}
    if not known or (not broken and len(forms) < 2):
        return None
    if not broken:
        return Part("Finite or not", f"The loss stayed finite in all {len(known)} runs.")
    lead = f"The loss became NaN or infinite in {len(broken)} of {len({row.experiment for row in known})} experiments: "
    points = ("Every experiment in sound mode stayed finite.",) if _all_sound_finite(summary, broken) else ()
    return Part("Finite or not", lead + ", ".join(broken) + ".", points)


def _all_sound_finite(summary: StudySummary, broken: Sequence[str]) -> bool:
    """Whether only faithful experiments broke."""
    modes = {recipe.mode for recipe in summary.recipes.values()}
    return len(modes) > 1 and all(_recipe(summary, name).mode != "sound" for name in broken)


def _control(summary: StudySummary) -> Part | None:
    """Whether the shuffled control is at chance."""
    controls = [name for name in summary.experiments if _recipe(summary, name).family == CONTROL]
    has = [one for one in ("text->video", "text->audio", "video->audio") if one in summary.subjects("retrieval")]
    words = []
    for name in controls:
        for direction in has:
            column = Column("", "retrieval", (direction,), "recall_at_1")
            chance = summary.level("retrieval", direction, "chance_at_1")
            if name in summary.intervals(column):
                value = summary.intervals(column)[name].value
                words.append(f"{short_direction(direction)} {_n(value, 3)} (chance {_n(chance, 3)})")
    dealt = next((_recipe(summary, name).dealt for name in controls), ())
    what = f"shuffled {' and '.join(dealt) or 'pairs'}"
    return Part("Control", f"With {what}, recall at 1 is {', '.join(words)}.") if words else None


def _moved(summary: StudySummary, column: Column, name: str, base: str) -> str:
    """A change in words, with a star where the test finds it clear; empty when one of the two lacks the column."""
    means = _means(summary, column, [name, base])
    if len(means) < 2:
        return ""
    change = means[name] - means[base]
    clear = any(one.experiment == name and one.clear for one in differences_from(summary, [column], base))
    sign = "±0" if abs(change) < NOTICEABLE else f"{change:+.2f}".replace("-", "−")
    return f"{column.title} {_n(means[base])} → {_n(means[name])} ({sign}{'*' * clear})"


def _means(summary: StudySummary, column: Column, names: Sequence[str]) -> dict[str, float]:
    """Mean of a column in some experiments, where they have it."""
    intervals = summary.intervals(column)
    return {name: intervals[name].value for name in names if name in intervals}


def _with_interval(summary: StudySummary, column: Column, name: str) -> str:
    """A mean with its half width."""
    interval = summary.intervals(column)[name]
    if interval.low is None or interval.high is None:
        return _n(interval.value)
    return f"{_n(interval.value)} ± {_n((interval.high - interval.low) / 2)}"


def _recipe(summary: StudySummary, name: str) -> Recipe:
    """The recipe of an experiment; an empty one when its settings cannot be read."""
    return summary.recipes.get(name, Recipe(()))


def _usual(recipe: Recipe) -> bool:
    """Sound and in float32."""
    return _form(recipe) == ("sound", "float32")


def _form(recipe: Recipe) -> tuple[str, str]:
    """Mode and precision."""
    return recipe.mode, recipe.precision


def _range(values: Sequence[float]) -> str:
    """One number, or the smallest and the largest."""
    low, high = min(values), max(values)
    return _n(low) if high - low < NOTICEABLE else f"{_n(low)} to {_n(high)}"


def _digits(chance: float | None) -> int:
    """Digits of chance: those of the scores beside it, one more where it is too small for them."""
    return 3 if chance is not None and chance < 0.1 else 2


def _n(value: float | None, digits: int = 2) -> str:
    """A number as text, without a minus before zero."""
    return (
        "unknown"
        if value is None
        else f"{value if abs(value) >= 0.5 * 10**-digits else 0.0:.{digits}f}".replace("-", "−")
    )
