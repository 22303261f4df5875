"""The sound of a stored recording, for a person to hear: rendered again, or read from the files that it came from."""

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.audio import SAMPLES_PER_S
from mcnlab.data.media_files import read_sound
from mcnlab.data.scenes import render_scene_again
from mcnlab.data.store import Store
from mcnlab.data.world import WorldSettings, render_recording
from mcnlab.errors import DataError

LONGEST_S = 30.0
"""Sounds are cut after so long."""


def sound_of_recording(store: Store, row: int) -> bytes | None:
    """The sound of a recording.

    Args:
        store: where it lies.
        row: which.

    Returns:
        A WAV file of one channel at 16 kHz, at most 30 s; None where the store does not say where the sound came from,
        or it is not there any more.
    """
    media = store.media(row)
    try:
        waveform = _waveform(store, row, media)
    except DataError:
        return None  # the files have moved: a picture without sound is better than none
    return None if waveform is None else as_wav(waveform[: round(LONGEST_S * SAMPLES_PER_S)])


def as_wav(waveform: np.ndarray) -> bytes:
    """A WAV file of 16-bit samples.

    Args:
        waveform: (samples,), float, -1 to 1, 16 kHz; louder is cut off.
    """
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLES_PER_S)
        file.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _waveform(store: Store, row: int, media: dict[str, Any]) -> np.ndarray | None:
    """The samples; None where nobody knows."""
    if media.get("source") == "scenes":
        return render_scene_again(store, row).waveform
    if media.get("source") == "world":
        values = {name: value for name, value in store.info["world"].items() if name != "version"}
        settings = WorldSettings.parse(values, source=str(store.path))
        return np.concatenate(
            [clip.waveform for clip in render_recording(settings, media["split"], media["recording"])]
        )
    folder, pointers = store.info.get("media_folder"), media.get("clips", [])
    files = [(one.get("audio") or one.get("video"), one) for one in pointers]
    if folder is None or not files or not all(file for file, _ in files):
        return None
    heard = [read_sound(Path(folder), file, start_s=one["start_s"], end_s=one["end_s"]) for file, one in files]
    known = [one for one in heard if one is not None]
    return np.concatenate(known) if len(known) == len(heard) else None
