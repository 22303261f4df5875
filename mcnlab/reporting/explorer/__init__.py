"""The explorer: two linked maps of the same clips in JupyterLab, and all that one may ask of a clip."""

from mcnlab.reporting.explorer.explorer import Explorer

__all__ = ["Explorer"]
