"""A real JupyterLab on the loopback address with its token, and a Chromium that opens its notebooks."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader")  # fmt: skip
"""WebGL is drawn by the processor (SwiftShader)."""
ROOT = Path(__file__).parents[1]
QUIET = ("@jupyterlab/apputils-extension:announcements", "@jupyterlab/extensionmanager-extension:plugin")
"""Extensions that ask the network for something."""


@dataclass
class OpenedLab:
    """A running server, a browser page, and what the page said and asked for."""

    address: str
    token: str
    page: Any
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def open(self, notebook: str) -> None:
        """Open a notebook of the folder and wait for its kernel."""
        self.page.goto(f"{self.address}/lab/tree/{notebook}?token={self.token}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.wait_for_selector('.jp-StatusBar-TextItem:has-text("| Idle")', timeout=60_000)
        self.page.keyboard.press("Control+b")  # the file browser takes room

    def run_all(self) -> None:
        """Choose *Run All Cells* in the menu."""
        self.page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        self.page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')


@contextmanager
def opened_lab(
    folder: Path, *, theme: str = "Light", width: int = 1440, height: int = 900, env: dict[str, str] | None = None
) -> Iterator[OpenedLab]:
    """JupyterLab over a folder, open in a browser; both are gone afterwards.

    Args:
        folder: root of the file browser.
        theme: `Light` or `Dark`.
        width: of the window, px.
        height: of the window, px.
        env: further environment of server and kernels.

    Yields:
        The page. Requests beyond the loopback address are refused, and kept in `outside`.
    """
    from playwright.sync_api import sync_playwright  # tests of machines without it are skipped before

    private = Path(tempfile.mkdtemp(prefix="jl-"))  # short: the path of a socket has at most 107 letters
    _write_settings(private, theme)
    port, token = _free_port(), secrets.token_hex(16)
    process = _start(folder, private, port, token, env or {})
    lab = OpenedLab(f"http://127.0.0.1:{port}", token, None)
    try:
        _wait_until_up(lab, process, private)
        with sync_playwright() as player:
            browser = player.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            lab.page = browser.new_page(viewport={"width": width, "height": height})
            lab.page.route("**/*", lambda route: _only_here(route, lab))
            lab.page.on("console", lambda said: lab.errors.append(said.text) if said.type == "error" else None)
            lab.page.on("pageerror", lambda error: lab.errors.append(str(error)))
            yield lab
            browser.close()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        shutil.rmtree(private, ignore_errors=True)


def _only_here(route: Any, lab: OpenedLab) -> None:
    """Let a request through when it stays on this machine."""
    if route.request.url.startswith((lab.address, "data:", "blob:")):
        route.continue_()
    else:
        lab.outside.append(route.request.url)
        route.abort()


def _free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _write_settings(private: Path, theme: str) -> None:
    """The theme, and no extension that asks the network."""
    themes = private / "settings" / "@jupyterlab" / "apputils-extension"
    themes.mkdir(parents=True)
    chosen = {"theme": f"JupyterLab {theme}", "adaptive-theme": False}
    (themes / "themes.jupyterlab-settings").write_text(json.dumps(chosen), encoding="utf-8")
    notebooks = private / "settings" / "@jupyterlab" / "notebook-extension"
    notebooks.mkdir(parents=True)
    (notebooks / "tracker.jupyterlab-settings").write_text('{"autoStartDefaultKernel": true}', encoding="utf-8")
    config = private / "config" / "labconfig"
    config.mkdir(parents=True)
    disabled = {"disabledExtensions": dict.fromkeys(QUIET, True)}
    (config / "page_config.json").write_text(json.dumps(disabled), encoding="utf-8")


def _start(folder: Path, private: Path, port: int, token: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """The server in a process group of its own."""
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTER_RUNTIME_DIR": "runtime",
              "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}  # fmt: skip
    known = {name: str(private / place) for name, place in places.items()}
    paths = os.pathsep.join([str(ROOT), *filter(None, [env.pop("PYTHONPATH", ""), os.environ.get("PYTHONPATH", "")])])
    arguments = ["lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
                 "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}", "--KernelManager.transport=ipc",
                 "--LabApp.news_url=None"]  # fmt: skip
    with (private / "server.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "jupyter", *arguments],
            env={**os.environ, **known, **env, "JUPYTER_TOKEN": token, "PYTHONPATH": paths},
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )


def _wait_until_up(lab: OpenedLab, process: subprocess.Popen[bytes], private: Path) -> None:
    """Until the server answers."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"{lab.address}/api?token={lab.token}", timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("JupyterLab did not start:\n" + (private / "server.log").read_text(errors="replace")[-2000:])
