"""Frozen visual backbones: from frames to the rows of a video track."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from mcnlab.data.audio import BANDS, FRAMES_PER_S, log_mel
from mcnlab.data.calibration import Calibration
from mcnlab.data.records import Track
from mcnlab.errors import DataError

_BATCH = 256
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


class SeededConvolutions:
    """Two layers of seeded random convolutions on single frames, pooled on a grid so that coarse position survives.

    The first layer has smooth random filters: some that see color, most with zero sum, which see edges and texture.

    Source:
        Random features in place of learned ones: Jarrett et al. 2009, Saxe et al. 2011. The filters are our own.
    """

    trained = False
    frames_per_row = 1

    def __init__(self, seed: int = 0, *, size_px: int = 40, widths: tuple[int, int] = (24, 48), grid: int = 5) -> None:
        """Draw the filters.

        Args:
            seed: of all filters.
            size_px: frames are resized to this square, by area.
            widths: filters of the two layers.
            grid: the pooled maps have this many cells a side.
        """
        self.name = f"seeded-convolutions-{seed}"
        self.size_px, self.grid = size_px, grid
        random = np.random.default_rng([seed, 2])
        self._first = smooth_filters(random, widths[0], channels=3, size=5)
        self._second = smooth_filters(random, widths[1], channels=widths[0], size=3)
        self.dim = grid * grid * (3 + widths[0] + widths[1])

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(frames, height, width, 3) uint8 -> (frames, dim) float32."""
        return _in_batches(self._features, frames, self.dim)

    def _features(self, frames: np.ndarray) -> np.ndarray:
        """Grid-pooled colors, first and second layer of a few frames."""
        import torch  # late: start-up time
        from torch.nn import functional

        with torch.inference_mode():
            color = torch.from_numpy(resized(frames, self.size_px)).permute(0, 3, 1, 2) - 0.5  # (n, 3, size, size)
            first = functional.conv2d(color, torch.from_numpy(self._first), stride=2, padding=2).relu()
            second = functional.conv2d(first, torch.from_numpy(self._second), stride=2, padding=1).relu()
            pooled = [functional.adaptive_avg_pool2d(maps, self.grid).flatten(1) for maps in (color, first, second)]
            return torch.cat(pooled, dim=1).numpy()


