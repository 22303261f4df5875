"""What a study of graphs found, in words: the fine detail that each keeps, and who can still be compared."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from mcnlab.metrics.statistics import Interval
from mcnlab.modalities import pair_modalities, pair_name
from mcnlab.models.graph import Graph
from mcnlab.reporting.graph_figure import graph_of_experiment
from mcnlab.reporting.summary import Column, StudySummary, short_direction

SHARED = "shared"
NO_SPACE = "no common space"
METRICS = {
    "recall_at_1": ("recall at 1", "chance_at_1"),
    "same_label_at_1": ("class of the first clip right", "chance_same_label_at_1"),
}
"""By metric: its words, and its chance. Two modalities that only a third one joins can share no more than all three
do, on the narrated world the class: whether that is right says more than whether the very clip is first."""
DIRECTIONS = {"va": "video->audio", "vt": "text->video", "at": "text->audio"}
"""By pair: how it is asked; any other by its first modality."""


@dataclass(frozen=True)
class ComparedGraphs:
    """Experiments that differ in their graph, and in whether they train in stages."""

    summary: StudySummary
    graphs: Mapping[str, Graph]
    """By experiment, in order."""

    @property
    def pairs(self) -> tuple[str, ...]:
        """The pairs that all of them train."""
        return tuple(next(iter(self.graphs.values())).space_of_pair)

    @property
    def untrained(self) -> tuple[str, ...]:
        """Pairs of their modalities that none of them trains."""
        known = {modality for pair in self.pairs for modality in pair_modalities(pair)}
        every = {pair_name(*two) for two in itertools.combinations(sorted(known), 2)}
        return tuple(sorted(every - set(self.pairs)))

    def shared_like(self, name: str) -> str | None:
        """The experiment with one space for all that has the same stages."""
        recipes = self.summary.recipes
        same = (one for one in self.graphs if recipes[one].stages == recipes[name].stages)
        return next((one for one in same if recipes[one].graph == SHARED), None)

    def found(self, pair: str, metric: str) -> dict[str, Interval]:
        """A retrieval metric of a pair's direction, by experiment."""
        intervals = self.summary.intervals(Column("", "retrieval", (_direction(pair),), metric))
        return {name: intervals[name] for name in self.graphs if name in intervals}

    def level(self, pair: str, metric: str) -> float | None:
        """What all experiments share of a pair's direction, such as chance."""
        return self.summary.level("retrieval", _direction(pair), metric)

    def kept(self, pair: str) -> dict[str, Interval]:
        """What the first modality of a pair keeps of the factors that the two share, in the space where they meet."""
        found: dict[str, Interval] = {}
        for name, graph in self.graphs.items():
            subject = f"{graph.subject(pair_modalities(pair)[0], graph.space_of_pair[pair])}:{pair}"
            intervals = self.summary.intervals(Column("", "retention", (subject,), "score"))
            found |= {name: intervals[name]} if name in intervals else {}
        return found


def graphs_in_words(summary: StudySummary) -> tuple[str, tuple[str, ...]]:
    """What the graphs of a study mean for its numbers.

    Args:
        summary: the study.

    Returns:
        The answer in a few sentences, and its numbers as points; both empty where graphs are not what is compared.
    """
    compared = compared_graphs(summary)
    if compared is None:
        return "", ()
    leads = [*_finer(compared), *_untrained_in_words(compared)]
    points = [_found_point(compared, pair, "recall_at_1") for pair in compared.pairs]
    points += [_found_point(compared, pair, metric) for pair in compared.untrained for metric in METRICS]
    points += [_kept_point(compared, pair) for pair in compared.pairs]
    return " ".join(leads), tuple(point for point in points if point)


def compared_graphs(summary: StudySummary) -> ComparedGraphs | None:
    """The largest set of experiments that train the same pairs by the same terms in several graphs.

    Args:
        summary: the study.

    Returns:
        None where there are fewer than two graphs, or all pairs are trained in graphs without maps.
    """
    groups: dict[object, list[str]] = {}
    for name, recipe in summary.recipes.items():
        key = (recipe.pairs, recipe.terms, recipe.mode, recipe.precision, recipe.shuffled)
        groups.setdefault(key, []).append(name)
    several = [group for group in groups.values() if len({summary.recipes[name].graph for name in group}) > 1]
    if not several:
        return None
    largest = max(several, key=len)
    built = {name: graph_of_experiment(summary, name) for name in summary.experiments if name in largest}
    graphs = {name: graph for name, graph in built.items() if graph is not None}
    found = ComparedGraphs(summary, graphs)
    return found if len(graphs) > 1 and (found.untrained or any(g.maps for g in graphs.values())) else None


