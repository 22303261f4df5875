"""The narrated world: a procedural set of short narrated clips whose causes are known."""

from mcnlab.data.world.build import build_world, render_again
from mcnlab.data.world.factors import FACTORS, GROUPS, carried_groups, recall_ceiling, shared_groups
from mcnlab.data.world.recordings import RenderedClip, render_clip, render_recording
from mcnlab.data.world.settings import WorldSettings, world_fingerprint
from mcnlab.data.world.shared import carried_factors, shared_entropy_nats, shared_keys
from mcnlab.data.world.views import VIEWS, view_names, view_tracks

__all__ = [
    "FACTORS",
    "GROUPS",
    "VIEWS",
    "RenderedClip",
    "WorldSettings",
    "build_world",
    "carried_factors",
    "carried_groups",
    "recall_ceiling",
    "render_again",
    "render_clip",
    "render_recording",
    "shared_entropy_nats",
    "shared_groups",
    "shared_keys",
    "view_names",
    "view_tracks",
    "world_fingerprint",
]
