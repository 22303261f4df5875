"""The settings of one experiment: data, model, graph, terms, stages, training, evaluation."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from mcnlab.config import Settings, read_yaml, with_overrides
from mcnlab.data.kinds.settings import KindSettings
from mcnlab.data.loading import DEALT
from mcnlab.data.mixing import check_weights
from mcnlab.data.scenes.settings import SceneSettings
from mcnlab.data.shards import file_checksum
from mcnlab.data.world import WorldSettings
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.change_settings import ChangeSettings
from mcnlab.experiment.graphs import GraphChoice, GraphSettings, graph_pairs
from mcnlab.experiment.pairs import PAIRS, Modality, Pair, modalities_of_stages, named_stages, names_in, with_pairs
from mcnlab.experiment.recipes import PLACES, filled_recipes, with_recipes
from mcnlab.experiment.term_settings import (
    LABEL_TERMS,
    PAIR_TERMS,
    TERM_NAMES,
    ContrastSettings,
    TermName,
    TermSettings,
)
from mcnlab.modalities import MODALITIES, in_order, pair_modalities, pair_place, pairs_among
from mcnlab.models.graph import HeadKind
from mcnlab.models.video3d import TimePadding, VideoKind

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
    min_time_s: PositiveFloat = Field(default=10.0, allow_inf_nan=False)
    """Published sampling: captions are widened until they last this long."""
    window_s: PositiveFloat = Field(default=10.0, allow_inf_nan=False)
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


class StageSettings(Settings):
    """Some epochs with a fixed set of active parts."""

    epochs: PositiveInt
    """Passes over the clips."""
    modalities: tuple[Modality, ...]
    """Modalities that take part: video, audio, text, or any other view that the store has."""
    pairs: tuple[Pair, ...] | None = None
    """Pairs that are compared, or `core:video`; all pairs of the modalities when not given."""
    terms: tuple[TermName, ...] | None = None
    """Terms that count; all when not given."""
    frozen: tuple[Modality, ...] = ()
    """Modalities that take part but do not train."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """Write out `pairs: core:video` and `pairs: full`."""
        return with_pairs(values, names_in(values.get("modalities"))) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        for pair in self.pairs or ():
            for modality in pair_modalities(pair):
                if modality not in self.modalities:
                    raise ValueError(f"pair {pair!r} needs {modality}, which is not among the stage's modalities")
        for modality in self.frozen:
            if modality not in self.modalities:
                raise ValueError(f"frozen: {modality!r} is not among the stage's modalities {list(self.modalities)}")
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"a stage needs different modalities, at least one, got {list(self.modalities)}")
        return self


class TrainingSettings(Settings):
    """How the objective is minimized."""

    epochs: PositiveInt = 30
    """Epochs of all stages together, for stages given by name."""
    batch: PositiveInt = 128
    """Clips per step, over all processes."""
    lr: PositiveFloat = 1e-4
    """Highest learning rate of Adam."""
    warmup_steps: NonNegativeInt = 20
    """Steps of linear warm-up at the start of each stage; published 5000."""
    max_grad_norm: PositiveFloat = float("inf")
    """Gradients are shortened to this; published none."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Compute type; the weights stay float32."""
    chunk: PositiveInt | None = None
    """Clips that each process takes through the model at a time; its whole share of the batch when not given. The
    losses still see the whole batch, and memory for the backward pass is that of a chunk."""
    chunk_statistics: Literal["batch", "chunk"] = "batch"
    """Whose clips a batch normalization (in DaveNet, in MMV's heads and maps) sees when there are chunks. `batch`: all,
    exactly as without chunks; such modalities go through the model at once, and DaveNet keeps only its blocks' inputs
    for the backward pass. `chunk`: those of the chunk; less memory, other numbers."""
    compile: bool = False
    """Let torch compile DaveNet; left out with a warning where there is no C++ compiler for a CPU, and with several
    processes. On a CPU there is little to gain: nearly all time goes into convolutions, which it leaves as they are."""
    checkpoint_every: PositiveInt = 100
    """Steps between two checkpoints."""
    max_steps: PositiveInt | None = None
    """Most steps of a stage, whatever the epochs say."""
    on_non_finite: Literal["stop", "record"] = "stop"
    """A term that is NaN or infinite stops the run with an error, or ends its training and is recorded."""
    threads: PositiveInt | None = None
    """CPU threads of torch; all cores when not given."""
    prefetch: NonNegativeInt = 2
    """Batches that are read while a step computes; 0 reads each when it is wanted. The numbers are the same. On a CPU
    whose cores the steps all take, none is read ahead: it would slow them down by half."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU when there is one."""

    @model_validator(mode="after")
    def _chunks_fit(self) -> Self:
        if self.chunk is None and self.chunk_statistics != "batch":
            raise ValueError(f"chunk_statistics: {self.chunk_statistics} needs chunk, which is not given")
        if self.compile and self.chunk is not None:
            raise ValueError("compile: true does not go with chunk, whose second pass a compiled graph cannot tell")
        return self


