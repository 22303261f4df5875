"""Aligned maps of the same clips in every experiment: which clips stand where, and how far to trust it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from mcnlab.modalities import MODALITIES, in_order
from mcnlab.reporting.layout import DEFAULT, MapSettings
from mcnlab.reporting.projection import FEWEST_CLIPS, Maps, aligned_maps, stratified_sample
from mcnlab.reporting.summary import StudySummary
from mcnlab.runs import RunFolder

MOST_POINTS, MOST_CLIPS, FEWEST_SHOWN = 8_000, 400, 60
"""Points of all maps together, and clips per map: what a browser draws and a person reads without waiting."""
STACK = "modalities"
"""Name of the maps on which every clip stands once per modality."""
MOST_STACKED = 80
"""Clips per map when every clip stands on it once per modality."""
JOINT = "joint"


@dataclass(frozen=True)
class StudyMaps:
    """The maps of a study with their clips."""

    clips: pd.DataFrame
    """The clips that are drawn: id, caption, label, factors, thumbnail."""
    panels: Mapping[str, tuple[str, ...]]
    """Modality (or `joint`) → experiments that have a map of it."""
    embeddings: Mapping[str, np.ndarray]
    """What is drawn, named `modality of experiment`, see `map_name`; rows as in `clips`."""
    maps: Maps
    """Named the same; `modalities of experiment` holds the clips `few` once per modality."""
    few: Int[np.ndarray, " few"]
    """Rows of `clips` that stand on the maps of all modalities."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that stand on such a map, those that nobody trained among them."""
        return _stacked(self.panels)


def map_name(modality: str, experiment: str) -> str:
    """Key of a map.

    Example:
        >>> map_name("video", "V+T")
        'video of V+T'
    """
    return f"{modality} of {experiment}"


