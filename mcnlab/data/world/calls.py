"""What each object sounds like: ten calls that differ in band and in rhythm of their small parts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SAMPLES_PER_S = 16_000
CLIP_SAMPLES = 20_480


@dataclass(frozen=True)
class Chirps:
    """A row of short tones that glide from one frequency to another."""

    from_hz: float
    to_hz: float
    per_s: float
    spread: float = 0.0
    """Random detuning of each tone, as a share of its frequency."""


@dataclass(frozen=True)
class Rush:
    """Noise in a band, swelling and fading."""

    low_hz: float
    high_hz: float
    per_s: float
    depth: float
    """0 steady, 1 falling to silence between the swells."""


CALLS: dict[str, Chirps | Rush] = {
    "ball": Chirps(1500.0, 2300.0, 9.0),  # squeaks
    "box": Rush(1500.0, 6700.0, 24.0, 1.0),  # rattles
    "cross": Rush(5700.0, 6800.0, 11.0, 0.0),  # hisses
    "fish": Chirps(900.0, 1700.0, 13.0, spread=0.25),  # bubbles
    "heart": Rush(1200.0, 1900.0, 18.0, 1.0),  # purrs
    "hourglass": Chirps(6300.0, 4200.0, 11.0),  # trickles
    "moon": Chirps(2050.0, 2050.0, 7.0),  # hoots
    "ring": Chirps(2700.0, 3300.0, 17.0),  # trills
    "star": Chirps(5600.0, 5600.0, 14.0, spread=0.15),  # twinkles
    "tree": Rush(3000.0, 4800.0, 8.0, 0.6),  # rustles
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
    if isinstance(kind, Chirps):
        return _chirps(kind, beats, random)
    swell = 1.0 - kind.depth * np.cos(np.pi * beats) ** 4
    return (swell * _rush(kind, random)).astype(np.float32)


def _chirps(kind: Chirps, beats: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Gliding tones, one per beat."""
    number = beats.astype(np.int64)
    progress = beats - number
    detuned = 1.0 + kind.spread * random.uniform(-1.0, 1.0, size=number[-1] + 1)
    frequency = (kind.from_hz + (kind.to_hz - kind.from_hz) * progress) * detuned[number]
    phase = np.cumsum(frequency) * (2.0 * np.pi / SAMPLES_PER_S)
    return (np.sin(np.mod(phase, 2.0 * np.pi).astype(np.float32)) * np.sin(np.pi * progress)).astype(np.float32)


def _rush(kind: Rush, random: np.random.Generator) -> np.ndarray:
    """Noise in the call's band, of mean square 1/2."""
    frequency = np.fft.rfftfreq(CLIP_SAMPLES, 1.0 / SAMPLES_PER_S)
    inside = (frequency >= kind.low_hz) & (frequency <= kind.high_hz)
    spectrum = np.where(inside, np.exp(2j * np.pi * random.random(len(frequency))), 0.0)
    noise = np.fft.irfft(spectrum)
    return noise / np.sqrt(2.0 * np.mean(noise**2))
