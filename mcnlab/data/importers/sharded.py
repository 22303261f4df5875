"""Imports of any size: one task per shard, in several processes, and the same command goes on after a crash.

Beside the store to be, a hidden folder gathers what is done: `plan.json`, written when all tasks are; `tasks/`, one
file of plain values per shard; `store/shards/` and `parts/`, a shard with its rows of the manifest and its account. A
shard whose account is there is finished. The store is put together at the end and renamed into place.
"""

import hashlib
import itertools
import json
import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow.parquet as pq
from safetensors.numpy import save

from mcnlab.data.importers.recordings import Reading
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.shard_tasks import ShardJob, account_file, task_file, write_shard
from mcnlab.data.records import Track
from mcnlab.data.shards import file_checksum, mapped_tensors
from mcnlab.data.store_rows import join_manifest, joined_schema
from mcnlab.data.store_writer import store_json
from mcnlab.data.text import WordVectors
from mcnlab.errors import ConfigError, DataError, RankError
from mcnlab.files import (
    make_folder,
    put_in_place,
    refuse_occupied,
    remove_partial_files,
    remove_unfinished,
    resumable_folder,
    write_bytes_atomically,
    write_json_atomically,
    write_text_atomically,
)
from mcnlab.processes import die_with_parent

RECORDINGS_PER_SHARD = 64
"""Recordings of one task. At 7 MB each a shard has 450 MB, and is held in memory while it is made."""
OVERLAPPED = 2
"""Shards that one worker without processes makes at the same time."""


@runtime_checkable
class SourcePlan(Protocol):
    """What there is to import; asked once, by the first attempt alone."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Plain values of every recording that `read` takes, in the order of the store; with a unique `id`."""

    def word_vectors(self) -> WordVectors:
        """The words of the store; asked when all sources have been seen."""

    def notes(self) -> list[str]:
        """What the reader should know of the import as a whole; asked last."""


def import_sharded(
    plan: SourcePlan,
    read: Callable[[Mapping[str, Any]], Reading],
    out: Path,
    *,
    key: Mapping[str, Any],
    name: str,
    tracks: Sequence[Track],
    info: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    recordings_per_shard: int = RECORDINGS_PER_SHARD,
    executor: Executor | None = None,
) -> ImportReport:
    """Read recordings into a new store, shard by shard; an interrupted import goes on where it stopped.

    The bytes of the store depend on the plan and `recordings_per_shard` alone: not on workers, nor on interruptions.
    Memory: each process holds one shard, a single worker two; what grows with the number of recordings is what the
    plan keeps, the report's lists of ids, and one line per shard. Pictures are not taken over.

    Args:
        plan: what there is; only looked at when no earlier attempt has written its tasks.
        read: makes a recording of the values of one; can be pickled.
        out: folder of the new store. When it holds the result of this very import, nothing is done.
        key: plain values that the result depends on; another attempt must have the same.
        name: what reports call the store.
        tracks: feature sequences that recordings may have.
        info: more plain values for `store.json`.
        progress: called with recordings done and all.
        workers: processes; one means this process, with two threads. A script that asks for more than one must keep
            its own work under `if __name__ == "__main__":`, because each process imports it.
        recordings_per_shard: recordings of one task.
        executor: runs the tasks in place of own processes.

    Returns:
        What became of every recording; the same is in the store's `import_report.json`.

    Raises:
        ConfigError: an unfinished import with another key lies there, or a number is not positive.
        DataError: nothing can be used.
        BusyError: another process is at it.
        RankError: a process was killed.
        StorageError: the store cannot be written, or exists.
    """
    if workers < 1 or recordings_per_shard < 1:
        raise ConfigError(
            f"workers and recordings_per_shard must be positive, got {workers} and {recordings_per_shard}"
        )
    began_s = time.monotonic()
    key = json.loads(json.dumps({**key, "recordings_per_shard": recordings_per_shard, "tracks": [*map(vars, tracks)]}))
    if (finished := _finished_before(out, key)) is not None:
        remove_unfinished(out)
        return finished
    refuse_occupied(out)
    with resumable_folder(out) as work:
        facts = _planned(work, plan, key, out, per_shard=recordings_per_shard)
        jobs = [ShardJob(str(work), number, read, tuple(tracks)) for number in range(facts["shards"])]
        _make_shards(jobs, facts, progress, workers=workers, executor=executor)
        report = _reported(work, out, facts)
        if not report.kept:
            shutil.rmtree(work)
            raise DataError(f"{name}: nothing in it can be used; {'; '.join(report.lines()[1:3])}")
        _finish_store(work, name, tracks, report, {"import_key": _hash(key), **(info or {})})
        put_in_place(work / "store", out)
        shutil.rmtree(work)
    report.import_s = time.monotonic() - began_s
    return report


