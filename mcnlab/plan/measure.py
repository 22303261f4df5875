"""Measuring a machine, all of it: arithmetic, memory, files, links."""

import platform
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch

from mcnlab.experiment.provenance import processor_name
from mcnlab.numerics import limited_threads
from mcnlab.plan.calibration import Calibration, Rates
from mcnlab.plan.measure_device import idle_bytes, measured_rates
from mcnlab.plan.measure_files import FileRates, file_rates
from mcnlab.plan.measure_links import all_reduce_rates
from mcnlab.plan.measure_steps import with_steps


def calibrate(
    folder: Path, *, threads: Sequence[int] = (), progress: Callable[[int, int], None] = lambda done, total: None
) -> Calibration:
    """Measure this machine; let nothing else run meanwhile.

    Args:
        folder: where files are written and read for the measurement; take the disk that holds the stores.
        threads: numbers of CPU threads to measure with; one and all cores when empty, all cores where there is a GPU.
        progress: told parts done and all.

    Returns:
        The rates.

    Raises:
        StorageError: the folder cannot be written.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.type == "cuda"
    cores, idle = torch.get_num_threads(), idle_bytes(device)
    counts = sorted(set(threads) or ({cores} if gpu else {1, cores}))
    total, rates = len(counts) + 2, []
    for done, count in enumerate(counts):
        progress(done, total)
        with limited_threads(count):
            alone = measured_rates(device, count)
            rates.append(alone if gpu else with_steps(alone))
    progress(total - 2, total)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".calibration-") as scratch:
        files = file_rates(Path(scratch))
    progress(total - 1, total)
    links = all_reduce_rates(device.type)
    progress(total, total)
    return described(device, idle=idle, rates=tuple(rates), files=files, links=links)


def described(
    device: torch.device, *, idle: int, rates: tuple[Rates, ...], files: FileRates, links: dict[int, float]
) -> Calibration:
    """Measured rates with the names and sizes of this machine.

    Args:
        device: CPU or GPU.
        idle: bytes that a process takes on it.
        rates: of the device.
        files: of the disk.
        links: of the links between processes, by their number.
    """
    gpu, memory = device.type == "cuda", psutil.virtual_memory().total
    return Calibration(
        device=torch.cuda.get_device_name() if gpu else processor_name(),
        kind=device.type,
        machine=platform.node(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        torch=torch.__version__,
        cores=torch.get_num_threads(),
        devices=torch.cuda.device_count() if gpu else 1,
        device_memory_bytes=torch.cuda.get_device_properties(device).total_memory if gpu else memory,
        host_memory_bytes=memory,
        idle_bytes=idle,
        rates=rates,
        all_reduce_bytes_per_s=links,
        loader_bytes_per_s=files.loader,
        read_bytes_per_s=files.read,
        random_read_bytes_per_s=files.random_read,
        write_bytes_per_s=files.write,
    )
