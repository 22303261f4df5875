"""What language says of the classes that an experiment learns: their own names, or those that a namer gives them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mcnlab.data.names import known_names, text_network_vectors, word_vectors_of
from mcnlab.data.store import Store
from mcnlab.errors import ConfigError, DataError
from mcnlab.evaluation.embed import class_scores
from mcnlab.experiment.build import build_source
from mcnlab.experiment.labels import training_classes, training_labels
from mcnlab.experiment.loaded import Run
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.term_settings import GuideSettings
from mcnlab.numerics import key_generator


def guidance_vectors(settings: ExperimentSettings, store: Store, namer: Run | None, *, seed: int) -> Tensor | None:
    """The vectors of language that the term `guide` reads.

    Args:
        settings: the experiment.
        store: its store; its words are the language where no text network is named.
        namer: a run that tells classes, for pseudo-names.
        seed: of shuffled names.

    Returns:
        (classes, names, width) or, by clip, (training clips, names, width), float32; None where nothing is guided.

    Raises:
        DataError: a name has no vector, or the namer does not fit the store.
    """
    guide = settings.terms.guide
    if guide is None:
        return None
    classes = training_classes(settings, store)
    if guide.names == "pseudo":
        if namer is None:
            raise ConfigError("terms.guide.names: pseudo needs namer")
        return torch.from_numpy(_pseudo_named(settings, store, namer, guide, classes))
    vectors = name_vectors(classes, guide, store)
    if guide.names == "shuffled":
        vectors = vectors[key_generator(seed, "shuffled names").permutation(len(classes))]
    return torch.from_numpy(vectors[:, None].copy())


def name_vectors(names: Sequence[str], guide: GuideSettings, store: Store) -> np.ndarray:
    """(names, width): by the store's words, or the text network that the settings name."""
    if guide.network is not None:
        return text_network_vectors(names, guide.network, sentence=guide.sentence)
    return word_vectors_of(names, store.word_vectors)


def language_of(settings: ExperimentSettings, store: Store, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Vector by name, as the evaluation reads them, else the guide; names that have none are left out."""
    chosen = settings.evaluation.network  # with the usual sentence, so that all that are compared read the same
    guide = GuideSettings(network=chosen) if chosen else settings.terms.guide or GuideSettings()
    usable = tuple(names) if guide.network is not None else known_names(names, store.word_vectors)
    return dict(zip(usable, name_vectors(usable, guide, store), strict=True)) if usable else {}


def pseudo_names(scores: np.ndarray, labels: np.ndarray, *, classes: int, top: int) -> np.ndarray:
    """The names that a namer gives each class: those with the highest mean score.

    Args:
        scores: (clips, names) of the namer.
        labels: (clips,): number of each clip's class, -1 for none.
        classes: how many there are.
        top: names of each class.

    Returns:
        (classes, top), int: places among the namer's names, best first.

    Source: Roth, Vinyals, Akata (CVPR 2022), arXiv 2203.08543, section 3.3.
    """
    means = np.stack([np.nanmean(scores[labels == number], axis=0) for number in range(classes)])
    return np.argsort(-means, axis=1, kind="stable")[:, :top]


def _pseudo_named(
    settings: ExperimentSettings, store: Store, namer: Run, guide: GuideSettings, classes: Sequence[str]
) -> np.ndarray:
    """(classes or clips, top, width): vectors of the names that the namer gives."""
    names = tuple(namer.folder.provenance.get("classes", ()))
    if len(names) < guide.top:
        raise DataError(f"terms.guide.namer: {namer.folder.path}: knows {len(names)} names, top {guide.top} are wanted")
    source = build_source(settings, store, settings.data.train_split, shuffle_seed=None)
    scores = class_scores(namer.model(store), source)
    labels, vectors = training_labels(settings, store), name_vectors(names, guide, store)
    if guide.by == "clip":
        return vectors[np.argsort(-np.nan_to_num(scores), axis=1, kind="stable")[:, : guide.top]]
    return vectors[pseudo_names(scores, labels, classes=len(classes), top=guide.top)]
