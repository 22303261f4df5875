"""Losses that pull true pairs together: matrices in, a scalar out, always computed in at least float32."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor

from mcnlab.errors import ConfigError, ShapeError
from mcnlab.numerics import l2_normalize

Temperature = float | Float[Tensor, ""]
"""What divides cosines: a number, which is checked, or a tensor that is learned, which the caller keeps above 0."""


def masked_margin_softmax(similarity: Float[Tensor, "first second"], *, margin: float = 0.001) -> Float[Tensor, ""]:
    """Cross-entropy of the true pair in both directions, after the true pair has paid a margin.

    With S' = S - margin * I: mean_i [lse_j S'_ij - S'_ii] + mean_j [lse_i S'_ij - S'_jj].

    Args:
        similarity: (B, B), any float type, B >= 1. True pairs on the diagonal; larger is closer; any range.
            Half precision is widened to float32 first. `-inf` off the diagonal leaves that pair out.
        margin: What is taken from the true pairs' scores. Not negative.

    Returns:
        (), float32 or float64. Nats; `2 * log(B)` when all scores are equal and the margin is 0. NaN when a score is
        `+inf` or NaN, or `-inf` on the diagonal: a caller has to notice, and hiding it would be worse.

    Raises:
        ShapeError: `similarity` is not square, or empty.
        ConfigError: `margin` is negative or not finite.

    Source:
        Ilharco et al. 2019, arXiv 1909.08782; with a constant margin as in Chen et al. 2021, arXiv 2104.12671, eq. 3.

    Example:
        >>> masked_margin_softmax(torch.zeros(1, 1))
        tensor(0.)
    """
    _check_square(similarity)
    _check_margin(margin)
    scores = _widened(similarity)
    scores = scores - margin * torch.eye(len(scores), dtype=scores.dtype, device=scores.device)
    return _cross_entropy_of_diagonal(scores) + _cross_entropy_of_diagonal(scores.T)


def info_nce(
    x: Float[Tensor, "first width"], y: Float[Tensor, "second other_width"], *, temperature: Temperature
) -> Float[Tensor, ""]:
    """Cross-entropy of the true pair among all pairs of the batch by cosine, mean of both directions.

    Args:
        x: (B, D), any float type, B >= 1. Not necessarily of unit length.
        y: (B, D). Row i belongs to row i of `x`.
        temperature: Divides the cosines. Above 0.

    Returns:
        (), float32 or float64. Nats; `log(B)` when nothing is learned.

    Raises:
        ShapeError: `x` and `y` differ in shape, or are empty.
        ConfigError: `temperature` is not above 0.

    Source:
        van den Oord et al. 2018, arXiv 1807.03748, eq. 4, in the two-directional form of Radford et al. 2021,
        arXiv 2103.00020. Cosines and sums are float32 even under autocast.

    Example:
        >>> info_nce(torch.eye(2), torch.eye(2), temperature=1.0)
        tensor(0.3133)
    """
    if x.shape != y.shape:
        raise ShapeError(f"x is {tuple(x.shape)} but y is {tuple(y.shape)}")
    scores = _scores(x, y, temperature)  # (B, B)
    _check_square(scores)
    return 0.5 * (_cross_entropy_of_diagonal(scores) + _cross_entropy_of_diagonal(scores.T))


def mil_nce(
    video: Float[Tensor, "clips width"],
    text: Float[Tensor, "candidates other_width"],
    *,
    temperature: Temperature | None = None,
    present: Bool[Tensor, " flags"] | None = None,
) -> Float[Tensor, ""]:
    """Noise contrast where each clip has several candidate captions, any of which may be the right one.

    With x_ijc the score of clip i and the c-th candidate of clip j:
    mean_i [lse over {x_ijc, x_jic : all j, c} - lse_c x_iic]. One denominator holds both directions, so that the
    true pairs stand in it twice and the loss is at least log 2.

    Args:
        video: (B, D), any float type, B >= 1.
        text: (B*C, D). The C candidates of clip 0, then those of clip 1, and so on.
        temperature: None: raw dot products. Else cosines divided by this; above 0.
        present: None (all there), (B,) whether a clip has text, or (B*C,) whether a candidate is there. Absent
            candidates have no weight in any denominator and get a gradient of exactly 0, whatever their rows hold; a
            clip without text still serves as a negative video; the mean is over the clips that have text.

    Returns:
        (), float32 or float64. Nats. 0 when no clip has text.

    Raises:
        ShapeError: Rows of `text` are not a multiple of the clips, widths differ, or `present` fits neither.
        ConfigError: `temperature` is not above 0.

    Source:
        Miech et al. 2020, arXiv 1912.06430, eq. 1, with the doubled positive of the released code; missing text
        as in Alayrac et al. 2020, arXiv 2006.16228. The released code masks by multiplication, which turns infinite
        scores into NaN; here absent rows are set to zero before and to -inf after the product.

    Example:
        >>> mil_nce(torch.ones(1, 2), torch.ones(3, 2))
        tensor(0.6931)
    """
    scores, has_text = _candidate_scores(video, text, temperature, present)
    if not bool(has_text.any()):
        return 0.0 * scores.nan_to_num(neginf=0.0).sum()
    as_video, as_text, own = _both_sides(scores, has_text)
    everything = torch.cat((as_video, as_text), dim=1).logsumexp(dim=1)
    return (everything - own).mean()


def symmetric_mil_nce(
    video: Float[Tensor, "clips width"],
    text: Float[Tensor, "candidates other_width"],
    *,
    temperature: Temperature | None = None,
    present: Bool[Tensor, " flags"] | None = None,
) -> Float[Tensor, ""]:
    """`mil_nce` with a denominator for each direction, in each of which the true pairs stand once.

    mean_i [lse_jc x_ijc + lse_jc x_jic - 2 lse_c x_iic].

    Args:
        video: (B, D), any float type, B >= 1.
        text: (B*C, D). The C candidates of clip 0, then those of clip 1, and so on.
        temperature: None: raw dot products. Else cosines divided by this; above 0.
        present: as in `mil_nce`.

    Returns:
        (), float32 or float64. Nats; both directions summed, so `2 * log(B)` for equal scores and one candidate. 0
        when no clip has text.

    Raises:
        ShapeError: Rows of `text` are not a multiple of the clips, widths differ, or `present` fits neither.
        ConfigError: `temperature` is not above 0.

    Source:
        The symmetric variant of VATT's release (Akbari et al. 2021, arXiv 2104.11178), which cites Alayrac et al.
        2020, arXiv 2006.16228.

    Example:
        >>> symmetric_mil_nce(torch.ones(1, 2), torch.ones(3, 2))
        tensor(0.)
    """
    scores, has_text = _candidate_scores(video, text, temperature, present)
    if not bool(has_text.any()):
        return 0.0 * scores.nan_to_num(neginf=0.0).sum()
    as_video, as_text, own = _both_sides(scores, has_text)
    return (as_video.logsumexp(dim=1) + as_text.logsumexp(dim=1) - 2.0 * own).mean()


def _candidate_scores(
    video: Tensor, text: Tensor, temperature: Temperature | None, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(clip, clip of the candidate, candidate) scores, -inf where a candidate is absent; (clips,) who has any."""
    clips, per_clip = len(video), _candidates_per_clip(video, text)
    there = _candidates_present(present, clips, per_clip, device=text.device)  # (B, C)
    text = torch.where(there.reshape(-1, 1), text, torch.zeros_like(text))
    scores = _scores(video, text, temperature).reshape(clips, clips, per_clip)
    return scores.masked_fill(~there, -math.inf), there.any(dim=1)