class SeededMotion:
    """Seeded random filters in space, then a bank of waves in time: what moves where, and how fast.

    Per window of frames and grid cell: slow waves keep their sign (the shape of a movement), all waves give their
    amplitude (its rate, wherever in the window it falls). The level itself, the constant wave, is left to `video_2d`.
    """

    trained = False

    def __init__(
        self,
        seed: int = 0,
        *,
        size_px: int = 40,
        filters: int = 12,
        grid: int = 5,
        window: int = 16,
        frames_per_row: int = 4,
    ) -> None:
        """Draw the filters.

        Args:
            seed: of all filters.
            size_px: frames are resized to this square, by area.
            filters: spatial filters, of which one sees brightness.
            grid: cells a side.
            window: frames that one row sees.
            frames_per_row: step from one window to the next.
        """
        self.name = f"seeded-motion-{seed}"
        self.size_px, self.grid, self.window, self.frames_per_row = size_px, grid, window, frames_per_row
        random = np.random.default_rng([seed, 3])
        self._filters = smooth_filters(random, filters, channels=1, size=5)
        self._short, self._long = cosines(window // 2)[:4], waves(window)  # (4, w/2), (rates, 2, w)
        self._cells = filters * grid * grid
        self.dim = self._cells * (len(self._short) + len(self._long))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(frames, height, width, 3) uint8 -> (ceil(frames / frames_per_row), dim) float32."""
        cells = _in_batches(self._responses, frames, self._cells)  # (frames, cells)
        return self._over_time(cells)

    def _responses(self, frames: np.ndarray) -> np.ndarray:
        """(n, cells): signed filter responses pooled on the grid."""
        import torch  # late: start-up time
        from torch.nn import functional

        with torch.inference_mode():
            color = torch.from_numpy(resized(frames, self.size_px)).permute(0, 3, 1, 2)  # (n, 3, size, size)
            gray = color.mean(dim=1, keepdim=True) - 0.5
            maps = functional.conv2d(gray, torch.from_numpy(self._filters), stride=2, padding=2)
            return functional.adaptive_avg_pool2d(maps, self.grid).flatten(1).numpy()

    def _over_time(self, cells: np.ndarray) -> np.ndarray:
        """(frames, cells) -> (rows, dim): windows around every `frames_per_row`-th frame, edges repeated."""
        half = self.window // 2
        centers = np.arange(0, len(cells), self.frames_per_row) + self.frames_per_row // 2
        padded = np.pad(cells, ((half, half + self.frames_per_row), (0, 0)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=0)[centers]  # (rows, cells, w)
        middle = windows[:, :, half // 2 : half // 2 + half]
        shape = middle @ self._short.T  # (rows, cells, 4)
        amplitude = np.sqrt(
            ((windows @ self._long.reshape(-1, self.window).T) ** 2)
            .reshape(*windows.shape[:2], len(self._long), 2)
            .sum(axis=3)
        )  # (rows, cells, rates)
        return np.concatenate([shape.reshape(len(shape), -1), amplitude.reshape(len(shape), -1)], axis=1)


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
        """Plain values for `store.json`: per track the backbone's name and whether it was trained."""
        return {
            name: {"backbone": backbone.name, "trained": backbone.trained, "mean_s": self.mean_s}
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
    frames: np.ndarray | None, waveform: np.ndarray | None, *, extractor: Extractor | None
) -> dict[str, np.ndarray]:
    """All tracks of one clip; a modality that is None gives none.

    Args:
        frames: (frames, height, width, 3), uint8.
        waveform: (samples,), float, 16 kHz.
        extractor: for the frames; may be None where no clip has any.

    Returns:
        (rows, dim) float16 by track name.
    """
    tracks = {} if frames is None or extractor is None else extractor(frames)
    if waveform is not None:
        tracks["audio_mel"] = log_mel(waveform).astype(np.float16)
    return tracks


AUDIO_TRACK = Track("audio_mel", "audio", BANDS, float(FRAMES_PER_S))


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


def resized(frames: np.ndarray, size_px: int) -> np.ndarray:
    """(frames, height, width, 3) uint8 -> (frames, size, size, 3) float32 in 0 to 1, by area."""
    import torch  # late: start-up time
    from torch.nn import functional

    if frames.shape[1:3] == (size_px, size_px):
        return frames.astype(np.float32) / 255
    with torch.inference_mode():
        planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        small = functional.interpolate(planes, size=(size_px, size_px), mode="bilinear", antialias=True)
        return small.permute(0, 2, 3, 1).numpy() / 255


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


def smooth_filters(random: np.random.Generator, count: int, *, channels: int, size: int) -> np.ndarray:
    """(count, channels, size, size) float32: smooth random filters of unit norm; all but a quarter have zero sum."""
    raw = random.normal(size=(count, channels, size, size))
    blur = np.exp(-0.5 * (np.subtract.outer(np.arange(size), np.arange(size)) / 0.7) ** 2)
    filters = np.einsum("ab,ncbd,de->ncae", blur, raw, blur)
    filters[count // 4 :] -= filters[count // 4 :].mean(axis=(1, 2, 3), keepdims=True)
    return (filters / np.sqrt((filters**2).sum(axis=(1, 2, 3), keepdims=True))).astype(np.float32)


def cosines(length: int) -> np.ndarray:
    """(length - 1, length) float32: the cosine waves of a window without the constant one, unit norm."""
    time = (np.arange(length) + 0.5) / length
    waves_ = np.cos(np.pi * np.outer(np.arange(1, length), time))
    return (waves_ / np.linalg.norm(waves_, axis=1, keepdims=True)).astype(np.float32)


def waves(length: int) -> np.ndarray:
    """(rates, 2, length) float32: windowed cosine and sine pairs from one to length / 2 - 1 periods, zero mean."""
    time = np.arange(length) / length
    taper = np.hanning(length + 2)[1:-1]
    angle = 2 * np.pi * np.outer(np.arange(1, length // 2), time)
    pairs = np.stack([np.cos(angle), np.sin(angle)], axis=1) * taper
    pairs -= taper * pairs.mean(axis=2, keepdims=True) / taper.mean()
    return (pairs / np.linalg.norm(pairs, axis=2, keepdims=True)).astype(np.float32)


def _in_batches(features: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, dim: int) -> np.ndarray:
    """Apply a function to a few frames at a time."""
    result = np.empty((len(frames), dim), np.float32)
    for start in range(0, len(frames), _BATCH):
        result[start : start + _BATCH] = features(frames[start : start + _BATCH])
    return result
