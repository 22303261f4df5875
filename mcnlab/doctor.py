"""What this machine has, and what is missing for which command."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

import mcnlab
from mcnlab.errors import ConfigError
from mcnlab.experiment.provenance import processor_name
from mcnlab.plan.calibration import calibration_path
from mcnlab.plan.words import size_in_words
from mcnlab.processes import own_cores

LIBRARIES = ("torch", "numpy", "pandas", "scikit-learn", "umap-learn", "plotly", "papermill", "nbconvert", "jupyterlab")
"""Libraries whose versions are told."""
LOW_DISK_BYTES = 5e9
"""Less free disk than this is worth a word: a study with maps and notebooks takes about so much."""


@dataclass(frozen=True)
class Need:
    """Something that a command wants and that may be missing."""

    module: str
    commands: str
    """What needs it."""
    remedy: str
    """How to get it, or what happens without."""


NEEDS = (
    Need("faiss", "clusters and neighbors, mcnlab evaluate", "pip install 'mcnlab[cpu]'; slower without"),
    Need("transformers", "mcnlab extract, mcnlab import media", "pip install 'mcnlab[resnet]'"),
    Need("distributed", "--scheduler of study and import", "pip install 'mcnlab[cluster]'"),
    Need("av", "mcnlab extract, mcnlab import media", "pip install av"),
    Need("soundfile", "mcnlab extract, mcnlab import media", "pip install soundfile"),
    Need("gensim", "word vectors", "pip install gensim"),
    Need("papermill", "mcnlab study", "pip install papermill"),
    Need("jupyterlab", "mcnlab lab", "pip install jupyterlab"),
    Need("sphinx", "make docs", "pip install 'mcnlab[docs]'"),
    Need("playwright", "browser tests, docs/make_gallery.py", "pip install 'mcnlab[dev]'"),
)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""Names of a browser that draws pages without a window."""


def examine(folder: Path = Path()) -> dict[str, Any]:
    """Look at this machine.

    Args:
        folder: whose disk is looked at.

    Returns:
        Plain values: `versions`, `devices`, `faiss`, `memory`, `disk`, `calibration`, and `missing`: what is not there,
        for which command, and what to do.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"--folder {folder}: no such folder")
    disk, memory = shutil.disk_usage(folder), psutil.virtual_memory()
    calibration = calibration_path()
    return {
        "versions": {"mcnlab": mcnlab.__version__, "python": platform.python_version(), **_versions()},
        "devices": devices(),
        "faiss": faiss_build(),
        "memory": {"total_bytes": memory.total, "available_bytes": memory.available},
        "disk": {"folder": str(folder.absolute()), "total_bytes": disk.total, "free_bytes": disk.free},
        "calibration": str(calibration) if calibration.exists() else None,
        "missing": missing(free_bytes=disk.free, calibrated=calibration.exists()),
    }


def devices() -> list[dict[str, Any]]:
    """The CPU, then every GPU that torch can use.

    Returns:
        `name`, `kind`, and `cores` or `memory_bytes`.
    """
    found: list[dict[str, Any]] = [{"name": processor_name(), "kind": "cpu", "cores": torch.get_num_threads()}]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found.append({"name": properties.name, "kind": "cuda", "memory_bytes": properties.total_memory})
    return found


def faiss_build() -> dict[str, Any] | None:
    """Version of faiss and for how many GPUs it is built; None where it is not installed."""
    if importlib.util.find_spec("faiss") is None:
        return None
    import faiss  # late: only this function needs it, and it may be missing

    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    built = hasattr(faiss, "StandardGpuResources")
    return {"version": faiss.__version__, "built_for_gpu": built, "gpus": int(gpus), "options": _options_of(faiss)}


def missing(*, free_bytes: int | float, calibrated: bool) -> list[dict[str, str]]:
    """What is not there.

    Args:
        free_bytes: of the disk.
        calibrated: whether this machine was measured.

    Returns:
        `what`, `commands` and `remedy` of each; empty when all is well.
    """
    lacking = [need for need in NEEDS if importlib.util.find_spec(need.module) is None]
    rows = [{"what": need.module, **{k: v for k, v in asdict(need).items() if k != "module"}} for need in lacking]
    if not torch.cuda.is_available():
        remedy = "trains on the CPU; a GPU needs a build of torch with CUDA"
        rows.append({"what": "a GPU", "commands": "training at the paper's sizes", "remedy": remedy})
    if not calibrated:
        rows.append({"what": "a calibration", "commands": "mcnlab plan", "remedy": "mcnlab plan --calibrate"})
    if not any(map(shutil.which, CHROMIUM)):
        remedy = "apt install chromium; the tests are left out without"
        rows.append({"what": "chromium", "commands": "browser tests, docs/make_gallery.py", "remedy": remedy})
    if os.geteuid() == 0:
        remedy = (
            f"you are root{_in_a_container()}, and so is every cell of a notebook; make a user, or docker run --user"
        )
        rows.append({"what": "a plain user", "commands": "mcnlab lab", "remedy": remedy})
    if free_bytes < LOW_DISK_BYTES:
        remedy = f"only {size_in_words(free_bytes)} are free"
        rows.append({"what": "free disk", "commands": "mcnlab import, mcnlab study", "remedy": remedy})
    return rows


def print_examination(found: Mapping[str, Any]) -> None:
    """Print what was found on standard output."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("mcnlab", f"{found['versions']['mcnlab']}, Python {found['versions']['python']}")
    for device in found["devices"]:
        size = _cores_in_words(device["cores"]) if "cores" in device else size_in_words(device["memory_bytes"])
        table.add_row("CPU" if device["kind"] == "cpu" else "GPU", Text(f"{device['name']}, {size}"))
    memory, disk = found["memory"], found["disk"]
    table.add_row(
        "memory", f"{size_in_words(memory['total_bytes'])}, of which {size_in_words(memory['available_bytes'])} free"
    )
    table.add_row("disk", Text(f"{size_in_words(disk['free_bytes'])} free at {disk['folder']}"))
    table.add_row("faiss", _faiss_in_words(found["faiss"]))
    table.add_row("calibration", Text(found["calibration"] or "none yet"))
    libraries = [f"{name} {found['versions'][name]}" for name in LIBRARIES if name in found["versions"]]
    table.add_row("libraries", ", ".join(libraries))
    Console().print(table)
    Console().print()
    if found["missing"]:
        _print_missing(found["missing"])
    else:
        Console().print("Nothing is missing.")
    Console().print(Text(f"\nNext: {_next_step(Path(found['disk']['folder']))}"), soft_wrap=True)


