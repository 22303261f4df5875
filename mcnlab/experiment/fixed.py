"""The numbers of a run do not hang on where it runs: its threads, and deterministic algorithms where it wants them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcnlab.experiment.training_settings import TrainingSettings
from mcnlab.numerics import WORKSPACE, deterministic_torch, limited_threads


@contextmanager
def fixed_numerics(training: TrainingSettings) -> Iterator[None]:
    """Threads and algorithms inside are those that a run wants.

    Args:
        training: of the run.

    Raises:
        ConfigError: it wants deterministic algorithms, and torch has none for what is done inside.
    """
    with limited_threads(training.threads), deterministic_torch(training.deterministic):
        yield


def numerics_facts(training: TrainingSettings) -> dict[str, Any]:
    """What the provenance says of a deterministic run; empty for others."""
    if not training.deterministic:
        return {}
    return {"deterministic": {"threads": training.threads, WORKSPACE: os.environ.get(WORKSPACE)}}
