"""The settings of one experiment, and what its parts ask of each other."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from mcnlab.config import Settings
from mcnlab.experiment.data_settings import LOOKS, DataSettings
from mcnlab.experiment.evaluation_settings import EvaluationSettings
from mcnlab.experiment.graphs import GraphChoice, GraphSettings, graph_pairs
from mcnlab.experiment.model_settings import ModelSettings
from mcnlab.experiment.pairs import PAIRS, Pair, modalities_of_stages, named_stages, with_pairs
from mcnlab.experiment.recipes import PLACES, filled_recipes
from mcnlab.experiment.term_settings import (
    LABEL_TERMS,
    PAIR_TERMS,
    TERM_NAMES,
    ContrastSettings,
    TermSettings,
)
from mcnlab.experiment.training_settings import StageSettings, TrainingSettings
from mcnlab.modalities import MODALITIES, in_order, pair_modalities, pair_place, pairs_among


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
