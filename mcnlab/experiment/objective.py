"""The terms of the objective, from their settings, and what they have to know of the training clips."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mcnlab.data.labels import LabeledClips
from mcnlab.data.loading import ClipSource, TrainingClips
from mcnlab.errors import ConfigError
from mcnlab.experiment.distillation import build_distill_term
from mcnlab.experiment.places import terms_by_place
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.term_settings import SEVERAL_CAPTIONS, BankSettings, ClusterSettings, ContrastSettings
from mcnlab.losses.contrastive import info_nce, masked_margin_softmax, mil_nce, symmetric_mil_nce
from mcnlab.losses.language import margin_loss, multi_similarity
from mcnlab.losses.prediction import absolute_error, squared_error
from mcnlab.models.graph import Graph
from mcnlab.training.bank_term import BankRules, BankTerm
from mcnlab.training.classify import LabelTerm
from mcnlab.training.contrast_term import ContrastTerm, PairLoss, SimilarityLoss
from mcnlab.training.distill_term import Key
from mcnlab.training.localize_term import LocalizeTerm
from mcnlab.training.metric_terms import GuideTerm, MetricTerm
from mcnlab.training.predict_term import InputStatistics, PredictTerm, input_statistics, unknown_statistics
from mcnlab.training.terms import ClusterSizes, ClusterTerm, ReconstructTerm, Term

ASSUMED_ROWS, ASSUMED_WIDTH = 10, 300
"""Classes, and width of their vectors of language, where there are no clips to ask."""


@dataclass(frozen=True)
class TrainingFacts:
    """What some terms have to know of the training clips before the first step."""

    present: Mapping[str, Tensor] = field(default_factory=dict)
    """By modality: (clips,), bool: which clips have it; for memory banks."""
    statistics: Mapping[str, InputStatistics] = field(default_factory=dict)
    """By modality: of its inputs; for prediction."""
    language: Tensor | None = None
    """What language says of each class or clip, see `guidance_vectors`; for guidance."""
    taught: Mapping[Key, Tensor] = field(default_factory=dict)
    """What a teacher says of each clip, see `mcnlab.experiment.distillation.taught`; for distillation."""


def training_facts(settings: ExperimentSettings, source: TrainingClips, *, seed: int) -> TrainingFacts:
    """What the terms of an experiment have to know of its training clips; nothing is read that no term asks for.

    Args:
        settings: the experiment.
        source: the clips.
        seed: of the run.

    Returns:
        The facts.

    Raises:
        ConfigError: the clips do not keep their places over the epochs, as a memory bank needs it; or fewer clips
            have a modality than a codebook has entries.
    """
    contrast, predict, modalities = settings.terms.contrast, settings.terms.predict, settings.trained_modalities
    present, statistics = {}, {}
    if contrast is not None and contrast.loss == "memory_bank":
        source = source.source if isinstance(source, LabeledClips) else source
        if not isinstance(source, ClipSource):
            raise ConfigError("terms.contrast.loss: memory_bank needs clips that keep their places")
        present = {modality: torch.from_numpy(source.present(modality)) for modality in modalities}
    if predict is not None:
        statistics = input_statistics(source, modalities, codes=predict.codebook_entries, seed=seed)
    return TrainingFacts(present, statistics)


def assumed_facts(settings: ExperimentSettings, input_dims: Mapping[str, int], *, clips: int) -> TrainingFacts:
    """Facts of clips that nobody has seen, for reckoning what a step costs: all are complete.

    Args:
        settings: the experiment.
        input_dims: by modality: width of what its tower reads.
        clips: how many there are to train on.

    Returns:
        What the terms ask for.
    """
    contrast, predict = settings.terms.contrast, settings.terms.predict
    banks = contrast is not None and contrast.loss == "memory_bank"
    present = {m: torch.ones(clips, dtype=torch.bool) for m in settings.trained_modalities if banks}
    known = {} if predict is None else unknown_statistics(input_dims, codes=predict.codebook_entries)
    language = None if settings.terms.guide is None else torch.ones(ASSUMED_ROWS, 1, ASSUMED_WIDTH)
    return TrainingFacts(present, known, language)


def takes_several_captions(settings: ExperimentSettings) -> bool:
    """Whether some loss of an experiment takes more than one caption per clip."""
    contrast = settings.terms.contrast
    return contrast is not None and contrast.loss in SEVERAL_CAPTIONS


def build_terms(
    settings: ExperimentSettings, graph: Graph, *, seed: int, facts: TrainingFacts | None = None
) -> dict[str, Term]:
    """The summands of the objective by name.

    Args:
        settings: the experiment.
        graph: of its model.
        seed: of the run.
        facts: see `training_facts`; terms that need none do without.

    Returns:
        The terms.

    Raises:
        ConfigError: there are more clusters than rows, or a memory bank has too few clips.
    """
    faithful, facts = settings.mode == "faithful", facts or TrainingFacts()
    dims = {name: space.dim or settings.model.dim for name, space in graph.spaces.items()}
    terms: dict[str, Term] = {}
    if (contrast := settings.terms.contrast) is not None and contrast.loss == "memory_bank":
        terms["contrast"] = BankTerm(
            weight=contrast.weight,
            graph=graph,
            dims=dims,
            present=facts.present,
            rules=bank_rules(contrast.bank or BankSettings()),
            temperature=contrast.temperature,
            seed=seed,
            pair_weights=contrast.pair_weights,
        )
    elif contrast is not None:
        terms["contrast"] = ContrastTerm(
            weight=contrast.weight,
            loss=pair_loss(contrast, faithful=faithful),
            temperature=contrast.temperature,
            several=takes_several_captions(settings),
            pair_weights=contrast.pair_weights,
            scales=score_scales(contrast, faithful=faithful),
            peaks=similarity_loss(contrast) if contrast.scorer == "maximum" else None,
        )
    if (cluster := settings.terms.cluster) is not None:
        terms["cluster"] = ClusterTerm(
            weight=cluster.weight,
            sizes=cluster_sizes(cluster, batch=settings.training.batch),
            spaces=dims,
            faithful=faithful,
            temperature=cluster.temperature,
            margin=cluster.margin,
            divide=cluster.divide,
            seed=seed,
        )
    if (reconstruct := settings.terms.reconstruct) is not None:
        terms["reconstruct"] = ReconstructTerm(weight=reconstruct.weight, detach=not faithful)
    if (predict := settings.terms.predict) is not None:
        error = absolute_error if predict.loss == "l1" else squared_error
        terms["predict"] = PredictTerm(weight=predict.weight, error=error, statistics=facts.statistics)
    if (classify := settings.terms.classify) is not None:
        terms["classify"] = LabelTerm(weight=classify.weight)
    if (metric := settings.terms.metric) is not None:
        loss = multi_similarity if metric.loss == "multi_similarity" else margin_loss
        terms["metric"] = MetricTerm(weight=metric.weight, loss=loss, modalities=settings.labeled_modalities("metric"))
    if (guide := settings.terms.guide) is not None and facts.language is not None:
        terms["guide"] = GuideTerm(
            weight=guide.weight,
            language=facts.language,
            by_clip=guide.names == "pseudo" and guide.by == "clip",
            modalities=settings.labeled_modalities("guide"),
            shift=guide.shift,
            temperature=guide.temperature,
            direction=guide.direction,
        )
    if settings.terms.distill is not None:
        terms["distill"] = build_distill_term(settings, facts.taught)
    if (localize := settings.terms.localize) is not None:
        terms["localize"] = LocalizeTerm(weight=localize.weight, error_weight=localize.error_weight)
    terms |= terms_by_place(settings, graph, dims, seed=seed)
    return terms


def cluster_sizes(cluster: ClusterSettings, *, batch: int) -> ClusterSizes:
    """Sizes of the clustering term.

    Raises:
        ConfigError: there are more clusters than k-means will ever see rows.
    """
    rows_per_step = new_rows(cluster, batch=batch)
    queue_rows, most = cluster.queue_batches * rows_per_step, most_rows(cluster, batch=batch)
    if cluster.clusters > most:
        raise ConfigError(
            f"terms.cluster.clusters: {cluster.clusters} clusters, but k-means sees at most {most} rows "
            f"(queue {queue_rows} + batch {batch})"
        )
    return ClusterSizes(cluster.clusters, queue_rows, rows_per_step, cluster.refit_every)


def new_rows(cluster: ClusterSettings, *, batch: int) -> int:
    """Rows of a batch that enter the queue."""
    return max(1, round(batch * cluster.queue_share))


def most_rows(cluster: ClusterSettings, *, batch: int) -> int:
    """Rows that k-means ever sees: a full queue and a batch."""
    return cluster.queue_batches * new_rows(cluster, batch=batch) + batch


def pair_loss(contrast: ContrastSettings, *, faithful: bool) -> PairLoss:
    """The loss of two modalities' embeddings; cosines over a temperature in sound mode, else raw dot products."""
    if contrast.loss == "info_nce":
        return lambda x, y, temperature, present: info_nce(x, y, temperature=temperature)
    if contrast.loss in SEVERAL_CAPTIONS:
        loss = mil_nce if contrast.loss == "mil_nce" else symmetric_mil_nce
        return lambda x, y, temperature, present: loss(
            x, y, temperature=None if faithful else temperature, present=present
        )
    margin = contrast.margin
    return lambda x, y, temperature, present: masked_margin_softmax(
        x @ y.T / (1.0 if faithful else temperature), margin=margin
    )


def score_scales(contrast: ContrastSettings, *, faithful: bool) -> dict[str, float]:
    """What the contrastive loss takes off scores or divides them by, by name."""
    margin = {"margin": contrast.margin} if contrast.loss == "masked_margin_softmax" else {}
    return margin | ({} if faithful and contrast.loss != "info_nce" else {"temperature": contrast.temperature})


def similarity_loss(contrast: ContrastSettings) -> SimilarityLoss:
    """The same losses of similarities that are known already; see `ContrastSettings.scorer`."""
    margin, factor = (contrast.margin, 1.0) if contrast.loss == "masked_margin_softmax" else (0.0, 0.5)
    return lambda similarity, temperature: factor * masked_margin_softmax(similarity / temperature, margin=margin)


def bank_rules(bank: BankSettings) -> BankRules:
    """Plain rules of the memory banks."""
    return BankRules(bank.form == "nce", bank.negatives, bank.momentum, bank.normalizer == "running", bank.exclude_own)
