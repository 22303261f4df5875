"""The truth about places: which things are where when a clip is seen, and which of them sound."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mcnlab.metrics.localization import box_mask

SIDES = ["left", "top", "right", "bottom"]


@dataclass(frozen=True)
class Things:
    """The things in sight at one time of a clip."""

    corners: Float[np.ndarray, "things 4"]
    """Left, top, right, bottom in shares of the frame."""
    labels: tuple[str, ...]
    sounding: Bool[np.ndarray, " things"]

    @property
    def heard(self) -> "Things":
        """Those that sound."""
        chosen = self.sounding.tolist()
        labels = tuple(label for label, sounds in zip(self.labels, chosen, strict=True) if sounds)
        return Things(self.corners[self.sounding], labels, self.sounding[self.sounding])


def things_at(boxes: pd.DataFrame, time_s: float) -> Things:
    """What is in sight at a time.

    Args:
        boxes: of one recording, see `Store.boxes`.
        time_s: within the recording.

    Returns:
        The things; none where nothing is known.
    """
    here = boxes[(boxes["start_s"] <= time_s) & (time_s < boxes["end_s"]) & boxes["left"].notna()]
    labels = tuple(str(label) for label in here["label"])
    return Things(here[SIDES].to_numpy(np.float64), labels, here["sounding"].to_numpy(bool))


def things_in_clips(boxes: pd.DataFrame, clips: pd.DataFrame, *, parts: int = 1) -> list[list[Things]]:
    """What is in sight in the middle of every part of some clips.

    Args:
        boxes: of a store, see `Store.boxes`.
        clips: with columns recording, start_s, end_s.
        parts: equal parts of each clip.

    Returns:
        By clip, by part.
    """
    own = dict(tuple(boxes.groupby("recording")))
    nothing = boxes.iloc[:0]
    found = []
    for recording, start, end in zip(clips["recording"], clips["start_s"], clips["end_s"], strict=True):
        there = own.get(recording, nothing)
        # just after the middle: where an even number of frames is shown, the frame that begins there
        times = [start + (end - start) * ((part + 0.5) / parts + 1e-6) for part in range(parts)]
        found.append([things_at(there, time) for time in times])
    return found


def cells_inside(corners: Float[np.ndarray, "things 4"], size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """The cells of a map whose middle lies in some box; of a box without any, the cell in which its middle lies.

    Args:
        corners: left, top, right, bottom in shares of the frame.
        size: height and width of the map in cells.

    Returns:
        (*size).
    """
    scale = np.array([size[1], size[0], size[1], size[0]], dtype=np.float64)
    inside = np.zeros(size, dtype=bool)
    for box in corners * scale:
        own = box_mask(box[None], size) > 0
        if not own.any():
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            own[min(int(y), size[0] - 1), min(int(x), size[1] - 1)] = True
        inside |= own
    return inside
