"""How far a reconstruction is from what it should give back."""

from jaxtyping import Float
from torch import Tensor

from mcnlab.errors import ShapeError


def reconstruction_error(
    reconstructed: Float[Tensor, "rows dim"], original: Float[Tensor, "targets target_dim"]
) -> Float[Tensor, " rows"]:
    """Mean squared error of every row, in float32 at least.

    Args:
        reconstructed: (rows, dim).
        original: (rows, dim).

    Returns:
        (rows,), at least 0.

    Raises:
        ShapeError: the two shapes differ.

    Source: MCN (Chen et al., 2021), arXiv 2104.12671, section 3.4, as in its release: the mean over components.
    """
    if reconstructed.shape != original.shape:
        raise ShapeError(f"reconstruction {tuple(reconstructed.shape)} but original {tuple(original.shape)}")
    difference = reconstructed - original
    wide = difference if difference.dtype.itemsize >= 4 else difference.float()
    return wide.square().mean(dim=1)
