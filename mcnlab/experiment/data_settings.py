"""The settings of where clips come from."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from mcnlab.config import Settings
from mcnlab.data.kinds.settings import KindSettings
from mcnlab.data.loading import DEALT
from mcnlab.data.mixing import check_weights
from mcnlab.data.scenes.settings import SceneSettings
from mcnlab.data.world import WorldSettings
from mcnlab.errors import ConfigError
from mcnlab.experiment.change_settings import ChangeSettings
from mcnlab.experiment.pairs import Modality

LOOKS = 2
"""Looks at every picture that predict each other."""
StoreName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class StoreShare(Settings):
    """One of several stores that are mixed in training."""

    store: Path
    """Its folder; relative to the settings file."""
    weight: PositiveFloat
    """Its share of the clips of a batch, on average; all shares sum to 1."""


class DataSettings(Settings):
    """Where the clips come from: the narrated world, the scene world, named kinds, a store on disk, or several."""

    world: WorldSettings | None = None
    """Render the narrated world."""
    scenes: SceneSettings | None = None
    """Render the scene world: frames with several things of which some sound."""
    kinds: KindSettings | None = None
    """Draw a set of named kinds: classes whose names say how they resemble each other."""
    store: Path | None = None
    """Folder of a store; relative to the settings file."""
    stores: dict[StoreName, StoreShare] | None = Field(default=None, min_length=1)
    """Several stores by name, mixed in training by weight, each measured on its own held-out clips. The first with
    all modalities that are trained gives the model its sizes, and is where every task is measured."""
    video_tracks: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Video tracks to use, such as `[video_2d]`; all of the store's when not given."""
    train_split: str = "train"
    """Split to train on."""
    shuffle_pairs: bool = False
    """Deal audio and text to other clips: the control in which pairs mean nothing."""
    shuffle: tuple[Modality, ...] = ()
    """Deal these modalities to other clips; `[text]` leaves video and audio together."""
    missing: dict[Modality, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """By modality: share of the training clips that lose it. Who loses it is seeded by the run, and who does at one
    share also does at a larger one."""
    changes: ChangeSettings | None = None
    """How training clips change from epoch to epoch; not at all when not given."""
    sampling: Literal["captions", "published", "windows", "composed"] = "captions"
    """Clips to train on: those of the store; or, drawn anew every epoch, captions widened as published, or windows; or
    scenes composed anew every epoch, as many as the store of scenes has to train on."""
    clips_per_video: PositiveInt = 32
    """Published sampling: clips of each recording in every epoch."""
    min_time_s: PositiveFloat = 10.0
    """Published sampling: captions are widened until they last this long."""
    window_s: PositiveFloat = 10.0
    """Windows: length of each; they do not overlap."""
    candidates: PositiveInt = 1
    """Captions of each clip, its own and the nearest in time, for the losses that take several; 1 is its own alone."""
    label: str | None = Field(default=None, min_length=1)
    """What terms that learn classes take as a clip's class: `label`, or a categorical factor such as `va.floor`."""
    classes_per_batch: int | None = Field(default=None, ge=2)
    """Classes in each batch, the same number of clips of each; as the clips come when not given. Needs `label`."""

    looks: int = Field(default=0, ge=0, le=8)
    """So many random crops, mirror images and shades of each clip's first frame stand for its frames in training; 0
    leaves the frames as they are."""
    least_area: float = Field(default=0.4, gt=0, le=1)
    """Looks: share of the picture that a crop shows at least."""
    shade: float = Field(default=0.4, ge=0, lt=1)
    """Looks: how far brightness, contrast and saturation vary."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(one is not None for one in (self.world, self.scenes, self.kinds, self.store, self.stores)) != 1:
            raise ValueError("expected either world, scenes, kinds or store, or several stores")
        if self.sampling == "composed" and self.stores is not None:
            raise ValueError("sampling: composed draws the scenes of one world, but there are several stores")
        if self.sampling == "composed" and self.world is not None:
            raise ValueError("sampling: composed needs scenes, or a store of scenes; the narrated world has none")
        if self.stores is not None:
            try:
                check_weights({name: share.weight for name, share in self.stores.items()})
            except ConfigError as error:
                raise ValueError(str(error)) from error
        if self.shuffle_pairs and self.shuffle:
            raise ValueError("shuffle_pairs deals audio and text already; give it or shuffle, not both")
        owners = {
            "clips_per_video": "published",
            "min_time_s": "published",
            "window_s": "windows",
            "candidates": "captions",
        }
        for name, owner in owners.items():
            if self.sampling != owner and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} belongs to sampling: {owner}, but sampling is {self.sampling}")
        self._check_labels_of_clips()
        for name in ("least_area", "shade"):
            if self.looks == 0 and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} belongs to looks, which are 0")
        if self.classes_per_batch is not None and self.label is None:
            raise ValueError("classes_per_batch needs label, which says what the classes are")
        return self

    def _check_labels_of_clips(self) -> None:
        """Classes belong to clips that keep them, or to scenes that say them."""
        if self.label is not None and self.sampling not in ("captions", "composed"):
            raise ValueError(f"label belongs to sampling: captions or composed, but sampling is {self.sampling}")
        if self.sampling == "composed" and (self.label not in (None, "label") or self.classes_per_batch is not None):
            raise ValueError("composed scenes are told apart by label: label, and come in no balanced batches")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The stores on disk that it names."""
        mixed = tuple(share.store for share in (self.stores or {}).values())
        return mixed if self.store is None else (self.store,)

    @property
    def dealt(self) -> tuple[str, ...]:
        """The modalities that are dealt to other clips in training."""
        return DEALT if self.shuffle_pairs else self.shuffle
