"""The microphone: the object's call, the hits on the floor, one instrument's tone, and the noise of the place."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mcnlab.data.world.calls import call
from mcnlab.data.world.tones import tone

SAMPLES_PER_S = 16_000
CLIP_SAMPLES = 20_480
"""1.28 s: 128 mel frames."""
GRAIN_SAMPLES = 3_200
"""Longest sound of one hit, 0.2 s."""

CALL_LEVEL = 0.11
TONE_LEVEL = 0.15
TICK_LEVEL = 0.6
TICK_HZ = (7400.0, 7950.0)
"""The band that belongs to the ticks alone, whatever the floor."""
FLOOR_LEVEL = 0.2
HIT_DB_PER_PX = 2.0
HUM_LEVEL = 0.04

RINGS_HZ = (5000.0, 5500.0, 6100.0, 6700.0)
FLOORS = {
    "glass": (2, 3),
    "gravel": (0, 3),
    "metal": (1, 3),
    "rubber": (0, 1),
    "water": (0, 2),
    "wood": (1, 2),
}
"""Floor to the two of `RINGS_HZ` that ring when it is hit."""


def render_sound(
    clips: Sequence[Mapping[str, float | str]],
    phases: Sequence[float],
    randoms: Sequence[np.random.Generator],
    *,
    noise: float = 1.0,
) -> Float[np.ndarray, "samples"]:
    """The waveform of a recording; hits ring on from one clip into the next.

    Args:
        clips: factors of each clip in order; only the groups that audio carries are read.
        phases: of each clip, see `frames.bounce`.
        randoms: generator of each clip's sounds.
        noise: factor on the amplitude of the background noise.

    Returns:
        (20480 × clips,) float32 in [-1, 1], 16 kHz.
    """
    sound = np.zeros(CLIP_SAMPLES * len(clips) + GRAIN_SAMPLES, dtype=np.float32)
    for number, (factors, phase, random) in enumerate(zip(clips, phases, randoms, strict=True)):
        start = number * CLIP_SAMPLES
        steady = CALL_LEVEL * call(str(factors["vat.object"]), random) + TONE_LEVEL * tone(factors, random)
        sound[start : start + CLIP_SAMPLES] += _faded(steady) + np.float32(noise) * _place(factors, random)
        grain = _hit(factors, random)
        for moment in _hit_samples(float(factors["va.rate"]), phase):
            sound[start + moment : start + moment + GRAIN_SAMPLES] += grain
    return np.clip(sound[: CLIP_SAMPLES * len(clips)], -1.0, 1.0)


def _hit_samples(rate: float, phase: float) -> np.ndarray:
    """Samples within a clip at which the object touches the floor."""
    hits = np.arange(1, int(rate * CLIP_SAMPLES / SAMPLES_PER_S + phase) + 1) - phase
    moments = np.round(hits / rate * SAMPLES_PER_S).astype(np.int64)
    return moments[moments < CLIP_SAMPLES]


def _hit(factors: Mapping[str, float | str], random: np.random.Generator) -> np.ndarray:
    """One hit: a tick above all else and the ringing floor; louder from higher up, longer if the object is soft."""
    height, squash, material = float(factors["va.height"]), float(factors["va.squash"]), str(factors["va.floor"])
    time_s = np.arange(GRAIN_SAMPLES, dtype=np.float32) / SAMPLES_PER_S
    decay_s = 0.008 * 10.0**squash  # 8 ms to 80 ms
    shape = np.minimum(time_s / 0.002, 1.0) * np.exp(-time_s / decay_s)
    loudness = 10.0 ** (HIT_DB_PER_PX * (height - 12.0) / 20.0)
    sound = TICK_LEVEL * loudness * band_noise(GRAIN_SAMPLES, *TICK_HZ, random)
    ring = np.sum([np.sin(2.0 * np.pi * RINGS_HZ[ring] * time_s) for ring in FLOORS[material]], axis=0)
    ringing = FLOOR_LEVEL * loudness**0.5 * np.minimum(time_s / 0.002, 1.0) * np.exp(-time_s / 0.05)
    return ((shape * sound + ringing * ring) * np.minimum((0.2 - time_s) / 0.01, 1.0)).astype(np.float32)


def _place(factors: Mapping[str, float | str], random: np.random.Generator) -> np.ndarray:
    """Background noise, its level set at 1 kHz and its color around it, with or without a hum."""
    level = 10.0 ** (float(factors["a.level"]) / 20.0)
    frequency = np.fft.rfftfreq(CLIP_SAMPLES, 1.0 / SAMPLES_PER_S)
    weight = (np.maximum(frequency, 50.0) / 1000.0) ** (float(factors["a.color"]) / 2.0)
    time_s = np.arange(CLIP_SAMPLES, dtype=np.float32) / SAMPLES_PER_S
    hum = HUM_LEVEL * np.sin(np.float32(2.0 * np.pi * 50.0) * time_s) if factors["a.hum"] == "hum" else 0.0
    return (level * _noise(weight, random) + hum).astype(np.float32)


def band_noise(
    samples: int, low_hz: float, high_hz: float, random: np.random.Generator
) -> Float[np.ndarray, "samples"]:
    """Noise that fills one band evenly.

    Args:
        samples: length.
        low_hz: lower edge.
        high_hz: upper edge.
        random: where it comes from.

    Returns:
        (samples,) of mean square 1/2, like a sine of amplitude 1.
    """
    frequency = np.fft.rfftfreq(samples, 1.0 / SAMPLES_PER_S)
    inside = ((frequency >= low_hz) & (frequency <= high_hz)).astype(np.float64)
    noise = _noise(inside, random)
    return noise / np.sqrt(2.0 * np.mean(noise**2))


def _noise(weight: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Noise with the given amplitude at each frequency; all ones give mean square 1."""
    spectrum = weight * np.exp(2j * np.pi * random.random(len(weight)))
    return np.fft.irfft(spectrum) * np.sqrt(2.0 * (len(weight) - 1))


def _faded(sound: np.ndarray) -> np.ndarray:
    """The sound with 5 ms ramps at both ends, so that clips join without a click."""
    ramp = np.linspace(0.0, 1.0, 80, dtype=np.float32)
    sound[:80] *= ramp
    sound[-80:] *= ramp[::-1]
    return sound
