"""Laying out both sides together, so that a clip that sits elsewhere has really moved."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from mcnlab.reporting.explorer.data import Panel
from mcnlab.reporting.explorer.jobs import Task
from mcnlab.reporting.explorer.views import SIDES
from mcnlab.reporting.projection import Maps


@runtime_checkable
class LayOut(Protocol):
    """Lays out embeddings so that the maps can be compared, as `maps_apart` does."""

    def __call__(
        self,
        embeddings: Mapping[str, np.ndarray],
        *,
        ids: Mapping[str, Sequence[str]],
        cache: Path | None,
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> Maps:
        """Map name → positions, trust and overlap."""


def lay_out_pair(left: Panel, right: Panel, lay_out: LayOut, cache: Path | None, task: Task) -> Maps:
    """Both maps, laid out together; one map where both sides show the same."""
    panels = {"left": left, "right": right}
    if (left.run, left.embedding) == (right.run, right.embedding):
        panels = {"left": left}
    vectors = {side: one.vectors for side, one in panels.items()}
    ids = {"left": left.ids(right), "right": right.ids(left)}
    maps = lay_out(
        vectors, ids={side: ids[side] for side in panels}, cache=cache, progress=task.count, cancelled=task.cancelled
    )
    if len(panels) == 2:
        return maps
    both = dict.fromkeys(SIDES, maps.positions["left"])
    trust, overlap = (dict.fromkeys(SIDES, of["left"]) for of in (maps.trust, maps.overlap))
    return Maps(both, trust, overlap, repeatable=maps.repeatable)
