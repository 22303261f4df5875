"""Spectrograms with titles and classes, a table and an array file per split: a store of sound and text."""

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcnlab.data.arrays import read_npz_member
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.protocol import Member, Protocol, add_protocol
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store_writer import StoreWriter
from mcnlab.data.text import load_word_vectors, tokens, train_word_vectors
from mcnlab.errors import ConfigError, DataError
from mcnlab.files import new_folder_atomically, refuse_occupied

SPAN_DB = 80.0
"""What the values from 0 to 1 span."""
OUTSIDE = 0.2
"""How far a value may lie outside, as filters overshoot; it is then cut."""
_COLUMNS = ("id", "fold", "category", "title")


@dataclass(frozen=True)
class _Sound:
    """One row of a table with its spectrogram."""

    id: str
    role: str
    fold: str
    category: str
    title: str
    picture: np.ndarray  # (frames, bands)


def import_spectrograms(
    folder: Path,
    out: Path,
    *,
    arrays: tuple[str, ...] = ("cqt", "stft"),
    seconds: float = 5.0,
    words: Path | None = None,
    name: str = "spectrograms",
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Make a store of `train.npz`, `train.tsv`, `val.npz`, `val.tsv` (or test): sound, title, class and fold.

    Values from 0 to 1 become decibels from -80 to 0, what audio towers expect; several arrays lie side by side.

    Args:
        folder: where they lie. The tables have the columns id, fold, category, title; the arrays `ids` and one or more
            of (clips, bands, frames).
        out: folder of the new store; it must not exist.
        arrays: names of the arrays to take.
        seconds: length of every clip, which gives the rate.
        words: file of word vectors; None trains them on the titles of the train split.
        name: what reports call the store.
        progress: called with clips done and all.

    Returns:
        What became of every clip.

    Raises:
        DataError: a file is missing, tables and arrays disagree, or values are no such spectrograms.
        ConfigError: `seconds` is not positive, or no array is named.
        StorageError: the store cannot be written, or exists.
    """
    began_s = time.monotonic()
    refuse_occupied(out)
    if not seconds > 0 or not arrays:
        raise ConfigError(f"expected positive seconds and some arrays, got {seconds:g} s and {', '.join(arrays)}")
    sounds = [sound for role in ("train", "val", "test") for sound in _sounds(folder, role, arrays)]
    if not any(sound.role == "train" for sound in sounds):
        raise DataError(f"{folder}: no train.tsv")
    titles = [sound.title for sound in sounds if sound.role == "train" and tokens(sound.title)]
    known = {word for sound in sounds for word in tokens(sound.title)}
    vectors = train_word_vectors(titles, seed=0) if words is None else load_word_vectors(words, known)
    frames, bands = sounds[0].picture.shape
    track = Track("audio_mel", "audio", bands, frames / seconds)
    report = ImportReport(out, kept=len(sounds))
    with new_folder_atomically(out) as building:
        with StoreWriter(building, name=name, tracks=[track], words=vectors) as writer:
            for done, sound in enumerate(sounds, start=1):
                writer.add(_recording(sound, seconds))
                if progress is not None:
                    progress(done, len(sounds))
            writer.report = report.as_dict()
        add_protocol(building, _protocol(sounds))
    report.import_s = time.monotonic() - began_s
    return report


def _protocol(sounds: list[_Sound]) -> Protocol:
    """One split: the folds of the train table against the others."""
    folds = [sorted({sound.fold for sound in sounds if (sound.role == "train") == train}) for train in (True, False)]
    split = f"folds {'+'.join(folds[0])} to {'+'.join(folds[1])}"
    members = {sound.id: Member((sound.category,), (sound.role,)) for sound in sounds}
    classes = tuple(sorted({sound.category for sound in sounds}))
    return Protocol("spectrograms", (split,), classes, members)


def _recording(sound: _Sound, seconds: float) -> Recording:
    """What a store keeps of a sound."""
    level_db = np.clip(SPAN_DB * (sound.picture - 1), -SPAN_DB, 0)
    clip = Clip(0.0, seconds, caption=sound.title, label=sound.category)
    media = {"kind": "spectrogram", "fold": sound.fold}
    return Recording(sound.id, sound.role, seconds, {"audio_mel": level_db.astype(np.float16)}, (clip,), media=media)


def _sounds(folder: Path, role: str, arrays: tuple[str, ...]) -> Iterator[_Sound]:
    """The rows of one split with their spectrograms; nothing where there is no table."""
    table, file = folder / f"{role}.tsv", folder / f"{role}.npz"
    if not table.is_file():
        return
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    for column in _COLUMNS:
        if not rows or column not in rows[0]:
            raise DataError(f"{table}: the column {column!r} is missing")
    ids = read_npz_member(file, "ids").tolist()
    if ids != [row["id"] for row in rows]:
        raise DataError(f"{file}: ids: {len(ids)} that are not the {len(rows)} of {table.name}")
    parts = [_array(file, one, len(rows)) for one in arrays]
    pictures = np.concatenate(parts, axis=1).transpose(0, 2, 1)  # (clips, frames, bands)
    for row, picture in zip(rows, pictures, strict=True):
        yield _Sound(row["id"], role, row["fold"], row["category"], row["title"], picture)


def _array(file: Path, name: str, clips: int) -> np.ndarray:
    """(clips, bands, frames) float32 of one array, checked."""
    array = np.asarray(read_npz_member(file, name), dtype=np.float32)
    if array.ndim != 3 or len(array) != clips:
        raise DataError(f"{file}: {name}: shape {array.shape}, expected ({clips}, bands, frames)")
    if not np.isfinite(array).all() or array.min() < -OUTSIDE or array.max() > 1 + OUTSIDE:
        raise DataError(f"{file}: {name}: values from {array.min():g} to {array.max():g}, expected 0 to 1")
    return array
