"""From recordings that are read one by one to a store: what all importers of published data share."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mcnlab.data.importers.report import ImportReport
from mcnlab.data.records import Recording, Track
from mcnlab.data.store_writer import StoreWriter
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError
from mcnlab.files import refuse_occupied

Source = TypeVar("Source")


@dataclass(frozen=True)
class Reading:
    """What came of reading one recording."""

    id: str
    recording: Recording | None
    """None where nothing of it can be used."""
    problems: tuple[str, ...] = ()
    """Why, or what is missing; without ids, paths and numbers, so that equal problems can be counted together."""
    as_stored: bool = False
    """Whether the reader has checked the tracks and made them what `stored_tracks` would make them."""


def import_recordings(
    sources: Sequence[Source],
    read: Callable[[Source], Reading],
    out: Path,
    *,
    name: str,
    tracks: Sequence[Track],
    words: WordVectors,
    info: Mapping[str, Any] | None = None,
    notes: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Read recordings one by one into a new store, and keep account of what could not be used.

    Args:
        sources: what `read` takes, one for each recording, in the order of the store.
        read: makes a recording of it; what is wrong with the recording itself is a problem, not an error.
        out: folder of the new store; it must not exist.
        name: what reports call the store.
        tracks: feature sequences that recordings may have.
        words: vocabulary and vectors.
        info: more plain values for `store.json`.
        notes: what the reader should know of the import as a whole.
        progress: called with sources done and all.

    Returns:
        What became of every source; the same is in the store's `import_report.json`.

    Raises:
        DataError: nothing can be used.
        StorageError: the store cannot be written, or exists.
    """
    began_s = time.monotonic()
    refuse_occupied(out)
    report, unread = ImportReport(out, notes=list(notes)), Counter[str]()
    with StoreWriter(out, name=name, tracks=tracks, words=words, info=info) as writer:
        for done, source in enumerate(sources, start=1):
            reading = read(source)
            if _add(reading, writer, report) and reading.recording is not None:
                unread.update(_unread(reading.recording, words))
            if progress is not None:
                progress(done, len(sources))
        report.notes += _notes_on_text(unread, words)
        if not report.kept:
            raise DataError(f"{name}: nothing in it can be used; {'; '.join(report.lines()[1:3])}")
        writer.report = report.as_dict()
    report.import_s = time.monotonic() - began_s
    return report


def _unread(recording: Recording, words: WordVectors) -> list[str]:
    """Captions of which no word has a vector."""
    return [clip.caption for clip in recording.clips if clip.caption and not len(words.ids(clip.caption, 1))]


def _notes_on_text(unread: Counter[str], words: WordVectors) -> list[str]:
    """A sentence on clips that count as without text, because no word of their caption has a vector."""
    if not unread:
        return []
    often = ", ".join(repr(caption[:40]) for caption, _ in unread.most_common(3))
    return [f"{unread.total()} clips have a caption without a single word in {words.source!r}, so no text: {often}"]


def _add(reading: Reading, writer: StoreWriter, report: ImportReport) -> bool:
    """Store a recording, or say why not; whether it is stored."""
    if reading.recording is None:
        report.drop("; ".join(reading.problems), reading.id)
        return False
    try:
        writer.add(reading.recording)
    except DataError as error:
        report.drop(str(error).removeprefix(f"{reading.id}: "), reading.id)
        return False
    report.kept += len(reading.recording.clips)
    for problem in reading.problems:
        report.lose(problem, reading.id)
    return True
