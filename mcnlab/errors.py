"""The error family: one class per exit code, so that a shell and a reader learn the same thing."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class McnlabError(Exception):
    """Base of every error that mcnlab raises on purpose; its text is one line for the user."""

    exit_code = 1


class ConfigError(McnlabError):
    """A setting or an argument is wrong."""

    exit_code = 2


class ShapeError(ConfigError, ValueError):
    """Two arrays do not fit each other."""


class DataError(McnlabError):
    """A file or a store is missing, broken, empty, or lacks what is asked of it."""

    exit_code = 3


class NonFiniteError(McnlabError):
    """A loss term became NaN or infinite."""

    exit_code = 4


class StorageError(McnlabError):
    """The disk or the permissions do not allow it."""

    exit_code = 5


NOT_OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What the system answers when it does not let a file be read, whatever the file holds."""


def reading_error(error: Exception, otherwise: type[McnlabError] = DataError) -> type[McnlabError]:
    """The class of the error to raise for a file that could not be read.

    Args:
        error: what reading it raised.
        otherwise: for a file that is missing or broken.

    Returns:
        `StorageError` where the permissions or the disk are at fault.
    """
    return StorageError if isinstance(error, OSError) and error.errno in NOT_OF_THE_FILE else otherwise


class BusyError(McnlabError):
    """Another process holds the folder."""

    exit_code = 6


class CheckpointError(McnlabError):
    """No checkpoint of the run can be used."""

    exit_code = 7


class RankError(McnlabError):
    """One of several processes failed."""

    exit_code = 8


class StoppedError(McnlabError):
    """A signal asked the work to stop; all that was done is on disk, and the same command goes on from there."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class CancelledError(McnlabError):
    """Someone who waited for slow work asked it to end; what was whole before is whole now."""


class RunError(McnlabError):
    """A run, or a notebook of it, ended without its result."""


EXIT_CODES = {
    0: "done, and on disk",
    1: "a run or a notebook of a study failed, or a fault of mcnlab",
    ConfigError.exit_code: "wrong usage or settings",
    DataError.exit_code: "bad input data",
    NonFiniteError.exit_code: "a loss that is not finite",
    StorageError.exit_code: "input or output failed: disk full, permission, a place that is taken, out of memory",
    BusyError.exit_code: "held by another process",
    CheckpointError.exit_code: "no usable checkpoint",
    RankError.exit_code: "one of several processes failed",
    128 + 2: "interrupted (Ctrl-C)",
    128 + 15: "terminated (SIGTERM, SIGUSR1), or asked to stop through the run folder",
}
"""Every exit code of the command, and what it says."""


@contextmanager
def one_line_warnings(wanted: bool = True) -> Iterator[None]:
    """Inside, a warning of Python is shown as `warning: TEXT`, without the file and the line of code that gave it.

    Args:
        wanted: nothing happens when False.
    """

    def in_a_line(message: Warning | str, *where: object, **more: object) -> str:
        said = " ".join(str(message).split())
        return "warning: " + "".join(letter if letter.isprintable() else " " for letter in said) + "\n"

    before = warnings.formatwarning
    if wanted:
        warnings.formatwarning = in_a_line
    try:
        yield
    finally:
        warnings.formatwarning = before
