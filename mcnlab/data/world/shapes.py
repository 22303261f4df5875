"""The ten objects as outlines: signed distances in units of the object's radius, below 0 inside, y up."""

from collections.abc import Callable

import numpy as np


def _polygon(x: np.ndarray, y: np.ndarray, corners: list[tuple[float, float]]) -> np.ndarray:
    """Distance to a convex polygon whose corners run counterclockwise."""
    edges = zip(corners, corners[1:] + corners[:1], strict=True)
    return np.max([_side(x, y, start, end) for start, end in edges], axis=0)


def _side(x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """Distance to the right of a line; below 0 on its left."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    return ((x - start[0]) * along_y - (y - start[1]) * along_x) / np.float32(np.hypot(along_x, along_y))


def _disk(x: np.ndarray, y: np.ndarray, center: tuple[float, float], radius: float) -> np.ndarray:
    """Distance to a disk."""
    return np.hypot(x - np.float32(center[0]), y - np.float32(center[1])) - np.float32(radius)


def _ball(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _disk(x, y, (0.0, 0.0), 1.0)


def _box(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x) - 0.92, np.abs(y) - 1.0)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    wide, tall = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(wide - 0.36, tall - 1.0), np.maximum(wide - 1.0, tall - 0.36))


def _fish(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    body = (np.hypot((x - 0.22) / 0.85, y / 0.66) - 1.0) * 0.66
    tail = _polygon(x, y, [(-1.15, -0.85), (-0.25, 0.0), (-1.15, 0.85)])
    eye = _disk(x, y, (0.62, 0.18), 0.14)
    return np.maximum(np.minimum(body, tail), -eye)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    lobes = _disk(np.abs(x), y, (0.5, 0.42), 0.56)
    return np.minimum(lobes, _polygon(x, y, [(0.0, -1.0), (0.98, 0.15), (0.5, 0.55), (-0.5, 0.55), (-0.98, 0.15)]))


def _hourglass(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    tall = np.abs(y)
    return np.maximum((np.abs(x) - 0.12 - 0.83 * tall) / 1.3, tall - 1.0)


def _moon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(_disk(x, y, (0.0, 0.0), 1.0), -_disk(x, y, (0.55, 0.2), 0.8))


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - 0.7) - 0.28


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    sector = np.float32(2.0 * np.pi / 5.0)
    angle = np.arctan2(x, y)
    folded = np.abs(angle - sector * np.round(angle / sector))  # 0 at a tip, sector / 2 in a notch
    reach = np.hypot(x, y)
    along, aside = reach * np.cos(folded), reach * np.sin(folded)
    notch = (0.45 * np.cos(np.pi / 5), 0.45 * np.sin(np.pi / 5))
    tip = (1.08, 0.0)
    length = np.hypot(notch[0] - tip[0], notch[1])
    return ((along - tip[0]) * notch[1] - aside * (notch[0] - tip[0])) / np.float32(length)


def _tree(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    crown = _polygon(x, y, [(-0.62, 0.2), (0.62, 0.2), (0.0, 1.05)])
    skirt = _polygon(x, y, [(-0.98, -0.5), (0.98, -0.5), (0.0, 0.7)])
    trunk = np.maximum(np.abs(x) - 0.2, np.abs(y + 0.7) - 0.3)
    return np.minimum(np.minimum(crown, skirt), trunk)


OUTLINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ball": _ball,
    "box": _box,
    "cross": _cross,
    "fish": _fish,
    "heart": _heart,
    "hourglass": _hourglass,
    "moon": _moon,
    "ring": _ring,
    "star": _star,
    "tree": _tree,
}
"""Object name to outline."""
