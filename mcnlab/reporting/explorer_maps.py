"""Maps for the explorer: laid out in a process of their own, which tells how far it is and can be ended at any time."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mcnlab import errors
from mcnlab.errors import CancelledError, McnlabError, RunError, ShapeError
from mcnlab.processes import die_with_parent
from mcnlab.reporting.layout import DEFAULT, MapSettings
from mcnlab.reporting.projection import Maps, aligned_maps, kept_maps

LEFT, RIGHT = "left", "right"
"""Names of the two maps of `pair_maps`."""
PERCENT = 100
"""What `progress` calls all of the work."""
LOOK_S = 0.1
"""Seconds between two questions whether the work is still wanted."""

Progress = Callable[[int, int], None]
"""Told how much is done, and how much there is."""
Cancelled = Callable[[], bool]
"""Whether nobody waits any more."""


def pair_maps(
    left: Float[np.ndarray, "left _"],
    right: Float[np.ndarray, "right _"],
    *,
    ids: Sequence[str],
    right_ids: Sequence[str] | None = None,
    settings: MapSettings = DEFAULT,
    cache: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Maps:
    """Lay out two embeddings so that the maps can be compared by eye: equal ids are held together.

    Args:
        left: (clips, dim); rows of NaN are clips without the modality, and stand nowhere.
        right: the same for the other map; the widths may differ.
        ids: what the rows of `left` are.
        right_ids: what the rows of `right` are, where these are other clips.
        settings: of the layout; above `settings.most` clips a part is laid out, and the rest placed among it.
        cache: folder where maps are kept by content; what lies there is given at once.
        progress: told percent done and 100.
        cancelled: asked ten times a second.

    Returns:
        Maps named `left` and `right`, with trust and neighbor overlap.

    Raises:
        ShapeError: ids do not fit the rows.
        DataError: a side has fewer than 8 clips.
        CancelledError: `cancelled` said so; nothing is kept.
        RunError: the process was killed.
    """
    both = {LEFT: left, RIGHT: right}
    named = {LEFT: list(ids), RIGHT: list(ids if right_ids is None else right_ids)}
    return maps_apart(both, ids=named, settings=settings, cache=cache, progress=progress, cancelled=cancelled)


def checkpoint_maps(
    embeddings: Mapping[int, Float[np.ndarray, "clips _"]],
    *,
    settings: MapSettings = DEFAULT,
    cache: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Maps:
    """Lay out one embedding at several steps of training, each map held close to the two before and after it.

    Args:
        embeddings: step → (clips, dim), the same clips in the same order.
        settings: of the layout.
        cache: folder where maps are kept by content.
        progress: told percent done and 100.
        cancelled: asked ten times a second.

    Returns:
        Maps named by their step, `"115"`, in order of training.

    Raises:
        ShapeError: the steps have different numbers of clips.
        DataError: there are fewer than 8 clips.
        CancelledError: `cancelled` said so; nothing is kept.
        RunError: the process was killed.
    """
    counts = {len(values) for values in embeddings.values()}
    if len(counts) > 1:
        raise ShapeError(f"steps with different numbers of clips: {', '.join(map(str, sorted(counts)))}")
    ordered = {str(step): embeddings[step] for step in sorted(embeddings)}
    return maps_apart(ordered, settings=settings, cache=cache, progress=progress, cancelled=cancelled)


def maps_apart(
    embeddings: Mapping[str, Float[np.ndarray, "points _"]],
    *,
    ids: Mapping[str, Sequence[str]] | None = None,
    settings: MapSettings = DEFAULT,
    cache: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Maps:
    """The same as `aligned_maps`, in another process: a notebook stays awake, and can end it.

    Args:
        embeddings: map name → (points, dim).
        ids: map name → what each row is; None: the same clips everywhere.
        settings: of the layout.
        cache: folder where maps are kept by content.
        progress: told percent done and 100.
        cancelled: asked ten times a second.

    Returns:
        The maps.

    Raises:
        ConfigError: a setting makes no map.
        DataError: there are too few clips.
        CancelledError: `cancelled` said so.
        RunError: the process was killed.
    """
    told = progress or (lambda done, total: None)
    if cache is not None and (known := kept_maps(embeddings, ids=ids, settings=settings, cache=cache)) is not None:
        told(PERCENT, PERCENT)
        return known
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_lay_out, args=(there, dict(embeddings), ids, settings, cache), daemon=True)
    process.start()
    there.close()
    try:
        return _result(here, told, cancelled or (lambda: False))
    finally:
        process.kill()
        process.join()
        here.close()


def _lay_out(out: Connection, embeddings: dict[str, np.ndarray], ids, settings, cache) -> None:  # type: ignore[no-untyped-def]
    """What the other process does."""
    die_with_parent()
    try:
        out.send(aligned_maps(embeddings, ids=ids, settings=settings, cache=cache, told=out.send))
    except McnlabError as error:
        out.send((type(error).__name__, str(error)))


def _result(here: Connection, told: Progress, cancelled: Cancelled) -> Maps:
    """What the other process has to say in the end."""
    told(0, PERCENT)
    while not cancelled():
        if not here.poll(LOOK_S):
            continue
        try:
            said = here.recv()
        except EOFError as error:
            raise RunError("the process that lays out maps was killed; there may be too little memory") from error
        if isinstance(said, Maps):
            told(PERCENT, PERCENT)
            return said
        if isinstance(said, tuple):
            kind, text = said
            raise getattr(errors, kind)(text)
        told(min(PERCENT - 1, int(PERCENT * said)), PERCENT)
    raise CancelledError("the maps were cancelled")
