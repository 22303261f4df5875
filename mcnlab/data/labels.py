"""Classes of clips for the terms that read them, and batches of few classes with several clips of each."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from mcnlab.batch import Batch
from mcnlab.data.cutting import NewArray
from mcnlab.data.loading import TrainingClips
from mcnlab.data.wrapped import WrappedClips
from mcnlab.errors import DataError
from mcnlab.numerics import key_generator

UNKNOWN = -1
"""Number of a class that is not known."""


class LabeledClips(WrappedClips):
    """Clips of another source with the class of each; in balanced batches where that is wanted.

    What a balanced epoch draws depends on its key alone: not on the number of processes, or on where a run was resumed.
    Each batch draws its classes at random; every class hands out its clips in an order of its own, again and again,
    newly shuffled each time, so that none comes twice before all others have come. Clips of unknown class are left out.

    Args:
        source: the clips; their places must mean the same clips in every epoch.
        labels: (clips,), int: number of the class of the clip at each place; `UNKNOWN` where there is none.
        classes_per_batch: classes in each batch, which divides the batch; None keeps the source's own order.

    Raises:
        DataError: there are not as many labels as clips, or fewer classes than a batch wants.
    """

    def __init__(self, source: TrainingClips, labels: np.ndarray, *, classes_per_batch: int | None = None) -> None:
        if len(labels) != len(source):
            raise DataError(f"{len(source)} clips but {len(labels)} labels")
        known = np.unique(labels[labels >= 0])
        if classes_per_batch is not None and len(known) < classes_per_batch:
            raise DataError(f"data.classes_per_batch: {classes_per_batch} of {len(known)} classes were asked for")
        super().__init__(source)
        self.classes_per_batch = classes_per_batch
        self._labels = labels.astype(np.int64)
        self._members = {int(one): np.flatnonzero(labels == one) for one in known}

    def epoch(self, key: Sequence[str | int], *, batch: int) -> list[np.ndarray]:
        """Begin an epoch: the source's own, or as many balanced batches as would fill all clips once.

        Args:
            key: seed, stage, epoch: all that the draws depend on.
            batch: clips per step, a multiple of the classes per batch; with fewer clips than that, one batch holds as
                many as there are.

        Returns:
            Places of each batch's clips; in balanced batches the clips of a class stand together.
        """
        own = self.source.epoch(key, batch=batch)
        if self.classes_per_batch is None:
            return own
        each = min(batch, len(self)) // self.classes_per_batch
        draw = key_generator(*key, "classes")
        decks = {one: _Deck(members, max(1, each), (*key, "class", one)) for one, members in self._members.items()}
        chosen = (draw.choice(list(decks), self.classes_per_batch, replace=False) for _ in own)
        return [np.concatenate([decks[int(one)].hand() for one in classes]) for classes in chosen]

    def kept_batch(self, places: np.ndarray, *, new: NewArray = np.empty) -> Batch:
        """The same in the form in which the source keeps it; see `TrainingClips`."""
        return replace(self.source.kept_batch(places, new=new), labels=torch.from_numpy(self._labels[places]))


class _Deck:
    """The clips of one class, handed out a few at a time, shuffled again when too few are left."""

    def __init__(self, members: np.ndarray, each: int, key: tuple[str | int, ...]) -> None:
        self._members, self._each, self._draw = members, each, key_generator(*key)
        self._left = members[:0]

    def hand(self) -> np.ndarray:
        """The next few; one comes twice only where the class has fewer clips than that."""
        if len(self._left) < self._each:
            shuffled = self._draw.permutation(self._members)
            self._left = np.resize(shuffled, max(self._each, len(shuffled)))
        taken, self._left = self._left[: self._each], self._left[self._each :]
        return taken


def class_column(name: str) -> str:
    """The column of a table of clips that a label means: `label` itself, or a factor.

    Example:
        >>> class_column("label"), class_column("va.floor")
        ('label', 'factor:va.floor')
    """
    return name if name == "label" else f"factor:{name}"


def classes_in(tables: Sequence[pd.DataFrame], name: str) -> tuple[str, ...]:
    """The classes that some clips have.

    Args:
        tables: of clips, as `Store.clips` gives them.
        name: `label`, or a categorical factor.

    Returns:
        Sorted.

    Raises:
        DataError: no table has such a factor, it is continuous, or there are fewer than two classes.
    """
    column = class_column(name)
    found = [table[column].dropna() for table in tables if column in table]
    if not found:
        known = sorted({c.removeprefix("factor:") for t in tables for c in t.columns if c.startswith("factor:")})
        raise DataError(f"data.label: no factor {name!r}; there are label, {', '.join(known)}")
    if any(pd.api.types.is_float_dtype(values) and len(values) for values in found):
        raise DataError(f"data.label: {name!r} is continuous, a class is needed")
    classes = tuple(sorted({str(one) for values in found for one in values.unique()}))
    if len(classes) < 2:
        raise DataError(f"data.label: {name!r} has {len(classes)} classes in the training clips, two are needed")
    return classes


def class_numbers(clips: pd.DataFrame, name: str, classes: Sequence[str]) -> np.ndarray:
    """The classes of some clips as numbers.

    Args:
        clips: a table of them.
        name: `label`, or a factor.
        classes: those that are known, in order.

    Returns:
        (clips,), int64: place among the classes; `UNKNOWN` for any other and for none.
    """
    if class_column(name) not in clips:
        return np.full(len(clips), UNKNOWN, dtype=np.int64)
    place = {one: number for number, one in enumerate(classes)}
    values = clips[class_column(name)]
    numbers = values.astype(str).map(place).where(values.notna())
    return numbers.fillna(UNKNOWN).to_numpy(dtype=np.int64)
