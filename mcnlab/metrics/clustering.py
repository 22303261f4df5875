"""Clusters against labels: how pure they are, and how much they tell about each other."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.optimize import linear_sum_assignment
from sklearn import metrics as sklearn_metrics

from mcnlab.errors import ShapeError


def cluster_purity(assignment: Shaped[Any, " assignments"], labels: Shaped[Any, " labels"]) -> float:
    """Share of clips that carry the most frequent label of their cluster.

    Args:
        assignment: (N,), cluster of each clip: integers or strings; N >= 1.
        labels: (N,), class of each clip: integers or strings.

    Returns:
        From 1/classes (or above) to 1, higher is purer. Grows with the number of clusters, 1 when each clip is alone:
        compare only at equal numbers of clusters.

    Raises:
        ShapeError: Not one label per clip, or no clips.

    Source:
        (1/N) * sum over clusters of the largest class count. Manning et al. 2008, Introduction to Information
        Retrieval, section 16.3.

    Example:
        >>> cluster_purity(np.array([0, 0, 1, 1]), np.array(["cat", "cat", "cat", "dog"]))
        0.75
    """
    counts = contingency(assignment, labels)
    return float(counts.max(axis=1).sum() / counts.sum())


def normalized_mutual_information(assignment: Shaped[Any, " assignments"], labels: Shaped[Any, " labels"]) -> float:
    """Mutual information of clusters and labels over the arithmetic mean of their entropies.

    Args:
        assignment: (N,), cluster of each clip; N >= 1.
        labels: (N,), class of each clip.

    Returns:
        From 0 (independent) to 1 (the same partition). Not corrected for chance.

    Raises:
        ShapeError: Not one label per clip, or no clips.

    Source:
        scikit-learn's `normalized_mutual_info_score`.

    Example:
        >>> normalized_mutual_information(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
        1.0
    """
    clusters, classes = _both(assignment, labels)
    return float(sklearn_metrics.normalized_mutual_info_score(classes, clusters, average_method="arithmetic"))


def adjusted_mutual_information(assignment: Shaped[Any, " assignments"], labels: Shaped[Any, " labels"]) -> float:
    """Mutual information above what chance gives, over the arithmetic mean of the entropies above the same.

    Args:
        assignment: (N,), cluster of each clip; N >= 1.
        labels: (N,), class of each clip.

    Returns:
        About 0 by chance, 1 for the same partition; can be slightly negative.

    Raises:
        ShapeError: Not one label per clip, or no clips.

    Source:
        scikit-learn's `adjusted_mutual_info_score`.

    Example:
        >>> adjusted_mutual_information(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
        1.0
    """
    clusters, classes = _both(assignment, labels)
    return float(sklearn_metrics.adjusted_mutual_info_score(classes, clusters, average_method="arithmetic"))


def adjusted_rand_index(assignment: Shaped[Any, " assignments"], labels: Shaped[Any, " labels"]) -> float:
    """Share of clip pairs on which clusters and labels agree, above chance.

    Args:
        assignment: (N,), cluster of each clip; N >= 1.
        labels: (N,), class of each clip.

    Returns:
        About 0 by chance, 1 for the same partition; can be negative.

    Raises:
        ShapeError: Not one label per clip, or no clips.

    Source:
        scikit-learn's `adjusted_rand_score`.

    Example:
        >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
        1.0
    """
    clusters, classes = _both(assignment, labels)
    return float(sklearn_metrics.adjusted_rand_score(classes, clusters))


def matched_accuracy(assignment: Shaped[Any, " assignments"], labels: Shaped[Any, " labels"]) -> float:
    """Accuracy when each cluster is given to one class, and each class to one cluster, as well as possible.

    Args:
        assignment: (N,), cluster of each clip; N >= 1.
        labels: (N,), class of each clip.

    Returns:
        From above 0 to 1. Clips of a cluster or class without a partner count as wrong.

    Raises:
        ShapeError: Not one label per clip, or no clips.

    Source:
        Hungarian matching as in Asano et al. 2020, arXiv 2006.13662 (SeLaVi).

    Example:
        >>> matched_accuracy(np.array([0, 0, 1, 1]), np.array(["cat", "cat", "cat", "dog"]))
        0.75
    """
    counts = contingency(assignment, labels)
    matched = linear_sum_assignment(counts, maximize=True)
    return float(counts[matched].sum() / counts.sum())


def mean_cluster_entropy(assignment: Shaped[Any, " assignments"], labels: Shaped[Any, " labels"]) -> float:
    """Entropy of the labels within a cluster, mean over clusters, large and small alike.

    Args:
        assignment: (N,), cluster of each clip; N >= 1. Clusters without clips do not count.
        labels: (N,), class of each clip.

    Returns:
        Nats, from 0 (every cluster has one class) to log(classes).

    Raises:
        ShapeError: Not one label per clip, or no clips.

    Source:
        Asano et al. 2020, arXiv 2006.13662, released code.

    Example:
        >>> round(mean_cluster_entropy(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])), 4)
        0.3466
    """
    shares = _label_shares(assignment, labels)
    surprise = -np.log(np.where(shares > 0, shares, 1.0))
    return float((shares * surprise).sum(axis=1).mean())


def mean_cluster_purity(assignment: Shaped[Any, " assignments"], labels: Shaped[Any, " labels"]) -> float:
    """Share of the most frequent label within a cluster, mean over clusters, large and small alike.

    Args:
        assignment: (N,), cluster of each clip; N >= 1. Clusters without clips do not count.
        labels: (N,), class of each clip.

    Returns:
        From 1/classes to 1. Unlike `cluster_purity`, which weighs a cluster by its clips.

    Raises:
        ShapeError: Not one label per clip, or no clips.

    Source:
        Asano et al. 2020, arXiv 2006.13662, released code ("mean max purity").

    Example:
        >>> mean_cluster_purity(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1]))
        1.0
    """
    return float(_label_shares(assignment, labels).max(axis=1).mean())


def contingency(
    assignment: Shaped[Any, " assignments"], labels: Shaped[Any, " labels"]
) -> Int[np.ndarray, "clusters classes"]:
    """How many clips of each class each cluster holds.

    Args:
        assignment: (N,), cluster of each clip; N >= 1.
        labels: (N,), class of each clip.

    Returns:
        (clusters that occur, classes that occur), int64, both in sorted order.

    Raises:
        ShapeError: Not one label per clip, or no clips.

    Source:
        scikit-learn's `contingency_matrix`.

    Example:
        >>> contingency(np.array([0, 0, 1]), np.array(["a", "b", "b"]))
        array([[1, 1],
               [0, 1]])
    """
    clusters, classes = _both(assignment, labels)
    return sklearn_metrics.cluster.contingency_matrix(clusters, classes)


def _label_shares(assignment: Any, labels: Any) -> Float[np.ndarray, "clusters classes"]:
    """Distribution of the labels within each cluster."""
    counts = contingency(assignment, labels)
    return counts / counts.sum(axis=1, keepdims=True)


def _both(assignment: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as class numbers, one per clip."""
    if len(assignment) != len(labels):
        raise ShapeError(f"{len(assignment)} assigned clips but {len(labels)} labels")
    if len(assignment) == 0:
        raise ShapeError("clusters need at least one clip, got 0")
    return _numbers(assignment), _numbers(labels)


def _numbers(values: Any) -> np.ndarray:
    """Class numbers in sorted order of the values, so that scikit-learn does not guess a type of target."""
    return np.unique(np.asarray(values), return_inverse=True)[1]
