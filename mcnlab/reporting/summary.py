"""From run folders to a frozen summary of a study: the only place where a report reads numbers from disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcnlab.errors import DataError
from mcnlab.metrics.statistics import Interval, mean_interval
from mcnlab.modalities import MODALITIES, in_order
from mcnlab.reporting.recipe import ALL_PAIRS, Recipe, recipe_of
from mcnlab.runs import RESULT_COLUMNS, RunFolder, no_runs, run_folders

WORLD_GROUPS = ("vat", "va", "vt", "at", "v", "a", "t")
"""Factor groups whose letters say who carries them; the order of tables."""
STILL_SUBJECTS = ("clips", "static", "deflated", "naive")
"""What pictures are classified with: the video network on clips and on static clips, and both its deflations."""
KEY_DIRECTIONS = ("text->video", "text->audio", "video->audio", "text->video+audio")
"""Directions that every table shows, where a study has them."""


@dataclass(frozen=True)
class Column:
    """One quantity of a table: a metric of one subject, or its mean over several."""

    title: str
    task: str
    subjects: tuple[str, ...]
    metric: str
    trained_only: bool = False
    """Leave out, in each experiment, subjects of modalities that it did not train."""


@dataclass(frozen=True)
class RunRow:
    """What a report says of one run."""

    experiment: str
    seed: int
    state: str
    reason: str
    folder: Path
    steps: int
    finite: bool | None
    train_s: float | None
    """Training, also what an earlier call or another run with the same first stages did."""
    trained_now_s: float | None
    """Training in the last call alone."""
    evaluate_s: float | None


@dataclass(frozen=True)
class StudySummary:
    """All that a report is made of."""

    title: str
    question: str
    experiments: tuple[str, ...]
    recipes: Mapping[str, Recipe]
    runs: tuple[RunRow, ...]
    results: pd.DataFrame
    """The eight columns of the contract, all finished runs, in the order of `experiments` and seeds."""
    ranks: Mapping[tuple[str, int], pd.DataFrame]
    """(experiment, seed) → ranks of the true match, a row per clip id, a column per direction."""
    reference: str | None
    """The experiment that others are compared with: all pairs, one space, contrast alone; None without experiments."""
    record: Mapping[str, Any]
    """What the study left about itself: workers, seconds."""
    provenance: Mapping[str, Any]
    """Of the first finished run."""

    def run_values(self, column: Column) -> dict[str, dict[int, float]]:
        """The value of a column in every run.

        Args:
            column: what is asked.

        Returns:
            experiment → seed → value: the mean over the column's subjects that the run has; absent if it has none.
        """
        rows = self.results
        chosen = rows[(rows.task == column.task) & (rows.metric == column.metric) & rows.subject.isin(column.subjects)]
        if column.trained_only:
            trained = [self.trains(*pair) for pair in zip(chosen.experiment, chosen.subject, strict=True)]
            chosen = chosen[np.array(trained, dtype=bool)]
        means = chosen.dropna(subset="value").groupby(["experiment", "seed"], sort=False)["value"].mean()
        found: dict[str, dict[int, float]] = {}
        for (experiment, seed), value in means.items():
            found.setdefault(str(experiment), {})[int(seed)] = float(value)
        return found

    def intervals(self, column: Column) -> dict[str, Interval]:
        """Mean over seeds with its 95 % interval, per experiment that has the column.

        Args:
            column: what is asked.

        Returns:
            experiment → interval: Student's t over seeds; with one seed the run's own interval over clips, if any.
        """
        found = {}
        for experiment, by_seed in self.run_values(column).items():
            interval = mean_interval(list(by_seed.values()))
            found[experiment] = interval if interval.n > 1 else self._own_interval(experiment, column, interval)
        return found

    def means(self, column: Column) -> dict[str, float]:
        """The means of `intervals` alone."""
        return {name: interval.value for name, interval in self.intervals(column).items()}

    def family(self, experiment: str) -> str:
        """Kind of an experiment, of `recipe.FAMILIES`; empty when its settings cannot be read."""
        return self.recipes[experiment].family if experiment in self.recipes else ""

    def trains(self, experiment: str, subject: str) -> bool:
        """Whether an experiment trained the towers of a subject's modalities, of a direction those of both sides.

        `joint` counts as trained, and so does anything of an experiment whose settings cannot be read.
        """
        named = {part.split("@")[0] for part in subject.split(":")[0].replace("->", "+").split("+")}
        recipe = self.recipes.get(experiment)
        return recipe is None or set(recipe.modalities) >= named & set(self.modalities)

    def trained_by_some(self, subject: str) -> bool:
        """Whether any experiment trained the subject, so that it is worth a column or a panel."""
        return any(self.trains(name, subject) for name in self.experiments)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Video, audio, text, and any further views that some experiment trains."""
        return in_order([*MODALITIES, *(m for recipe in self.recipes.values() for m in recipe.modalities)])

    def chance(self, column: Column) -> float | None:
        """What a column has by chance; None where that is not known."""
        if column.task == "retention" and column.metric == "score":
            return 0.0  # the score is defined so
        named = {"purity": "chance_purity"}.get(column.metric, column.metric.replace("recall_at", "chance_at"))
        return None if named == column.metric else self.level(column.task, column.subjects[0], named)

    def level(self, task: str, subject: str, metric: str) -> float | None:
        """A number that all experiments share, such as chance or the ceiling: the mean over all runs that have it."""
        rows = self.results
        chosen = rows[(rows.task == task) & (rows.subject == subject) & (rows.metric == metric)]["value"].dropna()
        return float(chosen.mean()) if len(chosen) else None

    def subjects(self, task: str) -> tuple[str, ...]:
        """Subjects of a task, in the order in which the runs have them."""
        return tuple(dict.fromkeys(self.results[self.results.task == task]["subject"]))

    def finished(self, *, seed: int | None = None) -> list[RunRow]:
        """Finished runs, of one seed or of all."""
        return [run for run in self.runs if run.state == "finished" and (seed is None or run.seed == seed)]

    def _own_interval(self, experiment: str, column: Column, mean: Interval) -> Interval:
        """The interval that the only run gives itself."""
        if len(column.subjects) != 1:
            return mean
        rows = self.results
        same = (rows.experiment == experiment) & (rows.task == column.task) & (rows.metric == column.metric)
        row = rows[same & (rows.subject == column.subjects[0])].iloc[0]
        return mean._replace(low=finite_or_none(row.low), high=finite_or_none(row.high))