def _both_sides(scores: Tensor, has_text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the clips with text: all their scores as a video, all as a text, and the log-sum of their own candidates."""
    as_video = scores[has_text].flatten(1)  # (present, B*C): this clip against all captions
    as_text = scores.transpose(0, 1)[has_text].flatten(1)  # (present, B*C): its captions against all clips
    return as_video, as_text, scores.diagonal().T[has_text].logsumexp(dim=1)


def max_margin_ranking(
    similarity: Float[Tensor, "first second"],
    *,
    margin: float = 0.1,
    clips_per_video: int = 1,
    hard_negative_rate: float | None = None,
) -> Float[Tensor, ""]:
    """How far wrong pairs come within a margin of the true pair, mean over all cells and summed over both directions.

    mean_ij w_ij [relu(m + S_ij - S_ii) + relu(m + S_ij - S_jj)]; the diagonal is counted too and adds 2m/B.

    Args:
        similarity: (B, B), any float type, B >= 1. True pairs on the diagonal; larger is closer.
        margin: In units of the score. Not negative.
        clips_per_video: Clips of one video stand in consecutive rows; they are the hard negatives of each other.
        hard_negative_rate: None: all negatives weigh 1. Else the share of weight, above 0 and at most 1, that falls on
            negatives from the same video.

    Returns:
        (), float32 or float64. In units of the score.

    Raises:
        ShapeError: `similarity` is not square, empty, or not a whole number of videos.
        ConfigError: `margin` or `hard_negative_rate` out of range.

    Source:
        Miech et al. 2019, arXiv 1906.03327, eq. 2, with the weights of the released code. With a single video the
        released weights divide by zero; here they are `hard_negative_rate` everywhere.

    Example:
        >>> max_margin_ranking(torch.zeros(2, 2), margin=0.5)
        tensor(1.)
    """
    _check_square(similarity)
    _check_margin(margin)
    scores = _widened(similarity)
    true_score = scores.diagonal()
    violation = F.relu(margin + scores - true_score[:, None]) + F.relu(margin + scores - true_score[None, :])
    if hard_negative_rate is None:
        return violation.mean()
    return (violation * _pair_weights(scores, clips_per_video, hard_negative_rate)).mean()


def _pair_weights(scores: Tensor, clips_per_video: int, hard_negative_rate: float) -> Tensor:
    """(B, B) weights that put `hard_negative_rate` of the weight on pairs within a video."""
    if not 0.0 < hard_negative_rate <= 1.0:
        raise ConfigError(f"hard_negative_rate must be above 0 and at most 1, got {hard_negative_rate}")
    if clips_per_video < 1 or len(scores) % clips_per_video:
        raise ShapeError(f"{len(scores)} clips cannot be split into videos of {clips_per_video}")
    videos = len(scores) // clips_per_video
    across = (1.0 - hard_negative_rate) / ((videos - 1) * hard_negative_rate) if videos > 1 else 0.0
    of_video = torch.arange(len(scores), device=scores.device) // clips_per_video
    within = of_video[:, None] == of_video[None, :]
    weights = torch.where(within, 1.0, across) * (videos * hard_negative_rate)
    return weights.to(scores.dtype)


def _cross_entropy_of_diagonal(scores: Tensor) -> Tensor:
    """mean_i [lse_j S_ij - S_ii], in the log domain."""
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def check_temperature(temperature: Temperature) -> None:
    """Refuse a number that cannot divide cosines; a tensor is not looked at, since that would wait for the device.

    Args:
        temperature: what divides cosines.

    Raises:
        ConfigError: it is a number that is not above 0, or not finite.
    """
    if not isinstance(temperature, Tensor) and not (temperature > 0.0 and math.isfinite(temperature)):
        raise ConfigError(f"temperature must be above 0, got {temperature}")


def _scores(x: Tensor, y: Tensor, temperature: Temperature | None) -> Tensor:
    """Dot products, or cosines over the temperature, in full precision even under autocast."""
    if temperature is not None:
        check_temperature(temperature)
    with torch.autocast(device_type=x.device.type, enabled=False):
        x, y = _widened(x), _widened(y)
        if temperature is None:
            return x @ y.T
        return l2_normalize(x) @ l2_normalize(y).T / temperature


def _widened(x: Tensor) -> Tensor:
    """The same values in float32, or in float64 where they came so."""
    return x if x.dtype == torch.float64 else x.float()


def _candidates_per_clip(video: Tensor, text: Tensor) -> int:
    """How many rows of text belong to each clip."""
    if video.shape[1] != text.shape[1]:
        raise ShapeError(f"video is {video.shape[1]} wide but text is {text.shape[1]} wide")
    if len(video) == 0 or len(text) == 0 or len(text) % len(video):
        raise ShapeError(f"{len(text)} captions cannot be shared out evenly among {len(video)} clips")
    return len(text) // len(video)


def _candidates_present(present: Tensor | None, clips: int, per_clip: int, device: torch.device) -> Tensor:
    """(B, C) whether each candidate is there."""
    if present is None:
        return torch.ones(clips, per_clip, dtype=torch.bool, device=device)
    if len(present) == clips * per_clip:
        return present.reshape(clips, per_clip)
    if len(present) == clips:
        return present[:, None].expand(clips, per_clip)
    raise ShapeError(f"present has {len(present)} entries, expected {clips} (clips) or {clips * per_clip} (captions)")


def _check_square(similarity: Tensor) -> None:
    """Every row needs its true column, and there must be at least one."""
    rows, columns = similarity.shape
    if rows != columns or rows == 0:
        raise ShapeError(f"similarity must be square with at least one pair, got {rows} x {columns}")


def _check_margin(margin: float) -> None:
    """A negative margin would reward the true pair for nothing."""
    if not (margin >= 0.0 and math.isfinite(margin)):
        raise ConfigError(f"margin must not be negative, got {margin}")
