"""The settings of the objective: one group for each term."""

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from mcnlab.config import Settings
from mcnlab.experiment.pairs import Modality, Pair

TermName = Literal[
    "contrast",
    "cluster",
    "reconstruct",
    "predict",
    "classify",
    "metric",
    "guide",
    "distill",
    "localize",
    "detect",
    "explain",
]
TERM_NAMES: tuple[str, ...] = get_args(TermName)
"""All terms."""
PAIR_TERMS = ("contrast", "cluster", "reconstruct", "predict", "detect")
"""Terms that compare modalities, or work where they are compared: a stage with one of them needs a pair."""
LABEL_TERMS = ("classify", "metric", "guide", "distill", "explain")
"""Terms that read the classes of clips."""
SEVERAL_CAPTIONS = ("mil_nce", "symmetric_mil_nce")
"""Losses that take all candidate captions of a clip; the others take its own."""
SIMILARITY_LOSSES = ("info_nce", "masked_margin_softmax")
"""Losses of a matrix of similarities, whatever these were made from."""
LEAST_TEMPERATURE = 0.01
"""A learned temperature never falls below this, as in CLIP."""


class BankSettings(Settings):
    """The memory bank of CMC."""

    form: Literal["softmax", "nce"] = "softmax"
    """Cross-entropy over the own clip and the negatives, or noise-contrastive estimation."""
    negatives: PositiveInt = 16384
    """Stored embeddings that every clip is told apart from; at most all clips but one."""
    momentum: float = Field(default=0.5, ge=0.0, le=1.0)
    """Part of a stored embedding that stays when its clip is seen again."""
    normalizer: Literal["first", "running"] = "first"
    """Form `nce`: Z as the first batch gives it, as published, or a running mean over the batches."""
    exclude_own: bool = False
    """Never draw a clip as a negative of its own; the published draw may."""

    @model_validator(mode="after")
    def _normalizer_of_nce(self) -> Self:
        if self.normalizer == "running" and self.form != "nce":
            raise ValueError(f"normalizer belongs to form: nce, but form is {self.form}")
        return self


class ContrastSettings(Settings):
    """The contrastive loss of every pair."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    loss: Literal["masked_margin_softmax", "info_nce", "mil_nce", "symmetric_mil_nce", "memory_bank"] = (
        "masked_margin_softmax"
    )
    """Which loss; `mil_nce` has one denominator for both directions, `symmetric_mil_nce` one for each."""
    scorer: Literal["vector", "maximum"] = "vector"
    """What is compared: two vectors; or, where the video has places (`model.video_backbone: conv2d`), the place of its
    map that fits the other modality's vector best. For the losses `info_nce` and `masked_margin_softmax`, in sound
    mode."""
    margin: NonNegativeFloat = 0.001
    """Margin of the masked margin softmax."""
    temperature: PositiveFloat = 0.07
    """Divides cosines in sound mode; faithful mode compares raw dot products."""
    learn_temperature: bool = False
    """Train the temperature, from `temperature` on, down to 0.01 at most."""
    bank: BankSettings | None = None
    """Memory bank; its defaults when `loss` is `memory_bank`."""
    pair_weights: dict[Pair, PositiveFloat] = Field(default_factory=dict)
    """Weight of pairs, 1 for those not named. With any, the term is the weighted mean of the pairs' losses, else their
    sum."""

    @model_validator(mode="after")
    def _parts_belong(self) -> Self:
        if self.bank is not None and self.loss != "memory_bank":
            raise ValueError(f"bank belongs to loss: memory_bank, but loss is {self.loss}")
        if self.scorer == "maximum" and self.loss not in SIMILARITY_LOSSES:
            raise ValueError(f"scorer: maximum belongs to {' and '.join(SIMILARITY_LOSSES)}, but loss is {self.loss}")
        if self.learn_temperature and self.temperature < LEAST_TEMPERATURE:
            raise ValueError(f"temperature must be at least {LEAST_TEMPERATURE} to be learned, got {self.temperature}")
        return self


class ClusterSettings(Settings):
    """The clustering term."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    clusters: PositiveInt = 256
    """Number of clusters."""
    queue_batches: NonNegativeInt = 20
    """Length of the queue of past clips, in batches' shares."""
    queue_share: PositiveFloat = Field(default=0.5, le=1.0)
    """Part of each batch that enters the queue."""
    refit_every: PositiveInt = 20
    """Steps between two k-means fits."""
    temperature: PositiveFloat = 0.1
    """Divides cosines in sound mode."""
    margin: NonNegativeFloat = 0.001
    """Taken off the score of the own centroid."""
    divide: bool = True
    """Mean over the modalities; otherwise their sum."""


