"""CrossTask: from lists, tasks, annotations and published features to a store of videos with ordered steps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
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
from mcnlab.data.importers.recordings import Reading
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.sharded import RECORDINGS_PER_SHARD
from mcnlab.data.importers.step_features import FeatureFolder, check_audio, open_features, safe_names
from mcnlab.data.importers.step_import import Planned, WordChoice, import_step_videos, refuse_strange_annotations
from mcnlab.data.importers.steps import StepVideo
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
    workers: int = 1,
    recordings_per_shard: int = RECORDINGS_PER_SHARD,
    executor: Executor | None = None,
) -> ImportReport:
    """Make a store of CrossTask: a recording per video, a clip per annotated step, all steps of its task beside it.

    An interrupted import goes on where it stopped.
    A video whose files are broken or missing is dropped and listed with the reason; a step that cannot be is left out
    and listed; a video without usable sound is kept without it.

    Args:
        videos: CSV `task,video_id` or `task,video_id,url`.
        out: folder of the new store. When it holds the result of this very import, nothing is done.
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
        workers: processes; the bytes of the store do not depend on it.
        recordings_per_shard: videos of one shard; a process holds as many in memory.
        executor: runs the tasks in place of own processes.

    Returns:
        What became of every video.

    Raises:
        ConfigError: neither `tasks` nor `steps` is given, or an unfinished import from something else lies there.
        DataError: a file or folder is missing or wrong as a whole, or nothing can be used.
        BusyError: another process is at it.
        RankError: a process was killed.
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
    _check_tasks(videos, listed, known)
    if not annotations.is_dir():
        raise DataError(f"{annotations}: no such folder of annotations")
    planner = _Planner(
        tasks=known,
        cook=None if cook is None else read_names(cook),
        held_out=None if held_out is None else {(one.task, one.video) for one in read_video_list(held_out)[0]},
        annotations=annotations,
    )
    planned = [planner(one) for one in listed]
    looked_for = f"TASK_VIDEO.csv or TASK_VIDEO.npy, such as {_id(listed[0])}.csv"
    refuse_strange_annotations(annotations, planned, looked_for)
    folder = open_features(features, [_names(one) for one in listed])
    if audio is not None:
        check_audio(audio, [_names(one) for one in listed])
    if folder.joined:
        notes.append("the 128 columns of VGGish are left out: the audio tower reads log-mel")
    return import_step_videos(
        planned,
        out,
        features=folder,
        audio=audio,
        texts=[text for task in known.values() for text in task.steps],
        words=WordChoice(words, word_dim, seed),
        name=name,
        info={"kind": "crosstask", "action_frames": PUBLISHED_FRAMES, "visual": published_visual(folder)},
        notes=notes,
        progress=progress,
        workers=workers,
        recordings_per_shard=recordings_per_shard,
        executor=executor,
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
class _Planner:
    """Joins a row of the list with its task and annotation."""

    tasks: Mapping[str, Task]
    cook: frozenset[str] | None
    held_out: set[tuple[str, str]] | None
    annotations: Path

    def __call__(self, listed: ListedVideo) -> Planned:
        """A video with its steps, or why there are none."""
        id_, task = _id(listed), self.tasks.get(listed.task)
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
        names, split = tuple(_names(listed)), self._split(listed)
        return StepVideo(id_, names, split, task.steps, found, media, rows=rows, problems=problems)

    def _cooks(self, task: Task) -> bool | None:
        """Whether it is cooking; None where nobody said."""
        return None if self.cook is None else task.id in self.cook or task.title in self.cook

    def _split(self, listed: ListedVideo) -> str:
        """Where the video belongs."""
        return "test" if self.held_out is None or (listed.task, listed.video) in self.held_out else "train"


def _check_tasks(videos: Path, listed: Sequence[ListedVideo], known: Mapping[str, Task]) -> None:
    """Raise when the list and the tasks have nothing in common."""
    if not any(one.task in known for one in listed):
        raise DataError(
            f"{videos}: none of its {len(listed)} videos is of a known task: it names "
            f"{_first_names(one.task for one in listed)}; known are {_first_names(known)}"
        )


def _first_names(names: Iterable[str]) -> str:
    """Some different names for an error."""
    return ", ".join(f"{name!r:.40}" for name in list(dict.fromkeys(names))[:3])


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
