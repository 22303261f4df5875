"""What is refused before anything is trained or written: settings and data that would fail hours later."""

import numpy as np
import pandas as pd

from mcnlab.data.raw_frames import FRAMES_TRACK, FrameShape, frame_shape
from mcnlab.data.store import Store
from mcnlab.distributed import world_size
from mcnlab.errors import ConfigError, DataError
from mcnlab.evaluation.clusters import check_labels
from mcnlab.evaluation.retention import check_factors
from mcnlab.experiment.actions import check_steps
from mcnlab.experiment.build import check_weights, choose_device, chosen_tracks
from mcnlab.experiment.change_settings import ChangeSettings
from mcnlab.experiment.classify import check_classified
from mcnlab.experiment.labels import training_classes
from mcnlab.experiment.mixed import check_mixture, opened_stores
from mcnlab.experiment.objective import cluster_sizes
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.transfer import units_of
from mcnlab.experiment.unseen import check_unseen
from mcnlab.modalities import pair_modalities
from mcnlab.models.published import is_own

MOST_CLASSES = 100
"""A factor of own media with more values than this is not clustered against."""


def check_settings(settings: ExperimentSettings) -> None:
    """Refuse settings that contradict each other or this machine, before data are touched.

    Args:
        settings: the experiment.

    Raises:
        ConfigError: there is no such device, or more clusters than rows to cluster, or released weights for a graph
            that is not shared.
    """
    choose_device(settings.training.device)
    weights = settings.model.weights
    if weights is not None and not is_own(weights) and settings.graph != "shared":
        raise ConfigError("model.weights: released weights need graph: shared, since they have one space")
    if (cluster := settings.terms.cluster) is not None:
        cluster_sizes(cluster, batch=settings.training.batch)


def check_data(settings: ExperimentSettings, store: Store) -> list[str]:
    """Refuse a store that lacks what an experiment trains on or is scored on.

    Args:
        settings: the experiment.
        store: its data.

    Returns:
        What released weights lack or have beyond the model, and what will be left out of the evaluation, in sentences.

    Raises:
        DataError: a modality, a split, a pair or a second class is missing; store, split and name are in the text.
            Or released weights do not fit the model; file and tensor are in the text.
    """
    chosen_tracks(settings, store)
    check_modalities(settings, store)
    notes = check_mixture(settings)
    _check_training_split(settings, store)
    _check_places(settings, store)
    training_classes(settings, store)
    _check_changes(settings, store)
    return [*notes, *check_weights(settings, store), *check_held_out(settings, store)]


def check_held_out(settings: ExperimentSettings, store: Store) -> list[str]:
    """Refuse a store on which an experiment cannot be scored.

    Args:
        settings: the experiment.
        store: what to measure on.

    Returns:
        What will be left out of the evaluation, in sentences.

    Raises:
        DataError: there is no held-out split, or it lacks a modality, a pair or a second class.
        ConfigError: a task that takes one process is asked of several.
    """
    split = evaluation_split(settings, store)
    clips = store.clips(split)
    try:
        _check_scored_clips(settings, clips)
    except DataError as error:
        raise DataError(f"{store.path}: split {split!r}: {error}") from error
    if "actions" in settings.evaluation.tasks:
        check_steps(store, split)
        if frame_shape(chosen_tracks(settings, store)) is not None:
            raise DataError(f"{store.path}: the task actions searches in features, but the video here is raw frames")
    if "finetune" in settings.evaluation.tasks and world_size() > 1:
        raise ConfigError(
            "evaluation.tasks: finetune takes one process; name it later, mcnlab evaluate --tasks finetune"
        )
    if {"transfer", "finetune"} & set(settings.evaluation.tasks):
        units_of(settings, store, split)
    if "stills" in settings.evaluation.tasks:
        _check_stills(settings, store, clips)
    if "classify" in settings.evaluation.tasks:
        check_classified(settings)
    if "unseen" in settings.evaluation.tasks:
        check_unseen(settings, store, split)
    if "detection" in settings.evaluation.tasks:
        _check_named(settings, store)
    if "retention" not in settings.evaluation.tasks:
        return []
    left_out = unusable_factors(settings, clips)
    return [f"{store.path}: split {split!r}: left out of retention: {reason}" for reason in left_out.values()]


