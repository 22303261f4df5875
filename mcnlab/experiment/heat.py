"""The task `localization`: heat maps of held-out clips, their scores where boxes are known, and pictures of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mcnlab.batch import Batch, Outputs
from mcnlab.data.loading import ClipSource
from mcnlab.data.raw_frames import FRAMES_TRACK
from mcnlab.data.recording_sound import sound_of_recording
from mcnlab.data.store import Store
from mcnlab.data.thumbnails import as_png
from mcnlab.errors import DataError
from mcnlab.evaluation.localization import HEAT, TASK, evaluate_localization, truths_of
from mcnlab.evaluation.places import SIDES
from mcnlab.evaluation.rows import ResultRow
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.tables import write_table
from mcnlab.losses.siamese import spread
from mcnlab.models.localization.sound_localizer import SoundLocalizer
from mcnlab.models.multimodal import MultimodalModel

AT_ONCE = 64
"""Clips that go through the model together."""
SHOWN = 4
"""Recordings that are kept for the player."""
MOST_FRAMES = 60
"""Frames of each of them at most."""
FINER = 4
"""So many pixels of a mask for each cell of a map."""


@dataclass(frozen=True)
class Heat:
    """What a model says of clips that have video and audio."""

    places: np.ndarray
    """(clips,): their places in the source."""
    maps: np.ndarray
    """(clips, frames, height, width): cosine of every place with the own sound."""
    swapped: np.ndarray
    """The same with the sound of a clip of another recording; neighbors in one often sound alike."""
    frames: np.ndarray
    """(clips,): how many frames are real."""
    spread: float
    """Of the projections, in parts of 1/√d."""
    errors: np.ndarray
    """(passes,): mean squared prediction error; empty without predictive coding."""

    @property
    def middle(self) -> np.ndarray:
        """(clips,): the frame in the middle of each clip."""
        return self.frames // 2

    def of_middle(self, maps: np.ndarray) -> np.ndarray:
        """(clips, height, width): the maps of the middle frames."""
        return maps[np.arange(len(maps)), self.middle]


def localization_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    source: ClipSource,
    folder: Path | None,
    *,
    seed: int,
) -> list[ResultRow]:
    """Measure heat maps of held-out clips; keeps those of some recordings, with their sound, in `heat.parquet`.

    Args:
        settings: the experiment, with the term `localize`.
        model: trained.
        untrained: the same before training, with statistics of its data.
        store: with boxes or without.
        source: its held-out clips.
        folder: the run folder; None writes nothing.
        seed: of the resampling.

    Returns:
        Rows of `evaluate_localization` where boxes are known; always `spread` and, with predictive coding,
        `error_first` and `error_last`; each also `_untrained`.

    Raises:
        DataError: no clip has both video and audio.
    """
    found, before = (heat_of(net, source) for net in (model, untrained))
    rows = [*_watched("", found), *_watched("_untrained", before)]
    if len(store.boxes):
        table = source.clips.iloc[found.places]
        height, width = found.maps.shape[2:]
        truths = truths_of(
            store.boxes, table["recording"].to_numpy(), _shown_at(store, table, found), (FINER * height, FINER * width)
        )
        maps = {"": found.maps, "swapped": found.swapped, "untrained": before.maps}
        rows = evaluate_localization({name: found.of_middle(x) for name, x in maps.items()}, truths, seed=seed) + rows
    if folder is not None:
        write_table(folder / "heat.parquet", pd.DataFrame(recordings_with_heat(store, source, found)))
    return rows


def heat_of(model: MultimodalModel, source: ClipSource) -> Heat:
    """The heat maps of all clips of a source that have video and audio.

    Args:
        model: with a localizer; its mode is restored afterwards.
        source: the clips.

    Returns:
        Maps, and what is watched of the projections.

    Raises:
        DataError: no clip has both.
    """
    localizer = model.localizer
    if localizer is None:
        raise DataError("the task localization needs a model that was built with terms.localize")
    places = np.flatnonzero(source.present("video") & source.present("audio"))
    if not len(places):
        raise DataError(f"{source.store.path}: no held-out clip has both video and audio")
    heard = torch.cat([outputs.features["audio"] for _, outputs in _outputs(model, source, places, ("audio",))])
    foreign = heard[torch.from_numpy(of_other_recordings(source.clips["recording"].to_numpy()[places]))]
    parts: dict[str, list[Tensor]] = {name: [] for name in ("maps", "swapped", "frames", "projected", "errors")}
    sounds = zip(heard.split(AT_ONCE), foreign.split(AT_ONCE), strict=True)
    for (batch, outputs), (sound, others) in zip(_outputs(model, source, places, ("video",)), sounds, strict=True):
        maps = outputs.maps["video"]
        own = _heat(localizer, maps, sound)
        other = _heat(localizer, maps, others)
        middle = maps[torch.arange(len(maps), device=maps.device), batch.lengths["video"] // 2]
        projected, errors = _projected(localizer, middle, sound)
        for name, value in zip(parts, (own, other, batch.lengths["video"], projected, errors), strict=True):
            parts[name].append(value.cpu())
    joined = {name: torch.cat(values, dim=1 if name == "errors" else 0) for name, values in parts.items()}
    return Heat(
        places,
        joined["maps"].numpy(),
        joined["swapped"].numpy(),
        joined["frames"].numpy(),
        float(spread(joined["projected"])),
        joined["errors"].mean(dim=1).numpy(),
    )


@torch.no_grad()
def _heat(localizer: SoundLocalizer, maps: Tensor, sound: Tensor) -> Tensor:
    """(clips, frames, height, width)."""
    clips, frames = maps.shape[:2]
    return localizer.heat(maps.flatten(0, 1), sound.repeat_interleave(frames, dim=0)).unflatten(0, (clips, frames))


@torch.no_grad()
def _projected(localizer: SoundLocalizer, maps: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
    """Projections (clips, hidden), and prediction errors (passes, clips)."""
    located = localizer.locate(maps, sound)
    return localizer.project(located), located.errors


def of_other_recordings(recordings: np.ndarray) -> np.ndarray:
    """For each clip the place of one of another recording.

    Args:
        recordings: (clips,): whose they are; clips of a recording stand together.

    Returns:
        (clips,): every place once. Where one recording has most of the clips, some stay in it.
    """
    clips = len(recordings)
    most = int(np.unique(recordings, return_counts=True)[1].max())
    return np.roll(np.arange(clips), -(most % clips or 1))


def _outputs(
    model: MultimodalModel, source: ClipSource, places: np.ndarray, modalities: tuple[str, ...]
) -> Iterator[tuple[Batch, Outputs]]:
    """Some clips at a time through a model in evaluation mode."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(places), AT_ONCE):
            batch = source.batch(places[start : start + AT_ONCE]).to(device)
            yield batch, model(batch, modalities)
    model.train(training)


