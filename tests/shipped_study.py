"""A study as it is shipped, run whole: for the slow tests of what it finds."""

from mcnlab.reporting.notebooks import settings_path
from mcnlab.reporting.summary import Column, summarize
from mcnlab.study import run_study


def summary_of(name, root):
    """The finished study.

    Args:
        name: of the file in `studies`.
        root: where runs and reports go.
    """
    run_study(settings_path(f"studies/{name}.yaml"), out=root, workers=2)
    return summarize(root / "runs" / name)


def mean_of_three(summary, task, experiment, subject, metric):
    """The mean over the three seeds of one quantity."""
    found = summary.intervals(Column("", task, (subject,), metric))[experiment]
    assert found.n == 3
    return found.value
