"""From a scene world to a store: render, extract, write; and render a stored scene once more."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from mcnlab.data.boxes import Box
from mcnlab.data.extract import AUDIO_TRACK
from mcnlab.data.raw_frames import RawFrames
from mcnlab.data.records import Clip, Recording
from mcnlab.data.scenes.layout import Key, Scene, draw_scene
from mcnlab.data.scenes.pictures import frame_times, render_frames, sides
from mcnlab.data.scenes.settings import SCENES_VERSION, SceneSettings
from mcnlab.data.scenes.sounds import SEGMENT_S, heard_mel, render_sound
from mcnlab.data.store import Store, StoreWriter, open_store
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError
from mcnlab.numerics import one_torch_thread

WORD_DIM = 8
"""Width of the empty vocabulary: nobody tells what happens in a scene."""


@dataclass(frozen=True)
class RenderedScene:
    """A scene as a person can look at it and listen to it."""

    scene: Scene
    frames: UInt8[np.ndarray, "frames height width 3"]
    frames_per_s: float
    waveform: Float[np.ndarray, " samples"]
    """16 kHz."""


def build_scenes(
    settings: SceneSettings, out: Path | str, *, progress: Callable[[int, int], None] | None = None
) -> Store:
    """Render a scene world and put it into a new store.

    Args:
        settings: the world.
        out: folder of the store; it must not exist.
        progress: called after every scene.

    Returns:
        The store, opened; its truth is in `Store.boxes`.

    Raises:
        StorageError: the folder exists, or the disk or the permissions do not allow it.

    Example:
        >>> build_scenes(SceneSettings(train_scenes=20), "stores/scenes")  # doctest: +SKIP
    """
    with one_torch_thread():  # the last bit of a sum depends on the number of threads
        _write(settings, Path(out), progress or (lambda done, total: None))
    return open_store(Path(out))


def render_scene_again(store: Store, row: int) -> RenderedScene:
    """The frames and the waveform that a stored scene was made from.

    Args:
        store: a store that `build_scenes` wrote.
        row: of the recording.

    Returns:
        The same bytes as when the store was made.

    Raises:
        DataError: the store does not hold scenes that this version renders.
    """
    settings = scene_settings(store)
    if settings is None:
        raise DataError(f"{store.path}: no scene world")
    media = store.media(row)
    key = scene_key(settings, media["split"], media["scene"])
    scene, parts = draw_scene(settings, key), range(settings.segments)
    return RenderedScene(
        scene,
        np.concatenate([render_frames(settings, scene, part, key) for part in parts]),
        settings.frames_per_segment / SEGMENT_S,
        np.concatenate([render_sound(settings, scene, part, key) for part in parts]),
    )


def scene_settings(store: Store) -> SceneSettings | None:
    """The settings that a store of scenes was rendered with; None for any other store.

    Raises:
        DataError: they are those of another version.
    """
    values = dict(store.info.get("scenes", {}))
    if not values:
        return None
    version = values.pop("version", None)
    if version != SCENES_VERSION:
        raise DataError(f"{store.path}: expected scenes of version {SCENES_VERSION}, got {version}")
    return SceneSettings.parse(values, source=str(store.path))


def scene_key(settings: SceneSettings, split: str, number: int) -> Key:
    """What the draws of a stored scene depend on."""
    return (settings.seed, split, number)


def _write(settings: SceneSettings, out: Path, progress: Callable[[int, int], None]) -> None:
    """Render and write all scenes."""
    frames = frames_of_scenes(settings)
    places = [(split, number) for split, count in settings.scenes_of_split.items() for number in range(count)]
    with StoreWriter(
        out,
        name="scene world",
        tracks=[*frames.tracks(), AUDIO_TRACK],
        words=WordVectors((), np.zeros((0, WORD_DIM), np.float32), "no captions"),
        info={"scenes": {"version": SCENES_VERSION, **settings.model_dump()}, "visual": frames.info()},
    ) as writer:
        for done, (split, number) in enumerate(places, start=1):
            writer.add(_recording(settings, split, number, frames))
            progress(done, len(places))


def frames_of_scenes(settings: SceneSettings) -> RawFrames:
    """What makes a track of rendered frames."""
    size = settings.size_px
    return RawFrames(size, size, settings.frames_per_segment / SEGMENT_S, color=True)


def _recording(settings: SceneSettings, split: str, number: int, raw: RawFrames) -> Recording:
    """One scene, rendered and extracted."""
    key = scene_key(settings, split, number)
    scene, parts = draw_scene(settings, key), range(settings.segments)
    frames = [render_frames(settings, scene, part, key) for part in parts]
    sound = np.concatenate([heard_mel(render_sound(settings, scene, part, key)) for part in parts])
    clips = _clips(settings, scene)
    per_clip = len(frames) // len(clips)
    return Recording(
        id=f"{split}-{number:06d}",
        split=split,
        duration_s=settings.segments * SEGMENT_S,
        tracks={**raw(np.concatenate(frames)), AUDIO_TRACK.name: sound},
        clips=clips,
        media={"source": "scenes", "split": split, "scene": number},
        thumbnails=np.stack([frames[place * per_clip][0] for place in range(len(clips))]),
        boxes=scene_boxes(settings, scene),
    )


def _clips(settings: SceneSettings, scene: Scene) -> tuple[Clip, ...]:
    """The clips of a scene: its parts, or one that is all of it."""
    if settings.clips == "scenes":
        spans = [range(settings.segments)]
    else:
        spans = [range(part, part + 1) for part in range(settings.segments)]
    return tuple(
        Clip(span.start * SEGMENT_S, span.stop * SEGMENT_S, label=scene.label(span), factors=_factors(scene, span))
        for span in spans
    )


def _factors(scene: Scene, span: range) -> dict[str, str | float]:
    """What is known of a clip beside its label: all kinds that sound in sight, and those that are seen."""
    sounding = {one.kind for one in scene.things if one.sounds & set(span)}
    seen = {one.kind for part in span for one in scene.seen(part).values()}
    return {"sounding": "+".join(sorted(sounding)) or "none", "seen": "+".join(sorted(seen)) or "none"}


def scene_boxes(settings: SceneSettings, scene: Scene) -> tuple[Box, ...]:
    """The truth of a scene: one box for each thing in each frame, and one without sides for what is only heard.

    Args:
        settings: the world.
        scene: who is there.

    Returns:
        Boxes in order of time; a box lasts as long as its frame is shown.
    """
    found: list[Box] = []
    count = settings.frames_per_segment
    for part in range(settings.segments):
        for frame, time in enumerate(frame_times(settings, part)):
            start_s, end_s = ((part + (frame + after) / count) * SEGMENT_S for after in (0, 1))
            for number, one in scene.seen(part).items():
                found.append(Box(start_s, end_s, *sides(one, time), number, one.kind, part in one.sounds))
        if part in scene.offscreen:
            span = (part * SEGMENT_S, (part + 1) * SEGMENT_S)
            found.append(Box(*span, None, None, None, None, len(scene.things) + part, scene.offscreen[part]))
    return tuple(found)
