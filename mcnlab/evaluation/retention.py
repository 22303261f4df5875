"""What was retained: how well a linear probe reads each known factor back from frozen embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from mcnlab.errors import ConfigError, DataError, ShapeError
from mcnlab.evaluation.probe import held_out_predictions
from mcnlab.evaluation.rows import ResultRow, present_rows

TASK = "retention"
Values = Sequence[float | str | None] | np.ndarray | pd.Series


@dataclass(frozen=True)
class RetentionResult:
    """Rows for the results."""

    rows: tuple[ResultRow, ...]


@dataclass(frozen=True)
class _Factor:
    """A factor as the probe sees it, on the clips where it is known."""

    name: str
    known: Bool[np.ndarray, " clips"]
    truth: np.ndarray  # (known clips,) class numbers, or centered values
    targets: Float[np.ndarray, "known columns"]
    classes: int  # 0: continuous

    @property
    def group(self) -> str:
        """What stands before the dot; a name without one is its own group."""
        return self.name.split(".", 1)[0]


def evaluate_retention(
    embeddings: Mapping[str, Float[np.ndarray, "clips _"]],
    factors: Mapping[str, Values],
    recordings: Sequence[str] | np.ndarray | pd.Series,
    *,
    untrained: Mapping[str, Float[np.ndarray, "clips _"]] | None = None,
    folds: int = 5,
    seed: int = 0,
    draws: int = 1000,
) -> RetentionResult:
    """Cross-validated score of a linear probe for every factor and every group of factors, by embedding.

    Numbers are continuous factors: R² of the held-out predictions. Words (and truth values) are categorical ones:
    balanced accuracy above chance, (b - 1/C)/(1 - 1/C), predicting the class whose center is nearest in the space of
    predictions, whatever its size. Both are 0 at chance and 1 when perfect, and are reported as they come, slightly
    below 0 too: cutting there would lift factors that are not retained above chance. A group's score is the mean over
    its factors.

    Args:
        embeddings: Name (`video`, `video@va`) -> (N, D), any D; rows of NaN are missing clips and left out.
        factors: `GROUP.NAME` (or `NAME`) -> (N,) numbers or words; None or NaN where unknown, left out there.
            Classes that occur in a single recording are left out too: nobody could have learned them. A class of few
            recordings may by chance be missing in training; it counts as missed.
        recordings: (N,), recording of each clip. Clips of one recording are never on both sides of a fold.
        untrained: The same names from a model before training, possibly of other width; adds rows `untrained`.
        folds: At least three.
        seed: Of the folds and the bootstrap.
        draws: Resamples of the recordings for the 95 % intervals of the held-out scores (the probes are not refitted).

    Returns:
        Rows `score` and `untrained` for subjects `video:va` (group) and `video:va.rate` (factor), in the order given.

    Raises:
        DataError: A factor that has one class or never changes, or fewer recordings than folds; names the factor.
        ShapeError: Lengths do not fit.
        NonFiniteError: An embedding is infinite, or NaN in part.
        ConfigError: `folds` below 3.

    Source:
        Linear evaluation of frozen features: ridge on values and on indicators of classes (see `probe`), the latter
        read as a discriminant analysis with equal priors (Hastie et al. 1994, Flexible discriminant analysis). Differs
        from logistic regression by sharing one decomposition between all factors.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> found = evaluate_retention({"video": x}, {"va.rate": x[:, 0]}, np.arange(200))
        >>> [(row.subject, round(row.value, 2)) for row in found.rows]
        [('video:va', 1.0), ('video:va.rate', 1.0)]
    """
    if folds < 3:
        raise ConfigError(f"folds must be at least 3, got {folds}")
    groups = pd.factorize(pd.Series(recordings))[0]
    rows: list[ResultRow] = []
    for name, vectors in embeddings.items():
        scored = {"score": _scores(name, vectors, factors, groups, folds, seed, draws)}
        if untrained is not None and name in untrained:
            scored["untrained"] = _scores(name, untrained[name], factors, groups, folds, seed, draws)
        for subject in scored["score"]:
            rows += [ResultRow(TASK, f"{name}:{subject}", metric, *found[subject]) for metric, found in scored.items()]
    return RetentionResult(tuple(rows))


def check_factors(
    factors: Mapping[str, Values], recordings: Sequence[str] | np.ndarray | pd.Series, *, folds: int = 5
) -> None:
    """Refuse, before anything is trained, factors that no probe can be scored on.

    Args:
        factors: As for `evaluate_retention`.
        recordings: (N,), recording of each clip.
        folds: As for `evaluate_retention`.

    Raises:
        DataError: A factor with one class, one that never changes, or fewer recordings than folds.
        ShapeError: Lengths do not fit.

    Example:
        >>> check_factors({"va.rate": np.arange(9.0)}, np.arange(9))
    """
    groups = pd.factorize(pd.Series(recordings))[0]
    for name, values in factors.items():
        _prepared(name, values, np.ones(len(groups), dtype=bool), groups, folds)


def folds_of_recordings(
    groups: Int[np.ndarray, " clips"], *, folds: int, generator: np.random.Generator
) -> Int[np.ndarray, " clips"]:
    """Fold of each clip: recordings stay whole, folds are about equally large.

    Args:
        groups: (N,), recording of each clip as a number.
        folds: Number of folds, at most the number of recordings.
        generator: Decides which recordings meet.

    Returns:
        (N,), from 0 to folds - 1; every fold has clips.

    Raises:
        DataError: Fewer recordings than folds.

    Example:
        >>> folds_of_recordings(np.array([0, 0, 1, 2]), folds=3, generator=np.random.default_rng(0)).shape
        (4,)
    """
    names, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise DataError(f"{folds} folds need as many recordings, got {len(names)}")
    shuffled = generator.permutation(len(names))
    filled, fold = np.zeros(folds), np.empty(len(names), dtype=np.int64)
    for recording in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:  # large ones first, each to the emptiest
        fold[recording] = filled.argmin()
        filled[fold[recording]] += sizes[recording]
    return fold[place]


def _scores(
    name: str,
    vectors: np.ndarray,
    factors: Mapping[str, Values],
    groups: np.ndarray,
    folds: int,
    seed: int,
    draws: int,
) -> dict[str, tuple[float, float, float]]:
    """(value, low, high) of every group and factor for one embedding."""
    if len(vectors) != len(groups):
        raise ShapeError(f"{name}: {len(vectors)} clips but {len(groups)} recordings named")
    here = present_rows(name, vectors)
    prepared = [_prepared(factor, values, here, groups, folds) for factor, values in factors.items()]
    drawn: dict[str, np.ndarray] = {}  # factor -> (1 + draws,): the score, then its resamples
    for known in {factor.known.tobytes(): factor.known for factor in prepared}.values():
        alike = [factor for factor in prepared if np.array_equal(factor.known, known)]
        drawn |= _scores_of_alike(alike, vectors[known], groups[known], folds, seed, draws)
    by_group: dict[str, list[np.ndarray]] = {}
    for factor in prepared:
        by_group.setdefault(factor.group, []).append(drawn[factor.name])
    found = {group: np.mean(parts, axis=0) for group, parts in by_group.items()} | {
        factor.name: drawn[factor.name] for factor in prepared
    }
    return {subject: _with_interval(scores) for subject, scores in found.items()}


def _scores_of_alike(
    factors: Sequence[_Factor], vectors: np.ndarray, groups: np.ndarray, folds: int, seed: int, draws: int
) -> dict[str, np.ndarray]:
    """Scores of factors that are known on the same clips: one probe for all of them."""
    generator = np.random.default_rng(seed)
    fold = folds_of_recordings(groups, folds=folds, generator=generator)
    widths = [factor.targets.shape[1] for factor in factors]
    targets = np.concatenate([factor.targets for factor in factors], axis=1)
    tied = np.repeat(np.arange(len(factors)), widths)
    found = held_out_predictions(vectors, targets, fold, tied=tied)
    starts = np.cumsum(widths)[:-1]
    nearness = np.split(found.rise - found.explained / 2, starts, axis=1)  # to the center of each class
    values = np.split(found.rise + found.means, starts, axis=1)
    recording = np.unique(groups, return_inverse=True)[1]
    weights = _weights(int(recording.max()) + 1, generator, draws)
    return {
        factor.name: _weighted_accuracy(factor, near.argmax(axis=1), recording, weights)
        if factor.classes
        else _weighted_r2(factor.truth, value[:, 0], recording, weights)
        for factor, value, near in zip(factors, values, nearness, strict=True)
    }


def _weights(recordings: int, generator: np.random.Generator, draws: int) -> np.ndarray:
    """(1 + draws, recordings): first every recording once, then as often as it was drawn."""
    resampled = generator.multinomial(recordings, np.full(recordings, 1 / recordings), size=draws)
    return np.concatenate((np.ones((1, recordings)), resampled))


def _weighted_r2(truth: np.ndarray, predicted: np.ndarray, recording: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(1 + draws,) R² of one factor, from sums over the recordings; 0, as chance, where a draw has one value only."""
    parts = (np.ones_like(truth), truth, truth**2, (truth - predicted) ** 2)
    count, total, square, error = (weights @ np.bincount(recording, part, weights.shape[1]) for part in parts)
    spread = square - total**2 / count
    varied = spread > 1e-12 * count  # the truth has variance 1 before it is drawn from
    return np.where(varied, 1.0 - error / np.where(varied, spread, 1.0), 0.0)


