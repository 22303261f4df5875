"""Retrieval errors of two runs held against each other: what the one finds and the other does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mcnlab.errors import DataError
from mcnlab.reporting.addresses import picture_address
from mcnlab.reporting.examples import compared_embeddings, meeting_space
from mcnlab.reporting.style import shortened
from mcnlab.runs import RunFolder

MOST_SHOWN = 24
"""Queries that are shown at once."""


@dataclass(frozen=True)
class Confusion:
    """How often two runs agree on the same queries."""

    both: int
    only_first: int
    only_second: int
    neither: int
    table: pd.DataFrame
    """Queries that the first finds and the second does not, the worst first: `first` and `second` rank, by clip id."""

    @property
    def queries(self) -> int:
        """Queries that both runs answered."""
        return self.both + self.only_first + self.only_second + self.neither


def confusion(first: RunFolder, second: RunFolder, direction: str, *, k: int = 1) -> Confusion:
    """Which queries one run answers and another does not.

    Args:
        first: the run that is to be right.
        second: the run that is to be wrong.
        direction: `text->video`.
        k: a query is answered when its own clip is among the first k.

    Returns:
        Counts over all clips that both ranked, and the queries.

    Raises:
        DataError: a run was not asked this direction, or they share no clip.
    """
    ranks = pd.concat([_ranks(first, direction), _ranks(second, direction)], axis=1, keys=["first", "second"]).dropna()
    if not len(ranks):
        raise DataError(f"{first.path} and {second.path}: no clip that both were asked {direction}")
    right = ranks <= k
    chosen = ranks[right["first"] & ~right["second"]].sort_values("second", ascending=False, kind="stable")
    return Confusion(
        both=int((right["first"] & right["second"]).sum()),
        only_first=len(chosen),
        only_second=int((~right["first"] & right["second"]).sum()),
        neither=int((~right["first"] & ~right["second"]).sum()),
        table=chosen,
    )


def returned_first(run: RunFolder, direction: str, queries: Sequence[str]) -> dict[str, str]:
    """What a run returns first for some queries.

    Args:
        run: an evaluated run.
        direction: `text->video`, or with several modalities on a side, whose scores are added.
        queries: clip ids.

    Returns:
        Clip id of the query → clip id of what came first.

    Raises:
        DataError: the embeddings of a side are missing.
    """
    ids = run.clip_ids()
    place = {clip: number for number, clip in enumerate(ids)}
    rows = [place[clip] for clip in queries]
    asked, found = (side.split("+") for side in direction.split("->"))
    embeddings = run.embeddings()
    score, known = np.zeros((len(rows), len(ids)), dtype=np.float32), np.zeros(len(ids), dtype=bool)
    for one, other in product(asked, found):
        pair = f"{one}->{other}"
        query, gallery = compared_embeddings(embeddings, pair, space=meeting_space(run, pair))
        score += np.nan_to_num(query[rows]) @ np.nan_to_num(gallery).T
        known |= np.isfinite(gallery).all(axis=1)
    score[:, ~known] = -np.inf
    return {clip: ids[int(best)] for clip, best in zip(queries, score.argmax(axis=1), strict=True)}


def shown_errors(
    first: RunFolder, second: RunFolder, direction: str, *, k: int = 1, most: int = MOST_SHOWN
) -> dict[str, Any]:
    """The same for a page: counts, and some queries with pictures, captions and what came instead.

    Args:
        first: the run that is right.
        second: the run that is wrong.
        direction: `text->video`.
        k: see `confusion`.
        most: queries.

    Returns:
        Plain values; `instead` is None where it cannot be told from the run's embeddings.

    Raises:
        DataError: see `confusion`.
    """
    found = confusion(first, second, direction, k=k)
    chosen = found.table.head(most)
    try:
        instead = returned_first(second, direction, list(chosen.index))
    except (DataError, KeyError):
        instead = {}
    clips = second.clips().set_index("id")
    rows = [
        {
            "clip": clip_view(clips, clip),
            "first": int(row["first"]),
            "second": int(row["second"]),
            "instead": clip_view(clips, instead[clip]) if clip in instead else None,
        }
        for clip, row in chosen.iterrows()
    ]
    counts = {"both": found.both, "first": found.only_first, "second": found.only_second, "neither": found.neither}
    return {"counts": counts, "rows": rows, "queries": found.queries}


def clip_view(clips: pd.DataFrame, clip: str) -> dict[str, str]:
    """Id, caption and picture of a clip for a page.

    Args:
        clips: the clips of a run, by id.
        clip: which one.

    Returns:
        Plain texts; the picture is a data address, empty without one.
    """
    row = clips.loc[clip]
    picture = picture_address(row.get("thumbnail"))
    return {"id": str(clip), "caption": shortened(str(row.get("caption") or ""), longest=160), "picture": picture}


def _ranks(run: RunFolder, direction: str) -> pd.Series:
    """Ranks of one direction by clip id."""
    ranks = run.ranks()
    if direction not in ranks:
        raise DataError(f"{run.path / 'ranks.parquet'}: no direction {direction!r}, only {', '.join(ranks)}")
    return ranks[direction].astype("float64").set_axis(run.clip_ids(), axis="index")