def _finer(compared: ComparedGraphs) -> list[str]:
    """Whether spaces of their own keep more of what the first pair shares than one space for all does."""
    pair = compared.pairs[0]
    asked, group = short_direction(_direction(pair)), f"{pair} retention of {pair_modalities(pair)[0]}"
    said = {f"{asked} recall at 1": compared.found(pair, "recall_at_1"), group: compared.kept(pair)}
    sentences = [_against_shared(compared, name, said) for name in compared.graphs]
    return [sentence for sentence in sentences if sentence]


def _against_shared(compared: ComparedGraphs, name: str, said: Mapping[str, Mapping[str, Interval]]) -> str:
    """One experiment beside the one with a single space."""
    base = compared.shared_like(name)
    if base is None or base == name:
        return ""
    parts = [
        f"{what} {_verdict(values[name], values[base])} ({_text(values[name])} against {_text(values[base])})"
        for what, values in said.items()
        if name in values and base in values
    ]
    return f"{name} beside {base}: {' and '.join(parts)}." if parts else ""


def _verdict(one: Interval, other: Interval) -> str:
    """Whether two intervals lie apart."""
    if None in (one.low, one.high, other.low, other.high):
        return "higher" if one.value > other.value else "not higher"
    if one.low > other.high:  # type: ignore[operator]
        return "is higher, intervals apart"
    return "is lower, intervals apart" if one.high < other.low else "is not clearly different"  # type: ignore[operator]


def _untrained_in_words(compared: ComparedGraphs) -> list[str]:
    """Where a pair that was never trained can be asked for all the same."""
    return [said for pair in compared.untrained if (said := _joined_or_not(compared, pair))]


def _joined_or_not(compared: ComparedGraphs, pair: str) -> str:
    """Which graphs find one modality of an untrained pair by the other."""
    metric = next((one for one in reversed(METRICS) if compared.found(pair, one)), None)
    if metric is None:
        return ""
    found, (what, chance_of) = compared.found(pair, metric), METRICS[metric]
    chance = compared.level(pair, chance_of)
    joined = {name: one for name, one in found.items() if _joined(compared, name, pair)}
    apart = {name: one for name, one in found.items() if name not in joined}
    works, fails = _above(joined, chance)
    words = [f"works in {_listed(works)}"] * bool(works) + [f"not clearly in {_listed(fails)}"] * bool(fails)
    words += [f"with {NO_SPACE} it is {_listed(apart)}"] * bool(apart)
    beside = what if chance is None else f"{what}; chance {chance:.4f}"
    return f"{short_direction(_direction(pair))}, never trained as a pair, {'; '.join(words)} ({beside})."


def _above(values: Mapping[str, Interval], chance: float | None) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Those whose whole interval lies above chance, and the others."""
    yes = {name: one for name, one in values.items() if chance is not None and (one.low or 0.0) > chance}
    return yes, {name: one for name, one in values.items() if name not in yes}


def _found_point(compared: ComparedGraphs, pair: str, metric: str) -> str:
    """What all graphs find in one direction, best first, beside chance."""
    found, (what, chance_of) = compared.found(pair, metric), METRICS[metric]
    if not found:
        return ""
    chance = compared.level(pair, chance_of)
    ordered = sorted(found, key=lambda name: -found[name].value)
    marks = {name: "" if _joined(compared, name, pair) else f" ({NO_SPACE})" for name in ordered}
    listed = ", ".join(f"{name} {_text(found[name])}{marks[name]}" for name in ordered)
    beside = "" if chance is None else f"; chance {chance:.4f}"
    trained = "" if pair in compared.pairs else ", never trained"
    return f"{short_direction(_direction(pair))} {what}{trained}: {listed}{beside}."


def _kept_point(compared: ComparedGraphs, pair: str) -> str:
    """Retention of the factors that a pair shares, best first."""
    found = compared.kept(pair)
    if not found:
        return ""
    ordered = sorted(found, key=lambda name: -found[name].value)
    first, second = pair_modalities(pair)
    listed = ", ".join(f"{name} {_text(found[name])}" for name in ordered)
    return f"Of what {first} and {second} share ({pair}), {first} keeps in the space where they meet: {listed}."


def _joined(compared: ComparedGraphs, name: str, pair: str) -> bool:
    """Whether a space joins the two modalities of a pair."""
    return compared.graphs[name].common_space(*pair_modalities(pair)) is not None


def _direction(pair: str) -> str:
    """How a pair is asked."""
    return DIRECTIONS.get(pair) or "->".join(pair_modalities(pair))


def _listed(values: Mapping[str, Interval]) -> str:
    """Experiments with their numbers."""
    return ", ".join(f"{name} {_text(one)}" for name, one in values.items())


def _text(one: Interval) -> str:
    """A mean with its half width."""
    spread = "" if one.low is None or one.high is None else f" ± {(one.high - one.low) / 2:.3f}"
    return f"{one.value:.3f}".replace("-", "−") + spread
