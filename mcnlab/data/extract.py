"""Frozen visual backbones: from frames to the rows of a video track."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from mcnlab.data.audio import BANDS, FRAMES_PER_S, log_mel
from mcnlab.data.calibration import Calibration
from mcnlab.data.records import Track
from mcnlab.data.seeded import SeededConvolutions, SeededMotion
from mcnlab.errors import DataError

_LARGEST = 6e4
"""Just inside float16: a clip far from all that was calibrated on stays finite."""


@runtime_checkable
class VisualBackbone(Protocol):
    """Turns the frames of a clip into rows of raw features."""

    name: str
    trained: bool
    dim: int
    """Width of a raw row."""
    frames_per_row: int
    """1: one row per frame."""
    size_px: int
    """Side of the square that frames are resized to."""

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(frames, height, width, 3) uint8 -> (ceil(frames / frames_per_row), dim) float32."""
        ...


@dataclass(frozen=True)
class Extractor:
    """Frozen backbones with their calibrations: the one way from frames to tracks, for the world and for media.

    Rows of an untrained backbone are means over about a second, as those of published backbones are: the maximum over
    a clip of single noisy frames says little (20 % of lip videos find their sentence; 45 % with the means).
    """

    backbones: Mapping[str, VisualBackbone]
    """By track name."""
    calibrations: Mapping[str, Calibration]
    """By track name; a track without one is stored raw."""
    frames_per_s: float
    """Rate of the frames that come in."""
    mean_s: float = 1.2
    """An untrained row is the mean over a window of this length, cut to the clip."""
    rows_per_s: float = 6.25
    """About how many rows of an untrained track are kept per second."""

    @classmethod
    def fit(
        cls,
        backbones: Mapping[str, VisualBackbone],
        clips: Iterable[np.ndarray],
        *,
        frames_per_s: float,
        dim: int = 512,
        mean_s: float = 1.2,
    ) -> Self:
        """Calibrate the untrained backbones on some clips of the train split.

        Args:
            backbones: by track name.
            clips: frames of each clip, (frames, height, width, 3) uint8. A few hundred clips are enough.
            frames_per_s: rate of all frames.
            dim: width of each calibrated track.
            mean_s: length of the window that a row is the mean of.

        Returns:
            The extractor.

        Raises:
            DataError: there is no frame to calibrate on.
        """
        bare = cls(backbones, {}, frames_per_s, mean_s)
        untrained = [name for name, backbone in backbones.items() if not backbone.trained]
        raw: dict[str, list[np.ndarray]] = {name: [] for name in untrained}
        for frames in clips if untrained else ():
            for name in untrained:
                raw[name].append(bare.raw_rows(name, frames).astype(np.float16))
        calibrations = {name: Calibration.fit(raw[name], dim=dim) for name in untrained}
        return cls(backbones, calibrations, frames_per_s, mean_s)

    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """The video tracks of one clip.

        Args:
            frames: (frames, height, width, 3), uint8, at least one frame.

        Returns:
            (rows, dim) float16 by track name.

        Raises:
            DataError: the frames have another shape or type, or there are none.
        """
        tracks = {}
        for name in self.backbones:
            rows = self.raw_rows(name, frames)
            calibration = self.calibrations.get(name)
            values = rows if calibration is None else calibration(rows)
            tracks[name] = np.clip(values, -_LARGEST, _LARGEST).astype(np.float16)
        return tracks

    def raw_rows(self, name: str, frames: np.ndarray) -> np.ndarray:
        """Uncalibrated rows of one track.

        Args:
            name: the track.
            frames: (frames, height, width, 3), uint8, at least one frame.

        Returns:
            (rows, raw), float32.

        Raises:
            DataError: the frames have another shape or type, or there are none.
        """
        backbone = self.backbones[name]
        rows = backbone(checked_frames(frames))
        if backbone.trained:
            return rows
        length = round(self.mean_s * self.frames_per_s / backbone.frames_per_row)
        return sliding_means(rows, length=max(length, 1), step=self._step(backbone))

    def tracks(self) -> list[Track]:
        """The tracks that this extractor gives.

        Returns:
            One per backbone.
        """
        return [Track(name, "video", self._dim(name), self._rate_hz(name)) for name in self.backbones]

    def info(self) -> dict[str, Any]:
        """Plain values for `store.json`: per track its backbone, whether that was trained, and how it was used."""
        return {
            name: {
                "backbone": backbone.name,
                "trained": backbone.trained,
                "size_px": backbone.size_px,
                "frames_per_row": backbone.frames_per_row,
                "frames_per_s": self.frames_per_s,
                "mean_s": self.mean_s,
            }
            for name, backbone in self.backbones.items()
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The calibrations as arrays for a store."""
        return {key: value for name, c in self.calibrations.items() for key, value in c.arrays(name).items()}

    def _dim(self, name: str) -> int:
        """Width of a track as stored."""
        calibration = self.calibrations.get(name)
        return self.backbones[name].dim if calibration is None else len(calibration.center)

    def _step(self, backbone: VisualBackbone) -> int:
        """Native rows from one stored row to the next."""
        return max(1, round(self.frames_per_s / backbone.frames_per_row / self.rows_per_s))

    def _rate_hz(self, name: str) -> float:
        """Stored rows per second of a track."""
        backbone = self.backbones[name]
        return self.frames_per_s / backbone.frames_per_row / (1 if backbone.trained else self._step(backbone))


def seeded_backbones(seed: int = 0, *, size_px: int = 40) -> dict[str, VisualBackbone]:
    """The offline default: untrained backbones for both video tracks.

    Args:
        seed: of all filters.
        size_px: side of the square that frames are resized to.

    Returns:
        `video_2d` and `video_3d`.
    """
    return {
        "video_2d": SeededConvolutions(seed, size_px=size_px),
        "video_3d": SeededMotion(seed, size_px=size_px),
    }


def extract_tracks(
    frames: np.ndarray | None,
    waveform: np.ndarray | None,
    *,
    extractor: Callable[[np.ndarray], dict[str, np.ndarray]] | None,
) -> dict[str, np.ndarray]:
    """All tracks of one clip; a modality that is None gives none.

    Args:
        frames: (frames, height, width, 3), uint8.
        waveform: (samples,), float, 16 kHz.
        extractor: an `Extractor`, or whatever else makes tracks of frames; may be None where no clip has any.

    Returns:
        (rows, dim) float16 by track name.
    """
    tracks = {} if frames is None or extractor is None else extractor(frames)
    if waveform is not None:
        tracks["audio_mel"] = log_mel(waveform).astype(np.float16)
    return tracks


AUDIO_TRACK = Track("audio_mel", "audio", BANDS, float(FRAMES_PER_S))


def sliding_means(rows: np.ndarray, *, length: int, step: int) -> np.ndarray:
    """Means over windows that move along the rows; at the edges the window stops instead of leaving.

    Args:
        rows: (rows, dim), float.
        length: rows of a window; cut to what is there.
        step: rows from one window to the next.

    Returns:
        (ceil(rows / step), dim), float32.

    Example:
        >>> sliding_means(np.array([[0.0], [2.0], [4.0], [6.0]]), length=2, step=2).ravel()
        array([1., 5.], dtype=float32)
    """
    length = min(length, len(rows))
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
    centers = np.arange(0, len(rows), step) + step // 2
    start = np.clip(centers - length // 2, 0, len(rows) - length)
    return ((total[start + length] - total[start]) / length).astype(np.float32)


def checked_frames(frames: np.ndarray) -> np.ndarray:
    """The frames, when they are frames.

    Args:
        frames: (frames, height, width, 3), uint8.

    Returns:
        The same array.

    Raises:
        DataError: they have another shape or type, or there are none.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise DataError(f"expected frames (n, height, width, 3) uint8, got {frames.shape} {frames.dtype}")
    return frames
