"""The settings of what changes in training clips from epoch to epoch."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from mcnlab.config import Settings


class FrameChangeSettings(Settings):
    """What may happen to the frames of a training clip: the same to all of them."""

    shift_px: NonNegativeInt = 0
    """The picture moves by up to so many pixels in both directions; its border is repeated."""
    shift_frames: NonNegativeInt = 0
    """The clip begins up to so many frames earlier or later; its first or last frame is repeated."""
    mirror: bool = False
    """Left and right change places in half of the clips."""
    brightness: float = Field(default=0.0, ge=0, lt=1)
    """Contrast and brightness change by up to this."""


class SoundChangeSettings(Settings):
    """What may happen to the log-mel of a training clip."""

    roll: bool = False
    """The clip begins anywhere, and what stood before comes after its end."""
    gain_db: NonNegativeFloat = 0.0
    """It becomes louder or quieter by up to this."""
    masked_frames: NonNegativeInt = 0
    """Up to so many frames that follow each other fall silent."""
    masked_bands: NonNegativeInt = 0
    """Up to so many bands that follow each other fall silent."""


class ChangeSettings(Settings):
    """What changes in the training clips, drawn anew for every clip in every epoch; nothing changes in evaluation."""

    frames: FrameChangeSettings | None = None
    """Of videos that are frames."""
    sound: SoundChangeSettings | None = None
    """Of log-mels."""
