"""Kernels that start ready: forked from a process that has loaded the libraries of a run notebook once.

A kernel that starts from nothing spends five seconds on imports, a sixth of a short run. Jupyter knows `ReadyKernel` as
a kernel provisioner, its own way of starting kernels differently; only worker processes choose it.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from typing import Any
from weakref import WeakSet

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from mcnlab.processes import STOPPING

PROVISIONER = "mcnlab-ready"
"""Name under which Jupyter knows `ReadyKernel`."""
LOADED_AHEAD = (
    "mcnlab.kernel_server",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipywidgets",
    "faiss",
    "torch._dynamo",  # an optimizer imports it
    "mcnlab.experiment",
    "mcnlab.reporting.live",
    "mcnlab.reporting.notebooks",
    "mcnlab.reporting.run_figures",
    "mcnlab.reporting.show",
)
"""Modules that the run notebook imports, and those of the kernel itself."""
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Environment variables that numeric libraries read when they are loaded."""

_limits_when_loaded: dict[str, str] = {}
_kernels: "WeakSet[ReadyKernel]" = WeakSet()


def start_kernels_ready() -> None:
    """From now on kernels of this process are forked, where the system can fork; thread limits should be set before."""
    factory = KernelProvisionerFactory.instance()
    ready = factory.default_provisioner_name == PROVISIONER
    if ready or "forkserver" not in multiprocessing.get_all_start_methods():
        return
    _limits_when_loaded.update(_limits(os.environ))
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(LOADED_AHEAD))
    _start_server()
    factory.provisioners[PROVISIONER] = EntryPoint(PROVISIONER, f"{__name__}:ReadyKernel", factory.GROUP_NAME)
    factory.default_provisioner_name = PROVISIONER


def _start_server() -> None:
    """Start the process that forks kernels, deaf to what SLURM sends to all: it alone knows which kernels live."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        resource_tracker.ensure_running()  # which lets SIGTERM through again
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def terminate_kernels() -> None:
    """SIGTERM to the kernels of this process, which save and end."""
    for kernel in list(_kernels):
        if kernel.process is not None and kernel.process.poll() is None:
            kernel.process.terminate()


class ReadyKernel(LocalProvisioner):
    """A local kernel, forked; started where it has another Python, or other thread limits than the loaded libraries."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel of a command line; see `jupyter_client.provisioning.KernelProvisionerBase`."""
        _kernels.add(self)
        environment = kwargs.get("env", os.environ)
        ours = cmd[:3] == [sys.executable, "-m", "ipykernel_launcher"]
        if not ours or _limits(environment) != _limits_when_loaded:
            return await super().launch_kernel(cmd, **kwargs)
        forked = ForkedKernel(cmd[3:], kwargs.get("cwd"), environment)
        self.process, self.pid = forked, forked.pid  # type: ignore[assignment]
        return self.connection_info


class ForkedKernel:
    """A forked kernel process with the face of a `subprocess.Popen`, which is what Jupyter expects."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: Sequence[str], folder: str | None, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        self.process = context.Process(target=_serve, args=(list(arguments), folder, dict(environment)), daemon=True)
        self.process.start()

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        return self.process.pid

    def poll(self) -> int | None:
        """Exit code; None while it runs."""
        return self.process.exitcode

    def wait(self) -> int | None:
        """Wait for its end; the exit code."""
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _serve(arguments: list[str], folder: str | None, environment: dict[str, str]) -> None:
    """What the forked process does: become a kernel with its own session, folder and environment."""
    threading.Thread(target=_end_with_owner, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # which the server has blocked
    os.setsid()  # Ctrl-C in the owner's terminal is the owner's affair
    os.environ.clear()
    os.environ.update(environment)
    os.environ["JPY_PARENT_PID"] = str(os.getppid())
    if folder is not None:
        os.chdir(folder)
    # a process that only starts kernels needs none of this
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(arguments)


def _end_with_owner() -> None:
    """Wait for the end of the process that asked for this one, and end: its parent is the server of forks."""
    owner = multiprocessing.parent_process()
    if owner is not None:
        wait([owner.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)


def _limits(environment: Mapping[str, str]) -> dict[str, str]:
    """The thread limits in an environment."""
    return {name: environment[name] for name in THREAD_LIMITS if name in environment}
