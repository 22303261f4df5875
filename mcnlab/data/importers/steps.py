"""Annotated steps of a video: checked one by one, and turned into the clips of a recording."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.extract import AUDIO_TRACK
from mcnlab.data.importers.recordings import Reading
from mcnlab.data.importers.step_features import FeatureFolder, read_audio, safe_names
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.text import MAX_CAPTION_CHARACTERS, WordVectors, load_word_vectors, tokens, train_word_vectors
from mcnlab.errors import DataError

SLACK_S = 1.5
"""Seconds that an annotation may end after the last feature: rounding of the two, not an error."""


@dataclass(frozen=True)
class Step:
    """One annotated interval."""

    number: int
    """Place of the step in the ordered list of its video, from 0."""
    start_s: float
    end_s: float


@dataclass(frozen=True)
class StepVideo:
    """One video with its steps, before its features are read."""

    id: str
    """Of the recording."""
    names: tuple[str, ...]
    """What its files may be called, without endings."""
    split: str
    texts: tuple[str, ...]
    """All steps in order, also those that the video does not show."""
    steps: tuple[Step, ...]
    """Annotated intervals in order of time."""
    media: Mapping[str, Any]
    """More plain values for the recording."""
    rows: int | None = None
    """Rows that the features are pooled to; None takes them as they come."""
    problems: tuple[str, ...] = ()


def read_step_video(video: StepVideo, features: FeatureFolder, audio: Path | None) -> Reading:
    """A recording with a clip for each annotated step.

    Args:
        video: what is known of it.
        features: where its video features lie.
        audio: folder of log-mels; None where there are none.

    Returns:
        The recording, or why there is none.
    """
    problems = list(video.problems)
    names = safe_names(video.names)
    if not names:
        return Reading(video.id, None, ("an id that cannot be a file name",))
    try:
        tracks = features.read(names, rows=video.rows)
    except DataError as error:
        return Reading(video.id, None, (*problems, str(error)))
    duration_s = len(next(iter(tracks.values()))) / features.rate_hz
    if audio is not None:
        try:
            tracks[AUDIO_TRACK.name] = read_audio(audio, names)
        except DataError as error:
            problems.append(str(error))
    kept = _inside(video.steps, duration_s, problems)
    if not kept:
        return Reading(video.id, None, (*problems, "no step left"))
    media = {"steps": list(video.texts), "clip_steps": [step.number for step in kept], **video.media}
    clips = tuple(
        Clip(step.start_s, step.end_s, video.texts[step.number], video.texts[step.number] or None) for step in kept
    )
    return Reading(video.id, Recording(video.id, video.split, duration_s, tracks, clips, media), tuple(problems))


def checked_steps(
    rows: Sequence[tuple[str, str, str]], number_of: Callable[[str], int | None]
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Annotated steps in order of time, without the impossible ones.

    Args:
        rows: step, start and end in seconds, as the file has them.
        number_of: place of a step from what the file calls it; None where there is no such step.

    Returns:
        The steps, and one problem for each that was left out.
    """
    steps, problems = [], []
    for name, start, end in rows:
        number, times = number_of(name), (_seconds(start), _seconds(end))
        if number is None:
            problems.append("a step that its task does not have")
        elif math.isnan(times[0]) or math.isnan(times[1]):
            problems.append("a step whose time is no number")
        elif not 0 <= times[0] < times[1]:
            problems.append("a step that ends before it starts")
        else:
            steps.append(Step(number, *times))
    return tuple(sorted(steps, key=lambda step: (step.start_s, step.end_s, step.number))), tuple(problems)


def steps_of_matrix(matrix: np.ndarray, *, rate_hz: float = 1.0) -> tuple[Step, ...]:
    """Intervals of a matrix of frames and steps: every unbroken run of ones.

    Args:
        matrix: (T, K), 0 or 1.
        rate_hz: rows per second.

    Returns:
        The steps in order of time.
    """
    steps = []
    for number in range(matrix.shape[1]):
        edges = np.flatnonzero(np.diff(matrix[:, number] > 0, prepend=False, append=False).astype(np.int8))
        steps += [Step(number, float(a) / rate_hz, float(b) / rate_hz) for a, b in edges.reshape(-1, 2)]
    return tuple(sorted(steps, key=lambda step: (step.start_s, step.end_s, step.number)))


def words_of(texts: Sequence[str], words: Path | None, *, dim: int, seed: int) -> WordVectors:
    """Word vectors of all step texts: from a file, or trained on them.

    Args:
        texts: of all steps.
        words: a published file of word vectors; None trains.
        dim: width when trained.
        seed: of the training.

    Returns:
        Vocabulary and vectors.

    Raises:
        DataError: no text holds a word, or the file knows none of them.
    """
    if words is None:
        return train_word_vectors(list(texts), dim=dim, seed=seed)
    return load_word_vectors(words, {word for text in texts for word in tokens(text)})


def store_tracks(features: FeatureFolder, audio: Path | None) -> list[Track]:
    """The tracks of the new store."""
    return [*features.tracks, *([AUDIO_TRACK] if audio is not None else [])]


def clean_text(text: str) -> str:
    """A step's text without line ends and of bearable length; underscores are spaces.

    Example:
        >>> clean_text(" add_egg_whites ")
        'add egg whites'
    """
    return " ".join(text.replace("_", " ").split())[:MAX_CAPTION_CHARACTERS]


def _inside(steps: Sequence[Step], duration_s: float, problems: list[str]) -> list[Step]:
    """The steps that the features reach, cut where they end."""
    kept = []
    for step in steps:
        if step.start_s >= duration_s:
            problems.append("a step that starts after the features end")
            continue
        if step.end_s > duration_s + SLACK_S:
            problems.append("a step that goes on after the features end; cut there")
        kept.append(Step(step.number, step.start_s, min(step.end_s, duration_s)))
    return kept


def _seconds(text: str) -> float:
    """A finite number of seconds, or NaN."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
