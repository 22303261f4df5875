"""A recording of the world: its events in order, and what camera, microphone and narrator make of them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mcnlab.data.world.factors import draw_factors, generator
from mcnlab.data.world.frames import CLIP_FRAMES, FRAMES_PER_S, render_frames
from mcnlab.data.world.sentences import sentence
from mcnlab.data.world.settings import WorldSettings
from mcnlab.data.world.sounds import SAMPLES_PER_S, render_sound
from mcnlab.modalities import MODALITIES

CLIP_S = CLIP_FRAMES / FRAMES_PER_S
"""Length of an event: 1.28 s."""


@dataclass(frozen=True)
class Event:
    """What happens in 1.28 s of a recording, and what is said about it."""

    factors: Mapping[str, float | str]
    """What is seen and heard, and how the narrator talks."""
    phase: float
    """Share of a bounce that has passed when the event begins."""
    caption: str
    """Empty where the narrator is silent."""
    narration_matches: bool
    """False where the caption tells of something else."""
    missing: tuple[str, ...]
    """Modalities that the clip lacks."""


@dataclass(frozen=True)
class RenderedClip:
    """A clip to look at, listen to and read."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    """12.5 per second."""
    waveform: Float[np.ndarray, " samples"]
    """float32, 16 kHz."""
    caption: str
    factors: Mapping[str, float | str]


@functools.lru_cache(maxsize=1024)  # a build asks three times: to calibrate, to train the words, to render
def recording_events(settings: WorldSettings, split: str, recording: int) -> tuple[Event, ...]:
    """What happens in a recording, in order.

    Every factor is drawn anew for every event, so that the groups are independent clip by clip.

    Args:
        settings: the world.
        split: name of the split.
        recording: number of the recording within its split.

    Returns:
        One event per clip.
    """
    return tuple(_event(settings, split, recording, clip) for clip in range(settings.clips_per_recording))


def render_frames_of(
    settings: WorldSettings, split: str, recording: int, events: Sequence[Event]
) -> list[UInt8[np.ndarray, "frames height width 3"]]:
    """The frames of a recording.

    Args:
        settings: the world.
        split: name of the split.
        recording: number of the recording within its split.
        events: its events, as `recording_events` gives them.

    Returns:
        (16, 40, 40, 3) uint8 for each event.
    """
    return [
        render_frames(
            event.factors,
            event.phase,
            generator(settings.seed, split, recording, clip, "frames"),
            noise=settings.noise_video,
        )
        for clip, event in enumerate(events)
    ]


def render_sound_of(
    settings: WorldSettings, split: str, recording: int, events: Sequence[Event]
) -> Float[np.ndarray, " samples"]:
    """The waveform of a recording.

    Args:
        settings: the world.
        split: name of the split.
        recording: number of the recording within its split.
        events: its events, as `recording_events` gives them.

    Returns:
        (20480 × events,) float32, 16 kHz.
    """
    return render_sound(
        [event.factors for event in events],
        [event.phase for event in events],
        [generator(settings.seed, split, recording, clip, "sounds") for clip in range(len(events))],
        noise=settings.noise_audio,
    )


def clip_window_s(settings: WorldSettings, clip: int) -> tuple[float, float]:
    """Start and end of a clip: the time at which its narration is heard.

    Args:
        settings: the world; its narration lag moves the window.
        clip: number of the clip within its recording.

    Returns:
        Seconds from the beginning of the recording. With a lag the last window is shorter, cut by the recording's end.
    """
    start_s = clip * CLIP_S + settings.narration_lag_s
    return start_s, min(start_s + CLIP_S, settings.clips_per_recording * CLIP_S)


def render_recording(settings: WorldSettings, split: str, recording: int) -> list[RenderedClip]:
    """All clips of a recording, as the store has them.

    Args:
        settings: the world.
        split: name of the split.
        recording: number of the recording within its split.

    Returns:
        One clip per event: the media in the clip's window and the caption that belongs to it.
    """
    events = recording_events(settings, split, recording)
    frames = np.concatenate(render_frames_of(settings, split, recording, events))
    waveform = render_sound_of(settings, split, recording, events)
    clips = []
    for number, event in enumerate(events):
        start_s, end_s = clip_window_s(settings, number)
        seen = frames[round(start_s * FRAMES_PER_S) : max(round(end_s * FRAMES_PER_S), 1)]
        heard = waveform[round(start_s * SAMPLES_PER_S) : round(end_s * SAMPLES_PER_S)]
        clips.append(RenderedClip(seen, heard, event.caption, event.factors))
    return clips


def render_clip(settings: WorldSettings, split: str, recording: int, clip: int) -> RenderedClip:
    """One clip of a recording, as the store has it.

    Args:
        settings: the world.
        split: name of the split.
        recording: number of the recording within its split.
        clip: number of the clip within its recording.

    Returns:
        Its media and caption.
    """
    return render_recording(settings, split, recording)[clip]


def _event(settings: WorldSettings, split: str, recording: int, clip: int) -> Event:
    """One event with its narration."""
    random = generator(settings.seed, split, recording, clip, "factors")
    factors = draw_factors(random)
    phase = float(random.random())
    told, matches = _narrated(settings, split, recording, clip, factors)
    missing = _missing(settings, generator(settings.seed, split, recording, clip, "missing"))
    words = generator(settings.seed, split, recording, clip, "sentence")
    caption = "" if "text" in missing else sentence(told, words, omission=settings.noise_text)
    return Event(factors, phase, caption, matches, missing)


def _narrated(
    settings: WorldSettings, split: str, recording: int, clip: int, factors: Mapping[str, float | str]
) -> tuple[Mapping[str, float | str], bool]:
    """The factors that the narrator tells, and whether they are the clip's own."""
    random = generator(settings.seed, split, recording, clip, "other_narration")
    if random.random() >= settings.mismatch:
        return factors, True
    habits = {name: value for name, value in factors.items() if name.startswith("t.")}
    return {**draw_factors(random), **habits}, False


def _missing(settings: WorldSettings, random: np.random.Generator) -> tuple[str, ...]:
    """The modalities that a clip lacks; one that would lack all three keeps its text."""
    shares = (settings.missing_video, settings.missing_audio, settings.missing_text)
    missing = tuple(name for name, share in zip(MODALITIES, shares, strict=True) if random.random() < share)
    return missing if len(missing) < len(MODALITIES) else missing[:-1]
