"""What a trained model knows: embeds the held-out clips, runs the evaluations, writes what the reports read."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save

from mcnlab.data.loading import ClipSource
from mcnlab.data.store import Store
from mcnlab.data.thumbnails import as_png
from mcnlab.data.world import FACTORS, VIEWS, shared_entropy_nats, shared_keys
from mcnlab.evaluation.clusters import evaluate_clusters
from mcnlab.evaluation.embed import embed_together, settle_statistics_together
from mcnlab.evaluation.geometry import evaluate_geometry
from mcnlab.evaluation.information import evaluate_information
from mcnlab.evaluation.retention import evaluate_retention
from mcnlab.evaluation.retrieval import Direction, evaluate_retrieval
from mcnlab.evaluation.rows import ResultRow
from mcnlab.experiment.actions import action_rows
from mcnlab.experiment.build import build_model, build_source
from mcnlab.experiment.checks import class_columns, evaluation_split, usable_factors
from mcnlab.experiment.classify import classify_rows
from mcnlab.experiment.compared import Arrays, across_spaces, compared_arrays
from mcnlab.experiment.example_sounds import keep_example_sounds
from mcnlab.experiment.finetune import finetune_rows
from mcnlab.experiment.heat import localization_rows
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.stills import still_rows
from mcnlab.experiment.tables import write_table
from mcnlab.experiment.term_settings import ContrastSettings
from mcnlab.experiment.transfer import transfer_rows
from mcnlab.experiment.unseen import unseen_rows
from mcnlab.experiment.where import detection_rows, explanation_rows
from mcnlab.files import write_bytes_atomically
from mcnlab.modalities import MODALITIES, in_order, pair_modalities, pair_name
from mcnlab.models.graph import Graph
from mcnlab.models.multimodal import MultimodalModel

JOINT = "joint"
"""Subject of the mean of the trained modalities' embeddings."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out clips of a store, and how a model sees them after training and before."""

    split: str
    source: ClipSource
    untrained: MultimodalModel
    arrays: Arrays
    before: Arrays


def embed_held_out(
    settings: ExperimentSettings, model: MultimodalModel, store: Store, *, seed: int, inputs: Store | None = None
) -> HeldOut:
    """Embed the held-out split of a store; the processes of a run share the work, and all must call it.

    Args:
        settings: the experiment.
        model: trained, the same on all processes.
        store: the clips.
        seed: of the run; draws the untrained model.
        inputs: the store that the model was made for, where that is another one.

    Returns:
        What `measure` looks at.

    Raises:
        DataError: the split does not exist.
        RankError: a process was lost.
    """
    split = evaluation_split(settings, store)
    source = build_source(settings, store, split, shuffle_seed=None)
    first = build_model(settings, inputs or store, seed=seed)
    settle_statistics_together(first, source)
    arrays, before = (embed_together(net, source) for net in (model, first))
    return HeldOut(split, source, first, arrays, before)


def measure(
    settings: ExperimentSettings,
    model: MultimodalModel,
    store: Store,
    folder: Path | None,
    *,
    seed: int,
    inputs: Store | None = None,
    name: str = "own",
    held_out: HeldOut | None = None,
) -> list[dict[str, Any]]:
    """Evaluate a model on the held-out split of a store, beside the same model before training.

    Writes `embeddings.safetensors`, `clips.parquet`, `ranks.parquet`, `sounds.parquet` and, for the task actions,
    `actions.json` into the run folder.

    Args:
        settings: the experiment.
        model: trained.
        store: the clips.
        folder: the run folder; None writes nothing.
        seed: of the run; draws the untrained model, the folds, the resampling.
        inputs: the store that the model was made for, where that is another one.
        name: of the store in `evaluation.queries_total`.
        held_out: what `embed_held_out` gave for it; None embeds here, which one of several processes must not.

    Returns:
        Rows of results without experiment and seed.

    Raises:
        DataError: the split does not exist, or its labels cannot be scored.
    """
    if held_out is None:
        held_out = embed_held_out(settings, model, store, seed=seed, inputs=inputs)
    source, arrays, before = held_out.source, held_out.arrays, held_out.before
    tasks, rows = settings.evaluation.tasks, list[ResultRow]()
    if "retrieval" in tasks:
        asked, asked_before = (
            directions(model.graph, x, source.clips, store, trained=settings.trained_modalities)
            for x in (arrays, before)
        )
        found = evaluate_retrieval(
            asked,
            untrained=asked_before,
            labels=label_column(source.clips),
            videos=videos_of(store, source.clips) if settings.evaluation.by_video else None,
            queries_total=settings.evaluation.queries_total.get(name),
            seed=seed,
        )
        rows += found.rows
        if folder is not None:
            write_table(folder / "ranks.parquet", found.ranks)
    rows += space_rows(settings, model.graph, arrays, before, source.clips, seed=seed)
    if "bound" in tasks:
        rows += information_rows(settings, model.graph, arrays, before, store, seed=seed)
    if "actions" in tasks:
        rows += action_rows(settings, model, held_out.untrained, store, held_out.split, folder, seed=seed)
    if "transfer" in tasks:
        rows += transfer_rows(settings, model, held_out.untrained, store, held_out.split, seed=seed)
    if "finetune" in tasks:
        rows += finetune_rows(settings, model, held_out.untrained, store, held_out.split, seed=seed)
    if "stills" in tasks:
        rows += still_rows(settings, model, held_out.untrained, store, held_out.split, seed=seed)
    if "classify" in tasks:
        rows += classify_rows(settings, model, held_out.untrained, inputs or store, source, seed=seed)
    if "unseen" in tasks:
        rows += unseen_rows(settings, model, held_out.untrained, store, held_out.split, folder, seed=seed)
    by_place = {"detection": detection_rows, "explanation": explanation_rows, "localization": localization_rows}
    for task, rows_by_place in by_place.items():
        if task in tasks:
            rows += rows_by_place(settings, model, held_out.untrained, store, source, folder, seed=seed)
    if folder is not None:
        known = subjects(model.graph, arrays, settings.trained_modalities)
        write_embeddings(folder / "embeddings.safetensors", known)
        write_table(folder / "clips.parquet", clip_table(source))
        if "retrieval" in tasks:
            keep_example_sounds(folder, settings, store, source.clips)
    return [asdict(row) for row in rows]


