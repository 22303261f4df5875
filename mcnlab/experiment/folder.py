"""The run folder while it is written: who holds it, whose run it holds, how the run began and ended."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mcnlab.config import plain_yaml
from mcnlab.data.store import Store
from mcnlab.distributed import world_size
from mcnlab.errors import (
    BusyError,
    ConfigError,
    McnlabError,
    StoppedError,
    StorageError,
)
from mcnlab.experiment.build import short_hash
from mcnlab.experiment.elsewhere import evaluated_stores
from mcnlab.experiment.fixed import numerics_facts
from mcnlab.experiment.labels import training_classes
from mcnlab.experiment.mixed import data_fingerprint, mixture_facts
from mcnlab.experiment.provenance import provenance
from mcnlab.experiment.recipes import with_recipes
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.files import process_name, write_json_atomically, write_text_atomically
from mcnlab.processes import Terminated
from mcnlab.runs import STOP_FILE, RunFolder

DYING_S = 3.0
"""Seconds that a process which was killed together with its owner may take to let go of a run folder."""


def write_start(
    folder: Path, settings: ExperimentSettings, store: Store, seed: int, *, device: str, steps: int
) -> None:
    """Settings, provenance and status of a run that is about to train; an earlier request to stop is void."""
    (folder / STOP_FILE).unlink(missing_ok=True)
    write_text_atomically(folder / "settings.yaml", plain_yaml(settings.model_dump(mode="json")))
    mixed = mixture_facts(settings)
    origin = provenance(
        seed=seed,
        store=" + ".join(one["store"] for one in mixed.values()) or store.name,
        fingerprint=data_fingerprint(settings, store),
        visual_features=visual_features(store),
        device=device,
    )
    origin["data"] |= {"path": str(store.path), **({"stores": mixed} if mixed else {})}
    origin["evaluated"] = evaluated_stores(settings, store)
    if settings.data.label is not None:
        origin["classes"] = list(training_classes(settings, store))
    origin |= numerics_facts(settings.training)
    if world_size() > 1:
        origin["processes"] = world_size()
    if settings.model.weights is not None:
        origin["weights"] = {"path": str(settings.model.weights), "sha256": settings.model.weights_sha256}
    write_json_atomically(folder / "provenance.json", {"key": run_key(settings, seed), **origin, "steps": steps})
    write_json_atomically(folder / "status.json", {"state": "running"})


def write_results(
    folder: Path, experiment: str, seed: int, rows: Sequence[dict[str, Any]], outcome: dict[str, Any]
) -> None:
    """Put `results.json` in place: the tidy rows, and how the training ended."""
    named = [{**row, "experiment": experiment, "seed": seed} for row in rows]
    order = ("experiment", "seed", "task", "subject", "metric", "value", "low", "high")
    tidy = [{column: row.get(column) for column in order} for row in named]
    write_json_atomically(folder / "results.json", {"rows": tidy, "outcome": outcome})


def visual_features(store: Store) -> str:
    """What made a store's video features, in words: a report must not let untrained ones pass for learned ones."""
    known = store.info.get("visual", {}).values()
    return ", ".join(f"{one['backbone']} ({'trained' if one['trained'] else 'untrained'})" for one in known) or "none"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process.

    Raises:
        BusyError: another process holds it; it is named.
    """
    lock, owner = FileLock(folder / ".lock"), folder / ".owner"
    try:
        lock.acquire(timeout=DYING_S)
    except Timeout as error:
        holder = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
        raise BusyError(f"{folder}: held by {holder}; call again when that has ended") from error
    try:
        write_text_atomically(owner, process_name())
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def forget_holder(folder: Path) -> None:
    """Remove the name of a process that was killed between finishing a run and letting go of its folder.

    Args:
        folder: of a finished run; where it is held, or cannot be written, nothing happens.
    """
    if (folder / ".owner").exists():
        with suppress(BusyError, StorageError), held(folder):
            pass  # which takes the name away at its end


ADDED_LATER: dict[tuple[str, ...], object] = {
    ("model", "weights_sha256"): None,
    ("model", "coarse_dim"): None,
    ("model", "heads"): {},
    ("model", "video_frames"): 16,
    ("model", "video_width"): 64,
    ("model", "video_backbone"): "conv3d",
    ("model", "video_padding"): "replicate",
    ("model", "segments"): None,
    ("model", "place_window"): 1,
    ("model", "video_segments"): 1,
    ("training", "chunk"): None,
    ("training", "chunk_statistics"): "batch",
    ("training", "compile"): False,
    ("training", "deterministic"): False,
    ("data", "stores"): None,
    ("data", "shuffle"): [],
    ("data", "missing"): {},
    ("data", "changes"): None,
    ("data", "candidates"): 1,
    ("data", "kinds"): None,
    ("data", "scenes"): None,
    ("data", "looks"): 0,
    ("data", "least_area"): 0.4,
    ("data", "shade"): 0.4,
    ("terms", "localize"): None,
    ("model", "place_padding"): "zeros",
    ("data", "label"): None,
    ("data", "classes_per_batch"): None,
    ("data", "world", "views"): 0,
    ("data", "world", "noise_views"): 1.0,
    ("data", "world", "video"): "features",
    ("terms", "predict"): None,
    ("terms", "detect"): None,
    ("terms", "explain"): None,
    ("terms", "classify"): None,
    ("terms", "metric"): None,
    ("terms", "guide"): None,
    ("evaluation", "network"): None,
    ("terms", "distill"): None,
    ("terms", "contrast", "learn_temperature"): False,
    ("terms", "contrast", "bank"): None,
    ("terms", "contrast", "pair_weights"): {},
    ("terms", "contrast", "scorer"): "vector",
}
"""Settings that did not always exist, and what they mean where they are not given: finished runs stay the same runs."""


def run_key(settings: ExperimentSettings, seed: int) -> str:
    """A hash of everything in the settings that a run's numbers depend on: of released weights, their content."""
    plain = settings.model_dump(mode="json")
    plain["model"].pop("weights")
    plain["terms"] = with_recipes(plain["terms"], lambda recipe: _key_of(recipe, seed))
    for (*path, setting), usual in ADDED_LATER.items():
        group: dict[str, Any] = plain
        for name in path:
            group = group.get(name) or {}
        if setting in group and group[setting] == usual:
            group.pop(setting)
    for setting in ("threads", "checkpoint_every", "keep_every", "keep_best", "prefetch"):
        plain["training"].pop(setting)
    return short_hash({"settings": plain, "seed": seed})


