"""Stores, their importers, and everything that turns media into what towers read.

Names are looked up when they are used, so that `import mcnlab.data` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcnlab.data.importers.unpickling import load_published_pickle
    from mcnlab.data.store import Store, open_store

_HOME = {"Store": "store", "load_published_pickle": "importers.unpickling", "open_store": "store"}
"""Name to the module that holds it."""
__all__ = ["Store", "load_published_pickle", "open_store"]


def __getattr__(name: str) -> Any:
    """A part by its name."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
