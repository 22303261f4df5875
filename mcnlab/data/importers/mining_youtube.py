"""MiningYouTube: from subtitles, labels or matrices and published features to a store of videos with ordered steps."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from mcnlab.data.importers.crosstask import PUBLISHED_FRAMES, published_visual
from mcnlab.data.importers.crosstask_files import read_names, read_steps_json, read_text
from mcnlab.data.importers.mining_youtube_files import Segments, annotated_ids, read_classes, read_segments
from mcnlab.data.importers.recordings import Reading
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.sharded import RECORDINGS_PER_SHARD
from mcnlab.data.importers.step_features import check_audio, open_features, safe_names
from mcnlab.data.importers.step_import import Planned, WordChoice, import_step_videos, refuse_strange_annotations
from mcnlab.data.importers.steps import StepVideo, clean_text
from mcnlab.errors import ConfigError, DataError


def import_mining_youtube(
    annotations: Path,
    out: Path,
    *,
    features: Path,
    videos: Path | None = None,
    classes: Path | None = None,
    steps: Path | None = None,
    audio: Path | None = None,
    held_out: Path | None = None,
    rate_hz: float = 1.0,
    words: Path | None = None,
    name: str = "MiningYouTube",
    word_dim: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    recordings_per_shard: int = RECORDINGS_PER_SHARD,
    executor: Executor | None = None,
) -> ImportReport:
    """Make a store of MiningYouTube: a recording per video, a clip per action in its order, background left out.

    An interrupted import goes on where it stopped.

    Args:
        annotations: folder of `ID.srt`, of labels per row (`ID.gt`, `ID.txt`), or of `ID.npy` (rows, steps).
        out: folder of the new store. When it holds the result of this very import, nothing is done.
        features: folder of `ID.npy`, or of `ID_2d.npy` with `ID_3d.npy`.
        videos: ids, one per line; None takes all that have annotations.
        classes: `mapping.txt`; only to tell which labels are not in it, and to know their words.
        steps: JSON `{video: [text, …]}`, the columns of the matrices.
        audio: folder of `ID.npz` with `arr_0`, log-mel of 40 bands.
        held_out: ids; these videos make the split `test`, all others `train`. None: all are `test`.
        rate_hz: rows per second of features, labels and matrices.
        words: file of word vectors; None trains them on the texts of classes and steps.
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
        ConfigError: `rate_hz` is not positive, or an unfinished import from something else lies there.
        DataError: a file or folder is missing or wrong as a whole, or nothing can be used.
        BusyError: another process is at it.
        RankError: a process was killed.
        StorageError: the store cannot be written, or exists.

    Source:
        Kuehne et al. 2019, arXiv 1906.01012. Texts are the classes with spaces for underscores; a label that is not
        among the classes is kept as its annotator wrote it.
    """
    if not rate_hz > 0:
        raise ConfigError(f"rate must be positive, got {rate_hz}")
    listed = annotated_ids(annotations)
    if videos is not None:
        listed = [line.strip() for line in read_text(videos).splitlines() if line.strip()]
        if not listed:
            raise DataError(f"{videos}: no id of a video in it")
    known = () if classes is None else tuple(clean_text(one) for one in read_classes(classes))
    columns = {} if steps is None else read_steps_json(steps)
    planned = _planned(annotations, listed, rate_hz, columns, None if held_out is None else read_names(held_out))
    refuse_strange_annotations(annotations, planned, f"ID.srt, ID.npy, ID.gt or ID.txt, such as {listed[0]}.srt")
    folder = open_features(features, [[id_] for id_ in listed], rate_hz=rate_hz)
    if audio is not None:
        check_audio(audio, [[id_] for id_ in listed])
    videos_once = {one.id: one for one in planned if isinstance(one, StepVideo)}.values()
    texts = [text for one in videos_once for text in one.texts]
    hop_s = max(1.0, 1.0 / rate_hz)
    return import_step_videos(
        planned,
        out,
        features=folder,
        audio=audio,
        texts=[*known, *texts, "background"],
        words=WordChoice(words, word_dim, seed),
        name=name,
        info={
            "kind": "mining_youtube",
            "action_frames": {**PUBLISHED_FRAMES, "hop_s": hop_s, "video_s": [0.0, hop_s]},
            "visual": published_visual(folder),
        },
        notes=_strange_labels(texts, known, classes),
        progress=progress,
        workers=workers,
        recordings_per_shard=recordings_per_shard,
        executor=executor,
    )


def _strange_labels(texts: Sequence[str], known: Sequence[str], classes: Path | None) -> list[str]:
    """A sentence on labels that are not among the classes."""
    strange = Counter(text for text in texts if known and text not in known)
    if classes is None or not strange:
        return []
    return [f"{strange.total()} steps of {len(strange)} classes are not in {classes.name}"]


def _planned(
    folder: Path,
    listed: Sequence[str],
    rate_hz: float,
    columns: Mapping[str, Sequence[str]],
    held_out: frozenset[str] | None,
) -> list[Planned]:
    """Every listed video with its annotation, or why it has none that can be used."""
    planned: list[Planned] = []
    for id_ in listed:
        found = _segments(folder, id_, rate_hz, columns.get(id_))
        if isinstance(found, str):
            planned.append(Reading(id_, None, (found,)))
            continue
        texts, steps, rows, problems = found
        split = "test" if held_out is None or id_ in held_out else "train"
        media = {"kind": "mining_youtube", "task": id_}
        planned.append(StepVideo(id_, (id_,), split, texts, steps, media, rows=rows, problems=problems))
    return planned


def _segments(folder: Path, id_: str, rate_hz: float, steps: Sequence[str] | None) -> Segments | str:
    """What is annotated of a video, or why that cannot be used."""
    names = safe_names([id_])
    if not names:
        return "an id that cannot be a file name"
    try:
        return read_segments(folder, names, rate_hz=rate_hz, steps=steps)
    except DataError as error:
        return str(error)
