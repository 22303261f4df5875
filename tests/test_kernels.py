"""Kernels of workers are forked from a process that has loaded their libraries, and only where that is the same."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_notebook

from tests.faults.commands import left_alive

ASK = """
import json, multiprocessing, os, signal, sys, time
owner = multiprocessing.parent_process()
facts = {
    "owner": owner and owner.pid,
    "loaded": "torch" in sys.modules,
    "folder": os.getcwd(),
    "limit": os.environ.get("OMP_NUM_THREADS"),
}
if owner is not None:  # as SLURM does, to the server of forks as to all
    os.kill(os.getppid(), signal.SIGUSR1)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(3)
open(answer, "w").write(json.dumps(facts))
"""
PROGRAM = """
import os, sys
from mcnlab.kernels import start_kernels_ready
from mcnlab.reporting.notebooks import execute
if __name__ == "__main__":
    notebook, first, second, folder = sys.argv[1:]
    os.environ["OMP_NUM_THREADS"] = "1"
    start_kernels_ready()
    execute(notebook, first + ".ipynb", {"answer": first}, working_dir=folder)
    os.environ["OMP_NUM_THREADS"] = "2"
    execute(notebook, second + ".ipynb", {"answer": second}, working_dir=folder)
    print(os.getpid())
"""


def test_a_kernel_is_forked_unless_its_threads_differ_and_its_server_is_deaf_to_signals(tmp_path):
    parameters = new_code_cell('answer = ""')
    parameters.metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=[parameters, new_code_cell(ASK)]), tmp_path / "ask.ipynb")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "here").mkdir()
    places = [str(tmp_path / name) for name in ("ask.ipynb", "first", "second", "here")]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), *places],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    forked, started = (json.loads((tmp_path / name).read_text()) for name in ("first", "second"))
    assert forked == {"owner": int(done.stdout), "loaded": True, "folder": str(tmp_path / "here"), "limit": "1"}
    assert started == {"owner": None, "loaded": False, "folder": str(tmp_path / "here"), "limit": "2"}


def test_the_server_of_forks_ends_with_its_owner_while_it_is_loading(tmp_path):
    (tmp_path / "slow_library.py").write_text(
        "import os, pathlib, time\npathlib.Path('server.txt').write_text(str(os.getpid()))\ntime.sleep(120)\n"
    )
    program = (
        "import multiprocessing, time\nfrom multiprocessing import forkserver\n"
        "from mcnlab.kernels import LOADED_AHEAD\n"
        "multiprocessing.get_context('forkserver').set_forkserver_preload([LOADED_AHEAD[0], 'slow_library'])\n"
        "forkserver.ensure_running()\ntime.sleep(120)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths})
    told, until = tmp_path / "server.txt", time.monotonic() + 60
    while not (told.exists() and told.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    server = psutil.Process(int(told.read_text()))
    owner.kill()
    owner.wait()
    assert left_alive([server], 10) == []
