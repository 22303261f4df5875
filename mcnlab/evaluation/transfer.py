"""Transfer: how well classes are told from frozen features, by linear classifiers, after few examples or many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mcnlab.errors import DataError, ShapeError
from mcnlab.evaluation.linear_classifiers import chosen_c, linear_scores, standardized
from mcnlab.evaluation.retention import folds_of_recordings
from mcnlab.evaluation.rows import ResultRow, present_rows
from mcnlab.metrics.statistics import mean_interval
from mcnlab.metrics.transfer import d_prime, eleven_point_average_precision, mean_over_classes, top_k_hits

TASK = "transfer"
SHOTS = (1, 2, 5, 10, 20)
"""Examples of each class, in the few-shot curve."""
SVM_C = 1e-3
"""Of the linear support vector machine, as in MMV (Alayrac et al. 2020)."""
FEW_SHOT_C = 1.0
"""Of logistic regression on few examples, where nothing is left to choose it by."""
MANY_CLASSES = 10
"""From so many classes on, the first five answers count too."""
PERCENT = (2.5, 97.5)
MOST_COUNTS = 2**24
"""Of very many recordings fewer resamples are drawn, at least a hundred: so many counts in memory."""


@dataclass(frozen=True)
class Targets:
    """What is to be told of each unit: a recording of a protocol, or a clip."""

    truth: Bool[np.ndarray, "units classes"]
    roles: Shaped[np.ndarray, "splits units"]
    """`train`, `val`, `test` or empty. Where a split has no test, its val is tested."""
    groups: Int[np.ndarray, " units"]
    """Units of one recording have the same number; intervals draw recordings."""
    multi_label: bool = False
    eleven_points: bool = False
    """Also give the mean average precision of VOC 2007, at eleven recalls; without an interval."""

    def tested(self, split: int) -> Bool[np.ndarray, " units"]:
        """The units on which a split is scored."""
        test = self.roles[split] == "test"
        return test if test.any() else self.roles[split] == "val"

    def only(self, units: Bool[np.ndarray, " units"]) -> "Targets":
        """The same for some of the units."""
        return replace(self, truth=self.truth[units], roles=self.roles[:, units], groups=self.groups[units])


class Score(NamedTuple):
    """A number with its interval over recordings."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TransferResult:
    """Rows for the results."""

    rows: tuple[ResultRow, ...]


def evaluate_transfer(
    features: Mapping[str, Float[np.ndarray, "units _"]],
    targets: Targets,
    *,
    untrained: Mapping[str, Float[np.ndarray, "units _"]],
    shots: Sequence[int] = SHOTS,
    samples: int = 5,
    draws: int = 1000,
    seed: int = 0,
) -> TransferResult:
    """Linear probe, support vector machine and few-shot curve of every kind of features.

    Each official split trains its own classifiers; numbers are means over the splits, intervals (95 %) draw tested
    recordings. C is chosen on the split's own validation set where there is a test set beside it, else on a fifth of
    the training recordings, and the classifier then fitted to all of them. The few-shot curve is that of the first
    split: logistic regression with a fixed C, its interval over the draws of examples.

    Args:
        features: Name (`audio`, `audio:backbone`) -> (N, D), any D; rows of NaN are units without the modality and
            left out.
        targets: What is to be told.
        untrained: The same names from the model before training, for comparison.
        shots: Examples of each class; a class that has fewer gives all it has. Numbers that fewer than half of the
            classes reach are left out.
        samples: Draws of examples for each of `shots`.
        draws: Resamples of the tested recordings; a fifth of it where a unit may have several classes.
        seed: Of folds, examples and resamples.

    Returns:
        For each name: `linear_top1`, `linear_top5` (from ten classes on), `svm_top1`, `few_N`; with several classes a
        unit `linear_map`, `linear_auc`, `linear_dprime`, `svm_map`, `few_N` (mean average precision), and where asked
        `linear_map11`; the same with `untrained_` and, where nothing but the frequency of classes is known,
        `chance_`; and `linear_log10_c`.

    Raises:
        ShapeError: Lengths do not fit.
        DataError: A split has too few classes or nobody to test; the name of the features is in the text.
        NonFiniteError: A row of features is not finite.

    Source:
        Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 4.1. Averaging the features of a recording's windows,
        as the caller does, equals averaging their decision values, because the classifiers are linear.

    Example:
        >>> x = np.repeat(np.eye(2), 20, axis=0)
        >>> roles = np.array([["train", "test"] * 20])
        >>> targets = Targets(x.astype(bool), roles, np.arange(40))
        >>> found = evaluate_transfer({"audio": x}, targets, untrained={}, shots=(1,), draws=10)
        >>> [(row.metric, row.value) for row in found.rows][:2]
        [('linear_top1', 1.0), ('svm_top1', 1.0)]
    """
    rows: list[ResultRow] = []
    for name, x in features.items():
        if len(x) != len(targets.truth):
            raise ShapeError(f"{name}: {len(x)} rows of features but {len(targets.truth)} units")
        present = present_rows(name, x)
        own = targets.only(present)
        _check(name, own)
        found = _all_scores(x[present], own, shots, samples, draws, seed)
        found |= {f"chance_{metric}": score for metric, score in chance_scores(own).items() if metric in found}
        if name in untrained:
            before = _all_scores(untrained[name][present], own, shots, samples, draws, seed)
            found |= {f"untrained_{metric}": score for metric, score in before.items()}
        rows += [ResultRow(TASK, name, metric, *score) for metric, score in found.items()]
    return TransferResult(tuple(rows))