def space_rows(
    settings: ExperimentSettings, graph: Graph, arrays: Arrays, before: Arrays, clips: pd.DataFrame, *, seed: int
) -> list[ResultRow]:
    """Clusters, retention and geometry, as far as the settings name them."""
    tasks, rows = settings.evaluation.tasks, list[ResultRow]()
    if not {"clusters", "retention", "geometry"} & set(tasks):
        return rows
    known, untrained = (subjects(graph, x, settings.trained_modalities) for x in (arrays, before))
    if "clusters" in tasks:
        rows += cluster_rows(known, untrained, clips, clusters=settings.evaluation.clusters, seed=seed)
    if "retention" in tasks:
        rows += retention_rows(known, untrained, clips, usable_factors(settings, clips), seed=seed)
    if "geometry" in tasks:
        rows += evaluate_geometry(*geometry_parts(graph, arrays, settings.trained_modalities))
    return rows


def subjects(graph: Graph, arrays: Arrays, trained: Sequence[str]) -> dict[str, np.ndarray]:
    """What retention and clusters look at: each trained modality, each of its spaces, and all of them joined.

    In one space `joint` is the mean of a clip's embeddings, as the clustering term fuses them; in several spaces a
    modality is the concatenation of its spaces, and `joint` the concatenation of the spaces' means.
    """
    found: dict[str, np.ndarray] = {}
    for modality in in_order(trained):
        found |= subjects_of(graph, arrays, modality)
    means = [
        mean_of_present([arrays[m, space] for m in members if m in trained]) for space, members in graph.members.items()
    ]
    return {**found, JOINT: np.concatenate(means, axis=1)}


def subjects_of(graph: Graph, arrays: Arrays, modality: str) -> dict[str, np.ndarray]:
    """What `subjects` calls one modality: each of its spaces where there are several, and all of them side by side."""
    own = [(space, arrays[modality, space]) for space in graph.spaces_of(modality)]
    apart = {graph.subject(modality, space): x for space, x in own} if len(own) > 1 else {}
    return {**apart, modality: np.concatenate([x for _, x in own], axis=1)}


