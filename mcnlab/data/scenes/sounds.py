"""The microphone: the calls of what sounds, each in a rhythm of its own, and the noise of the place."""

import numpy as np
from jaxtyping import Float

from mcnlab.data.audio import FRAMES_PER_S, log_mel
from mcnlab.data.scenes.layout import Key, Scene
from mcnlab.data.scenes.settings import SceneSettings
from mcnlab.data.world.calls import CLIP_SAMPLES, SAMPLES_PER_S, TIME_S, call
from mcnlab.numerics import key_generator

SEGMENT_S = CLIP_SAMPLES / SAMPLES_PER_S
"""Length of one part of a scene, 1.28 s."""
MEL_FRAMES = round(SEGMENT_S * FRAMES_PER_S)
LEVEL_DB = (-9.0, -3.0)
"""How loud a call is."""
NOISE_LEVEL = 0.004
BURSTS_HZ = (2.0, 5.0)
"""How often a call swells."""


def render_sound(settings: SceneSettings, scene: Scene, segment: int, key: Key) -> Float[np.ndarray, " samples"]:
    """The waveform of one part of a scene.

    Args:
        settings: the world.
        scene: what sounds.
        segment: which part.
        key: of the scene; draws levels, rhythms and noise.

    Returns:
        (20480,) float32 in [-1, 1], 16 kHz. What is silent leaves no trace in it.
    """
    random = key_generator("sound", *key, segment)
    total = np.float32(settings.noise_audio) * _noise(random)
    for kind in scene.heard(segment):
        level = 10.0 ** (random.uniform(*LEVEL_DB) / 20) / 3
        total += np.float32(level) * _rhythm(random) * call(kind, random).astype(np.float32)
    return np.clip(_faded(total), -1, 1)


def heard_mel(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frames bands"]:
    """The log-mel of one part: its own loudest cell is 0 dB, as if the part were a recording.

    Args:
        waveform: (20480,), 16 kHz.

    Returns:
        (128, 40), float16, dB.
    """
    return log_mel(waveform)[:MEL_FRAMES].astype(np.float16)


def _rhythm(random: np.random.Generator) -> np.ndarray:
    """(samples,): a swell that comes back, never quite silent."""
    turns = random.uniform(*BURSTS_HZ) * TIME_S + random.random()
    angle = ((turns - np.floor(turns)) * (2 * np.pi)).astype(np.float32)  # small, so that float32 will do
    return np.float32(0.6) - np.float32(0.4) * np.cos(angle)


def _noise(random: np.random.Generator) -> np.ndarray:
    """(samples,): noise of the microphone, its color and level drawn anew."""
    white = random.standard_normal(CLIP_SAMPLES, dtype=np.float32)
    share = np.float32(random.uniform(0.0, 0.8))
    colored = white.copy()
    colored[1:] += share * white[:-1]
    return np.float32(NOISE_LEVEL * random.uniform(0.5, 2.0)) * colored


def _faded(sound: np.ndarray) -> np.ndarray:
    """The sound with 5 ms ramps at both ends, so that parts join without a click."""
    ramp = np.linspace(0.0, 1.0, 80, dtype=np.float32)
    sound[:80] *= ramp
    sound[-80:] *= ramp[::-1]
    return sound
