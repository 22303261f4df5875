"""MSR-VTT as published: pickles of AVLnet and MCN, or HowTo100M's table of sentences with a file of tensors."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mcnlab.data.importers.evaluation_annotations import (
    WebVideo,
    read_msrvtt_annotations,
    read_table,
    video_number,
)
from mcnlab.data.importers.evaluation_clips import VIDEO_ID_CHARACTERS, PublishedClip, import_clips
from mcnlab.data.importers.evaluation_kinds import MSRVTT
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
from mcnlab.errors import ConfigError, DataError, reading_error
from mcnlab.files import refuse_occupied

MOST_FRAMES = 1024 * 3
"""Log-mel frames that the published reader keeps."""
_FEATURES = {"video_2d": ("2d_pooled", "2d"), "video_3d": ("3d_pooled", "3d")}


def import_msrvtt(
    train: Path | None,
    test: Path | None,
    out: Path,
    *,
    words: Path | None = None,
    name: str = "msrvtt",
    features: Features = "pooled",
    captions: int | None = None,
    tensors: Path | None = None,
    annotations: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    reading: ReadingProgress | None = None,
) -> ImportReport:
    """Make a store of MSR-VTT's clips.

    A training video has twenty captions. Each becomes a clip of its own over the same window of one recording: the
    features are stored once, every caption is a true partner of the same video and sound, and whoever groups by
    recording (splits of probes, bootstrap) sees that they belong together. To draw one caption at random per video and
    epoch, as published training does, is left to the sampler; until then one epoch here sees all captions. A batch
    can hold two captions of a video, which then count as negatives of each other: rarely, with thousands of videos.

    Args:
        train: `msrvtt_train.pkl`, or a CSV with `video_id` and maybe `sentence`; None leaves it out.
        test: `msrvtt_jsfusion_test.pkl`, or such a CSV; None leaves it out.
        out: folder of the new store; it must not exist.
        words: file of word vectors; None trains them on the captions of the train split.
        name: what reports call the store.
        features: `pooled`: one row per clip, as published results use; `full`: all rows where the file has them.
        captions: keep only so many captions of a video, the first ones.
        tensors: with CSV files: a torch file `{"2d": {video_id: tensor}, "3d": …}`, maybe with `audio`.
        annotations: an official `*_videodatainfo.json` (categories become labels; captions where the files have none),
            or a CSV of sentences.
        progress: called with clips done and all.
        reading: makes a progress callback for each pickle.

    Returns:
        What became of every clip; the same is in the store's `import_report.json`.

    Raises:
        ConfigError: no file is given, a CSV comes without tensors, or a number makes no sense.
        DataError: a file is unsafe, damaged or of quite another layout, or nothing in it can be used.
        StorageError: the store cannot be written, or exists.

    Source: the layout of the released pickles of AVLnet (2020), arXiv 2006.09199, and MCN (2021), arXiv 2104.12671;
    HowTo100M (Miech et al., 2019), arXiv 1906.03327, for table and tensors.
    """
    check_features(features)
    refuse_occupied(out)
    check_files(train, test, words, tensors, annotations)
    given = {split: path for split, path in (("train", train), ("test", test)) if path is not None}
    _check_files(given, tensors, captions)
    videos = read_msrvtt_annotations(annotations) if annotations else {}
    held = _read_tensors(tensors) if tensors else {}
    rows = [(split, row) for split, path in given.items() for row in _rows(path, held, reading)]
    unknown = {split for split in given if not _any_known(videos, rows, split)} if annotations else set(given)
    ids = [text_of(row.get("id")) for _, row in rows]
    clips = [
        _clip(row, split, id_ or f"row {place}", refused, features, captions, None if split in unknown else videos)
        for place, ((split, row), id_, refused) in enumerate(zip(rows, ids, refusals(ids), strict=True), start=1)
    ]
    notes = [f"{annotations}: knows no clip of split {split}" for split in sorted(unknown) if annotations]
    return import_clips(
        clips, out, name=name, words=words, most_frames=MOST_FRAMES, features=features, notes=notes, progress=progress
    )


def _check_files(given: Mapping[str, Path], tensors: Path | None, captions: int | None) -> None:
    """Raise when the files do not go together."""
    if not given:
        raise ConfigError("neither a train nor a test file is given")
    tables = [path for path in given.values() if path.suffix == ".csv"]
    if tables and tensors is None:
        raise ConfigError(f"{tables[0]}: a table of sentences needs a file of tensors beside it")
    if tensors is not None and not tables:
        raise ConfigError(f"{tensors}: a file of tensors needs a CSV that lists its videos")
    if captions is not None and captions < 1:
        raise ConfigError(f"captions must be at least 1, got {captions}")


def _rows(path: Path, held: Mapping[str, Mapping[str, Any]], reading: ReadingProgress | None) -> list[dict[str, Any]]:
    """Rows of one file, a table's in the shape that the pickles have."""
    if path.suffix != ".csv":
        return read_rows(
            path, ("2d", "2d_pooled", "3d", "3d_pooled", "audio", "caption", "eval_caption"), of=MSRVTT, reading=reading
        )
    table = read_table(path, ("video_id",))
    sentences = table["sentence"] if "sentence" in table else [""] * len(table)
    said: dict[str, list[str]] = {}
    for video, sentence in zip(table["video_id"], sentences, strict=True):
        said.setdefault(video, []).extend([sentence] if sentence else [])
    names = {"2d": "2d_pooled", "3d": "3d_pooled", "audio": "audio"}
    return [
        {"id": video, "caption": captions} | {names[key]: values.get(video) for key, values in held.items()}
        for video, captions in said.items()
    ]


