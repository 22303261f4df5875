"""What can be set about the narrated world, with ranges, and the fingerprint of a choice."""

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mcnlab.config import Settings
from mcnlab.data.world.views import VIEWS, view_names
from mcnlab.modalities import MODALITIES

WORLD_VERSION = 3
"""Raised whenever the same settings would render other bytes than before."""


class WorldSettings(Settings):
    """Settings of one narrated world; the same settings always give the same bytes."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of every random draw."""
    train_recordings: int = Field(default=600, ge=2, le=1_000_000)
    """Recordings to train on."""
    val_recordings: int = Field(default=30, ge=0, le=1_000_000)
    """Recordings to choose settings on."""
    test_recordings: int = Field(default=100, ge=1, le=1_000_000)
    """Recordings that only the evaluation sees."""
    clips_per_recording: int = Field(default=6, ge=1, le=64)
    """Narrated events in each recording, one after the other."""
    noise_video: float = Field(default=0.03, ge=0.0, le=0.5)
    """Standard deviation of the pixel noise; 1 is the whole range from black to white."""
    noise_audio: float = Field(default=1.0, ge=0.0, le=30.0)
    """Factor on the amplitude of the microphone's hiss; 30 drowns the quieter sounds."""
    noise_text: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that the narrator leaves out a word that describes a factor (the object is always named)."""
    narration_lag_s: float = Field(default=0.0, ge=0.0, le=1.0)
    """Seconds by which the narration, and with it the clip's window, comes after the event it tells."""
    mismatch: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of clips whose narration tells of something else than what is seen and heard."""
    missing_video: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of clips without video."""
    missing_audio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of clips without audio."""
    missing_text: float = Field(default=0.0, ge=0.0, le=0.99)
    """Share of clips without a sentence."""
    video: Literal["features", "frames"] = "features"
    """What the store holds of the pictures: tracks of untrained features, or the frames themselves, in color."""
    video_dim: int = Field(default=512, ge=8, le=8192)
    """Width of each of the two visual feature tracks."""
    word_dim: int = Field(default=100, ge=2, le=1024)
    """Width of the word vectors."""
    views: int = Field(default=0, ge=0, le=len(VIEWS))
    """Further views beside video, audio and text: the first so many of `mcnlab.data.world.views.VIEWS`."""
    noise_views: float = Field(default=1.0, ge=0.0, le=30.0)
    """Standard deviation of the noise of further views; that of what they show is 1. Needs `views`."""

    @model_validator(mode="after")
    def _noise_of_something(self) -> Self:
        if self.views == 0 and self.noise_views != type(self).model_fields["noise_views"].default:
            raise ValueError("noise_views is given without views")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the world has, missing clips aside."""
        return (*MODALITIES, *view_names(self.views))

    @property
    def plain(self) -> dict[str, Any]:
        """Plain values that say which world this is; nothing of further views or frames where there are none."""
        values = self.model_dump()
        left_out = set() if self.views else {"views", "noise_views"}
        left_out |= {"video"} if self.video == "features" else set()
        return {name: value for name, value in values.items() if name not in left_out}

    @property
    def recordings_of_split(self) -> dict[str, int]:
        """Recordings in each split, empty splits left out."""
        counts = {"train": self.train_recordings, "val": self.val_recordings, "test": self.test_recordings}
        return {split: count for split, count in counts.items() if count}


def world_fingerprint(settings: WorldSettings) -> str:
    """Sixteen hexadecimal digits that name a world: equal settings, equal name.

    Args:
        settings: the world.

    Returns:
        Hash over all settings and the version of the renderer.

    Example:
        >>> world_fingerprint(WorldSettings()) == world_fingerprint(WorldSettings(seed=0))
        True
    """
    text = json.dumps({"version": WORLD_VERSION, **settings.plain}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
