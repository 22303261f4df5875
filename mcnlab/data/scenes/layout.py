"""Who is in a scene, where, and when it sounds: drawn from a key alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcnlab.data.scenes.settings import SceneSettings
from mcnlab.numerics import key_generator

Key = Sequence[str | int]
"""What a scene's draws depend on."""

NEAREST = 0.36
"""Least distance of two places, as a share of the frame's side: things never cover each other."""
EDGE = 0.18
"""Least distance of a place from the edge."""
RADIUS = (0.115, 0.15)
"""Least and largest radius of a thing, as a share of the frame's side."""
SWAY = 0.02
"""How far a thing moves away from its place, at most."""
EMPTY = 0.15
"""Probability that a place stays empty for a while."""
STAYS = 0.6
"""Probability that what sounds in one part goes on in the next, where it can."""
LIFE = (2, 6)
"""Least and largest number of parts that a thing stays."""


@dataclass(frozen=True)
class Thing:
    """One thing in a scene; sizes and places are shares of the frame's side."""

    kind: str
    enters: int
    """First part in which it is in sight."""
    leaves: int
    """The part after the last one."""
    x: float
    y: float
    """Its place, from the upper left corner."""
    radius: float
    turn: float
    """Its rotation, radians."""
    sway: tuple[float, float]
    """Direction in which it moves to and fro, of length at most 1."""
    phase: float
    """Where in its movement it begins, 0 to 1."""
    tint: tuple[float, float, float]
    """How its color differs from that of its kind: hue, saturation, lightness, each -1 to 1."""
    sounds: frozenset[int]
    """Parts in which it sounds."""

    def center(self, time: float) -> tuple[float, float]:
        """Its center at a time, counted in parts."""
        away = SWAY * float(np.sin(2 * np.pi * (self.phase + time / 3)))
        return self.x + away * self.sway[0], self.y + away * self.sway[1]


@dataclass(frozen=True)
class Scene:
    """All of a scene but its background and noise."""

    things: tuple[Thing, ...]
    offscreen: dict[int, str]
    """Part → kind of what is heard there without being in sight."""

    def seen(self, segment: int) -> dict[int, Thing]:
        """The things in sight in one part, by their number."""
        return {number: one for number, one in enumerate(self.things) if one.enters <= segment < one.leaves}

    def heard(self, segment: int) -> tuple[str, ...]:
        """Kinds that sound in one part, in sight or not."""
        seen = [one.kind for one in self.things if segment in one.sounds]
        return (*seen, *([self.offscreen[segment]] if segment in self.offscreen else []))

    def label(self, segments: Sequence[int]) -> str | None:
        """The kind that sounds in sight longest during some parts; of several the first by name."""
        counts: dict[str, int] = {}
        for one in self.things:
            counts[one.kind] = counts.get(one.kind, 0) + len(one.sounds & set(segments))
        return max(sorted(counts), key=lambda kind: counts[kind]) if any(counts.values()) else None


@dataclass(frozen=True)
class _Stay:
    """A thing's time in sight."""

    kind: str
    slot: int
    enters: int
    leaves: int


def draw_scene(settings: SceneSettings, key: Key) -> Scene:
    """A scene.

    Args:
        settings: the world.
        key: all that the draws depend on.

    Returns:
        Things by place and time. Kinds in sight at the same time differ.
    """
    random = key_generator("scene", *key)
    places = _places(random, settings.things)
    hero = _hero(settings, random) if settings.sounding == "once" else None
    stays = _stays(settings, random, hero)
    if hero is not None:
        sounds = [frozenset(range(*hero[1])) if number == 0 else frozenset[int]() for number in range(len(stays))]
        silent = [part for part in range(settings.segments) if part not in sounds[0]]
        offscreen = _offscreen(settings, random, stays, silent)
    else:
        offscreen = _offscreen(settings, random, stays, range(settings.segments))
        sounds = _sounds(settings, random, stays, offscreen)
    things = [_thing(stay, places[stay.slot], random, heard) for stay, heard in zip(stays, sounds, strict=True)]
    return Scene(tuple(things), offscreen)


