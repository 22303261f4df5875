"""What each object sounds like: ten calls of two voices each, in a band that belongs to them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SAMPLES_PER_S = 16_000
CLIP_SAMPLES = 20_480

VOICES_HZ = (2600.0, 3000.0, 3460.0, 4000.0, 4600.0)
"""Pitches of the voices; two of five make ten calls."""


@dataclass(frozen=True)
class Call:
    """Two voices that swell together, again and again."""

    voices: tuple[int, int]
    """Which of `VOICES_HZ` sound."""
    per_s: float
    """Swells per second."""
    glide: float = 0.0
    """Share of its frequency by which a voice rises (falls, if negative) during a swell."""
    rough: float = 0.0
    """Random detuning from swell to swell, as a share of the frequency."""


CALLS = {
    "ball": Call((0, 2), 9.0, glide=0.06),  # squeaks
    "box": Call((1, 2), 24.0, rough=0.04),  # rattles
    "cross": Call((3, 4), 31.0, rough=0.04),  # hisses
    "fish": Call((0, 1), 13.0, glide=0.08),  # bubbles
    "heart": Call((0, 3), 18.0),  # purrs
    "hourglass": Call((2, 4), 11.0, glide=-0.08),  # trickles
    "moon": Call((0, 4), 7.0),  # hoots
    "ring": Call((1, 3), 17.0, glide=0.03),  # trills
    "star": Call((1, 4), 14.0, rough=0.03),  # twinkles
    "tree": Call((2, 3), 27.0, rough=0.05),  # rustles
}
"""Object name to call."""


def call(name: str, random: np.random.Generator) -> Float[np.ndarray, "samples"]:
    """The call of an object, sounding through the whole clip.

    Args:
        name: the object.
        random: generator of the clip's sounds; chooses where the call begins.

    Returns:
        (20480,) float32 of amplitude about 1.
    """
    kind = CALLS[name]
    beats = np.arange(CLIP_SAMPLES) * (kind.per_s / SAMPLES_PER_S) + random.random()
    number = beats.astype(np.int64)
    progress = beats - number
    detuned = 1.0 + kind.rough * random.uniform(-1.0, 1.0, size=number[-1] + 1)
    turns = np.cumsum((1.0 + kind.glide * (progress - 0.5)) * detuned[number]) / SAMPLES_PER_S
    first, second = (np.sin(_angle(turns * VOICES_HZ[voice])) for voice in kind.voices)
    return 0.6 * (first + second) * np.sin(np.pi * progress).astype(np.float32)


def _angle(turns: np.ndarray) -> np.ndarray:
    """Turns as radians in [0, 2π), float32: the sine of a large float32 would be inexact."""
    return (np.mod(turns, 1.0) * (2.0 * np.pi)).astype(np.float32)
