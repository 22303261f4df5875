"""The harness finds what is planted: a defect in mcnlab, of each kind, makes a fault fail."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.plants import PLANTS

pytestmark = pytest.mark.slow
NEEDED = {"audit": "strace is not there", "kill-at-every-call": "strace is not there", "full-disk": "no right to mount",
          "script-captions-live": "no Chromium"}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_defect_is_found(name):
    one = PLANTS[name]
    words = ["-m", "tests.faults", one.fault, "--trials", str(one.trials), "--plant", name]
    ended = subprocess.run([sys.executable, *words], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if NEEDED.get(one.fault, "?") in ended.stdout:
        pytest.skip(NEEDED[one.fault])
    assert ended.returncode == 1, ended.stdout
    assert f"{one.fault}, seed 0, trial" in ended.stderr
    assert one.said in ended.stderr
