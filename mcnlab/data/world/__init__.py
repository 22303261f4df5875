"""The narrated world: a procedural set of short narrated clips whose causes are known."""

from mcnlab.data.world.build import build_world, render_again
from mcnlab.data.world.factors import FACTORS, GROUPS, carried_groups, recall_ceiling, shared_groups, shared_keys
from mcnlab.data.world.recordings import RenderedClip, render_clip, render_recording
from mcnlab.data.world.settings import WorldSettings, world_fingerprint

__all__ = [
    "FACTORS",
    "GROUPS",
    "RenderedClip",
    "WorldSettings",
    "build_world",
    "carried_groups",
    "recall_ceiling",
    "render_again",
    "render_clip",
    "render_recording",
    "shared_groups",
    "shared_keys",
    "world_fingerprint",
]
