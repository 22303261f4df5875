"""The tasks `detection` and `explanation`: from a store and a model to rows, and to pictures for a person to judge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mcnlab.batch import Batch, Outputs
from mcnlab.data.loading import ClipSource
from mcnlab.data.store import Store
from mcnlab.data.thumbnails import as_png
from mcnlab.errors import DataError
from mcnlab.evaluation import detection, explanation
from mcnlab.evaluation.detection import Detected
from mcnlab.evaluation.explanation import Explanation
from mcnlab.evaluation.places import Things, things_in_clips
from mcnlab.evaluation.rows import ResultRow
from mcnlab.experiment.build import build_source
from mcnlab.experiment.labels import training_classes
from mcnlab.experiment.places import PAIR
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.tables import write_table
from mcnlab.metrics.detection import Boxes
from mcnlab.models.detection import boxes_at_peaks
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.detect_term import Found, box_detector, found_by_sound, pseudo_heads, seen_maps
from mcnlab.training.explain_term import explained

AT_ONCE = 64
"""Clips that go through the model together."""
NAMED = 2048
"""Training clips that pseudo-classes are named by, at most."""
SHOWN = 12
"""Clips whose pictures are kept for reports."""


@dataclass(frozen=True)
class _Seen:
    """What a model with a detector makes of clips."""

    maps: np.ndarray
    """(clips, height, width): cosine of places with the own sound."""
    swapped: np.ndarray
    """The same with the sound of the clip before."""
    classes: np.ndarray
    """(clips,): pseudo-class by sound and sight."""
    found: Detected


def detection_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    source: ClipSource,
    folder: Path | None,
    *,
    seed: int,
) -> list[ResultRow]:
    """Measure heat maps, pseudo-classes and the detector on held-out clips; keeps pictures in `detection.parquet`.

    Args:
        settings: the experiment, with the term `detect`.
        model: trained.
        untrained: the same before training, with statistics of its data.
        store: with boxes.
        source: its held-out clips.
        folder: the run folder; None writes nothing.
        seed: of the resampling.

    Returns:
        Rows of `heat_rows`, `class_rows` and `detector_rows`.

    Raises:
        DataError: the store has no boxes, a held-out clip lacks video or audio, or no training clip has a label.
    """
    clips = _clips_with_both(settings, store, source, term="detect")
    if not len(store.boxes):
        raise DataError(f"{store.path}: no boxes are known, which the evaluation of terms.detect asks for")
    things = [parts[0] for parts in things_in_clips(store.boxes, clips)]
    naming = build_source(settings, store, settings.data.train_split, shuffle_seed=None)
    names = {"": _names(model, naming), "untrained": _names(untrained, naming)}
    seen, before = (_seen(net, source) for net in (model, untrained))
    maps = {"": seen.maps, "swapped": seen.swapped, "untrained": before.maps}
    labels = [None if pd.isna(label) else str(label) for label in clips["label"]]
    rows = detection.heat_rows(maps, things, seed=seed)
    rows += detection.class_rows({"": seen.classes, "untrained": before.classes}, names, labels, seed=seed)
    rows += detection.detector_rows({"": seen.found, "untrained": before.found}, names, things)
    if folder is not None:
        write_table(folder / "detection.parquet", pd.DataFrame(_detection_pictures(source, seen, things)))
    return rows


def explanation_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    source: ClipSource,
    folder: Path | None,
    *,
    seed: int,
) -> list[ResultRow]:
    """Measure attention in space and time on held-out clips; keeps pictures in `explanation.parquet`.

    Args:
        settings: the experiment, with the term `explain`.
        model: trained.
        untrained: the same before training, with statistics of its data.
        store: with boxes; without any nothing is said of pointing.
        source: its held-out clips; those with a class that was trained count.
        folder: the run folder; None writes nothing.
        seed: of the resampling and of random parts.

    Returns:
        Rows of `accuracy_rows`, `pointing_rows` and `curve_rows`.

    Raises:
        DataError: no clip has a class that was trained.
    """
    clips, classes = _clips_with_both(settings, store, source, term="explain"), training_classes(settings, store)
    places = np.flatnonzero(clips["label"].isin(classes).to_numpy())
    if not len(places):
        raise DataError(f"{store.path}: no held-out clip has a class that was trained")
    labels = [str(label) for label in clips["label"].iloc[places]]
    truth = torch.tensor([classes.index(label) for label in labels])
    told, before = (_told(net, source, places, truth) for net in (model, untrained))
    things = things_in_clips(store.boxes, clips.iloc[places], parts=told.time.shape[1])
    rows = explanation.accuracy_rows(told, before, labels, seed=seed)
    if len(store.boxes):
        inside = explanation.inside_of_truth(things, labels, (told.space.shape[2], told.space.shape[3]))
        rows += explanation.pointing_rows(told, inside, seed=seed)
        rows += explanation.pointing_rows(before, inside, prefix="untrained_", seed=seed)
    kept = _Kept(model, source, places, truth)
    rows += explanation.curve_rows(kept, told.time, seed=seed)
    if folder is not None:
        pictures = _explanation_pictures(source, places, told, things, labels)
        write_table(folder / "explanation.parquet", pd.DataFrame(pictures))
    return rows


def _clips_with_both(settings: ExperimentSettings, store: Store, source: ClipSource, *, term: str) -> pd.DataFrame:
    """The held-out clips.

    Raises:
        DataError: the experiment lacks the term, or a clip video or audio.
    """
    if term not in settings.terms.names:
        raise DataError(f"evaluation.tasks: needs terms.{term}, which the experiment {settings.experiment!r} lacks")
    lacking = [modality for modality in ("video", "audio") if not source.present(modality).all()]
    if lacking:
        raise DataError(f"{store.path}: a held-out clip has no {lacking[0]}")
    return source.clips


def _outputs(model: MultimodalModel, source: ClipSource, places: np.ndarray) -> Iterator[tuple[Batch, Outputs]]:
    """Some clips at a time through a model in evaluation mode."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(places), AT_ONCE):
            batch = source.batch(places[start : start + AT_ONCE]).to(device)
            yield batch, model(batch, ("video", "audio"))
    model.train(training)


