"""How well clips of a class are found among those of others, and whether classes lie as language says."""

from collections.abc import Sequence
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int

from mcnlab.errors import ConfigError, ShapeError


def class_hits(
    embeddings: Float[np.ndarray, "clips dim"], labels: Int[np.ndarray, " labels"], *, ks: Sequence[int] = (1, 2, 4, 8)
) -> dict[int, Bool[np.ndarray, " clips"]]:
    """For each clip whether one of its K nearest others is of its class; the mean is R@K.

    Args:
        embeddings: (clips, dim), finite. Any length; compared by cosine. Equal scores count in the order of the clips.
        labels: (clips,), int. Class of each clip.
        ks: how many neighbors may be looked at, each at least 1.

    Returns:
        By K: (clips,), bool.

    Raises:
        ShapeError: not one label per clip, or fewer than two clips.
        ConfigError: a K below 1.

    Source: Roth, Vinyals, Akata (CVPR 2022), arXiv 2203.08543, section 4.1.
    """
    if min(ks) < 1:
        raise ConfigError(f"ks must be at least 1, got {min(ks)}")
    right = _ranked_hits(embeddings, labels)
    return {k: np.any(right[:, :k], axis=1) for k in ks}


def chance_of_class(labels: Int[np.ndarray, " clips"], k: int) -> float:
    """R@K of neighbors drawn at random among the other clips.

    Args:
        labels: (clips,), int.
        k: how many neighbors may be looked at.

    Returns:
        From 0 to 1.

    Example:
        >>> round(chance_of_class(np.array([0, 0, 1, 1]), 1), 3)
        0.333
    """
    others = len(labels) - 1
    own = {one: int((labels == one).sum()) - 1 for one in np.unique(labels)}
    seen = min(k, others)
    return float(np.mean([1.0 - comb(others - own[one], seen) / comb(others, seen) for one in labels]))


def average_precision_at_r(
    embeddings: Float[np.ndarray, "clips dim"], labels: Int[np.ndarray, " labels"]
) -> Float[np.ndarray, " clips"]:
    """For each clip: precision at every hit among its R nearest others, R being how many others its class has, over R.

    Args:
        embeddings: (clips, dim), finite. Compared by cosine.
        labels: (clips,), int.

    Returns:
        (clips,), from 0 to 1; the mean is mAP@R. NaN for the only clip of a class.

    Raises:
        ShapeError: not one label per clip, or fewer than two clips.

    Source: Musgrave, Belongie, Lim (ECCV 2020), arXiv 2003.08505, equation 2.
    """
    right = _ranked_hits(embeddings, labels)
    own = (labels[:, None] == labels[None]).sum(axis=1) - 1  # (clips,)
    inside = right & (np.arange(right.shape[1]) < own[:, None])
    precision = inside.cumsum(axis=1) / np.arange(1, right.shape[1] + 1)
    return (precision * inside).sum(axis=1) / np.where(own > 0, own, np.nan)


def class_similarities(
    embeddings: Float[np.ndarray, "clips dim"], labels: Int[np.ndarray, " labels"]
) -> Float[np.ndarray, "classes classes"]:
    """Cosine of the mean unit embeddings of every two classes, in the order of their numbers.

    Raises:
        ShapeError: not one label per clip.
    """
    if len(labels) != len(embeddings):
        raise ShapeError(f"{len(embeddings)} embeddings but {len(labels)} labels")
    unit = _unit(embeddings)
    means = _unit(np.stack([unit[labels == one].mean(axis=0) for one in np.unique(labels)]))
    return means @ means.T


def agreement(first: Float[np.ndarray, "classes classes"], second: Float[np.ndarray, "others others"]) -> float:
    """Spearman's correlation of two tables of similarities, each pair of classes once.

    Args:
        first: (classes, classes), symmetric.
        second: the same classes in the same order.

    Returns:
        From -1 to 1; NaN where one of them says the same of all pairs.

    Raises:
        ShapeError: the tables differ in size, or there are fewer than three classes.

    Example:
        >>> table = np.array([[1.0, 0.2, 0.1], [0.2, 1.0, 0.5], [0.1, 0.5, 1.0]])
        >>> round(agreement(table, table**3), 6)
        1.0
    """
    from scipy.stats import rankdata  # late: a second of start-up

    if first.shape != second.shape or len(first) < 3:
        raise ShapeError(f"expected two tables of the same three classes or more, got {first.shape} and {second.shape}")
    above = np.triu_indices(len(first), 1)
    one, other = (rankdata(table[above]) for table in (first, second))
    if one.std() == 0 or other.std() == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _ranked_hits(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(clips, clips - 1), bool: whether each clip's neighbors, nearest first, are of its class."""
    if len(labels) != len(embeddings):
        raise ShapeError(f"{len(embeddings)} embeddings but {len(labels)} labels")
    if len(labels) < 2:
        raise ShapeError(f"a neighbor needs two clips or more, got {len(labels)}")
    unit = _unit(embeddings)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :-1]
    return labels[order] == labels[:, None]


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