Task = Literal[
    "retrieval",
    "clusters",
    "retention",
    "geometry",
    "actions",
    "bound",
    "transfer",
    "finetune",
    "stills",
    "unseen",
    "classify",
    "detection",
    "explanation",
    "localization",
]
"""What can be measured."""


class EvaluationSettings(Settings):
    """What is measured after training, on clips that were not trained on."""

    split: str | None = None
    """Held-out split; `test` when the store has it, else `val`."""
    tasks: tuple[Task, ...] = (
        "retrieval",
        "clusters",
        "retention",
        "geometry",
    )
    """What to measure. Only when they are named: `actions` searches whole recordings for their steps, `bound` tells the
    information that the embeddings of a pair share at least, `transfer` classifies by linear probes, after few examples
    or many, `finetune` by training whole towers, `stills` classifies single frames with the deflated video backbone,
    `unseen` finds clips of classes that were not trained on, and asks whether classes lie as language says, `classify`
    asks the model's own classifiers for the classes of clips, `detection` finds things by sound and by the detector of
    the term `detect`, `explanation` asks where and when the attention of the term `explain` points, and what clips are
    worth without its parts, `localization` where the heat maps of the term `localize` point."""
    clusters: PositiveInt | None = None
    """Clusters of the evaluation's k-means; the number of classes when not given."""
    also: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")], Path] = Field(default_factory=dict)
    """Other stores, by name, on whose held-out split retrieval is measured too, without training on them."""
    by_video: bool = False
    """Also ask by text for any clip of the right video, and for the video as a whole."""
    queries_total: dict[str, PositiveInt] = Field(default_factory=dict)
    """Also divide hits by this many queries, so that clips which are not there count as mistakes; by the name in
    `also`, or `own`. Published for MSR-VTT: 1000."""