def summarize(
    study_dir: str | Path, *, title: str = "", question: str = "", order: Sequence[str] | None = None
) -> StudySummary:
    """Read all runs of a study.

    Args:
        study_dir: folder of run folders, with or without a `study.json`.
        title: headline; the folder's name when empty.
        question: what the study asks.
        order: experiments in the order to show; by recipe when None and `study.json` has none.

    Returns:
        The summary. A run that cannot be read counts as failed, with the reason.

    Raises:
        DataError: the folder does not exist or holds no run.
    """
    folder = Path(study_dir)
    runs = run_folders(folder)
    if not runs:
        raise no_runs(folder)
    record = RunFolder(folder).read_json("study.json")
    started = sorted((run for run in runs if _readable(run)), key=lambda run: bool(run.settings))
    recipes = {run.experiment: recipe_of(run.settings) for run in started}  # of a run with settings, if there is one
    wanted = list(order if order is not None else record.get("order") or [])
    names = sorted({_name(run) for run in runs}, key=lambda name: _place(name, wanted, recipes))
    rows = sorted((_run_row(run) for run in runs), key=lambda row: (names.index(row.experiment), row.seed))
    finished = [RunFolder(row.folder) for row in rows if row.state == "finished"]
    return StudySummary(
        title=title or folder.name,
        question=question,
        experiments=tuple(names),
        recipes=recipes,
        runs=tuple(rows),
        results=_all_results(finished),
        ranks={(run.experiment, run.seed): _ranks_by_id(run) for run in finished if _has_ranks(run)},
        reference=_reference(names, recipes),
        record=record,
        provenance=finished[0].provenance if finished else {},
    )


def key_columns(summary: StudySummary) -> list[Column]:
    """Retrieval and cluster columns of the comparison table, as far as the study has them."""
    has = set(summary.subjects("retrieval"))
    found = [
        Column(short_direction(subject) + " R@1", "retrieval", (subject,), "recall_at_1", trained_only=True)
        for subject in KEY_DIRECTIONS
        if subject in has and summary.trained_by_some(subject)
    ]
    clustered = set(summary.subjects("clusters"))
    found += [
        Column(f"purity {subject}", "clusters", (subject,), "purity")
        for subject in (*summary.modalities, "joint")
        if subject in clustered
    ]
    return found


def retention_columns(summary: StudySummary) -> list[Column]:
    """One column per factor group: the mean score over the trained modalities that carry it."""
    return [
        Column(
            group,
            "retention",
            tuple(f"{name}:{group}" for name in carriers(group, summary.modalities)),
            "score",
            trained_only=True,
        )
        for group in factor_groups(summary.subjects("retention"))
        if any(summary.trained_by_some(name) for name in carriers(group, summary.modalities))
    ]


def still_columns(summary: StudySummary) -> list[Column]:
    """Accuracy on single pictures, for every kind of features and column of classes that was measured."""
    kinds = [one for one in summary.subjects("stills") if one.split(":")[0] in STILL_SUBJECTS]
    return [Column(f"{one} accuracy", "stills", (one,), "accuracy") for one in kinds]


