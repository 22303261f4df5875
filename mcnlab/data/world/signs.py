"""The sign in the upper corners that the narrator names: a cloud, a flag, a lamp, a rainbow or a sun."""

import numpy as np

SIDE_PX = 10
_ROWS, _COLUMNS = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)


def paint_sign(scene: np.ndarray, sign: str) -> None:
    """Lay a sign over both upper corners of a scene.

    Args:
        scene: (frames, height, width, 3), float32; changed in place.
        sign: one of the values of the factor `vt.sign`.
    """
    picture, cover = SIGNS[sign]
    for columns in (slice(0, SIDE_PX), slice(-SIDE_PX, None)):
        corner = scene[:, :SIDE_PX, columns]
        corner += cover[..., None] * (picture - corner)


def _disk(row: float, column: float, radius: float) -> np.ndarray:
    """Cover of a disk with a soft edge."""
    return np.clip(radius + 0.5 - np.hypot(_ROWS - row, _COLUMNS - column), 0.0, 1.0)


def _plain(color: tuple[float, float, float], cover: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One color wherever there is cover."""
    return np.broadcast_to(np.asarray(color, dtype=np.float32), (SIDE_PX, SIDE_PX, 3)), cover.astype(np.float32)


def _cloud() -> tuple[np.ndarray, np.ndarray]:
    puffs = [_disk(5.5, 2.5, 2.0), _disk(4.0, 5.0, 2.5), _disk(5.5, 7.0, 2.0)]
    return _plain((0.95, 0.96, 1.0), np.max(puffs, axis=0))


def _flag() -> tuple[np.ndarray, np.ndarray]:
    stripes = np.where((np.mod(_ROWS, 4.0) < 2.0)[..., None], (0.85, 0.1, 0.15), (0.95, 0.95, 0.95))
    pole = (_COLUMNS == 1) & (_ROWS >= 1)
    picture = np.where(pole[..., None], 0.2, stripes).astype(np.float32)
    cloth = (_COLUMNS >= 2) & (_COLUMNS <= 8) & (_ROWS >= 1) & (_ROWS <= 6)
    return picture, (pole | cloth).astype(np.float32)


def _lamp() -> tuple[np.ndarray, np.ndarray]:
    shade = (_ROWS >= 2) & (_ROWS <= 6) & (np.abs(_COLUMNS - 4.5) <= _ROWS - 1.5)
    cord = (_ROWS < 2) & (np.abs(_COLUMNS - 4.5) <= 0.5)
    return _plain((0.08, 0.08, 0.10), np.where(shade | cord, 1.0, 0.0))


def _rainbow() -> tuple[np.ndarray, np.ndarray]:
    reach = np.hypot(_ROWS - 8.5, _COLUMNS - 4.5)
    colors = np.select(
        [(reach < 3.4)[..., None], (reach < 4.6)[..., None]], [(0.2, 0.4, 0.95), (0.95, 0.85, 0.1)], (0.9, 0.15, 0.15)
    ).astype(np.float32)
    arc = np.clip(2.2 - np.abs(reach - 4.0), 0.0, 1.0) * (_ROWS <= 8)
    return colors, arc.astype(np.float32)


def _sun() -> tuple[np.ndarray, np.ndarray]:
    angle, reach = np.arctan2(_ROWS - 4.5, _COLUMNS - 4.5), np.hypot(_ROWS - 4.5, _COLUMNS - 4.5)
    edge = 3.2 + 1.1 * np.cos(8.0 * angle)
    return _plain((1.0, 0.85, 0.2), np.clip(edge + 0.5 - reach, 0.0, 1.0))


SIGNS = {"cloud": _cloud(), "flag": _flag(), "lamp": _lamp(), "rainbow": _rainbow(), "sun": _sun()}
"""Name to picture (10, 10, 3) and cover (10, 10)."""
