"""Retrieval when a video has several clips: any clip of the right video, or the video as a whole."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from scipy.stats import hypergeom
from torch import Tensor

from mcnlab.errors import ShapeError
from mcnlab.metrics.retrieval import score_blocks
from mcnlab.metrics.vectors import check_embeddings, distinct_rows


def ranks_by_video(
    queries: Tensor,
    gallery: Tensor,
    *,
    query_video: Int[np.ndarray, " query"],
    gallery_video: Int[np.ndarray, " candidate"],
    block: int | None = None,
) -> tuple[Int[np.ndarray, " query"], Int[np.ndarray, " query"]]:
    """Ranks of the right video, counted in clips and counted in videos, without ever holding all scores.

    Args:
        queries: (N, D), finite, N >= 1.
        gallery: (M, D), finite; one row per clip.
        query_video: (N,), number of the video that each query belongs to; it must have a clip in the gallery.
        gallery_video: (M,), number of each clip's video, from 0.
        block: queries scored at a time; as many as fit into 64 MiB of scores when None.

    Returns:
        (N,): rank of the best clip of the right video among it and all clips of other videos; and (N,): rank of the
        right video when a video scores as its best clip. Both from 1; ties count against us.

    Raises:
        ShapeError: sizes differ, or a query's video has no clip.
        NonFiniteError: an embedding or a score is not finite.

    Source: Miech et al. 2019 and Chen et al. 2021, the full-video variants of YouCook2: (i) caption to any clip of its
    video, (ii) per caption the maximum over a video's clips.

    Example:
        >>> clips = torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.0, 1.0]])
        >>> ranks_by_video(clips[:1], clips, query_video=np.array([1]), gallery_video=np.array([0, 1, 2]))
        (array([2]), array([2]))
    """
    check_embeddings(queries, gallery)
    if len(query_video) != len(queries) or len(gallery_video) != len(gallery):
        sizes = f"{len(queries)} queries and {len(gallery)} clips"
        raise ShapeError(f"{sizes}, but {len(query_video)} and {len(gallery_video)} videos")
    absent = np.setdiff1d(query_video, gallery_video)
    if len(absent):
        raise ShapeError(f"video {absent[0]} is asked for but has no clip in the gallery")
    wanted, of_clip = (torch.from_numpy(np.asarray(x)).to(queries.device) for x in (query_video, gallery_video))
    distinct, column, _ = distinct_rows(gallery)
    by_clip, by_video = [], []
    for rows, few in score_blocks(queries, distinct, block):
        scores = few[:, column]  # (block, M)
        own = wanted[rows, None] == of_clip[None, :]
        best = scores.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)  # (block, 1)
        by_clip.append(1 + ((scores >= best) & ~own).sum(dim=1))
        videos = torch.full((len(scores), int(of_clip.max()) + 1), -torch.inf, dtype=scores.dtype, device=scores.device)
        videos.scatter_reduce_(1, of_clip.expand(len(scores), -1), scores, reduce="amax")  # (block, videos)
        by_video.append((videos >= best).sum(dim=1))
    return torch.cat(by_clip).cpu().numpy(), torch.cat(by_video).cpu().numpy()


def chance_by_video(
    query_video: Int[np.ndarray, " query"], gallery_video: Int[np.ndarray, " candidate"], *, ks: Sequence[int]
) -> tuple[dict[int, float], dict[int, float]]:
    """Expected recall at k of both protocols when the clips are put in random order.

    Args:
        query_video: (N,), number of the video that each query belongs to.
        gallery_video: (M,), number of each clip's video, from 0.
        ks: places that still count as found.

    Returns:
        k -> share of queries, counted in clips; and counted in videos, which for videos with unequally many clips
        is that of videos in random order.

    Source: a query misses place k when the first k clips are all of other videos: hypergeometric.

    Example:
        >>> chance_by_video(np.array([0]), np.array([0, 0, 1, 1]), ks=(1,))
        ({1: 0.5}, {1: 0.5})
    """
    clips = np.bincount(gallery_video)[query_video]
    by_clip = {k: float(np.mean(1 - hypergeom.pmf(0, len(gallery_video), clips, k))) for k in ks}
    videos = len(np.unique(gallery_video))
    return by_clip, {k: min(k, videos) / videos for k in ks}
