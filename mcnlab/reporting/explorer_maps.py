"""Maps for the explorer: laid out in a process of their own, which tells how far it is and can be ended at any time."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mcnlab import errors
from mcnlab.errors import CancelledError, McnlabError, RunError
from mcnlab.processes import die_with_parent
from mcnlab.reporting.layout import DEFAULT, MapSettings
from mcnlab.reporting.projection import Maps, aligned_maps, kept_maps

PERCENT = 100
"""What `progress` calls all of the work."""
LOOK_S = 0.1
"""Seconds between two questions whether the work is still wanted."""
LEAVING_S = 5.0
"""Seconds that the process has to leave by itself once it is done."""
TOGETHER, FEWEST_TOGETHER = 20_000, 1_000
"""Points of all maps that are laid out together, and the fewest of each map; the rest is placed among them. Layout
held together takes one core; so many take half a minute."""

Progress = Callable[[int, int], None]
"""Told how much is done, and how much there is."""
Cancelled = Callable[[], bool]
"""Whether nobody waits any more."""


def maps_apart(
    embeddings: Mapping[str, Float[np.ndarray, "points _"]],
    *,
    ids: Mapping[str, Sequence[str]] | None = None,
    settings: MapSettings = DEFAULT,
    cache: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Maps:
    """As `aligned_maps`, in another process: a notebook stays awake, and can end it.

    Of many points a part is laid out, and the rest is placed among it: of two maps 10,000 each, of ten 2,000.

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
    share = TOGETHER // max(1, len(embeddings))
    settings = replace(settings, most=min(settings.most, max(FEWEST_TOGETHER, share)))
    if cache is not None and (known := kept_maps(embeddings, ids=ids, settings=settings, cache=cache)) is not None:
        told(PERCENT, PERCENT)
        return known
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_lay_out, args=(there, dict(embeddings), ids, settings, cache), daemon=True)
    process.start()
    there.close()
    try:
        maps = _result(here, told, cancelled or (lambda: False))
        process.join(LEAVING_S)
        return maps
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
