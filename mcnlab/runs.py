"""The run folder: reading what a run left behind, and asking one that is at work to stop."""

import datetime
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from mcnlab.config import nearest_place
from mcnlab.errors import DataError, RunError, reading_error
from mcnlab.files import read_json, read_lines, write_text_atomically
from mcnlab.parquet import read_parquet

RESULT_COLUMNS = ("experiment", "seed", "task", "subject", "metric", "value", "low", "high")
"""The eight columns that every table of results has, in this order."""
STATES = ("pending", "running", "finished", "failed", "interrupted")
STOP_FILE = ".stop"
"""A request in a run folder: the training that finds it ends after a checkpoint, as on SIGTERM."""
_FOLDER_NAME = re.compile(r"(?P<experiment>.+)-s(?P<seed>\d+)")

HEADLINES = {
    "retrieval": {"recall_at_1": "chance_at_1"},
    "clusters": {"purity": "chance_purity"},
    "actions": {"step_recall": "chance_step_recall"},
    "transfer": {"linear_top1": "chance_linear_top1", "linear_map": "chance_linear_map"},
    "finetune": {"tuned_top1": "chance_tuned_top1", "tuned_map": "chance_tuned_map"},
    "stills": {"accuracy": "chance"},
    "detection": {"ap_30": "ap_30_untrained"},
    "explanation": {"accuracy": "chance"},
    "localization": {"pointing": "pointing_whole"},
}
"""By task: the metric that is told first, and that of chance; a run has one of them."""


@dataclass(frozen=True)
class RunFolder:
    """One run on disk; reads lazily and never writes.

    Args:
        path: the folder, for example `runs/modality_combinations/v-t-s0`.

    Example:
        >>> RunFolder("runs/tiny-s0").status["state"]  # doctest: +SKIP
        'finished'
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved settings; empty while the run has not written them."""
        return _read_mapping(self.path / "settings.yaml")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Code version, data fingerprint, seeds, machine, library versions; empty while not written."""
        return _read_mapping(self.path / "provenance.json")

    @cached_property
    def status(self) -> dict[str, Any]:
        """`state` (one of `STATES`) and, for a failed run, `reason`."""
        status = _read_mapping(self.path / "status.json") or {"state": "pending"}
        if status.get("state") not in STATES:
            raise DataError(f"{self.path / 'status.json'}: state must be one of {STATES}, got {status.get('state')!r}")
        return status

    @property
    def finished(self) -> bool:
        """True once every part of the run is done and on disk."""
        return self.status["state"] == "finished"

    @property
    def experiment(self) -> str:
        """The experiment's name: from the settings, else as its study asked for it, else from the folder's name."""
        named = self.settings.get("experiment") or _read_mapping(self.path / "experiment.yaml").get("experiment")
        match = _FOLDER_NAME.fullmatch(self.path.name)
        return str(named or (match["experiment"] if match else self.path.name))

    @property
    def seed(self) -> int:
        """The run's seed: from the provenance, else from the folder's name, else 0."""
        if isinstance(self.provenance.get("seed"), int):
            return int(self.provenance["seed"])
        match = _FOLDER_NAME.fullmatch(self.path.name)
        return int(match["seed"]) if match else 0

    def metrics(self) -> pd.DataFrame:
        """One row per training step: step, stage, epoch, lr, loss, term.NAME, grad_norm, clips_per_s, elapsed_s.

        Returns:
            The table; without rows when the run took no step. A last line that was cut off by a crash is left out.

        Raises:
            DataError: a line other than the last is not JSON, or one is longer than any of ours.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return pd.DataFrame()
        try:
            lines = list(read_lines(path))
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start} of a line)") from error
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                if number < len(lines):
                    raise DataError(f"{path}: line {number} is not JSON ({getattr(error, 'msg', error)})") from error
                continue
            if not isinstance(rows[-1], dict):
                raise DataError(f"{path}: line {number}: expected a mapping, got {type(rows[-1]).__name__}")
        return pd.DataFrame(rows)

    def results(self) -> pd.DataFrame:
        """The run's results, tidy, with the columns of `RESULT_COLUMNS`.

        Returns:
            One row per task, subject and metric; without rows when the run was not evaluated.

        Raises:
            DataError: `results.json` is not JSON, or a row lacks one of the columns.
        """
        rows = self.read_json("results.json").get("rows", [])
        table = pd.DataFrame(rows, columns=list(rows[0]) if rows else list(RESULT_COLUMNS))
        missing = [column for column in RESULT_COLUMNS if column not in table]
        if missing:
            raise DataError(f"{self.path / 'results.json'}: rows lack {', '.join(missing)}")
        numbers = dict.fromkeys(("value", "low", "high"), "float64")
        return table[list(RESULT_COLUMNS)].astype(numbers)

    @cached_property
    def outcome(self) -> dict[str, Any]:
        """How the training ended, as `results.json` tells it beside its rows; empty while not evaluated."""
        return dict(self.read_json("results.json").get("outcome") or {})

    def headlines(self) -> dict[str, dict[str, str]]:
        """One number of each task and subject, with chance where that is known.

        Returns:
            Task to subject to a sentence: recall at 1, purity, step recall, accuracy of a probe.
        """
        rows = self.results()
        found: dict[str, dict[str, str]] = {}
        for task, subject, metric, value in rows[["task", "subject", "metric", "value"]].itertuples(index=False):
            chance = HEADLINES.get(str(task).split("@")[0], {}).get(str(metric))
            if chance is not None:
                same = (rows["task"] == task) & (rows["subject"] == subject) & (rows["metric"] == chance)
                known = f", chance {rows[same]['value'].iloc[0]:.3f}" if same.any() else ""
                found.setdefault(str(task), {})[str(subject)] = f"{metric} {value:.3f}{known}"
        return found

    def read_json(self, name: str) -> dict[str, Any]:
        """The mapping in a JSON file of the folder; empty when there is no such file.

        Args:
            name: file name.

        Returns:
            Its values.

        Raises:
            DataError: the file is not JSON, or holds no mapping.
        """
        return _read_mapping(self.path / name)

    def embeddings(self) -> dict[str, np.ndarray]:
        """Embeddings of the evaluated clips.

        Returns:
            `video`, `video@va`, `joint`, … to (clips, dim) float16; the row of a clip without the modality is NaN.

        Raises:
            DataError: the file is missing or broken.
        """
        path = self.path / "embeddings.safetensors"
        try:
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_tensor(name) for name in sorted(file.keys())}
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file; has the run been evaluated?") from error
        except (SafetensorError, OSError) as error:
            raise reading_error(error)(f"{path}: cannot be read ({error})") from error

    def clips(self) -> pd.DataFrame:
        """The evaluated clips, in the row order of the embeddings: id, caption, label, start_s, end_s, thumbnail, …"""
        return read_parquet(self.path / "clips.parquet")

    def clip_ids(self) -> list[str]:
        """Ids of the evaluated clips, in the same order, without reading their pictures."""
        return list(read_parquet(self.path / "clips.parquet", columns=["id"])["id"])

    def ranks(self) -> pd.DataFrame:
        """Rank of the true match (1 is best), a row per clip and a column per direction; null where there is none."""
        return read_parquet(self.path / "ranks.parquet")


