"""How good the scores of classes are: top-k accuracy, average precision, area under the ROC curve, d'. No torch."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from mcnlab.errors import ConfigError, NonFiniteError, ShapeError

Weights = Float[np.ndarray, "draws clips"] | Int[np.ndarray, "draws clips"]
"""How much each clip counts, a row per resample."""
LEVELS_OF_RECALL = np.arange(11) / 10
"""Where VOC 2007 looks at the precision."""


def top_k_hits(
    scores: Float[np.ndarray, "clips classes"], target: Int[np.ndarray, " targets"], k: int
) -> Bool[np.ndarray, " clips"]:
    """Whether the right class is among the k with the highest scores.

    Ties count against us: a class with the score of the right one comes before it.

    Args:
        scores: (N, C), finite. Larger is likelier.
        target: (N,), int64. The right class of each clip.
        k: Places that count, at least 1.

    Returns:
        (N,), bool.

    Raises:
        ShapeError: `target` has not one entry per clip.
        ConfigError: `k` below 1.
        NonFiniteError: A score is NaN or infinite.

    Source:
        Russakovsky et al. 2015 (arXiv 1409.0575), section 4: the top-5 criterion, its ties broken against us.

    Example:
        >>> top_k_hits(np.array([[0.2, 0.5, 0.3]]), np.array([2]), 2)
        array([ True])
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}")
    if len(target) != len(scores):
        raise ShapeError(f"{len(scores)} clips but {len(target)} targets")
    _check_finite(scores)
    own = np.take_along_axis(scores, target[:, None], axis=1)
    return (scores >= own).sum(axis=1) <= k


def average_precision(
    scores: Float[np.ndarray, " clips"], truth: Bool[np.ndarray, " truths"], weights: Weights | None = None
) -> Float[np.ndarray, " draws"]:
    """Area under the curve of precision over recall: Σ (R_n - R_{n-1}) P_n over the different scores.

    Clips of equal score are taken together, so that their order does not matter.

    Args:
        scores: (N,), finite. Larger is likelier.
        truth: (N,), whether the clip has the class.
        weights: (draws, N), at least 0; how often each clip counts. None counts each once.

    Returns:
        (draws,), from 0 to 1; NaN where no clip of positive weight has the class.

    Raises:
        ShapeError: Lengths do not fit.
        NonFiniteError: A score is NaN or infinite.

    Source:
        Buckley and Voorhees 2000; the arithmetic of `sklearn.metrics.average_precision_score`, AudioSet's measure
        (Gemmeke et al. 2017).

    Example:
        >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True])).round(4)
        array([0.8333])
    """
    hits, seen = _cumulated(scores, truth, weights)
    gained = np.diff(hits, axis=1, prepend=0.0)
    precision = hits / np.maximum(seen, 1e-300)
    return _or_nan((gained * precision).sum(axis=1) / np.maximum(hits[:, -1], 1e-300), hits[:, -1])


def eleven_point_average_precision(
    scores: Float[np.ndarray, " clips"], truth: Bool[np.ndarray, " truths"]
) -> Float[np.ndarray, " draws"]:
    """Mean over recalls 0, 0.1 … 1 of the best precision at that recall or more.

    Args:
        scores: (N,), finite. Larger is likelier.
        truth: (N,), whether the clip has the class.

    Returns:
        (1,), from 0 to 1; NaN where no clip has the class.

    Raises:
        ShapeError: Lengths do not fit.
        NonFiniteError: A score is NaN or infinite.

    Source:
        Everingham et al. 2010 (The PASCAL VOC challenge), section 4.2: the measure of VOC 2007.

    Example:
        >>> eleven_point_average_precision(np.array([2.0, 1.0]), np.array([False, True]))
        array([0.5])
    """
    hits, seen = (line[0] for line in _cumulated(scores, truth, None))
    if hits[-1] == 0:
        return np.array([np.nan])
    recall, precision = hits / hits[-1], hits / seen
    best = [precision[recall >= level - 1e-12].max() for level in LEVELS_OF_RECALL]
    return np.array([np.mean(best)])