def _seen(model: MultimodalModel, source: ClipSource) -> _Seen:
    """What a model makes of all clips of a source."""
    parts: dict[str, list[Tensor]] = {name: [] for name in ("maps", "swapped", "classes", "corners", "scores", "kinds")}
    for batch, outputs in _outputs(model, source, np.arange(len(source))):
        rows = torch.arange(len(batch), device=batch.clips.device)
        own, others = found_by_sound(model, outputs, PAIR, rows), _with_other_sound(outputs)
        boxes = boxes_at_peaks(*box_detector(model)(seen_maps(outputs, rows)))
        values = (own.heat, found_by_sound(model, others, PAIR, rows).heat, _pseudo_classes(model, own), *boxes)
        for name, value in zip(parts, values, strict=True):
            parts[name].append(value.cpu())
    joined = {name: torch.cat(values).numpy() for name, values in parts.items()}
    return _Seen(joined["maps"], joined["swapped"], joined["classes"], _detected(joined))


def _pseudo_classes(model: MultimodalModel, found: Found) -> Tensor:
    """(clips,): what sound and sight together tell."""
    heard, seen = (scores.log_softmax(dim=1) for scores in pseudo_heads(model)(found.heard, found.seen))
    return (heard + seen).argmax(dim=1)


def _names(model: MultimodalModel, source: ClipSource) -> dict[str, int]:
    """The pseudo-class that stands for each true one in training clips: of many clips, some that lie evenly apart."""
    there = source.present("video") & source.present("audio") & source.clips["label"].notna().to_numpy()
    usable = np.flatnonzero(there)
    if not len(usable):
        raise DataError(
            "the task detection names pseudo-classes by labels of training clips, but none has all it needs"
        )
    places = usable[np.linspace(0, len(usable) - 1, min(len(usable), NAMED)).astype(int)]
    classes: list[Tensor] = []
    for batch, outputs in _outputs(model, source, places):
        rows = torch.arange(len(batch), device=batch.clips.device)
        classes.append(_pseudo_classes(model, found_by_sound(model, outputs, PAIR, rows)).cpu())
    count = box_detector(model).classes
    labels = [str(label) for label in source.clips["label"].iloc[places]]
    return detection.names_of_classes(torch.cat(classes).numpy(), labels, count=count)


def _with_other_sound(outputs: Outputs) -> Outputs:
    """The same clips, each with the sound of the one before."""
    dealt = {key: x.roll(1, 0) if key[0] == "audio" else x for key, x in outputs.embeddings.items()}
    return Outputs(outputs.features, dealt, outputs.present, maps=outputs.maps)