def study_maps(
    summary: StudySummary,
    *,
    seed: int | None = None,
    settings: MapSettings = DEFAULT,
    cache: Path | None = None,
) -> StudyMaps | None:
    """Lay out the embeddings of one run per experiment, all maps aligned with each other.

    Args:
        summary: the study.
        seed: whose runs are drawn; the smallest seed of each experiment when None.
        settings: of the layout.
        cache: folder where positions are kept.

    Returns:
        The maps; None when fewer than 8 clips were evaluated, or nothing was.
    """
    runs = {row.experiment: RunFolder(row.folder) for row in reversed(summary.finished(seed=seed))}
    runs = {name: runs[name] for name in summary.experiments if name in runs and _has_embeddings(runs[name])}
    if not runs:
        return None
    clips = next(iter(runs.values())).clips()
    alike = {name: run for name, run in runs.items() if run.clip_ids() == list(clips["id"])}
    found = {name: run.embeddings() for name, run in alike.items()}
    panels = _panels({name: whole_embeddings(own) for name, own in found.items()})
    if len(clips) < FEWEST_CLIPS or not panels:
        return None
    most = max(FEWEST_SHOWN, min(MOST_CLIPS, MOST_POINTS // sum(map(len, panels.values()))))
    rows = stratified_sample(list(clips["label"]), most=most)
    drawn = clips.iloc[rows].reset_index(drop=True)
    single = {
        map_name(m, name): whole_embeddings(found[name])[m][rows] for m, names in panels.items() for name in names
    }
    few = np.arange(0, len(rows), math.ceil(len(rows) / MOST_STACKED))
    shared = {name: own for name, own in found.items() if _one_space(own)}
    stacks = {map_name(STACK, name): _stack(own, rows[few], _stacked(panels)) for name, own in shared.items()}
    ids = {key: list(drawn["id"]) for key in single}
    ids |= {key: _stack_ids(list(drawn["id"].iloc[few]), _stacked(panels)) for key in stacks}
    maps = aligned_maps({**single, **stacks}, ids=ids, settings=settings, cache=cache)
    return StudyMaps(drawn, panels, single, maps, few)


def whole_embeddings(embeddings: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One embedding per modality: those of several spaces are set side by side.

    Example:
        >>> list(whole_embeddings({"video@va": np.zeros((2, 3)), "video@vt": np.zeros((2, 3))}))
        ['video']
    """
    whole: dict[str, np.ndarray] = {}
    for modality in _kinds(embeddings):
        own = [values for name, values in sorted(embeddings.items()) if name.split("@")[0] == modality]
        plain = embeddings.get(modality)
        if own:
            whole[modality] = plain if plain is not None else np.concatenate(own, axis=1)
    return whole


def trust_table(maps: StudyMaps, modalities: Sequence[str]) -> pd.DataFrame:
    """Trustworthiness and neighbor overlap of every map.

    Args:
        maps: the study's maps.
        modalities: rows of which modalities.

    Returns:
        A row per map.
    """
    rows = [
        {
            "embedding": modality,
            "experiment": experiment,
            "trustworthiness (1 is best)": round(maps.maps.trust[map_name(modality, experiment)], 3),
            "neighbor overlap (share)": round(maps.maps.overlap[map_name(modality, experiment)], 3),
        }
        for modality in modalities
        for experiment in maps.panels[modality]
    ]
    return pd.DataFrame(rows).set_index(["embedding", "experiment"])


def trust_summary(maps: StudyMaps | None) -> dict[str, float | int | str]:
    """How far to trust all maps together.

    Args:
        maps: the study's maps; None when there are none.

    Returns:
        Number of maps and clips, means of trustworthiness and neighbor overlap, and the least trusted map.
    """
    if maps is None:
        return {"maps": 0, "clips": 0, "trustworthiness": 0.0, "neighbor_overlap": 0.0, "least_trusted": "none"}
    trust, overlap = maps.maps.trust, maps.maps.overlap
    worst = min(trust, key=lambda key: trust[key])
    return {
        "maps": len(trust),
        "clips": len(maps.clips),
        "trustworthiness": sum(trust.values()) / len(trust),
        "neighbor_overlap": sum(overlap.values()) / len(overlap),
        "least_trusted": f"{worst} ({trust[worst]:.3f})",
    }


def _has_embeddings(run: RunFolder) -> bool:
    """Whether a run was embedded."""
    return (run.path / "embeddings.safetensors").exists() and (run.path / "clips.parquet").exists()


def _panels(found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, tuple[str, ...]]:
    """Modality → experiments that have an embedding of it."""
    known = _kinds(name for own in found.values() for name in own)
    return {m: tuple(name for name, own in found.items() if m in own) for m in known}


def _kinds(names: Iterable[str]) -> tuple[str, ...]:
    """What embeddings are of: modalities in the usual order, then `joint`."""
    kinds = {name.split("@")[0] for name in names}
    return (*in_order(kinds - {JOINT}), *([JOINT] if JOINT in kinds else []))


def _stacked(panels: Mapping[str, object]) -> tuple[str, ...]:
    """Modalities of the maps on which every clip stands once per modality."""
    return in_order([*MODALITIES, *(name for name in panels if name != JOINT)])


def _one_space(embeddings: Mapping[str, np.ndarray]) -> bool:
    """Whether two or more modalities live in the same single space."""
    own = [values for name, values in embeddings.items() if "@" not in name and name != JOINT]
    apart = any("@" in name for name in embeddings)
    return len(own) > 1 and not apart and len({values.shape[1] for values in own}) == 1


def _stack(embeddings: Mapping[str, np.ndarray], rows: np.ndarray, modalities: Sequence[str]) -> np.ndarray:
    """Rows of all modalities below each other; NaN for a modality that was not trained."""
    width = next(embeddings[name].shape[1] for name in modalities if name in embeddings)
    empty = np.full((len(rows), width), np.nan, dtype=np.float16)
    return np.concatenate([embeddings[name][rows] if name in embeddings else empty for name in modalities])


def _stack_ids(ids: Sequence[str], modalities: Sequence[str]) -> list[str]:
    """What the rows of a stack are."""
    return [f"{one} {modality}" for modality in modalities for one in ids]
