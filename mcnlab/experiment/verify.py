"""Whether a finished run still is what it was: its files, settings, log, checkpoints, tables, and its numbers again."""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.store import Store, open_store
from mcnlab.errors import DataError, McnlabError, StorageError
from mcnlab.experiment.elsewhere import embed_everywhere, measure_also
from mcnlab.experiment.fixed import fixed_numerics
from mcnlab.experiment.folder import same_data, same_run
from mcnlab.experiment.loaded import Run, load_run
from mcnlab.experiment.measure import measure
from mcnlab.experiment.mixed import main_store
from mcnlab.experiment.record import RECORD, compare_with_record
from mcnlab.reporting.executed import run_notebook_problems
from mcnlab.runs import RunFolder, run_folders, runs_near
from mcnlab.training.best import BEST, best_problem
from mcnlab.training.checkpoint import check_checkpoint, list_checkpoints

TOLERANCE = 1e-6
"""Largest difference of a number from the same one computed again; 0 on the machine and with the threads of the run."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    subject: str
    """The run or store."""
    name: str
    problems: tuple[str, ...] = ()
    """One line each; none when all is well."""
    skipped: str = ""
    """Why it was not looked at; empty where it was."""

    @property
    def state(self) -> str:
        """`ok`, `problem` or `not checked`."""
        return "problem" if self.problems else "not checked" if self.skipped else "ok"


def verify(path: str | Path, *, recompute: bool = True) -> Iterator[Check]:
    """Check a run, all runs of a study, or a store.

    Args:
        path: a run folder, a folder of run folders, or a store.
        recompute: whether a run's results are computed again from its checkpoint and store.

    Yields:
        What was found, check by check, as it is found.

    Raises:
        DataError: there is neither a run nor a store.
    """
    folder = Path(path)
    if (folder / "store.json").exists():
        yield Check(folder.name, "files and numbers of the store", tuple(open_store(folder).verify()))
    elif (folder / "settings.yaml").exists() or (folder / "status.json").exists():
        yield from verify_run(folder, recompute=recompute)
    elif folder.is_dir() and (runs := run_folders(folder)):
        for run in runs:
            yield from verify_run(run.path, recompute=recompute)
    else:
        missing = "" if folder.exists() else "no such folder, so "
        raise DataError(f"{folder}: {missing}neither a run, nor a folder of runs, nor a store; {runs_near(folder)}")


def verify_run(folder: Path, *, recompute: bool = True) -> Iterator[Check]:
    """Check one run.

    Args:
        folder: the run folder.
        recompute: whether its results are computed again.

    Yields:
        Check after check; what cannot be read is a problem of its check.
    """
    name = folder.name
    try:
        if not RunFolder(folder).finished:
            yield Check(name, "state", (f"status.json: {RunFolder(folder).status['state']}, not finished",))
            return
    except McnlabError as error:
        yield Check(name, "state", (str(error),))
        return
    yield Check(name, "state")
    run = load_run(folder)
    looks: dict[str, Callable[[Run], list[str] | str]] = {
        "files": _files,
        "settings": _settings,
        "log": _log,
        "checkpoints": _checkpoints,
        "results": _results,
        "tables": _tables,
        "notebook": _notebook,
        "data": _data,
    }
    if recompute:
        looks["numbers computed again"] = _numbers_again
    for check, look in looks.items():
        try:
            found = look(run)
        except (StorageError, PermissionError):  # what may not be looked at is not known to be broken
            raise
        except (McnlabError, OSError, ValueError, KeyError, TypeError) as error:
            found = [" ".join(str(error).split()) or type(error).__name__]
        yield Check(name, check, skipped=found) if isinstance(found, str) else Check(name, check, tuple(found))


def _files(run: Run) -> list[str] | str:
    """Sizes and checksums."""
    changed = compare_with_record(run.folder.path)
    return f"no {RECORD}; `mcnlab evaluate` writes one" if changed is None else changed


def _settings(run: Run) -> list[str]:
    """Whether the settings are valid, and those that the run was started with."""
    known = same_run(run.folder.path, run.settings, run.seed)
    return [] if known else ["settings.yaml: not the settings of provenance.json (their keys differ)"]


def _log(run: Run) -> list[str]:
    """Whether every step has its line, in order, with finite numbers unless the outcome says otherwise."""
    metrics, outcome = run.metrics(), run.folder.outcome
    steps = metrics["step"].tolist() if "step" in metrics else []
    problems = [] if steps == list(range(1, len(steps) + 1)) else ["metrics.jsonl: steps are missing or out of order"]
    if outcome.get("finite", True):
        if outcome.get("step", len(steps)) != len(steps):
            problems.append(f"metrics.jsonl: {len(steps)} steps, results.json says {outcome['step']}")
        if len(metrics) and not np.isfinite(metrics["loss"].to_numpy(dtype=float)).all():
            problems.append("metrics.jsonl: a loss that is not finite, which results.json does not say")
    return problems


def _checkpoints(run: Run) -> list[str] | str:
    """Sizes, checksums and finiteness of every checkpoint; the newest is that of the last step."""
    folder = run.folder.path
    found = list_checkpoints(folder / "checkpoints")
    if not found:
        return ["checkpoints: there is none"]
    problems = [problem for one in found if (problem := check_checkpoint(one))]
    problems += [f"{BEST}: {problem}" for one in list_checkpoints(folder / BEST) if (problem := best_problem(one))]
    last = run.folder.outcome.get("step")
    if last is not None and found[-1].name != f"step_{last:08d}":
        problems.append(f"checkpoints: the newest is {found[-1].name}, the run ended with step {last}")
    return problems


def _results(run: Run) -> list[str]:
    """Whether the rows are tidy: one per task, subject and metric, of this run, and finite."""
    table, problems = run.results(), []
    if not len(table):
        return ["results.json: no rows"]
    for _, row in table[table.duplicated(["task", "subject", "metric"])].iterrows():
        problems.append(f"results.json: {row['task']}, {row['subject']}, {row['metric']}: twice")
    if set(table["experiment"]) != {run.folder.experiment} or set(table["seed"]) != {run.seed}:
        problems.append("results.json: rows of another experiment or seed")
    infinite = table[np.isinf(table[["value", "low", "high"]].to_numpy(dtype=float)).any(axis=1)]
    return [*problems, *(f"results.json: {row['task']}, {row['metric']}: infinite" for _, row in infinite.iterrows())]


def _tables(run: Run) -> list[str]:
    """Whether embeddings, clips and ranks speak of the same clips."""
    folder = run.folder
    clips = folder.clip_ids()
    problems = [] if len(set(clips)) == len(clips) else ["clips.parquet: an id appears twice"]
    for name, values in folder.embeddings().items():
        if len(values) != len(clips):
            problems.append(f"embeddings.safetensors: {name} has {len(values)} rows for {len(clips)} clips")
        elif np.isinf(values).any():
            problems.append(f"embeddings.safetensors: {name} is infinite somewhere")
    if (folder.path / "ranks.parquet").exists() and (rows := len(folder.ranks())) != len(clips):
        problems.append(f"ranks.parquet: {rows} rows for {len(clips)} clips")
    return problems


def _notebook(run: Run) -> list[str] | str:
    """Whether the run's notebook was executed to its end."""
    if not (run.folder.path / "notebook.ipynb").exists():
        return "it was run without a notebook"
    return run_notebook_problems(run.folder.path)