def _detected(joined: dict[str, np.ndarray]) -> Detected:
    """Boxes of all clips one after the other."""
    clips, most = joined["scores"].shape
    sure = joined["scores"].ravel() > 0  # places without a peak are filled up with 0
    boxes = Boxes(
        np.repeat(np.arange(clips), most)[sure],
        joined["corners"].reshape(-1, 4).astype(np.float64)[sure],
        joined["scores"].ravel().astype(np.float64)[sure],
    )
    return Detected(boxes, joined["kinds"].ravel().astype(np.int64)[sure])


def _told(model: MultimodalModel, source: ClipSource, places: np.ndarray, truth: Tensor) -> Explanation:
    """What attention says of some clips."""
    right, space, time = list[Tensor](), list[Tensor](), list[Tensor]()
    done = 0
    for batch, outputs in _outputs(model, source, places):
        rows = torch.arange(len(batch), device=batch.clips.device)
        one = explained(model, outputs, rows)
        right.append(one.scores.argmax(dim=1).cpu() == truth[done : done + len(batch)])
        space.append(one.space.unflatten(2, outputs.maps["video"].shape[3:]).cpu())
        time.append(one.time.cpu())
        done += len(batch)
    return Explanation(*(torch.cat(parts).numpy() for parts in (right, space, time)))


class _Kept:
    """Tells which clips are right when only some of their parts are kept; the towers run once.

    Args:
        model: with attention.
        source: of the clips.
        places: of the clips in it.
        truth: (places,), their classes.
    """

    def __init__(self, model: MultimodalModel, source: ClipSource, places: np.ndarray, truth: Tensor) -> None:
        self.model, self.truth = model, truth
        self.outputs = [outputs for _, outputs in _outputs(model, source, places)]

    @torch.no_grad()
    def __call__(self, kept: np.ndarray) -> np.ndarray:
        """(clips,), bool, from (clips, segments), bool."""
        right, done = list[Tensor](), 0
        training = self.model.training
        self.model.eval()
        for outputs in self.outputs:
            flags = outputs.present["video"]
            rows = torch.arange(len(flags), device=flags.device)
            own = torch.from_numpy(kept[done : done + len(flags)]).to(flags.device)
            told = explained(self.model, outputs, rows, own).scores.argmax(dim=1).cpu()
            right.append(told == self.truth[done : done + len(flags)])
            done += len(flags)
        self.model.train(training)
        return torch.cat(right).numpy()


def _detection_pictures(source: ClipSource, seen: _Seen, things: Sequence[Things]) -> list[dict[str, Any]]:
    """Pictures, heat maps, true and found boxes of some clips in which something sounds."""
    chosen = [clip for clip, one in enumerate(things) if one.sounding.any()][:SHOWN]
    rows = []
    for clip in chosen:
        own = seen.found.boxes.image == clip
        boxes, kinds = seen.found.boxes.of(own), seen.found.classes[own]
        rows.append(
            {
                "clip": source.clip_name(clip),
                "picture": as_png(_frames(source, clip)[0]),
                "heat": seen.maps[clip].astype(np.float64).tolist(),
                "things": things[clip].corners.tolist(),
                "labels": list(things[clip].labels),
                "sounding": things[clip].sounding.tolist(),
                "found": boxes.corners.tolist(),
                "scores": boxes.scores.tolist(),
                "kinds": kinds.tolist(),
            }
        )
    return rows


def _explanation_pictures(
    source: ClipSource, places: np.ndarray, told: Explanation, things: Sequence[Sequence[Things]], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """A picture of every part of some clips with attention in space and time, and what sounds where."""
    rows = []
    for number, place in enumerate(places[:SHOWN].tolist()):
        frames, parts = _frames(source, place), told.time.shape[1]
        middle = [min(len(frames) - 1, int((part + 0.5) * len(frames) / parts)) for part in range(parts)]
        rows.append(
            {
                "clip": source.clip_name(place),
                "class": labels[number],
                "right": bool(told.right[number]),
                "pictures": [as_png(frames[frame]) for frame in middle],
                "space": told.space[number].astype(np.float64).tolist(),
                "time": told.time[number].astype(np.float64).tolist(),
                "things": [one.corners.tolist() for one in things[number]],
                "labels": [list(one.labels) for one in things[number]],
                "sounding": [one.sounding.tolist() for one in things[number]],
            }
        )
    return rows


def _frames(source: ClipSource, place: int) -> np.ndarray:
    """(frames, height, width, 3), uint8: what the tower sees of a clip."""
    seen = source.batch(np.array([place])).inputs["video"][0].permute(0, 2, 3, 1).numpy()
    return np.asarray(np.round(np.clip(seen, 0, 1) * 255), dtype=np.uint8)
