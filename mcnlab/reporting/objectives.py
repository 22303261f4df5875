"""What a study says of objectives: contrast against prediction, and one contrast against another."""

from collections.abc import Sequence
from dataclasses import dataclass

from mcnlab.metrics.statistics import Interval, mean_interval
from mcnlab.reporting.recipe import ALL_PAIRS, ONE_PAIR, PREDICTION, Recipe
from mcnlab.reporting.summary import Column, StudySummary, carriers, factor_groups

HEADING = "Contrast against prediction"
SHARED_GROUPS = ("vat", "va", "vt", "at")
"""Factor groups of the world that several modalities carry."""
PRIVATE_GROUPS = ("v", "a", "t")
"""Factor groups of the world that one modality has for itself."""
RECALL = Column("", "retrieval", ("text->video",), "recall_at_1", trained_only=True)


@dataclass(frozen=True)
class Sides:
    """Experiments that differ in their objective alone."""

    contrast: tuple[str, ...]
    prediction: tuple[str, ...]


def sides(summary: StudySummary) -> Sides | None:
    """The experiments that contrast and prediction are held against each other by.

    Args:
        summary: the study.

    Returns:
        Those with the same pairs, graph, mode and precision as the first that predicts; None where one side is empty.
    """
    known = [name for name in summary.experiments if name in summary.recipes]
    predicting = [name for name in known if summary.recipes[name].family == PREDICTION]
    if not predicting:
        return None
    like = _conditions(summary.recipes[predicting[0]])
    equal = [name for name in known if _conditions(summary.recipes[name]) == like]
    contrast = tuple(name for name in equal if summary.recipes[name].family in (ONE_PAIR, ALL_PAIRS))
    prediction = tuple(name for name in equal if name in predicting)
    return Sides(contrast, prediction) if contrast else None


def margin(summary: StudySummary, column: Column, found: Sides) -> Interval | None:
    """How much more contrast has of a column than prediction.

    Args:
        summary: the study.
        column: what is compared.
        found: the two sides; each counts with the mean of its experiments.

    Returns:
        Mean over the seeds that both have, with its 95 % interval; None where they have none in common.
    """
    values = summary.run_values(column)
    by_side = [[values[name] for name in names if name in values] for names in (found.contrast, found.prediction)]
    if not all(by_side):
        return None
    seeds = sorted(set.intersection(*(set(one) for side in by_side for one in side)))
    means = [[sum(one[seed] for one in side) / len(side) for seed in seeds] for side in by_side]
    return mean_interval([first - second for first, second in zip(*means, strict=True)]) if seeds else None


def objectives_in_words(summary: StudySummary) -> tuple[str, str, tuple[str, ...]] | None:
    """Heading, lead and points on contrast against prediction.

    Args:
        summary: the study.

    Returns:
        None where the study does not hold them against each other, or measured no retention.
    """
    found = sides(summary)
    shared = _pooled(summary, SHARED_GROUPS)
    if found is None or shared is None or (apart := margin(summary, shared, found)) is None:
        return None
    points = [_by_objective(summary, shared, found), _by_group(summary, found), _private(summary, found)]
    return HEADING, _lead(summary, shared, found, apart), tuple(p for p in [*points, _recall(summary, found)] if p)


def _lead(summary: StudySummary, shared: Column, found: Sides, apart: Interval) -> str:
    """The answer in a sentence."""
    contrast, prediction = (_mean(summary, shared, names) for names in (found.contrast, found.prediction))
    count = f"{len(found.contrast)} contrastive objectives" if len(found.contrast) > 1 else found.contrast[0]
    return (
        f"Of the factors that modalities share, {count} keep {_n(contrast)} on average and prediction {_n(prediction)} "
        f"under equal conditions: the margin of contrast is {_signed(apart)}, {_verdict(apart)}."
    )


def _verdict(apart: Interval) -> str:
    """Whether a margin can be told from nothing."""
    if apart.low is None or apart.high is None:
        return "from one seed, so that chance cannot be told from effect"
    if apart.low <= 0.0 <= apart.high:
        return f"which {apart.n} seeds cannot tell from none"
    return f"clear over {apart.n} seeds"


def _by_objective(summary: StudySummary, shared: Column, found: Sides) -> str:
    """Shared factors by objective, best first."""
    intervals = summary.intervals(shared)
    names = [name for name in (*found.contrast, *found.prediction) if name in intervals]
    ordered = sorted(names, key=lambda name: -intervals[name].value)
    return f"Shared factors by objective: {', '.join(f'{name} {_spread(intervals[name])}' for name in ordered)}."


def _by_group(summary: StudySummary, found: Sides) -> str:
    """The margin in every group of shared factors."""
    words = []
    for group in SHARED_GROUPS:
        column = _pooled(summary, (group,))
        if column is not None and (apart := margin(summary, column, found)) is not None:
            words.append(f"{group} {_signed(apart)}")
    return f"Margin of contrast by group of shared factors: {'; '.join(words)}." if words else ""


def _private(summary: StudySummary, found: Sides) -> str:
    """The margin in factors that one modality has for itself."""
    column = _pooled(summary, PRIVATE_GROUPS)
    apart = None if column is None else margin(summary, column, found)
    return "" if apart is None else f"Margin in private factors: {_signed(apart)}."


def _recall(summary: StudySummary, found: Sides) -> str:
    """Retrieval: prediction leaves the modalities in frames of their own."""
    intervals, chance = summary.intervals(RECALL), summary.level("retrieval", "text->video", "chance_at_1")
    names = [name for name in (*found.contrast, *found.prediction) if name in intervals]
    if not names or chance is None:
        return ""
    listed = ", ".join(f"{name} {_spread(intervals[name])}" for name in names)
    return (
        f"T→V recall at 1: {listed} (chance {_n(chance, 3)}). Prediction makes embeddings informative, not comparable: "
        "nothing asks the two modalities to lie in the same directions of their space."
    )


def _pooled(summary: StudySummary, groups: Sequence[str]) -> Column | None:
    """Mean retention over all trained modalities that carry some factor groups; None where the study has none."""
    there = [group for group in factor_groups(summary.subjects("retention")) if group in groups]
    subjects = tuple(f"{modality}:{group}" for group in there for modality in carriers(group))
    return Column("", "retention", subjects, "score", trained_only=True) if subjects else None


def _conditions(recipe: Recipe) -> tuple[object, ...]:
    """What has to be equal."""
    return recipe.pairs, recipe.graph, recipe.mode, recipe.precision, recipe.stages


def _mean(summary: StudySummary, column: Column, names: Sequence[str]) -> float:
    """Mean of a column over some experiments that have it."""
    intervals = summary.intervals(column)
    values = [intervals[name].value for name in names if name in intervals]
    return sum(values) / len(values)


def _spread(interval: Interval) -> str:
    """A mean with its half width."""
    if interval.low is None or interval.high is None:
        return _n(interval.value)
    return f"{_n(interval.value)} ± {_n((interval.high - interval.low) / 2)}"


def _signed(interval: Interval) -> str:
    """A difference with its sign and its interval."""
    value = f"{interval.value:+.3f}"
    if interval.low is not None and interval.high is not None:
        value += f" (95 % interval {interval.low:+.3f} to {interval.high:+.3f})"
    return value.replace("-", "−")


def _n(value: float, digits: int = 2) -> str:
    """A number as text."""
    return f"{value:.{digits}f}".replace("-", "−")