def area_under_roc(
    scores: Float[np.ndarray, " clips"], truth: Bool[np.ndarray, " truths"], weights: Weights | None = None
) -> Float[np.ndarray, " draws"]:
    """Chance that a clip with the class scores higher than one without it; a tie counts half.

    Args:
        scores: (N,), finite. Larger is likelier.
        truth: (N,), whether the clip has the class.
        weights: As for `average_precision`.

    Returns:
        (draws,), from 0 to 1, 0.5 at chance; NaN where all clips or none have the class.

    Raises:
        ShapeError: Lengths do not fit.
        NonFiniteError: A score is NaN or infinite.

    Source:
        Hanley and McNeil 1982, Radiology 143, 29-36.

    Example:
        >>> area_under_roc(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
        array([0.5])
    """
    hits, seen = _cumulated(scores, truth, weights)
    misses = seen - hits
    over = misses[:, -1:] - (misses + np.concatenate([np.zeros((len(misses), 1)), misses[:, :-1]], axis=1)) / 2
    won = (np.diff(hits, axis=1, prepend=0.0) * over).sum(axis=1)
    pairs = hits[:, -1] * misses[:, -1]
    return _or_nan(won / np.maximum(pairs, 1e-300), pairs)


def d_prime(area: float) -> float:
    """Distance of two normal distributions of variance 1 that an area under the ROC curve stands for: √2 Φ⁻¹(AUC).

    Args:
        area: From 0 to 1.

    Returns:
        0 at chance, below 0 under it; infinite at 0 and 1.

    Raises:
        ConfigError: `area` outside [0, 1].

    Source:
        Gemmeke et al. 2017 (Audio Set), section 4; Simpson and Fitter 1973.

    Example:
        >>> round(d_prime(0.959), 2)
        2.46
    """
    if not 0 <= area <= 1:
        raise ConfigError(f"an area under the ROC curve lies between 0 and 1, got {area}")
    return math.sqrt(2) * float(stats.norm.ppf(area))


def mean_over_classes(
    scores: Float[np.ndarray, "clips classes"], truth: Bool[np.ndarray, "truths labels"], weights: Weights | None = None
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Mean average precision and mean area under the ROC curve over the classes that can be told.

    Args:
        scores: (N, C), finite. Larger is likelier.
        truth: (N, C), which clip has which class; a clip may have several, or none.
        weights: As for `average_precision`.

    Returns:
        Two arrays (draws,). A class that no clip has, or all have, is left out, in each draw by itself; NaN where none
        is left.

    Raises:
        ShapeError: The two differ in shape.
        NonFiniteError: A score is NaN or infinite.

    Source:
        Gemmeke et al. 2017: both are means over classes, and d' is that of the mean area.

    Example:
        >>> [float(mean[0]) for mean in mean_over_classes(np.eye(2), np.eye(2, dtype=bool))]
        [1.0, 1.0]
    """
    if scores.shape != truth.shape:
        raise ShapeError(f"scores are {scores.shape} but truth is {truth.shape}")
    counted = np.ones((1, len(truth))) if weights is None else weights
    total, sums = counted.sum(axis=1), np.zeros((3, len(counted)))
    for number in range(scores.shape[1]):
        own = counted @ truth[:, number]
        told = (own > 0) & (own < total)
        precision = average_precision(scores[:, number], truth[:, number], counted)
        area = area_under_roc(scores[:, number], truth[:, number], counted)
        sums += np.stack([np.where(told, precision, 0), np.where(told, area, 0), told])
    return _or_nan(sums[0] / np.maximum(sums[2], 1), sums[2]), _or_nan(sums[1] / np.maximum(sums[2], 1), sums[2])


def _cumulated(scores: np.ndarray, truth: np.ndarray, weights: Weights | None) -> tuple[np.ndarray, np.ndarray]:
    """(draws, different scores), from the highest score down: weight of the true clips so far, and of all."""
    if len(scores) != len(truth):
        raise ShapeError(f"{len(scores)} scores but {len(truth)} truth values")
    _check_finite(scores)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, len(scores) > 0))
    counted = np.ones((1, len(scores))) if weights is None else weights[:, order]
    return np.cumsum(counted * truth[order], axis=1)[:, last], np.cumsum(counted, axis=1)[:, last]


def _or_nan(values: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Values where something stands behind them."""
    return np.where(base > 0, values, np.nan)


def _check_finite(scores: np.ndarray) -> None:
    """Raise when a score is no number."""
    if not np.isfinite(scores).all():
        raise NonFiniteError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
