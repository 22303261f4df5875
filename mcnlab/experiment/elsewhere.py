"""Zero-shot: the same model asked about the held-out clips of other stores than the one that it was trained on."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mcnlab.data.loading import input_dim
from mcnlab.data.raw_frames import frame_shape
from mcnlab.data.store import Store, open_store
from mcnlab.distributed import from_first
from mcnlab.errors import DataError
from mcnlab.experiment.actions import has_step_lists
from mcnlab.experiment.checks import check_held_out, check_modalities, evaluation_split
from mcnlab.experiment.measure import HeldOut, embed_held_out, measure
from mcnlab.experiment.mixed import chosen_tracks, opened_stores
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.multimodal import MultimodalModel

EVERY_MODALITY = frozenset({"clusters", "retention", "geometry"})
"""Tasks that need all modalities that were trained; the others make do with those that are there."""


def check_elsewhere(settings: ExperimentSettings, store: Store) -> None:
    """Refuse other stores that the model could not read, before it is trained.

    Args:
        settings: the experiment; `evaluation.also` names the stores.
        store: what it is trained on.

    Raises:
        DataError: one is not there, has no held-out split, or has features of other widths.
    """
    for path in settings.evaluation.also.values():
        other = open_store(path)
        evaluation_split(settings, other)
        check_widths(settings, store, other)


def other_stores(settings: ExperimentSettings) -> dict[str, Store]:
    """The stores whose own held-out clips are measured by name: those that are mixed, then those of `evaluation.also`.

    Args:
        settings: the experiment.

    Returns:
        By name, opened; a store that is mixed in but has no held-out split is left out.

    Raises:
        DataError: one is not there.
    """
    held_out = [settings.evaluation.split] if settings.evaluation.split else ["test", "val"]
    mixed = opened_stores(settings)
    also = {name: open_store(path) for name, path in settings.evaluation.also.items()}
    return {name: one for name, one in mixed.items() if any(map(one.splits.get, held_out))} | also


def evaluated_stores(settings: ExperimentSettings, store: Store) -> dict[str, dict[str, Any]]:
    """All stores that a run is measured on, for whoever reads its numbers.

    Args:
        settings: the experiment.
        store: what it is trained on; its own held-out clips are called `own`.

    Returns:
        By the name that results use after `@`: store, split, clips in it, fingerprint, path.
    """
    stores = {"own": store, **other_stores(settings)}
    found = {}
    for name, one in stores.items():
        split = evaluation_split(settings, one)
        found[name] = {
            "store": one.name,
            "split": split,
            "clips": one.splits[split],
            "fingerprint": one.fingerprint,
            "path": str(one.path),
        }
    return found


def check_widths(settings: ExperimentSettings, store: Store, other: Store) -> None:
    """Refuse a store whose features or word vectors have other widths than a model was made for.

    Args:
        settings: the experiment.
        store: what the model was made for.
        other: what it should read.

    Raises:
        DataError: a width differs; both stores and the modality are named.
    """
    for modality in (m for m in store.modalities if m in other.modalities):
        if modality == "video":
            _check_frames(*(chosen_tracks(settings, one) for one in (store, other)))
        here, there = (input_dim(chosen_tracks(settings, one), modality) for one in (store, other))
        if here != there:
            raise DataError(f"{other.path}: its {modality} is {there} wide, but {here} wide in {store.path}")


def _check_frames(store: Store, other: Store) -> None:
    """Raise where frames have another shape, or stand against features."""
    here, there = frame_shape(store), frame_shape(other)
    if here != there:
        raise DataError(f"{other.path}: its frames (channels, height, width) are {there}, but {here} in {store.path}")


def embed_everywhere(
    settings: ExperimentSettings, model: MultimodalModel, store: Store, *, seed: int
) -> tuple[HeldOut, dict[str, HeldOut]]:
    """Embed the held-out splits of a run's store, and of others that are mixed in or that `evaluation.also` names.

    The processes of a run share the work, and all must call it; the weights are rank 0's.

    Args:
        settings: the experiment.
        model: trained.
        store: what it was trained on.
        seed: of the run.

    Returns:
        Of its own store, and by name of the others.

    Raises:
        RankError: a process was lost.
    """
    for tensor in model.state_dict().values():
        tensor.copy_(from_first(tensor))
    own = embed_held_out(settings, model, store, seed=seed)
    also = {
        name: own if one.path == store.path else embed_held_out(settings, model, one, seed=seed, inputs=store)
        for name, one in other_stores(settings).items()
    }
    return own, also


def measure_also(
    settings: ExperimentSettings,
    model: MultimodalModel,
    store: Store,
    *,
    seed: int,
    held_out: Mapping[str, HeldOut] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Retrieval, and the search for steps where there are lists of them, on every store of `other_stores`.

    Args:
        settings: the experiment.
        model: trained.
        store: what it was trained on.
        seed: of the run.
        held_out: by name, what was embedded before.

    Returns:
        Rows of results of the held-out splits, without experiment and seed; their task is `retrieval@NAME`, or
        `actions@NAME`.

    Raises:
        DataError: as `check_elsewhere`.
    """
    rows: list[dict[str, Any]] = []
    for name, other in other_stores(settings).items():
        steps = has_step_lists(other, evaluation_split(settings, other))
        tasks = ("retrieval", "actions") if steps else ("retrieval",)
        ready = held_out.get(name)
        rows += measure_elsewhere(settings, model, store, other, name=name, tasks=tasks, seed=seed, held_out=ready)
    return rows


def measure_elsewhere(
    settings: ExperimentSettings,
    model: MultimodalModel,
    store: Store,
    other: Store,
    *,
    name: str,
    tasks: Sequence[str],
    seed: int,
    held_out: HeldOut | None = None,
) -> list[dict[str, Any]]:
    """Some tasks on the held-out split of another store; no file of the run is touched.

    Args:
        settings: the experiment.
        model: trained.
        store: what it was trained on.
        other: the other store; for retrieval and actions it may lack a modality.
        name: what the rows call it.
        tasks: what to measure.
        seed: of the run.
        held_out: what was embedded before; None embeds here.

    Returns:
        Rows of results without experiment and seed; their task is `TASK@NAME`.

    Raises:
        DataError: the store has other widths, no held-out split, or lacks what a task needs.
    """
    check_widths(settings, store, other)
    evaluation = settings.evaluation.model_copy(update={"tasks": tuple(tasks)})
    asked = settings.model_copy(update={"evaluation": evaluation})
    if EVERY_MODALITY & set(tasks):
        check_modalities(asked, other)
        check_held_out(asked, other)
    rows = measure(asked, model, other, None, seed=seed, inputs=store, name=name, held_out=held_out)
    return [{**row, "task": f"{row['task']}@{name}"} for row in rows]


def name_of(store: Store) -> str:
    """What rows call a store for which nobody has given a name: its own, in lower case and without spaces.

    Args:
        store: any.

    Returns:
        At most 40 letters, digits, dashes and underscores.
    """
    return re.sub(r"[^a-z0-9_]+", "-", store.name.lower()).strip("-")[:40] or "store"
