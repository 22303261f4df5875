"""Fine-tuning: a whole tower and a linear layer learn the classes of the first official split, by the usual loop."""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mcnlab.data.protocol import read_protocol
from mcnlab.data.store import Store
from mcnlab.errors import DataError
from mcnlab.evaluation.rows import ResultRow
from mcnlab.evaluation.transfer import Score, Targets, chance_scores, scores_of_splits
from mcnlab.experiment.build import build_source
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.transfer import BACKBONE, Units, unit_features, units_of
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.classify import CLASSIFIER, Classifier, ClassifyTerm
from mcnlab.training.loop import LoopSettings, Trainer
from mcnlab.training.stages import PrefixCache, Stage

TASK = "finetune"
EPOCHS = 20
BATCH = 64
RATE = 5e-4
WARMUP_STEPS = 10


def finetune_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    split: str,
    *,
    seed: int,
    epochs: int = EPOCHS,
) -> Sequence[ResultRow]:
    """Train every tower of a run on the classes of a store, beside the same from the tower before training.

    Args:
        settings: the experiment.
        model: trained; it stays as it is.
        untrained: the same before training, with settled statistics; it stays as it is.
        store: what to classify.
        split: what is tested where the store has no protocol.
        seed: of the linear layer, the order of clips, the resampling.
        epochs: passes over the training clips.

    Returns:
        `tuned_top1` (or `tuned_map` and the like) of each trained modality on the first official split, with
        `untrained_` for the same from scratch, and `chance_`.

    Raises:
        DataError: the store asks nothing.
        NonFiniteError: the loss became NaN.
    """
    units = units_of(settings, store, split)
    rows: list[ResultRow] = []
    for modality in (m for m in model.modalities if m in settings.trained_modalities and m in store.modalities):
        found: dict[str, Score] = {}
        for prefix, start in (("", model), ("untrained_", untrained)):
            scored, targets = tuned_scores(settings, start, store, units, modality, seed=seed, epochs=epochs)
            scores = scores_of_splits(targets, [scored], method="tuned", seed=seed)
            found |= {prefix + metric: score for metric, score in scores.items()}
            chance = chance_scores(targets)
        found |= {f"chance_{metric}": score for metric, score in chance.items() if metric in found}
        rows += [ResultRow(TASK, modality, metric, *score) for metric, score in found.items()]
    return rows


def tuned_scores(
    settings: ExperimentSettings,
    start: MultimodalModel,
    store: Store,
    units: Units,
    modality: str,
    *,
    seed: int,
    epochs: int = EPOCHS,
) -> tuple[np.ndarray, Targets]:
    """Decision values after fine-tuning one tower; a unit's clips are averaged.

    Args:
        settings: the experiment.
        start: where the tower starts; a copy is trained.
        store: what to classify.
        units: its units.
        modality: whose tower.
        seed: of the linear layer and the order of clips.
        epochs: passes over the training clips.

    Returns:
        (tested units with the modality, classes), and what is true of the units with the modality, first split alone.

    Raises:
        DataError: no training clip has the modality.
        NonFiniteError: the loss became NaN.
    """
    model = copy.deepcopy(start).train()
    space = _end_of_tower(model, modality)
    width = model.feature_dims[modality] if space is None else model.space_dims[space]
    truth = units.targets.truth
    model.add_module(CLASSIFIER, Classifier(width, truth.shape[1], seed=seed).to(next(model.parameters()).device))
    _train(settings, model, store, units, modality, space, seed=seed, epochs=epochs)
    model.eval()
    name = f"{modality}:{BACKBONE}" if space is None else model.graph.subject(modality, space)
    features = unit_features(settings, model, store, units)[name]
    present = np.isfinite(features).all(axis=1)
    first = replace(units.targets, roles=units.targets.roles[:1]).only(present)
    asked = torch.from_numpy(features[present][first.tested(0)]).to(next(model.parameters()).device)
    with torch.no_grad():
        scores = model.get_submodule(CLASSIFIER)(asked)
    return scores.double().cpu().numpy(), first


def _train(
    settings: ExperimentSettings,
    model: MultimodalModel,
    store: Store,
    units: Units,
    modality: str,
    space: str | None,
    *,
    seed: int,
    epochs: int,
) -> None:
    """One stage of one term, by the loop that trains everything."""
    split = settings.data.train_split if read_protocol(store) is None else "train"
    source = build_source(settings, store, split, shuffle_seed=None)
    unit = units.of_clip[(units.clips["split"] == split).to_numpy()]
    known = (unit >= 0) & source.present(modality)
    if not known.any():
        raise DataError(f"{store.path}: no training clip with a class has {modality}")
    truth = torch.from_numpy(units.targets.truth[unit])
    term = ClassifyTerm(truth, torch.from_numpy(known), multi_label=units.targets.multi_label, space=space)
    pairs = tuple(pair for pair, where in model.graph.space_of_pair.items() if where == space)
    stage = Stage(f"finetune:{modality}", epochs, (modality,), pairs, (term.name,))
    loop = LoopSettings(
        batch=min(BATCH, len(source)), lr=RATE, warmup_steps=WARMUP_STEPS, seed=seed, checkpoint_every=10**9
    )
    with tempfile.TemporaryDirectory(prefix="mcnlab-finetune-") as folder:
        Trainer(model, {term.name: term}, source, [stage], loop, Path(folder), PrefixCache(None, [])).train()


def _end_of_tower(model: MultimodalModel, modality: str) -> str | None:
    """Where a tower's own features end: with its backbone, or, where that has nothing to train, in its first space."""
    if any(True for _ in model.backbones[modality].parameters()):
        return None
    return model.graph.heads_of(modality)[0]
