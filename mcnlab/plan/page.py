"""A plan as a page: every figure with the formula behind it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mcnlab.plan.predict import DISK, LINKS, LOADING, Plan, StagePlan, exchanged_bytes
from mcnlab.plan.study import StudyPlan
from mcnlab.plan.words import count_in_words, rounded, size_in_words, time_in_words, work_in_words

LEAST_SHARE = 0.005
"""Parts of a step that take less are not listed."""


@dataclass(frozen=True)
class Figure:
    """One line of the page."""

    name: str
    words: str
    """The value, two digits and a unit."""
    formula: str
    """How it came about."""
    value: int | float
    unit: str


def figures(plan: Plan) -> list[Figure]:
    """The lines of a plan's page, in order.

    Args:
        plan: the experiment at its size.

    Returns:
        Hours first, then what a step takes, then memory, disk and reads.
    """
    return [*_time(plan), *_steps(plan), *_memory(plan), *_disk(plan)]


def as_plain(plan: Plan) -> dict[str, Any]:
    """A plan as plain values for JSON."""
    calibration = plan.calibration
    return {
        "experiment": plan.experiment,
        "request": asdict(plan.request),
        "calibration": {name: getattr(calibration, name) for name in ("device", "machine", "date", "torch")},
        "data": {"from": plan.data.source, "hours": plan.data.hours, "clips_per_epoch": plan.data.clips},
        "hours": plan.hours,
        "device_memory_bytes": plan.device_bytes,
        "store_bytes": plan.data.store_bytes,
        "run_bytes": plan.run_bytes,
        "read_bytes_per_s": plan.read_bytes_per_s,
        "bottleneck": plan.bottleneck,
        "seconds_by_resource": plan.shares,
        "stages": [
            {"name": s.name, "steps": s.steps, "step_s": s.step_s, "hours": s.hours, "step_s_by_part": dict(s.by_part)}
            for s in plan.stages
        ],
        "figures": [asdict(figure) for figure in figures(plan)],
        "warnings": list(plan.warnings),
    }


def study_as_plain(study: StudyPlan) -> dict[str, Any]:
    """The plan of a study as plain values for JSON."""
    return {
        "study": study.name,
        "hours": study.hours,
        "run_bytes": study.run_bytes,
        "store_bytes": study.plans[0].data.store_bytes,
        "runs": [{**as_plain(plan), "own_hours": own} for plan, own in zip(study.plans, study.own_hours, strict=True)],
        "warnings": list(study.warnings),
    }


def print_plan(plan: Plan) -> None:
    """Print a plan on standard output."""
    calibration, request = plan.calibration, plan.request
    devices = f"{request.gpus} × {calibration.device}" if request.gpus > 1 else calibration.device
    _print_head(
        f"{plan.experiment}: {count_in_words(request.videos)} videos on {devices}",
        f"rates measured on {calibration.machine}, {calibration.date}, torch {calibration.torch}; "
        f"data: {plan.data.source}",
    )
    _print_figures(figures(plan))
    _print_tail(
        f"The bottleneck: {plan.bottleneck}, {100 * plan.shares[plan.bottleneck] / sum(plan.shares.values()):.0f} % "
        "of the training time.",
        plan.warnings,
    )


def print_study(study: StudyPlan) -> None:
    """Print the plan of a study on standard output."""
    first = study.plans[0]
    size = f"{len(study.plans)} runs, {count_in_words(first.request.videos)} videos each"
    _print_head(
        f"{study.name}: {size}, one after the other",
        f"rates measured on {first.calibration.machine}, {first.calibration.date}; data: {first.data.source}",
    )
    table = _table("run", "hours", "memory", "bottleneck")
    for plan, hours in zip(study.plans, study.own_hours, strict=True):
        shared = "" if hours == plan.hours else f" ({time_in_words(3600 * (plan.hours - hours))} shared)"
        words = time_in_words(3600 * hours) + shared
        table.add_row(Text(plan.experiment), words, size_in_words(plan.device_bytes), plan.bottleneck)
    Console().print(table)
    Console().print()
    _print_figures(
        [
            Figure("training in all", time_in_words(3600 * study.hours), study.formula, study.hours, "h"),
            Figure(
                "runs on disk", size_in_words(study.run_bytes), "sum of the runs' checkpoints", study.run_bytes, "B"
            ),
            _store_figure(first),
        ]
    )
    _print_tail("", study.warnings)


def _time(plan: Plan) -> Iterator[Figure]:
    """Hours of each stage and in all."""
    for stage in plan.stages:
        formula = f"{stage.steps:,} steps × {time_in_words(stage.step_s)}"
        formula += f" + {stage.checkpoints:,} checkpoints × {time_in_words(stage.checkpoint_s)}"
        yield Figure(f"stage {stage.name}", time_in_words(3600 * stage.hours), formula, stage.hours, "h")
    formula = " + ".join(f"stage {stage.name}" for stage in plan.stages)
    yield Figure("training", time_in_words(3600 * plan.hours), f"{formula}; evaluation comes on top", plan.hours, "h")


def _steps(plan: Plan) -> Iterator[Figure]:
    """What a step of the costliest stage is made of."""
    stage = max(plan.stages, key=lambda stage: stage.step_s)
    clips = f"{plan.batch:,} clips" + (f", {plan.local:,} on each device" if plan.local < plan.batch else "")
    yield Figure(f"a step of stage {stage.name}", time_in_words(stage.step_s), clips, stage.step_s, "s")
    for part, seconds in stage.by_part.items():
        if seconds >= LEAST_SHARE * stage.step_s:
            formula = _part_formula(plan, stage, part)
            yield Figure(f"  {part or 'checks'}", time_in_words(seconds), formula, seconds, "s")
    yield _loading(plan, stage)
    formula = "forward and backward, matrix products and convolutions, as torch counts them; one process"
    yield Figure("work of a step", work_in_words(stage.flops), formula, stage.flops, "FLOP")
    rate = stage.flops / stage.step_s
    yield from _factors(plan)
    yield Figure("rate reached", f"{work_in_words(rate)}/s", "work of a step / seconds of a step", rate, "FLOP/s")


def _factors(plan: Plan) -> Iterator[Figure]:
    """The formula of a step's seconds, with the factors that whole steps showed."""
    rates = plan.calibration.with_threads(plan.threads)
    factors = rates.factors
    formula = (
        f"sum over operations of {rounded(factors.calls)} × {time_in_words(rates.overhead_s)} to start one "
        f"(of the optimizer {rounded(factors.updates)} × {time_in_words(rates.update_overhead_s)}) + the longer of "
        f"{rounded(factors.arithmetic)} × FLOP / rate and {rounded(factors.memory)} × bytes / rate; "
        "rates of operations alone, factors fitted to whole steps"
    )
    yield Figure("seconds of a step", "fitted", formula, factors.arithmetic, "")


