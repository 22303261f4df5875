"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import mcnlab

HOME = Path(mcnlab.__file__).parent
WITH_EXAMPLES = sorted(path for path in HOME.rglob("*.py") if ">>>" in path.read_text(encoding="utf-8"))


def module_of(path):
    return ".".join(["mcnlab", *path.relative_to(HOME).with_suffix("").parts]).removesuffix(".__init__")


@pytest.mark.parametrize("name", [module_of(path) for path in WITH_EXAMPLES])
def test_examples_of_a_module_give_what_they_say(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
