"""From settings to parts: the one place where settings become plain arguments."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import mcnlab
from mcnlab.data.augment import AugmentedClips, Looks
from mcnlab.data.changed import ChangedClips, FrameChanges, SoundChanges
from mcnlab.data.drawn_clips import DrawnClips, PublishedDraws, WindowDraws
from mcnlab.data.labels import LabeledClips
from mcnlab.data.loading import PUBLISHED_PAD_DB, SILENCE_DB, ClipSource, ClipWindow, TrainingClips, input_dim
from mcnlab.data.missing import ThinnedClips
from mcnlab.data.mixing import MixedClips
from mcnlab.data.raw_frames import FrameShape, frame_shape
from mcnlab.data.scenes import ComposedClips, scene_settings
from mcnlab.data.store import Store
from mcnlab.errors import ConfigError
from mcnlab.experiment.change_settings import ChangeSettings
from mcnlab.experiment.distillation import add_parts_of_student, meta_teacher
from mcnlab.experiment.graphs import GraphSettings, graph_of
from mcnlab.experiment.labels import training_classes, training_labels
from mcnlab.experiment.mixed import chosen_tracks, opened_stores
from mcnlab.experiment.objective import takes_several_captions
from mcnlab.experiment.places import add_parts_by_place
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.modalities import group_name
from mcnlab.models.graph import Graph
from mcnlab.models.localization.sound_localizer import LocalizerSizes
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.models.published import PublishedWeights, check_published_weights, load_published_weights
from mcnlab.training.loop import LoopSettings
from mcnlab.training.stages import Stage
from mcnlab.training.step import StepSettings

ASSUMED_CLASSES = 10
"""Classes that are reckoned with where there are no clips to ask."""
LEARNING_PACKAGES = ("data", "models", "losses", "training")
"""Packages whose code decides what a trained stage looks like."""


def build_source(settings: ExperimentSettings, store: Store, split: str, *, shuffle_seed: int | None) -> ClipSource:
    """The clips of a split as they stand in the store, cut as the experiment wants them."""
    return ClipSource(
        chosen_tracks(settings, store),
        split,
        window=clip_window(settings),
        shuffle_seed=shuffle_seed,
        shuffled=settings.data.dealt,
    )


def build_training_source(settings: ExperimentSettings, store: Store, *, seed: int) -> TrainingClips:
    """The clips to train on: of one store or mixed from several, some dealt to other clips or without a modality.

    Args:
        settings: the experiment.
        store: its store, or the main one of several.
        seed: of the run.

    Returns:
        The clips; modalities that the main store lacks are left out.

    Raises:
        DataError: a split is empty, or the stores do not fit each other.
    """
    data, stores = settings.data, opened_stores(settings)
    shuffle_seed = seed if data.dealt else None
    source = _clips_of_store(settings, store, shuffle_seed=shuffle_seed) if not stores else None
    if source is None:
        sources = {name: _clips_of_store(settings, one, shuffle_seed=shuffle_seed) for name, one in stores.items()}
        weights = {name: share.weight for name, share in (data.stores or {}).items()}
        source = MixedClips(sources, weights, modalities=store.modalities)
    lost: dict[str, float] = {modality: share for modality, share in data.missing.items() if share > 0}
    source = ThinnedClips(source, lost, seed=seed) if lost else source
    if data.changes is not None:
        source = _changed(source, data.changes)
    if data.looks:
        source = AugmentedClips(source, Looks(data.looks, data.least_area, data.shade))
    if data.label is None or data.sampling == "composed":
        return source
    return LabeledClips(source, training_labels(settings, store), classes_per_batch=data.classes_per_batch)


def _changed(source: TrainingClips, changes: ChangeSettings) -> TrainingClips:
    """The clips, changed anew in every epoch."""
    frames = None if changes.frames is None else FrameChanges(**changes.frames.model_dump())
    sound = None if changes.sound is None else SoundChanges(**changes.sound.model_dump())
    return ChangedClips(source, frames=frames, sound=sound)


def _clips_of_store(settings: ExperimentSettings, store: Store, *, shuffle_seed: int | None) -> TrainingClips:
    """The training clips of one store: as they stand there, or drawn anew every epoch."""
    data = settings.data
    if data.sampling == "captions":
        clips, split, window = chosen_tracks(settings, store), data.train_split, clip_window(settings)
        candidates = data.candidates if takes_several_captions(settings) else 1
        return ClipSource(
            clips, split, window=window, shuffle_seed=shuffle_seed, shuffled=data.dealt, candidates=candidates
        )
    if data.sampling == "composed":
        return _composed(settings, store, shuffle_seed=shuffle_seed)
    rule = (
        PublishedDraws(data.clips_per_video, data.min_time_s)
        if data.sampling == "published"
        else WindowDraws(data.window_s)
    )
    clips = chosen_tracks(settings, store)
    return DrawnClips(
        clips,
        data.train_split,
        window=clip_window(settings),
        rule=rule,
        shuffle_seed=shuffle_seed,
        shuffled=data.dealt,
    )


def _composed(settings: ExperimentSettings, store: Store, *, shuffle_seed: int | None) -> ComposedClips:
    """Scenes that are drawn anew every epoch.

    Raises:
        ConfigError: the store holds no scene world.
    """
    scenes = scene_settings(store)
    if scenes is None:
        raise ConfigError(f"data.sampling: composed needs a store of scenes, but {store.path} holds none")
    data = settings.data
    return ComposedClips(
        scenes,
        window=clip_window(settings),
        shuffle_seed=shuffle_seed,
        shuffled=data.dealt,
        classes=None if data.label is None else training_classes(settings, store),
    )


def clip_window(settings: ExperimentSettings) -> ClipWindow:
    """How the experiment cuts a clip."""
    pad_db = PUBLISHED_PAD_DB if settings.mode == "faithful" else SILENCE_DB
    model = settings.model
    return ClipWindow(model.audio_frames, model.words, pad_db, model.video_frames)


def build_model(
    settings: ExperimentSettings, store: Store, *, seed: int, classes: int | None = None
) -> MultimodalModel:
    """The model with its first weights: a tower for every modality of the store, trained or not.

    Args:
        settings: the experiment.
        store: gives the input widths.
        seed: of the first weights.
        classes: how many are told apart, where terms learn any; those of the training clips when None.

    Returns:
        The model.

    Raises:
        DataError: the store lacks what the experiment names.
    """
    chosen = chosen_tracks(settings, store)
    widths = {modality: input_dim(chosen, modality) for modality in store.modalities}
    if classes is None and settings.data.label is not None:
        classes = len(training_classes(settings, store))
    return sized_model(settings, widths, seed=seed, frame=frame_shape(chosen), classes=classes or ASSUMED_CLASSES)


def sized_model(
    settings: ExperimentSettings,
    input_dims: Mapping[str, int],
    *,
    seed: int,
    frame: FrameShape | None = None,
    classes: int = ASSUMED_CLASSES,
) -> MultimodalModel:
    """The model for inputs of these widths, by modality, for frames of a shape, and so many classes; needs no store."""
    sizes = ModelSizes(
        input_dims,
        settings.model.dim,
        settings.model.audio_width,
        settings.model.audio_blocks,
        settings.model.decoder_hidden,
        frame,
        settings.model.video_width,
        settings.model.video_backbone,
        settings.model.video_padding,
        settings.model.segments,
        settings.model.place_padding,
        settings.model.place_window,
        settings.model.video_segments,
    )
    graph, predict, contrast = model_graph(settings, tuple(input_dims)), settings.terms.predict, settings.terms.contrast
    predicted = {m: predict.codebook_entries or width for m, width in input_dims.items()} if predict else {}
    model = MultimodalModel(
        sizes,
        graph,
        faithful=settings.mode == "faithful",
        decoders=settings.terms.reconstruct is not None,
        seed=seed,
        predicted=predicted,
        temperatures={"contrast": contrast.temperature} if contrast and contrast.learn_temperature else {},
        classes=dict.fromkeys(classified(settings, graph), classes),
        localizer=localizer_sizes(settings),
    )
    add_parts_by_place(settings, model, seed=seed, classes=classes)
    teacher = meta_teacher(settings, sized_model, input_dims, frame, classes)
    if teacher is not None:
        add_parts_of_student(settings, model, teacher, seed=seed)
    return model


def localizer_sizes(settings: ExperimentSettings) -> LocalizerSizes | None:
    """Sizes of what finds sounds in pictures; None for an experiment without it."""
    localize, model = settings.terms.localize, settings.model
    if localize is None:
        return None
    return LocalizerSizes(model.video_width, model.audio_width, localize.rounds, localize.hidden, model.place_window)


def classified(settings: ExperimentSettings, graph: Graph) -> list[tuple[str, str | None]]:
    """What classes are told from: modality and space, or modality and None for the features of its backbone."""
    classify, modalities = settings.terms.classify, settings.labeled_modalities("classify")
    if classify is None or classify.reads == "features":
        return [(modality, None) for modality in modalities]
    return [(modality, space) for modality in modalities for space in graph.heads_of(modality)]


def model_graph(settings: ExperimentSettings, modalities: Sequence[str]) -> Graph:
    """The graph of an experiment on a store with these modalities.

    Raises:
        ConfigError: it needs a modality that the store lacks, or pairs that no stage compares.
    """
    model = settings.model
    return graph_of(
        settings.graph,
        modalities,
        settings.trained_pairs,
        heads=model.heads,
        coarse_dim=model.coarse_dim or max(1, model.dim // 2),
    )


def start_weights(settings: ExperimentSettings, model: MultimodalModel) -> PublishedWeights | None:
    """Put the released weights that the settings name into a model.

    Args:
        settings: the experiment, with the checksum of its weights.
        model: changed in place.

    Returns:
        What was filled; None where the settings name no weights.

    Raises:
        DataError: the file is missing, has changed, or does not fit the model.
    """
    if settings.model.weights is None:
        return None
    return load_published_weights(settings.model.weights, model)


def check_weights(settings: ExperimentSettings, store: Store) -> list[str]:
    """Refuse released weights that do not fit the model that an experiment would build, without building it.

    Args:
        settings: the experiment.
        store: gives the input widths.

    Returns:
        What the file lacks and what it has beyond the model, in sentences.

    Raises:
        DataError: the file is missing or unsafe, or a tensor has another shape; it is named.
        ConfigError: the graph is not shared.
    """
    if settings.model.weights is None:
        return []
    with torch.device("meta"):
        model = build_model(settings, store, seed=0)
    found = check_published_weights(settings.model.weights, model)
    return [f"{settings.model.weights}: {sentence}" for sentence in found.lines()]


def build_stages(settings: ExperimentSettings) -> list[Stage]:
    """The stages in order; a stage is named by its place and its modalities' initials."""
    return [
        Stage(
            f"{number}:{group_name(stage.modalities)}",
            stage.epochs,
            stage.modalities,
            settings.stage_pairs(stage),
            stage.terms if stage.terms is not None else settings.terms.names,
            stage.frozen,
        )
        for number, stage in enumerate(settings.stages, start=1)
    ]


