"""What trials of studies have in common: a study of two short runs, without what only follows the runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mini_study import EXPERIMENTS, write_study


def study_file(shared: Path) -> Path:
    """The study that all trials run."""
    path = shared / "mini.yaml"
    return path if path.exists() else write_study(shared, epochs=3)


@contextmanager
def short() -> Iterator[None]:
    """Commands that are started inside leave out the notebooks that compare runs, and the maps."""
    import mcnlab.reporting.pages
    import mcnlab.study

    notebooks, maps = mcnlab.study.STUDY_NOTEBOOKS, mcnlab.reporting.pages.study_maps
    mcnlab.study.STUDY_NOTEBOOKS = ()
    mcnlab.reporting.pages.study_maps = lambda *_, **__: None
    try:
        yield
    finally:
        mcnlab.study.STUDY_NOTEBOOKS, mcnlab.reporting.pages.study_maps = notebooks, maps


RUNS = tuple(f"{one['experiment'].replace('+', '-').replace(' ', '-')}-s0" for one in EXPERIMENTS)
"""Folders of its runs."""
