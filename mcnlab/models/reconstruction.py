"""Decoders that give back from an embedding what went into its tower."""

from jaxtyping import Float
from torch import Tensor, nn


class Decoder(nn.Module):
    """Linear, ReLU, Linear, and a last ReLU where the target cannot be negative.

    Args:
        dim: width of the embedding.
        hidden: width between the two maps; published 1024.
        target_dim: width of what is reconstructed.
        last_relu: clamp the result at 0, as published.

    Source: MCN (Chen et al., 2021), arXiv 2104.12671, section 3.4. Difference in sound mode: no last ReLU where the
    target can be negative, since it could never be reached.
    """

    def __init__(self, dim: int, hidden: int, target_dim: int, *, last_relu: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden)
        self.outer = nn.Linear(hidden, target_dim)
        self.last: nn.Module = nn.ReLU() if last_relu else nn.Identity()

    def forward(self, embedding: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows target_dim"]:
        """The reconstruction."""
        return self.last(self.outer(self.inner(embedding).relu()))