def build_loop(settings: ExperimentSettings, *, seed: int) -> LoopSettings:
    """Plain numbers of the training loop."""
    training = settings.training
    return LoopSettings(
        batch=training.batch,
        lr=training.lr,
        warmup_steps=training.warmup_steps,
        seed=seed,
        checkpoint_every=training.checkpoint_every,
        keep_every=training.keep_every,
        keep_best=training.keep_best,
        max_steps=training.max_steps,
        prefetch=training.prefetch,
        step=StepSettings(
            training.precision, training.max_grad_norm, training.chunk, training.chunk_statistics == "batch"
        ),
        compile=training.compile,
    )


def choose_device(name: str) -> torch.device:
    """The device that a setting names.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device: cuda was asked for, but this machine has no usable GPU")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def prefix_keys(settings: ExperimentSettings, *, fingerprint: str, seed: int) -> list[str]:
    """One key per stage: a hash of all that the weights after it depend on.

    Args:
        settings: the experiment.
        fingerprint: of the data.
        seed: of the run.

    Returns:
        32 hex digits per stage; equal keys mean equal weights.
    """
    training = settings.training.model_dump(
        include={
            *("batch", "lr", "warmup_steps", "max_grad_norm", "precision", "max_steps"),
            *("chunk", "chunk_statistics", "compile", "deterministic"),
        }
    )
    common = {
        "data": fingerprint,
        "clips": settings.data.model_dump(exclude={"world", "scenes", "kinds", "store", "stores"}),
        "seed": seed,
        "mode": settings.mode,
        "graph": graph.model_dump() if isinstance(graph := settings.graph, GraphSettings) else graph,
        "spaces": settings.trained_pairs if settings.graph != "shared" else (),
        "model": settings.model.model_dump(exclude={"weights"}),
        "training": training,
        "code": code_fingerprint(),
        "torch": torch.__version__,
    }
    stages = build_stages(settings)
    return [
        short_hash({**common, "terms": _terms_of(settings, done), "stages": [vars(stage) for stage in done]})
        for done in (stages[: number + 1] for number in range(len(stages)))
    ]


def _terms_of(settings: ExperimentSettings, stages: Sequence[Stage]) -> dict[str, Any]:
    """What the weights after some stages depend on of the terms; a control deals nothing before its term is at work."""
    terms = settings.terms.model_dump()
    if settings.terms.detect is not None and not any("detect" in stage.terms for stage in stages):
        terms["detect"]["deal"] = "nothing"
    return terms


def short_hash(value: object) -> str:
    """32 hex digits of a plain value's sha256."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


@functools.cache
def code_fingerprint() -> str:
    """32 hex digits of the source code that decides what training does."""
    root = Path(mcnlab.__file__).parent
    digest = hashlib.sha256()
    for package in LEARNING_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:32]
