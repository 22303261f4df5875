"""What a clip looks and sounds like, as far as the explorer needs it."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from mcnlab.runs import RunFolder


@runtime_checkable
class ClipMedia(Protocol):
    """What a clip looks and sounds like."""

    @property
    def frames(self) -> Sequence[bytes]:
        """PNG files in order of time."""

    @property
    def wav(self) -> bytes | None:
        """None where nothing can be heard."""

    @property
    def note(self) -> str:
        """Why there is less than all; empty where all is there."""


Media = Callable[[RunFolder, str], ClipMedia]
"""Looks up a clip by its id."""
