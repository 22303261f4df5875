"""What can be set about a set of named kinds, with ranges."""

from typing import Self

from pydantic import Field, model_validator

from mcnlab.config import Settings
from mcnlab.data.kinds.names import NOUNS, TRAITS


class KindSettings(Settings):
    """Settings of one set of named kinds; the same settings always give the same bytes."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of every random draw."""
    seen: int = Field(default=20, ge=4, le=200)
    """Classes to train on."""
    unseen: int = Field(default=10, ge=2, le=200)
    """Classes that only the evaluation sees."""
    further: int = Field(default=40, ge=4, le=200)
    """Classes of the split `further`, on which a namer may learn what others look like."""
    clips_per_class: int = Field(default=30, ge=2, le=10_000)
    """Clips of every class; a third as many again of the seen ones are held out as `val`."""
    short_cut: float = Field(default=1.5, ge=0.0, le=30.0)
    """Strength of what tells the seen classes apart at a glance, but says nothing of what they resemble: standard
    deviation of its components, where that of what classes really look like is 1. All other clips have it at random."""
    noise: float = Field(default=1.0, ge=0.0, le=30.0)
    """Standard deviation of what a clip adds to the looks of its class."""

    @model_validator(mode="after")
    def _names_enough(self) -> Self:
        wanted, most = self.seen + self.unseen + self.further, len(NOUNS) * len(TRAITS)
        if wanted > most:
            raise ValueError(f"{wanted} classes are wanted, but there are names for {most}")
        return self
