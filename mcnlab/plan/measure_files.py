"""Measuring the disk: files read in order and anywhere, checkpoints written, clips cut from a store."""

import hashlib
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from mcnlab.data.drawn_clips import DrawnClips, WindowDraws
from mcnlab.data.loading import ClipWindow
from mcnlab.data.store import Clip, Recording, StoreWriter, Track, open_store
from mcnlab.data.text import WordVectors
from mcnlab.files import write_bytes_atomically

FILE_BYTES = 2**28
"""Of the file that is written and read."""
PIECE_BYTES, PIECES = 2**16, 1000
"""Reads from anywhere."""
BLOCK_BYTES = 2**23
"""Reads in order."""
RECORDINGS, RECORDING_S, WINDOW_S = 24, 160.0, 10.0
"""The store whose clips are cut."""
WIDTH, BANDS, MEL_HZ = 2048, 40, 100.0


@dataclass(frozen=True)
class FileRates:
    """Bytes per second of a disk; see `Calibration` for each."""

    write: float
    read: float
    random_read: float
    loader: float


def file_rates(folder: Path) -> FileRates:
    """Rates of the disk that holds a folder.

    Args:
        folder: empty; filled with about 600 MB.

    Returns:
        Bytes per second.

    Raises:
        StorageError: the disk is full.
    """
    path = folder / "checkpoint"
    write = _write_rate(path)
    return FileRates(write, _read_rate(path), _random_read_rate(path), _loader_rate(folder / "store"))


def clip_bytes(tracks: list[Track], window_s: float) -> float:
    """Bytes of float16 features that a clip reads from its store: seconds × rows per second × width × 2."""
    return sum(window_s * track.rate_hz * track.dim * 2 for track in tracks)


def _write_rate(path: Path) -> float:
    """Bytes/s of what a checkpoint goes through: put together, written and flushed, summed up."""
    tensors = {"weights": torch.rand(FILE_BYTES // 4)}
    began = time.perf_counter()
    content = save(tensors)
    write_bytes_atomically(path, content)
    hashlib.sha256(content).hexdigest()
    return FILE_BYTES / (time.perf_counter() - began)


def _read_rate(path: Path) -> float:
    """Bytes/s in order, from the disk."""
    _forget(path)
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(BLOCK_BYTES):
            pass
    return path.stat().st_size / (time.perf_counter() - began)


def _random_read_rate(path: Path) -> float:
    """Bytes/s of pieces from anywhere, from the disk."""
    _forget(path)
    places = random.Random(0)
    last = path.stat().st_size - PIECE_BYTES
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        for _ in range(PIECES):
            file.seek(places.randrange(last))
            file.read(PIECE_BYTES)
    return PIECES * PIECE_BYTES / (time.perf_counter() - began)


def _forget(path: Path) -> None:
    """Ask the system to drop a file from the page cache; where it cannot, what is read comes from memory."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _loader_rate(path: Path) -> float:
    """Bytes/s of features that become batches, from the page cache."""
    tracks = [Track("video_2d", "video", WIDTH, 1.0), Track("video_3d", "video", WIDTH, 1.5)]
    tracks.append(Track("audio_mel", "audio", BANDS, MEL_HZ))
    values = np.random.default_rng(0)
    words = WordVectors(("word",), values.random((1, 300), dtype=np.float32), "calibration")
    clips = tuple(Clip(t, t + WINDOW_S, "word") for t in np.arange(0.0, RECORDING_S, WINDOW_S))
    with StoreWriter(path, name="calibration", tracks=tracks, words=words) as writer:
        for number in range(RECORDINGS):
            rows = {t.name: values.random((int(RECORDING_S * t.rate_hz), t.dim), dtype=np.float32) for t in tracks}
            writer.add(Recording(f"r{number}", "train", RECORDING_S, rows, clips))
    source = DrawnClips(
        open_store(path), "train", window=ClipWindow(round(WINDOW_S * MEL_HZ)), rule=WindowDraws(WINDOW_S)
    )
    order = source.epoch((0, "warm"), batch=64)
    source.batch(order[0])
    began, done = time.perf_counter(), 0
    for places in order:
        done += len(source.batch(places))
    return done * clip_bytes(tracks, WINDOW_S) / (time.perf_counter() - began)
