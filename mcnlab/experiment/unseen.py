"""Clips of classes that were not trained on: from a store and a model to the rows of the task `unseen`."""

from pathlib import Path

import numpy as np

from mcnlab.data.labels import class_column, classes_in
from mcnlab.data.store import Store
from mcnlab.errors import DataError
from mcnlab.evaluation.embed import embed_source
from mcnlab.evaluation.rows import ResultRow
from mcnlab.evaluation.unseen import ClassClips, evaluate_unseen, similarities_of_classes
from mcnlab.experiment.build import build_source
from mcnlab.experiment.compared import Arrays
from mcnlab.experiment.language import language_of
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.files import write_json_atomically
from mcnlab.models.multimodal import MultimodalModel

SEEN_SPLIT = "val"
"""Held-out clips of trained classes, where a store has them; else the training clips tell how these lie."""


def check_unseen(settings: ExperimentSettings, store: Store, split: str) -> None:
    """Refuse a held-out split with classes that are trained on, and a language that is not there.

    Args:
        settings: the experiment.
        store: its data.
        split: the held-out split.

    Raises:
        DataError: a class is in both; there are fewer than two classes in one of them; or the text network that is to
            say how classes lie is not there.
    """
    network = settings.evaluation.network
    if network is not None and not network.is_dir():
        raise DataError(f"evaluation.network: {network}: no such folder")
    seen, asked = (_classes(settings, store, name) for name in (settings.data.train_split, split))
    shared = sorted(set(seen) & set(asked))
    if shared:
        raise DataError(
            f"{store.path}: the task unseen needs classes in split {split!r} that are not trained on, "
            f"but {shared[0]!r} is in split {settings.data.train_split!r} too"
        )


def unseen_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    split: str,
    folder: Path | None,
    *,
    seed: int,
) -> list[ResultRow]:
    """Find the held-out clips by their classes, and compare how classes lie with what language says.

    Args:
        settings: the experiment.
        model: trained.
        untrained: the same before training, with settled statistics.
        store: the clips.
        split: the held-out split.
        folder: the run folder, where `unseen.json` says how alike the seen classes are; None writes nothing.
        seed: of the resampling.

    Returns:
        Rows as `evaluate_unseen` gives them; subjects are the trained modalities, by space where there are several.

    Raises:
        DataError: the classes do not allow it.
    """
    splits = split, seen_split(settings, store, split)
    unseen, seen = (_class_clips(settings, model, untrained, store, name) for name in splits)
    if folder is not None:
        write_json_atomically(folder / "unseen.json", similarities_of_classes(seen))
    return evaluate_unseen(unseen, seen, seed=seed)


def seen_split(settings: ExperimentSettings, store: Store, split: str) -> str:
    """The split whose clips tell how the trained classes lie."""
    if split == SEEN_SPLIT or not store.splits.get(SEEN_SPLIT):
        return settings.data.train_split
    trained = set(_classes(settings, store, settings.data.train_split))
    return SEEN_SPLIT if set(_classes(settings, store, SEEN_SPLIT)) <= trained else settings.data.train_split


def _classes(settings: ExperimentSettings, store: Store, split: str) -> tuple[str, ...]:
    """The classes of a split."""
    return classes_in([store.clips(split)], settings.data.label or "label")


def _class_clips(
    settings: ExperimentSettings, model: MultimodalModel, untrained: MultimodalModel, store: Store, split: str
) -> ClassClips:
    """The clips of a split with their classes."""
    source = build_source(settings, store, split, shuffle_seed=None)
    values = source.clips[class_column(settings.data.label or "label")]
    labels = values.astype(object).where(values.notna(), None).to_numpy()
    after, before = (_subjects(settings, net, embed_source(net, source)) for net in (model, untrained))
    return ClassClips(after, before, labels, language_of(settings, store, _classes(settings, store, split)))


def _subjects(settings: ExperimentSettings, model: MultimodalModel, arrays: Arrays) -> dict[str, np.ndarray]:
    """The embeddings of trained modalities by what results call them."""
    return {model.graph.subject(m, space): x for (m, space), x in arrays.items() if m in settings.trained_modalities}
