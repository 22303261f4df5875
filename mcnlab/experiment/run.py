"""One run: from settings and a seed to a finished run folder."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import nn

from mcnlab.data.kinds import build_kinds, kinds_fingerprint
from mcnlab.data.scenes import build_scenes, scenes_fingerprint
from mcnlab.data.store import Store, open_store
from mcnlab.data.store_checks import how_to_get_one
from mcnlab.data.world import WorldSettings, build_world, world_fingerprint
from mcnlab.distributed import rank, wait_for_all, world_size
from mcnlab.errors import ConfigError, DataError, NonFiniteError
from mcnlab.experiment.build import (
    build_loop,
    build_model,
    build_stages,
    build_training_source,
    choose_device,
    prefix_keys,
    start_weights,
)
from mcnlab.experiment.checks import check_data, check_held_out, check_modalities, check_settings
from mcnlab.experiment.distillation import take_classifiers, taught
from mcnlab.experiment.elsewhere import check_elsewhere, embed_everywhere, measure_also, measure_elsewhere, name_of
from mcnlab.experiment.fixed import fixed_numerics
from mcnlab.experiment.folder import (
    failure_on_record,
    forget_holder,
    held,
    refuse_other_run,
    run_key,
    same_data,
    same_run,
    write_results,
    write_start,
)
from mcnlab.experiment.language import guidance_vectors
from mcnlab.experiment.loaded import Run, load_run
from mcnlab.experiment.measure import measure
from mcnlab.experiment.mixed import data_fingerprint, main_store
from mcnlab.experiment.objective import build_terms, training_facts
from mcnlab.experiment.recipes import finished_like, made_for_others
from mcnlab.experiment.record import drop_record, write_record
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.settings_files import read_experiment, with_checksum_of_weights
from mcnlab.experiment.stopping import stop_on_signal
from mcnlab.files import make_folder, remove_partial_files, write_json_atomically
from mcnlab.runs import RunFolder
from mcnlab.training.checkpoint import list_checkpoints, load_model_weights
from mcnlab.training.kept import FOLDER as KEPT_FOLDER
from mcnlab.training.loop import Trainer
from mcnlab.training.stages import PrefixCache
from mcnlab.training.step import StepRecord


def run_experiment(
    settings: str | Path | ExperimentSettings,
    run_dir: str | Path,
    *,
    seed: int = 0,
    overrides: Sequence[str] = (),
    on_step: Callable[[StepRecord], None] = lambda record: None,
    on_start: Callable[[int], None] = lambda total_steps: None,
    stores: str | Path | None = None,
    prefix_cache: str | Path | None = None,
) -> RunFolder:
    """Train and evaluate one experiment, or go on with it, or do nothing when it is finished.

    Args:
        settings: YAML file of the experiment, or parsed settings.
        run_dir: the run folder; made when absent.
        seed: of every random draw.
        overrides: flags such as `training.epochs=3`, laid over the file.
        on_step: called after every training step.
        on_start: called once with the number of steps.
        stores: folder where rendered worlds are kept; `stores` beside the run folder when None.
        prefix_cache: folder where stages that several experiments share are kept; None, or several processes, share
            nothing.

    Returns:
        The finished run.

    Raises:
        ConfigError: a setting is wrong, or the folder holds a run with other settings.
        DataError: the store lacks what the experiment needs.
        BusyError: another process is at work in the folder.
        NonFiniteError: a term became NaN or infinite, and the settings say stop.
        RankError: one of several processes was lost.

    One of several processes calls this like all others. Rank 0 does all that is written and measured; the others
    return once the held-out clips are embedded, each by its share.
    """
    began = time.monotonic()
    if not isinstance(settings, ExperimentSettings):
        settings = read_experiment(Path(settings), overrides=list(overrides))
    settings = with_checksum_of_weights(settings)
    folder, shared = Path(run_dir).absolute(), Path(prefix_cache) if prefix_cache else None
    if _done(folder, settings, seed):
        forget_holder(folder)
        return RunFolder(folder)
    check_settings(settings)
    refuse_other_run(folder, settings, seed)
    store = prepared_store(settings, Path(stores) if stores else folder.parent / "stores")
    notes = check_data(settings, store)
    check_elsewhere(settings, store)
    others = _learned_from(settings, folder, seed=seed, stores=stores)
    with fixed_numerics(settings.training):
        trainer = _trainer(settings, store, folder, seed, shared, others)
        if rank() > 0:
            wait_for_all()  # until rank 0 holds the folder
            _train(trainer, settings, folder)
            embed_everywhere(settings, trainer.model, store, seed=seed)
            return RunFolder(folder)
        trainer.on_step = on_step
        make_folder(folder)
        with held(folder):
            if _done(folder, settings, seed):
                return RunFolder(folder)
            refuse_other_run(folder, settings, seed, store=store)
            remove_partial_files(folder)
            remove_partial_files(folder / "checkpoints", locks=True)
            remove_partial_files(folder / KEPT_FOLDER, locks=True)
            write_start(folder, settings, store, seed, device=trainer.device.type, steps=trainer.total_steps)
            with failure_on_record(folder):
                wait_for_all()
                on_start(trainer.total_steps)
                outcome = {"notes": notes, **_train(trainer, settings, folder)}
                evaluate_began = time.monotonic()
                own, also = embed_everywhere(settings, trainer.model, store, seed=seed)
                rows = measure(settings, trainer.model, store, folder, seed=seed, held_out=own)
                rows += measure_also(settings, trainer.model, store, seed=seed, held_out=also)
                outcome["evaluate_s"] = time.monotonic() - evaluate_began
                outcome["overhead_s"] = time.monotonic() - began - outcome["trained_now_s"] - outcome["evaluate_s"]
                write_results(folder, settings.experiment, seed, [*rows, *_outcome_rows(outcome)], outcome)
                write_record(folder)
                write_json_atomically(folder / "status.json", {"state": "finished"})
    return RunFolder(folder)


def evaluate_run(
    run_dir: str | Path, *, store: str | Path | None = None, tasks: Sequence[str] | None = None
) -> RunFolder:
    """Measure a trained run again.

    Args:
        run_dir: the run folder.
        store: another store than the run's own; its rows say `TASK@STORE`, and the run's own stay.
        tasks: some of those that `evaluation.tasks` may name; those that it does name when None.

    Returns:
        The run, with new rows in place of the old rows of those tasks.

    Raises:
        DataError: there is no run, or the store lacks a modality.
        CheckpointError: the run has no usable checkpoint.
    """
    run = load_run(run_dir)
    settings = run.settings
    if tasks is not None:
        changed = {"evaluation": {**settings.evaluation.model_dump(), "tasks": tuple(tasks)}}
        settings = ExperimentSettings.parse({**settings.model_dump(), **changed}, source="--tasks")
    own, folder, ending = run.store(), run.folder.path, ""
    with held(folder), fixed_numerics(settings.training):
        drop_record(folder)
        if store is None:
            check_modalities(settings, own)
            check_held_out(settings, own)
            rows = measure(settings, run.model(own), own, folder, seed=run.seed)
        else:
            other = open_store(Path(store))
            ending, wanted = f"@{name_of(other)}", settings.evaluation.tasks
            model = run.model(own)
            rows = measure_elsewhere(settings, model, own, other, name=ending[1:], tasks=wanted, seed=run.seed)
        measured = {f"{task}{ending}" for task in settings.evaluation.tasks}
        old = run.folder.read_json("results.json")
        kept = [row for row in old.get("rows", []) if row["task"] not in measured]
        write_results(folder, settings.experiment, run.seed, [*rows, *kept], old.get("outcome", {}))
        write_record(folder)
    return RunFolder(folder)


def prepared_store(
    settings: ExperimentSettings,
    stores: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> Store:
    """The experiment's store; a world that is not there yet is rendered, by one process while others wait.

    Args:
        settings: the experiment.
        stores: folder of rendered worlds.
        progress: told recordings done and all, while a world is rendered.
        workers: processes that render it.

    Returns:
        The store, opened; of several the main one, see `mcnlab.experiment.mixed.main_name`.

    Raises:
        DataError: it is missing or broken.
    """
    if settings.data.store is not None:
        if not settings.data.store.exists():
            said = how_to_get_one(settings.data.store)
            another = f"{'' if said.endswith('?') else ';'} --set data.store=DIR names another"
            raise DataError(f"data.store: {settings.data.store}: no such store{said}{another}")
        return open_store(settings.data.store)
    if settings.data.stores is not None:
        return main_store(settings)
    world, scenes, kinds = settings.data.world or WorldSettings(), settings.data.scenes, settings.data.kinds
    name = f"world-{world_fingerprint(world)}" if scenes is None else f"scenes-{scenes_fingerprint(scenes)}"
    path = stores / (name if kinds is None else f"kinds-{kinds_fingerprint(kinds)}")
    if not path.exists():
        make_folder(stores)
        with FileLock(stores / f".{path.name}.waiting"):
            if path.exists():
                pass
            elif scenes is not None:
                build_scenes(scenes, path, progress=progress)
            elif kinds is not None:
                build_kinds(kinds, path, progress=progress)
            else:
                build_world(world, path, progress=progress, workers=workers)
    return open_store(path)


def _done(folder: Path, settings: ExperimentSettings, seed: int) -> bool:
    """Whether a folder holds this very run, finished, and its store, where it is still there, has not changed."""
    if not (RunFolder(folder).finished and same_run(folder, settings, seed)):
        return False
    known = settings.data.paths
    if not known or not all(path.exists() for path in known):
        return True
    return same_data(folder, settings, main_store(settings) if settings.data.stores else open_store(known[0]))


def _learned_from(
    settings: ExperimentSettings, folder: Path, *, seed: int, stores: str | Path | None
) -> dict[str, Run]:
    """The runs that this one learns from, by term and setting; those that are not there yet are trained here.

    Raises:
        ConfigError: one would have to be trained by several processes.
        DataError: a folder that the settings name holds no finished run.
    """
    found = {}
    for name, recipe in settings.recipes.items():
        key = run_key(recipe, seed)
        known = finished_like(folder, key)
        if known is None:
            if world_size() > 1:
                raise ConfigError(f"terms.{name}: with several processes, train that run first and name its folder")
            place = made_for_others(folder, key)
            make_folder(place.parent)
            with FileLock(place.parent / f"{key}.lock"):
                shelf = Path(stores) if stores else folder.parent / "stores"
                known = run_experiment(recipe, place, seed=seed, stores=shelf)
        found[name] = load_run(known.path)
    for name, path in settings.named_runs.items():
        found[name] = load_run(path)
        if not found[name].folder.finished:
            raise DataError(f"terms.{name}: {path}: its run is not finished")
    return found


def _trainer(
    settings: ExperimentSettings,
    store: Store,
    folder: Path,
    seed: int,
    prefix_cache: Path | None,
    others: Mapping[str, Run],
) -> Trainer:
    """All parts put together."""
    source = build_training_source(settings, store, seed=seed)
    device = choose_device(settings.training.device)
    model = build_model(settings, store, seed=seed)
    start_weights(settings, model)
    model.to(device)
    language = guidance_vectors(settings, store, others.get("guide.namer"), seed=seed)
    teacher = others["distill.teacher"].model(store) if "distill.teacher" in others else None
    told = {} if teacher is None else taught(settings, model, teacher, source)
    if teacher is not None:
        take_classifiers(model, teacher)
    facts = dataclasses.replace(training_facts(settings, source, seed=seed), language=language, taught=told)
    terms = build_terms(settings, model.graph, seed=seed, facts=facts)
    for term in terms.values():
        if isinstance(term, nn.Module):
            term.to(device)
    shared = prefix_cache if world_size() == 1 else None  # several processes give other last digits
    return Trainer(
        model=model,
        terms=terms,
        source=source,
        stages=build_stages(settings),
        settings=build_loop(settings, seed=seed),
        folder=folder,
        prefixes=PrefixCache(shared, prefix_keys(settings, fingerprint=data_fingerprint(settings, store), seed=seed)),
    )


def _train(trainer: Trainer, settings: ExperimentSettings, folder: Path) -> dict[str, Any]:
    """Train, and say how it ended; a non-finite term may be an outcome instead of an error."""
    before = time.monotonic()
    outcome: dict[str, Any] = {"finite": True}
    with stop_on_signal(trainer):
        try:
            position = trainer.train()
            outcome |= dataclasses.asdict(position)
        except NonFiniteError as error:
            if settings.training.on_non_finite == "stop":
                raise
            outcome |= {"finite": False, "reason": str(error), "train_s": time.monotonic() - before}
            found = list_checkpoints(folder / "checkpoints")
            if found and rank() == 0:
                load_model_weights(found[-1], trainer.model)
    outcome["trained_now_s"] = time.monotonic() - before
    return outcome


def _outcome_rows(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """How the training ended, as rows of results."""
    numbers = {"finite": float(outcome["finite"])}
    numbers |= {name: outcome[name] for name in ("train_s", "evaluate_s", "overhead_s")}
    return [{"task": "outcome", "subject": "run", "metric": name, "value": value} for name, value in numbers.items()]
