"""The camera: RGB frames of one bouncing object on a floor, in front of a background."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mcnlab.data.world.backgrounds import background, floor
from mcnlab.data.world.shapes import OUTLINES
from mcnlab.data.world.signs import paint_sign

FRAMES_PER_S = 12.5
CLIP_FRAMES = 16
SIZE_PX = 40
FLOOR_PX = 35
"""First row of the floor."""

RADII_PX = {"tiny": 6.0, "small": 7.8, "big": 9.7, "huge": 12.0}
CENTER_PX = 19.5
"""Column of the object, give or take a pixel."""
COLORS = {
    "blue": (0.15, 0.30, 0.95),
    "green": (0.12, 0.75, 0.18),
    "orange": (1.00, 0.52, 0.05),
    "pink": (1.00, 0.55, 0.78),
    "purple": (0.56, 0.16, 0.80),
    "red": (0.90, 0.08, 0.08),
    "turquoise": (0.10, 0.85, 0.85),
    "yellow": (1.00, 0.92, 0.10),
}

_ROWS, _COLUMNS = np.mgrid[0:SIZE_PX, 0:SIZE_PX].astype(np.float32)


@dataclass(frozen=True)
class Bounce:
    """Where the object is at each moment of a clip."""

    height_px: Float[np.ndarray, " frames"]
    """Of its lowest point above the floor."""
    stretch: Float[np.ndarray, " frames"]
    """Its height relative to rest; its width is the inverse."""
    dust: Float[np.ndarray, " frames"]
    """1 at the moment of a hit, fading after it; the softer the object, the more."""


def bounce(factors: Mapping[str, float | str], phase: float) -> Bounce:
    """The motion of a clip's object, seen at the middle of every frame.

    Args:
        factors: factor name to value; reads `va.rate`, `va.height`, `va.squash`.
        phase: share of a bounce that has passed when the clip begins, in [0, 1).

    Returns:
        One entry per frame.
    """
    rate, height, squash = (float(factors[f"va.{name}"]) for name in ("rate", "height", "squash"))
    time_s = (np.arange(CLIP_FRAMES, dtype=np.float32) + 0.5) / FRAMES_PER_S
    progress = np.mod(time_s * rate + phase, 1.0)
    to_hit_s = np.minimum(progress, 1.0 - progress) / rate
    impact = np.exp(-((to_hit_s / 0.08) ** 2))
    speed = np.abs(1.0 - 2.0 * progress)  # 1 next to the floor, 0 at the top
    stretch = 1.0 + squash * (0.45 * speed * (1.0 - impact) - 0.45 * impact)
    dust = squash * np.exp(-progress / rate / 0.15)
    return Bounce(height * 4.0 * progress * (1.0 - progress), stretch, dust)


def render_frames(
    factors: Mapping[str, float | str], phase: float, random: np.random.Generator, *, noise: float = 0.0
) -> UInt8[np.ndarray, "frames height width 3"]:
    """The frames of one clip.

    Args:
        factors: factor name to value; only the groups that video carries are read.
        phase: see `bounce`; the same number times the hits in the sound.
        random: generator of the clip's frames.
        noise: standard deviation of the pixel noise, 1 being white.

    Returns:
        (16, 40, 40, 3) uint8, 12.5 frames per second.
    """
    motion = bounce(factors, phase)
    scene = np.broadcast_to(background(factors, random), (CLIP_FRAMES, SIZE_PX, SIZE_PX, 3)).copy()
    scene[:, FLOOR_PX:] = floor(str(factors["va.floor"]), random)
    paint_sign(scene, str(factors["vt.sign"]))
    center = CENTER_PX + random.uniform(-1.0, 1.0)
    radius = RADII_PX[str(factors["vt.size"])]
    _cast_shadow(scene, motion, center, radius)
    _raise_dust(scene, motion, center, radius)
    _paint_object(scene, factors, motion, center, radius)
    scene *= np.float32(factors["v.light"])
    return _quantized(_with_noise(scene, random, noise))


def _cast_shadow(scene: np.ndarray, motion: Bounce, center: float, radius: float) -> None:
    """Darken the floor below the object; less so the higher it is."""
    across = (_COLUMNS[FLOOR_PX:] - center) / (0.9 * radius)
    down = (_ROWS[FLOOR_PX:] - FLOOR_PX - 1.0) / 2.2
    spot = np.clip(1.3 - across**2 - down**2, 0.0, 1.0)
    strength = 0.6 / (1.0 + 0.25 * motion.height_px)
    scene[:, FLOOR_PX:] *= (1.0 - strength[:, None, None] * spot).astype(np.float32)[..., None]


def _raise_dust(scene: np.ndarray, motion: Bounce, center: float, radius: float) -> None:
    """Light puffs on both sides of the place that was hit, drifting apart while they fade."""
    away = radius + 2.0 + 4.0 * (1.0 - motion.dust)[:, None, None]
    across = (np.abs(_COLUMNS[:FLOOR_PX] - center) - away) / 4.0
    up = (FLOOR_PX - 2.0 - _ROWS[:FLOOR_PX]) / 4.0
    cover = np.clip(1.4 - across**2 - up**2, 0.0, 1.0) * motion.dust[:, None, None]
    wall = scene[:, :FLOOR_PX]
    wall += cover.astype(np.float32)[..., None] * (np.float32(0.95) - wall)


def _paint_object(
    scene: np.ndarray, factors: Mapping[str, float | str], motion: Bounce, center: float, radius: float
) -> None:
    """Lay the object over the scene with smooth edges and a dark outline."""
    half_px = (radius * motion.stretch).astype(np.float32)[:, None, None]  # (frames, 1, 1)
    middle = FLOOR_PX - motion.height_px.astype(np.float32)[:, None, None] - half_px
    x = (_COLUMNS - np.float32(center)) * half_px / np.float32(radius**2)
    y = (middle - _ROWS) / half_px
    edge_px = OUTLINES[str(factors["vat.object"])](x, y) * np.float32(radius)  # below 0: inside
    cover = np.clip(0.5 - edge_px, 0.0, 1.0)[..., None]
    rim = np.clip(edge_px + 1.7, 0.0, 1.0)[..., None]
    body = _painted(str(factors["vt.color"]), str(factors["vt.pattern"]), x * radius, y * radius)
    body = body * (1.0 - 0.65 * rim)
    scene += cover * (body - scene)


def _painted(color: str, pattern: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Color of the object at each pixel, before light; the pattern sticks to the object."""
    main = np.asarray(COLORS[color], dtype=np.float32)
    if pattern == "plain":
        return np.broadcast_to(main, (*np.broadcast_shapes(x.shape, y.shape), 3))
    if pattern == "striped":
        share, other = np.clip(0.4 + 1.5 * np.sin(y * 1.2), 0.0, 1.0), np.ones(3, np.float32)
    elif pattern == "checked":
        share, other = np.clip(0.5 + 2.5 * np.sin(x * 0.8) * np.sin(y * 0.8), 0.0, 1.0), 0.1 * main
    else:
        share, other = np.clip(2.5 * np.cos(x * 1.1) * np.cos(y * 1.1) - 0.4, 0.0, 1.0), 0.9 - 0.8 * main
    return main + share[..., None] * (other - main)


def _with_noise(scene: np.ndarray, random: np.random.Generator, noise: float) -> np.ndarray:
    """The scene with grain: one field of noise per clip, shifted from frame to frame."""
    if noise == 0.0:
        return scene
    field = random.standard_normal((SIZE_PX + 16, SIZE_PX + 16, 3), dtype=np.float32) * np.float32(noise)
    shifts = random.integers(0, 16, size=(CLIP_FRAMES, 2))
    return scene + np.stack([field[top : top + SIZE_PX, left : left + SIZE_PX] for top, left in shifts])


def _quantized(scene: np.ndarray) -> np.ndarray:
    """Values of [0, 1] as bytes."""
    return (np.clip(scene, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