def _finished_before(out: Path, key: Mapping[str, Any]) -> ImportReport | None:
    """The report of a finished import with the same key; None where there is none."""
    try:
        if json.loads((out / "store.json").read_text(encoding="utf-8")).get("import_key") != _hash(key):
            return None
        known = json.loads((out / "import_report.json").read_text(encoding="utf-8"))
        return ImportReport(out, known["kept"], known["dropped"], known["lost"], [*known["notes"], "nothing to do"])
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _hash(key: Mapping[str, Any]) -> str:
    """64 hex digits for what a store was made from."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _planned(work: Path, plan: SourcePlan, key: Mapping[str, Any], out: Path, *, per_shard: int) -> dict[str, Any]:
    """The plan of an earlier attempt, or a new one with its tasks."""
    file = work / "plan.json"
    if file.exists():
        facts = json.loads(file.read_text(encoding="utf-8"))
        changed = sorted(name for name in {**key, **facts["key"]} if key.get(name) != facts["key"].get(name))
        if changed:
            raise ConfigError(
                f"{out}: an unfinished import lies there whose {', '.join(changed)} differ; repeat its command to go "
                f"on, or remove {work} to start over"
            )
        for folder in ("store", "store/shards", "parts"):
            remove_partial_files(work / folder)
        return facts
    shutil.rmtree(work)
    for folder in ("tasks", "parts", "store/shards"):
        make_folder(work / folder)
    try:
        facts = {"key": key, **_written_tasks(work, plan, per_shard)}
    except BaseException:
        shutil.rmtree(work)
        raise
    write_json_atomically(file, facts)
    return facts


def _written_tasks(work: Path, plan: SourcePlan, per_shard: int) -> dict[str, Any]:
    """Write the tasks and the words; count."""
    sources, shards = iter(plan), 0
    total = 0
    while batch := list(itertools.islice(sources, per_shard)):
        write_text_atomically(work / task_file(shards), json.dumps(batch, default=str))
        total, shards = total + len(batch), shards + 1
    words = plan.word_vectors()
    write_bytes_atomically(work / "store" / "words.safetensors", save({"vectors": words.vectors.copy(order="C")}))
    write_json_atomically(work / "store" / "words.json", {"words": list(words.words), "source": words.source})
    return {"shards": shards, "sources": total, "notes": plan.notes()}


def _make_shards(
    jobs: Sequence[ShardJob],
    facts: Mapping[str, Any],
    progress: Callable[[int, int], None] | None,
    *,
    workers: int,
    executor: Executor | None,
) -> None:
    """Run all tasks; finished ones count at once."""
    done = 0
    for sources in _results(jobs, workers=workers, executor=executor):
        done += sources
        if progress is not None:
            progress(done, facts["sources"])


def _results(jobs: Sequence[ShardJob], *, workers: int, executor: Executor | None) -> Iterator[int]:
    """What the tasks return, in the order in which they end."""
    pool = executor or _own_pool(workers)
    futures = []
    try:
        futures = [pool.submit(write_shard, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise RankError("a process of the import was killed; the same command goes on where it stopped") from error
    finally:
        for future in futures:
            future.cancel()
        if executor is None:
            pool.shutdown(wait=True)


def _own_pool(workers: int) -> Executor:
    """Processes; for one worker threads of this process, of which one reads while the other waits for the disk."""
    if workers == 1:
        return ThreadPoolExecutor(OVERLAPPED, thread_name_prefix="mcnlab-import")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """A process lives no longer than its owner, who alone hears Ctrl-C and a warning of SLURM's."""
    die_with_parent()
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _reported(work: Path, out: Path, facts: Mapping[str, Any]) -> ImportReport:
    """The accounts of all shards as one, in the order of the plan."""
    report = ImportReport(out, notes=list(facts["notes"]))
    for number in range(facts["shards"]):
        own = json.loads((work / account_file(number)).read_text(encoding="utf-8"))["report"]
        report.kept += own["kept"]
        for whole, part in ((report.dropped, own["dropped"]), (report.lost, own["lost"])):
            for reason, ids in part.items():
                whole.setdefault(reason, []).extend(ids)
    return report


def _finish_store(
    work: Path, name: str, tracks: Sequence[Track], report: ImportReport, info: Mapping[str, Any]
) -> None:
    """Write all that stands beside the shards."""
    folder = work / "store"
    accounts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "parts").glob("*.json"))]
    parts = sorted((work / "parts").glob("*.parquet"))
    schema = joined_schema([pq.read_schema(part) for part in parts])
    join_manifest(map(pq.read_table, parts), schema, folder / "manifest.parquet")
    write_json_atomically(folder / "import_report.json", report.as_dict())
    files = {file: known for account in accounts for file, known in account["files"].items()}
    for file in ("import_report.json", "manifest.parquet", "words.json", "words.safetensors"):
        files[file] = {"bytes": (folder / file).stat().st_size, "sha256": file_checksum(folder / file)}
    content, splits = hashlib.sha256(), dict[str, int]()
    for account in accounts:
        content.update(account["content"].encode())
        for split, clips in account["splits"].items():
            splits[split] = splits.get(split, 0) + clips
    counts = {"recordings": sum(account["recordings"] for account in accounts), "splits": splits}
    written = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    vectors = mapped_tensors(folder / "words.safetensors")["vectors"]
    words = WordVectors(tuple(written["words"]), vectors, written["source"])
    values = store_json(name, counts, tracks, words, content, files)
    write_json_atomically(folder / "store.json", values | dict(info))
