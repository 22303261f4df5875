"""Untrained visual backbones: seeded random filters in space, and waves in time."""

from collections.abc import Callable

import numpy as np

_BATCH = 256


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


def resized(frames: np.ndarray, size_px: int | tuple[int, int]) -> np.ndarray:
    """Frames as a stack of small pictures.

    Args:
        frames: (frames, height, width, 3), uint8.
        size_px: side of a square, or height and width; the frame is stretched to it, each pixel averaging the area that
            it covers.

    Returns:
        (frames, *size, 3), float32 in 0 to 1.
    """
    import torch  # late: start-up time
    from torch.nn import functional

    size = (size_px, size_px) if isinstance(size_px, int) else size_px
    if frames.shape[1:3] == size:
        return frames.astype(np.float32) / 255
    with torch.inference_mode():
        planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        small = functional.interpolate(planes, size=size, mode="bilinear", antialias=True)
        return small.permute(0, 2, 3, 1).numpy() / 255


def smooth_filters(random: np.random.Generator, count: int, *, channels: int, size: int) -> np.ndarray:
    """Smooth random filters of unit norm.

    Args:
        random: where the numbers come from.
        count: how many filters.
        channels: input channels.
        size: side of a filter.

    Returns:
        (count, channels, size, size), float32. All but the first quarter have zero sum: they see edges, not level.
    """
    raw = random.normal(size=(count, channels, size, size))
    blur = np.exp(-0.5 * (np.subtract.outer(np.arange(size), np.arange(size)) / 0.7) ** 2)
    filters = np.einsum("ab,ncbd,de->ncae", blur, raw, blur)
    filters[count // 4 :] -= filters[count // 4 :].mean(axis=(1, 2, 3), keepdims=True)
    return (filters / np.sqrt((filters**2).sum(axis=(1, 2, 3), keepdims=True))).astype(np.float32)


def cosines(length: int) -> np.ndarray:
    """The cosine waves of a window, without the constant one.

    Args:
        length: frames of the window.

    Returns:
        (length - 1, length), float32, unit norm, slowest first.
    """
    time = (np.arange(length) + 0.5) / length
    waves_ = np.cos(np.pi * np.outer(np.arange(1, length), time))
    return (waves_ / np.linalg.norm(waves_, axis=1, keepdims=True)).astype(np.float32)


def waves(length: int) -> np.ndarray:
    """Pairs of cosine and sine under a bell, whose joint amplitude tells a rate whatever its phase.

    Args:
        length: frames of the window.

    Returns:
        (length // 2 - 1, 2, length), float32, zero mean, unit norm; from one period per window upward.
    """
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
