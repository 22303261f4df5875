"""Measuring the links between processes: gradients summed over all of them."""

import json
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing

TENSOR_BYTES = 2**26
ROUNDS = 5
"""The median of so many counts."""


def all_reduce_rates(kind: str) -> dict[int, float]:
    """Rates of a ring's links: between two processes on a CPU, between all GPUs of this machine.

    Args:
        kind: `cpu` or `cuda`.

    Returns:
        By number of processes: bytes of a tensor × 2 (N - 1) / N / seconds. Empty on a machine with one GPU.
    """
    processes = 2 if kind == "cpu" else torch.cuda.device_count()
    if processes < 2:
        return {}
    with tempfile.TemporaryDirectory(prefix="mcnlab-links-") as folder:
        order = (processes, kind, folder)
        torch.multiprocessing.start_processes(_measure, order, nprocs=processes, start_method="spawn")
        taken = json.loads((Path(folder) / "seconds.json").read_text())
    return {processes: TENSOR_BYTES * 2 * (processes - 1) / processes / taken}


def _measure(rank: int, processes: int, kind: str, folder: str) -> None:
    """One of the processes; the first writes down the median seconds of a sum."""
    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if kind == "cuda" else torch.device("cpu")
    meet = (Path(folder) / "meet").absolute().as_uri()
    backend = "nccl" if kind == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=meet, rank=rank, world_size=processes)
    tensor, times = torch.ones(TENSOR_BYTES // 4, device=device), []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        torch.distributed.all_reduce(tensor.fill_(1.0))
        if kind == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    if rank == 0:
        (Path(folder) / "seconds.json").write_text(json.dumps(sorted(times[1:])[ROUNDS // 2]))
    torch.distributed.destroy_process_group()
