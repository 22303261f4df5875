"""What the published evaluation sets share: one clip per row, with pooled or full features, log-mel and captions."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch

from mcnlab.data.importers.recordings import Reading, import_recordings
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.unpickling import load_published_pickle
from mcnlab.data.loading import HOP, SAMPLES_PER_S, WINDOW
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.text import MAX_CAPTION_CHARACTERS, WordVectors, load_word_vectors, tokens, train_word_vectors
from mcnlab.errors import ConfigError, DataError

Features = Literal["pooled", "full"]
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
_ID = re.compile(r"(?!\.)[^/\\\s]{1,200}")
_REST_SAMPLES = WINDOW / 2 + 0.5


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
    media: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
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
        [f"{len(unknown)} words of the captions have no vector ({unknown.total()} times): {often}"] if unknown else []
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


def read_rows(path: Path, known: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a published pickle.

    Args:
        path: the file.
        known: keys of which a row must have one.

    Returns:
        One dictionary for each clip.

    Raises:
        DataError: the file is unsafe, damaged or empty, or of quite another layout.
    """
    rows = load_published_pickle(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(
            f"{path}: expected a list of clips, got {type(rows).__name__} {'' if rows else '(empty)'}".strip()
        )
    if not any(isinstance(row, dict) and any(key in row for key in known) for row in rows):
        raise DataError(f"{path}: expected clips with {', '.join(known)}; the first is {_sketch(rows[0])}")
    return [row if isinstance(row, dict) else {} for row in rows]


def check_features(features: str) -> None:
    """Refuse a kind of features that there is not.

    Raises:
        ConfigError: it is neither pooled nor full.
    """
    if features not in ("pooled", "full"):
        raise ConfigError(f"features: expected pooled or full, got {features!r}")


def chosen_features(
    row: Mapping[str, Any], keys: Mapping[str, tuple[str, str]], features: Features, problems: list[str]
) -> dict[str, Any]:
    """By track: the pooled or the full features of a row; each stands in for the other where it is missing.

    A pooled row is the maximum over the full ones, so the clip that a reader makes of either is the same.

    Args:
        row: of a published file.
        keys: by track: the row's keys of the pooled and of the full features.
        features: which ones are wanted.
        problems: gets a line where pooled features stand in for full ones.

    Returns:
        By track: the array or tensor, or None.
    """
    chosen = {}
    for track, (pooled, full) in keys.items():
        wanted, other = (full, pooled) if features == "full" else (pooled, full)
        chosen[track] = row.get(wanted) if row.get(wanted) is not None else row.get(other)
        if features == "full" and row.get(full) is None and chosen[track] is not None:
            problems.append(f"{track}: no full features, the pooled row is kept")
        elif features == "pooled" and chosen[track] is not None:
            chosen[track] = _pooled(chosen[track])
    return chosen


def text_of(value: Any) -> str:
    """A text as it was meant; empty where there is none.

    Files that Python 2 wrote give UTF-8 as bytes or as latin1; a lone surrogate, which no file can hold, becomes `?`.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if not isinstance(value, str):
        return ""
    try:
        return value.encode("latin1").decode("utf-8")
    except UnicodeError:
        return value.encode("utf-8", errors="replace").decode("utf-8")


def cut_captions(captions: Iterable[str], problems: list[str]) -> tuple[str, ...]:
    """Captions of bearable length."""
    captions = tuple(captions)
    if any(len(caption) > MAX_CAPTION_CHARACTERS for caption in captions):
        problems.append(f"a caption of more than {MAX_CAPTION_CHARACTERS} characters, cut there")
    return tuple(caption[:MAX_CAPTION_CHARACTERS] for caption in captions)


def seconds(value: Any) -> float | None:
    """A time as a plain number; None where there is none, or none that makes sense."""
    if isinstance(value, torch.Tensor | np.ndarray) and (value.ndim or value.dtype in (bool, torch.bool)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 1e7 else None


def refusals(ids: Sequence[str]) -> list[str]:
    """By place: why a clip of such an id cannot be used; empty where it can."""
    seen: set[str] = set()
    reasons = []
    for id_ in ids:
        if not id_:
            reasons.append("no id")
        elif not _ID.fullmatch(id_) or not id_.isprintable() or ".." in id_:
            reasons.append("an id with a slash, a space, or a dot in front")
        else:
            reasons.append("an id that stood before" if id_ in seen else "")
        seen.add(id_)
    return reasons


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
        rows = _array(value)
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
    mel = _array(value)
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
        lengths.append((len(tracks["audio_mel"]) * HOP + _REST_SAMPLES) / SAMPLES_PER_S)
    return max([*lengths, span_s or 0.0], default=0.0) or 1.0


def _array(value: Any) -> np.ndarray | None:
    """Numbers as a float array; None where there are none."""
    if isinstance(value, torch.Tensor):
        value = value.float().numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        return None
    return value


def _pooled(value: Any) -> Any:
    """The maximum over the rows of full features; pooled ones as they are."""
    rows = _array(value)
    return rows.max(axis=0) if rows is not None and rows.ndim == 2 and len(rows) else value


def _fits_float16(values: np.ndarray) -> bool:
    """Whether no number is NaN, infinite, or becomes so in a store."""
    return bool(np.isfinite(values).all()) and float(np.abs(values).max()) <= float(np.finfo(np.float16).max)


def _sketch(row: Any) -> str:
    """What a row looks like, in a few words."""
    keys = ", ".join(f"{str(key)!r:.30}" for key in list(row)[:8]) if isinstance(row, dict) else ""
    return f"of type {type(row).__name__}{f' with {keys}' if keys else ''}"
