"""The plan of a study: the sum over its runs, with stages that several runs begin with counted once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcnlab.experiment.build import prefix_keys
from mcnlab.plan.advice import planned
from mcnlab.plan.calibration import Calibration
from mcnlab.plan.predict import Plan
from mcnlab.plan.sizes import Request
from mcnlab.study_plan import PlannedRun, StudyFolders, plan_runs, read_study


@dataclass(frozen=True)
class StudyPlan:
    """All runs of a study at a size."""

    name: str
    plans: tuple[Plan, ...]
    own_hours: tuple[float, ...]
    """By run: hours of the stages that no run before it has trained."""

    @property
    def hours(self) -> float:
        """Of all training, one run after the other."""
        return sum(self.own_hours)

    @property
    def run_bytes(self) -> int:
        """Of all runs on disk."""
        return sum(plan.run_bytes for plan in self.plans)

    @property
    def formula(self) -> str:
        """How the hours came about."""
        saved = sum(plan.hours for plan in self.plans) - self.hours
        shared = f", less {saved:.2g} h for stages that several runs begin with" if saved else ""
        return f"sum over {len(self.plans)} runs{shared}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of all runs, each once, with the first run that it concerns."""
        first: dict[str, str] = {}
        for plan in self.plans:
            for warning in plan.warnings:
                first.setdefault(warning, plan.experiment)
        return tuple(f"{experiment}: {warning}" for warning, experiment in first.items())


def plan_study(path: Path, request: Request, calibration: Calibration, *, overrides: Sequence[str] = ()) -> StudyPlan:
    """What a study will cost at a size.

    Args:
        path: its YAML file.
        request: how many recordings and processes each run has.
        calibration: measured rates.
        overrides: flags laid over every experiment.

    Returns:
        A plan for every run, and the hours that each adds.

    Raises:
        ConfigError: a setting is wrong.
        DataError: the store is broken.
    """
    study = read_study(path, overrides=list(overrides))
    runs = plan_runs(study, StudyFolders(Path(), study.study), path)
    by_experiment: dict[str, Plan] = {}
    plans: list[Plan] = []
    hours: list[float] = []
    trained: set[str] = set()
    for run in runs:
        name = run.settings.experiment
        if name not in by_experiment:
            by_experiment[name] = planned(run.settings, request, calibration)
        plans.append(by_experiment[name])
        hours.append(_own_hours(run, plans[-1], trained, shares=request.gpus == 1))
    return StudyPlan(study.study, tuple(plans), tuple(hours))


def _own_hours(run: PlannedRun, plan: Plan, trained: set[str], *, shares: bool) -> float:
    """Hours of the stages of a run that were not trained before; the last one is always its own."""
    keys = prefix_keys(run.settings, fingerprint="planned", seed=run.seed)[:-1]
    own = sum(
        stage.hours
        for number, stage in enumerate(plan.stages)
        if not (shares and number < len(keys) and keys[number] in trained)
    )
    trained.update(keys)
    return own
