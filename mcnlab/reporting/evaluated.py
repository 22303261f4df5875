"""Which stores a study was measured on: names, clips and fingerprints, from the provenance of its runs."""

from collections.abc import Iterator
from dataclasses import dataclass

from mcnlab.reporting.summary import StudySummary
from mcnlab.runs import RunFolder

OWN = "own"
"""What provenance calls the store that a run was trained on."""


@dataclass(frozen=True)
class EvaluatedStore:
    """A store that runs were measured on."""

    name: str
    """As results have it after `@`; `own` for the store of the training."""
    store: str
    split: str
    clips: int
    fingerprint: str
    path: str = ""

    @property
    def in_words(self) -> str:
        """The store and its clips."""
        return f"{self.store}, {self.clips} clips of the split {self.split}"


def evaluated_stores(summary: StudySummary) -> tuple[EvaluatedStore, ...]:
    """All stores that the finished runs of a study were measured on.

    Args:
        summary: the study.

    Returns:
        Each once, in the order of the runs; of one name there are several where runs were measured on different data.
    """
    return tuple(dict.fromkeys(one for row in summary.finished() for one in _of_run(RunFolder(row.folder))))


def stores_named(summary: StudySummary, name: str) -> tuple[EvaluatedStore, ...]:
    """The stores behind one name of the results.

    Args:
        summary: the study.
        name: `own`, or what stands after `@`.

    Returns:
        Usually one; none where the runs are of a version that did not write it down.
    """
    return tuple(one for one in evaluated_stores(summary) if one.name == name)


def measured_on(summary: StudySummary, name: str) -> str:
    """A sentence on the data behind some numbers.

    Args:
        summary: the study.
        name: as for `stores_named`.

    Returns:
        Empty where it is not known.
    """
    found = stores_named(summary, name)
    if not found:
        return ""
    different = " Runs were measured on different data under this name." if len(found) > 1 else ""
    said = "; ".join(f"{one.in_words} (fingerprint {one.fingerprint[:12]})" for one in found)
    return f"Measured on {said}.{different}"


def _of_run(run: RunFolder) -> Iterator[EvaluatedStore]:
    """The stores that one run was measured on."""
    for name, one in run.provenance.get("evaluated", {}).items():
        clips = int(one["clips"])
        yield EvaluatedStore(name, one["store"], one["split"], clips, one["fingerprint"], one.get("path", ""))