def run_folders(folder: str | Path) -> list[RunFolder]:
    """All runs directly inside a folder, by name.

    Args:
        folder: holds run folders, and perhaps other things, which are passed over.

    Returns:
        The runs, sorted by folder name; a run is a folder with `settings.yaml` or `status.json`.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        beside = sorted({file.parent.parent.name for file in folder.parent.glob("*/*/settings.yaml")})
        known = f"; in {folder.parent} there are {', '.join(beside)}" if beside else ""
        raise DataError(f"{folder}: no such folder of runs{known}")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [RunFolder(path) for path in inside if _is_run(path)]


def study_name(folder: Path) -> str:
    """What a folder of run folders is called as a study; runs of no study lie right in `runs`."""
    name = folder.resolve().name
    return "" if name == "runs" else name


def no_runs(folder: Path) -> DataError:
    """The error that there are no runs in a folder; it names a folder near by that has some."""
    return DataError(f"{folder}: no runs here; {runs_near(folder)}")


def runs_near(folder: Path) -> str:
    """What to type instead of a folder that holds no runs: one near by that does, or the command that makes some.

    Args:
        folder: as it was typed; it need not exist.

    Returns:
        The end of a sentence.
    """
    below = [run for depth in ("*/*", "runs/*/*") for run in folder.glob(f"{depth}/settings.yaml")]
    beside = {file.parent for file in folder.parent.glob("*/settings.yaml")}
    beside |= {file.parent.parent for file in folder.parent.glob("*/*/settings.yaml")}
    of_report = folder.parent.parent / "runs" / folder.name
    if below:
        return f"give {max(sorted(run.parent.parent for run in below), key=lambda one: len(one.parts))}"
    if (folder / "settings.yaml").exists():
        return f"give {folder.parent}"
    if next(of_report.glob("*/settings.yaml"), None) is not None:
        return f"give {of_report}"
    if not folder.exists() and (meant := nearest_place(folder.name, {str(one): one.name for one in sorted(beside)})):
        return f"did you mean {meant!r}?"
    return "`mcnlab study STUDY.yaml` makes some"


def newest_run(folder: str | Path) -> RunFolder:
    """The run that wrote something last.

    Args:
        folder: a run folder, which is the answer itself, or a folder of run folders.

    Returns:
        The run.

    Raises:
        DataError: there is no run.
    """
    folder = Path(folder)
    if _is_run(folder):
        return RunFolder(folder)
    found = run_folders(folder) if folder.is_dir() else []
    if not found:
        raise no_runs(folder)
    return max(found, key=lambda run: _written_s(run.path))


def list_runs(folder: str | Path, *, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """One row per run of a folder.

    Args:
        folder: holds run folders.
        metrics: results to show beside them, each as `TASK SUBJECT METRIC`: `retrieval text->video recall_at_1`.

    Returns:
        Columns experiment, seed, state, reason, steps, train_s, path, and one of each metric, NaN where a run lacks it;
        sorted by experiment and seed.

    Raises:
        DataError: there is no such folder, or no run has one of the metrics.
    """
    columns = ["experiment", "seed", "state", "reason", "steps", "train_s", "path", *metrics]
    runs = run_folders(folder)
    table = pd.DataFrame([{**_run_row(run), **_metric_cells(run, metrics)} for run in runs], columns=columns)
    absent = [name for name in metrics if table[name].isna().all()]
    if absent:
        raise DataError(f"{folder}: no run has {absent[0]!r}; metrics are TASK SUBJECT METRIC, as results() lists them")
    return table.sort_values(["experiment", "seed"], kind="stable", ignore_index=True)


def list_all_runs(folder: str | Path) -> pd.DataFrame:
    """One row per run of a folder and of the studies inside it, in the order in which they wrote last.

    Args:
        folder: holds run folders, or folders of run folders.

    Returns:
        Columns study and those of `list_runs`, and `written`: when a run last wrote something, ISO 8601 in the
        machine's time. The newest run stands last.

    Raises:
        DataError: there is no such folder, or no run in it.
    """
    folder = Path(folder)
    if not folder.is_dir() and folder == Path("runs"):
        raise DataError(
            "runs: no such folder here; `mcnlab study STUDY.yaml` makes it, or name another: mcnlab list DIR"
        )
    if folder.is_dir() and _is_run(folder):
        raise DataError(f"{folder}: is one run; type: mcnlab list {quote(str(folder.parent))}")
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    holders = [folder, *(one for one in inside if run_folders(one))]
    tables = [list_runs(one).assign(study=study_name(one)) for one in holders]
    runs = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    if not len(runs):
        raise no_runs(folder)
    moments = [datetime.datetime.fromtimestamp(_written_s(Path(path))).astimezone() for path in runs["path"]]
    runs["written"] = [moment.isoformat(timespec="seconds") for moment in moments]
    runs = runs.iloc[sorted(range(len(runs)), key=lambda row: moments[row])]
    return runs[["study", *(column for column in runs.columns if column != "study")]].reset_index(drop=True)


def _is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / "settings.yaml").exists() or (folder / "status.json").exists()


def _written_s(run: Path) -> float:
    """When a run folder last got a file, in seconds of the clock."""
    return max((path.stat().st_mtime for path in run.iterdir()), default=run.stat().st_mtime)


def ask_to_stop(path: str | Path) -> None:
    """Ask the training in a run folder to end after a checkpoint, whatever process or machine it runs on.

    It looks once a second. The run becomes `interrupted`, its command ends as after SIGTERM, and the same command goes
    on from there. A run that has come to its measurements finishes them.

    Args:
        path: the run folder, on a disk that both sides see.

    Raises:
        RunError: nothing is at work in the folder.
        StorageError: the folder cannot be written.
    """
    run = RunFolder(Path(path))
    state = run.status["state"]
    if state != "running":
        raise RunError(f"{run.path}: cannot be stopped, it is not running ({state})")
    if holder(run.path) is None:
        raise RunError(f"{run.path}: cannot be stopped, no process is at work here; it was killed")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_text_atomically(run.path / STOP_FILE, f"process {os.getpid()} on {platform.node()}, {now}\n")


def holder(path: str | Path) -> str | None:
    """Who is at work in a run folder.

    Args:
        path: the run folder.

    Returns:
        Process and machine; None when nobody is. Not every shared disk shows the locks of other machines: a process of
        another one counts as at work as long as its name stands there.
    """
    lock, owner, named = Path(path) / ".lock", Path(path) / ".owner", ""
    try:
        named = owner.read_text(encoding="utf-8").strip()
        with FileLock(lock, timeout=0):
            return named if " on " in named and not named.endswith(f" on {platform.node()}") else None
    except FileNotFoundError:
        return None
    except (Timeout, PermissionError):
        return named or "a process"


def _read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file; empty when there is no such file."""
    try:
        values = read_json(path) if path.suffix == ".json" else yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected a mapping, got {type(values).__name__}")
    return values


def _metric_cells(run: RunFolder, metrics: Sequence[str]) -> dict[str, float]:
    """Some results of a run by `TASK SUBJECT METRIC`."""
    if not metrics:
        return {}
    rows = run.results()
    names = rows["task"] + " " + rows["subject"] + " " + rows["metric"]
    return {name: float(value) for name, value in zip(names, rows["value"], strict=True) if name in metrics}


def _run_row(run: RunFolder) -> dict[str, Any]:
    """What `list_runs` says of one run."""
    metrics = run.metrics()
    return {
        "experiment": run.experiment,
        "seed": run.seed,
        "state": run.status["state"],
        "reason": run.status.get("reason"),
        "steps": len(metrics),
        "train_s": float(metrics["elapsed_s"].iloc[-1]) if "elapsed_s" in metrics else None,
        "path": str(run.path),
    }
