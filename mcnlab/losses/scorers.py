"""How alike two things are where one of them has places: from a map and a vector to one similarity."""

import torch
from jaxtyping import Float
from torch import Tensor

from mcnlab.errors import ShapeError


def heat(
    maps: Float[Tensor, "clips places width"], vectors: Float[Tensor, "clips width"]
) -> Float[Tensor, "clips places"]:
    """How alike every place of a clip is to the vector of the same clip: their dot product.

    Args:
        maps: (B, P, D); of unit length for cosines.
        vectors: (B, D), alike.

    Returns:
        (B, P).
    """
    return torch.einsum("bpd,bd->bp", maps, vectors)


def peak_similarity(
    maps: Float[Tensor, "first places width"], vectors: Float[Tensor, "second other_width"]
) -> Float[Tensor, "first second"]:
    """How alike the place of every map that fits best is to every vector: S_ij = max_u ⟨map_iu, vector_j⟩.

    Args:
        maps: (B, P, D), P at least 1; of unit length for cosines.
        vectors: (C, D), alike.

    Returns:
        (B, C). Of several places that fit equally well one gets the gradient.

    Raises:
        ShapeError: widths differ, or there is no place.

    Source: Afouras et al. (CVPR 2022), arXiv 2104.06401, equation 1.

    Example:
        >>> peak_similarity(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[0.0, 2.0]]))
        tensor([[2.]])
    """
    if maps.shape[2] != vectors.shape[1]:
        raise ShapeError(f"places are {maps.shape[2]} wide but vectors are {vectors.shape[1]} wide")
    if maps.shape[1] == 0:
        raise ShapeError("a map needs at least one place")
    return torch.einsum("ipd,jd->ijp", maps, vectors).max(dim=2).values
