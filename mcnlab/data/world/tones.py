"""The tone of a clip: six instruments in four registers, with four contours."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SAMPLES_PER_S = 16_000
CLIP_SAMPLES = 20_480

NOTES = 6
"""Notes in a clip; each glides like the others, so that the contour is heard everywhere."""
GLIDE_OCTAVES = 0.75
REGISTERS_HZ = {"deep": 200.0, "low": 350.0, "high": 610.0, "shrill": 1060.0}
BODIES_HZ = (1550.0, 1770.0, 2020.0, 2300.0)
"""Resonances of the instruments' bodies; two of four make six instruments."""
HIGHEST_HZ = 1450.0
"""No partial above this: the bands higher up belong to the bodies, the calls and the hits."""
TABLE_SAMPLES = 4096


@dataclass(frozen=True)
class Instrument:
    """What makes an instrument sound like itself."""

    bodies: tuple[int, int]
    """Which of `BODIES_HZ` ring along."""
    partials: dict[float | int, float]
    """Multiple of the fundamental to amplitude."""
    decay: float = 0.0
    """How fast a note dies away: 0 not at all."""
    notes_per_stroke: float = 1.0


INSTRUMENTS = {
    "banjo": Instrument((0, 1), {1: 1.0, 2: 0.3, 3: 0.2, 4: 0.1}, decay=2.0),
    "bell": Instrument((2, 3), {1: 1.0, 2.4: 0.25, 3: 0.15}, decay=0.7, notes_per_stroke=3.0),
    "clarinet": Instrument((0, 2), {1: 1.0, 3: 0.3, 5: 0.15}),
    "flute": Instrument((1, 3), {1: 1.0, 2: 0.08}),
    "organ": Instrument((0, 3), {1: 0.8, 2: 0.3, 4: 0.2}),
    "violin": Instrument((1, 2), {1: 1.0, 2: 0.3, 3: 0.2, 4: 0.15, 5: 0.1, 6: 0.1}),
}
"""Instrument by name."""


def tone(factors: Mapping[str, float | str], random: np.random.Generator) -> Float[np.ndarray, " samples"]:
    """One instrument through the whole clip.

    Args:
        factors: factor name to value; reads `at.register`, `at.instrument`, `at.contour`.
        random: generator of the clip's sounds; detunes by up to a semitone, and chooses where the notes begin.

    Returns:
        (20480,) float32 of mean square 1/2.
    """
    instrument, register = INSTRUMENTS[str(factors["at.instrument"])], str(factors["at.register"])
    base_hz = REGISTERS_HZ[register] * 2.0 ** random.uniform(-0.5 / 12, 0.5 / 12)
    beats = np.arange(CLIP_SAMPLES) * (NOTES / CLIP_SAMPLES) + random.random()
    octaves = _contour(str(factors["at.contour"]), beats)
    turns = np.cumsum(base_hz * 2.0**octaves) / SAMPLES_PER_S
    table = _wave_table(str(factors["at.instrument"]), register)
    index = (turns * (TABLE_SAMPLES / 5.0)).astype(np.int64) % TABLE_SAMPLES
    return _loudness(instrument, beats) * (table[index] + _body(instrument))


def _contour(contour: str, beats: np.ndarray) -> np.ndarray:
    """Octaves above the register's pitch at each sample."""
    progress = beats - np.floor(beats)
    if contour == "rising":
        return GLIDE_OCTAVES * (progress - 0.5)
    if contour == "falling":
        return GLIDE_OCTAVES * (0.5 - progress)
    if contour == "trembling":
        return 0.35 * GLIDE_OCTAVES * np.sin(2.0 * np.pi * 3.0 * beats)  # 14 times a second
    return np.zeros_like(beats)


def _loudness(instrument: Instrument, beats: np.ndarray) -> np.ndarray:
    """Amplitude over time: 1 for what is blown or bowed, falling after every stroke for what is struck."""
    if instrument.decay == 0.0:
        return np.ones(len(beats), dtype=np.float32)
    since_stroke = np.mod(beats, instrument.notes_per_stroke)
    envelope = np.exp(-instrument.decay * since_stroke) * np.minimum(since_stroke / 0.04, 1.0)
    return (envelope / np.sqrt(np.mean(envelope**2))).astype(np.float32)


def _body(instrument: Instrument) -> np.ndarray:
    """The resonances that do not move with the pitch."""
    return np.sum([_resonance(BODIES_HZ[body]) for body in instrument.bodies], axis=0)


@functools.cache
def _resonance(frequency_hz: float) -> np.ndarray:
    """One resonance through a clip."""
    time_s = np.arange(CLIP_SAMPLES) / SAMPLES_PER_S
    return (0.3 * np.sin(2.0 * np.pi * frequency_hz * time_s)).astype(np.float32)


@functools.cache
def _wave_table(instrument: str, register: str) -> np.ndarray:
    """Five turns of the instrument's wave, with the partials that stay low enough."""
    top_hz = REGISTERS_HZ[register] * 2.0 ** (GLIDE_OCTAVES / 2 + 0.5 / 12)
    turns = np.arange(TABLE_SAMPLES) * (5.0 / TABLE_SAMPLES)
    wave = np.zeros(TABLE_SAMPLES)
    for multiple, amplitude in INSTRUMENTS[instrument].partials.items():
        if multiple == 1 or multiple * top_hz < HIGHEST_HZ:
            wave += amplitude * np.sin(2.0 * np.pi * multiple * turns + multiple**2)
    return (wave / np.sqrt(2.0 * np.mean(wave**2))).astype(np.float32)
