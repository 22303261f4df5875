"""A linear probe: ridge regression of many targets at once, its penalty chosen inside the training folds."""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from mcnlab.errors import DataError, ShapeError

PENALTIES = 10.0 ** np.linspace(-4, 4, 13)
"""Candidates for the ridge penalty per clip, on features of variance 1."""


class Predictions(NamedTuple):
    """What a probe says about clips that it never saw."""

    rise: Float[np.ndarray, "clips columns"]
    """Prediction minus `means`. A mean over training clips alone already says something about who was held out."""
    means: Float[np.ndarray, "clips columns"]
    """Mean of each target over the clips that the prediction was learned from."""
    explained: Float[np.ndarray, "clips columns"]
    """Variance of the target that the features explain in training, adjusted for the degrees of freedom. For an
    indicator divided by its share, the mean rise among the clips of the class."""


class _Fit(NamedTuple):
    """A ridge path: the rise at penalty a is held_out @ (targets / (curvature + a))."""

    curvature: Float[np.ndarray, " rank"]
    held_out: Float[np.ndarray, "clips rank"]
    targets: Float[np.ndarray, "rank columns"]
    strength: Float[np.ndarray, "rank columns"]  # explained variance at penalty a is strength / (curvature + a)
    means: Float[np.ndarray, " columns"]


def held_out_predictions(
    features: Float[np.ndarray, "clips width"],
    targets: Float[np.ndarray, "targets columns"],
    fold: Int[np.ndarray, " folds"],
    *,
    tied: Int[np.ndarray, " ties"] | None = None,
) -> Predictions:
    """Prediction of every clip by a ridge regression that never saw its fold.

    The penalty of a target is the one with the smallest squared error over the other folds, each predicted by a fit
    that saw neither it nor the fold in question. So no clip, nor any of its fold, has a say in its own prediction.

    Args:
        features: (N, D), finite. Scaled here to variance 1 over all clips (features only, targets play no part);
            features that never change are left at 0.
        targets: (N, T), finite, of comparable size where they are tied.
        fold: (N,), integers; at least three folds. Give clips that belong together the same fold.
        tied: (T,), targets with the same number share one penalty. None: one penalty each.

    Returns:
        Three (N, T) arrays, float64; `rise + means` is the prediction.

    Raises:
        ShapeError: Lengths do not fit.
        DataError: Fewer than three folds.

    Source:
        Hoerl and Kennard 1970; one eigenvalue decomposition per training set serves all penalties and targets: of the
        covariance if there are at least as many clips as features, else of the products between clips.

    Example:
        >>> x = np.linspace(-1, 1, 60)[:, None]
        >>> found = held_out_predictions(x, 3 * x, np.arange(60) % 5)
        >>> round(float(np.abs(found.rise + found.means - 3 * x).max()), 2)
        0.0
    """
    if not len(features) == len(targets) == len(fold):
        raise ShapeError(f"{len(features)} clips but {len(targets)} targets and {len(fold)} folds")
    names = np.unique(fold).tolist()
    if len(names) < 3:
        raise DataError(f"a probe needs at least three folds, got {len(names)}")
    tied = np.arange(targets.shape[1]) if tied is None else np.unique(tied, return_inverse=True)[1]
    solver = _Solver(_scaled(features), np.asarray(targets, dtype=np.float64), fold)
    errors = {name: np.zeros((len(PENALTIES), int(tied.max()) + 1)) for name in names}
    for one, other in combinations(names, 2):
        of_one, of_other = _errors(solver, held_out=(one, other), tied=tied)
        errors[other] += of_one  # for the final fit without `other`, `one` is a fold to choose by
        errors[one] += of_other
    found = Predictions(*(np.empty(targets.shape) for _ in Predictions._fields))
    for name in names:
        penalty = PENALTIES[errors[name].argmin(axis=0)][tied]  # (T,)
        test = fold == name
        (fit,) = solver.fits((name,), [test])
        found.rise[test], found.means[test] = _rise(fit, penalty), fit.means
        found.explained[test] = _explained(fit, penalty, solver.targets[~test])
    return found


