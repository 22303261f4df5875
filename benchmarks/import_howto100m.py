"""How fast HowTo100M features are imported, against `cp -r` of the same bytes on the same disk.

The features are made up, in the published layout, uncompressed: 2D and 3D float16 rows and log-mels. Both sides read
from the page cache and end with their bytes on the disk: `cp -r` followed by `sync`, as the import flushes each shard.
They are run by turns and the fastest rounds compared, because other programs can only make a round slower. What the
import does beyond copying: a CRC of what it reads, a look at every number, a turn of the log-mels, a checksum of what
it writes, captions and words. The floor is a plain loop that reads, takes CRC and sha256, writes and flushes.

    python benchmarks/import_howto100m.py --megabytes 1200
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rows import Row, report

from mcnlab.data.importers.howto100m import import_howto100m

SECONDS, DIM = 400, 2048
VIDEO_BYTES = SECONDS * (DIM * 2 + DIM * 3 + 40 * 200)


def make_files(folder: Path, megabytes: int) -> None:
    """A data set of about that size; all videos hold different numbers."""
    random = np.random.default_rng(0)
    two, three = (random.random((rows, DIM), np.float32).astype(np.float16) for rows in (SECONDS, SECONDS * 3 // 2))
    mel = random.uniform(-80, 0, (40, SECONDS * 100)).astype(np.float16)
    captions, paths = {}, []
    for number in range(max(1, megabytes * 10**6 // VIDEO_BYTES)):
        name = f"video{number:06d}"
        own = folder / "features" / "food" / name
        own.mkdir(parents=True)
        np.savez(own / f"{name}_2d.npz", features=np.roll(two, number))
        np.savez(own / f"{name}_3d.npz", features=np.roll(three, number))
        np.savez(own / f"{name}_spec.npz", arr_0=np.roll(mel, number))
        starts = np.arange(0, SECONDS - 4, 4.0)
        text = ["now fry the egg"] * len(starts)
        captions[name] = {"start": starts.tolist(), "end": (starts + 3.5).tolist(), "text": text}
        paths.append(f"food/{name}")
    (folder / "caption.json").write_text(json.dumps(captions))
    (folder / "list.csv").write_text("\n".join(["path", *paths]) + "\n")
    words = [f"{word} {' '.join(['0.1'] * 300)}" for word in ("now", "fry", "the", "egg")]
    (folder / "words.txt").write_text("\n".join(words) + "\n")


def import_s(folder: Path, workers: int) -> float:
    """Seconds of one import."""
    began = time.perf_counter()
    import_howto100m(
        folder / "list.csv",
        folder / "store",
        features=folder / "features",
        captions=folder / "caption.json",
        words=folder / "words.txt",
        workers=workers,
        recordings_per_shard=40,
    )
    seconds = time.perf_counter() - began
    shutil.rmtree(folder / "store")
    return seconds


def copy_s(folder: Path) -> float:
    """Seconds of one copy."""
    began = time.perf_counter()
    subprocess.run(["cp", "-r", folder / "features", folder / "copy"], check=True)
    subprocess.run(["sync", "-f", folder / "copy"], check=True)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder / "copy")
    return seconds


def floor_s(folder: Path) -> float:
    """Seconds of the least that any import with these checks does, in one thread."""
    began = time.perf_counter()
    checksum = hashlib.sha256()
    with (folder / "floor").open("wb") as file:
        for path in (folder / "features").rglob("*.npz"):
            content = path.read_bytes()
            zlib.crc32(content)
            checksum.update(content)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    (folder / "floor").unlink()
    return seconds


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The rows."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_files(folder, options.megabytes)
        size = sum(path.stat().st_size for path in (folder / "features").rglob("*.npz")) / 1e6
        os.sync()
        copy_s(folder)  # the first round finds a cold disk
        rounds = [(copy_s(folder), import_s(folder, options.workers), floor_s(folder)) for _ in range(options.rounds)]
    copy, own, floor = (min(times) for times in zip(*rounds, strict=True))
    part = f"import of HowTo100M features, {size:.0f} MB, {options.workers} worker(s)"
    detail = f"{size / own:.0f} against {size / copy:.0f} MB/s"
    yield Row(part, "`cp -r` of the same bytes", copy / own, 0.5, detail=detail)
    detail = f"{size / own:.0f} against {size / floor:.0f} MB/s"
    yield Row(part, "a bare loop with the same checksums", floor / own, detail=detail)


def own_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--megabytes", type=int, default=1200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the system's temporary one by default")


if __name__ == "__main__":
    report(measure, __doc__, own_options)