def _loading(plan: Plan, stage: StagePlan) -> Figure:
    """How long the clips of a step take beside it."""
    rates = f"{size_in_words(plan.calibration.loader_bytes_per_s)}/s from memory"
    if DISK in stage.by_part:
        rates += f", after {size_in_words(plan.calibration.random_read_bytes_per_s)}/s from random places of the disk"
    formula = f"{plan.local:,} clips, {rates}; beside the step, which waits only if this takes longer"
    return Figure("loading a batch", time_in_words(stage.loading_s), formula, stage.loading_s, "s")


def _part_formula(plan: Plan, stage: StagePlan, part: str) -> str:
    """How the seconds of one part of a step came about."""
    share = f"{100 * stage.by_part[part] / stage.step_s:.0f} %"
    if part in (LOADING, DISK):
        return f"{share}: what loading takes beyond the step that it runs beside"
    if part == LINKS:
        moved = size_in_words(exchanged_bytes(stage.cost, plan.request.gpus))
        return f"{share}: {moved} of gradients and embeddings from each process"
    ops = [op for op in stage.cost.ops if op.part == part]
    flops, traffic = sum(op.flops for op in ops), sum(op.bytes for op in ops)
    return f"{share}: {work_in_words(flops)}, {size_in_words(traffic)} moved, {len(ops)} operations at measured rates"


