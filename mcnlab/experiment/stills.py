"""Classifying pictures with a deflated video backbone: from a store and a model to the rows of the task `stills`."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mcnlab.data import cutting
from mcnlab.data.loading import ClipCutter
from mcnlab.data.store import Store
from mcnlab.errors import DataError
from mcnlab.evaluation.rows import ResultRow
from mcnlab.evaluation.stills import SplitFeatures, error_row, evaluate_stills
from mcnlab.experiment.build import chosen_tracks, clip_window
from mcnlab.experiment.checks import class_columns
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.deflation import answers, fit_norms, relative_error
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.models.video3d import FramesBackbone
from mcnlab.numerics import key_generator

MOST_TRAIN_CLIPS = 1000
"""Training clips that the probe and the batch norms see."""
AT_ONCE = 64
"""Clips that are read and embedded together."""
MOVING, STATIC, DEFLATED, NAIVE = "clips", "static", "deflated", "naive"
"""Subjects: the video network on the clips themselves, on clips of their middle frame, and the networks of pictures
that it becomes with batch norms fitted, and without."""


@dataclass(frozen=True)
class _Seen:
    """Some clips of a split with what a network makes of them."""

    stills: Tensor
    """(clips, channels, height, width): their middle frames."""
    moving: Tensor
    """(clips, dim): features of the clips themselves."""


def still_rows(
    settings: ExperimentSettings,
    model: MultimodalModel,
    untrained: MultimodalModel,
    store: Store,
    split: str,
    *,
    seed: int,
) -> list[ResultRow]:
    """Classify the held-out clips' middle frames, beside what the video network says to them and to the clips.

    Args:
        settings: the experiment.
        model: trained.
        untrained: the same before training, with statistics of its data.
        store: the clips; its video is frames.
        split: the held-out split.
        seed: of the training clips, the fit and the resampling.

    Returns:
        Rows as `evaluate_stills` gives them, for every column of classes, and `relative_l1` of both deflations.

    Raises:
        DataError: the video of the store is not frames, or its clips have no classes.
    """
    learned, asked = (_with_video(store, name) for name in (settings.data.train_split, split))
    if len(learned) > MOST_TRAIN_CLIPS:
        drawn = key_generator(seed, "stills").choice(len(learned), MOST_TRAIN_CLIPS, replace=False)
        learned = learned.iloc[np.sort(drawn)]
    found, rows = _features(settings, model, store, learned, asked, seed=seed)
    before, _ = _features(settings, untrained, store, learned, asked, seed=seed)
    train_columns = class_columns(learned)
    for column, classes in class_columns(asked).items():
        if column in train_columns:
            rows += evaluate_stills(
                found,
                train_columns[column],
                classes,
                untrained=before,
                reference=(MOVING, STATIC),
                column=column,
                seed=seed,
            )
    return rows


def video_backbone(model: MultimodalModel) -> FramesBackbone:
    """The backbone that trains on frames.

    Args:
        model: any.

    Returns:
        The backbone.

    Raises:
        DataError: the model's video is features.
    """
    backbone = dict(model.backbones.items()).get("video")
    if not isinstance(backbone, FramesBackbone):
        raise DataError("the task stills needs a video backbone that trains on frames: a store with a track of them")
    return backbone


def _features(
    settings: ExperimentSettings,
    model: MultimodalModel,
    store: Store,
    learned: pd.DataFrame,
    asked: pd.DataFrame,
    *,
    seed: int,
) -> tuple[dict[str, SplitFeatures], list[ResultRow]]:
    """By subject what a model's backbone makes of both splits, and how far its deflations are from it."""
    backbone = video_backbone(model)
    frames = settings.model.video_frames

    def static(stills: Tensor) -> Tensor:
        return stills[:, None].expand(-1, frames, -1, -1, -1)

    sides = [_seen(settings, backbone, store, clips) for clips in (learned, asked)]
    naive = backbone.deflated()
    deflated = copy.deepcopy(naive)
    fit_norms(deflated, backbone, sides[0].stills, to_clip=static, seed=seed)
    still = [answers(backbone, side.stills, to_clip=static) for side in sides]
    found = {MOVING: _arrays([side.moving for side in sides]), STATIC: _arrays(still)}
    rows = []
    for subject, network in ((DEFLATED, deflated), (NAIVE, naive)):
        own = [answers(network, side.stills) for side in sides]
        found[subject] = _arrays(own)
        rows.append(error_row(subject, relative_error(own[1], still[1])))
    return found, rows


def _arrays(sides: list[Tensor]) -> SplitFeatures:
    """Both splits' features on the host."""
    train, held_out = (side.cpu().numpy() for side in sides)
    return SplitFeatures(train, held_out)


def _with_video(store: Store, split: str) -> pd.DataFrame:
    """The clips of a split that have video."""
    clips = store.clips(split)
    return clips[clips["has_video"].to_numpy()]


@torch.no_grad()
def _seen(settings: ExperimentSettings, backbone: nn.Module, store: Store, clips: pd.DataFrame) -> _Seen:
    """Middle frames and features of some clips."""
    stills, moving, training = [], [], backbone.training
    backbone.eval()
    for frames, lengths in _frames(settings, store, clips, next(backbone.parameters()).device):
        stills.append(frames[torch.arange(len(frames), device=frames.device), lengths // 2])
        moving.append(backbone(frames, None if settings.mode == "faithful" else lengths))
    backbone.train(training)
    return _Seen(torch.cat(stills), torch.cat(moving))


def _frames(
    settings: ExperimentSettings, store: Store, clips: pd.DataFrame, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Frames of some clips at a time, and how many are real."""
    chosen = chosen_tracks(settings, store)
    cutter = ClipCutter(chosen, "video", window=clip_window(settings), rule=cutting.spans_between)
    columns = [clips[name].to_numpy() for name in ("recording", "start_s", "end_s")]
    for start in range(0, len(clips), AT_ONCE):
        recordings, start_s, end_s = (column[start : start + AT_ONCE] for column in columns)
        frames, counts = cutter.cut(recordings, start_s, end_s, new=np.empty)
        yield torch.from_numpy(frames).to(device).float(), torch.from_numpy(counts.astype(np.int64)).to(device)
