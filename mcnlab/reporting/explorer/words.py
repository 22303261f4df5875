"""What is said of clips and maps, as plain text and plain values: nothing here is markup."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mcnlab.reporting.addresses import picture_address
from mcnlab.reporting.explorer.near import Near
from mcnlab.reporting.projection import Maps
from mcnlab.reporting.style import shortened

CAPTION, CELL = 160, 120
"""Characters of a caption in the tip and in a cell of a table."""


class Clips:
    """The clips as the explorer tells of them.

    Args:
        table: the clips.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        texts = [table[one].fillna("").astype(str) for one in ("caption", "id", "label") if one in table]
        self._searched = [" ".join(parts).casefold() for parts in zip(*texts, strict=True)]

    def text(self, row: int, column: str) -> str:
        """A value as text; empty where there is none."""
        value = self.table[column].iloc[row] if column in self.table else None
        return "" if value is None or value is pd.NA or value != value else str(value)

    def caption(self, row: int) -> str:
        """The caption of a clip, else its id."""
        return self.text(row, "caption") or self.text(row, "id")

    def picture(self, row: int) -> str:
        """Data address of a clip's thumbnail; empty without one."""
        return picture_address(self.table["thumbnail"].iloc[row]) if "thumbnail" in self.table else ""

    def found(self, words: str) -> np.ndarray:
        """Rows whose caption, id or label holds all words."""
        wanted = words.casefold().split()
        return np.array([row for row, text in enumerate(self._searched) if all(one in text for one in wanted)], int)

    def tip(self, row: int) -> dict[str, Any]:
        """What is shown beside the pointer."""
        small = " · ".join(filter(None, (self.text(row, "label"), self.text(row, "id"))))
        return {"caption": shortened(self.caption(row), longest=CAPTION), "small": small, "picture": self.picture(row)}

    def facts(self, row: int) -> list[list[str]]:
        """All that the table knows of a clip, but for its picture and caption."""
        columns = [str(one) for one in self.table if one not in ("thumbnail", "caption", "id")]
        return [[one.removeprefix("factor:"), _short(self.table[one].iloc[row])] for one in columns]

    def line(self, row: int, further: Sequence[Any] = (), *, right: bool = False) -> dict[str, Any]:
        """A row for a table of clips: caption, label, id, then further cells."""
        texts = [shortened(self.text(row, one), longest=CELL) for one in ("caption", "label", "id")]
        return {"clip": int(row), "picture": self.picture(row), "cells": [*further, *texts], "right": right}

    def near(self, found: Near, right: int | None) -> dict[str, Any]:
        """A list of near clips for the card."""
        title = f"near in {found.gallery}"
        note = found.note or ("" if found.rank is None else f"the right clip has rank {found.rank}")
        rows = [
            {
                "clip": row,
                "picture": self.picture(row),
                "caption": shortened(self.caption(row), longest=CELL),
                "score": score,
                "right": row == right,
            }
            for row, score in zip(found.rows, found.scores, strict=True)
        ]
        return {"title": title, "note": note, "rows": rows}


def how_far_to_trust(maps: Maps, name: str) -> str:
    """A sentence on one map."""
    return (
        f"Trustworthiness {maps.trust[name]:.3f} (1 is best); {maps.overlap[name]:.0%} of a clip's nearest neighbors "
        "in the space are so on the map."
    )


def _short(value: Any) -> str:
    """A value of a table."""
    if value is None or value is pd.NA or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float | np.floating) else shortened(str(value), longest=CELL)
