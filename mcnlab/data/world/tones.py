"""The tone of a clip: six instruments in four registers, with four contours."""

import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

SAMPLES_PER_S = 16_000
CLIP_SAMPLES = 20_480

NOTES = 6
"""Notes in a clip; each glides like the others, so that the contour is heard everywhere."""
GLIDE_OCTAVES = 0.5
REGISTERS_HZ = {"deep": 140.0, "low": 270.0, "high": 520.0, "shrill": 1000.0}
TABLE_SAMPLES = 4096

PARTIALS: dict[str, dict[float, float]] = {
    "banjo": {1: 1.0, 2: 0.8, 3: 0.7, 4: 0.5, 5: 0.45, 6: 0.3, 7: 0.3, 8: 0.2},
    "bell": {1: 1.0, 2.4: 0.8, 3: 0.5, 4.2: 0.6, 5.4: 0.4},
    "clarinet": {1: 1.0, 3: 0.75, 5: 0.5, 7: 0.35, 9: 0.2},
    "flute": {1: 1.0, 2: 0.12},
    "organ": {1: 0.8, 2: 0.8, 4: 0.8, 8: 0.7},
    "violin": {k: 1.0 / k**0.6 for k in range(1, 13)},
}
"""Instrument to its partials: multiple of the fundamental and amplitude."""


def tone(factors: Mapping[str, float | str], random: np.random.Generator) -> Float[np.ndarray, "samples"]:
    """One instrument through the whole clip.

    Args:
        factors: factor name to value; reads `at.register`, `at.instrument`, `at.contour`.
        random: generator of the clip's sounds; detunes by up to a semitone, and chooses where the notes begin.

    Returns:
        (20480,) float32 of mean square 1/2.
    """
    instrument, register = str(factors["at.instrument"]), str(factors["at.register"])
    base_hz = REGISTERS_HZ[register] * 2.0 ** random.uniform(-1 / 12, 1 / 12)
    beats = np.arange(CLIP_SAMPLES) * (NOTES / CLIP_SAMPLES) + random.random()
    octaves = _contour(str(factors["at.contour"]), beats)
    turns = np.cumsum(base_hz * 2.0**octaves) / SAMPLES_PER_S
    table = _wave_table(instrument, register)
    index = np.mod(turns * (TABLE_SAMPLES / 5.0), TABLE_SAMPLES).astype(np.int64)
    return _loudness(instrument, beats) * table[index]


def _contour(contour: str, beats: np.ndarray) -> np.ndarray:
    """Octaves above the register's pitch at each sample."""
    progress = np.mod(beats, 1.0)
    if contour == "rising":
        return GLIDE_OCTAVES * (progress - 0.5)
    if contour == "falling":
        return GLIDE_OCTAVES * (0.5 - progress)
    if contour == "trembling":
        return 0.35 * GLIDE_OCTAVES * np.sin(2.0 * np.pi * 3.0 * beats)  # 14 times a second
    return np.zeros_like(beats)


def _loudness(instrument: str, beats: np.ndarray) -> np.ndarray:
    """Amplitude over time: the banjo is plucked at every note, the bell struck at every third."""
    if instrument == "banjo":
        envelope = np.exp(-3.5 * np.mod(beats, 1.0))
    elif instrument == "bell":
        envelope = np.exp(-0.7 * np.mod(beats, 3.0))
    else:
        return np.ones(len(beats), dtype=np.float32)
    return (envelope / np.sqrt(np.mean(envelope**2))).astype(np.float32)


@functools.cache
def _wave_table(instrument: str, register: str) -> np.ndarray:
    """Five turns of the instrument's wave, free of partials in the band of the ticks."""
    highest_hz = REGISTERS_HZ[register] * 2.0 ** (GLIDE_OCTAVES / 2 + 1 / 12)
    turns = np.arange(TABLE_SAMPLES) * (5.0 / TABLE_SAMPLES)
    wave = np.zeros(TABLE_SAMPLES)
    for multiple, amplitude in PARTIALS[instrument].items():
        if multiple * highest_hz < 6900.0:
            wave += amplitude * np.sin(2.0 * np.pi * multiple * turns + multiple**2)
    return (wave / np.sqrt(2.0 * np.mean(wave**2))).astype(np.float32)
