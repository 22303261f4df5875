"""What the explorer shows: the runs of a folder, their clips in one order, and their embeddings in that order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open

from mcnlab.errors import DataError
from mcnlab.modalities import in_order
from mcnlab.reporting.maps import JOINT
from mcnlab.runs import RunFolder, run_folders

ALL_MODALITIES = "all modalities"
"""What is shown when every clip stands on the map once per modality of one space."""


@dataclass(frozen=True)
class Panel:
    """One map's points before they are laid out."""

    run: str
    """Name of the run, as `ExplorerData.names` has it."""
    embedding: str
    """`video`, `text@vt`, `joint`, …, or `all modalities`."""
    vectors: Float[np.ndarray, "points dim"]
    """NaN in the rows of clips without the modality."""
    clips: Int[np.ndarray, " points"]
    """Row of the clip of each point."""
    modalities: tuple[str, ...]
    """What the points are of, one after the other: as many equal blocks of points as there are names."""

    def ids(self, beside: "Panel") -> list[str]:
        """A name for each point: points of the same name on two maps are held together.

        Args:
            beside: the other map. A clip that stands on one of them alone once per modality is held at its point of
                the other's modality.
        """
        other = beside.modalities
        anchor = "" if len(other) > 1 else other[0] if other[0] in self.modalities else self.modalities[0]
        held = self.modalities if len(self.modalities) == 1 else (anchor,)
        names = [str(clip) for clip in range(len(self))]
        return [name if block in held else f"{name} {block}" for block in self.modalities for name in names]

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips) // len(self.modalities)


@dataclass(frozen=True)
class ExplorerData:
    """Evaluated runs that show the same clips.

    Args:
        runs: name → run folder; at least one.
        clips: of the first run. The rows of all other tables follow its order.
    """

    runs: Mapping[str, RunFolder]
    clips: pd.DataFrame
    left_out: tuple[str, ...] = ()
    """Runs of the folder that have no embeddings, by name."""
    _rows: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The runs by name."""
        return tuple(self.runs)

    def first_two(self) -> tuple[str, str]:
        """Two runs to begin with: of different experiments that have as many embeddings as any."""
        counted = {name: len(_names_at(run.path)) for name, run in self.runs.items()}
        rich = [name for name in self.names if counted[name] == max(counted.values())]
        kinds = {self.runs[name].experiment: name for name in reversed(self.names)}
        others = [name for name in kinds.values() if self.runs[name].experiment != self.runs[rich[0]].experiment]
        others.sort(key=lambda name: (-counted[name], self.names.index(name)))
        return rich[0], others[0] if others else self.names[-1]

    def embeddings(self, name: str) -> Mapping[str, Float[np.ndarray, "clips _"]]:
        """All embeddings of a run, a row per clip; NaN where the run did not evaluate it.

        Raises:
            DataError: the run cannot be read, or evaluated none of the clips.
        """
        return _embeddings(self.runs[name].path, tuple(self._own_rows(name).tolist()))

    def ranks(self, name: str) -> pd.DataFrame:
        """Rank of the true match of each clip, a column per direction; empty when the run has none."""
        run = self.runs[name]
        if not (run.path / "ranks.parquet").exists():
            return pd.DataFrame(index=range(len(self.clips)))
        rows = self._own_rows(name)
        table = run.ranks().reset_index(drop=True).reindex(rows)
        return table.reset_index(drop=True)

    def choices(self, name: str) -> tuple[str, ...]:
        """The embeddings of a run by name, modalities first, and `all modalities` when they share one space."""
        found = self.embeddings(name)
        kinds = in_order({one.split("@")[0] for one in found} - {JOINT})
        named = sorted(found, key=lambda one: (_place(one, kinds), one))
        return (*named, *([ALL_MODALITIES] if stackable(found) else []))

    def panel(self, name: str, embedding: str) -> Panel:
        """The points of one map.

        Args:
            name: of the run.
            embedding: one of its `choices`.

        Raises:
            DataError: the run has no such embedding.
        """
        return self._panel(name, embedding, self.embeddings(name))

    def panel_of(self, name: str, embedding: str, own: Mapping[str, np.ndarray]) -> Panel:
        """The points of one map by other embeddings of a run, such as those of a checkpoint.

        Args:
            name: of the run.
            embedding: one of its `choices`.
            own: embeddings in the order of the run's own clips.

        Raises:
            DataError: there is no such embedding among them, or it has another number of clips.
        """
        rows = self._own_rows(name)
        for one, values in own.items():
            if len(values) <= rows.max():
                raise DataError(f"{name}: {one} has {len(values)} clips, expected more than {rows.max()}")
        return self._panel(name, embedding, {one: _reordered(values, rows) for one, values in own.items()})

    def _panel(self, name: str, embedding: str, found: Mapping[str, np.ndarray]) -> Panel:
        """The points of one map."""
        rows = np.arange(len(self.clips))
        if embedding == ALL_MODALITIES and (stacked := stackable(found)):
            vectors = np.concatenate([found[one] for one in stacked])
            return Panel(name, embedding, vectors, np.tile(rows, len(stacked)), stacked)
        if embedding not in found:
            raise DataError(f"{name}: no embedding {embedding!r}; it has {', '.join(found)}")
        return Panel(name, embedding, found[embedding], rows, (embedding.split("@")[0],))

    def _own_rows(self, name: str) -> np.ndarray:
        """Row of each clip in the run's own files, -1 where it is not among them."""
        if name not in self._rows:
            own = {clip: row for row, clip in enumerate(self.runs[name].clip_ids())}
            rows = np.array([own.get(clip, -1) for clip in self.clips["id"]])
            if (rows < 0).all():
                raise DataError(f"{self.runs[name].path}: evaluated none of the clips of {self.names[0]}")
            self._rows[name] = rows
        return self._rows[name]


