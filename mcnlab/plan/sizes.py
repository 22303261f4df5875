"""The data of a plan: how many clips an epoch has, and what one of them reads."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mcnlab.data.kinds.build import CLIP_S as KIND_S
from mcnlab.data.kinds.build import CLIPS_PER_RECORDING, kinds_track
from mcnlab.data.kinds.build import WORD_DIM as KIND_WORD_DIM
from mcnlab.data.records import Track
from mcnlab.data.scenes import SEGMENT_S, SceneSettings
from mcnlab.data.scenes.build import WORD_DIM, frames_of_scenes
from mcnlab.data.store import Store, open_store
from mcnlab.data.world import WorldSettings, view_tracks
from mcnlab.errors import ConfigError
from mcnlab.experiment.build import chosen_tracks
from mcnlab.experiment.settings import ExperimentSettings

PUBLISHED_TRACKS = (
    Track("video_2d", "video", 2048, 1.0),
    Track("video_3d", "video", 2048, 1.5),
    Track("audio_mel", "audio", 40, 100.0),
)
"""The layout of the released features (MCN, 2021): ResNet-152, ResNeXt-101, log-mel of 40 bands."""
PUBLISHED_WORD_DIM = 300
"""Width of word2vec's GoogleNews vectors."""
PUBLISHED_HOURS, PUBLISHED_VIDEOS, PUBLISHED_CAPTIONS = 134_472.0, 1.22e6, 136.6e6
"""HowTo100M (Miech et al., 2019, arXiv 1906.03327, table 1)."""
WORLD_CLIP_S, WORLD_2D_HZ, WORLD_3D_HZ = 1.28, 6.25, 3.125
"""The narrated world: seconds of a clip, rows per second of its tracks."""


@dataclass(frozen=True)
class Request:
    """At what size an experiment shall be planned."""

    videos: int
    """Recordings to train on."""
    gpus: int = 1
    """Processes that share every batch, a GPU or a CPU each."""
    hours_per_video: int | float | None = None
    """Mean length of a recording; that of the store, the world or HowTo100M when None."""
    clips_per_video: int | float | None = None
    """Mean number of captions of a recording, likewise."""

    def __post_init__(self) -> None:
        for name in ("videos", "gpus", "hours_per_video", "clips_per_video"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"--{name.replace('_', '-')}: expected a number above 0, got {value}")


@dataclass(frozen=True)
class DataSize:
    """The clips of an experiment at a size."""

    source: str
    """Where the layout comes from, in words."""
    tracks: tuple[Track, ...]
    word_dim: int
    modalities: tuple[str, ...]
    hours: float
    """Of all recordings."""
    clips: int
    """In every epoch."""
    clip_s: float
    """Mean length of a clip."""

    @property
    def input_dims(self) -> Mapping[str, int]:
        """Width of what each modality's tower reads."""
        widths = {m: sum(t.dim for t in self.tracks if t.modality == m) for m in self.modalities}
        return widths | ({"text": self.word_dim} if "text" in widths else {})

    @property
    def store_bytes(self) -> float:
        """Hours × 3600 × rows per second × width × 2, over all tracks."""
        return self.hours * 3600 * self.bytes_per_s

    @property
    def bytes_per_s(self) -> float:
        """Of float16 features, for a second of media."""
        return sum(2.0 * track.rate_hz * track.dim for track in self.tracks)

    @property
    def clip_bytes(self) -> float:
        """Of float16 features that a clip reads."""
        return self.clip_s * self.bytes_per_s


