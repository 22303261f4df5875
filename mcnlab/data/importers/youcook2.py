"""YouCook2 as the authors of AVLnet and MCN published it: a pickle of clips for training and one for validation."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcnlab.data.importers.evaluation_annotations import CookingVideo, Segment, read_youcook2_annotations
from mcnlab.data.importers.evaluation_clips import VIDEO_ID_CHARACTERS, PublishedClip, import_clips
from mcnlab.data.importers.evaluation_kinds import YOUCOOK2
from mcnlab.data.importers.evaluation_rows import (
    Features,
    ReadingProgress,
    check_features,
    check_files,
    chosen_features,
    cut_captions,
    read_rows,
    refusals,
    seconds,
    text_of,
)
from mcnlab.data.importers.report import ImportReport
from mcnlab.errors import ConfigError
from mcnlab.files import refuse_occupied

MOST_FRAMES = 1024 * 5
"""Log-mel frames that the published reader keeps."""
_FEATURES = {"video_2d": ("2d", "2d_full"), "video_3d": ("3d", "3d_full")}


def import_youcook2(
    train: Path | None,
    val: Path | None,
    out: Path,
    *,
    words: Path | None = None,
    name: str = "youcook2",
    features: Features = "pooled",
    annotations: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    reading: ReadingProgress | None = None,
) -> ImportReport:
    """Make a store of YouCook2's clips from the published pickles.

    Every clip is a recording of its own: the files hold nothing of the video between two clips. A clip without audio,
    or with features that cannot be used, is kept without them and listed.

    Args:
        train: `youcook_train_audio.pkl`; None leaves it out.
        val: `youcook_val_audio.pkl`; None leaves it out.
        out: folder of the new store; it must not exist.
        words: file of word vectors; None trains them on the captions of the train split.
        name: what reports call the store.
        features: `pooled`: one row per clip, as published results use; `full`: all rows where the file has them.
        annotations: the official JSON or the benchmark's CSV: gives segments, and recipes as labels.
        progress: called with clips done and all.
        reading: makes a progress callback for each pickle.

    Returns:
        What became of every clip; the same is in the store's `import_report.json`.

    Raises:
        ConfigError: neither file is given, or there are no such features.
        DataError: a file is unsafe, damaged or of quite another layout, or nothing in it can be used.
        StorageError: the store cannot be written, or exists.

    Source: the layout of the released pickles of AVLnet (2020), arXiv 2006.09199, and MCN (2021), arXiv 2104.12671.
    """
    check_features(features)
    refuse_occupied(out)
    check_files(train, val, words, annotations)
    if train is None and val is None:
        raise ConfigError("neither a train nor a val file is given")
    videos = read_youcook2_annotations(annotations) if annotations else None
    rows = [(split, row) for split, path in (("train", train), ("val", val)) if path for row in _rows(path, reading)]
    ids = [text_of(row.get("id")) for _, row in rows]
    clips = [
        _clip(row, split, id_ or f"row {place}", refused, features, videos)
        for place, ((split, row), id_, refused) in enumerate(zip(rows, ids, refusals(ids), strict=True), start=1)
    ]
    return import_clips(
        clips, out, name=name, words=words, most_frames=MOST_FRAMES, features=features, progress=progress
    )


def _rows(path: Path, reading: ReadingProgress | None) -> list[dict[str, Any]]:
    """Rows of one file."""
    return read_rows(path, ("2d", "3d", "audio", "caption"), of=YOUCOOK2, reading=reading)


def _clip(
    row: Mapping[str, Any],
    split: str,
    id_: str,
    refused: str,
    features: Features,
    videos: Mapping[str, CookingVideo] | None,
) -> PublishedClip:
    """A row joined with its annotation."""
    problems: list[str] = []
    video = id_[:VIDEO_ID_CHARACTERS]
    captions = cut_captions([text_of(row.get("caption"))], problems)
    start_s, end_s = seconds(row.get("start")), seconds(row.get("end"))
    task = text_of(row.get("task")) or (str(row["task"]) if isinstance(row.get("task"), int) else "")
    known = _known(videos, video, split, problems)
    segment = None
    if known is not None:
        segment = known.segment(captions[0], start_s=start_s, number=_number(id_))
        if segment is None:
            problems.append("annotations: no segment of its video fits its caption")
    start_s, end_s = _times(start_s, end_s, segment)
    return PublishedClip(
        id=id_,
        split=split,
        captions=captions,
        visual=chosen_features(row, _FEATURES, features, problems),
        audio=row.get("audio"),
        label=(known.recipe if known is not None else None) or task or None,
        span_s=end_s - start_s if start_s is not None and end_s is not None else None,
        media={"kind": "youtube", "video": video, "start_s": start_s, "end_s": end_s},
        problems=tuple(problems),
        refused=refused,
    )


def _known(
    videos: Mapping[str, CookingVideo] | None, video: str, split: str, problems: list[str]
) -> CookingVideo | None:
    """What the annotations know of a clip's video."""
    if videos is None:
        return None
    known = videos.get(video)
    if known is None:
        problems.append("annotations: its video is not among them")
    elif known.subset not in (None, split):
        problems.append(f"annotations: its video belongs to {known.subset}, the file says {split}")
    return known


def _times(start_s: float | None, end_s: float | None, segment: Segment | None) -> tuple[float | None, float | None]:
    """Where a clip lies in its video: as the annotations say, else as the row does."""
    if segment is not None and 0 <= segment.start_s < segment.end_s:
        return segment.start_s, segment.end_s
    if start_s is not None and end_s is not None and start_s < end_s:
        return start_s, end_s
    return None, None


def _number(id_: str) -> int | None:
    """The number that an id ends with after the video's name, `xHr8X2Wpmno_3`."""
    found = re.fullmatch(r"[_-]?(\d{1,4})", id_[VIDEO_ID_CHARACTERS:])
    return int(found.group(1)) if found else None