def _watched(ending: str, heat: Heat) -> list[ResultRow]:
    """What tells a collapse, and whether prediction errors fall."""
    rows = [ResultRow(TASK, "projections", f"spread{ending}", heat.spread)]
    if len(heat.errors):
        ends = {"first": heat.errors[0], "last": heat.errors[-1]}
        rows += [ResultRow(TASK, "prediction", f"error_{name}{ending}", float(x)) for name, x in ends.items()]
    return rows


def _shown_at(store: Store, clips: pd.DataFrame, heat: Heat) -> np.ndarray:
    """(clips,): seconds of the recording at which the middle frame of each clip is shown."""
    rate_hz = store.tracks[FRAMES_TRACK].rate_hz
    return np.asarray(clips["start_s"].to_numpy() + (heat.middle + 0.5) / rate_hz)


def recordings_with_heat(store: Store, source: ClipSource, heat: Heat) -> list[dict[str, Any]]:
    """The first recordings of a split, frame by frame, for the player.

    Args:
        store: where they lie.
        source: their clips.
        heat: of all clips.

    Returns:
        By recording plain values: id, `frames_per_s`, PNG of every frame, heat map and true boxes of each, WAV of the
        sound (None where it cannot be had), and per frame the clip's largest cosine.
    """
    table = source.clips.iloc[heat.places]
    rate_hz, found = store.tracks[FRAMES_TRACK].rate_hz, []
    for recording in table["recording"].unique()[:SHOWN].tolist():
        own = np.flatnonzero(table["recording"].to_numpy() == recording)
        chosen = [(clip, frame) for clip in own.tolist() for frame in range(int(heat.frames[clip]))][:MOST_FRAMES]
        times_s = [float(table["start_s"].iloc[clip]) + (frame + 0.5) / rate_hz for clip, frame in chosen]
        maps = [heat.maps[clip, frame] for clip, frame in chosen]
        boxes = store.boxes[(store.boxes["recording"] == recording) & store.boxes["left"].notna()]
        found.append(
            {
                "recording": store.recording_id(recording),
                "times_s": times_s,
                "shown_s": 1 / rate_hz,
                "pictures": [as_png(_frame(source, int(heat.places[clip]), frame)) for clip, frame in chosen],
                "heat": [map_.astype(np.float64).round(4).tolist() for map_ in maps],
                "peaks": [float(map_.max()) for map_ in maps],
                "boxes": [_boxes_at(boxes, time_s) for time_s in times_s],
                "wav": sound_of_recording(store, recording),
            }
        )
    return found


def _boxes_at(boxes: pd.DataFrame, time_s: float) -> list[dict[str, Any]]:
    """The boxes at a time as plain values."""
    here = boxes[(boxes["start_s"] <= time_s) & (time_s < boxes["end_s"])]
    return [
        {side: float(row[side]) for side in SIDES}
        | {"label": "" if pd.isna(row["label"]) else str(row["label"]), "sounding": bool(row["sounding"])}
        for row in here.to_dict("records")
    ]


def _frame(source: ClipSource, place: int, frame: int) -> np.ndarray:
    """(height, width, 3), uint8: one frame of a clip as the tower sees it; gray ones in three equal channels."""
    seen = source.batch(np.array([place])).inputs["video"][0, frame].permute(1, 2, 0).numpy()
    pixels = np.round(np.clip(seen, 0, 1) * 255).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


__all__ = ["HEAT", "Heat", "heat_of", "localization_rows", "recordings_with_heat"]