class ExperimentSettings(Settings):
    """One full recipe; with a seed it is a run."""

    experiment: str = Field(min_length=1, max_length=80)
    """Name in tables and figures."""
    data: DataSettings
    """Where the clips come from; the word `world` alone means the world with its defaults."""
    mode: Literal["sound", "faithful"] = "sound"
    """Numerically safe, or exactly as published."""
    graph: GraphChoice = "shared"
    """Spaces: one for all; one for each pair; fine and coarse as in MMV; or a graph written out."""
    model: ModelSettings = ModelSettings()
    """Sizes of the towers."""
    terms: TermSettings = TermSettings(contrast=ContrastSettings())
    """Summands of the objective."""
    pairs: tuple[Pair, ...] = PAIRS
    """Pairs that may be compared at all; when not given, all pairs of the stages' modalities. Short forms: `core:video`
    compares video with each of the others, `full` every view with every other (CMC's core view and full graph)."""
    stages: tuple[StageSettings, ...]
    """Stages in order; or a name: `VT`, `VAT`, `AV_T` (first audio and video, then text joins)."""
    training: TrainingSettings = TrainingSettings()
    """How it is trained."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How it is measured."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """Write out `data: world` and stages given by name."""
        if not isinstance(values, Mapping):
            return values
        values = filled_recipes(values)
        if values.get("data") == "world":
            values["data"] = {"world": {}}
        if "pairs" not in values and (compared := _pairs_of_graph(values.get("graph"))):
            values["pairs"] = compared
        if isinstance(values.get("stages"), str):
            training = values.get("training")
            epochs = training.get("epochs", 30) if isinstance(training, Mapping) else getattr(training, "epochs", 30)
            values["stages"] = named_stages(values["stages"], epochs if isinstance(epochs, int) and epochs > 0 else 30)
        known = modalities_of_stages(values.get("stages"))
        if "pairs" not in values and not set(known) <= set(MODALITIES):
            values["pairs"] = pairs_among({*MODALITIES, *known})
        return with_pairs(values, known)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if not self.terms.names:
            raise ValueError(f"terms: expected at least one of {', '.join(TERM_NAMES)}")
        self._check_modalities()
        for number, stage in enumerate(self.stages):
            unknown = [name for name in stage.terms or () if name not in self.terms.names]
            if unknown:
                raise ValueError(f"stages.{number}.terms: {unknown[0]!r} is not among the experiment's terms")
            self._check_stage_pairs(number, stage)
        if not self.stages:
            raise ValueError("stages: expected at least one")
        for name in self.evaluation.also:
            if name in (self.data.stores or {}):
                raise ValueError(f"evaluation.also.{name}: data.stores has a store of that name, measured anyway")
        self._check_terms()
        compared = graph_pairs(self.graph)
        if compared is not None and not set(self.trained_pairs) <= set(compared):
            extra = next(pair for pair in self.trained_pairs if pair not in compared)
            raise ValueError(f"pairs: the graph compares {', '.join(compared)} and gives no way for {extra!r}")
        return self

    def _check_stage_pairs(self, number: int, stage: StageSettings) -> None:
        """A stage with a term that compares modalities has something to compare."""
        comparing = [name for name in stage.terms or self.terms.names if name in PAIR_TERMS]
        if not comparing or self.stage_pairs(stage):
            return
        if len(stage.modalities) < 2:
            raise ValueError(
                f"stages.{number}: the term {comparing[0]} needs two different modalities or more, "
                f"got {list(stage.modalities)}"
            )
        raise ValueError(f"stages.{number}: no pair of {list(stage.modalities)} is among pairs {list(self.pairs)}")

    def _check_modalities(self) -> None:
        """Pairs name what some stage has; stages what the world will have. A store is asked when it is opened."""
        trained, world = self.trained_modalities, self.data.world
        for pair in self.pairs:
            for modality in pair_modalities(pair):
                if modality not in (*MODALITIES, *trained):
                    raise ValueError(f"pairs: {pair!r} needs {modality}, but the stages have only {', '.join(trained)}")
        for modality in trained if world is not None else ():
            if world is not None and modality not in world.modalities:
                has = ", ".join(world.modalities)
                raise ValueError(f"stages: {modality!r} is not in the world with views: {world.views}; it has {has}")

    def _check_terms(self) -> None:
        """Terms ask something of data, mode and pairs."""
        self._check_labels()
        self._check_localize()
        contrast = self.terms.contrast
        self._check_places()
        if contrast is None:
            return
        if contrast.learn_temperature and self.mode == "faithful":
            raise ValueError("terms.contrast.learn_temperature: faithful mode compares without a temperature")
        if contrast.loss == "memory_bank" and self.data.sampling != "captions":
            raise ValueError(
                "terms.contrast.loss: memory_bank keeps a row for every clip and needs data.sampling: captions, "
                f"but sampling is {self.data.sampling}"
            )
        for pair in contrast.pair_weights:
            if pair not in self.trained_pairs:
                raise ValueError(
                    f"terms.contrast.pair_weights.{pair}: no stage compares it, only {', '.join(self.trained_pairs)}"
                )

    def _check_places(self) -> None:
        """Terms that ask where and when need a model that tells it."""
        contrast, model = self.terms.contrast, self.model
        placed: list[str] = [name for name in ("detect", "explain") if name in self.terms.names]
        if contrast is not None and contrast.scorer == "maximum":
            placed.append("contrast.scorer: maximum")
        if placed and model.video_backbone != "conv2d":
            raise ValueError(
                f"terms.{placed[0]} needs model.video_backbone: conv2d, which keeps places, but it is "
                f"{model.video_backbone}"
            )
        if model.video_backbone == "conv2d" and model.video_segments > 1:
            raise ValueError(
                "model.video_segments: expected 1 with model.video_backbone: conv2d, which keeps every frame apart, "
                f"got {model.video_segments}"
            )
        if "explain" in self.terms.names and model.segments is None:
            raise ValueError("terms.explain needs model.segments, the parts of a clip")
        for term in ("detect", "explain"):
            if term in self.terms.names and not {"video", "audio"} <= set(self.trained_modalities):
                raise ValueError(f"terms.{term} needs stages with video and audio")
        for task, term in (("detection", "detect"), ("explanation", "explain"), ("localization", "localize")):
            if task in self.evaluation.tasks and term not in self.terms.names:
                raise ValueError(f"evaluation.tasks: {task} measures what terms.{term} trains, which is not there")
        if contrast is not None and contrast.scorer == "maximum" and self.mode == "faithful":
            raise ValueError("terms.contrast.scorer: maximum compares cosines, but faithful mode compares raw products")

    def _check_labels(self) -> None:
        """Classes go with terms that learn them, and share a batch evenly."""
        learning = [name for name in self.terms.names if name in LABEL_TERMS]
        alike = self.terms.distill is not None and self.terms.distill.method == "embeddings"
        if [name for name in learning if name != "distill" or not alike] and self.data.label is None:
            raise ValueError(f"terms.{learning[0]}: needs data.label, which says what the classes are")
        if self.data.label is not None and not learning:
            raise ValueError(f"data.label: no term learns classes; those that do are {', '.join(LABEL_TERMS)}")
        wanted, batch = self.data.classes_per_batch, self.training.batch
        if wanted is not None and batch % wanted:
            raise ValueError(f"data.classes_per_batch: {wanted} does not divide training.batch: {batch}")
        for name in learning:
            for modality in self.labeled_modalities(name):
                if modality not in self.trained_modalities:
                    raise ValueError(f"terms.{name}.modalities: no stage trains {modality!r}")
        distill = self.terms.distill
        if distill is not None and distill.method == "reuse" and self.terms.classify is not None:
            raise ValueError("terms.distill.method: reuse takes the teacher's classifier; terms.classify has another")
        data = self.data
        if distill is not None and (data.changes is not None or data.looks or data.sampling != "captions"):
            raise ValueError(
                "terms.distill: the teacher looks at every clip once, but data.changes, data.looks and a data.sampling "
                "other than captions show other clips in every epoch"
            )
        for name, recipe in self.recipes.items():
            if "classify" not in recipe.terms.names and not (name == "distill.teacher" and alike):
                raise ValueError(f"terms.{name}: the run to learn from must have the term classify")

    def labeled_modalities(self, term: str) -> tuple[str, ...]:
        """Modalities that learn classes by a term; none where there is no such term."""
        found = getattr(self.terms, term)
        return () if found is None else getattr(found, "modalities", ()) or self.trained_modalities

    @property
    def recipes(self) -> dict[str, "ExperimentSettings"]:
        """Settings of the runs that this one learns from, by term and setting; those named by a folder are left out."""
        found: dict[str, Any] = {}
        for term, setting in PLACES:
            recipe = getattr(getattr(self.terms, term, None), setting, None)
            if isinstance(recipe, dict):
                found[f"{term}.{setting}"] = type(self).model_validate(recipe)
        return found

    @property
    def named_runs(self) -> dict[str, Path]:
        """Folders of finished runs that this one learns from, by term and setting."""
        places = {f"{term}.{name}": getattr(getattr(self.terms, term, None), name, None) for term, name in PLACES}
        return {name: value for name, value in places.items() if isinstance(value, Path)}

    def _check_localize(self) -> None:
        """Sounds are looked for in two looks at a picture, by a tower that keeps places."""
        if self.terms.localize is None:
            return
        if self.model.video_backbone != "conv2d":
            raise ValueError("terms.localize: needs model.video_backbone: conv2d, which keeps places")
        if self.data.looks != LOOKS:
            raise ValueError(f"terms.localize: needs data.looks: {LOOKS}, but looks is {self.data.looks}")
        for number, stage in enumerate(self.stages):
            wanted = "localize" in (stage.terms or self.terms.names)
            if wanted and not {"video", "audio"} <= set(stage.modalities):
                raise ValueError(f"stages.{number}: the term localize needs video and audio")

    def stage_pairs(self, stage: StageSettings) -> tuple[str, ...]:
        """The pairs that a stage compares."""
        possible = stage.pairs if stage.pairs is not None else pairs_among(stage.modalities)
        return tuple(pair for pair in sorted(possible, key=pair_place) if pair in self.pairs)

    @property
    def trained_modalities(self) -> tuple[str, ...]:
        """Modalities that take part in some stage."""
        return in_order(itertools.chain.from_iterable(stage.modalities for stage in self.stages))

    @property
    def trained_pairs(self) -> tuple[str, ...]:
        """Pairs that some stage compares."""
        used = set(itertools.chain.from_iterable(self.stage_pairs(stage) for stage in self.stages))
        return tuple(sorted(used, key=pair_place))


def _pairs_of_graph(graph: object) -> list[str] | None:
    """The pairs that an unchecked graph brings along; None where it takes any."""
    if isinstance(graph, GraphSettings) or graph == "fac":
        return list(graph_pairs(graph) or ())
    pairs = graph.get("pairs") if isinstance(graph, Mapping) else None
    known = pairs if isinstance(pairs, Mapping) else {}
    return [pair for pair in PAIRS if pair in known] + [pair for pair in known if pair not in PAIRS] or None


def read_experiment(path: Path, *, overrides: list[str] | None = None) -> ExperimentSettings:
    """The experiment that a YAML file describes.

    Args:
        path: the file.
        overrides: flags such as `training.epochs=3`.

    Returns:
        Validated settings; relative store and weights are taken from the file's folder.

    Raises:
        ConfigError: a setting is missing, unknown, of the wrong type or out of range.
        DataError: the file of weights is missing, or not the one that the settings mean.
    """
    values = with_overrides(read_yaml(path), overrides or [])
    return with_store_beside(ExperimentSettings.parse(values, source=str(path)), path.parent)


def with_store_beside(settings: ExperimentSettings, folder: Path) -> ExperimentSettings:
    """Settings whose paths, of stores and weights, no longer depend on where one stands."""
    store, weights = settings.data.store, settings.model.weights
    mixed = settings.data.stores and {
        name: share.model_copy(update={"store": (folder / share.store).resolve()})
        for name, share in settings.data.stores.items()
    }
    data = settings.data.model_copy(update={"store": store and (folder / store).resolve(), "stores": mixed})
    others = {name: (folder / path).resolve() for name, path in settings.evaluation.also.items()}
    evaluation = settings.evaluation.model_copy(update={"also": others})
    settings = settings.model_copy(update={"data": data, "evaluation": evaluation})
    settings = _with_terms_beside(settings, folder)
    if weights is not None:
        model = settings.model.model_copy(update={"weights": (folder / weights).resolve()})
        settings = with_checksum_of_weights(settings.model_copy(update={"model": model}))
    return settings


def _with_terms_beside(settings: ExperimentSettings, folder: Path) -> ExperimentSettings:
    """Settings whose terms name other runs and networks by whole paths."""

    def beside(recipe: Mapping[str, Any] | str) -> Any:
        if isinstance(recipe, str):
            return (folder / recipe).resolve()
        return with_store_beside(ExperimentSettings.model_validate(recipe), folder).model_dump(mode="json")

    terms = with_recipes(settings.terms.model_dump(), beside)
    if terms["guide"] is not None and terms["guide"]["network"] is not None:
        terms["guide"] = {**terms["guide"], "network": (folder / terms["guide"]["network"]).resolve()}
    return settings.model_copy(update={"terms": TermSettings.model_validate(terms)})


def with_checksum_of_weights(settings: ExperimentSettings) -> ExperimentSettings:
    """Settings that say which content the file of weights must have.

    Args:
        settings: the experiment.

    Returns:
        The same where no weights are named; else with their checksum. A file that has gone is no error where its
        checksum is known already: a finished run can still be opened.

    Raises:
        DataError: the file is missing, or has another content than the settings say.
    """
    weights, known = settings.model.weights, settings.model.weights_sha256
    if weights is None or (known is not None and not weights.exists()):
        return settings
    if not weights.is_file():
        raise DataError(f"model.weights: {weights}: no such file")
    found = file_checksum(weights)
    if known not in (None, found):
        raise DataError(f"model.weights: {weights}: its content has changed (sha256 {found}, the settings say {known})")
    model = settings.model.model_copy(update={"weights_sha256": found})
    return settings.model_copy(update={"model": model})