def _places(random: np.random.Generator, count: int) -> np.ndarray:
    """(count, 2): places that lie apart."""
    while True:
        found = random.uniform(EDGE, 1 - EDGE, (count, 2))
        apart = np.linalg.norm(found[:, None] - found[None], axis=2) + 2 * np.eye(count)
        if apart.min() >= NEAREST:
            return found


def _hero(settings: SceneSettings, random: np.random.Generator) -> tuple[_Stay, tuple[int, int]]:
    """The one thing that sounds: its time in sight, and the parts within in which it sounds."""
    parts = settings.segments
    length = int(random.integers(min(2, parts), max(2, parts // 3) + 1)) if parts > 1 else 1
    first = int(random.integers(parts - length + 1))
    enters = max(0, first - int(random.integers(3)))
    leaves = min(parts, first + length + int(random.integers(3)))
    return _Stay(str(random.choice(settings.kinds)), 0, enters, leaves), (first, first + length)


def _stays(
    settings: SceneSettings, random: np.random.Generator, hero: tuple[_Stay, tuple[int, int]] | None
) -> list[_Stay]:
    """Times in sight in order of appearance, the one that sounds first."""
    stays = [] if hero is None else [hero[0]]
    free_from = [0] * settings.things
    for part in range(settings.segments):
        for slot in range(settings.things):
            if part < free_from[slot] or (hero is not None and slot == 0):
                continue
            length = int(random.integers(LIFE[0], LIFE[1] + 1))
            leaves = min(settings.segments, part + length)
            free_from[slot] = leaves
            if slot > 0 and random.random() < EMPTY:
                continue
            beside = {one.kind for one in stays if one.enters < leaves and one.leaves > part}
            if hero is not None:
                beside.add(hero[0].kind)
            kind = str(random.choice([kind for kind in settings.kinds if kind not in beside] or settings.kinds))
            stays.append(_Stay(kind, slot, part, leaves))
    return stays


def _offscreen(
    settings: SceneSettings, random: np.random.Generator, stays: Sequence[_Stay], parts: Sequence[int]
) -> dict[int, str]:
    """What is heard without being in sight: where it can, a kind that the scene shows silent at another time."""
    found = {}
    for part in parts:
        if random.random() >= settings.offscreen:
            continue
        here = {one.kind for one in stays if one.enters <= part < one.leaves}
        elsewhere = {one.kind for one in stays[settings.sounding == "once" :]} - here
        hero = {stays[0].kind} if settings.sounding == "once" else set()
        choices = sorted(elsewhere - hero) or [kind for kind in settings.kinds if kind not in here | hero]
        found[part] = str(random.choice(choices))
    return found


def _sounds(
    settings: SceneSettings, random: np.random.Generator, stays: Sequence[_Stay], offscreen: dict[int, str]
) -> list[frozenset[int]]:
    """For each thing the parts in which it sounds, when in every part some do."""
    found: list[set[int]] = [set() for _ in stays]
    before: list[int] = []
    for part in range(settings.segments):
        seen = [number for number, one in enumerate(stays) if one.enters <= part < one.leaves]
        kept = [number for number in before if number in seen and random.random() < STAYS]
        others = [number for number in random.permutation(seen).tolist() if number not in kept]
        before = [] if part in offscreen else (kept + others)[: settings.together]
        for number in before:
            found[number].add(part)
    return [frozenset(parts) for parts in found]


def _thing(stay: _Stay, place: np.ndarray, random: np.random.Generator, sounds: frozenset[int]) -> Thing:
    """A thing with its looks."""
    angle = random.uniform(0, 2 * np.pi)
    hue, saturation, lightness = random.uniform(-1, 1, 3).tolist()
    return Thing(
        kind=stay.kind,
        enters=stay.enters,
        leaves=stay.leaves,
        x=float(place[0]),
        y=float(place[1]),
        radius=float(random.uniform(*RADIUS)),
        turn=float(random.uniform(-0.35, 0.35)),
        sway=(float(np.cos(angle)), float(np.sin(angle))),
        phase=float(random.random()),
        tint=(hue, saturation, lightness),
        sounds=sounds,
    )
