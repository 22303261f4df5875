"""From a store and a model to what a transfer protocol asks: units with their features, classes and roles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mcnlab.data.protocol import Protocol, read_protocol
from mcnlab.data.store import Store
from mcnlab.errors import DataError
from mcnlab.evaluation.embed import embed_with_features
from mcnlab.evaluation.rows import ResultRow
from mcnlab.evaluation.transfer import Targets, evaluate_transfer
from mcnlab.experiment.build import build_source
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.multimodal import MultimodalModel

BACKBONE = "backbone"
"""What follows a modality's name for its features before any space."""


@dataclass(frozen=True)
class Units:
    """What is classified, and which clips it consists of."""

    clips: pd.DataFrame
    """Of all splits of the store, in order, those of no unit too."""
    of_clip: np.ndarray
    """(clips,): unit of each clip, -1 where it is in none."""
    targets: Targets


def units_of(settings: ExperimentSettings, store: Store, split: str) -> Units:
    """What a store asks to be classified.

    Args:
        settings: the experiment; names the training split of a store without a protocol.
        store: with a protocol, its recordings are the units; without one, its clips, by their label.
        split: what is tested in a store without a protocol.

    Returns:
        The units; those that no split uses are left out.

    Raises:
        DataError: the store has neither a protocol nor two labels to tell apart.
    """
    protocol = read_protocol(store)
    clips = pd.concat([store.clips(name) for name in store.splits])
    if protocol is not None:
        return _recordings(store, clips, protocol)
    roles = np.where(
        clips["split"] == split, "test", np.where(clips["split"] == settings.data.train_split, "train", "")
    )
    used = clips["label"].notna().to_numpy() & (roles != "")
    labels = sorted(clips["label"][used].unique())
    if len(labels) < 2 or not {"train", "test"} <= set(roles[used]):
        raise DataError(
            f"{store.path}: the task transfer needs a protocol, or labels of two classes in the splits "
            f"{settings.data.train_split!r} and {split!r}; mcnlab import protocol makes stores that have one"
        )
    truth = clips["label"].to_numpy()[used, None] == np.array(labels, dtype=object)
    unit = np.where(used, np.cumsum(used) - 1, -1)
    groups = pd.factorize(clips["recording"][used])[0]
    return Units(clips, unit, Targets(truth.astype(bool), roles[used][None], groups))


def transfer_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    split: str,
    *,
    seed: int,
) -> Sequence[ResultRow]:
    """Classify a store's units from frozen features, beside the model before training.

    Args:
        settings: the experiment.
        model: trained.
        untrained: the same before training, with settled statistics.
        store: what to classify.
        split: what is tested where the store has no protocol.
        seed: of folds, examples, resampling.

    Returns:
        Rows of results, for each modality that was trained: its backbone features, its embeddings in each space, all
        of them.

    Raises:
        DataError: the store asks nothing, or a split has too few classes.
    """
    units = units_of(settings, store, split)
    after, before = (unit_features(settings, net, store, units) for net in (model, untrained))
    return evaluate_transfer(after, units.targets, untrained=before, seed=seed).rows


def unit_features(
    settings: ExperimentSettings, model: MultimodalModel, store: Store, units: Units
) -> dict[str, np.ndarray]:
    """Features of every unit: the mean over its clips that have the modality, NaN where none has.

    Args:
        settings: the experiment.
        model: whose towers.
        store: the clips.
        units: what they belong to.

    Returns:
        `audio:backbone`, `audio:SPACE` where there are several, `audio`: (units, dim), float32.
    """
    parts = []
    for name in store.splits:
        embeddings, features = embed_with_features(model, build_source(settings, store, name, shuffle_seed=None))
        parts.append(_named(settings, model, embeddings, features))
    known = [name for name in parts[0] if all(name in part for part in parts)]
    wide = {name: np.concatenate([part[name] for part in parts]) for name in known}
    pooled = {name: mean_by_unit(x, units.of_clip, len(units.targets.truth)) for name, x in wide.items()}
    return {name: x for name, x in pooled.items() if np.isfinite(x).all(axis=1).any()}


def mean_by_unit(features: np.ndarray, unit: np.ndarray, units: int) -> np.ndarray:
    """Mean of the rows of each unit.

    Args:
        features: (clips, dim); rows of NaN do not count.
        unit: (clips,), from 0; -1 for none.
        units: how many there are.

    Returns:
        (units, dim), float32; NaN where no row counts.

    Example:
        >>> mean_by_unit(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, -1]), 2).tolist()
        [[2.0], [nan]]
    """
    counted = (unit >= 0) & ~np.isnan(features).any(axis=1)
    total = np.zeros((units, features.shape[1]))
    np.add.at(total, unit[counted], features[counted])
    count = np.bincount(unit[counted], minlength=units)[:, None]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _named(
    settings: ExperimentSettings,
    model: MultimodalModel,
    embeddings: Mapping[tuple[str, str], np.ndarray],
    features: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Features and embeddings by subject, of the modalities that were trained."""
    found: dict[str, np.ndarray] = {}
    for modality in (m for m in features if m in settings.trained_modalities):
        own = [(space, embeddings[modality, space]) for space in model.graph.spaces_of(modality)]
        found[f"{modality}:{BACKBONE}"] = features[modality]
        found |= {model.graph.subject(modality, space): x for space, x in own} if len(own) > 1 else {}
        if own:
            found[modality] = np.concatenate([x for _, x in own], axis=1)
    return found


def _recordings(store: Store, clips: pd.DataFrame, protocol: Protocol) -> Units:
    """The recordings of a protocol as units."""
    ids = {row: store.recording_id(row) for row in clips["recording"].unique().tolist()}
    used = [row for row, id_ in ids.items() if id_ in protocol.members]
    place = {row: number for number, row in enumerate(used)}
    names = [ids[row] for row in used]
    unit = clips["recording"].map(lambda row: place.get(row, -1)).to_numpy()
    targets = Targets(
        protocol.truth(names),
        protocol.roles(names),
        np.arange(len(names)),
        protocol.multi_label,
        eleven_points=protocol.kind == "voc2007",
    )
    return Units(clips, unit, targets)
