"""Classification data sets: from their official split files and media or features to a store with a protocol."""

import csv
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mcnlab.data.extract import AUDIO_TRACK
from mcnlab.data.importers.media import import_media
from mcnlab.data.importers.media_manifest import id_fault
from mcnlab.data.importers.protocol_files import MEDIA_ENDINGS, ListedClip, Listing, read_listing
from mcnlab.data.importers.recordings import Reading, import_recordings
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.step_features import FeatureFolder, check_audio, open_features, read_audio
from mcnlab.data.importers.steps import store_tracks
from mcnlab.data.media_files import IMAGE_SUFFIXES, SOUND_SUFFIXES, opened_media
from mcnlab.data.protocol import add_protocol, check_protocol
from mcnlab.data.records import Clip, Recording
from mcnlab.data.text import WordVectors
from mcnlab.errors import ConfigError, DataError
from mcnlab.files import new_folder_atomically, refuse_occupied

SHOWN = 5
"""Names that an error on missing clips gives."""
UNUSED = "unused"
"""Store split of recordings that the first official split leaves out."""
_FEATURE_ENDINGS = (".npy", ".npz", "_2d.npy", "_2d.npz")


@dataclass(frozen=True)
class Windows:
    """How a long recording is looked at: windows at equal distances, whose features are averaged."""

    count: int = 10
    """Most windows of a recording."""
    length_s: float = 3.2
    """Length of each; a recording that is no longer is one window."""

    def of(self, duration_s: float) -> list[tuple[float, float]]:
        """Starts and ends in seconds.

        Example:
            >>> Windows(3, 2.0).of(6.0)
            [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
        """
        if self.count == 1 or duration_s <= self.length_s:
            return [(0.0, duration_s)]
        starts = np.linspace(0.0, duration_s - self.length_s, self.count)
        return [(float(start), float(min(start + self.length_s, duration_s))) for start in starts]


def import_protocol(
    kind: str,
    splits: Path,
    out: Path,
    *,
    media: Path | None = None,
    features: Path | None = None,
    audio: Path | None = None,
    like: Path | None = None,
    video: str = "seeded",
    windows: Windows = Windows(),
    rate_hz: float = 1.0,
    leave_out: bool = False,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Make a store whose recordings carry classes and their part in every official split.

    Args:
        kind: `ucf101`, `hmdb51`, `kinetics600`, `esc50`, `audioset`, `voc2007`, `folders`.
        splits: folder or file of the official lists.
        out: folder of the new store; it must not exist.
        media: folder of video, sound or image files, found by name at any depth.
        features: instead of media, a folder of `ID.npy` (rows, dim), or `ID_2d.npy` and `ID_3d.npy`.
        audio: beside features, a folder of `ID.npz` with `arr_0`: log-mel of 40 bands.
        like: for media, an existing store whose frozen extraction is used: what a trained run can read.
        video: for media without `like`: `seeded`, or a folder or hub id of a ResNet.
        windows: of long recordings.
        rate_hz: rows of features per second.
        leave_out: whether listed clips whose files are not there are left out and reported; otherwise they are an
            error.
        name: what reports call the store; the kind when None.
        progress: called with rows done and all.

    Returns:
        What became of every clip.

    Raises:
        ConfigError: an unknown kind, or not exactly one of media and features.
        DataError: an official file is wrong, or names clips that are not there: how many, and the first ones.
        StorageError: the store cannot be written, or exists.

    Source: Alayrac et al. (NeurIPS 2020), arXiv 2006.16228, section 4.1: ten windows of 32 frames at 10 per second.
    """
    refuse_occupied(out)
    if (media is None) == (features is None):
        raise ConfigError("expected either media or features")
    if windows.count < 1 or not windows.length_s > 0:
        raise ConfigError(
            f"windows: expected one or more of positive length, got {windows.count} of {windows.length_s}"
        )
    listing = read_listing(kind, splits)
    check_protocol(listing.protocol(), source=splits)
    with new_folder_atomically(out) as folder:
        if media is not None:
            listing, files, absent = _found(listing, media, _files_by_name(media, MEDIA_ENDINGS), splits, leave_out)
            report = _from_media(listing, files, folder, like, video, windows, name or kind, progress)
        else:
            features = Path(features or "")
            listing, files, absent = _found(
                listing, features, _files_by_name(features, _FEATURE_ENDINGS), splits, leave_out
            )
            layout = _layout(features, list(files.values()), rate_hz)
            read = partial(_read_features, layout, files, audio, windows, listing.multi_label)
            report = _from_features(listing, read, layout, audio, folder, name or kind, progress)
        report.dropped |= {"no file": absent} if absent else {}
        add_protocol(folder, listing.protocol(), report=report.as_dict())
    report.store = out
    return report


def _files_by_name(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Every file below a folder by its name without ending, and by that with the folder that it lies in."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        ending = next((one for one in reversed(endings) if path.name.lower().endswith(one)), None)
        if ending is None or not path.is_file():
            continue
        stem = path.name[: -len(ending)]
        parts = [*path.relative_to(folder).parent.parts, stem]
        for depth in range(1, min(len(parts), 3) + 1):
            found.setdefault("/".join(parts[-depth:]), path)
    return found


def _found(
    listing: Listing, folder: Path, files: Mapping[str, Path], splits: Path, leave_out: bool
) -> tuple[Listing, dict[str, Path], list[str]]:
    """The listed clips that have a file, the files, and the ids of the others; those are an error unless left out."""
    there: dict[str, Path] = {}
    absent: list[str] = []
    for id_, clip in listing.clips.items():
        names = [*clip.names, id_]  # those with a folder first: names may repeat between classes
        file = next((files[name] for name in names if name in files), None)
        if file is None or id_fault(id_):
            absent.append(id_)
        else:
            there[id_] = file
    if absent and (not leave_out or not there):
        first = ", ".join(map(repr, absent[:SHOWN])) + (", …" if len(absent) > SHOWN else "")
        raise DataError(
            f"{folder}: {len(absent)} of {len(listing.clips)} clips that {splits} names are not there: {first}"
        )
    kept = {id_: clip for id_, clip in listing.clips.items() if id_ in there}
    return replace(listing, clips=kept), there, absent


def _from_media(
    listing: Listing,
    files: Mapping[str, Path],
    out: Path,
    like: Path | None,
    video: str,
    windows: Windows,
    name: str,
    progress: Callable[[int, int], None] | None,
) -> ImportReport:
    """A store of media files, through a manifest like anybody's own."""
    with tempfile.TemporaryDirectory(prefix="mcnlab-protocol-") as temporary:
        manifest = Path(temporary) / "manifest.csv"
        with manifest.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "recording", "video", "audio", "start", "end", "label", "split"])
            for clip in listing.clips.values():
                writer.writerows(_manifest_rows(clip, files[clip.id].absolute(), windows, listing.multi_label))
        return import_media(manifest, out, video=video, name=name, like=like, progress=progress)


