"""Someone's own media: from a CSV of video, image and sound files and captions to a store."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.extract import AUDIO_TRACK, extract_tracks
from mcnlab.data.importers.boxes import RowBox, read_box_files
from mcnlab.data.importers.media_decoding import Decoded, Decoder
from mcnlab.data.importers.media_features import (
    Frozen,
    backbones_for,
    calibrated,
    calibration_rows,
    decode_size,
    notes_on_words,
    parts_of,
    word_vectors,
)
from mcnlab.data.importers.media_manifest import MediaManifest, MediaRow, read_media_manifest
from mcnlab.data.importers.media_there import refuse_absent_files
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.media_files import Picture
from mcnlab.data.raw_frames import RawFrames
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store import open_store
from mcnlab.data.store_writer import StoreWriter
from mcnlab.data.text import MAX_CAPTION_CHARACTERS, WordVectors
from mcnlab.data.thumbnails import HEIGHT_PX, WIDTH_PX, thumbnail_of
from mcnlab.data.timeline import on_one_timeline
from mcnlab.errors import DataError
from mcnlab.files import refuse_occupied

FEWEST_FOR_A_PATTERN = 10
"""Entries of a column that have to fail alike before the column is thought to be at fault."""


def import_media(
    manifest: Path | str,
    out: Path | str,
    *,
    video: str = "seeded",
    words: Path | None = None,
    name: str | None = None,
    frames_per_s: float = 25.0,
    size_px: int = 48,
    frame_size: tuple[int, int] | None = None,
    color: bool = False,
    video_dim: int = 512,
    word_dim: int = 64,
    categorical: Sequence[str] = (),
    seed: int = 0,
    like: Path | None = None,
    boxes: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Make a store from media files and captions.

    A row may lack a modality. A file that cannot be read costs the row that modality and is listed; a row of which
    nothing is left is dropped and listed. A still picture next to videos counts as a clip without motion; a manifest
    with still pictures alone gives a store with `video_2d` only.

    Args:
        manifest: CSV or TSV with the columns id, recording, video, audio, start, end, fps, caption, label, split,
            `factor:NAME`; only id and one of video, audio, caption must be there.
        out: folder of the new store; it must not exist.
        video: `seeded` for the untrained offline default, a folder or hub id of a ResNet, or `frames`: the frames
            themselves, for a backbone that trains on them.
        words: file of word vectors; None trains them on the captions of the train split.
        name: what reports call the store; None takes the manifest's name.
        frames_per_s: rate at which frames are taken.
        size_px: frames are resized to this square for the untrained backbones.
        frame_size: height and width of the frames that are kept, with `video="frames"`.
        color: whether these keep their color.
        video_dim: width of each untrained video track.
        word_dim: width of trained word vectors.
        categorical: factors whose numbers are names.
        seed: of the untrained backbones and the word vectors.
        like: an existing store whose backbones, calibration and words are taken as they are: for more media of the
            same kind. `video`, `words`, `frames_per_s`, `size_px` and the widths are then those of that store.
        boxes: where things are and which of them sound: see `mcnlab.data.importers.boxes.read_box_files`.
        progress: called with rows done and rows in all.

    Returns:
        What became of every row; the same is in the store's `import_report.json`.

    Raises:
        DataError: the manifest is wrong, or nothing in it can be used; or no file of it, or of a column, is there; or
            all of many files of a column are refused for the same reason; or frames without a size, or a size without
            frames.
        StorageError: the store cannot be written, or exists.
    """
    began_s = time.monotonic()
    refuse_occupied(Path(out))
    frames = _frames(video, frame_size, frames_per_s, color=color)
    table = read_media_manifest(Path(manifest), categorical=categorical)
    refuse_absent_files(table)
    boxes_of = read_box_files(boxes) if boxes is not None else {}
    report = ImportReport(Path(out), notes=list(table.notes))
    table = _with_cut_captions(table, report)
    if strangers := set(boxes_of) - {row.id for row in table.rows}:
        report.notes.append(f"{boxes}: boxes of {len(strangers)} ids that the manifest does not have are left out")
    if like is None:
        vectors = word_vectors(table, words, dim=word_dim, seed=seed)
        backbones = {} if frames else backbones_for(table, video, frames_per_s, size_px, seed)
        decoder = Decoder(table.folder, frames_per_s, decode_size(frames, backbones, size_px))
        ticks = _Ticks(progress, (len(calibration_rows(table)) if backbones else 0) + len(table.rows))
        extractor = frames or calibrated(table, decoder, backbones, video_dim, ticks.advance)
        if extractor and not any(row.video for row in table.rows if row.split == "train"):
            report.notes.append("no train row has a picture: the visual features are calibrated on other splits")
    else:
        vectors, extractor = parts_of(open_store(like), table)
        frames_per_s = extractor.frames_per_s if extractor else frames_per_s
        size = decode_size(extractor, extractor.backbones if extractor else {}, size_px)
        decoder = Decoder(table.folder, frames_per_s, size)
        ticks = _Ticks(progress, len(table.rows))
    report.notes += notes_on_words(table, vectors)
    tracks = [*(extractor.tracks() if extractor else []), AUDIO_TRACK]
    with StoreWriter(
        out,
        name=name or Path(manifest).stem,
        tracks=tracks,
        words=vectors,
        info={
            "visual": extractor.info() if extractor else {},
            "frames_per_s": frames_per_s,
            "media_folder": str(table.folder.absolute()),
        },
        calibration=extractor.arrays() if extractor else {},
    ) as writer:
        for id_, rows in table.recordings().items():
            decoded = [_kept(decoder(row), vectors, report) for row in rows]
            ticks.advance(len(rows))
            clips = [clip for clip in decoded if clip is not None]
            if clips:
                writer.add(_recording(id_, clips, extractor, tracks, boxes_of))
                report.kept += len(clips)
        if not report.kept:
            raise DataError(f"{manifest}: nothing in it can be used; {'; '.join(report.lines()[1:3])}")
        _require_some_of_each_column(Path(manifest), table, report)
        report.notes += _notes_on_missing_files(table, report)
        writer.report = report.as_dict()
    report.import_s = time.monotonic() - began_s
    return report