def open_runs(runs: str | Path | Sequence[str | Path]) -> ExplorerData:
    """Runs to explore.

    Args:
        runs: a folder of run folders, one run folder, or several of them.

    Returns:
        Those that were embedded; the clips are those of the first.

    Raises:
        DataError: there is no such folder, or no run in it has embeddings.
    """
    given = [runs] if isinstance(runs, str | Path) else list(runs)
    found = [run for one in given for run in _runs_at(Path(one))]
    embedded = [run for run in found if (run.path / "embeddings.safetensors").exists()]
    if not embedded:
        raise DataError(f"{', '.join(map(str, given))}: no run with embeddings; evaluate one first")
    named = {_name(run, embedded): run for run in embedded}
    left_out = tuple(run.path.name for run in found if run not in embedded)
    return ExplorerData(named, embedded[0].clips().reset_index(drop=True), left_out)


def stackable(embeddings: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Modalities that live in one and the same space, so that each clip can stand there once per modality.

    Example:
        >>> stackable({"video": np.zeros((2, 3)), "text": np.zeros((2, 3)), "joint": np.zeros((2, 3))})
        ('video', 'text')
    """
    own = in_order(name for name in embeddings if "@" not in name and name != JOINT)
    apart = any("@" in name for name in embeddings)
    alike = len({embeddings[name].shape[1] for name in own}) == 1
    return own if len(own) > 1 and alike and not apart else ()


def _runs_at(path: Path) -> list[RunFolder]:
    """The run at a path, or those inside of it."""
    return [RunFolder(path)] if (path / "embeddings.safetensors").exists() else run_folders(path)


def _name(run: RunFolder, runs: Sequence[RunFolder]) -> str:
    """What a run is called where one chooses among several."""
    short = f"{run.experiment}, seed {run.seed}"
    alike = [one for one in runs if (one.experiment, one.seed) == (run.experiment, run.seed)]
    return short if len(alike) == 1 else f"{short} ({run.path.parent.name}/{run.path.name})"


def _place(name: str, kinds: Sequence[str]) -> int:
    """Modalities in their order, then `joint`."""
    kind = name.split("@")[0]
    return kinds.index(kind) if kind in kinds else len(kinds)


def _names_at(path: Path) -> list[str]:
    """Names of a run's embeddings, without reading them; none where they cannot be read."""
    try:
        with safe_open(path / "embeddings.safetensors", framework="numpy") as file:
            return sorted(file.keys())
    except (SafetensorError, OSError):
        return []


@lru_cache(maxsize=8)
def _embeddings(path: Path, rows: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Embeddings of a run in another order of rows."""
    order = np.array(rows)
    return {name: _reordered(values, order) for name, values in RunFolder(path).embeddings().items()}


def _reordered(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rows in another order; NaN where a place is -1."""
    whole = np.asarray(values, dtype=np.float32)[order]
    whole[order < 0] = np.nan
    return whole