def _manifest_rows(clip: ListedClip, path: Path, windows: Windows, multi_label: bool) -> Iterable[list[object]]:
    """The rows of a manifest for one listed clip, a row per window."""
    sound = path.suffix.lower() in SOUND_SUFFIXES
    still = path.suffix.lower() in IMAGE_SUFFIXES
    duration_s = None if still or windows.count == 1 else _duration_s(path)
    spans = [("", "")] if duration_s is None else [(f"{a:.3f}", f"{b:.3f}") for a, b in windows.of(duration_s)]
    spans = [("", "")] if len(spans) == 1 else spans
    for number, (start, end) in enumerate(spans):
        entry = ["", str(path)] if sound else [str(path), ""]
        label = "" if multi_label else clip.labels[0]
        yield [f"{clip.id}.{number}", clip.id, *entry, start, end, label, clip.roles[0] or UNUSED]


def _duration_s(path: Path) -> float | None:
    """How long a media file says it is; None where it cannot be read, which the import reports."""
    try:
        with opened_media(path) as container:
            return container.duration / 1_000_000 if container.duration else None
    except DataError:
        return None


def _layout(folder: Path, files: Sequence[Path], rate_hz: float) -> FeatureFolder:
    """Tracks and widths, told from the files that lie beside the first one; read from the folder as a whole."""
    beside = [_feature_name(file, files[0].parent) for file in files if file.parent == files[0].parent]
    return replace(open_features(files[0].parent, [[name] for name in beside], rate_hz=rate_hz), path=folder)


def _feature_name(file: Path, folder: Path) -> str:
    """A feature file's name below a folder, without the ending that says which track it holds."""
    ending = next(one for one in reversed(_FEATURE_ENDINGS) if file.name.endswith(one))
    return file.relative_to(folder).as_posix().removesuffix(ending)


def _from_features(
    listing: Listing,
    read: Callable[[ListedClip], Reading],
    layout: FeatureFolder,
    audio: Path | None,
    out: Path,
    name: str,
    progress: Callable[[int, int], None] | None,
) -> ImportReport:
    """A store of features that others have extracted."""
    clips = list(listing.clips.values())
    if audio is not None:
        check_audio(audio, [[clip.id] for clip in clips])
    words = WordVectors((), np.zeros((0, 1), np.float32), "no captions")
    tracks = store_tracks(layout, audio)
    return import_recordings(clips, read, out, name=name, tracks=tracks, words=words, progress=progress)


def _read_features(
    layout: FeatureFolder,
    files: Mapping[str, Path],
    audio: Path | None,
    windows: Windows,
    multi_label: bool,
    clip: ListedClip,
) -> Reading:
    """One recording with its features."""
    problems: list[str] = []
    try:
        tracks = layout.read([_feature_name(files[clip.id], layout.path)])
    except DataError as error:
        return Reading(clip.id, None, (str(error),))
    duration_s = len(next(iter(tracks.values()))) / layout.rate_hz
    if audio is not None:
        try:
            tracks["audio_mel"] = read_audio(audio, [clip.id])
            duration_s = max(duration_s, len(tracks["audio_mel"]) / AUDIO_TRACK.rate_hz)
        except DataError as error:
            problems.append(str(error))
    label = None if multi_label else clip.labels[0]
    spans = tuple(Clip(start, end, label=label) for start, end in windows.of(duration_s))
    recording = Recording(clip.id, clip.roles[0] or UNUSED, duration_s, tracks, spans, media={"kind": "features"})
    return Reading(clip.id, recording, tuple(problems))
