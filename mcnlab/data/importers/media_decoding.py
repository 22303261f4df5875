"""From a row of a media manifest to its frames and its waveform, with every problem in words."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mcnlab.data.audio import SAMPLES_PER_S
from mcnlab.data.importers.media_manifest import MediaRow
from mcnlab.data.media_files import Picture, Size, is_video_file, read_picture, read_sound
from mcnlab.errors import DataError

_STILL_S = 1.0
_WAITING_BYTES = 2**28


@dataclass(frozen=True)
class Decoded:
    """What could be read of one row."""

    row: MediaRow
    picture: Picture | None
    waveform: np.ndarray | None
    duration_s: float
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Decoder:
    """Reads what a row points to; what cannot be read becomes a problem in words."""

    folder: Path
    frames_per_s: float
    size_px: Size
    waiting: dict[str, Picture] = field(default_factory=dict)
    """Pictures by row id that the calibration has decoded already, up to a quarter of a gigabyte."""

    def __call__(self, row: MediaRow) -> Decoded:
        """Decode one row."""
        problems: list[str] = []
        picture = self.waiting.pop(row.id, None) or self.picture(row, problems)
        waveform = self._waveform(row, problems)
        lengths = [len(waveform) / SAMPLES_PER_S] if waveform is not None else []
        lengths += [picture.duration_s] if picture is not None and picture.duration_s is not None else []
        wanted_s = row.end_s - row.start_s if row.end_s is not None else _STILL_S
        return Decoded(row, picture, waveform, max(lengths, default=wanted_s), tuple(problems))

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
