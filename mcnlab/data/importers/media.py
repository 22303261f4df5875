"""Someone's own media: from a CSV of video, image and sound files and captions to a store."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.extract import AUDIO_TRACK, Extractor, VisualBackbone, extract_tracks, seeded_backbones
from mcnlab.data.importers.media_manifest import MediaManifest, MediaRow, read_media_manifest
from mcnlab.data.media_files import Picture, is_array, is_image, is_video_file, read_picture, read_sound
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store_writer import StoreWriter
from mcnlab.data.text import MAX_CAPTION_CHARACTERS, WordVectors, load_word_vectors, tokens, train_word_vectors
from mcnlab.data.thumbnails import HEIGHT_PX, WIDTH_PX, thumbnail_of
from mcnlab.data.timeline import on_one_timeline
from mcnlab.errors import DataError

CALIBRATION_CLIPS = 300
_STILL_S = 1.0
_WAITING_BYTES = 2**28


@dataclass
class ImportReport:
    """What became of every row of a manifest."""

    store: Path
    kept: int = 0
    """Clips in the store."""
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """Reason to ids of rows of which nothing was left."""
    lost: dict[str, list[str]] = field(default_factory=dict)
    """Reason to ids of rows that are kept, but without one modality."""
    notes: list[str] = field(default_factory=list)
    import_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `import_report.json`."""
        return {"kept": self.kept, "dropped": self.dropped, "lost": self.lost, "notes": self.notes}

    def lines(self) -> list[str]:
        """The report in a few lines, ids cut after the fifth."""
        lines = [f"{self.kept} clips kept, {sum(map(len, self.dropped.values()))} dropped"]
        for what, reasons in (("dropped", self.dropped), ("kept without a modality", self.lost)):
            for reason, ids in reasons.items():
                more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
                lines.append(f"{len(ids)} {what}: {reason}: {', '.join(map(repr, ids[:5]))}{more}")
        return lines + self.notes


@dataclass(frozen=True)
class _Decoded:
    """What could be read of one row."""

    row: MediaRow
    picture: Picture | None
    waveform: np.ndarray | None
    duration_s: float
    problems: tuple[str, ...]


