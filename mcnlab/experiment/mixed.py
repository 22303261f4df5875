"""Several stores in one experiment: opened together, compared with each other, named in whatever is kept of a run."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mcnlab.data.store import Store, open_store
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError
from mcnlab.experiment.settings import ExperimentSettings


def chosen_tracks(settings: ExperimentSettings, store: Store) -> Store:
    """A store with the video tracks that an experiment uses.

    Args:
        settings: the experiment.
        store: where its clips lie.

    Returns:
        The store, or a narrower view of it.

    Raises:
        DataError: the store lacks one of the tracks.
    """
    names = settings.data.video_tracks
    return store if names is None else store.with_video_tracks(names)


def opened_stores(settings: ExperimentSettings) -> dict[str, Store]:
    """The stores that an experiment mixes, with one vocabulary for all.

    Words that several stores know must mean the same vector. Where they do not, as with vectors learned from each
    store's own captions, the main store's vectors are used everywhere and words that it does not know are left out.

    Args:
        settings: the experiment.

    Returns:
        By name, in the order of the settings; empty where it has one store.

    Raises:
        DataError: one is not there, or none has all modalities that are trained.
    """
    stores: dict[str, Store] = {}
    for name, share in (settings.data.stores or {}).items():
        try:
            stores[name] = open_store(share.store)
        except DataError as error:
            raise DataError(f"data.stores.{name}: {error}") from error
    if not stores:
        return {}
    main = stores[main_name(settings, stores)]
    for name, store in stores.items():
        if store is not main and "text" in store.modalities and "text" in main.modalities:
            _check_word_widths(name, store, main)
            if differing_words(main.word_vectors, store.word_vectors):
                stores[name] = store.with_words(mapped_words(main.word_vectors, store.word_vectors))
            elif not set(store.word_vectors.words) & set(main.word_vectors.words):
                raise DataError(f"data.stores.{name}: its vocabulary has no word in common with {main.path}")
    return stores


def main_store(settings: ExperimentSettings) -> Store:
    """Of the stores that an experiment mixes, the one that `main_name` names.

    Raises:
        DataError: as `opened_stores`.
    """
    stores = opened_stores(settings)
    return stores[main_name(settings, stores)]


def main_name(settings: ExperimentSettings, stores: Mapping[str, Store]) -> str:
    """The store that gives the model its sizes and on which all tasks are measured: the first with all modalities.

    Args:
        settings: the experiment.
        stores: by name.

    Returns:
        Its name.

    Raises:
        DataError: no store has all modalities that are trained.
    """
    wanted = settings.trained_modalities
    for name, store in stores.items():
        if set(wanted) <= set(store.modalities):
            return name
    has = "; ".join(f"{name} has {', '.join(store.modalities) or 'none'}" for name, store in stores.items())
    raise DataError(f"data.stores: experiment {settings.experiment!r} needs one with {', '.join(wanted)}; {has}")


def check_mixture(settings: ExperimentSettings) -> list[str]:
    """Refuse stores that one model could not read, or that have nothing to train on.

    Args:
        settings: the experiment.

    Returns:
        What is worth knowing of how they fit, in sentences; empty where there is one store.

    Raises:
        DataError: a split is missing, or tracks or words have other widths; store, track and widths are in the text.
    """
    stores = opened_stores(settings)
    if not stores:
        return []
    main, notes, split = main_name(settings, stores), list[str](), settings.data.train_split
    for name, store in stores.items():
        if not store.splits.get(split):
            raise DataError(f"data.stores.{name}: no split {split!r} to train on; it has {', '.join(store.splits)}")
        _check_tracks(settings, name, store, main, stores[main])
        notes += _notes_on(settings, name, store, main, stores[main])
    return notes


def data_fingerprint(settings: ExperimentSettings, store: Store) -> str:
    """What a run's numbers depend on in its data.

    Args:
        settings: the experiment.
        store: its store, or the main one of several.

    Returns:
        The fingerprint of its store; of several, one that changes with each of theirs, with names, order and weights.
    """
    stores = opened_stores(settings)
    if not stores:
        return store.fingerprint
    parts = [[name, stores[name].fingerprint, share.weight] for name, share in (settings.data.stores or {}).items()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def mixture_facts(settings: ExperimentSettings) -> dict[str, Any]:
    """What provenance says of the stores that are mixed.

    Args:
        settings: the experiment.

    Returns:
        By name: store, weight, training clips, fingerprint, path; empty where there is one store.
    """
    shares = settings.data.stores or {}
    return {
        name: {
            "store": store.name,
            "weight": shares[name].weight,
            "clips": store.splits.get(settings.data.train_split, 0),
            "fingerprint": store.fingerprint,
            "path": str(store.path),
        }
        for name, store in opened_stores(settings).items()
    }


def differing_words(main: WordVectors, other: WordVectors) -> int:
    """How many words two vocabularies know by different vectors; their widths must be equal."""
    known = [word for word in other.words if word in main.index]
    if not known:
        return 0
    here, there = (one.vectors[[one.index[word] for word in known]] for one in (main, other))
    return int((~np.isclose(here, there, rtol=1e-4, atol=1e-6).all(axis=1)).sum())


def mapped_words(main: WordVectors, other: WordVectors) -> WordVectors:
    """The words of one vocabulary by the vectors of another; those that it does not know are left out."""
    kept = tuple(word for word in other.words if word in main.index)
    rows = np.array([main.index[word] for word in kept], dtype=np.int64)
    return WordVectors(kept, main.vectors[rows], main.source)


def _check_word_widths(name: str, store: Store, main: Store) -> None:
    """Word vectors of two stores must be equally wide."""
    here, there = main.word_vectors.dim, store.word_vectors.dim
    if here != there:
        raise DataError(f"data.stores.{name}: its word vectors are {there} wide, but {here} wide in {main.path}")


def _check_tracks(settings: ExperimentSettings, name: str, store: Store, main: str, main_store: Store) -> None:
    """Tracks of a modality that both stores have must have the same names, order and widths."""
    for modality in ("video", "audio"):
        if modality not in store.modalities or modality not in main_store.modalities:
            continue
        here, there = (
            {
                track.name: track.dim
                for track in chosen_tracks(settings, one).tracks.values()
                if track.modality == modality
            }
            for one in (main_store, store)
        )
        if list(here) != list(there):
            raise DataError(
                f"data.stores.{name}: its {modality} tracks are {', '.join(there)}, but {', '.join(here)} in {main}; "
                "data.video_tracks names those to use"
            )
        for track, width in here.items():
            if there[track] != width:
                raise DataError(f"data.stores.{name}: track {track} is {there[track]} wide, but {width} wide in {main}")


def _notes_on(settings: ExperimentSettings, name: str, store: Store, main: str, main_store: Store) -> list[str]:
    """What a reader of the numbers should know of a store that is mixed in."""
    notes = []
    for modality in settings.trained_modalities:
        if modality not in store.modalities:
            notes.append(f"data.stores.{name}: has no {modality}; its clips train without it")
    original = open_store(store.path).word_vectors
    if store.word_vectors is not original and len(store.word_vectors) and name != main and "text" in store.modalities:
        changed = differing_words(main_store.word_vectors, original)
        if changed:
            lost = len(original) - len(store.word_vectors)
            notes.append(
                f"data.stores.{name}: {changed} words have other vectors than in {main}, whose vectors are used; "
                f"{lost} of its {len(original)} words are unknown there"
            )
    here, there = (_backbones(one) for one in (main_store, store))
    for track in here.keys() & there.keys():
        if here[track] != there[track]:
            notes.append(f"data.stores.{name}: {track} was made by {there[track]}, but by {here[track]} in {main}")
    return notes


def _backbones(store: Store) -> dict[str, str]:
    """By track: what made its features, where the store says so."""
    return {track: str(one["backbone"]) for track, one in store.info.get("visual", {}).items()}
