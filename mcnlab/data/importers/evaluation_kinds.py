"""Which published set a pickle belongs to, told from the rows themselves: to refuse one that another importer takes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEYS_SHOWN = 8
"""Keys of a row that an error names."""
_MSRVTT_ID = re.compile(r"video\d+")


@dataclass(frozen=True)
class Kind:
    """A published layout that a file may have."""

    name: str
    verb: str
    """What takes such a file; empty where nothing does."""
    keys: str
    """How a reader recognizes it, in words."""

    @property
    def takes_it(self) -> str:
        """The end of an error that says where the file belongs."""
        return f"`{self.verb}` takes it" if self.verb else "no importer takes it"


YOUCOOK2 = Kind("YouCook2", "mcnlab import youcook2", "2d, 3d, audio, id, and caption: one text")
MSRVTT = Kind("MSR-VTT", "mcnlab import msrvtt", "2d_pooled, 3d_pooled, audio, id, caption: a list, or eval_caption")
ACTIONS = Kind("UCF101 or HMDB51", "", "2d, 3d, class, training")
SPEECH = Kind("HowTo100M's captions", "mcnlab import howto100m --captions", "start, end, text by video")
TENSORS = Kind("tensors of MSR-VTT", "mcnlab import msrvtt --tensors", "2d and 3d, a tensor by video in each")


def kind_of_row(row: Mapping[str, Any]) -> Kind | None:
    """The published set that a row can only be of.

    Args:
        row: one clip of a pickle.

    Returns:
        The set; None where it could be of several, or of none.
    """
    caption, id_ = row.get("caption"), row.get("id")
    if "class" in row and "caption" not in row and "eval_caption" not in row:
        return ACTIONS
    if "eval_caption" in row or isinstance(caption, list | tuple):
        return MSRVTT
    if isinstance(id_, str) and _MSRVTT_ID.fullmatch(id_):
        return MSRVTT
    if isinstance(caption, str | bytes) and "2d_pooled" not in row and "3d_pooled" not in row:
        return YOUCOOK2
    return None


def kind_of_rows(rows: Sequence[Any]) -> Kind | None:
    """The published set that more than half of some rows can only be of.

    Args:
        rows: of a pickle; what is no dictionary counts as nothing known.

    Returns:
        The set; None where no half agrees.
    """
    kinds = [kind_of_row(row) for row in rows if isinstance(row, dict)]
    return next((kind for kind in (YOUCOOK2, MSRVTT, ACTIONS) if 2 * kinds.count(kind) > len(rows)), None)


def kind_of_mapping(content: Mapping[Any, Any]) -> Kind | None:
    """The published file that a mapping is: captions by video, or tensors by kind.

    Args:
        content: of a pickle.

    Returns:
        The kind; None where it is neither.
    """
    first = next(iter(content.values()), None)
    if isinstance(first, dict) and {"start", "end", "text"} <= set(first):
        return SPEECH
    return TENSORS if {"2d", "3d"} <= set(content) else None


def sketch(value: Any) -> str:
    """What a value of a pickle looks like, in a few words: its type and first keys.

    Example:
        >>> sketch({"id": 1})
        "of type dict with keys 'id'"
    """
    keys = ", ".join(f"{str(key)!r:.30}" for key in list(value)[:KEYS_SHOWN]) if isinstance(value, dict) else ""
    more = ", …" if isinstance(value, dict) and len(value) > KEYS_SHOWN else ""
    return f"of type {type(value).__name__}{f' with keys {keys}{more}' if keys else ''}"
