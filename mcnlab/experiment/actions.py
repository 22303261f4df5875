"""Searching recordings for their steps: from a store and a model to the scores of every frame and step."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.frames import FrameGrid, FrameSource, TextSource, frame_grid
from mcnlab.data.loading import ClipWindow
from mcnlab.data.store import Recording, Store
from mcnlab.errors import DataError
from mcnlab.evaluation.actions import evaluate_actions
from mcnlab.evaluation.embed import embed_source
from mcnlab.evaluation.found_steps import ActionVideo, filled_scores, found_in
from mcnlab.evaluation.rows import ResultRow
from mcnlab.experiment.build import chosen_tracks, clip_window
from mcnlab.experiment.compared import Arrays, compared_arrays
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.files import write_json_atomically
from mcnlab.models.graph import Graph
from mcnlab.models.multimodal import MultimodalModel

BACKGROUND = "background"
"""Text of what lies between the steps, as MiningYouTube names it."""
SEARCHED = (("video",), ("audio",), ("video", "audio"))
"""In which modalities, or sums of them, a step is searched by its text."""
SHOWN = 3
"""Videos whose scores are kept for a picture."""
MOST_CELLS = 40_000
"""Scores of such a video at most."""


@dataclass(frozen=True)
class StepList:
    """The ordered steps of a recording, and where it shows them."""

    texts: tuple[str, ...]
    spans: tuple[tuple[int, float, float], ...]
    """(step, start, end) in seconds, in order of time."""


def steps_of(recording: Recording) -> StepList:
    """The steps of a recording: those of its task where an importer has left them, else its clips in order.

    Args:
        recording: any.

    Returns:
        Texts and spans; a clip counts with its caption, else its label, and not at all without either.
    """
    clips = sorted(recording.clips, key=lambda clip: (clip.start_s, clip.end_s))
    if "steps" in recording.media:
        numbers = recording.media["clip_steps"]
        spans = [(int(number), clip.start_s, clip.end_s) for number, clip in zip(numbers, recording.clips, strict=True)]
        return StepList(tuple(recording.media["steps"]), tuple(spans))
    told = [(clip.caption or clip.label or "", clip) for clip in clips if clip.caption or clip.label]
    spans = [(number, clip.start_s, clip.end_s) for number, (_, clip) in enumerate(told)]
    return StepList(tuple(text for text, _ in told), tuple(spans))


def has_step_lists(store: Store, split: str) -> bool:
    """Whether an importer has left ordered steps: CrossTask and MiningYouTube.

    Args:
        store: the recordings.
        split: which of them.

    Returns:
        True when one recording has them.
    """
    return any("steps" in store.media(row) for row in rows_of(store, split))


def check_steps(store: Store, split: str) -> None:
    """Refuse a store in which there is nothing to search for.

    Args:
        store: the recordings.
        split: which of them.

    Raises:
        DataError: it has no text, or no recording with two steps or more.
    """
    if "text" not in store.modalities:
        raise DataError(f"{store.path}: the task actions searches by text, and the store has none")
    if not any(len(steps_of(store[row]).texts) > 1 for row in rows_of(store, split)):
        raise DataError(f"{store.path}: split {split!r}: no recording has two steps or more, as the task actions needs")


def rows_of(store: Store, split: str) -> list[int]:
    """Rows of a split's recordings in the store, in order."""
    return [int(row) for row in store.clips(split)["recording"].unique()]


def action_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    split: str,
    folder: Path | None,
    *,
    seed: int,
) -> Sequence[ResultRow]:
    """Search every recording for its steps; writes `actions.json` beside the results.

    Args:
        settings: the experiment.
        model: trained.
        untrained: the same before training, with settled statistics.
        store: the recordings.
        split: which of them.
        folder: the run folder; None writes nothing.
        seed: of the random scores and the bootstrap.

    Returns:
        Rows of results.

    Raises:
        DataError: there is nothing to search for.
    """
    check_steps(store, split)
    grid, rows = frame_grid(store), rows_of(store, split)
    recordings = [store[row] for row in rows]
    steps = [steps_of(recording) for recording in recordings]
    videos = [action_video(recording, known, grid) for recording, known in zip(recordings, steps, strict=True)]
    source = FrameSource(chosen_tracks(settings, store), rows, grid, window=clip_window(settings))
    scores = score_frames(model, source, steps, window=clip_window(settings))
    before = score_frames(untrained, source, steps, window=clip_window(settings))
    result = evaluate_actions(videos, scores, untrained=before, seed=seed)
    if folder is None:
        return result.rows
    told = {
        "hop_s": grid.hop_s,
        "not_scored": result.not_scored,
        "examples": examples(videos, steps, preferred(scores, settings.trained_modalities), grid),
    }
    write_json_atomically(folder / "actions.json", told)
    return result.rows


