"""CrossTask: from lists, tasks, annotations and published features to a store of videos with ordered steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcnlab.data.importers.crosstask_files import (
    ListedVideo,
    Task,
    read_annotation,
    read_names,
    read_steps_json,
    read_tasks,
    read_video_list,
)
from mcnlab.data.importers.recordings import Reading, import_recordings
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.step_features import FeatureFolder, open_features, safe_names
from mcnlab.data.importers.steps import StepVideo, read_step_video, store_tracks, words_of
from mcnlab.errors import ConfigError, DataError

PUBLISHED_FRAMES = {"hop_s": 1.0, "video_s": [0.0, 1.0], "audio_s": [-4.0, 4.0]}
"""What frame i sees in MCN's evaluation, in seconds from i: its own second of video, four of audio to either side."""


def import_crosstask(
    videos: Path,
    out: Path,
    *,
    annotations: Path,
    features: Path,
    tasks: Sequence[Path] = (),
    steps: Path | None = None,
    audio: Path | None = None,
    cook: Path | None = None,
    held_out: Path | None = None,
    words: Path | None = None,
    name: str = "CrossTask",
    word_dim: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Make a store of CrossTask: a recording per video, a clip per annotated step, all steps of its task beside it.

    A video whose files are broken or missing is dropped and listed with the reason; a step that cannot be is left out
    and listed; a video without usable sound is kept without it.

    Args:
        videos: CSV `task,video_id` or `task,video_id,url`.
        out: folder of the new store; it must not exist.
        annotations: folder of `TASK_VIDEO.csv` (`step,start,end`, steps from 1) or `TASK_VIDEO.npy` (seconds, steps).
        features: folder of `VIDEO_2d.npy` with `VIDEO_3d.npy`, or of `.npy` with 3200 columns.
        tasks: files of tasks in blocks of five lines.
        steps: JSON `{task: [text, …]}`; its texts count before those of `tasks`.
        audio: folder of `VIDEO.npz` with `arr_0`, log-mel of 40 bands.
        cook: file of cooking tasks, one id or title per line.
        held_out: CSV like `videos`; its videos make the split `test`, all others `train`. None: all are `test`.
        words: file of word vectors; None trains them on the step texts.
        name: what reports call the store.
        word_dim: width of trained word vectors.
        seed: of the training of word vectors.
        progress: called with videos done and all.

    Returns:
        What became of every video.

    Raises:
        ConfigError: neither `tasks` nor `steps` is given.
        DataError: a file or folder is missing or wrong as a whole, or nothing can be used.
        StorageError: the store cannot be written, or exists.

    Source:
        Zhukov et al. 2019, arXiv 1903.08225; Chen et al. 2021 (MCN), arXiv 2104.12671, for features per second. The
        features are L2-normalized row by row; the 128 columns of VGGish are left out, for the audio tower reads
        log-mel.
    """
    listed, odd_rows = read_video_list(videos)
    known, notes = _tasks(tasks, steps)
    if odd_rows:
        notes.append(f"{videos.name}: {odd_rows} rows name no task or no video")
    if not annotations.is_dir():
        raise DataError(f"{annotations}: no such folder of annotations")
    folder = open_features(features, [_names(one) for one in listed])
    reader = _Reader(
        tasks=known,
        cook=None if cook is None else read_names(cook),
        held_out=None if held_out is None else {(one.task, one.video) for one in read_video_list(held_out)[0]},
        annotations=annotations,
        features=folder,
        audio=audio,
    )
    if folder.joined:
        notes.append("the 128 columns of VGGish are left out: the audio tower reads log-mel")
    return import_recordings(
        listed,
        reader,
        out,
        name=name,
        tracks=store_tracks(folder, audio),
        words=words_of([text for task in known.values() for text in task.steps], words, dim=word_dim, seed=seed),
        info={"kind": "crosstask", "action_frames": PUBLISHED_FRAMES, "visual": published_visual(folder)},
        notes=notes,
        progress=progress,
    )


def published_visual(features: FeatureFolder) -> dict[str, dict[str, object]]:
    """What a store says of published features.

    Args:
        features: their folder.

    Returns:
        By track: where they come from; they were trained by their authors.
    """
    return {track.name: {"backbone": f"published, {track.dim} columns", "trained": True} for track in features.tracks}


@dataclass(frozen=True)
class _Reader:
    """Reads one listed video."""

    tasks: Mapping[str, Task]
    cook: frozenset[str] | None
    held_out: set[tuple[str, str]] | None
    annotations: Path
    features: FeatureFolder
    audio: Path | None
    seen: set[str] = field(default_factory=set)
    """Ids that were read already."""

    def __call__(self, listed: ListedVideo) -> Reading:
        """A recording, or why there is none."""
        id_, task = _id(listed), self.tasks.get(listed.task)
        if id_ in self.seen:
            return Reading(id_, None, ("it stands in the list a second time",))
        self.seen.add(id_)
        if task is None:
            return Reading(id_, None, ("its task is not among the tasks",))
        try:
            found, rows, problems = read_annotation(self.annotations, safe_names(_names(listed)), len(task.steps))
        except DataError as error:
            return Reading(id_, None, (str(error),))
        media = {
            "kind": "crosstask",
            "task": task.id,
            "title": task.title,
            "url": listed.url,
            "cook": self._cooks(task),
        }
        video = StepVideo(
            id_, tuple(_names(listed)), self._split(listed), task.steps, found, media, rows=rows, problems=problems
        )
        return read_step_video(video, self.features, self.audio)

    def _cooks(self, task: Task) -> bool | None:
        """Whether it is cooking; None where nobody said."""
        return None if self.cook is None else task.id in self.cook or task.title in self.cook

    def _split(self, listed: ListedVideo) -> str:
        """Where the video belongs."""
        return "test" if self.held_out is None or (listed.task, listed.video) in self.held_out else "train"


def _tasks(files: Sequence[Path], steps: Path | None) -> tuple[dict[str, Task], list[str]]:
    """All tasks by id, and what was odd about them."""
    if not files and steps is None:
        raise ConfigError("CrossTask needs the texts of the steps: a file of tasks, or a JSON of steps")
    tasks: dict[str, Task] = {}
    notes: list[str] = []
    for path in files:
        found, odd = read_tasks(path)
        tasks |= found
        notes += odd
    for task, texts in (read_steps_json(steps) if steps is not None else {}).items():
        tasks[task] = Task(task, tasks[task].title if task in tasks else task, texts)
    return tasks, notes


def _id(listed: ListedVideo) -> str:
    """Id of the recording: a video may show two tasks."""
    return f"{listed.task}_{listed.video}"


def _names(listed: ListedVideo) -> list[str]:
    """What the files of a video may be called."""
    return [listed.video, _id(listed)]
