"""mcnlab finds out what multimodal self-supervision keeps, and what it forgets."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcnlab.experiment import embed, load_run
    from mcnlab.runs import ask_to_stop, list_runs

__version__ = "0.1.0"
__all__ = ["__version__", "ask_to_stop", "embed", "list_runs", "load_run"]

_HOME = {
    "ask_to_stop": "mcnlab.runs",
    "embed": "mcnlab.experiment",
    "list_runs": "mcnlab.runs",
    "load_run": "mcnlab.experiment",
}


def __getattr__(name: str) -> Any:
    """The names that notebooks start with; loaded at first use, since torch and pandas are heavy."""
    if name not in _HOME:
        raise AttributeError(f"module 'mcnlab' has no attribute {name!r}")
    # pulled in late: `import mcnlab` must stay light
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
