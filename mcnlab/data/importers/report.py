"""What became of everything that an import was given."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = 5
"""Ids that a line names before it says how many more there are."""


@dataclass
class ImportReport:
    """What became of every row of a manifest, or of every video of a published data set."""

    store: Path
    kept: int = 0
    """Clips in the store."""
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """Reason to ids of which nothing was left."""
    lost: dict[str, list[str]] = field(default_factory=dict)
    """Reason to ids that are kept, but not whole: without a modality, or without a part."""
    notes: list[str] = field(default_factory=list)
    import_s: float = 0.0

    def drop(self, reason: str, id_: str) -> None:
        """Nothing was left of this one."""
        self.dropped.setdefault(reason, []).append(id_)

    def lose(self, reason: str, id_: str) -> None:
        """This one is kept, but not whole."""
        self.lost.setdefault(reason, []).append(id_)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `import_report.json`."""
        return {"kept": self.kept, "dropped": self.dropped, "lost": self.lost, "notes": self.notes}

    def lines(self) -> list[str]:
        """The report in a few lines, ids cut after the fifth."""
        lines = [f"{self.kept} clips kept, {sum(map(len, self.dropped.values()))} dropped"]
        for what, reasons in (("dropped", self.dropped), ("kept, but not whole", self.lost)):
            for reason, ids in reasons.items():
                more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
                lines.append(f"{len(ids)} {what}: {reason}: {', '.join(map(repr, ids[:SHOWN]))}{more}")
        return lines + self.notes