def scores_of_splits(
    targets: Targets,
    decided: Sequence[Float[np.ndarray, "_ classes"]],
    *,
    method: str,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Score]:
    """Every measure of some decisions, as means over the splits with intervals over recordings.

    Args:
        targets: What is true.
        decided: For each split, decision values of the units that it tests, in their order.
        method: What stands before the measure's name.
        draws: Resamples of recordings.
        seed: Of the resampling.

    Returns:
        Measure to score, as `evaluate_transfer` names them.

    Raises:
        ShapeError: A split has another number of decisions than tested units.
    """
    anywhere = np.any([targets.tested(split) for split in range(len(decided))], axis=0)
    drawn_from, group = np.unique(targets.groups[anywhere]), np.full(len(targets.groups), -1)
    group[anywhere] = np.searchsorted(drawn_from, targets.groups[anywhere])
    counts = _drawn_counts(len(drawn_from), draws // 5 if targets.multi_label else draws, seed)
    by_split = []
    for split, scores in enumerate(decided):
        tested = targets.tested(split)
        if len(scores) != tested.sum():
            raise ShapeError(f"split {split}: {len(scores)} decisions for {tested.sum()} tested units")
        by_split.append(_measures(scores, targets.truth[tested], counts[:, group[tested]], targets.multi_label))
    found = {}
    for measure in by_split[0]:
        drawn = np.mean([one[measure] for one in by_split], axis=0)  # (1 + draws,)
        known = drawn[1:][np.isfinite(drawn[1:])]
        low, high = np.percentile(known, PERCENT).tolist() if len(known) else (None, None)
        found[f"{method}_{measure}"] = Score(float(drawn[0]), low, high)
    if targets.eleven_points:
        parts = [_eleven_points(scores, targets.truth[targets.tested(k)]) for k, scores in enumerate(decided)]
        found[f"{method}_map11"] = Score(float(np.mean(parts)), None, None)
    if f"{method}_auc" in found:
        edge = 1 / (2 * anywhere.sum())  # of so many units, an area of 1 says no more than 1 - edge
        area = found[f"{method}_auc"]
        ends = [None if value is None else d_prime(float(np.clip(value, edge, 1 - edge))) for value in area]
        found[f"{method}_dprime"] = Score(*ends)  # type: ignore[arg-type]  # the first is never None
    return found


def _drawn_counts(groups: int, draws: int, seed: int) -> np.ndarray:
    """(1 + draws, groups): how often each recording is drawn; the first row has everyone once."""
    most = max(100, MOST_COUNTS // groups)
    often = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=max(1, min(draws, most)))
    return np.concatenate([np.ones((1, groups), dtype=often.dtype), often])


def chance_scores(targets: Targets) -> dict[str, Score]:
    """What is reached by knowing how frequent the classes are in training, and nothing of the units.

    Args:
        targets: What is true.

    Returns:
        Measure to score, without intervals.
    """
    parts: dict[str, list[float]] = {}
    for split in range(len(targets.roles)):
        truth = targets.truth[targets.tested(split)]
        if targets.multi_label:
            share = truth.mean(axis=0)
            parts.setdefault("map", []).append(float(share[(share > 0) & (share < 1)].mean()))
            continue
        frequent = targets.truth[targets.roles[split] == "train"].sum(axis=0)
        order = np.argsort(-frequent, kind="stable")
        for k in _places(truth):
            parts.setdefault(f"top{k}", []).append(float(truth[:, order[:k]].any(axis=1).mean()))
    found = {
        f"{method}_{name}": Score(float(np.mean(v)), None, None)
        for method in ("linear", "svm", "tuned")
        for name, v in parts.items()
    }
    if targets.multi_label:
        found |= {"linear_auc": Score(0.5, None, None), "linear_dprime": Score(0.0, None, None)}
    main = found["linear_map" if targets.multi_label else "linear_top1"]
    return {**found, **{f"few_{number}": main for number in SHOTS}}


def _all_scores(
    x: np.ndarray, targets: Targets, shots: Sequence[int], samples: int, draws: int, seed: int
) -> dict[str, Score]:
    """Every measure of every method on one kind of features."""
    linear, svm, chosen = [], [], []
    for split in range(len(targets.roles)):
        train, tested = targets.roles[split] == "train", targets.tested(split)
        c = _c_of_split(x, targets, split, seed)
        inside, outside = standardized(x[train], x[tested])
        given = (inside, targets.truth[train], outside)
        linear.append(linear_scores(*given, c=c, multi_label=targets.multi_label))
        svm.append(linear_scores(*given, c=SVM_C, kind="svm", multi_label=targets.multi_label, seed=seed))
        chosen.append(np.log10(c))
    found = scores_of_splits(targets, linear, method="linear", draws=draws, seed=seed)
    svm_scores = scores_of_splits(targets, svm, method="svm", draws=draws, seed=seed)
    found |= {name: score for name, score in svm_scores.items() if name in ("svm_top1", "svm_map")}
    found |= _few_shot_scores(x, targets, shots, samples, seed)
    return {**found, "linear_log10_c": Score(float(np.mean(chosen)), None, None)}


def _c_of_split(x: np.ndarray, targets: Targets, split: int, seed: int) -> float:
    """C by validation, without a look at what is tested."""
    roles = targets.roles[split]
    fit, held = roles == "train", roles == "val"
    if not held.any() or not (roles == "test").any():
        generator = np.random.default_rng([seed, split])
        train = np.flatnonzero(fit)
        groups = np.unique(targets.groups[train], return_inverse=True)[1]
        fold = folds_of_recordings(groups, folds=min(5, int(groups.max()) + 1), generator=generator)
        fit, held = np.zeros_like(fit), np.zeros_like(fit)
        fit[train[fold != 0]], held[train[fold == 0]] = True, True
    inside, outside = standardized(x[fit], x[held])
    truth = targets.truth
    return chosen_c(inside, truth[fit], outside, truth[held], multi_label=targets.multi_label)


def _few_shot_scores(
    x: np.ndarray, targets: Targets, shots: Sequence[int], samples: int, seed: int
) -> dict[str, Score]:
    """Mean over draws of a few examples of each class in the first split; scaled over all its training rows."""
    train, tested = targets.roles[0] == "train", targets.tested(0)
    inside, outside = standardized(x[train], x[tested])
    truth, asked = targets.truth[train], targets.truth[tested]
    sizes = truth.sum(axis=0)
    found = {}
    for number in shots:
        if (sizes >= number).mean() < 0.5:
            continue
        values = []
        for sample in range(samples):
            chosen = few_examples(truth, number, np.random.default_rng([seed, number, sample]))
            given = (inside[chosen], truth[chosen], outside)
            scores = linear_scores(*given, c=FEW_SHOT_C, multi_label=targets.multi_label)
            measured = _measures(scores, asked, np.ones((1, len(asked))), targets.multi_label)
            values.append(float(measured["map" if targets.multi_label else "top1"][0]))
        found[f"few_{number}"] = Score(*mean_interval(values)[:3])
    return found


def few_examples(
    truth: Bool[np.ndarray, "units classes"], number: int, generator: np.random.Generator
) -> Int[np.ndarray, " chosen"]:
    """Some units of every class.

    Args:
        truth: (N, C), which unit has which class.
        number: Units of each class; all it has where it has fewer.
        generator: Decides which; moves on.

    Returns:
        Their places in rising order, each once, also where a unit was drawn for several of its classes.

    Raises:
        Nothing.

    Example:
        >>> few_examples(np.eye(2, dtype=bool), 5, np.random.default_rng(0))
        array([0, 1])
    """
    of_class = [np.flatnonzero(column) for column in truth.T]
    drawn = [generator.permutation(members)[:number] for members in of_class]
    return np.unique(np.concatenate(drawn)).astype(np.int64)


def _measures(scores: np.ndarray, truth: np.ndarray, counts: np.ndarray, multi_label: bool) -> dict[str, np.ndarray]:
    """Measure to its value in every row of counts."""
    if multi_label:
        precision, area = mean_over_classes(scores, truth, counts)
        return {"map": precision, "auc": area}
    total = counts.sum(axis=1)
    numbers = truth.argmax(axis=1)
    hits = {f"top{k}": counts @ top_k_hits(scores, numbers, k) for k in _places(truth)}
    return {name: np.where(total > 0, hit / np.maximum(total, 1), np.nan) for name, hit in hits.items()}


def _eleven_points(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes that are there of the average precision at eleven recalls."""
    each = [eleven_point_average_precision(scores[:, k], truth[:, k])[0] for k in range(truth.shape[1])]
    return float(np.nanmean(each))


def _places(truth: np.ndarray) -> tuple[int, ...]:
    """How many first answers count."""
    return (1, 5) if truth.shape[1] >= MANY_CLASSES else (1,)


def _check(name: str, targets: Targets) -> None:
    """Refuse what no classifier can be trained on or tested with."""
    for split in range(len(targets.roles)):
        train = targets.truth[targets.roles[split] == "train"]
        told = int((train.any(axis=0) & ~(train.all(axis=0) & targets.multi_label)).sum())
        if told < (1 if targets.multi_label else 2):
            raise DataError(f"{name}: split {split + 1} has {told} classes to learn, too few to tell apart")
        test = targets.truth[targets.tested(split)]
        if not len(test) or (targets.multi_label and not (test.any(axis=0) & ~test.all(axis=0)).any()):
            raise DataError(f"{name}: split {split + 1} has nothing to test")
