"""The scene world: frames with several things of which some sound, and the truth about who does."""

from mcnlab.data.scenes.build import (
    RenderedScene,
    build_scenes,
    render_scene_again,
    scene_boxes,
    scene_key,
    scene_settings,
)
from mcnlab.data.scenes.composed import ComposedClips
from mcnlab.data.scenes.layout import Scene, Thing, draw_scene
from mcnlab.data.scenes.pictures import render_frames
from mcnlab.data.scenes.settings import SceneSettings, scenes_fingerprint
from mcnlab.data.scenes.sounds import SEGMENT_S, render_sound

__all__ = [
    "SEGMENT_S",
    "ComposedClips",
    "RenderedScene",
    "Scene",
    "SceneSettings",
    "Thing",
    "build_scenes",
    "draw_scene",
    "render_frames",
    "render_scene_again",
    "render_sound",
    "scene_boxes",
    "scene_key",
    "scene_settings",
    "scenes_fingerprint",
]