def _memory(plan: Plan) -> Iterator[Figure]:
    """What lies in memory at the worst moment."""
    stage = max(plan.stages, key=lambda stage: stage.cost.held_bytes + stage.cost.work_bytes)
    cost, there = stage.cost, plan.calibration.device_memory_bytes
    words = f"{size_in_words(plan.device_bytes)} of {size_in_words(there)}"
    formula = (
        f"{count_in_words(cost.weights)} weights × 4 bytes, gradients, Adam's two moments, queue, centroids: "
        f"{size_in_words(cost.held_bytes)}; activations at their peak: {size_in_words(cost.work_bytes)}; "
        f"libraries: {size_in_words(plan.calibration.idle_bytes)}"
    )
    yield Figure("memory of each device", words, formula, plan.device_bytes, "B")
    if plan.host_bytes:
        formula = f"{plan.data.clips:,} clips × {size_in_words(plan.host_bytes / plan.data.clips)}, in each process"
        yield Figure("clips in memory", size_in_words(plan.host_bytes), formula, plan.host_bytes, "B")


def _disk(plan: Plan) -> Iterator[Figure]:
    """What lies on the disk, and what is read from it."""
    yield _store_figure(plan)
    one = max(stage.cost.checkpoint_bytes for stage in plan.stages)
    formula = f"3 checkpoints × {size_in_words(one)}: two are kept while the next is written"
    if stays := sum(stage.kept for stage in plan.stages):
        formula += f"; the weights of {stays:,} stay"
    yield Figure("run on disk", size_in_words(plan.run_bytes), formula, plan.run_bytes, "B")
    clips_per_s = plan.read_bytes_per_s / plan.data.clip_bytes
    formula = f"{rounded(clips_per_s)} clips/s × {size_in_words(plan.data.clip_bytes)}"
    formula += f"; this disk reads {size_in_words(plan.calibration.read_bytes_per_s)}/s in order"
    words = f"{size_in_words(plan.read_bytes_per_s)}/s"
    if plan.host_bytes:
        words, formula = "0 B/s", "all clips are read once, before the first step"
    yield Figure("features read", words, formula, 0.0 if plan.host_bytes else plan.read_bytes_per_s, "B/s")


def _store_figure(plan: Plan) -> Figure:
    """The imported store."""
    data = plan.data
    rows = " + ".join(f"{t.rate_hz:g}/s × {t.dim}" for t in data.tracks)
    formula = f"{rounded(data.hours)} h × 3600 s/h × ({rows}) × 2 bytes"
    return Figure("store on disk", size_in_words(data.store_bytes), formula, data.store_bytes, "B")


def _table(*columns: str) -> Table:
    """An open table with a line below its head."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number == 1 else "left", no_wrap=number < 2)
    return table


def _print_head(title: str, below: str) -> None:
    """What is planned, and where the rates come from."""
    Console().print(Text(title, style="bold"))
    Console().print(Text(below, style="dim"))
    Console().print()


def _print_figures(lines: Sequence[Figure]) -> None:
    """The figures as a table."""
    table = _table("what", "how much", "how it is reckoned")
    for line in lines:
        table.add_row(line.name, line.words, line.formula)
    Console().print(table)


def _print_tail(sentence: str, warnings: Sequence[str]) -> None:
    """The bottleneck and the warnings."""
    Console().print()
    if sentence:
        Console().print(Text(sentence, style="bold"))
    for warning in warnings:
        Console().print(Text(f"warning: {warning}", style="yellow"))