def check_modalities(settings: ExperimentSettings, store: Store) -> None:
    """Refuse a store that lacks a modality that some stage trains.

    Args:
        settings: the experiment.
        store: its data.

    Raises:
        DataError: it does.
    """
    for modality in settings.trained_modalities:
        if modality not in store.modalities:
            raise DataError(
                f"{store.path}: experiment {settings.experiment!r} needs {modality}; "
                f"the store has {', '.join(store.modalities) or 'no modality'}; take it out of the study, or run the "
                "others by --only"
            )


def evaluation_split(settings: ExperimentSettings, store: Store) -> str:
    """The held-out split: what the settings say, else `test`, else `val`.

    Args:
        settings: the experiment.
        store: its data.

    Returns:
        Name of the split.

    Raises:
        DataError: there is none.
    """
    wanted = [settings.evaluation.split] if settings.evaluation.split else ["test", "val"]
    for split in wanted:
        if store.splits.get(split):
            return split
    raise DataError(f"{store.path}: no held-out split {' or '.join(wanted)}; it has {', '.join(store.splits)}")


def class_columns(clips: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns that clusters are compared with: the label, and the categorical factors of own media.

    Args:
        clips: of the held-out split.

    Returns:
        Column to one class per clip.
    """
    found = {"label": clips["label"].to_numpy()} if clips["label"].notna().any() else {}
    for column in clips.columns:
        values = clips[column]
        own = column.startswith("factor:") and "." not in column and not pd.api.types.is_numeric_dtype(values)
        same = "label" in found and bool((values == clips["label"]).all())
        if own and 2 <= values.nunique() <= MOST_CLASSES and not same:
            found[column.removeprefix("factor:")] = values.to_numpy()
    return found


def usable_factors(settings: ExperimentSettings, clips: pd.DataFrame) -> dict[str, np.ndarray]:
    """The factors that a probe can be scored on, in every trained modality.

    Args:
        settings: the experiment.
        clips: of the held-out split.

    Returns:
        Factor to one value per clip.
    """
    factors, left_out = _factors(clips), unusable_factors(settings, clips)
    return {name: values for name, values in factors.items() if name not in left_out}


def unusable_factors(settings: ExperimentSettings, clips: pd.DataFrame) -> dict[str, str]:
    """The factors that no probe can be scored on: they never change, or too few recordings have them.

    Args:
        settings: the experiment.
        clips: of the held-out split.

    Returns:
        Factor to the reason.
    """
    recordings = clips["recording"].to_numpy()
    found = {}
    for name, values in _factors(clips).items():
        for modality, here in _present(settings, clips).items():
            try:
                check_factors({name: values[here]}, recordings[here])
            except DataError as error:
                found[name] = f"{error} with {modality}"
                break
    return found


def _factors(clips: pd.DataFrame) -> dict[str, np.ndarray]:
    """Factor to one value per clip."""
    return {c.removeprefix("factor:"): clips[c].to_numpy() for c in clips.columns if c.startswith("factor:")}


def _present(settings: ExperimentSettings, clips: pd.DataFrame) -> dict[str, np.ndarray]:
    """By trained modality: which clips have it."""
    return {m: clips[f"has_{m}"].to_numpy() for m in settings.trained_modalities}


def _check_training_split(settings: ExperimentSettings, store: Store) -> None:
    """Every pair that is trained needs clips that have both of its sides."""
    split = settings.data.train_split
    if not store.splits.get(split):
        raise DataError(f"{store.path}: no split {split!r} to train on; it has {', '.join(store.splits)}")
    tables = [one.clips(split) for one in (opened_stores(settings) or {"": store}).values()]
    for pair in settings.trained_pairs:
        first, second = pair_modalities(pair)
        if all(int((clips[f"has_{first}"] & clips[f"has_{second}"]).sum()) < 2 for clips in tables):
            raise DataError(
                f"{store.path}: split {split!r}: experiment {settings.experiment!r} compares {first} with {second}, "
                "but fewer than two clips have both"
            )


def _check_places(settings: ExperimentSettings, store: Store) -> None:
    """Terms that ask where need frames; detection is measured against boxes."""
    contrast, terms = settings.terms.contrast, settings.terms.names
    placed: list[str] = [name for name in ("detect", "explain", "localize") if name in terms]
    if contrast is not None and contrast.scorer == "maximum":
        placed.append("contrast.scorer: maximum")
    frame = frame_shape(chosen_tracks(settings, store))
    if placed and frame is None:
        raise DataError(f"{store.path}: terms.{placed[0]} needs video that is trained from the track {FRAMES_TRACK}")
    if settings.data.looks and frame is None:
        raise DataError(f"{store.path}: data.looks needs video that is trained from the track {FRAMES_TRACK}")
    if settings.terms.localize is not None and settings.terms.localize.rounds is not None and frame is not None:
        _check_levels(store, frame)
    if "detection" in settings.evaluation.tasks and not len(store.boxes):
        raise DataError(f"{store.path}: the task detection needs boxes, and the store knows none")


def _check_named(settings: ExperimentSettings, store: Store) -> None:
    """The task detection names pseudo-classes by the labels of training clips."""
    split = settings.data.train_split
    if not store.splits.get(split) or not store.clips(split)["label"].notna().any():
        raise DataError(
            f"{store.path}: the task detection names pseudo-classes by labels of training clips, but no clip of the "
            f"split {split!r} has one"
        )


def _check_levels(store: Store, frame: FrameShape) -> None:
    """The levels of predictive coding must halve: maps of 6, 10, 14 … cells, from frames of about 4 times as much."""
    cells = [-(-side // 4) for side in frame[1:]]
    if any(side < 6 or side % 4 != 2 for side in cells):
        raise DataError(
            f"{store.path}: frames of {frame[1]} x {frame[2]} pixels give maps of {cells[0]} x {cells[1]} cells, but "
            "terms.localize.rounds needs 6, 10, 14 …, as of frames of 24, 40, 56 …; or rounds: null"
        )


def _check_changes(settings: ExperimentSettings, store: Store) -> None:
    """Training clips change where there is something to change, and not beyond it."""
    changes = settings.data.changes or ChangeSettings()
    if changes.frames is not None:
        shape = frame_shape(chosen_tracks(settings, store))
        if shape is None:
            raise DataError(f"{store.path}: data.changes.frames: expected frames, but its video is features or absent")
        if 2 * changes.frames.shift_px >= min(shape[1:]):
            most = (min(shape[1:]) - 1) // 2
            shift = f"expected at most {most} for frames of {shape[1]} x {shape[2]}, got {changes.frames.shift_px}"
            raise DataError(f"{store.path}: data.changes.frames.shift_px: {shift}")
    if changes.sound is not None:
        bands = [track.dim for track in store.tracks.values() if track.modality == "audio"]
        if not bands:
            raise DataError(f"{store.path}: data.changes.sound: expected audio, but the store has none")
        if (masked := changes.sound.masked_bands) >= bands[0]:
            masks = f"expected fewer than the {bands[0]} bands, got {masked}"
            raise DataError(f"{store.path}: data.changes.sound.masked_bands: {masks}")


def _check_stills(settings: ExperimentSettings, store: Store, clips: pd.DataFrame) -> None:
    """Pictures are classified where the video is frames and the clips have classes on both sides."""
    if "video" not in settings.trained_modalities or frame_shape(chosen_tracks(settings, store)) is None:
        raise DataError(f"{store.path}: the task stills needs video that is trained from the track {FRAMES_TRACK}")
    split = settings.data.train_split
    learned = class_columns(store.clips(split)) if store.splits.get(split) else {}
    if not set(learned) & set(class_columns(clips)):
        raise DataError(f"{store.path}: the task stills needs a label or a categorical factor in split {split!r} too")


def _check_scored_clips(settings: ExperimentSettings, clips: pd.DataFrame) -> None:
    """Every trained modality must be there to be measured, and labels must have classes to tell apart."""
    present = _present(settings, clips)
    for modality, here in present.items():
        if here.sum() < 2:
            raise DataError(f"{modality}: at least two clips are needed to measure it, got {here.sum()}")
    for pair in settings.trained_pairs:
        first, second = pair_modalities(pair)
        if not bool((present[first] & present[second]).any()):
            raise DataError(f"{first} and {second}: no clip has both")
    if "clusters" not in settings.evaluation.tasks:
        return
    for column, classes in class_columns(clips).items():
        numbers = check_labels(classes, column=column)
        wanted = settings.evaluation.clusters or int(numbers.max()) + 1
        for modality, here in present.items():
            if (count := int((here & (numbers >= 0)).sum())) < wanted:
                raise DataError(f"{column}: {wanted} clusters need as many clips with {modality}, got {count}")
