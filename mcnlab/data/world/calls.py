"""What each object sounds like: ten calls of two voices each, in a band that belongs to them."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SAMPLES_PER_S = 16_000
CLIP_SAMPLES = 20_480
TIME_S = np.arange(CLIP_SAMPLES) / SAMPLES_PER_S

VOICES_HZ = (2600.0, 3000.0, 3460.0, 4000.0, 4600.0)
"""Pitches of the voices; two of five make ten calls."""


@dataclass(frozen=True)
class Call:
    """Two voices that flutter together, too fast to be told apart in time: a timbre, not a rhythm."""

    voices: tuple[int, int]
    """Which of `VOICES_HZ` sound."""
    flutter_hz: float
    """Swells per second; above 80 they are even within one log-mel frame."""


CALLS = {
    "ball": Call((0, 2), 80.0),
    "box": Call((1, 2), 200.0),
    "cross": Call((3, 4), 160.0),
    "fish": Call((0, 1), 100.0),
    "heart": Call((0, 3), 120.0),
    "hourglass": Call((2, 4), 140.0),
    "moon": Call((0, 4), 80.0),
    "ring": Call((1, 3), 100.0),
    "star": Call((1, 4), 120.0),
    "tree": Call((2, 3), 180.0),
}
"""Object name to call."""


def call(name: str, random: np.random.Generator) -> Float[np.ndarray, " samples"]:
    """The call of an object, sounding through the whole clip.

    Args:
        name: the object.
        random: generator of the clip's sounds; chooses where the flutter begins.

    Returns:
        (20480,) float32 of amplitude about 1.
    """
    kind = CALLS[name]
    swell = 0.7 - 0.3 * np.cos(_angle(TIME_S * kind.flutter_hz + random.random()))
    return 0.7 * swell * (_voice(VOICES_HZ[kind.voices[0]]) + _voice(VOICES_HZ[kind.voices[1]]))


@functools.cache
def _voice(frequency_hz: float) -> np.ndarray:
    """One voice through a clip."""
    return np.sin(_angle(TIME_S * frequency_hz))


def _angle(turns: np.ndarray) -> np.ndarray:
    """Turns as radians in [0, 2π), float32: the sine of a large float32 would be inexact."""
    return ((turns - np.floor(turns)) * (2.0 * np.pi)).astype(np.float32)
