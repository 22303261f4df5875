"""One task of a sharded import: from the plain values of some recordings to a shard and its account."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mcnlab.data.importers.recordings import Reading
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.records import Track
from mcnlab.data.shards import shard_file
from mcnlab.data.store_rows import OpenShard, check_values, manifest_table, stored_tracks
from mcnlab.errors import DataError
from mcnlab.files import new_file_atomically, write_json_atomically


@dataclass(frozen=True)
class ShardJob:
    """All that a process needs to make one shard; plain values that can be sent anywhere."""

    work: str
    """The folder in which the import gathers."""
    number: int
    """Of the shard."""
    read: Callable[[Mapping[str, Any]], Reading]
    tracks: tuple[Track, ...]


def write_shard(job: ShardJob) -> int:
    """Make one shard, its rows of the manifest, and last its account; where that is there already, nothing.

    Args:
        job: which, and of what.

    Returns:
        Recordings of the task, used or not.
    """
    work = Path(job.work)
    account = work / account_file(job.number)
    sources = json.loads((work / task_file(job.number)).read_text(encoding="utf-8"))
    if account.exists():
        return len(sources)
    tracks = {track.name: track for track in job.tracks}
    words = _vocabulary(work)
    shard, report, rows = OpenShard(job.number, tracks), ImportReport(work), []
    for source in sources:
        reading = job.read(source)
        row = _taken(reading, shard, tracks, report, words)
        if row is not None:
            rows.append(row)
    known: dict[str, Any] = {"files": {}, "recordings": len(rows), "splits": {}, "report": report.as_dict()}
    content = hashlib.sha256()
    for row in rows:
        known["splits"][row["split"]] = known["splits"].get(row["split"], 0) + len(row["caption"])
        content.update(json.dumps({k: v for k, v in row.items() if k != "media"}, sort_keys=True).encode())
    if rows:
        known["files"][shard_file(job.number)] = shard.write(work / "store" / shard_file(job.number))
        with new_file_atomically(work / part_file(job.number)) as file:
            pq.write_table(manifest_table(rows, list(tracks)), file)
    write_json_atomically(account, {**known, "content": content.hexdigest()})
    return len(sources)


def _taken(
    reading: Reading, shard: OpenShard, tracks: Mapping[str, Track], report: ImportReport, words: frozenset[str]
) -> dict[str, Any] | None:
    """A recording's row of the manifest, once it is in the shard; None where it cannot be used."""
    recording = reading.recording
    if recording is None:
        report.drop("; ".join(reading.problems), reading.id)
        return None
    try:
        arrays = recording.tracks if reading.as_stored else stored_tracks(recording, tracks)
        check_values(recording)
        row = shard.add(recording, arrays, words)
    except DataError as error:
        report.drop(str(error).removeprefix(f"{reading.id}: "), reading.id)
        return None
    report.kept += len(recording.clips)
    for problem in reading.problems:
        report.lose(problem, reading.id)
    return row | {"checksum": ""}  # that of the shard covers it


def _vocabulary(work: Path) -> frozenset[str]:
    """The words of the store to be."""
    path = work / "store" / "words.json"
    return _words(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _words(path: Path, _changed_ns: int) -> frozenset[str]:
    """The words of a file, read once per process."""
    return frozenset(json.loads(path.read_text(encoding="utf-8"))["words"])


def task_file(number: int) -> str:
    """Where the sources of a shard stand, inside the folder in which the import gathers."""
    return f"tasks/{number:05d}.json"


def part_file(number: int) -> str:
    """Where a shard's rows of the manifest stand."""
    return f"parts/{number:05d}.parquet"


def account_file(number: int) -> str:
    """Where it stands what became of a shard's sources."""
    return f"parts/{number:05d}.json"