def _weighted_accuracy(factor: _Factor, guess: np.ndarray, recording: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(1 + draws,) balanced accuracies above chance; a class that was not drawn does not count in that draw."""
    cell = recording * factor.classes + factor.truth
    shape = (weights.shape[1], factor.classes)
    clips = weights @ np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    hits = weights @ np.bincount(cell, guess == factor.truth, shape[0] * shape[1]).reshape(shape)
    balanced = (hits / np.maximum(clips, 1)).sum(axis=1) / (clips > 0).sum(axis=1)
    chance = 1 / factor.classes
    return (balanced - chance) / (1 - chance)


def _with_interval(scores: np.ndarray) -> tuple[float, float, float]:
    """The score, and the middle 95 % of its resamples."""
    low, high = np.quantile(scores[1:], [0.025, 0.975]) if len(scores) > 1 else (scores[0], scores[0])
    return float(scores[0]), float(low), float(high)


def _prepared(name: str, values: Values, here: np.ndarray, groups: np.ndarray, folds: int) -> _Factor:
    """A factor on the clips where both it and the embedding are there, checked."""
    series = pd.Series(values).reset_index(drop=True)
    if len(series) != len(groups):
        raise ShapeError(f"factor {name}: {len(series)} values for {len(groups)} clips")
    known = here & series.notna().to_numpy()
    if _is_categorical(series[known]):
        return _categorical(name, series, known, groups, folds)
    numbers = series[known].to_numpy(dtype=np.float64)
    if len(numbers) == 0 or np.ptp(numbers) == 0:
        got = f"always {numbers[0]}" if len(numbers) else "no value"
        raise DataError(f"factor {name}: at least two different values are needed, got {got} in {known.sum()} clips")
    _check_recordings(name, groups[known], folds)
    scaled = (numbers - numbers.mean()) / numbers.std()
    return _Factor(name, known, scaled, scaled[:, None], classes=0)


def _categorical(name: str, series: pd.Series, known: np.ndarray, groups: np.ndarray, folds: int) -> _Factor:
    """Indicators of the classes, each divided by the share of its class."""
    spread = pd.Series(groups[known]).groupby(series[known].to_numpy()).nunique()  # recordings per class
    kept = sorted(spread.index[spread > 1], key=str)
    if len(kept) < 2:
        found = f"{len(spread)} classes, of which {len(kept)} occur in two recordings or more"
        got = f"only {spread.index[0]!r}" if len(spread) == 1 else found
        raise DataError(f"factor {name}: at least two classes are needed, got {got}, in {known.sum()} clips")
    known = known & series.isin(kept).to_numpy()
    _check_recordings(name, groups[known], folds)
    truth = pd.Categorical(series[known], categories=kept).codes.astype(np.int64)
    indicator = np.eye(len(kept))[truth]
    return _Factor(name, known, truth, indicator / indicator.mean(axis=0), classes=len(kept))


def _is_categorical(values: pd.Series) -> bool:
    """Words and truth values are classes; numbers are not."""
    return pd.api.types.is_bool_dtype(values) or any(isinstance(value, str | bool) for value in _objects(values))


def _objects(values: pd.Series) -> Sequence[Any]:
    """The values themselves, unless all are known to be numbers."""
    return [] if pd.api.types.is_numeric_dtype(values) else values.tolist()


def _check_recordings(name: str, groups: np.ndarray, folds: int) -> None:
    """Every fold needs a recording of its own."""
    if (found := len(np.unique(groups))) < folds:
        raise DataError(f"factor {name}: {folds} folds need as many recordings, got {found}")
