"""The study board: all runs of one or more studies side by side, in JupyterLab."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from IPython.display import display

from mcnlab.errors import ConfigError, McnlabError
from mcnlab.reporting.addresses import sound_address
from mcnlab.reporting.board_rows import (
    board_columns,
    differences,
    experiment_rows,
    run_id,
    run_rows,
    spark,
    summarize_all,
)
from mcnlab.reporting.comparison import as_good_as_best
from mcnlab.reporting.export import export_html
from mcnlab.reporting.followed import FollowedLog
from mcnlab.reporting.live import somebody_looks
from mcnlab.reporting.retrieval_errors import Confusion, confusion, shown_errors
from mcnlab.reporting.summary import RunRow, short_direction
from mcnlab.reporting.tables import means_table
from mcnlab.runs import RunFolder


class Heard(Protocol):
    """What can be had of a clip."""

    @property
    def wav(self) -> bytes | None:
        """Its sound as a WAV file; None where nothing can be heard."""


Media = Callable[[Path, str], Heard]
"""A run folder and a clip id → the clip."""


class Board:
    """All runs of one or more studies: a table to sort and filter, differences, and who errs where.

    Args:
        study_dirs: a folder of run folders, or several.
        baseline: the experiment that stays on top and that the others are held against; the study's own when None.
        media: gives the sound of a clip; without it none is played.

    Raises:
        ConfigError: there is no such baseline.
        DataError: a folder does not exist or holds no run.
    """

    def __init__(
        self, study_dirs: str | Path | Sequence[str | Path], *, baseline: str | None = None, media: Media | None = None
    ) -> None:
        self.study_dirs, self.media = study_dirs, media
        self.study = summarize_all(study_dirs)
        if baseline is not None and baseline not in self.study.experiments:
            raise ConfigError(f"baseline: no experiment {baseline!r}; there are {', '.join(self.study.experiments)}")
        self.baseline = baseline or self.study.reference or self.study.experiments[0]
        self.columns = board_columns(self.study)
        self._logs: dict[Path, FollowedLog] = {}
        self._widget: Any = None

    @property
    def directions(self) -> list[str]:
        """Directions of retrieval that some run was asked."""
        return list(dict.fromkeys(name for table in self.study.ranks.values() for name in table))

    def table(self) -> pd.DataFrame:
        """Experiments × columns as text: mean ± half the 95 % interval."""
        return means_table(self.study, self.columns)

    def show(self) -> None:
        """Display the board where somebody looks; elsewhere nothing."""
        if not somebody_looks():
            return
        # needs anywidget and a front end; a script has neither
        from mcnlab.reporting.widgets import BoardView

        self._widget = BoardView(view=self.view())
        self._widget.on_msg(lambda widget, content, buffers: self._hear(content))
        display(self._widget)

    def view(self) -> dict[str, Any]:
        """All that the page draws, as plain values."""
        runs = run_rows(self.study, self.columns)
        sparks = {run_id(run): self._spark(run) for run in self.study.runs}
        first = {run.experiment: sparks[run_id(run)] for run in reversed(self.study.runs)}
        experiments = experiment_rows(self.study, self.columns)
        return {
            "title": self.study.title,
            "home": str(Path.home()),
            "columns": [{"title": column.title, "task": column.task} for column in self.columns],
            "experiments": [{**row, "spark": first[row["name"]]} for row in experiments],
            "runs": [{**row, "spark": sparks[row["id"]]} for row in runs],
            "baseline": self.baseline,
            "differences": differences(self.study, self.columns, self.baseline),
            "directions": [{"name": name, "short": short_direction(name)} for name in self.directions],
            "asked": {f"{name}, seed {seed}": list(table) for (name, seed), table in self.study.ranks.items()},
            "media": self.media is not None,
            "problem": "",
        }

    def choose_baseline(self, name: str) -> None:
        """Hold all experiments against another one.

        Args:
            name: of an experiment.

        Raises:
            ConfigError: there is no such experiment.
        """
        if name not in self.study.experiments:
            raise ConfigError(f"baseline: no experiment {name!r}")
        self.baseline = name

    def refresh(self) -> None:
        """Read all runs again; of their logs only what is new."""
        self.study = summarize_all(self.study_dirs)
        self.columns = board_columns(self.study)
        if self.baseline not in self.study.experiments:
            self.baseline = self.study.reference or self.study.experiments[0]

    def run(self, name: str) -> RunFolder:
        """A run by its name on the board.

        Args:
            name: `EXPERIMENT, seed N`.

        Raises:
            ConfigError: there is no such run.
        """
        return RunFolder(self._row(name).folder)

    def errors(self, first: str, second: str, direction: str, *, k: int = 1) -> pd.DataFrame:
        """Queries that one run answers and another does not.

        Args:
            first: name of the run that is right, `EXPERIMENT, seed N`.
            second: name of the run that is wrong.
            direction: `text->video`.
            k: a query is answered when its own clip is among the first k.

        Returns:
            A row per query by clip id: its rank in both runs, the worst of the second first.

        Raises:
            ConfigError: there is no such run.
            DataError: a run was not asked this direction.
        """
        return confusion(self.run(first), self.run(second), direction, k=k).table

    def error_counts(self, direction: str) -> pd.DataFrame:
        """Every experiment against the baseline, query by query over equal seeds: who has the right clip first.

        Args:
            direction: `text->video`; empty where retrieval was not measured.

        Returns:
            A row per experiment that trained both sides and shares a seed with the baseline: shares of all queries.
        """
        folders = {(row.experiment, row.seed): row.folder for row in self.study.finished()}
        trained = {name for name, _ in folders if self.study.trains(name, direction)}
        asked = [key for key, table in self.study.ranks.items() if direction in table and key[0] in trained]
        rows: dict[str, list[Confusion]] = {}
        for name, seed in asked:
            if name != self.baseline and (self.baseline, seed) in asked:
                pair = (RunFolder(folders[name, seed]), RunFolder(folders[self.baseline, seed]))
                rows.setdefault(name, []).append(confusion(*pair, direction))
        return pd.DataFrame({name: _shares(found, self.baseline) for name, found in rows.items()}).T.round(4)

    def in_words(self) -> list[str]:
        """What the board says: how many runs are done, who is on top of how many columns, which need a look."""
        done = len(self.study.finished())
        best = [as_good_as_best(self.study, column) for column in self.columns]
        compared = [len(self.study.intervals(column)) > 1 for column in self.columns]
        tops = pd.Series([name for name, _ in best if name is not None], dtype=object).value_counts()
        alone = sum(several and not tied for several, (_, tied) in zip(compared, best, strict=True))
        look = [run_id(run) for run in self.study.runs if run.state in ("failed", "interrupted") or run.finite is False]
        told = [f"{done} of {len(self.study.runs)} runs are finished."]
        if len(tops):
            told.append(f"{tops.index[0]} has the best mean in {tops.iloc[0]} of {len(best)} columns.")
            told.append(f"In {alone} columns a test tells the best from all others.")
        return [*told, f"To be looked at: {', '.join(look)}."] if look else told

    def page_of(self, name: str) -> str:
        """The executed notebook of a run as one HTML page.

        Args:
            name: `EXPERIMENT, seed N`.

        Returns:
            HTML that loads nothing.

        Raises:
            DataError: the run has no executed notebook.
        """
        row = self._row(name)
        with tempfile.TemporaryDirectory(prefix="mcnlab-page-") as folder:
            page = export_html(row.folder / "notebook.ipynb", Path(folder) / "page.html", title=name, run=row.folder)
            return page.read_text(encoding="utf-8")

    def _row(self, name: str) -> RunRow:
        """A run by its name on the board."""
        for run in self.study.runs:
            if run_id(run) == name:
                return run
        raise ConfigError(f"no run {name!r} on this board")

    def _spark(self, run: RunRow) -> list[float]:
        """Small loss curve of a run."""
        log = self._logs.setdefault(run.folder, FollowedLog(run.folder / "metrics.jsonl"))
        return spark(log)

    def _hear(self, content: Mapping[str, Any]) -> None:
        """A message of the page; what goes wrong is answered as text."""
        kind, number = str(content.get("kind")), content.get("number")
        try:
            answer = self._answer(kind, content)
        except (McnlabError, OSError, KeyError, ValueError) as error:
            answer = {"problem": str(error)}
        self._widget.send({"kind": kind, "number": number, **answer})

    def _answer(self, kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """What a message of the page asks for."""
        if kind == "baseline":
            self.choose_baseline(str(content["name"]))
            told = differences(self.study, self.columns, self.baseline)
            self._widget.view = {**self._widget.view, "baseline": self.baseline, "differences": told}
        elif kind == "refresh":
            self.refresh()
            self._widget.view = self.view()
        elif kind == "errors":
            first, second = (self.run(str(content[side])) for side in ("first", "second"))
            return {"errors": shown_errors(first, second, str(content["direction"]), k=int(content["k"]))}
        elif kind == "page":
            return {"html": self.page_of(str(content["run"]))}
        elif kind == "sound":
            return {"sound": self._sound(str(content["run"]), str(content["clip"]))}
        return {}

    def _sound(self, run: str, clip: str) -> str:
        """A clip's sound as a data address; empty where there is none."""
        found = None if self.media is None else self.media(self.run(run).path, clip).wav
        return sound_address(found)


def board(
    study_dirs: str | Path | Sequence[str | Path], *, baseline: str | None = None, media: Media | None = None
) -> Board:
    """Make a board and display it where somebody looks.

    Args:
        study_dirs: a folder of run folders, or several.
        baseline: see `Board`.
        media: see `Board`.

    Returns:
        The board.
    """
    made = Board(study_dirs, baseline=baseline, media=media)
    made.show()
    return made


def _shares(found: Sequence[Confusion], baseline: str) -> dict[str, float]:
    """Counts over several seeds as shares of all queries."""
    queries = sum(one.queries for one in found)
    parts = {
        "only it is right": sum(one.only_first for one in found),
        f"only {baseline} is right": sum(one.only_second for one in found),
        "both": sum(one.both for one in found),
        "neither": sum(one.neither for one in found),
    }
    return {name: count / queries for name, count in parts.items()}