def _key_of(recipe: Mapping[str, Any] | str, seed: int) -> str:
    """The key of a run that another one learns from."""
    if isinstance(recipe, str):
        return str(RunFolder(Path(recipe)).provenance.get("key") or recipe)
    return run_key(ExperimentSettings.model_validate(recipe), seed)


def same_run(folder: Path, settings: ExperimentSettings, seed: int) -> bool:
    """Whether a folder's run has these very settings and this seed."""
    known = RunFolder(folder)
    return run_key(settings, seed) == known.provenance.get("key")


def same_data(folder: Path, settings: ExperimentSettings, store: Store) -> bool:
    """Whether a folder's run was trained on what its store, or all of its stores, hold now."""
    known = RunFolder(folder).provenance.get("data", {}).get("fingerprint")
    return bool(known == data_fingerprint(settings, store))


def refuse_other_run(folder: Path, settings: ExperimentSettings, seed: int, *, store: Store | None = None) -> None:
    """Raise when a folder holds a run with other settings, or one that was trained on other data.

    Raises:
        ConfigError: it does; nothing is touched.
    """
    known = RunFolder(folder)
    if not known.provenance:
        return
    what = "with other settings" if not same_run(folder, settings, seed) else "on other data"
    if what == "on other data" and (store is None or same_data(folder, settings, store)):
        return
    raise ConfigError(
        f"{folder}: holds a run of {known.experiment!r}, seed {known.seed}, {what}; "
        "choose another folder or remove this one"
    )


@contextmanager
def failure_on_record(folder: Path) -> Iterator[None]:
    """Write into the status how a run failed, and let the error go on."""
    try:
        yield
    except (StoppedError, KeyboardInterrupt, Terminated) as error:
        write_json_atomically(folder / "status.json", {"state": "interrupted", "reason": str(error) or "interrupted"})
        raise
    except McnlabError as error:
        write_json_atomically(folder / "status.json", {"state": "failed", "reason": str(error)})
        raise
    except Exception as error:  # only to add what a reader of the folder needs to know
        reason = f"{type(error).__name__}: {error}"
        write_json_atomically(folder / "status.json", {"state": "failed", "reason": reason})
        raise