def still_error_columns(summary: StudySummary) -> list[Column]:
    """How far both deflations are from the video network; smaller is better."""
    has = set(summary.subjects("stills"))
    return [Column(f"{one} L1", "stills", (one,), "relative_l1") for one in STILL_SUBJECTS[2:] if one in has]


def factor_groups(subjects: Sequence[str]) -> list[str]:
    """Factor groups that retention subjects name, the world's first.

    Example:
        >>> factor_groups(["video:va", "video:va.rate", "text:vat", "video@va:va"])
        ['vat', 'va']
    """
    groups = {subject.split(":", 1)[1] for subject in subjects if ":" in subject}
    whole = sorted(group for group in groups if group in WORLD_GROUPS or "." not in group)
    return sorted(whole, key=lambda group: (WORLD_GROUPS.index(group) if group in WORLD_GROUPS else 99, group))


def carriers(group: str, modalities: Sequence[str] = MODALITIES) -> tuple[str, ...]:
    """Modalities that can hold a factor group: by its letters in the world, where further views hold parts; else all.

    Example:
        >>> carriers("va"), carriers("command")
        (('video', 'audio'), ('video', 'audio', 'text'))
    """
    if group not in WORLD_GROUPS:
        return tuple(modalities)
    return tuple(modality for modality in MODALITIES if modality[0] in group)


def short_direction(subject: str) -> str:
    """A direction by initials.

    Example:
        >>> short_direction("text->video+audio")
        'T→V+A'
    """
    sides = ["+".join(short_modality(part) for part in side.split("+")) for side in subject.split("->")]
    return "→".join(sides)


def short_modality(modality: str) -> str:
    """The initial of one of the three, the name of any other."""
    return modality[0].upper() if modality in MODALITIES else modality


def _run_row(run: RunFolder) -> RunRow:
    """What is known of a run; a folder that cannot be read is a failed run."""
    try:
        results, metrics, status = run.results(), run.metrics(), run.status
    except DataError as error:
        return RunRow(_name(run), run.seed if _readable(run) else 0, "failed", str(error), run.path, 0, *[None] * 4)
    outcome = results[results.task == "outcome"].set_index("metric")["value"].to_dict()
    finite = outcome.get("finite")
    reason = status.get("reason") or run.outcome.get("reason") or ""
    flag = None if finite is None else bool(finite)
    return RunRow(
        experiment=run.experiment,
        seed=run.seed,
        state=status["state"],
        reason=str(reason),
        folder=run.path,
        steps=len(metrics),
        finite=flag,
        train_s=finite_or_none(outcome.get("train_s")),
        trained_now_s=finite_or_none(run.outcome.get("trained_now_s")),
        evaluate_s=finite_or_none(outcome.get("evaluate_s")),
    )


def _all_results(finished: Sequence[RunFolder]) -> pd.DataFrame:
    """The results of all finished runs below each other."""
    tables = [table for table in (run.results() for run in finished) if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(RESULT_COLUMNS))


def _has_ranks(run: RunFolder) -> bool:
    """Whether a run was evaluated clip by clip."""
    return (run.path / "ranks.parquet").exists() and (run.path / "clips.parquet").exists()


def _ranks_by_id(run: RunFolder) -> pd.DataFrame:
    """Ranks as plain numbers, NaN where there is none, named by clip."""
    return run.ranks().astype("float64").set_axis(run.clip_ids(), axis="index")


def _reference(names: Sequence[str], recipes: Mapping[str, Recipe]) -> str | None:
    """All pairs in one space by contrast alone, else the first experiment."""
    usual = [name for name in names if name in recipes and recipes[name].family == ALL_PAIRS]
    shared = [name for name in usual if recipes[name].graph == "shared"]
    return next(iter([*shared, *usual, *names]), None)


def _place(name: str, wanted: Sequence[str], recipes: Mapping[str, Recipe]) -> tuple[Any, ...]:
    """Sort key of an experiment: the order asked for, then the recipe, then the name."""
    recipe = recipes[name].place if name in recipes else (99,)
    return (wanted.index(name) if name in wanted else len(wanted), recipe, name)


def _name(run: RunFolder) -> str:
    """The experiment's name, also of a run whose settings cannot be read."""
    return run.experiment if _readable(run) else run.path.name.rpartition("-s")[0] or run.path.name


def _readable(run: RunFolder) -> bool:
    """Whether name, settings and provenance can be read."""
    try:
        return bool(run.experiment) and isinstance(run.settings, dict) and isinstance(run.provenance, dict)
    except DataError:
        return False


def finite_or_none(value: Any) -> float | None:
    """A finite number, or None where there is none."""
    return None if value is None or not np.isfinite(value) else float(value)
