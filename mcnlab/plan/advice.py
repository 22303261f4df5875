"""What does not fit, and what would: warnings of a plan, each with a way out."""

from collections.abc import Iterator
from dataclasses import replace

from mcnlab.experiment.build import build_stages
from mcnlab.experiment.objective import most_rows
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.training_settings import TrainingSettings
from mcnlab.plan.calibration import Calibration
from mcnlab.plan.predict import FITS, Plan, plan_experiment
from mcnlab.plan.sizes import Request
from mcnlab.plan.step_cost import StepSize, step_cost
from mcnlab.plan.words import size_in_words


def warnings_of(plan: Plan, settings: ExperimentSettings) -> tuple[str, ...]:
    """Sentences about what does not fit or was not measured.

    Args:
        plan: the experiment at its size.
        settings: the same experiment.

    Returns:
        None where all is well.
    """
    return (*_memory(plan, settings), *_host(plan), *_links(plan), *_threads(plan, settings))


def _memory(plan: Plan, settings: ExperimentSettings) -> Iterator[str]:
    """The step does not fit into the device."""
    there = plan.calibration.device_memory_bytes
    if plan.device_bytes <= FITS * there:
        return
    needs = f"a step needs {size_in_words(plan.device_bytes)} of memory, the device has {size_in_words(there)}"
    if "chunk" in TrainingSettings.model_fields:
        chunk = largest_that_fits(plan, settings, shrink_batch=False)
        if chunk is not None:
            yield f"{needs}; training.chunk={chunk} would fit, and keeps the contrast over all {plan.batch} clips"
            return
    batch = largest_that_fits(plan, settings, shrink_batch=True)
    way = f"training.batch={batch} would fit" if batch else "no batch fits; take a smaller model.dim"
    yield f"{needs}; {way}"


def largest_that_fits(plan: Plan, settings: ExperimentSettings, *, shrink_batch: bool) -> int | None:
    """The largest half, quarter, … of a process's clips with which a step fits into the device.

    Args:
        plan: the experiment at its size.
        settings: the same experiment.
        shrink_batch: whether the batch itself becomes smaller; otherwise only what is embedded at once does.

    Returns:
        Clips of the whole batch, or clips at once; None where not even one fits.
    """

    def fits(local: int, batch: int) -> bool:
        smaller = settings.training.model_copy(update={"batch": batch})
        changed = settings.model_copy(update={"training": smaller})
        size = StepSize(local, batch, True) if shrink_batch else StepSize(plan.local, batch, True, chunk=local)
        size = replace(size, clips=plan.data.clips)
        costs = [step_cost(changed, plan.data.input_dims, stage, size) for stage in build_stages(settings)]
        needed = plan.calibration.idle_bytes + max(cost.held_bytes + cost.work_bytes for cost in costs)
        return needed <= FITS * plan.calibration.device_memory_bytes

    cluster = settings.terms.cluster
    local, batch = plan.local // 2, plan.batch // 2 if shrink_batch else plan.batch
    while local >= 1 and batch >= 2 and (cluster is None or most_rows(cluster, batch=batch) >= cluster.clusters):
        if fits(local, batch):
            return batch if shrink_batch else local
        local, batch = local // 2, batch // 2 if shrink_batch else batch
    return None


def _host(plan: Plan) -> Iterator[str]:
    """The clips do not fit into the machine's memory."""
    there = plan.calibration.host_memory_bytes
    if plan.host_bytes > FITS * there:
        yield (
            f"data.sampling=captions keeps all clips in memory, {size_in_words(plan.host_bytes)} in each process, and "
            f"the machine has {size_in_words(there)}; data.sampling=published or windows reads them from the store"
        )


def _links(plan: Plan) -> Iterator[str]:
    """The links were not measured with this number of processes."""
    wanted = plan.request.gpus
    link = plan.calibration.link_rate(wanted)
    if wanted > 1 and link is None:
        yield "links between processes were not measured on that machine (it has one GPU): their time is left out"
    elif wanted > 1 and link is not None and link[0] != wanted:
        yield f"links were measured with {link[0]} processes, taken to be as fast with {wanted}"
    if plan.calibration.kind == "cpu" and wanted > 1:
        yield f"{wanted} processes on CPUs: each is taken to have as many cores for itself as were measured"


def _threads(plan: Plan, settings: ExperimentSettings) -> Iterator[str]:
    """The rates were not measured with this number of threads."""
    wanted = settings.training.threads or plan.calibration.cores
    measured = plan.calibration.with_threads(settings.training.threads).threads
    if plan.calibration.kind == "cpu" and wanted != measured:
        yield f"training.threads={wanted}, but the nearest that was measured is {measured}; see --threads"


def planned(settings: ExperimentSettings, request: Request, calibration: Calibration) -> Plan:
    """What an experiment will cost at a size, with what is to be said against it.

    Args:
        settings: the experiment.
        request: how many recordings and processes.
        calibration: measured rates of the machine that it will run on.

    Returns:
        The plan and its warnings.

    Raises:
        ConfigError: the experiment and the processes do not fit each other.
        DataError: the store is broken.
    """
    plan = plan_experiment(settings, request, calibration)
    return replace(plan, warnings=warnings_of(plan, settings))
