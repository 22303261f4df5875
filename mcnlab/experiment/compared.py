"""How modalities are compared in a graph: two arrays whose dot product is the score."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from mcnlab.errors import ConfigError
from mcnlab.models.graph import Graph

Arrays = Mapping[tuple[str, str], np.ndarray]
"""By (modality, space): (clips, dim); rows of NaN where the clip lacks the modality."""


def compared_arrays(
    graph: Graph, arrays: Arrays, query: Sequence[str], gallery: Sequence[str]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Two arrays whose dot product is the sum of the scores of all (query, gallery) modalities; None without a space.

    A clip that lacks one of two modalities is scored by the other.
    """
    left, right = [], []
    for a, b in itertools.product(query, gallery):
        space = graph.common_space(a, b)
        if space is None:
            return None
        left.append((a, space))
        right.append((b, space))
    if len(set(left)) == 1 and len(query) == 1:  # one space: the sum of embeddings is all that is needed
        return arrays[left[0]], sum_of_present([arrays[key] for key in right])
    if len(set(right)) == 1 and len(gallery) == 1:
        return sum_of_present([arrays[key] for key in left]), arrays[right[0]]
    return side_by_side([arrays[key] for key in left]), side_by_side([arrays[key] for key in right])


def compared_or_refused(
    graph: Graph, arrays: Arrays, query: Sequence[str], gallery: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """As `compared_arrays`, where the graph gives a way.

    Raises:
        ConfigError: a modality has no tower here, or no space joins two of them; with the spaces where each arrives.
    """
    for modality in (*query, *gallery):
        if not graph.spaces_of(modality):
            known = ", ".join(dict.fromkeys(m for members in graph.members.values() for m in members))
            raise ConfigError(f"no space of the graph holds {modality!r}, only {known}")
    for a, b in itertools.product(query, gallery):
        if graph.common_space(a, b) is None:
            places = " and ".join(f"{m} is in {', '.join(graph.spaces_of(m))}" for m in (a, b))
            raise ConfigError(f"the graph gives no way to compare {a} with {b}: {places}")
    compared = compared_arrays(graph, arrays, query, gallery)
    if compared is None:
        raise ConfigError("expected at least one modality on either side")
    return compared


def across_spaces(graph: Graph, arrays: Arrays, first: str, second: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Two modalities that no space joins, each in the first of its spaces: what chance looks like.

    Returns:
        Their arrays; None where a space joins them, or the widths differ.
    """
    if graph.common_space(first, second) is not None:
        return None
    x, y = arrays[first, graph.spaces_of(first)[0]], arrays[second, graph.spaces_of(second)[0]]
    return (x, y) if x.shape == y.shape else None


def sum_of_present(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Sum over the arrays, row by row, of those that are not NaN there; NaN where all are."""
    stacked = np.stack(arrays)
    gone = np.isnan(stacked[:, :, 0]).all(axis=0)
    total = np.where(np.isnan(stacked), 0, stacked).sum(axis=0)
    return np.where(gone[:, None], np.nan, total).astype(np.float32)


def side_by_side(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The arrays as one wide array; a part that is missing scores 0, a clip without any part is NaN."""
    gone = np.all([np.isnan(x[:, 0]) for x in arrays], axis=0)
    wide = np.concatenate([np.where(np.isnan(x), 0, x) for x in arrays], axis=1)
    return np.where(gone[:, None], np.nan, wide).astype(np.float32)
