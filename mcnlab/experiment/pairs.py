"""Modalities, pairs and stages as people write them: short forms, and names such as `AV_T`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from mcnlab.modalities import (
    MODALITIES,
    NAME,
    in_order,
    pair_modalities,
    pair_name,
    pairs_among,
    pairs_with,
)

FIRST_STAGE_SHARE = 2 / 3
"""Part of the epochs that the first of two stages gets: 20 of 30, as in the study of MCN's stages."""


def _usual_spelling(pair: str) -> str:
    """A pair as results call it: `va` for `av` and `video-audio`."""
    try:
        return pair_name(*pair_modalities(pair))
    except KeyError as error:
        raise ValueError("expected two initials as in va, or two names as in video-depth") from error


Pair = Annotated[str, AfterValidator(_usual_spelling)]
Modality = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
PAIRS = pairs_among(MODALITIES)
"""All pairs of the usual modalities, in the order of results."""
FULL_GRAPH, CORE_VIEW = "full", "core:"
"""Short forms of pairs: every view with every other; one view with each of the others."""


def names_in(values: object) -> tuple[str, ...]:
    """What may be names in an unchecked list; nothing where it is none."""
    known = values if isinstance(values, Sequence) and not isinstance(values, str) else ()
    return in_order(name for name in known if isinstance(name, str) and NAME.fullmatch(name))


def modalities_of_stages(stages: object) -> tuple[str, ...]:
    """Modalities of all unchecked stages."""
    found: list[str] = []
    for stage in stages if isinstance(stages, Sequence) and not isinstance(stages, str) else ():
        own = stage.get("modalities") if isinstance(stage, Mapping) else getattr(stage, "modalities", ())
        found += names_in(own)
    return in_order(found)


def with_pairs(values: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """Unchecked settings whose pairs are written out."""
    pairs = values.get("pairs")
    return {**values, "pairs": written_pairs(pairs, modalities)} if isinstance(pairs, str) else dict(values)


def written_pairs(short: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """The pairs that a short form means.

    Args:
        short: `full`: every view with every other. `core:video`: video with each of the others.
        modalities: those that take part.

    Returns:
        Pairs in the order of results. With two modalities both forms mean the same.

    Raises:
        ValueError: it is no short form, or its core takes no part.

    Source: Tian, Krishnan, Isola (ECCV 2020), arXiv 1906.05849, section 3.3: core view and full graph.

    Example:
        >>> written_pairs("core:video", ["video", "depth", "flow"])
        ('video-depth', 'video-flow')
    """
    if short == FULL_GRAPH:
        return pairs_among(modalities)
    core = short.removeprefix(CORE_VIEW)
    if core == short:
        raise ValueError(f"pairs: expected a list of pairs, full, or core:video; got {short!r}")
    if core not in modalities:
        raise ValueError(f"pairs: {short}: {core!r} is not among the modalities {', '.join(modalities)}")
    return pairs_with(core, modalities)


def named_stages(name: str, epochs: int) -> list[dict[str, Any]]:
    """The stages that a name means: initials that train together, then what joins them.

    Args:
        name: `VT`, `VAT`, `AV_T`, …
        epochs: of all stages together; the first of two gets two thirds.

    Returns:
        Stages as plain settings.

    Raises:
        ValueError: the name does not spell modalities.

    Example:
        >>> [stage["epochs"] for stage in named_stages("AV_T", 30)]
        [20, 10]
    """
    by_initial = {modality[0].upper(): modality for modality in MODALITIES}
    groups = name.split("_")
    initials = "".join(groups)
    if (
        len(groups) > 2
        or not all(groups)
        or len(set(initials)) != len(initials)
        or not set(initials) <= set(by_initial)
    ):
        raise ValueError(f"stages: expected initials such as VT, VAT or AV_T, or a list of stages; got {name!r}")
    joined = [by_initial[initial] for initial in initials]
    if len(groups) == 1:
        return [{"epochs": epochs, "modalities": joined}]
    first = max(1, round(epochs * FIRST_STAGE_SHARE))
    return [
        {"epochs": first, "modalities": [by_initial[initial] for initial in groups[0]]},
        {"epochs": max(1, epochs - first), "modalities": joined},
    ]
