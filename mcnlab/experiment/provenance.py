"""Where a run's numbers come from: code, data, seeds, machine, libraries."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mcnlab
from mcnlab.experiment.build import code_fingerprint

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "faiss-cpu", "faiss-gpu", "umap-learn", "plotly", "pandas")


def provenance(*, seed: int, store: str, fingerprint: str, visual_features: str, device: str) -> dict[str, Any]:
    """All that a colleague needs to judge or repeat a run.

    Args:
        seed: of the run.
        store: name of the data.
        fingerprint: of the data.
        visual_features: what made the video features, trained or not.
        device: where it trains.

    Returns:
        Plain values.
    """
    return {
        "seed": seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": {"version": mcnlab.__version__, "commit": _commit(), "learning_code": code_fingerprint()},
        "data": {"store": store, "fingerprint": fingerprint, "visual_features": visual_features},
        "machine": {
            "host": platform.node(),
            "system": platform.platform(),
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "device": device,
        },
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def _version(library: str) -> str | None:
    """Installed version of a library, or None."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of a checkout that mcnlab is used from, with + when files differ; None for an installed wheel."""
    root = Path(mcnlab.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def processor_name() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
