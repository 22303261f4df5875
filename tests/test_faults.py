"""A few trials of the fault harness; docs/reliability.md has the figures of many."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import FAULTS

ROOT = Path(__file__).parents[1]


def tried(*words):
    """What the harness says, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["kill-training", "full-disk"])
def test_a_few_trials_break_no_promise(name):
    code, said = tried(name, "--trials", "2")
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in FAULTS.items() if one.few])
def test_more_trials_break_no_promise(name):
    code, said = tried(name, "--short")
    assert code == 0, said
    if reason := re.search(r"× not tried: ([^|,]+)", said):
        pytest.skip(reason[1].strip())


@pytest.mark.slow
@pytest.mark.browser
def test_no_script_runs_in_the_widgets_of_jupyterlab():
    code, said = tried("script-captions-live")
    assert code == 0, said
    if "not tried: no Chromium" in said:
        pytest.skip("no Chromium")


def test_an_unknown_fault_is_answered_with_the_known_ones():
    code, said = tried("kill-everything")
    assert code == 2
    assert "kill-training" in said
