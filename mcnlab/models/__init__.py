"""Towers, graphs and the small networks round them: plain sizes in, tensors out.

Names are looked up when they are used, so that reports can read graphs without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcnlab.models.davenet import DaveNet
    from mcnlab.models.distillation import DistillationProjector
    from mcnlab.models.localization.predictive_coding import PredictiveCoding
    from mcnlab.models.towers import GatedUnit

_HOME = {
    "DaveNet": "davenet",
    "DistillationProjector": "distillation",
    "GatedUnit": "towers",
    "PredictiveCoding": "localization.predictive_coding",
}
"""Name to the module that holds it."""
__all__ = ["DaveNet", "DistillationProjector", "GatedUnit", "PredictiveCoding"]


def __getattr__(name: str) -> Any:
    """A network by its name."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