def import_media(
    manifest: Path | str,
    out: Path | str,
    *,
    video: str = "seeded",
    words: Path | None = None,
    name: str | None = None,
    frames_per_s: float = 25.0,
    size_px: int = 48,
    video_dim: int = 512,
    word_dim: int = 64,
    categorical: Sequence[str] = (),
    seed: int = 0,
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
        video: `seeded` for the untrained offline default, or a folder or hub id of a ResNet.
        words: file of word vectors; None trains them on the captions of the train split.
        name: what reports call the store; None takes the manifest's name.
        frames_per_s: rate at which frames are taken.
        size_px: frames are resized to this square for the untrained backbones.
        video_dim: width of each untrained video track.
        word_dim: width of trained word vectors.
        categorical: factors whose numbers are names.
        seed: of the untrained backbones and the word vectors.
        progress: called with rows done and rows in all.

    Returns:
        What became of every row; the same is in the store's `import_report.json`.

    Raises:
        DataError: the manifest is wrong, or nothing in it can be used.
        StorageError: the store cannot be written, or exists.
    """
    began_s = time.monotonic()
    table = read_media_manifest(Path(manifest), categorical=categorical)
    report = ImportReport(Path(out), notes=list(table.notes))
    table = _with_cut_captions(table, report)
    vectors = _word_vectors(table, words, dim=word_dim, seed=seed)
    backbones = _backbones(table, video, frames_per_s, size_px, seed)
    decoder = _Decoder(table.folder, frames_per_s, _decode_size(backbones, size_px))
    ticks = _Ticks(progress, (len(_calibration_rows(table)) if backbones else 0) + len(table.rows))
    extractor = _calibrated(table, decoder, backbones, video_dim, ticks)
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
                writer.add(_recording(id_, clips, extractor, tracks))
                report.kept += len(clips)
        if not report.kept:
            raise DataError(f"{manifest}: nothing in it can be used; {'; '.join(report.lines()[1:3])}")
        writer.report = report.as_dict()
    report.import_s = time.monotonic() - began_s
    return report


@dataclass(frozen=True)
class _Decoder:
    """Reads what a row points to; what cannot be read becomes a problem in words."""

    folder: Path
    frames_per_s: float
    size_px: int
    waiting: dict[str, Picture] = field(default_factory=dict)
    """Pictures by row id that the calibration has decoded already, up to a quarter of a gigabyte."""

    def __call__(self, row: MediaRow) -> _Decoded:
        """Decode one row."""
        problems: list[str] = []
        picture = self.waiting.pop(row.id, None) or self.picture(row, problems)
        waveform = self._waveform(row, problems)
        lengths = [len(waveform) / 16_000] if waveform is not None else []
        lengths += [picture.duration_s] if picture is not None and picture.duration_s is not None else []
        wanted_s = row.end_s - row.start_s if row.end_s is not None else _STILL_S
        return _Decoded(row, picture, waveform, max(lengths, default=wanted_s), tuple(problems))

    def picture(self, row: MediaRow, problems: list[str]) -> Picture | None:
        """The frames of a row, or None and a problem."""
        if not row.video:
            return None
        try:
            return read_picture(
                self.folder,
                row.video,
                start_s=row.start_s,
                end_s=row.end_s,
                fps=row.fps,
                frames_per_s=self.frames_per_s,
                size_px=self.size_px,
            )
        except DataError as error:
            problems.append(f"video: {_without_path(error)}")
            return None

    def keep(self, row: MediaRow, picture: Picture) -> None:
        """Remember a picture until its row comes, while there is room."""
        if (len(self.waiting) + 1) * picture.frames.nbytes < _WAITING_BYTES:
            self.waiting[row.id] = picture

    def _waveform(self, row: MediaRow, problems: list[str]) -> np.ndarray | None:
        """The sound of a row: its own file, or that of its video."""
        source = row.audio or (row.video if is_video_file(row.video) else "")
        if not source or (problems and not row.audio):
            return None
        try:
            return read_sound(self.folder, source, start_s=row.start_s, end_s=row.end_s)
        except DataError as error:
            problems.append(f"audio: {_without_path(error)}")
            return None


def _without_path(error: DataError) -> str:
    """An error's reason without the file that it begins with: the row's id says which file it was."""
    return re.sub(r"^/\S*: ", "", str(error))


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


def _word_vectors(table: MediaManifest, words: Path | None, *, dim: int, seed: int) -> WordVectors:
    """Vectors from a file, or trained on the train split's captions; an empty vocabulary without captions."""
    captions = [row.caption for row in table.rows if row.split == "train" and tokens(row.caption)]
    everything = {word for row in table.rows for word in tokens(row.caption)}
    if not everything or (words is None and not captions):
        return WordVectors((), np.zeros((0, dim), np.float32), "no captions")
    if words is not None:
        return load_word_vectors(words, everything)
    return train_word_vectors(captions, dim=dim, seed=seed)


def _backbones(
    table: MediaManifest, video: str, frames_per_s: float, size_px: int, seed: int
) -> dict[str, VisualBackbone]:
    """The frozen backbones that a manifest's pictures need."""
    sources = [row.video for row in table.rows if row.video]
    if not sources:
        return {}
    backbones = seeded_backbones(seed, size_px=size_px)
    if video != "seeded":
        from mcnlab.data.resnet import ResNetFeatures  # late: transformers is an extra and heavy

        backbones["video_2d"] = ResNetFeatures(video, frames_per_row=max(1, round(frames_per_s)))
    if all(_is_still(row) for row in table.rows if row.video):
        del backbones["video_3d"]
    return backbones


def _is_still(row: MediaRow) -> bool:
    """Whether a row's picture is one image: an image file, or an array without a rate."""
    return is_image(row.video) or (is_array(row.video) and row.fps is None)


def _decode_size(backbones: Mapping[str, VisualBackbone], size_px: int) -> int:
    """Side of the square in which frames are kept: the largest that a backbone wants."""
    return max((backbone.size_px for backbone in backbones.values()), default=size_px)


def _calibration_rows(table: MediaManifest) -> list[MediaRow]:
    """Train rows with a picture, evenly spread over the manifest; any rows where train has none."""
    rows = [row for row in table.rows if row.video and row.split == "train"]
    rows = rows or [row for row in table.rows if row.video]
    places = np.unique(np.linspace(0, len(rows) - 1, min(CALIBRATION_CLIPS, len(rows))).astype(int))
    return [rows[place] for place in places]


def _calibrated(
    table: MediaManifest, decoder: _Decoder, backbones: dict[str, VisualBackbone], video_dim: int, ticks: _Ticks
) -> Extractor | None:
    """The extractor, calibrated on train rows; None where no picture can be read."""
    if not backbones:
        return None

    def frames() -> Iterator[np.ndarray]:
        for row in _calibration_rows(table):
            picture = decoder.picture(row, [])
            ticks.advance(1)
            if picture is not None:
                decoder.keep(row, picture)
                yield picture.frames

    samples = frames()
    first = next(samples, None)
    if first is None:
        return None
    return Extractor.fit(backbones, chain([first], samples), frames_per_s=decoder.frames_per_s, dim=video_dim)


def _kept(decoded: _Decoded, vectors: WordVectors, report: ImportReport) -> _Decoded | None:
    """The row when something of it is left; its problems go into the report either way."""
    row, problems = decoded.row, list(decoded.problems)
    has_text = len(vectors.ids(row.caption, max_words=1)) > 0
    if row.caption and not has_text:
        problems.append("text: no word of the caption has a vector")
    if decoded.picture is None and decoded.waveform is None and not has_text:
        reason = "; ".join(problems) or "no video, audio or caption"
        report.dropped.setdefault(reason, []).append(row.id)
        return None
    for problem in problems:
        report.lost.setdefault(problem, []).append(row.id)
    return decoded


def _recording(
    id_: str, decoded: Sequence[_Decoded], extractor: Extractor | None, tracks: Sequence[Track]
) -> Recording:
    """The store's recording of some decoded rows."""
    features = [
        extract_tracks(one.picture.frames if one.picture else None, one.waveform, extractor=extractor)
        for one in decoded
    ]
    joined, starts_s = on_one_timeline(features, [one.duration_s for one in decoded], tracks)
    clips = tuple(_clip(one, start_s) for one, start_s in zip(decoded, starts_s, strict=True))
    pictures = [_thumbnail(one.picture) for one in decoded]
    return Recording(
        id=id_,
        split=decoded[0].row.split,
        duration_s=clips[-1].end_s,
        tracks=joined,
        clips=clips,
        media={"kind": "files", "clips": [_pointer(one.row) for one in decoded]},
        thumbnails=np.stack(pictures) if any(one.picture for one in decoded) else None,
    )


def _clip(decoded: _Decoded, start_s: float) -> Clip:
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