def data_size(settings: ExperimentSettings, request: Request) -> DataSize:
    """The data of an experiment at a size.

    Args:
        settings: the experiment; its store need not be there yet.
        request: recordings, and what is known of them.

    Returns:
        Layout and counts: of the store or the world, else of the released features of HowTo100M.

    Raises:
        DataError: the store is broken, or lacks a track.
    """
    data, path = settings.data, next(iter(settings.data.paths), None)  # of several stores the first
    if path is not None and path.exists():
        layout = _of_store(settings, chosen_tracks(settings, open_store(path)))
    elif path is None:
        layout = _of_rendered(settings)
    else:
        layout = _published(settings)
    source, tracks, word_dim, modalities, hours, captions, caption_s = layout
    hours = request.hours_per_video or hours
    clips = request.clips_per_video or captions
    clip_s = caption_s
    if data.sampling == "published":
        clips, clip_s = float(data.clips_per_video), data.min_time_s
    elif data.sampling == "windows":
        clips, clip_s = max(1.0, hours * 3600 // data.window_s), data.window_s
    every = max(1, round(request.videos * clips))
    return DataSize(source, tracks, word_dim, modalities, hours * request.videos, every, clip_s)


_Layout = tuple[str, tuple[Track, ...], int, tuple[str, ...], float, float, float]


def _of_store(settings: ExperimentSettings, store: Store) -> _Layout:
    """What a store on disk holds on average."""
    clips = store.clips(settings.data.train_split)
    recordings = clips["recording"].nunique()
    hours = float(store.lengths_s.mean()) / 3600
    caption_s = float((clips["end_s"] - clips["start_s"]).mean())
    source = f"the store {store.path}"
    tracks = tuple(store.tracks.values())
    return source, tracks, store.word_vectors.dim, store.modalities, hours, len(clips) / recordings, caption_s


def _of_rendered(settings: ExperimentSettings) -> _Layout:
    """What the world of an experiment would hold."""
    data = settings.data
    if data.kinds is not None:
        tracks, clips = (kinds_track(),), min(data.kinds.clips_per_class, CLIPS_PER_RECORDING)
        hours = clips * KIND_S / 3600
        return "named kinds", tracks, KIND_WORD_DIM, ("video", "text"), hours, float(clips), KIND_S
    return _of_world(data.world or WorldSettings()) if data.scenes is None else _of_scenes(data.scenes)


def _of_world(world: WorldSettings) -> _Layout:
    """What the narrated world would hold."""
    tracks = (
        Track("video_2d", "video", world.video_dim, WORLD_2D_HZ),
        Track("video_3d", "video", world.video_dim, WORLD_3D_HZ),
        PUBLISHED_TRACKS[2],
        *view_tracks(world.views, clip_s=WORLD_CLIP_S),
    )
    clips = float(world.clips_per_recording)
    hours = clips * WORLD_CLIP_S / 3600
    return "the narrated world", tracks, world.word_dim, world.modalities, hours, clips, WORLD_CLIP_S


def _of_scenes(scenes: SceneSettings) -> _Layout:
    """What the scene world would hold."""
    tracks = (*frames_of_scenes(scenes).tracks(), PUBLISHED_TRACKS[2])
    clips = scenes.segments if scenes.clips == "segments" else 1
    length_s = scenes.segments * SEGMENT_S
    return "the scene world", tracks, WORD_DIM, ("video", "audio"), length_s / 3600, float(clips), length_s / clips


def _published(settings: ExperimentSettings) -> _Layout:
    """What a store of HowTo100M's released features would hold."""
    wanted = settings.data.video_tracks
    tracks = tuple(t for t in PUBLISHED_TRACKS if t.modality == "audio" or wanted is None or t.name in wanted)
    if not any(track.modality == "video" for track in tracks):
        raise ConfigError(f"data.video_tracks: {list(wanted or ())} are not among the released features of HowTo100M")
    hours, captions = PUBLISHED_HOURS / PUBLISHED_VIDEOS, PUBLISHED_CAPTIONS / PUBLISHED_VIDEOS
    source = f"{settings.data.store} is not there yet; taken: the released features of HowTo100M, 6.6 minutes a video"
    modalities = ("video", "audio", "text")
    return source, tracks, PUBLISHED_WORD_DIM, modalities, hours, captions, hours * 3600 / captions
