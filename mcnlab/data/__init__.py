"""Stores, their importers, and everything that turns media into what towers read."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcnlab.data.importers.unpickling import load_published_pickle

__all__ = ["load_published_pickle"]


def __getattr__(name: str) -> Any:
    """Load the reader of published pickles on its first use: torch is heavy."""
    if name != "load_published_pickle":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # pulled in late: `import mcnlab.data` must stay light
    from mcnlab.data.importers.unpickling import load_published_pickle

    return load_published_pickle