def _read_tensors(path: Path) -> dict[str, Mapping[str, Any]]:
    """Tensors by kind and video."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise reading_error(error)(f"{path}: cannot be read ({error.strerror or error})") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError):
        raise DataError(f"{path}: not a torch file of plain tensors, or a damaged one") from None
    kinds = {key: content[key] for key in ("2d", "3d", "audio") if isinstance(content, dict) and key in content}
    if not {"2d", "3d"} <= set(kinds) or not all(isinstance(values, dict) for values in kinds.values()):
        raise DataError(f"{path}: expected 2d and 3d, each with a tensor by video")
    return kinds


def _any_known(videos: Mapping[str, WebVideo], rows: list[tuple[str, dict[str, Any]]], split: str) -> bool:
    """Whether the annotations are about a split at all."""
    return any(video_number(text_of(row.get("id"))) in videos for of, row in rows if of == split)


def _clip(
    row: Mapping[str, Any],
    split: str,
    id_: str,
    refused: str,
    features: Features,
    most_captions: int | None,
    videos: Mapping[str, WebVideo] | None,
) -> PublishedClip:
    """A row joined with its annotation."""
    problems: list[str] = []
    known = videos.get(video_number(id_)) if videos is not None else None
    if videos is not None and known is None:
        problems.append("annotations: its video is not among them")
    said = _captions(row) or (known.sentences if known is not None else ())
    start_s, end_s = seconds(row.get("start")), seconds(row.get("end"))
    if known is not None and known.start_s is not None:
        start_s, end_s = known.start_s, known.end_s
    span_s = end_s - start_s if start_s is not None and end_s is not None and start_s < end_s else None
    media = {"kind": "youtube", "video": id_[:VIDEO_ID_CHARACTERS], "start_s": start_s, "end_s": end_s}
    if known is not None:
        media |= {"url": known.url, "official_split": known.split}
    return PublishedClip(
        id=id_,
        split=split,
        captions=cut_captions(said[:most_captions], problems),
        visual=chosen_features(row, _FEATURES, features, problems),
        audio=row.get("audio"),
        label=known.category if known is not None else None,
        span_s=span_s,
        media=media,
        problems=tuple(problems),
        refused=refused,
    )


def _captions(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The captions of a row: one for evaluation, else those for training."""
    evaluated = text_of(row.get("eval_caption"))
    if evaluated:
        return (evaluated,)
    said = row.get("caption")
    return (
        tuple(text_of(one) for one in said) if isinstance(said, list | tuple) else tuple(filter(None, [text_of(said)]))
    )
