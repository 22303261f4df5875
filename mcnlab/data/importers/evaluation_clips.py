"""What the published evaluation sets share: one clip per row, with pooled or full features, log-mel and captions."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.cutting import HOP, SAMPLES_PER_S, WINDOW
from mcnlab.data.importers.evaluation_rows import Features, float_array
from mcnlab.data.importers.recordings import Reading, import_recordings
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.text import WordVectors, load_word_vectors, tokens, train_word_vectors
from mcnlab.errors import ConfigError

WIDTH, BANDS = 2048, 40
VIDEO_ID_CHARACTERS = 11
"""The first characters of an id name the video on YouTube."""
TRACKS = (
    Track("video_2d", "video", WIDTH, 1.0),
    Track("video_3d", "video", WIDTH, 1.5),
    Track("audio_mel", "audio", BANDS, SAMPLES_PER_S / HOP),
)
VISUAL = {
    "video_2d": {"backbone": "ResNet-152, published features", "trained": True},
    "video_3d": {"backbone": "ResNeXt-101 16 frames, published features", "trained": True},
}
_SAMPLES_TO_LAST_FRAME = WINDOW / 2 + 0.5
"""What `mel_frame` takes off a time before it counts frames, and half a sample against rounding."""


@dataclass(frozen=True)
class PublishedClip:
    """One row of a published set, joined with what the annotations know, its numbers not yet looked at."""

    id: str
    split: str
    captions: tuple[str, ...]
    visual: Mapping[str, Any]
    """By track: an array or tensor, (2048,) or (rows, 2048), or None."""
    audio: Any
    """(40, frames), an array or tensor, or None."""
    label: str | None = None
    span_s: float | None = None
    """Length that the row or the annotations give the clip."""
    media: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    refused: str = ""
    """Why nothing of it can be used; empty where something can."""


def import_clips(
    clips: Sequence[PublishedClip],
    out: Path,
    *,
    name: str,
    words: Path | None,
    most_frames: int,
    features: Features,
    notes: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Write the clips of a published set into a new store, one recording for each.

    Args:
        clips: the rows.
        out: folder of the new store; it must not exist.
        name: what reports call the store.
        words: file of word vectors; None trains them on the captions of the train split.
        most_frames: longer log-mels are cut here, as the published readers do.
        features: `pooled` or `full`; only said in `store.json`.
        notes: what the reader should know of the import as a whole.
        progress: called with clips done and all.

    Returns:
        What became of every clip.

    Raises:
        ConfigError: neither word vectors nor captions to train them on are given.
        DataError: nothing can be used, or the word vectors cannot be read.
        StorageError: the store cannot be written, or exists.
    """
    vectors = _vectors(clips, words)
    unknown = vectors.oov(caption for clip in clips for caption in clip.captions)
    often = ", ".join(repr(word[:40]) for word, _ in unknown.most_common(5))
    said = (
        [f"{len(unknown)} different words of the captions have no vector ({unknown.total()} times in all): {often}"]
        if unknown
        else []
    )
    return import_recordings(
        clips,
        functools.partial(read_clip, most_frames=most_frames),
        out,
        name=name,
        tracks=TRACKS,
        words=vectors,
        info={"visual": VISUAL, "features": features},
        notes=[*notes, *said],
        progress=progress,
    )


def read_clip(clip: PublishedClip, *, most_frames: int) -> Reading:
    """The recording of one row, with everything that is wrong with it in words.

    The clip's window covers all that the published files hold for it: the longest of its log-mel, its rows of full
    features, and its annotated length. It reaches just far enough beyond the last log-mel frame for `mel_frames`,
    whose arithmetic drops frames that are not centered inside, to hand out every one of them.

    Args:
        clip: the row.
        most_frames: longer log-mels are cut here.

    Returns:
        The recording, or None where nothing of it can be used.
    """
    if clip.refused:
        return Reading(clip.id, None, (clip.refused,))
    problems = list(clip.problems)
    tracks = _visual_tracks(clip.visual, problems)
    mel = _mel(clip.audio, most_frames, problems)
    if mel is not None:
        tracks["audio_mel"] = mel
    captions = [caption for caption in clip.captions if caption.strip()]
    if len(captions) < max(1, len(clip.captions)):
        problems.append("an empty caption" if captions else "no caption")
    if not tracks and not captions:
        return Reading(clip.id, None, ("; ".join(problems),))
    duration_s = _duration_s(tracks, clip.span_s)
    window = [Clip(0.0, duration_s, caption, clip.label) for caption in captions or [""]]
    return Reading(
        clip.id,
        Recording(clip.id, clip.split, duration_s, tracks, tuple(window), dict(clip.media)),
        tuple(problems),
    )


def _vectors(clips: Sequence[PublishedClip], words: Path | None) -> WordVectors:
    """Vectors from a file, or trained on the captions of the train split."""
    if words is not None:
        return load_word_vectors(words, {word for clip in clips for text in clip.captions for word in tokens(text)})
    captions = [text for clip in clips if clip.split == "train" for text in clip.captions]
    if not captions:
        raise ConfigError(
            "words: without a train file there are no captions to train word vectors on; give a file of them"
        )
    return train_word_vectors(captions)


def _visual_tracks(visual: Mapping[str, Any], problems: list[str]) -> dict[str, np.ndarray]:
    """Both visual tracks, or none: readers put them side by side."""
    tracks, faults = {}, []
    for track, value in visual.items():
        rows = float_array(value)
        rows = rows[None] if rows is not None and rows.ndim == 1 else rows
        if rows is None:
            faults.append(f"no {track}")
        elif rows.ndim != 2 or rows.shape[1] != WIDTH or len(rows) == 0:
            faults.append(f"{track} is not (rows, {WIDTH})")
        elif not _fits_float16(rows):
            faults.append(f"{track} is not finite in float16")
        else:
            tracks[track] = rows.astype(np.float16)
    if not faults:
        return tracks
    problems.append(f"video: {', '.join(faults)}")
    return {}


def _mel(value: Any, most_frames: int, problems: list[str]) -> np.ndarray | None:
    """(frames, 40) float16: a row's log-mel."""
    mel = float_array(value)
    if mel is None or mel.size == 0:
        problems.append("audio: none")
    elif mel.ndim != 2 or len(mel) != BANDS:
        problems.append(f"audio: not ({BANDS}, frames)")
    elif not _fits_float16(mel):
        problems.append("audio: not finite in float16")
    else:
        return np.ascontiguousarray(mel[:, :most_frames].T, dtype=np.float16)
    return None


def _duration_s(tracks: Mapping[str, np.ndarray], span_s: float | None) -> float:
    """How long a clip must be so that nothing of it is left out."""
    lengths = [len(tracks[track.name]) / track.rate_hz for track in TRACKS[:2] if track.name in tracks]
    if "audio_mel" in tracks:
        lengths.append((len(tracks["audio_mel"]) * HOP + _SAMPLES_TO_LAST_FRAME) / SAMPLES_PER_S)
    return max([*lengths, span_s or 0.0], default=0.0) or 1.0


def _fits_float16(values: np.ndarray) -> bool:
    """Whether no number is NaN, infinite, or becomes so in a store."""
    return bool(np.isfinite(values).all()) and float(np.abs(values).max()) <= float(np.finfo(np.float16).max)
