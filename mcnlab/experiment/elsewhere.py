"""Zero-shot: the same model asked about the held-out clips of other stores than the one that it was trained on."""

from dataclasses import asdict
from typing import Any

from mcnlab.batch import MODALITIES
from mcnlab.data.loading import input_dim
from mcnlab.data.store import Store, open_store
from mcnlab.errors import DataError
from mcnlab.evaluation.embed import embed_source, settle_statistics
from mcnlab.evaluation.retrieval import evaluate_retrieval
from mcnlab.experiment.actions import action_rows, has_step_lists
from mcnlab.experiment.build import build_model, build_source, chosen_tracks
from mcnlab.experiment.checks import evaluation_split
from mcnlab.experiment.measure import directions, label_column, videos_of
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.multimodal import MultimodalModel


def check_elsewhere(settings: ExperimentSettings, store: Store) -> None:
    """Refuse other stores that the model could not read, before it is trained.

    Args:
        settings: the experiment; `evaluation.also` names the stores.
        store: what it is trained on.

    Raises:
        DataError: one is not there, has no held-out split, or has features of other widths.
    """
    for name, path in settings.evaluation.also.items():
        other = open_store(path)
        evaluation_split(settings, other)
        for modality in (m for m in MODALITIES if m in settings.trained_modalities and m in other.modalities):
            here, there = (input_dim(chosen_tracks(settings, one), modality) for one in (store, other))
            if here != there:
                raise DataError(
                    f"{path}: evaluation.also.{name}: {modality} is {there} wide, but {here} wide in {store.path}"
                )


def measure_elsewhere(
    settings: ExperimentSettings, model: MultimodalModel, store: Store, *, seed: int
) -> list[dict[str, Any]]:
    """Retrieval, and the search for steps where there are lists of them, on every store that `evaluation.also` names.

    Args:
        settings: the experiment.
        model: trained.
        store: what it was trained on.
        seed: of the run.

    Returns:
        Rows of results of the held-out splits, without experiment and seed; their task is `retrieval@NAME`, or
        `actions@NAME`.

    Raises:
        DataError: as `check_elsewhere`.
    """
    check_elsewhere(settings, store)
    rows: list[dict[str, Any]] = []
    for name, path in settings.evaluation.also.items():
        other = open_store(path)
        split = evaluation_split(settings, other)
        source = build_source(settings, other, split, shuffle_seed=None)
        first = build_model(settings, store, seed=seed)
        settle_statistics(first, source)
        asked, before = (
            directions(net.graph, embed_source(net, source), source.clips, other) for net in (model, first)
        )
        found = evaluate_retrieval(
            asked,
            untrained=before,
            labels=label_column(source.clips),
            videos=videos_of(other, source.clips) if settings.evaluation.by_video else None,
            queries_total=settings.evaluation.queries_total.get(name),
            seed=seed,
        )
        steps = (
            action_rows(settings, model, first, other, split, None, seed=seed) if has_step_lists(other, split) else ()
        )
        rows += [{**asdict(row), "task": f"{row.task}@{name}"} for row in (*found.rows, *steps)]
    return rows
