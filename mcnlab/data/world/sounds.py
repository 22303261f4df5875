"""The microphone: the object's call, the hits on the floor, one instrument's tone, and the noise of the place."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mcnlab.data.world.calls import call
from mcnlab.data.world.tones import tone

SAMPLES_PER_S = 16_000
CLIP_SAMPLES = 20_480
"""1.28 s: 128 mel frames."""
GRAIN_SAMPLES = 9_600
"""Longest sound of one hit, 0.6 s."""

CALL_LEVEL = 0.1
TONE_LEVEL = 0.15
TICK_LEVEL = 0.3
TICK_HZ = (7150.0, 7350.0, 7550.0, 7750.0)
"""What belongs to the ticks alone, whatever the floor."""
FLOOR_LEVEL = 0.05
HIT_DB_PER_PX = 2.0
HISS_LEVEL = 0.0004
HUM_LEVEL = 0.04
DRONE_HZ = 100.0
"""Pitch of the machine in the background: one turn per log-mel frame, so that its frames are alike."""

RINGS_HZ = (5000.0, 5500.0, 6100.0, 6700.0)
FLOORS = {
    "glass": (2, 3),
    "gravel": (0, 3),
    "metal": (1, 3),
    "rubber": (0, 1),
    "water": (0, 2),
    "wood": (1, 2),
}
"""Floor to the two of `RINGS_HZ` that it rings with."""


def render_sound(
    clips: Sequence[Mapping[str, float | str]],
    phases: Sequence[float],
    randoms: Sequence[np.random.Generator],
    *,
    noise: float = 1.0,
) -> Float[np.ndarray, " samples"]:
    """The waveform of a recording; hits ring on from one clip into the next.

    Args:
        clips: factors of each clip in order; only the groups that audio carries are read.
        phases: of each clip, see `frames.bounce`.
        randoms: generator of each clip's sounds.
        noise: factor on the amplitude of the hiss.

    Returns:
        (20480 × clips,) float32 in [-1, 1], 16 kHz.
    """
    sound = np.zeros(CLIP_SAMPLES * len(clips) + GRAIN_SAMPLES, dtype=np.float32)
    for number, (factors, phase, random) in enumerate(zip(clips, phases, randoms, strict=True)):
        start = number * CLIP_SAMPLES
        steady = CALL_LEVEL * call(str(factors["vat.object"]), random) + TONE_LEVEL * tone(factors, random)
        steady += FLOOR_LEVEL * _floor(str(factors["va.floor"])) + _place(factors)
        hiss = random.standard_normal(CLIP_SAMPLES, dtype=np.float32) * np.float32(noise * HISS_LEVEL)
        sound[start : start + CLIP_SAMPLES] += _faded(steady) + hiss
        grain = _hit(factors)
        for moment in _hit_samples(float(factors["va.rate"]), phase):
            sound[start + moment : start + moment + GRAIN_SAMPLES] += grain
    return np.clip(sound[: CLIP_SAMPLES * len(clips)], -1.0, 1.0)


def _hit_samples(rate: float, phase: float) -> np.ndarray:
    """Samples within a clip at which the object touches the floor."""
    hits = np.arange(1, int(rate * CLIP_SAMPLES / SAMPLES_PER_S + phase) + 1) - phase
    moments = np.round(hits / rate * SAMPLES_PER_S).astype(np.int64)
    return moments[moments < CLIP_SAMPLES]


def _hit(factors: Mapping[str, float | str]) -> np.ndarray:
    """One hit, a tick above all else: louder from higher up, longer if the object is soft."""
    time_s = np.arange(GRAIN_SAMPLES, dtype=np.float32) / SAMPLES_PER_S
    decay_s = 0.010 * 12.0 ** float(factors["va.squash"])  # 10 ms to 120 ms
    shape = np.minimum(time_s / 0.002, 1.0) * np.exp(-time_s / decay_s) * np.minimum((0.6 - time_s) / 0.05, 1.0)
    loudness = 10.0 ** (HIT_DB_PER_PX * (float(factors["va.height"]) - 12.5) / 20.0)
    tick = np.sum([np.sin(2.0 * np.pi * frequency * time_s) for frequency in TICK_HZ], axis=0)
    return (TICK_LEVEL * loudness * shape * tick).astype(np.float32)


@functools.cache
def _floor(material: str) -> np.ndarray:
    """The floor, which rings on through the clip."""
    return np.sum([_sine(RINGS_HZ[ring]) for ring in FLOORS[material]], axis=0)


@functools.cache
def _sine(frequency_hz: float) -> np.ndarray:
    """A steady tone through a clip."""
    return np.sin(2.0 * np.pi * frequency_hz * np.arange(CLIP_SAMPLES) / SAMPLES_PER_S).astype(np.float32)


def _place(factors: Mapping[str, float | str]) -> np.ndarray:
    """A machine's drone, its level set at 1 kHz and its color around it, with or without a hum."""
    level = 10.0 ** (float(factors["a.level"]) / 20.0)
    hum = HUM_LEVEL * _sine(50.0) if factors["a.hum"] == "hum" else 0.0
    turn = _drone(float(factors["a.color"]))
    return np.tile(np.float32(level) * turn, CLIP_SAMPLES // len(turn)) + hum


def _drone(color: float) -> np.ndarray:
    """One turn of the machine: every multiple of its pitch, of a power that follows the color."""
    samples = round(SAMPLES_PER_S / DRONE_HZ)
    frequency = np.fft.rfftfreq(samples, 1.0 / SAMPLES_PER_S)
    weight = (np.maximum(frequency, 50.0) / 1000.0) ** (color / 2.0)
    phase = np.pi * np.arange(len(weight)) ** 2 / len(weight)  # spreads the energy over the turn
    weight[0] = 0.0
    return (np.fft.irfft(weight * np.exp(1j * phase)) * np.sqrt(2.0 * len(weight))).astype(np.float32)


def _faded(sound: np.ndarray) -> np.ndarray:
    """The sound with 5 ms ramps at both ends, so that clips join without a click."""
    ramp = np.linspace(0.0, 1.0, 80, dtype=np.float32)
    sound[:80] *= ramp
    sound[-80:] *= ramp[::-1]
    return sound
