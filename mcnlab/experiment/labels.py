"""The classes that an experiment learns: their names, and the class of every training clip."""

import numpy as np
import pandas as pd

from mcnlab.data.labels import class_numbers, classes_in
from mcnlab.data.store import Store
from mcnlab.errors import DataError
from mcnlab.experiment.mixed import opened_stores
from mcnlab.experiment.settings import ExperimentSettings


def training_classes(settings: ExperimentSettings, store: Store) -> tuple[str, ...]:
    """The classes of the training clips, in the order of their numbers.

    Args:
        settings: the experiment.
        store: its store, or the main one of several.

    Returns:
        Sorted; empty where no term learns classes.

    Raises:
        DataError: the clips have no such classes, or fewer than a batch wants.
    """
    if settings.data.label is None:
        return ()
    classes = classes_in(_tables(settings, store), settings.data.label)
    wanted = settings.data.classes_per_batch
    if wanted is not None and wanted > len(classes):
        raise DataError(
            f"{store.path}: data.classes_per_batch: {wanted} classes were asked for, "
            f"{settings.data.label!r} has {len(classes)} in the training clips"
        )
    return classes


def training_labels(settings: ExperimentSettings, store: Store) -> np.ndarray:
    """The class of every training clip, as a place among `training_classes`; -1 without one.

    Args:
        settings: an experiment with a label.
        store: its store, or the main one of several.

    Returns:
        (clips,), int64, in the order of the training clips.
    """
    classes, name = training_classes(settings, store), settings.data.label or ""
    return np.concatenate([class_numbers(table, name, classes) for table in _tables(settings, store)])


def _tables(settings: ExperimentSettings, store: Store) -> list[pd.DataFrame]:
    """The training clips of every store."""
    stores = opened_stores(settings) or {"": store}
    return [one.clips(settings.data.train_split) for one in stores.values()]