def action_video(recording: Recording, steps: StepList, grid: FrameGrid) -> ActionVideo:
    """What should be found in a recording, frame by frame.

    Args:
        recording: whose length counts.
        steps: its steps.
        grid: the frames.

    Returns:
        Its truth; a recording whose importer names no task is a task of its own.
    """
    frames = grid.frames(recording.duration_s)
    truth = np.zeros((frames, len(steps.texts)), dtype=bool)
    intervals: dict[int, list[tuple[float, float]]] = {}
    for number, start_s, end_s in steps.spans:
        truth[grid.covered(start_s, end_s, recording.duration_s), number] = True
        intervals.setdefault(number, []).append((start_s / grid.hop_s, end_s / grid.hop_s))
    cook = recording.media.get("cook")
    return ActionVideo(
        id=recording.id,
        task=str(recording.media.get("task", recording.id)),
        truth=truth,
        intervals={number: np.array(found) for number, found in sorted(intervals.items())},
        group=None if cook is None else "cook" if cook else "non-cook",
    )


def score_frames(
    model: MultimodalModel, source: FrameSource, steps: Sequence[StepList], *, window: ClipWindow
) -> dict[str, list[np.ndarray | None]]:
    """How much every frame of every recording is like each of its steps.

    Args:
        model: the towers.
        source: the frames of the recordings.
        steps: of each recording.
        window: how many words of a step count.

    Returns:
        Subject (`text->video+audio`) to a matrix per recording: (frames, steps + 1), dot products of text with the sum
        of the embeddings searched, the last column for background; NaN where a side is missing.
    """
    texts = list(dict.fromkeys([BACKGROUND, *itertools.chain.from_iterable(one.texts for one in steps)]))
    seen = embed_source(model, source)
    told = embed_source(model, TextSource(source.store, texts, window=window))
    place = {text: number for number, text in enumerate(texts)}
    found: dict[str, list[np.ndarray | None]] = {}
    for gallery in SEARCHED:
        compared = _compared(model.graph, seen, told, gallery)
        if compared is None:
            continue
        query, frames = compared
        found[f"text->{'+'.join(gallery)}"] = [
            _scores(frames[part], query[[place[text] for text in (*one.texts, BACKGROUND)]])
            for part, one in zip(source.slices(), steps, strict=True)
        ]
    return found


def preferred(
    scores: Mapping[str, list[np.ndarray | None]], trained: Sequence[str]
) -> tuple[str, list[np.ndarray | None]]:
    """The way of searching that a picture shows: in as many trained modalities as there are.

    Args:
        scores: as `score_frames` gives them.
        trained: modalities of the experiment.

    Returns:
        Subject and scores; the first subject where none is trained, an empty one where there is none.
    """
    subjects = [one for one in scores if set(one.removeprefix("text->").split("+")) <= set(trained)] or list(scores)[:1]
    return (subjects[-1], scores[subjects[-1]]) if subjects else ("", [])


def examples(
    videos: Sequence[ActionVideo],
    steps: Sequence[StepList],
    chosen: tuple[str, list[np.ndarray | None]],
    grid: FrameGrid,
) -> list[dict[str, Any]]:
    """A few videos with their scores, for a picture.

    Args:
        videos: all of them.
        steps: of each.
        chosen: a subject and its scores.
        grid: the frames.

    Returns:
        Plain values of each, as `example` gives them.
    """
    subject, scores = chosen
    found: list[dict[str, Any]] = []
    for video, known, given in zip(videos, steps, scores, strict=bool(scores)):
        frames, count = video.truth.shape
        usable = given is not None and 0 < count <= frames and frames * count <= MOST_CELLS and video.truth.any()
        if usable and given is not None and len(found) < SHOWN:
            found.append({"subject": subject, **example(video, known, given, grid)})
    return found


def example(video: ActionVideo, steps: StepList, scores: np.ndarray, grid: FrameGrid) -> dict[str, Any]:
    """One video with its scores, as plain values.

    Args:
        video: its truth.
        steps: its steps.
        scores: (frames, steps + 1).
        grid: the frames.

    Returns:
        Id, steps, scores (frames, steps), true intervals and found frames in seconds, and which steps were found
        inside of one.
    """
    placed = found_in(video, scores).placed
    return {
        "id": video.id,
        "hop_s": grid.hop_s,
        "steps": list(steps.texts),
        "scores": filled_scores(scores)[:, :-1].round(4).tolist(),
        "spans": [[number, start_s, end_s] for number, start_s, end_s in steps.spans],
        "hit": (placed & video.truth).any(axis=0).tolist(),
        "found_s": [(int(frame) + 0.5) * grid.hop_s for frame in placed.argmax(axis=0)],
    }


def _compared(graph: Graph, seen: Arrays, told: Arrays, gallery: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps and frames as arrays whose dot product is the score; None where the graph has no space for them."""
    if not graph.spaces_of("text") or any(not graph.spaces_of(modality) for modality in gallery):
        return None
    arrays = {key: (told if key[0] == "text" else seen)[key] for key in seen}
    return compared_arrays(graph, arrays, ("text",), gallery)


def _scores(frames: np.ndarray, texts: np.ndarray) -> np.ndarray | None:
    """(frames, texts): dot products; a background without known words is the mean of the steps; None without any."""
    scores = frames.astype(np.float64) @ texts.astype(np.float64).T
    if len(texts) > 1 and np.isnan(scores[:, -1]).all():
        known = scores[:, :-1][:, ~np.isnan(scores[:, :-1]).all(axis=0)]
        scores[:, -1] = known.mean(axis=1) if known.shape[1] else np.nan
    return scores if np.isfinite(scores).any() else None
