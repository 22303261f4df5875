"""What a study of missing modalities found: retrieval and retention against the share of clips that lack one."""

from collections.abc import Callable, Mapping

from mcnlab.reporting.recipe import Recipe
from mcnlab.reporting.summary import Column, StudySummary, short_direction

MEASURED = (
    Column("T→V recall at 1", "retrieval", ("text->video",), "recall_at_1"),
    Column("V→A recall at 1", "retrieval", ("video->audio",), "recall_at_1"),
    Column("of what video and text share, the video embedding keeps", "retention", ("video:vt",), "score"),
    Column("of what video and audio share, the video embedding keeps", "retention", ("video:va",), "score"),
)
"""What is listed for every share, where the study has it."""


def shares_of(summary: StudySummary) -> dict[str, dict[float, str]]:
    """The experiments that differ in a modality's share of clips without it.

    Args:
        summary: the study.

    Returns:
        By modality: share, rising, to experiment; only modalities that some experiment misses. The share 0 is the
        first experiment that misses nothing and shuffles nothing.
    """
    plain = next((name for name, one in summary.recipes.items() if not one.missing and not one.shuffled), None)
    found: dict[str, dict[float, str]] = {}
    for name in summary.experiments:
        recipe = summary.recipes.get(name, Recipe(()))
        if len(recipe.missing) == 1 and not recipe.shuffled:
            modality, share = recipe.missing[0]
            found.setdefault(modality, {}).setdefault(share, name)
    whole: dict[float, str] = {} if plain is None else {0.0: plain}
    return {modality: dict(sorted({**whole, **named}.items())) for modality, named in found.items()}


def missing_lines(
    summary: StudySummary, modality: str, named: Mapping[float, str], *, in_words: Callable[[Column, str], str]
) -> list[str]:
    """One sentence for every number: its value at every share, and chance or what it was before training.

    Args:
        summary: the study.
        modality: that is missing.
        named: share to experiment.
        in_words: a column's mean with its interval, in an experiment.

    Returns:
        Sentences; empty where the study measured none of it.
    """
    lines = []
    for column in MEASURED:
        known = summary.intervals(column)
        values = [f"{share:.0%} {in_words(column, name)}" for share, name in named.items() if name in known]
        if len(values) > 1:
            subject = column.subjects[0]
            retrieval = column.task == "retrieval"
            level = summary.level(column.task, subject, "chance_at_1" if retrieval else "untrained")
            beside = "" if level is None else f" ({'chance' if retrieval else 'before training'} {level:.3f})"
            lines.append(f"{column.title}, by share of clips without {modality}: {', '.join(values)}{beside}.")
    return lines


def missing_lead(
    summary: StudySummary, modality: str, named: Mapping[float, str], *, in_words: Callable[[Column, str], str]
) -> str:
    """The answer in a sentence: the least and the largest share beside each other.

    Args:
        summary: the study.
        modality: that is missing.
        named: share to experiment.
        in_words: a column's mean with its interval, in an experiment.

    Returns:
        The sentence; a shorter one where the study has not both ends.
    """
    least, most = min(named), max(named)
    words = []
    for column in MEASURED[:2]:
        known = summary.intervals(column)
        if named[least] in known and named[most] in known and least != most:
            direction = short_direction(column.subjects[0])
            words.append(f"{direction} from {in_words(column, named[least])} to {in_words(column, named[most])}")
    if not words:
        return f"Numbers by share of training clips without {modality}:"
    return (
        f"From {least:.0%} to {most:.0%} of the training clips without {modality}, recall at 1 goes {'; '.join(words)}."
    )
