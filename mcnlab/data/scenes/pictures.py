"""The camera: a background that says nothing, and the things in front of it."""

import colorsys
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from mcnlab.data.scenes.layout import Key, Scene, Thing
from mcnlab.data.scenes.settings import SceneSettings
from mcnlab.data.world.shapes import OUTLINES
from mcnlab.numerics import key_generator

HUES = (0.0, 0.58, 0.14, 0.8, 0.35, 0.92, 0.47, 0.69, 0.07, 0.25)
"""Hue of each kind, in the order of the outlines: the first few lie far apart."""
HUE_JITTER, LIGHT_JITTER = 0.02, 0.12
REACH = 1.3
"""Nothing of an outline lies further from its center than this, in radii."""
PATCHES = 4
"""Patches of color along each side of a background."""


def render_frames(
    settings: SceneSettings, scene: Scene, segment: int, key: Key, *, most: int | None = None
) -> UInt8[np.ndarray, "frames height width 3"]:
    """The frames of one part of a scene.

    Args:
        settings: the world.
        scene: who is there.
        segment: which part.
        key: of the scene; draws background and noise.
        most: only the first so many.

    Returns:
        (frames, size, size, 3), uint8. Nothing in them says which of the things sounds.
    """
    background = _background(settings.size_px, key)
    random = key_generator("pixels", *key, segment)
    seen = scene.seen(segment)
    frames = [_frame(background, seen, time) for time in frame_times(settings, segment)[:most]]
    shown = np.stack(frames)  # (frames, size, size, 3)
    shown += np.float32(settings.noise_video) * random.standard_normal(shown.shape, dtype=np.float32)
    return np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8)


def frame_times(settings: SceneSettings, segment: int) -> list[float]:
    """When the frames of a part are taken, counted in parts: in the middle of the time that each is shown."""
    return [segment + (number + 0.5) / settings.frames_per_segment for number in range(settings.frames_per_segment)]


def sides(thing: Thing, time: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of what is drawn of a thing, as shares of the frame's side.

    Args:
        thing: in sight.
        time: counted in parts.
    """
    left, top, right, bottom = _extent(thing.kind, thing.turn)
    x, y = thing.center(time)
    edges = (x + left * thing.radius, y + top * thing.radius, x + right * thing.radius, y + bottom * thing.radius)
    return tuple(min(1.0, max(0.0, edge)) for edge in edges)  # type: ignore[return-value]  # four of them


def _frame(background: np.ndarray, seen: Mapping[int, Thing], time: float) -> np.ndarray:
    """One frame without noise."""
    frame = background.copy()
    for thing in seen.values():
        _draw(frame, thing, time)
    return frame


def _draw(frame: np.ndarray, thing: Thing, time: float) -> None:
    """Lay a thing over a frame."""
    size = len(frame)
    center = np.array(thing.center(time)) * size
    reach, radius = REACH * thing.radius * size, thing.radius * size
    first = np.maximum(np.floor(center - reach).astype(int), 0)
    last = np.minimum(np.ceil(center + reach).astype(int) + 1, size)
    right = (np.arange(first[0], last[0]) + 0.5 - center[0])[None, :] / radius
    up = -(np.arange(first[1], last[1]) + 0.5 - center[1])[:, None] / radius
    distance = _outline(thing.kind, right, up, thing.turn) * radius
    cover = np.clip(0.5 - distance, 0, 1)[..., None].astype(np.float32)
    patch = frame[first[1] : last[1], first[0] : last[0]]
    rim = np.clip(2.0 + distance, 0, 1)[..., None].astype(np.float32)  # darker towards the edge
    patch += cover * (_color(thing) * (1 - 0.35 * rim) - patch)


def _outline(kind: str, right: np.ndarray, up: np.ndarray, turn: float) -> np.ndarray:
    """Distance to a turned outline, in radii; below 0 inside."""
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.asarray(OUTLINES[kind](cosine * right + sine * up, -sine * right + cosine * up))


def _extent(kind: str, turn: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a turned outline, in radii, y down."""
    steps = np.linspace(-REACH, REACH, 105)
    inside = _outline(kind, steps[None, :], -steps[:, None], turn) < 0
    columns, rows = steps[inside.any(axis=0)], steps[inside.any(axis=1)]
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])


def _color(thing: Thing) -> np.ndarray:
    """(3,): the color of a kind, a little different in every thing."""
    hue = HUES[list(OUTLINES).index(thing.kind)] + HUE_JITTER * thing.tint[0]
    saturation, lightness = 0.85 + LIGHT_JITTER * thing.tint[1], 0.85 + LIGHT_JITTER * thing.tint[2]
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, lightness), np.float32)


def _background(size: int, key: Key) -> Float[np.ndarray, "h w 3"]:
    """Soft patches of muted colors with stripes over them."""
    random = key_generator("background", *key)
    gray = random.uniform(0.25, 0.75, (PATCHES, PATCHES, 1))
    patches = np.clip(gray + random.uniform(-0.12, 0.12, (PATCHES, PATCHES, 3)), 0, 1)
    at = np.linspace(0, PATCHES - 1, size)
    low = np.minimum(at.astype(int), PATCHES - 2)
    share = (at - low)[:, None, None]
    rows = patches[low] * (1 - share) + patches[low + 1] * share  # (size, PATCHES, 3)
    share = share.transpose(1, 0, 2)
    smooth = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    across = np.arange(size) / size
    waves, angle = random.uniform(3, 9), random.uniform(0, np.pi)
    stripes = np.sin(2 * np.pi * waves * (across[:, None] * np.sin(angle) + across[None] * np.cos(angle)))
    return np.clip(smooth + random.uniform(0, 0.06) * stripes[..., None], 0, 1).astype(np.float32)
