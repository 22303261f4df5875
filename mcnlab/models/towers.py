"""What stands between one modality's input and its embedding: gates, pooling over words."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Gate(nn.Module):
    """Context gate: x ⊙ σ(Wx + b).

    Args:
        dim: width of the input, which is kept.

    Source: Miech, Laptev, Sivic (2017), arXiv 1706.06905, equation 4; as in MCN (2021), arXiv 2104.12671.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """The input, each of its components scaled by a number in (0, 1)."""
        return x * self.gate(x).sigmoid()


class GatedUnit(nn.Module):
    """Gated embedding unit: a linear map, then a gate. No normalization and no activation after.

    Args:
        in_dim: width of the input.
        out_dim: width of the output.

    Source: Miech, Laptev, Sivic (2018), arXiv 1804.02516, equation 3; without their L2 normalization, as in MCN (2021).

    Example:
        >>> GatedUnit(4096, 6144)(torch.zeros(2, 4096)).shape
        torch.Size([2, 6144])
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.gate = Gate(out_dim)

    def forward(self, x: Float[Tensor, "rows in_dim"]) -> Float[Tensor, "rows out_dim"]:
        """Rows of the new width."""
        return self.gate(self.linear(x))


class SentenceMaxPool(nn.Module):
    """Word vectors to one sentence vector: linear, ReLU, maximum over the words.

    A padding word is a zero vector and takes part as relu(b), as published; with `lengths` it is left out.

    Args:
        word_dim: width of a word vector.
        dim: width of the sentence vector.

    Source: MCN (Chen et al., 2021), arXiv 2104.12671, section 3.1, after Miech et al. (2019), arXiv 1906.03327.
    """

    def __init__(self, word_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(word_dim, dim)

    def forward(
        self, words: Float[Tensor, "rows words word_dim"], lengths: Int[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "rows dim"]:
        """The largest response to any word, per component; at least 0."""
        response = self.linear(words).relu()  # (rows, words, dim)
        if lengths is not None:
            response = response * real_positions(lengths, words.shape[1])[..., None]  # a ReLU is never below 0
        return response.max(dim=1).values  # one word gets the gradient, also among equal ones


def real_positions(lengths: Int[Tensor, " rows"], total: int) -> Bool[Tensor, "rows total"]:
    """Which positions of padded sequences are real.

    Args:
        lengths: (rows,), int64. Real positions in each row, at the front.
        total: padded length.

    Returns:
        (rows, total), bool.
    """
    return lengths.new_ones(total).cumsum(0) <= lengths[:, None]
