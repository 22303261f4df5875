"""Starting JupyterLab in the notebooks folder: for this machine only, or for others by a password or a token."""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from mcnlab.config import nearest_place
from mcnlab.errors import ConfigError
from mcnlab.reporting.notebooks import notebook_path

LAB_SETTINGS = Path(__file__).parent / "lab_settings"
"""A folder of Jupyter's configuration: no question about news, which would load them from the network."""
SHORTEST_TOKEN = 16
"""Characters of a token that others may try to guess."""
EXPLORER = "00_explore.ipynb"
TRAINS = "01_train_a_combination"
HOW_TO_BE_PUBLIC = (
    "set a password (jupyter lab password), or put a token of at least "
    f"{SHORTEST_TOKEN} characters into the variable JUPYTER_TOKEN, or its file into JUPYTER_TOKEN_FILE"
)


def start_lab(folder: Path | None, *, port: int, public: bool = False) -> None:
    """Become a JupyterLab server on the loopback address; its token is made by Jupyter and printed in its address.

    Args:
        folder: what the file browser shows. None for the folder here with its `notebooks` open, where it has some, else
            the notebooks that come with mcnlab.
        port: first port to try.
        public: answer on every address of this machine.

    Raises:
        ConfigError: there is no such folder; or `public`, and neither a password nor a long enough token is set.
    """
    root, first = _root_and_first(folder)
    arguments = [
        "lab",
        f"--ServerApp.ip={'0.0.0.0' if public else '127.0.0.1'}",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={root.resolve()}",
        f"--ServerApp.allow_remote_access={public}",
        "--KernelManager.transport=ipc",
        "--LabApp.news_url=None",
    ]
    if first:
        arguments.append(f"--LabApp.default_url=/lab/tree/{first}")
    if public:
        check_secret(os.environ)
        arguments.append("--ServerApp.open_browser=False")
        print("mcnlab lab: what goes over the network is not encrypted; put a proxy with TLS in front", file=sys.stderr)
    if os.geteuid() == 0:
        arguments.append("--allow-root")
        print("mcnlab lab: runs as root, and so does every cell; a user of its own is safer", file=sys.stderr)
    others = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([str(LAB_SETTINGS), *([others] if others else [])])
    os.execv(sys.executable, [sys.executable, "-m", "jupyter", *arguments])


def check_secret(environment: Mapping[str, str]) -> None:
    """Refuse to let others in without a password or a token that cannot be guessed; Jupyter reads the same places.

    Args:
        environment: variables of this process.

    Raises:
        ConfigError: there is none, or it is too short, or its file cannot be read.
    """
    if "JUPYTER_TOKEN" in environment:
        _check_length("JUPYTER_TOKEN", environment["JUPYTER_TOKEN"])
    if "JUPYTER_TOKEN_FILE" in environment:
        _check_length("JUPYTER_TOKEN_FILE", _content(environment["JUPYTER_TOKEN_FILE"]))
    if not {"JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE"} & set(environment) and not has_password():
        raise ConfigError(f"--public: neither a password nor a token is set; {HOW_TO_BE_PUBLIC}")


def has_password() -> bool:
    """Whether `jupyter lab password` has left the hash of one where Jupyter looks."""
    # jupyter_core is needed here alone
    from jupyter_core.paths import jupyter_config_dir

    try:
        config = json.loads((Path(jupyter_config_dir()) / "jupyter_server_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    holders = ("IdentityProvider", "PasswordIdentityProvider", "ServerApp")
    groups = [config.get(name, {}) for name in holders] if isinstance(config, dict) else []
    hashes = [group.get(key) for group in groups if isinstance(group, dict) for key in ("hashed_password", "password")]
    return any(isinstance(one, str) and ":" in one for one in hashes)


def _root_and_first(folder: Path | None) -> tuple[Path, str]:
    """What the file browser shows, and the notebook in it that is open at the start."""
    if folder is None:
        if Path("notebooks").is_dir():  # runs and reports lie beside it, and notebooks link to them
            return Path(), _first_notebook(Path()) if Path("study.yaml").is_file() else "notebooks"
        folder = notebook_path(TRAINS).parent
    if not folder.is_dir():
        raise ConfigError(f"{folder}: {_what_was_meant(folder)}")
    if (folder / "study.yaml").is_file() and (folder / "notebooks").is_dir():
        return folder, _first_notebook(folder)
    return folder, ""


def _what_was_meant(folder: Path) -> str:
    """Why a folder cannot be opened, with the nearest name and all that can be."""
    without = "without a folder, `mcnlab lab` opens "
    without += "`notebooks` here" if Path("notebooks").is_dir() else "the notebooks of mcnlab"
    above = folder.parent if folder.parent.is_dir() else Path()
    near = {str(path.parent): path.parent.name for path in sorted(above.glob("*/*.ipynb"))}
    near |= {str(path.parent): path.parent.name for path in sorted(above.glob("*/study.yaml"))}
    own = Path("notebooks") if Path("notebooks").is_dir() else notebook_path(TRAINS).parent
    notebooks = {path.stem for path in own.glob("*.ipynb")}
    if folder.is_file() or folder.stem in notebooks:
        return f"is a notebook, expected a folder; {without} with {folder.stem} in it"
    if meant := nearest_place(folder.name, near):
        return f"no such folder of notebooks, did you mean {meant!r}? Type: mcnlab lab {shlex.quote(meant)}"
    if meant := nearest_place(folder.stem, {name: name for name in sorted(notebooks)}):
        return f"no such folder of notebooks; {without} with {meant} in it"
    there = f"; folders of notebooks: {', '.join(near)}" if near else ""
    return f"no such folder of notebooks{there}; {without}: {', '.join(sorted(notebooks))}"


def _first_notebook(study: Path) -> str:
    """The explorer in a study's folder, else its first notebook, or the folder of notebooks where none is."""
    found = sorted((study / "notebooks").glob("*.ipynb"), key=lambda path: (path.name != EXPLORER, path.name))
    return quote(f"notebooks/{found[0].name}" if found else "notebooks")


def _content(file: str) -> str:
    """The token that a file holds."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"JUPYTER_TOKEN_FILE: {file or 'no file'}: cannot be read; {HOW_TO_BE_PUBLIC}") from error


def _check_length(name: str, token: str) -> None:
    """Refuse a token that can be guessed."""
    length = len(token.strip())
    if length < SHORTEST_TOKEN:
        raise ConfigError(f"{name}: expected at least {SHORTEST_TOKEN} characters, got {length}; {HOW_TO_BE_PUBLIC}")
