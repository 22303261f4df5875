"""How much every place of a picture is like a sound, and what such attention sees."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mcnlab.errors import ShapeError
from mcnlab.numerics import l2_normalize

FLATTEST = 1e-6
"""A map whose values differ by less counts as one of equal values."""


def similarity_map(
    features: Float[Tensor, "rows dim height width"], sound: Float[Tensor, "sounds dim"]
) -> Float[Tensor, "rows height width"]:
    """Cosine of every place's features with the sound of the same row.

    Args:
        features: (rows, dim, height, width).
        sound: (rows, dim).

    Returns:
        (rows, height, width), -1 to 1.

    Raises:
        ShapeError: there is not one sound per picture.
    """
    if len(features) != len(sound):
        raise ShapeError(f"{len(features)} pictures but {len(sound)} sounds")
    places = l2_normalize(features.movedim(1, -1))  # (rows, height, width, dim)
    return (places * l2_normalize(sound)[:, None, None]).sum(dim=-1)


def attention_map(similarity: Float[Tensor, "rows height width"]) -> Float[Tensor, "rows height width"]:
    """Each map stretched from 0 to 1; one of equal values becomes 0.

    Args:
        similarity: (rows, height, width).

    Returns:
        The same shape.
    """
    low, high = similarity.amin(dim=(1, 2), keepdim=True), similarity.amax(dim=(1, 2), keepdim=True)
    return (similarity - low) / (high - low).clamp_min(FLATTEST)


def averaged(features: Float[Tensor, "rows dim height width"], window: int) -> Float[Tensor, "rows dim height width"]:
    """Every place as the mean of the square around it, as far as that lies in the picture.

    Args:
        features: (rows, dim, height, width).
        window: side of the square in cells, odd; 1 changes nothing.

    Returns:
        The same shape.
    """
    if window == 1:
        return features
    return functional.avg_pool2d(features, window, 1, window // 2, count_include_pad=False)


def attended(
    features: Float[Tensor, "rows dim height width"], attention: Float[Tensor, "rows height width"]
) -> Float[Tensor, "rows dim"]:
    """The weighted sum of all places' features: what the sound selects of the picture.

    Args:
        features: (rows, dim, height, width).
        attention: (rows, height, width).

    Returns:
        (rows, dim).

    Source: SSPL (Song et al., CVPR 2022), arXiv 2203.13412, equations 1 to 3.
    """
    return (features * attention[:, None]).sum(dim=(2, 3))
