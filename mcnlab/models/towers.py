"""What stands between one modality's input and its embedding: gates, pooling over words."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional


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
        >>> import torch
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


class RowNorm(nn.BatchNorm1d):
    """Batch normalization of rows that also takes a batch of one row, which it treats as in evaluation.

    Where modalities are missing, a batch may hold a single row of one; PyTorch's own refuses it.
    """

    def forward(self, input: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """Rows with mean 0 and variance 1 over the batch, then scaled and shifted."""
        if self.training and len(input) < 2:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(input)


class MlpHead(nn.Sequential):
    """Linear, batch norm, ReLU, linear, batch norm.

    Args:
        in_dim: width of the input, and of the hidden layer.
        out_dim: width of the output.

    Source: Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 3.2: the head of video into the fine space.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(
            nn.Linear(in_dim, in_dim), RowNorm(in_dim), nn.ReLU(), nn.Linear(in_dim, out_dim), RowNorm(out_dim)
        )


class CoarseMap(nn.Sequential):
    """ReLU, linear, batch norm: what leads from a fine space on to a coarse one.

    Args:
        in_dim: width of the fine space.
        out_dim: width of the coarse space.

    Source: Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 3.2.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(nn.ReLU(), nn.Linear(in_dim, out_dim), RowNorm(out_dim))


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
