"""Cross-view prediction: what one modality's embedding says about another's features."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mcnlab.errors import ConfigError, ShapeError


def absolute_error(predicted: Float[Tensor, "rows dim"], target: Float[Tensor, "rows dim"]) -> Float[Tensor, ""]:
    """Mean absolute difference (L1).

    Args:
        predicted: (B, dim), B >= 1.
        target: (B, dim).

    Returns:
        (), float32 or float64, in units of the features.

    Source: the predictive baseline of CMC (Tian, Krishnan, Isola 2020), arXiv 1906.05849, section 3.1.
    """
    return (_widened(predicted) - _widened(target)).abs().mean()


def squared_error(predicted: Float[Tensor, "rows dim"], target: Float[Tensor, "rows dim"]) -> Float[Tensor, ""]:
    """Mean squared difference (L2).

    Args:
        predicted: (B, dim), B >= 1.
        target: (B, dim).

    Returns:
        (), float32 or float64, in squared units of the features.

    Source: as `absolute_error`.
    """
    return (_widened(predicted) - _widened(target)).square().mean()


def fitted_codebook(
    features: Float[Tensor, "rows dim"], *, codes: int, generator: torch.Generator, rounds: int = 10
) -> Float[Tensor, "codes dim"]:
    """Codebook of k-means by Euclidean distance, started at different rows drawn at random.

    Args:
        features: (rows, dim), on the CPU, at least as many rows as codes.
        codes: entries of the codebook, at least 1.
        generator: source of the draw.
        rounds: updates; an entry that no row is nearest to stays where it is.

    Returns:
        (codes, dim), in the dtype of the features.

    Raises:
        ConfigError: there are fewer rows than codes.
    """
    if not 1 <= codes <= len(features):
        raise ConfigError(f"a codebook of {codes} entries needs at least as many rows, got {len(features)}")
    book = features[torch.randperm(len(features), generator=generator)[:codes]]
    for _ in range(rounds):
        own = nearest_codes(features, book)
        counts = torch.bincount(own, minlength=codes)[:, None]
        sums = torch.zeros_like(book).index_add_(0, own, features)
        book = torch.where(counts > 0, sums / counts.clamp_min(1), book)
    return book


def nearest_codes(features: Float[Tensor, "rows dim"], codebook: Float[Tensor, "codes dim"]) -> Int[Tensor, " rows"]:
    """The entry of a codebook that is nearest to each row by Euclidean distance; the first wins a tie.

    Args:
        features: (B, dim).
        codebook: (codes, dim), at least one.

    Returns:
        (B,), int64.

    Raises:
        ShapeError: the codebook is empty.
    """
    if len(codebook) == 0:
        raise ShapeError("the codebook has no entries")
    book = codebook.to(features.dtype)
    return (features @ book.T - 0.5 * book.square().sum(dim=1)).argmax(dim=1)


def code_cross_entropy(logits: Float[Tensor, "rows codes"], codes: Int[Tensor, " coded"]) -> Float[Tensor, ""]:
    """Cross-entropy of the code that the other view's features were quantized to.

    Args:
        logits: (B, codes), any float dtype.
        codes: (B,), int64.

    Returns:
        (), nats; log(codes) when nothing is learned.

    Raises:
        ShapeError: not one code per row.
        ConfigError: a code is outside of the codebook.

    Source: as `absolute_error`; quantized as in colorization (Zhang, Isola, Efros 2016), arXiv 1603.08511.
    """
    if len(logits) != len(codes):
        raise ShapeError(f"{len(logits)} rows but {len(codes)} codes")
    if not ((codes >= 0) & (codes < logits.shape[1])).all():
        raise ConfigError(
            f"codes must be from 0 to {logits.shape[1] - 1}, got {int(codes.min())} to {int(codes.max())}"
        )
    return functional.cross_entropy(_widened(logits), codes)


def _widened(x: Tensor) -> Tensor:
    """The same values in float32, or in float64 where they came so."""
    return x if x.dtype == torch.float64 else x.float()
