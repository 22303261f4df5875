"""What is behind and below the object: five textures in six tints, six floors."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

WIDTH_PX = 40
FLOOR_ROWS = 5

TINTS = {
    "blue": (0.38, 0.46, 0.66),
    "gray": (0.55, 0.55, 0.55),
    "green": (0.40, 0.58, 0.42),
    "olive": (0.58, 0.55, 0.34),
    "purple": (0.50, 0.40, 0.62),
    "rose": (0.66, 0.46, 0.48),
}
FLOORS = {
    "glass": (0.86, 0.96, 1.00),
    "gravel": (0.62, 0.56, 0.50),
    "metal": (0.50, 0.54, 0.60),
    "rubber": (0.12, 0.12, 0.13),
    "water": (0.10, 0.35, 0.75),
    "wood": (0.55, 0.33, 0.14),
}

_ROWS, _COLUMNS = np.mgrid[0:WIDTH_PX, 0:WIDTH_PX].astype(np.float32)


def background(factors: Mapping[str, float | str], random: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
    """The picture behind the object, before light.

    Args:
        factors: factor name to value; reads `v.texture` and `v.tint`.
        random: generator of the clip's frames; moves the texture.

    Returns:
        (40, 40, 3) float32 in [0, 1].
    """
    shift = random.uniform(0.0, 20.0, size=2).astype(np.float32)
    relief = _relief(str(factors["v.texture"]), _COLUMNS + shift[0], _ROWS + shift[1])
    fade = 1.1 - 0.2 * _ROWS / WIDTH_PX
    tint = np.asarray(TINTS[str(factors["v.tint"])], dtype=np.float32)
    return tint * (fade * (1.0 + 0.32 * relief))[..., None]


def _relief(texture: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of a texture at each pixel, in [-1, 1]."""
    if texture == "bricks":
        row = np.floor(y / 5.0)
        gap = np.minimum(np.mod(y, 5.0), np.mod(x + 5.0 * np.mod(row, 2.0), 10.0))
        return np.where(gap < 1.0, -1.0, 0.35).astype(np.float32)
    if texture == "dots":
        return np.clip(3.0 * np.cos(x * 0.9) * np.cos(y * 0.9) - 1.2, -0.5, 1.0)
    if texture == "grid":
        return np.where(np.minimum(np.mod(x, 8.0), np.mod(y, 8.0)) < 1.0, 1.0, -0.3).astype(np.float32)
    if texture == "waves":
        return np.sin(y * 0.8 + 1.5 * np.sin(x * 0.35))
    return 0.5 * np.sin(x * 0.13) + 0.5 * np.sin(y * 0.17 + 1.0)  # fog


def floor(material: str, random: np.random.Generator) -> Float[np.ndarray, "rows width 3"]:
    """The strip that the object hits.

    Args:
        material: one of `FLOORS`.
        random: generator of the clip's frames; moves the grain.

    Returns:
        (5, 40, 3) float32 in [0, 1].
    """
    x, y = _COLUMNS[:FLOOR_ROWS] + np.float32(random.uniform(0.0, 20.0)), _ROWS[:FLOOR_ROWS]
    grain = {
        "glass": 0.12 * np.cos((x - y) * 0.5),
        "gravel": 0.35 * np.sin(x * 2.1 + 3.0 * y) * np.cos(x * 1.3 - 2.0 * y),
        "metal": 0.35 * np.cos(x * 0.25),
        "rubber": np.zeros_like(x),
        "water": 0.4 * np.sin(x * 0.8 + 2.0 * np.sin(y)),
        "wood": 0.25 * np.sin(y * 2.4 + 0.6 * np.sin(x * 0.3)),
    }[material]
    return np.asarray(FLOORS[material], dtype=np.float32) * (1.0 + grain)[..., None]