def _next_step(folder: Path) -> str:
    """What to type next: the study that lies here, or a folder for one."""
    if not (folder / "study.yaml").is_file():
        return "mcnlab init my_study   (a study of your own, from a template)"
    if (folder / "clips.csv").is_file() and not any((folder / "stores").glob("*/store.json")):
        return "mcnlab import media clips.csv --out stores/mine   (after your rows are in clips.csv)"
    return "mcnlab study study.yaml"


def _print_missing(missing: Sequence[Mapping[str, str]]) -> None:
    """What is not there, as a table."""
    rows = Table("missing", "for", "what to do", box=None, pad_edge=False, header_style="bold")
    for row in missing:
        rows.add_row(row["what"], row["commands"], Text(row["remedy"]))
    Console().print(rows)


def _cores_in_words(cores: int) -> str:
    """Cores that torch uses, and of how many, where OMP_NUM_THREADS holds them below those that are there."""
    there = own_cores()
    of_all = f" of {there} cores, as OMP_NUM_THREADS says" if cores < there and "OMP_NUM_THREADS" in os.environ else ""
    return f"{cores}{of_all}" if of_all else f"{cores} core{'' if cores == 1 else 's'}"


def _in_a_container() -> str:
    """Words for where root is, which is no excuse."""
    marks = (Path("/.dockerenv"), Path("/run/.containerenv"))
    return " in a container" if any(mark.exists() for mark in marks) else ""


def _faiss_in_words(build: Mapping[str, Any] | None) -> str:
    """The build of faiss."""
    if build is None:
        return "not installed"
    return f"{build['version']}, built {'with' if build['built_for_gpu'] else 'without'} GPU" + (
        f", sees {build['gpus']}" if build["built_for_gpu"] else ""
    )


def _options_of(faiss: Any) -> str:
    """How faiss was compiled."""
    return str(faiss.get_compile_options()).strip() if hasattr(faiss, "get_compile_options") else ""


def _versions() -> dict[str, str]:
    """Versions of the installed libraries."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