def _data(run: Run) -> list[str] | str:
    """Whether the store holds what the run was trained on."""
    store = _own_store(run)
    if isinstance(store, str):
        return store
    return [] if same_data(run.folder.path, run.settings, store) else [f"{store.path}: other data than the run's"]


def _numbers_again(run: Run) -> list[str] | str:
    """Results and embeddings from the newest checkpoint, beside those on disk."""
    store, settings = _own_store(run), run.settings
    if isinstance(store, str):
        return store
    if _data(run):
        return "the store has changed"
    with tempfile.TemporaryDirectory(prefix="mcnlab-verify-") as scratch, fixed_numerics(settings.training):
        model = run.model(store)
        own, also = embed_everywhere(settings, model, store, seed=run.seed)
        rows = measure(settings, model, store, Path(scratch), seed=run.seed, held_out=own)
        rows += measure_also(settings, model, store, seed=run.seed, held_out=also)
        again = RunFolder(Path(scratch)).embeddings()
    return [*_other_numbers(run, rows), *_other_embeddings(run.folder.embeddings(), again)]


def _other_numbers(run: Run, rows: list[dict[str, Any]]) -> list[str]:
    """Rows of results that differ when they are computed again."""
    stored = run.folder.read_json("results.json")["rows"]
    known = {(row["task"], row["subject"], row["metric"]): row["value"] for row in stored}
    problems = []
    for row in rows:
        key = (row["task"], row["subject"], row["metric"])
        if key not in known:
            problems.append(f"results.json: {', '.join(key)}: missing")
        elif not _equal(known[key], row["value"]):
            problems.append(f"results.json: {', '.join(key)}: {known[key]}, computed again {row['value']}")
    return problems


def _other_embeddings(known: dict[str, np.ndarray], again: dict[str, np.ndarray]) -> list[str]:
    """Embeddings that differ when they are computed again; float16 on disk."""
    if known.keys() != again.keys():
        return [f"embeddings.safetensors: of {', '.join(known)}; computed again of {', '.join(again)}"]
    return [
        f"embeddings.safetensors: {name} differs when it is computed again"
        for name, values in known.items()
        if values.shape != again[name].shape
        or not np.allclose(values.astype(np.float32), again[name].astype(np.float32), atol=2e-3, equal_nan=True)
    ]


def _equal(known: float | None, again: float | None) -> bool:
    """Whether two numbers are the same up to the tolerance; no number equals no number."""
    if known is None or again is None or math.isnan(known) or math.isnan(again):
        return (known is None or math.isnan(known)) and (again is None or math.isnan(again))
    return math.isclose(known, again, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _own_store(run: Run) -> Store | str:
    """The run's store, or why it cannot be looked at."""
    try:
        return main_store(run.settings) if run.settings.data.stores else run.store()
    except DataError as error:
        return str(error)
