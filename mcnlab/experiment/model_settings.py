"""The settings of towers and spaces: sizes, kinds, weights to start from."""

from pathlib import Path
from typing import Self

from pydantic import (
    Field,
    PositiveInt,
    model_validator,
)

from mcnlab.config import Settings
from mcnlab.models.graph import HeadKind
from mcnlab.models.video3d import TimePadding, VideoKind


class ModelSettings(Settings):
    """Sizes of the towers. The published sizes are dim 6144, audio_width 1024, decoder_hidden 1024."""

    dim: PositiveInt = 64
    """Width of every space that has no other."""
    coarse_dim: PositiveInt | None = None
    """Width of the coarse space of `graph: fac`; half of `dim` when not given."""
    heads: dict[str, HeadKind] = Field(default_factory=dict)
    """Kind of head by modality, for graphs by name: gated as in MCN, linear or mlp as in MMV."""
    audio_width: PositiveInt = Field(default=64, multiple_of=8)
    """Channels of DaveNet's last stage."""
    audio_blocks: PositiveInt = 2
    """Basic blocks in each of DaveNet's four stages."""
    decoder_hidden: PositiveInt = 128
    """Inner width of the reconstruction decoders."""
    audio_frames: PositiveInt = 128
    """Log-mel frames per clip, 100 per second; longer is cut, shorter is padded."""
    words: PositiveInt = 20
    """Words per caption."""
    video_frames: PositiveInt = 16
    """Frames per clip, where the store's video is frames; longer is cut, shorter gets its last frame again."""
    video_width: PositiveInt = Field(default=64, multiple_of=8)
    """Features of the backbone that trains on frames."""
    video_backbone: VideoKind = "conv3d"
    """How that backbone sees time: by convolutions, by channels that frames exchange (`shift`), or not at all
    (`conv2d`, which keeps places apart)."""
    video_padding: TimePadding = "replicate"
    """What that backbone sees before the first frame and after the last: `replicate` or `zeros`."""
    segments: PositiveInt | None = None
    """Parts of a clip that are heard one by one, for the terms that ask when; it is heard as a whole when not given."""
    place_padding: TimePadding = "zeros"
    """What a video backbone of kind `conv2d` sees beyond the edge of a frame: `zeros`, which make edges unlike other
    places, or the edge again, `replicate`."""
    place_window: PositiveInt = 1
    """Side, in cells, of the square around each place of a video map that is averaged before it is compared: a place
    then stands for a thing, not for the most telling corner of it. Odd."""
    video_segments: PositiveInt = 1
    """Equal parts of a clip's time whose features that backbone puts side by side; 1 keeps no order beyond what its
    convolutions see."""
    weights: Path | None = None
    """Weights to start from: a released MCN or AVLnet state dict, or the `model.safetensors` of a checkpoint of ours;
    relative to the settings file. Random weights when not given."""
    weights_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Checksum of that file; found when not given, so that a run notices another file under the same name."""

    @model_validator(mode="after")
    def _window_has_a_middle(self) -> Self:
        if self.place_window % 2 == 0:
            raise ValueError(f"place_window must be odd, got {self.place_window}")
        return self

    @model_validator(mode="after")
    def _checksum_of_something(self) -> Self:
        if self.weights is None and self.weights_sha256 is not None:
            raise ValueError("weights_sha256 is given without weights")
        return self