class _Solver:
    """Everything about the data that all training sets share."""

    def __init__(self, features: np.ndarray, targets: np.ndarray, fold: np.ndarray) -> None:
        self.features, self.targets, self.fold = features, targets, fold
        self.by_features = features.shape[1] <= len(features) // 2
        if self.by_features:
            self.moments = {name: _moments(features[fold == name], targets[fold == name]) for name in np.unique(fold)}
        else:
            self.products = features @ features.T  # (N, N), at most twice the numbers of the features

    def fits(self, held_out: tuple[int, ...], tests: list[np.ndarray]) -> list[_Fit]:
        """Ridge path of the clips outside `held_out`, ready to predict each of several sets of clips."""
        train = ~np.isin(self.fold, held_out)
        if self.by_features:
            return self._fits_by_features(held_out, int(train.sum()), tests)
        return self._fits_by_clips(train, tests)

    def _fits_by_features(self, held_out: tuple[int, ...], clips: int, tests: list[np.ndarray]) -> list[_Fit]:
        """From the covariance of the features, added up over the folds."""
        used = [moments for name, moments in self.moments.items() if name not in held_out]
        sum_x, sum_y, square, cross = (np.sum(parts, axis=0) for parts in zip(*used, strict=True))
        mean, means = sum_x / clips, sum_y / clips
        curvature, axes = np.linalg.eigh(square / clips - np.outer(mean, mean))
        rotated = axes.T @ (cross / clips - np.outer(mean, means))
        curvature = np.maximum(curvature, 0.0)
        return [_Fit(curvature, (self.features[test] - mean) @ axes, rotated, rotated**2, means) for test in tests]

    def _fits_by_clips(self, train: np.ndarray, tests: list[np.ndarray]) -> list[_Fit]:
        """From the products between clips, centered on the training clips."""
        clips = int(train.sum())
        means = self.targets[train].mean(axis=0)
        among = self.products[np.ix_(train, train)]
        column = among.mean(axis=0)
        curvature, axes = np.linalg.eigh((among - column - column[:, None] + column.mean()) / clips)
        curvature = np.maximum(curvature, 0.0)
        rotated = axes.T @ (self.targets[train] - means) / clips
        strength = clips * curvature[:, None] * rotated**2
        found = []
        for test in tests:
            across = self.products[np.ix_(test, train)]
            centered = across - column - across.mean(axis=1, keepdims=True) + column.mean()
            found.append(_Fit(curvature, centered @ axes, rotated, strength, means))
        return found


def _errors(solver: _Solver, *, held_out: tuple[int, int], tied: np.ndarray) -> list[np.ndarray]:
    """For each of two held-out folds: squared error by (penalty, tie) of a fit that saw neither."""
    tests = [solver.fold == name for name in held_out]
    both = []
    for fit, test in zip(solver.fits(held_out, tests), tests, strict=True):
        truth, of_tie = solver.targets[test] - fit.means, np.zeros((len(PENALTIES), int(tied.max()) + 1))
        for place, penalty in enumerate(PENALTIES):
            squared = ((_rise(fit, penalty) - truth) ** 2).sum(axis=0)  # (T,)
            of_tie[place] = np.bincount(tied, weights=squared, minlength=of_tie.shape[1])
        both.append(of_tie)
    return both


def _rise(fit: _Fit, penalty: float | np.ndarray) -> np.ndarray:
    """(clips, T) predictions above the mean, at one penalty, or at one penalty per target."""
    return fit.held_out @ (fit.targets / (fit.curvature[:, None] + penalty))


def _explained(fit: _Fit, penalty: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(T,) variance explained in training, less what as many degrees of freedom explain of noise."""
    shrunk = fit.curvature[:, None] + penalty
    free = (fit.curvature[:, None] / shrunk).sum(axis=0) / len(targets)
    spread = targets.var(axis=0)
    adjusted = ((fit.strength / shrunk).sum(axis=0) - free * spread) / np.maximum(1 - free, 1e-9)
    return np.clip(adjusted, 0.0, spread)


def _moments(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sums and sums of products over the clips of a fold."""
    return features.sum(axis=0), targets.sum(axis=0), features.T @ features, features.T @ targets


def _scaled(features: Shaped[np.ndarray, "clips width"]) -> np.ndarray:
    """Mean 0 and variance 1 in float64; what never changes becomes 0."""
    wide = np.asarray(features, dtype=np.float64)
    centered, spread = wide - wide.mean(axis=0), wide.std(axis=0)
    moves = spread > 1e-9 * np.maximum(np.abs(wide).max(axis=0, initial=0.0), 1e-300)
    return np.where(moves, centered / np.where(moves, spread, 1.0), 0.0)