def _require_some_of_each_column(manifest: Path, table: MediaManifest, report: ImportReport) -> None:
    """A column of which every file was refused for the same reason is a mistake of the manifest, not of its files."""
    for column in ("video", "audio"):
        wanted = sum(bool(getattr(row, column)) for row in table.rows)
        for reason, ids in report.lost.items():
            if wanted >= FEWEST_FOR_A_PATTERN and len(ids) == wanted and reason.startswith(f"{column}: "):
                why = reason.removeprefix(f"{column}: ")
                raise DataError(f"{manifest}: column {column}: none of its {wanted} entries can be read: {why}")


def _notes_on_missing_files(table: MediaManifest, report: ImportReport) -> list[str]:
    """Where a file that is not there was looked for; none where all were found."""
    gone = {column: ids for column in ("video", "audio") for ids in [report.lost.get(f"{column}: no such file")] if ids}
    for column, ids in gone.items():
        named = next(getattr(row, column) for row in table.rows if row.id == ids[0])
        return [f"relative paths begin at the folder of the table; no such file: {table.folder.absolute() / named}"]
    return []


def _frames(video: str, size: tuple[int, int] | None, frames_per_s: float, *, color: bool) -> RawFrames | None:
    """What keeps frames, where they shall be kept."""
    if video == "frames" and size is not None:
        return RawFrames(*size, frames_per_s, color=color)
    if video == "frames":
        raise DataError("--video frames needs --frame-size HEIGHTxWIDTH, such as 24x40")
    if size is not None or color:
        raise DataError(f"--frame-size and --color belong to --video frames, but --video is {video}")
    return None


class _Ticks:
    """Counts rows for a progress callback."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def advance(self, rows: int) -> None:
        """So many more rows are done."""
        self._done += rows
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def _with_cut_captions(table: MediaManifest, report: ImportReport) -> MediaManifest:
    """The manifest with captions of bearable length; what was cut is noted."""
    long = [row.id for row in table.rows if len(row.caption) > MAX_CAPTION_CHARACTERS]
    if not long:
        return table
    report.notes.append(f"{len(long)} captions cut at {MAX_CAPTION_CHARACTERS} characters: {', '.join(long[:5])}")
    rows = tuple(replace(row, caption=row.caption[:MAX_CAPTION_CHARACTERS]) for row in table.rows)
    return replace(table, rows=rows)


def _kept(decoded: Decoded, vectors: WordVectors, report: ImportReport) -> Decoded | None:
    """The row when something of it is left; its problems go into the report either way."""
    row, problems = decoded.row, list(decoded.problems)
    has_text = len(vectors.ids(row.caption, max_words=1)) > 0
    if row.caption and not has_text:
        problems.append("text: no word of the caption has a vector")
    if decoded.picture is None and decoded.waveform is None and not has_text:
        reason = "; ".join(problems) or "no video, audio or caption"
        report.drop(reason, row.id)
        return None
    for problem in problems:
        report.lose(problem, row.id)
    return decoded


def _recording(
    id_: str,
    decoded: Sequence[Decoded],
    extractor: Frozen | None,
    tracks: Sequence[Track],
    boxes: Mapping[str, Sequence[RowBox]],
) -> Recording:
    """The store's recording of some decoded rows."""
    features = [
        extract_tracks(one.picture.frames if one.picture else None, one.waveform, extractor=extractor)
        for one in decoded
    ]
    joined, starts_s = on_one_timeline(features, [one.duration_s for one in decoded], tracks)
    clips = tuple(_clip(one, start_s) for one, start_s in zip(decoded, starts_s, strict=True))
    pictures = [_thumbnail(one.picture) for one in decoded]
    placed = [
        box.placed(start_s, one.duration_s)
        for one, start_s in zip(decoded, starts_s, strict=True)
        for box in boxes.get(one.row.id, ())
    ]
    return Recording(
        id=id_,
        split=decoded[0].row.split,
        duration_s=clips[-1].end_s,
        tracks=joined,
        clips=clips,
        media={"kind": "files", "clips": [_pointer(one.row) for one in decoded]},
        thumbnails=np.stack(pictures) if any(one.picture for one in decoded) else None,
        boxes=tuple(box for box in placed if box is not None),
    )


def _clip(decoded: Decoded, start_s: float) -> Clip:
    """The store's clip of a decoded row."""
    row = decoded.row
    absent = {"video": decoded.picture is None, "audio": decoded.waveform is None}
    return Clip(
        start_s=start_s,
        end_s=start_s + decoded.duration_s,
        caption=row.caption,
        label=row.label,
        factors=row.factors,
        missing=tuple(modality for modality, is_absent in absent.items() if is_absent),
    )


def _thumbnail(picture: Picture | None) -> np.ndarray:
    """A small picture, black where there is none."""
    if picture is None:
        return np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    return thumbnail_of(picture.frames, aspect=picture.aspect)


def _pointer(row: MediaRow) -> dict[str, Any]:
    """Where a row's media lie, as the manifest has it."""
    return {
        "id": row.id,
        "video": row.video,
        "audio": row.audio,
        "start_s": row.start_s,
        "end_s": row.end_s,
        "fps": row.fps,
    }
