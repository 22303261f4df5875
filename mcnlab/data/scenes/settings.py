"""What can be set about the scene world, with ranges, and the fingerprint of a choice."""

import hashlib
import json
from typing import Literal, Self

from pydantic import Field, model_validator

from mcnlab.config import Settings
from mcnlab.data.world.shapes import OUTLINES

SCENES_VERSION = 1
"""Raised whenever the same settings would render other bytes than before."""


class SceneSettings(Settings):
    """Settings of one scene world; the same settings always give the same bytes."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of every random draw."""
    train_scenes: int = Field(default=200, ge=1, le=1_000_000)
    """Scenes to train on."""
    val_scenes: int = Field(default=30, ge=0, le=1_000_000)
    """Scenes to choose settings on."""
    test_scenes: int = Field(default=60, ge=1, le=1_000_000)
    """Scenes that only the evaluation sees."""
    segments: int = Field(default=6, ge=1, le=64)
    """Parts of a scene, 1.28 s each; things come, go, begin and stop to sound at their borders."""
    frames_per_segment: int = Field(default=2, ge=1, le=32)
    """Frames of each part, evenly spaced."""
    size_px: int = Field(default=56, ge=24, le=256)
    """Height and width of a frame."""
    classes: int = Field(default=6, ge=3, le=len(OUTLINES))
    """Kinds of things; each has a shape, a color and a sound of its own."""
    things: int = Field(default=3, ge=1, le=4)
    """Places for things in a frame; now and then one is empty."""
    sounding: Literal["always", "once"] = "always"
    """`always`: in every part of a scene something in sight sounds. `once`: one thing sounds, during some parts; all
    others in sight are silent, and the scene is labeled with its class."""
    together: int = Field(default=1, ge=1, le=3)
    """Things that sound at the same time, where so many are in sight. Needs `sounding: always`."""
    offscreen: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the parts, of those in which nothing in sight has to sound, where something out of sight does; with
    `sounding: always`, of all parts."""
    clips: Literal["segments", "scenes"] = "segments"
    """What a clip is: a part of a scene, or all of it."""
    noise_video: float = Field(default=0.03, ge=0.0, le=0.5)
    """Standard deviation of the pixel noise; 1 is the whole range from black to white."""
    noise_audio: float = Field(default=1.0, ge=0.0, le=30.0)
    """Factor on the amplitude of the microphone's noise."""

    @model_validator(mode="after")
    def _together_needs_always(self) -> Self:
        if self.together > 1 and self.sounding != "always":
            raise ValueError(f"together belongs to sounding: always, but sounding is {self.sounding}")
        if self.things >= self.classes:
            raise ValueError(f"things must be fewer than classes, got {self.things} of {self.classes}")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(OUTLINES)[: self.classes]

    @property
    def scenes_of_split(self) -> dict[str, int]:
        """Scenes in each split, empty splits left out."""
        counts = {"train": self.train_scenes, "val": self.val_scenes, "test": self.test_scenes}
        return {split: count for split, count in counts.items() if count}


def scenes_fingerprint(settings: SceneSettings) -> str:
    """Sixteen hexadecimal digits that name a scene world: equal settings, equal name.

    Args:
        settings: the world.

    Returns:
        Hash over all settings and the version of the renderer.
    """
    text = json.dumps({"version": SCENES_VERSION, **settings.model_dump()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
