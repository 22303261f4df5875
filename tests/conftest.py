"""Settings of the whole test run: checked shape annotations, one thread, quiet libraries."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")

from jaxtyping import install_import_hook

import tests.shape_check  # noqa: F401  the hook finds it by this name

install_import_hook("mcnlab", "tests.shape_check.check")