def mean_of_present(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the arrays, row by row, of those that are not NaN there; NaN where all are."""
    stacked = np.stack(arrays)  # (arrays, clips, dim)
    present = ~np.isnan(stacked[:, :, 0])
    total = np.where(present[:, :, None], stacked, 0).sum(axis=0)
    count = present.sum(axis=0)[:, None]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def directions(
    graph: Graph, arrays: Arrays, clips: pd.DataFrame, store: Store, *, trained: Sequence[str] = MODALITIES
) -> list[Direction]:
    """Every way of asking that the graph allows: one modality for another; with three of them also one for two, and two
    for one. Of further views only the trained ones take part.

    Where no space joins two modalities they are compared across spaces, and are found to be at chance.
    """
    modalities = [m for m in in_order((*MODALITIES, *trained)) if graph.spaces_of(m)]
    single = [((a,), (b,)) for a, b in itertools.permutations(modalities, 2)]
    double = [((a,), tuple(m for m in modalities if m != a)) for a in modalities] if len(modalities) == 3 else []
    sides = [*single, *double, *((gallery, query) for query, gallery in double)]
    found = []
    for query, gallery in sides:
        compared = compared_arrays(graph, arrays, query, gallery)
        if compared is None and len(query) == len(gallery) == 1:
            compared = across_spaces(graph, arrays, query[0], gallery[0])
        if compared is not None and bool((~np.isnan(compared[0]) & ~np.isnan(compared[1])).any()):
            keys = np.array(shared_keys(clips, query, gallery)) if knows_causes(store, *query, *gallery) else None
            found.append(Direction(f"{'+'.join(query)}->{'+'.join(gallery)}", *compared, keys))
    return found


def knows_causes(store: Store, *modalities: str) -> bool:
    """Whether the clips come from the narrated world, where it is known what its modalities share."""
    known = all(modality in (*MODALITIES, *VIEWS) for modality in modalities)
    return known and all(name in store.factors for name in FACTORS)


def videos_of(store: Store, clips: pd.DataFrame) -> np.ndarray:
    """Per clip the name of its video: what the importer noted as such, else the recording."""
    names = {row: str(store.media(row).get("video") or store[row].id) for row in clips["recording"].unique().tolist()}
    return clips["recording"].map(names).to_numpy(dtype=object)


def label_column(clips: pd.DataFrame) -> np.ndarray | None:
    """The clips' labels, when there is more than one class of them."""
    return clips["label"].to_numpy() if clips["label"].nunique() > 1 else None


def cluster_rows(
    known: Mapping[str, np.ndarray],
    untrained: Mapping[str, np.ndarray],
    clips: pd.DataFrame,
    *,
    clusters: int | None,
    seed: int,
) -> list[ResultRow]:
    """Purity, NMI and ARI of every subject against every class column; subjects say `video:command` for a factor."""
    rows: list[ResultRow] = []
    for column, classes in class_columns(clips).items():
        ending = "" if column == "label" else f":{column}"
        named, named_before = ({f"{s}{ending}": x for s, x in group.items()} for group in (known, untrained))
        rows += evaluate_clusters(
            named, classes, untrained=named_before, column=column, clusters=clusters, seed=seed
        ).rows
    return rows


def retention_rows(
    known: Mapping[str, np.ndarray],
    untrained: Mapping[str, np.ndarray],
    clips: pd.DataFrame,
    factors: Mapping[str, np.ndarray],
    *,
    seed: int,
) -> Sequence[ResultRow]:
    """How much of every factor can be read back; folds keep a recording together."""
    if not factors:
        return []
    return evaluate_retention(known, factors, clips["recording"].to_numpy(), untrained=untrained, seed=seed).rows


def geometry_parts(
    graph: Graph, arrays: Arrays, trained: Sequence[str]
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, np.ndarray]]:
    """The pairs and the modalities whose places in space are described."""
    pairs = {}
    for a, b in itertools.combinations(in_order(trained), 2):
        space = graph.common_space(a, b)
        if space is not None and bool((~np.isnan(arrays[a, space]) & ~np.isnan(arrays[b, space])).any()):
            pairs[f"{a}-{b}"] = (arrays[a, space], arrays[b, space])
    own = {graph.subject(m, space): x for (m, space), x in arrays.items() if m in trained}
    return pairs, own


def information_rows(
    settings: ExperimentSettings, graph: Graph, arrays: Arrays, before: Arrays, store: Store, *, seed: int
) -> Sequence[ResultRow]:
    """What the trained modalities share at least, pair by pair, beside what is known that they share."""
    trained = settings.trained_modalities
    after, untrained = (
        {pair_name(*pair_modalities(named)): sides for named, sides in geometry_parts(graph, x, trained)[0].items()}
        for x in (arrays, before)
    )
    contrast = settings.terms.contrast or ContrastSettings()
    shared = {pair: known_information(store, *pair_modalities(pair)) for pair in after}
    return evaluate_information(
        after,
        temperature=contrast.temperature,
        untrained=untrained,
        shared_nats={pair: nats for pair, nats in shared.items() if nats is not None},
        seed=seed,
    )


def known_information(store: Store, first: str, second: str) -> float | None:
    """The mutual information of two modalities, where causes are known and are told as they are.

    Args:
        store: the clips.
        first: a modality.
        second: another one.

    Returns:
        Nats, see `shared_entropy_nats`; None where it is not known: for other data, for a continuous factor that both
        carry whole, and for narration that leaves words out, comes late or does not match.
    """
    world = store.info.get("world", {})
    disturbed = any(world.get(name) for name in ("noise_text", "narration_lag_s", "mismatch"))
    if not knows_causes(store, first, second) or disturbed:
        return None
    return shared_entropy_nats(first, second)


def clip_table(source: ClipSource) -> pd.DataFrame:
    """The evaluated clips as the reports show them, with a small picture each."""
    table = source.clips.copy()
    pictures = [source.store.thumbnail(int(place)) for place in table.index]
    table["thumbnail"] = [None if picture is None else as_png(picture) for picture in pictures]
    return table.reset_index(drop=True)


def write_embeddings(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Put embeddings in place, as float16: what pictures need; every metric was computed before, in float32."""
    write_bytes_atomically(path, save({name: x.astype(np.float16) for name, x in arrays.items()}))
