"""The model of one experiment: a backbone per modality, a head per modality and space, decoders."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcnlab.batch import Batch, Outputs, pair_modalities
from mcnlab.models.davenet import DaveNet, mean_over_time, real_steps
from mcnlab.models.distillation import MAP_AXES, FrozenClassifier, pooled
from mcnlab.models.graph import Graph
from mcnlab.models.localization.attention import averaged
from mcnlab.models.localization.sound_localizer import LocalizerSizes, SoundLocalizer
from mcnlab.models.reconstruction import Decoder
from mcnlab.models.towers import CoarseMap, GatedUnit, MlpHead, SentenceMaxPool
from mcnlab.models.video3d import FramesBackbone, TimePadding, VideoKind, build_video_backbone
from mcnlab.numerics import l2_normalize, seeded

DAVENET_HALVINGS = 3
"""Doublings of the channel count between DaveNet's first and last stage."""
MOST_LOG_SCALE = math.log(100.0)
"""A learned scale of cosines never exceeds 100 (Radford et al. 2021, arXiv 2103.00020)."""


@dataclass(frozen=True)
class ModelSizes:
    """Plain sizes of a model, all that is needed to build it."""

    input_dims: Mapping[str, int]
    """By modality: width of its input (video features, mel bands, word vectors)."""
    dim: int = 6144
    """Width of every space that the graph gives no other, and of a sentence."""
    audio_width: int = 1024
    """Channels of DaveNet's last stage, a multiple of 8."""
    audio_blocks: int = 2
    """Basic blocks in each of DaveNet's stages."""
    decoder_hidden: int = 1024
    """Inner width of the decoders."""
    frame_shape: tuple[int, int, int] | None = None
    """Channels, height, width of a frame where the video is frames; None where it is features."""
    video_width: int = 64
    """Features of the backbone that sees frames, a multiple of 8."""
    video_backbone: VideoKind = "conv3d"
    """How it sees time."""
    video_padding: TimePadding = "replicate"
    """What it sees before the first frame and after the last."""
    segments: int | None = None
    """Parts of a clip that are heard one by one; None hears it as a whole."""
    place_padding: TimePadding = "zeros"
    """What a backbone that keeps places sees beyond the edge of a frame."""
    place_window: int = 1
    """Side, in cells, of the square that a place of a map averages before its head; odd."""
    video_segments: int = 1
    """Parts of a clip's time whose features it puts side by side."""