class ReconstructSettings(Settings):
    """The reconstruction term."""

    weight: NonNegativeFloat = 50.0
    """Factor of the term; published 50."""


class PredictSettings(Settings):
    """The prediction of one modality's input features from another's embedding, for every pair in both directions."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    loss: Literal["l1", "l2", "codes"] = "l2"
    """Absolute or squared error of standardized features, or cross-entropy of the code they are quantized to."""
    codes: int | None = Field(default=None, ge=2)
    """Loss `codes`: entries of each modality's codebook; 64 when not given."""

    @model_validator(mode="after")
    def _codes_of_codes(self) -> Self:
        if self.codes is not None and self.loss != "codes":
            raise ValueError(f"codes belongs to loss: codes, but loss is {self.loss}")
        return self

    @property
    def codebook_entries(self) -> int | None:
        """Entries of each codebook; None where nothing is quantized."""
        return (self.codes or 64) if self.loss == "codes" else None


class DetectSettings(Settings):
    """A detector that sees video alone, trained on boxes and pseudo-classes that video and sound give together.

    Needs `model.video_backbone: conv2d`; belongs into a stage of its own after one whose contrast compares places with
    sound, with both towers frozen."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    classes: int = Field(default=8, ge=2)
    """Pseudo-classes, of equal shares."""
    width: PositiveInt = 64
    """Inner channels of the detector."""
    queue_rows: PositiveInt = 1024
    """Past clips that are assigned in balance with those of the batch."""
    sharpness: PositiveFloat = 10.0
    """Power of the balanced assignment (SeLaVi's λ / 2); cosines are assigned."""
    refit_every: PositiveInt = 20
    """Steps between two fits of the clusters."""
    deal: Literal["nothing", "classes", "boxes"] = "nothing"
    """A control: deal the pseudo-classes to other clips of the batch, or the boxes together with them."""


class ExplainSettings(Settings):
    """Classes told by attention in space and time, which is the explanation.

    Needs `model.video_backbone: conv2d`, `model.segments` and `data.label`."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    width: PositiveInt = 64
    """Inner width of the attention."""
    space: bool = True
    """Attend to places by the sound of their part; else all places of a part count the same."""
    time: bool = True
    """Attend to parts; else all parts count the same."""


class ClassifySettings(Settings):
    """The cross-entropy of the classes that a linear layer tells from a modality; `data.label` says which classes."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    modalities: tuple[Modality, ...] = ()
    """Modalities that are classified, each by a layer of its own; all that are trained when none is given."""
    reads: Literal["features", "embeddings"] = "features"
    """What the layer reads: what the backbone makes of a clip, or its embedding, in every space of the modality."""


class MetricSettings(Settings):
    """A loss of labeled embeddings: clips of a class together, others apart; `data.label` says which classes."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    loss: Literal["multi_similarity", "margin"] = "multi_similarity"
    """Which loss."""
    modalities: tuple[Modality, ...] = ()
    """Modalities that learn; all that are trained when none is given."""


class GuideSettings(Settings):
    """Guidance by language: similarities among a batch's clips are to be those among the names of their classes."""

    weight: NonNegativeFloat = 10.0
    """Factor of the term, ω in the paper; published 1 to 10."""
    modalities: tuple[Modality, ...] = ()
    """Modalities that are guided; all that are trained when none is given."""
    names: Literal["expert", "pseudo", "shuffled"] = "expert"
    """The classes' own names, those that a namer gives them, or their own dealt to other classes: the control."""
    network: Path | None = None
    """Folder of a text network (transformers); relative to the settings file. The store's words when not given."""
    sentence: str = Field(default="a photo of a {}", pattern=r"\{\}")
    """What a text network reads, with `{}` for the name."""
    temperature: PositiveFloat = 1.0
    """Divides the similarities of both sides."""
    shift: float = 1.0
    """Added to the similarities of language."""
    direction: Literal["backward", "forward"] = "backward"
    """Which distribution of the divergence comes first: that of the embeddings, or that of language."""
    namer: dict[str, Any] | Path | None = None
    """Run that gives pseudo-names: its settings, laid over those around them, trained when it is not there yet; or the
    folder of a finished run."""
    top: PositiveInt = 5
    """Pseudo-names of each class."""
    by: Literal["class", "clip"] = "class"
    """Whether a namer names classes, or every clip by itself."""

    @model_validator(mode="after")
    def _namer_of_pseudo_names(self) -> Self:
        if (self.namer is not None) != (self.names == "pseudo"):
            raise ValueError(f"names: pseudo and namer go together, but names is {self.names}")
        return self


class DistillSettings(Settings):
    """Learning from a teacher: a finished run, or one that is trained first."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    teacher: dict[str, Any] | Path
    """The run to learn from: its settings, laid over those around them, trained when it is not there yet; or the folder
    of a finished run. It must have the term classify, but where embeddings are learned."""
    method: Literal["reuse", "features", "logits", "embeddings"] = "reuse"
    """`reuse`: the teacher's features by a projector, behind which its classifier is used again (SimKD); `features`:
    the same beside a classifier of one's own; `logits`: its scores (KD); `embeddings`: its embeddings in each space."""
    modalities: tuple[Modality, ...] = ()
    """Modalities that learn; all that are trained when none is given."""
    factor: PositiveInt = 2
    """How much narrower than the teacher's features a projector is inside."""
    temperature: PositiveFloat = 4.0
    """Divides scores, with method `logits`."""


class LocalizeSettings(Settings):
    """Where sounds come from in pictures, learned without negatives; needs a video tower that keeps places."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term."""
    rounds: NonNegativeInt | None = 4
    """Rounds of predictive coding between the picture's features and the sound; null leaves it out."""
    hidden: PositiveInt = 128
    """Width of the projections that predict each other; published 2048."""
    error_weight: NonNegativeFloat = 0.0
    """Of the squared prediction error of predictive coding, which the published objective lacks."""


class TermSettings(Settings):
    """The summands of the objective; a term that is not named does not exist."""

    contrast: ContrastSettings | None = None
    """Pairs are pulled together."""
    cluster: ClusterSettings | None = None
    """Clips are pulled to the centroid of their cluster."""
    reconstruct: ReconstructSettings | None = None
    """Inputs are given back from embeddings."""
    predict: PredictSettings | None = None
    """Inputs of one modality are predicted from embeddings of another."""
    classify: ClassifySettings | None = None
    """Classes are told by a linear layer."""
    metric: MetricSettings | None = None
    """Clips of a class are pulled together."""
    guide: GuideSettings | None = None
    """Classes are to lie as language says."""
    distill: DistillSettings | None = None
    """A teacher's features, scores or embeddings are learned."""
    localize: LocalizeSettings | None = None
    """Sounds are looked for in pictures, without negatives."""
    detect: DetectSettings | None = None
    """A detector learns boxes and classes that nobody named."""
    explain: ExplainSettings | None = None
    """Classes are told by attention in space and time."""

    @field_validator("*", mode="before")
    @classmethod
    def _bare_name(cls, value: Any, info: Any) -> Any:
        """`cluster: true` and `cluster:` mean the defaults."""
        return {} if value is True else None if value is False else value

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms that exist."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)
