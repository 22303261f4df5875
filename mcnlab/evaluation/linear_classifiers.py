"""Linear classifiers on frozen features: logistic regression with a chosen C, and a linear support vector machine."""

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from mcnlab.errors import DataError, ShapeError
from mcnlab.metrics.transfer import mean_over_classes, top_k_hits

CANDIDATES = tuple(10.0 ** np.arange(-5, 2))
"""Inverse penalties C among which validation chooses, for features of variance 1."""
MOST_ITERATIONS = 300
Kind = Literal["logistic", "svm"]


def standardized(
    train: Float[np.ndarray, "train width"], *others: Float[np.ndarray, "_ width"]
) -> list[Float[np.ndarray, "_ width"]]:
    """Features with mean 0 and variance 1 over the training rows.

    Args:
        train: (N, D), finite, N >= 1.
        others: (_, D), scaled by the statistics of `train`.

    Returns:
        All of them, float64; features that do not change in training are 0 everywhere.

    Raises:
        Nothing.

    Example:
        >>> [part.tolist() for part in standardized(np.array([[0.0], [2.0]]), np.array([[3.0]]))]
        [[[-1.0], [1.0]], [[2.0]]]
    """
    wide = np.asarray(train, dtype=np.float64)
    mean, spread = wide.mean(axis=0), wide.std(axis=0)
    moves = spread > 1e-9 * np.maximum(np.abs(wide).max(axis=0, initial=0.0), 1e-300)
    scale = np.where(moves, 1 / np.where(moves, spread, 1.0), 0.0)
    return [(np.asarray(part, dtype=np.float64) - mean) * scale for part in (train, *others)]


def linear_scores(
    features: Float[np.ndarray, "train width"],
    truth: Bool[np.ndarray, "train_truth classes"],
    asked: Float[np.ndarray, "asked width"],
    *,
    c: float,
    kind: Kind = "logistic",
    multi_label: bool = False,
    seed: int = 0,
) -> Float[np.ndarray, "asked classes"]:
    """Decision values of a linear classifier for rows that it was not fitted to.

    Args:
        features: (N, D), finite; standardized before.
        truth: (N, C), which row has which class; exactly one each unless `multi_label`.
        asked: (M, D), scaled as `features`.
        c: Inverse penalty, positive.
        kind: Softmax regression (logistic per class where `multi_label`), or one squared-hinge machine per class.
        multi_label: Whether a row may have several classes, or none.
        seed: Of the order in which the support vector machine is fitted.

    Returns:
        (M, C), finite; larger is likelier. A class that no training row has, or all have, is below all others or 0.

    Raises:
        ShapeError: Lengths do not fit.
        DataError: Fewer than two classes among the training rows, where one is wanted each.

    Source:
        Alayrac et al. 2020, section 4.1 (linear SVM, C 1e-3); fitted by scikit-learn (lbfgs, liblinear).

    Example:
        >>> x = np.array([[-1.0], [1.0]])
        >>> linear_scores(x, np.eye(2, dtype=bool), 2 * x, c=1.0).argmax(axis=1)
        array([0, 1])
    """
    if len(features) != len(truth):
        raise ShapeError(f"{len(features)} rows but {len(truth)} rows of classes")
    if multi_label:
        columns = [_binary(features, truth[:, k], asked, c, kind, seed) for k in range(truth.shape[1])]
        return np.stack(columns, axis=1)
    numbers = truth.argmax(axis=1)
    known = np.unique(numbers)
    if len(known) < 2:
        raise DataError(f"a classifier needs two classes to tell apart, got {len(known)}")
    values = _decided(features, numbers, asked, c, kind, seed)
    values = np.stack([-values, values], axis=1) if values.ndim == 1 else values
    found = np.full((len(asked), truth.shape[1]), values.min(initial=0.0) - 1)
    found[:, known] = values
    return found


def chosen_c(
    features: Float[np.ndarray, "train width"],
    truth: Bool[np.ndarray, "train classes"],
    held_out: Float[np.ndarray, "held width"],
    held_truth: Bool[np.ndarray, "held classes"],
    *,
    candidates: Sequence[float] = CANDIDATES,
    multi_label: bool = False,
) -> float:
    """The C of logistic regression that does best on rows that were held out.

    Args:
        features: (N, D), standardized.
        truth: (N, C).
        held_out: (M, D), M >= 1.
        held_truth: (M, C).
        candidates: What to choose from, in rising order.
        multi_label: Judge by mean average precision instead of top-1 accuracy.

    Returns:
        The best candidate; among equals the smallest, which is the strongest penalty.

    Raises:
        DataError: As `linear_scores`.

    Example:
        >>> x, y = np.array([[-1.0], [1.0]]), np.eye(2, dtype=bool)
        >>> chosen_c(x, y, x, y, candidates=(0.1, 1.0))
        0.1
    """
    quality = []
    for c in candidates:
        scores = linear_scores(features, truth, held_out, c=c, multi_label=multi_label)
        if multi_label:
            quality.append(float(np.nan_to_num(mean_over_classes(scores, held_truth)[0][0])))
        else:
            quality.append(float(top_k_hits(scores, held_truth.argmax(axis=1), 1).mean()))
    return float(candidates[int(np.argmax(quality))])


def _binary(x: np.ndarray, truth: np.ndarray, asked: np.ndarray, c: float, kind: Kind, seed: int) -> np.ndarray:
    """Decision values of one class against all others; 0 where there is nothing to tell apart."""
    if truth.all() or not truth.any():
        return np.zeros(len(asked))
    return _decided(x, truth, asked, c, kind, seed)


def _decided(x: np.ndarray, numbers: np.ndarray, asked: np.ndarray, c: float, kind: Kind, seed: int) -> np.ndarray:
    """What scikit-learn's classifier says; one that has not quite converged is good enough."""
    if kind == "svm":
        fitted = LinearSVC(C=c, dual="auto", random_state=seed, max_iter=10 * MOST_ITERATIONS)
    else:
        fitted = LogisticRegression(C=c, max_iter=MOST_ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes")  # one example of each is no mistake
        fitted.fit(x, numbers)
    return np.asarray(fitted.decision_function(asked), dtype=np.float64)
