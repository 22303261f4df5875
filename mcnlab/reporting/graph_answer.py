"""What a study of graphs found, in words: the fine detail that each keeps, and who can still be compared."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from mcnlab.metrics.statistics import Interval, mean_interval
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
        return self._known({name: Column("", "retrieval", (_direction(pair),), metric) for name in self.graphs})

    def level(self, pair: str, metric: str) -> float | None:
        """What all experiments share of a pair's direction, such as chance."""
        return self.summary.level("retrieval", _direction(pair), metric)

    def kept(self, pair: str) -> dict[str, Interval]:
        """What the first modality of a pair keeps of the factors that the two share, in the space where they meet."""
        return self._known(self.kept_in(pair))

    def kept_in(self, pair: str) -> dict[str, Column]:
        """By experiment, where `kept` stands."""
        modality = pair_modalities(pair)[0]
        homes = {name: graph.subject(modality, graph.space_of_pair[pair]) for name, graph in self.graphs.items()}
        return {name: Column("", "retention", (f"{home}:{pair}",), "score") for name, home in homes.items()}

    def more(self, name: str, base: str, columns: Mapping[str, Column]) -> Interval | None:
        """How much more one experiment has than another in equal seeds, which means equal first weights and batches.

        Args:
            name: the one.
            base: the other.
            columns: by experiment, what is compared.

        Returns:
            Mean difference with its 95 % interval; None with fewer than two common seeds.
        """
        ours, theirs = (self.summary.run_values(columns[one]).get(one, {}) for one in (name, base))
        seeds = sorted(ours.keys() & theirs.keys())
        return mean_interval([ours[seed] - theirs[seed] for seed in seeds]) if len(seeds) > 1 else None

    def _known(self, columns: Mapping[str, Column]) -> dict[str, Interval]:
        """The intervals of those experiments that have their column."""
        found = {name: self.summary.intervals(column).get(name) for name, column in columns.items()}
        return {name: one for name, one in found.items() if one is not None}


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
    recall = {name: Column("", "retrieval", (_direction(pair),), "recall_at_1") for name in compared.graphs}
    columns = {f"{asked} recall at 1": recall, group: compared.kept_in(pair)}
    sentences = [_against_shared(compared, name, columns) for name in compared.graphs]
    return [sentence for sentence in sentences if sentence]


def _against_shared(compared: ComparedGraphs, name: str, columns: Mapping[str, Mapping[str, Column]]) -> str:
    """One experiment beside the one with a single space."""
    base = compared.shared_like(name)
    if base is None or base == name:
        return ""
    parts = []
    for what, where in columns.items():
        own, other = (compared.summary.intervals(where[one]).get(one) for one in (name, base))
        if own is not None and other is not None:
            verdict = _verdict(own, other, compared.more(name, base, where))
            parts.append(f"{what} {verdict} ({_text(own)} against {_text(other)})")
    return f"{name} beside {base}: {' and '.join(parts)}." if parts else ""


def _verdict(one: Interval, other: Interval, more: Interval | None) -> str:
    """Whether two intervals lie apart, or else the difference in equal seeds from 0."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return "higher" if one.value > other.value else "not higher"
    if one.low > other.high:
        return "is higher, intervals apart"
    if one.high < other.low:
        return "is lower, intervals apart"
    if more is None or more.low is None or more.high is None or more.low <= 0 <= more.high:
        return "is not clearly different"
    way = "higher" if more.value > 0 else "lower"
    size = _text(Interval(abs(more.value), more.low, more.high, more.n))
    return f"is {way} in equal seeds by {size}, though the intervals overlap"


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
