"""Starting JupyterLab in the notebooks folder, for this machine only."""

import os
import sys
from pathlib import Path

from mcnlab.errors import ConfigError
from mcnlab.reporting.notebooks import notebook_path


def start_lab(folder: Path | None, *, port: int) -> None:
    """Become a JupyterLab server on the loopback address; its token is made by Jupyter and printed in its address.

    Args:
        folder: what the file browser shows; None for `notebooks` here, else the notebooks that come with mcnlab.
        port: first port to try.

    Raises:
        ConfigError: there is no such folder.
    """
    if folder is None:
        here = Path("notebooks")
        folder = here if here.is_dir() else notebook_path("01_train_a_combination").parent
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of notebooks")
    arguments = [
        "lab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={folder.resolve()}",
        "--ServerApp.allow_remote_access=False",
        "--KernelManager.transport=ipc",
        "--LabApp.news_url=None",
    ]
    if os.geteuid() == 0:
        arguments.append("--allow-root")  # containers
    os.execv(sys.executable, [sys.executable, "-m", "jupyter", *arguments])
