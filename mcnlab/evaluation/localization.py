"""How well heat maps find what sounds: overlap and pointing, beside answers that look at nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from mcnlab.errors import DataError
from mcnlab.evaluation.places import SIDES
from mcnlab.evaluation.rows import ResultRow
from mcnlab.metrics.localization import (
    area_under_successes,
    box_mask,
    center_maps,
    consensus_iou,
    consensus_of_votes,
    pointing_hits,
    whole_image_iou,
)
from mcnlab.metrics.statistics import bootstrap_of_mean
from mcnlab.numerics import key_generator

TASK = "localization"
HEAT = "heat map"
"""Subject of the rows."""
SUCCESS = 0.5
"""A consensus IoU from which a map counts as right."""


@dataclass(frozen=True)
class Truths:
    """Where it sounds in some pictures."""

    masks: Float[np.ndarray, "clips height width"]
    """How sure one is of each pixel, 0 to 1."""
    clips: np.ndarray
    """(clips,): their places among all clips; those in which nothing in sight is known to sound are not there."""


def truths_of(boxes: pd.DataFrame, recordings: np.ndarray, times_s: np.ndarray, size: tuple[int, int]) -> Truths:
    """Where it sounds in the frames that some clips show.

    Several people's boxes are votes, one person's boxes are joined.

    Args:
        boxes: of a store, see `Store.boxes`.
        recordings: (clips,): rows of the store.
        times_s: (clips,): when each frame is shown, in seconds of the recording.
        size: height and width of the masks in pixels.

    Returns:
        The truth of the clips that have one.
    """
    sounding = boxes[boxes["sounding"] & boxes["left"].notna()]
    own = dict(tuple(sounding.groupby("recording")))
    scale = np.array([size[1], size[0], size[1], size[0]], dtype=np.float64)
    masks, chosen = [], []
    for clip, (recording, time_s) in enumerate(zip(recordings, times_s, strict=True)):
        there = own.get(recording, sounding.iloc[:0])
        there = there[(there["start_s"] <= time_s) & (time_s < there["end_s"])]
        corners = there[SIDES].to_numpy(np.float64) * scale
        voted = there["annotator"].nunique() > 1
        mask = consensus_of_votes(corners, size) if voted else box_mask(corners, size)
        if mask.any():
            masks.append(mask)
            chosen.append(clip)
    return Truths(np.array(masks).reshape(-1, *size), np.array(chosen, dtype=np.int64))


def evaluate_localization(
    maps: Mapping[str, Float[np.ndarray, "clips height width"]], truths: Truths, *, seed: int
) -> list[ResultRow]:
    """Overlap and pointing of heat maps, beside the middle box and the whole picture.

    Args:
        maps: by name what is compared: `""` the trained model, others such as `untrained` or `swapped`, of all clips.
        truths: where it sounds.
        seed: of the resampling.

    Returns:
        Of each: `pointing` (share of maps whose peak lies where it sounds), `ciou` (share with a consensus IoU of at
        least 0.5), `auc` (area under the successes over 21 thresholds), `mean_iou`; with the name at its end. Of the
        middle box all of them, `_center`; of the whole picture the overlaps, and as pointing what a random place
        would reach, `_whole`.

    Raises:
        DataError: nothing is known to sound in any clip.
    """
    if not len(truths.clips):
        raise DataError("the task localization scores clips with boxes of what sounds, and there are none")
    masks = truths.masks
    rows: list[ResultRow] = []
    for name, map_ in maps.items():
        own = map_[truths.clips]
        rows += _rows(_ending(name), pointing_hits(own, masks), consensus_iou(own, masks).numpy(), seed)
    size = (masks.shape[1], masks.shape[2])
    center = center_maps(len(masks), size)
    middle = masks[:, size[0] // 2, size[1] // 2] > 0
    rows += _rows("_center", middle, consensus_iou(center, masks).numpy(), seed)
    share = (masks > 0).mean(axis=(1, 2))
    return [*rows, *_rows("_whole", share, whole_image_iou(masks).numpy(), seed)]


def _ending(name: str) -> str:
    """What follows a metric's name."""
    return f"_{name}" if name else ""


def _rows(ending: str, hits: np.ndarray, overlaps: np.ndarray, seed: int) -> list[ResultRow]:
    """The rows of one kind of maps; intervals by resampling clips."""
    return [
        _mean_row(f"pointing{ending}", hits, seed),
        _mean_row(f"ciou{ending}", overlaps >= SUCCESS, seed),
        ResultRow(TASK, HEAT, f"auc{ending}", area_under_successes(overlaps)),
        _mean_row(f"mean_iou{ending}", overlaps, seed),
    ]


def _mean_row(metric: str, values: np.ndarray, seed: int) -> ResultRow:
    """A mean with its interval."""
    low, high = bootstrap_of_mean(values, generator=key_generator(seed, "localization", metric))
    return ResultRow(TASK, HEAT, metric, float(values.mean()), low, high)