class MultimodalModel(nn.Module):
    """Towers, heads and decoders of the modalities of one experiment.

    Args:
        sizes: plain sizes.
        graph: the spaces and who lives in them.
        faithful: as published: padding takes part in pooling, no L2 normalization, decoders end in a ReLU. Otherwise
            sound: masked pooling, unit-length embeddings, decoders without a last ReLU.
        decoders: whether to build decoders for the reconstruction term.
        seed: first weights; a tower's weights depend on the seed and its name alone, so that the same tower starts
            equal in every experiment.
        predicted: by modality, how many numbers a predictor says of it, from the embedding of every modality that the
            graph pairs it with; empty without predictors.
        temperatures: by term, the first value of a temperature that is learned.
        localizer: sizes of what finds sounds in pictures; None without it.
        classes: by modality and space, or None for the backbone's features: how many classes a linear layer tells.

    Source: MCN (Chen et al., ICCV 2021), arXiv 2104.12671, figure 2 and its released code.
    """

    def __init__(
        self,
        sizes: ModelSizes,
        graph: Graph,
        *,
        faithful: bool,
        decoders: bool,
        seed: int,
        predicted: Mapping[str, int] | None = None,
        temperatures: Mapping[str, float] | None = None,
        classes: Mapping[tuple[str, str | None], int] | None = None,
        localizer: LocalizerSizes | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.faithful = faithful
        self.backbones = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        self.maps = nn.ModuleDict()
        self.decoders = nn.ModuleDict()
        self.space_dims = {name: space.dim or sizes.dim for name, space in graph.spaces.items()}
        self.feature_dims = {m: _feature_dim(m, width, sizes) for m, width in sizes.input_dims.items()}
        self.segments, self.place_window = sizes.segments, sizes.place_window
        for modality, width in sizes.input_dims.items():
            with seeded(seed, "backbone", modality):
                self.backbones[modality] = _backbone(modality, width, sizes)
            for space in graph.heads_of(modality):
                name, dim = head_name(modality, space), self.space_dims[space]
                in_dim = self.feature_dims[modality]
                with seeded(seed, "head", name):
                    self.heads[name] = _head(graph.spaces[space].heads[modality], modality, in_dim, dim)
                if decoders:
                    with seeded(seed, "decoder", name):
                        self.decoders[name] = Decoder(dim, sizes.decoder_hidden, in_dim, last_relu=faithful)
        for step in graph.maps:
            with seeded(seed, "map", step.name):
                self.maps[step.name] = CoarseMap(self.space_dims[step.source], self.space_dims[step.target])
        self.predictors = nn.ModuleDict()
        predicted = predicted or {}
        for pair, space in graph.space_of_pair.items() if predicted else ():
            for source, target in (pair_modalities(pair), pair_modalities(pair)[::-1]):
                name, dim = predictor_name(source, space, target), self.space_dims[space]
                with seeded(seed, "predictor", name):
                    self.predictors[name] = Decoder(dim, sizes.decoder_hidden, predicted[target], last_relu=False)
        self.localizer = None if localizer is None else SoundLocalizer(localizer, seed=seed)
        self.log_scales = nn.ParameterDict(
            {term: nn.Parameter(torch.tensor(-math.log(value))) for term, value in (temperatures or {}).items()}
        )
        self.classifiers = nn.ModuleDict()
        self.projectors = nn.ModuleDict()
        self.classified = tuple(classes or {})
        for (modality, where), count in (classes or {}).items():
            name = classifier_name(modality, where)
            width = self.feature_dims[modality] if where is None else self.space_dims[where]
            with seeded(seed, "classifier", name):
                self.classifiers[name] = nn.Linear(width, count)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that have a tower."""
        return tuple(self.backbones)

    def forward(
        self,
        batch: Batch,
        modalities: Collection[str] | None = None,
        *,
        pairs: Collection[str] | None = None,
        even_without: Collection[str] = (),
    ) -> Outputs:
        """Features and embeddings of the clips' present modalities.

        In training a modality goes only where the compared pairs need it, so that it does not reach the statistics of
        maps that it is not trained on; in evaluation it goes wherever the graph leads.

        Args:
            batch: the clips.
            modalities: those to run; None runs all. Towers that do not run keep even their running statistics.
            pairs: what training compares; None means all pairs of the graph.
            even_without: those whose tower runs even if no clip of the batch has them, because its statistics span
                more than this batch.

        Returns:
            Features and embeddings; rows of an absent modality are zero.
        """
        chosen = [m for m in self.backbones if modalities is None or m in modalities]
        features, embeddings, candidates, maps = {}, {}, {}, {}
        for modality, rows in present_rows({m: batch.present[m] for m in chosen}).items():
            further = _further_captions(batch) if modality == "text" else rows[:0]
            if (len(rows) or modality in even_without) and self.keeps_places(modality):
                found, places = self._features_and_maps(modality, batch, rows)
                maps[modality] = spread_rows(places, rows, len(batch))
            elif len(rows) or len(further) or modality in even_without:
                found = self._features(modality, batch, rows, further)
            else:
                found = batch.inputs[modality].new_zeros(0, self.feature_dims[modality])
            features[modality] = spread_rows(found[: len(rows)] if len(further) else found, rows, len(batch))
            own = taken(features[modality], rows)
            everything = torch.cat((own, found[len(rows) :])) if len(further) else own
            for space, embedded in self._arrivals(modality, everything, pairs).items():
                embedded = embedded if self.faithful else l2_normalize(embedded)
                mine = embedded[: len(rows)] if len(further) else embedded
                embeddings[modality, space] = spread_rows(mine, rows, len(batch))
                if modality == "text" and batch.candidates is not None:
                    flags = batch.candidates.present
                    spread = spread_rows(embedded[len(rows) :], further, flags.numel())
                    candidates[space] = spread.reshape(*flags.shape, -1)
        there = batch.candidates.present if candidates and batch.candidates is not None else None
        return Outputs(features, embeddings, {m: batch.present[m] for m in chosen}, candidates, there, maps)

    def keeps_places(self, modality: str) -> bool:
        """Whether a modality's tower gives features of every place, or of every part of a clip."""
        backbone = self.backbones[modality]
        placed = isinstance(backbone, FramesBackbone) and backbone.keeps_places
        return placed or (modality == "audio" and self.segments is not None)

    def _arrivals(self, modality: str, features: Tensor, pairs: Collection[str] | None) -> dict[str, Tensor]:
        """By space, in the graph's order: what becomes of a modality's features there, before normalization."""
        graph, reached = self.graph, dict[str, Tensor]()
        wanted = graph.needed(modality, graph.space_of_pair if pairs is None else pairs)
        for space in wanted if self.training else graph.spaces_of(modality):
            way = graph.way(modality, space) or ()
            start = way[0].source if way else space
            if start not in reached:
                reached[start] = self.heads[head_name(modality, start)](features)
            for step in way:
                if step.target not in reached:
                    reached[step.target] = self.maps[step.name](reached[step.source])
        return {space: reached[space] for space in graph.spaces if space in reached}

    def couples_clips(self, modality: str) -> bool:
        """Whether a clip's outputs depend on the other clips: a batch normalization on the way takes their statistics.

        Args:
            modality: whose tower, heads and maps.
        """
        parts = [self.backbones[modality]]
        parts += [self.heads[head_name(modality, space)] for space in self.graph.heads_of(modality)]
        ways = (self.graph.way(modality, space) for space in self.graph.spaces_of(modality))
        parts += [self.maps[step.name] for way in ways for step in way or ()]
        return any(isinstance(m, _BatchNorm) and m.training for part in parts for m in part.modules())

    def reconstruct(
        self, embedding: Float[Tensor, "rows dim"], *, modality: str, space: str
    ) -> Float[Tensor, "rows _"]:
        """What the decoder of a modality gives back from its embedding in a space."""
        return self.decoders[head_name(modality, space)](embedding)

    def predict(
        self, embedding: Float[Tensor, "rows dim"], *, source: str, space: str, target: str
    ) -> Float[Tensor, "rows _"]:
        """What a modality's embedding in the space of a pair says about the other modality's input."""
        return self.predictors[predictor_name(source, space, target)](embedding)

    def classify(
        self, x: Float[Tensor, "rows ..."], *, modality: str, space: str | None
    ) -> Float[Tensor, "rows classes"]:
        """Scores of all classes, from what `class_inputs` gives: through a projector where there is a teacher's."""
        name = classifier_name(modality, space)
        if isinstance(self.classifiers[name], FrozenClassifier):  # the teacher's, behind a projector
            steps = x.shape[1] if x.ndim > MAP_AXES else None
            found = pooled(self.projectors[name](x if steps is None else x.flatten(0, 1)))
            x = found if steps is None else found.unflatten(0, (-1, steps)).mean(dim=1)
        return self.classifiers[name](x)

    def class_inputs(self, outputs: Outputs, *, modality: str, space: str | None) -> Float[Tensor, "clips ..."]:
        """What `classify` reads: embeddings or features; for a teacher's classifier, what its projector reads.

        Args:
            outputs: of the batch.
            modality: one that is classified.
            space: None for the backbone's features.

        Returns:
            (clips, dim), or (clips, steps, channels, height, width), at least 0.
        """
        if isinstance(self.classifiers[classifier_name(modality, space)], FrozenClassifier):
            return self.projector_inputs(outputs, modality=modality, space=space)
        return outputs.features[modality] if space is None else outputs.embeddings[modality, space]

    def projector_inputs(self, outputs: Outputs, *, modality: str, space: str | None) -> Float[Tensor, "clips ..."]:
        """What a projector reads of a batch: maps where it is one of maps, else embeddings or features."""
        if self.projectors[classifier_name(modality, space)].maps:
            return outputs.maps[modality].relu()
        return outputs.features[modality] if space is None else outputs.embeddings[modality, space]

    def projected(
        self, x: Float[Tensor, "rows _ *places"], *, modality: str, space: str | None
    ) -> Float[Tensor, "rows _ *places"]:
        """What a projector makes of features or maps: as wide as the teacher's."""
        return self.projectors[classifier_name(modality, space)](x)

    def learned_temperature(self, term: str) -> Float[Tensor, ""] | None:
        """The learned temperature of a term, at least 0.01; None where it is not learned."""
        if term not in self.log_scales:
            return None
        log_scale = self.log_scales[term]
        with torch.no_grad():
            log_scale.clamp_(max=MOST_LOG_SCALE)  # in place: beyond the border the gradient still leads back
        return (-log_scale).exp()

    def _features(self, modality: str, batch: Batch, rows: Tensor, further: Tensor) -> Tensor:
        """Backbone features of the given rows of a batch, then of the given candidate captions."""
        backbone, inputs = self.backbones[modality], taken(batch.inputs[modality], rows)
        if modality == "audio":
            return self._pooled_audio(backbone(inputs), inputs.shape[2], taken(batch.lengths["audio"], rows))
        if modality == "text":
            lengths = taken(batch.lengths["text"], rows)
            if batch.candidates is not None and len(further):
                inputs = torch.cat((inputs, batch.candidates.words.flatten(0, 1)[further]))
                lengths = torch.cat((lengths, batch.candidates.lengths.flatten()[further]))
            return backbone(inputs, None if self.faithful else lengths)
        if isinstance(backbone, FramesBackbone):
            return backbone(inputs, None if self.faithful else taken(batch.lengths[modality], rows))
        return backbone(inputs)

    def _features_and_maps(self, modality: str, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone features of the given rows of a batch, and the maps that they are pooled from."""
        if modality == "audio":
            return self._heard_in_parts(batch, rows)
        backbone, inputs = cast(FramesBackbone, self.backbones[modality]), taken(batch.inputs[modality], rows)
        lengths = None if self.faithful else taken(batch.lengths[modality], rows)
        maps = backbone.maps(inputs)  # (rows, dim, steps, height, width)
        return backbone.pooled(maps, inputs.shape[1], lengths), maps.transpose(1, 2)

    def _heard_in_parts(self, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone features of the sound of the given rows, and those of its parts: (rows, segments, dim, 1, 1)."""
        segments, inputs = self.segments or 1, taken(batch.inputs["audio"], rows)  # (rows, bands, frames)
        frames = inputs.shape[2] // segments
        parts = inputs[:, :, : segments * frames].unflatten(2, (segments, frames)).transpose(1, 2)
        heard = mean_over_time(self.backbones["audio"](parts.flatten(0, 1))).unflatten(0, (len(inputs), segments))
        real = real_steps(taken(batch.lengths["audio"], rows), padded_frames=inputs.shape[2], steps=segments)
        pooled = mean_over_time(heard.transpose(1, 2), None if self.faithful else real)
        return pooled, heard[..., None, None]

    def map_in_space(
        self, maps: Float[Tensor, "clips steps _ height width"], *, modality: str, space: str
    ) -> Float[Tensor, "clips steps places _"]:
        """What a modality's head makes of every place by itself.

        Args:
            maps: of its backbone, as `Outputs.maps` has them.
            modality: whose head.
            space: where it leads.

        Returns:
            (clips, steps, places, width of the space); of unit length, but in faithful mode.
        """
        seen = averaged(maps.relu().flatten(0, 1), self.place_window)  # (clips · steps, dim, height, width)
        rows = seen.flatten(2).transpose(1, 2).unflatten(0, maps.shape[:2])  # (clips, steps, places, dim)
        found = self.heads[head_name(modality, space)](rows.flatten(0, 2))
        found = found if self.faithful else l2_normalize(found)
        return found.unflatten(0, rows.shape[:3])

    def _pooled_audio(self, steps: Tensor, padded_frames: int, frames: Tensor) -> Tensor:
        """DaveNet's output as one vector per clip; the published training mean runs over padding too."""
        if self.faithful and self.training:
            return mean_over_time(steps)
        return mean_over_time(steps, real_steps(frames, padded_frames=padded_frames, steps=steps.shape[2]))


def head_name(modality: str, space: str) -> str:
    """The name of a head or decoder among the model's parameters."""
    return f"{modality}_in_{space}"


def classifier_name(modality: str, space: str | None) -> str:
    """The name among the model's parameters of what tells classes from a modality; in a space, or from its features."""
    return modality if space is None else head_name(modality, space)


def predictor_name(source: str, space: str, target: str) -> str:
    """The name among the model's parameters of what predicts a modality from another's embedding in a space."""
    return f"{source}_in_{space}_to_{target}"


def _further_captions(batch: Batch) -> Tensor:
    """Places of the candidate captions that are there, counted over all clips."""
    if batch.candidates is None:
        return batch.clips[:0]
    return batch.candidates.present.flatten().nonzero().flatten()


def present_rows(present: Mapping[str, Bool[Tensor, " clips"]]) -> dict[str, Int[Tensor, " rows"]]:
    """By modality: the places of the clips that have it; the device is waited for once, not once per modality."""
    if not present:
        return {}
    flags = torch.stack(list(present.values()))  # (modalities, clips)
    places = (has.nonzero().flatten() for has in flags.cpu())
    return {modality: rows.to(flags.device) for modality, rows in zip(present, places, strict=True)}


def taken(x: Shaped[Tensor, "clips ..."], rows: Int[Tensor, " rows"]) -> Shaped[Tensor, "rows ..."]:
    """Some rows of a tensor; all of them are not copied."""
    return x if len(rows) == len(x) else x[rows]


def spread_rows(values: Float[Tensor, "present ..."], rows: Tensor, total: int) -> Float[Tensor, "total ..."]:
    """Values of some rows at their places among `total` rows; zeros elsewhere."""
    if len(rows) == total:
        return values
    return values.new_zeros(total, *values.shape[1:]).index_copy(0, rows, values)


def _backbone(modality: str, width: int, sizes: ModelSizes) -> nn.Module:
    """What comes before a modality's heads."""
    if modality == "text":
        return SentenceMaxPool(width, sizes.dim)
    if modality == "video" and sizes.frame_shape is not None:
        return build_video_backbone(
            sizes.video_backbone,
            sizes.frame_shape,
            sizes.video_width,
            sizes.video_padding,
            place_padding=sizes.place_padding,
            segments=sizes.video_segments,
        )
    if modality == "audio":
        widths = tuple(sizes.audio_width >> halvings for halvings in range(DAVENET_HALVINGS, -1, -1))
        return DaveNet(width, widths, sizes.audio_blocks)
    return nn.Identity()  # the features of video and of further views are frozen and pooled


def _head(kind: str, modality: str, in_dim: int, dim: int) -> nn.Module:
    """A modality's way into one space; MCN leads audio through one gated unit more."""
    if kind == "linear":
        return nn.Linear(in_dim, dim)
    if kind == "mlp":
        return MlpHead(in_dim, dim)
    if modality == "audio":
        return nn.Sequential(GatedUnit(in_dim, in_dim), nn.Linear(in_dim, dim))
    return GatedUnit(in_dim, dim)


def _feature_dim(modality: str, width: int, sizes: ModelSizes) -> int:
    """Width of a modality's backbone features."""
    if modality == "video" and sizes.frame_shape is not None:
        return sizes.video_width * sizes.video_segments
    return {"audio": sizes.audio_width, "text": sizes.dim}.get(modality, width)


def reconstruction_target(outputs: Outputs, batch: Batch, modality: str, *, detach: bool) -> Float[Tensor, "clips _"]:
    """What a modality's decoder should give back: the backbone features, which for frozen video are its raw input.

    Args:
        outputs: the model's outputs for the batch.
        batch: the clips.
        modality: whose target.
        detach: keep the gradient out of the target; published code lets it through.

    Returns:
        (clips, width of the target).
    """
    frozen = modality == "video" and "video" in batch.inputs and batch.inputs["video"].ndim == 2  # else frames
    target = batch.inputs["video"] if frozen else outputs.features[modality]
    return target.detach() if detach else target


def parameter_count(model: nn.Module) -> int:
    """Numbers that training can change."""
    return sum(parameter.numel() for parameter in model.parameters())
