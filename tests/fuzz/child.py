"""One reader under atheris: `python -m tests.fuzz.child READER FOLDER FLAG …`, as `python -m tests.fuzz` starts it."""

import contextlib
import sys
from pathlib import Path

import atheris

from tests.fuzz.targets import prepare

SEEN = ["mcnlab", "yaml", "nbformat", "numpy.lib"]
"""Packages whose branches guide the fuzzer."""


def main() -> None:
    """Give the reader what the fuzzer makes, without end."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    with atheris.instrument_imports(include=SEEN):  # readers are imported by the first call
        path, read = prepare(name, folder)
        path.write_bytes((folder / "corpus" / "sound").read_bytes())
        read(path)
        from mcnlab.errors import McnlabError

    def once(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(McnlabError, OSError):  # named; all else ends the fuzzer, which keeps the bytes
            read(path)

    atheris.Setup([sys.argv[0], *sys.argv[3:]], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
