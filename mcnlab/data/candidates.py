"""Which captions are candidates for a clip: its own, and the nearest ones in time of the same recording."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from mcnlab.batch import Candidates
from mcnlab.data.cutting import NewArray
from mcnlab.errors import ShapeError


def candidate_captions(
    recordings: Int[np.ndarray, " clips"],
    start_s: Float[np.ndarray, " starts"],
    end_s: Float[np.ndarray, " ends"],
    *,
    candidates: int,
) -> Int[np.ndarray, "clips candidates"]:
    """The captions that MIL-NCE takes around the caption of every clip.

    The window of candidates grows to the side that keeps it shorter, the later one winning ties, and to the other side
    once it reaches an end of the recording.

    Args:
        recordings: (clips,): the recording of each clip; clips of a recording need not stand together.
        start_s: (clips,), seconds.
        end_s: (clips,), seconds.
        candidates: captions per clip, at least 1.

    Returns:
        (clips, candidates): places of clips, the own one first, then in the order in which they join; -1 where the
        recording has fewer.

    Raises:
        ShapeError: there is not one start and one end per clip, or no candidate is wanted.

    Source:
        Miech et al. 2020 (arXiv 1912.06430), released loader. Difference: a recording with fewer captions than
        candidates gives fewer, where theirs fails.

    Example:
        >>> candidate_captions(np.zeros(3, int), np.array([0.0, 4.0, 5.0]), np.array([2.0, 5.0, 8.0]), candidates=2)
        array([[0, 1],
               [1, 2],
               [2, 1]])
    """
    if not len(recordings) == len(start_s) == len(end_s) or candidates < 1:
        raise ShapeError(f"{candidates} candidates of {len(start_s)} starts and {len(end_s)} ends of captions")
    by_time = np.lexsort((start_s, recordings))
    begin, end, of = start_s[by_time], end_s[by_time], recordings[by_time]
    first, last = np.arange(len(of)), np.arange(len(of))
    joined = [np.arange(len(of))]
    for _ in range(candidates - 1):
        before, after = np.maximum(first - 1, 0), np.minimum(last + 1, len(of) - 1)
        can_back, can_on = (before < first) & (of[before] == of), (after > last) & (of[after] == of)
        shorter_back = end[last] - begin[before] < end[after] - begin[first]
        back = can_back & (~can_on | shorter_back)
        on = can_on & ~back
        joined.append(np.where(back, before, np.where(on, after, -1)))
        first, last = first - back, last + on
    places = np.stack(joined, axis=1)  # in the order of time
    out = np.empty_like(places)
    out[by_time] = np.where(places < 0, -1, by_time[places])
    return out


@dataclass(frozen=True)
class NearCaptions:
    """The captions that are candidates for the clips of a source, beside their own."""

    places: Int[np.ndarray, "clips others"]
    """Places of clips; -1 for none."""

    def dealt(self, dealt: Int[np.ndarray, " clips"]) -> "NearCaptions":
        """The same when captions are dealt to other clips: whoever gets a caption gets its candidates as well.

        Args:
            dealt: (clips,): whose caption each clip gets.
        """
        now_at = np.append(np.argsort(dealt), -1)
        return NearCaptions(now_at[self.places[dealt]])

    def of(
        self, clips: np.ndarray, ids: np.ndarray, lengths: np.ndarray, word_table: np.ndarray, *, new: NewArray
    ) -> Candidates:
        """The candidates of some clips.

        Args:
            clips: (picked,), places.
            ids: (clips, words): rows of the word table, of every clip's own caption.
            lengths: (clips,): real words of each.
            word_table: (words + 1, dim); the last row is zeros.
            new: where the memory comes from.

        Returns:
            Their words, on the CPU.
        """
        near = self.places[clips]
        real = np.where(near < 0, 0, lengths[near])
        picked = np.where(real[..., None] > 0, ids[near], len(word_table) - 1)  # (picked, others, words)
        words = new((*picked.shape, word_table.shape[1]), word_table.dtype.type)
        np.take(word_table, picked, axis=0, out=words, mode="clip")
        return Candidates(torch.from_numpy(words), torch.from_numpy(real.astype(np.int64)))


def near_captions(clips: pd.DataFrame, candidates: int) -> NearCaptions:
    """The captions that are candidates for each clip beside its own.

    Args:
        clips: with `recording`, `start_s` and `end_s`.
        candidates: captions per clip, its own among them.

    Returns:
        Their places in the table.
    """
    recordings, start_s, end_s = (clips[name].to_numpy() for name in ("recording", "start_s", "end_s"))
    return NearCaptions(candidate_captions(recordings, start_s, end_s, candidates=candidates)[:, 1:])
