"""Frames as a track, from an import to a batch, and the backbones that train on them."""

import csv
import json

import numpy as np
import pytest
import torch

from mcnlab.data.drawn_clips import DrawnClips, WindowDraws
from mcnlab.data.importers.media import import_media
from mcnlab.data.loading import ClipSource, ClipWindow, input_dim
from mcnlab.data.raw_frames import FRAMES_TRACK, RawFrames, frame_shape, frames_of, parsed_size
from mcnlab.data.store import open_store
from mcnlab.data.world import WorldSettings, build_world, render_again, world_fingerprint
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.build import build_model
from mcnlab.experiment.loaded import load_run
from mcnlab.experiment.run import evaluate_run, run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models.graph import build_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel, reconstruction_target
from mcnlab.models.video3d import (
    ExchangedBlocks,
    FramesBackbone,
    PerFrame,
    TemporalShift,
    build_video_backbone,
    segment_means,
)
from mcnlab.reporting.answer import answer
from mcnlab.reporting.summary import summarize
from mcnlab.training.normalization import SpanningBatchNorm, span_processes

KINDS = ("conv3d", "shift")
SIZE = (6, 10)
WORDS = ("red", "green", "blue", "black", "white")


def gray_clip(number, frames):
    """Gray frames, each of another brightness pattern."""
    return np.random.default_rng([number, 7]).integers(0, 256, (frames, *SIZE), dtype=np.uint8)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A manifest of gray frames in arrays: eight frames per clip, but five in the second, and none in the last."""
    folder = tmp_path_factory.mktemp("media")
    rows = []
    for number in range(12):
        np.save(folder / f"{number}.npy", gray_clip(number, 5 if number == 1 else 8))
        rows.append(
            {
                "id": f"c{number}",
                "video": "" if number == 11 else f"{number}.npy",
                "fps": "10",
                "caption": f"a {WORDS[number % 5]} thing number {WORDS[number // 3]}",
                "label": WORDS[number % 2],
                "split": "train" if number < 8 else "val",
            }
        )
    with (folder / "m.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "m.csv"


@pytest.fixture(scope="module")
def store(media, tmp_path_factory):
    out = tmp_path_factory.mktemp("stores") / "frames"
    import_media(media, out, video="frames", frame_size=SIZE, frames_per_s=10.0)
    return open_store(out)


def frames_in(source, clip, count):
    """The frames of a clip of a source as bytes: (count, height, width)."""
    batch = source.batch(np.array([clip]))
    return np.round(batch.inputs["video"][0, :count, 0].numpy() * 255).astype(int)


def test_frames_come_back_byte_for_byte_and_say_their_shape_and_rate(store):
    track = store.tracks[FRAMES_TRACK]
    assert (track.dim, track.rate_hz, frame_shape(store)) == (60, 10.0, (1, 6, 10))
    source = ClipSource(store, "train", window=ClipWindow(video_frames=8))
    assert (frames_in(source, 0, 8) == gray_clip(0, 8)).all()


def test_short_clips_repeat_their_last_frame_and_long_ones_are_cut(store):
    source = ClipSource(store, "train", window=ClipWindow(video_frames=7))
    batch = source.batch(np.array([0, 1]))
    assert batch.inputs["video"].shape == (2, 7, 1, 6, 10)
    assert batch.inputs["video"].dtype == torch.float32
    assert batch.lengths["video"].tolist() == [7, 5]
    assert (frames_in(source, 1, 5) == gray_clip(1, 5)).all()
    assert (batch.inputs["video"][1, 5:] == batch.inputs["video"][1, 4]).all()


def test_a_clip_without_video_is_absent_and_all_zeros(store):
    source = ClipSource(store, "val", window=ClipWindow(video_frames=4))
    batch = source.batch(np.arange(4))
    assert batch.present["video"].tolist() == [True, True, True, False]
    assert not batch.inputs["video"][3].any()


def test_drawn_windows_see_the_same_frames(store):
    drawn = DrawnClips(store, "train", window=ClipWindow(video_frames=8), rule=WindowDraws(0.8))
    drawn.epoch((0,), batch=2)
    assert drawn.batch(np.array([0])).inputs["video"].shape == (1, 8, 1, 6, 10)
    assert (frames_in(drawn, 0, 8) == gray_clip(0, 8)).all()


def test_more_media_like_a_store_become_frames_of_its_shape(media, store, tmp_path):
    import_media(media, tmp_path / "more", like=store.path)
    more = open_store(tmp_path / "more")
    assert frame_shape(more) == (1, 6, 10)
    assert (more[0].tracks[FRAMES_TRACK] == store[0].tracks[FRAMES_TRACK]).all()
    assert frames_of(more) == RawFrames(6, 10, 10.0)


def test_colored_frames_have_three_channels_and_gray_is_their_brightness():
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[..., 0] = 200
    color = RawFrames(2, 2, 10.0, color=True)(pixels)[FRAMES_TRACK]
    assert np.round(color * 255).tolist() == [[200] * 4 + [0] * 8]
    assert np.round(RawFrames(2, 2, 10.0)(pixels)[FRAMES_TRACK] * 255).tolist() == [[60] * 4]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"video": "frames"}, "--video frames needs --frame-size"),
        ({"frame_size": (4, 4)}, "--frame-size and --color belong to --video frames, but --video is seeded"),
        ({"color": True}, "--frame-size and --color belong to --video frames"),
    ],
)
def test_frames_without_a_size_and_a_size_without_frames_are_refused(media, tmp_path, options, said):
    with pytest.raises(DataError, match=said):
        import_media(media, tmp_path / "no", **options)


@pytest.mark.parametrize("text", ["24", "24x", "0x4", "4x4x4", "-4x4", "513x4", "axb"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(DataError, match="expected HEIGHTxWIDTH"):
        parsed_size(text)


def test_a_wrong_shape_and_frames_beside_features_are_refused(store):
    broken = open_store(store.path)
    broken.info["visual"] = {FRAMES_TRACK: {"shape": [1, 6, 11]}}
    with pytest.raises(DataError, match=r"video_frames\.shape: expected channels, height and width of a row with 60"):
        frame_shape(broken)
    mixed = open_store(store.path)
    mixed.tracks = {**mixed.tracks, "video_2d": mixed.tracks[FRAMES_TRACK].__class__("video_2d", "video", 4, 1.0)}
    with pytest.raises(DataError, match="cannot be used together with video_2d"):
        frame_shape(mixed)


def test_the_world_can_hold_its_frames(tmp_path):
    settings = WorldSettings(video="frames", train_recordings=2, val_recordings=0, test_recordings=1)
    world = build_world(settings, tmp_path / "world")
    source = ClipSource(world, "train", window=ClipWindow(video_frames=16))
    found = np.round(source.batch(np.array([3])).inputs["video"][0].numpy() * 255)  # (frames, 3, height, width)
    assert (found.transpose(0, 2, 3, 1) == render_again(world, 3).frames).all()


def test_worlds_of_features_keep_their_names():
    assert world_fingerprint(WorldSettings()) == "04111cc6e3754ba7"
    assert world_fingerprint(WorldSettings(video="frames")) != world_fingerprint(WorldSettings())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize("frame", [(1, 24, 40), (3, 9, 70)])
def test_a_backbone_takes_any_frame_and_trains_every_weight(kind, padding, frame):
    torch.manual_seed(0)
    backbone = build_video_backbone(kind, frame, 16, padding)
    found = backbone(torch.rand(4, 6, *frame), torch.tensor([6, 5, 2, 1]))
    assert found.shape == (4, 16)
    found.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="must be a multiple of 8, got 20"):
        build_video_backbone("conv3d", (1, 8, 8), 20, "zeros")


def test_features_are_the_mean_over_the_steps_that_real_frames_reach():
    backbone = FramesBackbone(torch.nn.Identity(), 1)
    clips = torch.arange(4.0)[None, :, None, None, None].expand(1, 4, 1, 2, 2)
    assert backbone(clips).item() == 1.5
    assert backbone(clips, torch.tensor([2])).item() == 0.5


def test_segments_are_the_means_over_equal_parts_of_the_real_steps():
    features = torch.tensor([[[0.0, 1, 2, 3, 4, 5], [10, 11, 12, 13, 14, 15]]])  # (1, width 2, steps 6)
    assert segment_means(features, None, 3).tolist() == [[0.5, 10.5, 2.5, 12.5, 4.5, 14.5]]
    assert segment_means(features, torch.tensor([4]), 2).tolist() == [[0.5, 10.5, 2.5, 12.5]]
    assert segment_means(features, torch.tensor([3]), 2).tolist() == [[0.5, 10.5, 1.5, 11.5]]  # they share step 1
    assert segment_means(features, torch.tensor([1]), 3).tolist() == [[0, 10, 0, 10, 0, 10]]
    pooled = torch.nn.functional.adaptive_avg_pool1d(features, 4).transpose(1, 2).flatten(1)
    assert torch.allclose(segment_means(features, None, 4), pooled)


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_with_segments_is_as_wide_as_it_says_and_one_segment_is_the_whole(kind):
    torch.manual_seed(0)
    backbone = build_video_backbone(kind, (1, 8, 8), 16, "replicate", segments=3).eval()
    clips, lengths = torch.rand(4, 12, 1, 8, 8), torch.tensor([12, 9, 3, 1])
    found = backbone(clips, lengths)
    assert found.shape == (4, backbone.dim) == (4, 48)
    whole = FramesBackbone(backbone.network, 16)(clips)
    assert torch.allclose(backbone(clips).unflatten(1, (3, 16)).mean(dim=1), whole, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_sees_in_which_order_frames_come(kind):
    torch.manual_seed(0)
    backbone = build_video_backbone(kind, (1, 8, 8), 16, "replicate").eval()
    clips = torch.rand(2, 8, 1, 8, 8)
    with torch.no_grad():
        assert (backbone(clips) - backbone(clips.flip(1))).abs().max() > 1e-4


def test_a_shift_takes_the_last_channels_from_the_next_frame_and_the_first_from_the_one_before():
    clips = torch.tensor([[[1.0, 2, 3], [10, 20, 30], [100, 200, 300]]])[..., None, None]  # (1, 3, 3 frames, 1, 1)
    shifted = TemporalShift(share=0.34)(clips)[0, :, :, 0, 0]
    assert shifted.tolist() == [[200, 300, 0], [10, 20, 30], [0, 1, 2]]
    again = TemporalShift(share=0.34, padding="replicate")(clips)[0, :, :, 0, 0]
    assert again.tolist() == [[200, 300, 300], [10, 20, 30], [1, 1, 2]]
    assert ExchangedBlocks(0.34)(clips)[0, :, 0, 0, 0].tolist() == [100, 10, 1]
    with pytest.raises(ConfigError, match=r"from 0 to 0\.5, got 0\.6"):
        TemporalShift(share=0.6)


def test_a_network_per_frame_equals_itself_on_every_frame():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(2, 3, 3)
    clips = torch.rand(2, 2, 4, 5, 6)
    whole = PerFrame(network)(clips)
    assert torch.equal(whole[:, :, 1], network(clips[:, :, 1]))


def model_for(store, *, graph="shared", faithful=False, decoders=False):
    """A small model for a store of frames and text."""
    sizes = ModelSizes(
        {m: input_dim(store, m) for m in store.modalities}, 8, frame_shape=frame_shape(store), video_width=16
    )
    wanted = build_graph(graph, store.modalities, ("vt",))
    return MultimodalModel(sizes, wanted, faithful=faithful, decoders=decoders, seed=0)


@pytest.mark.parametrize("faithful", [False, True])
def test_a_model_takes_frames_where_some_clips_lack_them(store, faithful):
    model = model_for(store, faithful=faithful, decoders=True)
    batch = ClipSource(store, "val", window=ClipWindow(video_frames=8)).batch(np.arange(4))
    outputs = model(batch)
    assert outputs.features["video"].shape == (4, 16)
    assert not outputs.embeddings["video", "joint"][3].any()
    assert outputs.embeddings["video", "joint"][:3].abs().sum(1).min() > 0
    target = reconstruction_target(outputs, batch, "video", detach=True)
    assert torch.equal(target, outputs.features["video"])
    assert model.reconstruct(outputs.embeddings["video", "joint"], modality="video", space="joint").shape == (4, 16)


def test_padding_counts_as_published_only(store):
    batch = ClipSource(store, "train", window=ClipWindow(video_frames=8)).batch(np.arange(4))
    sound, faithful = (model_for(store, faithful=one).eval() for one in (False, True))
    same = (sound(batch).features["video"] - faithful(batch).features["video"]).abs().amax(1) < 1e-6
    assert same.tolist() == [True, False, True, True]  # the second clip has five frames of eight


def test_norms_of_frames_span_processes_too(store):
    model = model_for(store).train()
    batch = ClipSource(store, "train", window=ClipWindow(video_frames=8)).batch(np.arange(6))
    usual = model(batch).features["video"]
    again = model_for(store).train()
    span_processes(again)
    norms = [m for m in again.backbones["video"].modules() if isinstance(m, SpanningBatchNorm)]
    assert len(norms) == 5
    assert torch.allclose(again(batch).features["video"], usual, atol=1e-5)
    assert again.eval()(batch).features["video"].shape == (6, 16)


def settings_for(store, **more):
    return ExperimentSettings.parse(
        {
            "experiment": "frames",
            "data": {"store": str(store.path)},
            "stages": "VT",
            "model": {"dim": 8, "video_frames": 8, "video_width": 8},
            "training": {"epochs": 2, "batch": 4, "threads": 1, "lr": 0.01, "warmup_steps": 0},
            "evaluation": {"tasks": ["retrieval"]},
        }
        | more,
        source="test",
    )


class UnpluggedError(Exception):
    """Somebody pulled the plug."""


def stop_at(step):
    """What a run tells its steps to; one of them is the last."""

    def on_step(record):
        if record.step == step:
            raise UnpluggedError

    return on_step


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_the_backbone_and_resumes_to_the_same_weights(store, tmp_path, kind):
    model = {"dim": 8, "video_frames": 8, "video_width": 8, "video_backbone": kind}
    training = {"epochs": 2, "batch": 4, "threads": 1, "lr": 0.01, "warmup_steps": 0, "checkpoint_every": 1}
    wanted = settings_for(store, model=model, training=training)
    run_experiment(wanted, tmp_path / "whole")
    with pytest.raises(UnpluggedError):
        run_experiment(wanted, tmp_path / "parts", on_step=stop_at(2))
    run_experiment(wanted, tmp_path / "parts")
    whole, parts = (load_run(tmp_path / name).model().state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(x, parts[name]) for name, x in whole.items())
    first = build_model(wanted, store, seed=0).backbones["video"]
    moved = {name: not torch.equal(p, whole[f"backbones.video.{name}"]) for name, p in first.named_parameters()}
    assert all(moved.values()), moved


def test_segments_of_a_backbone_that_keeps_every_frame_apart_are_refused():
    plain = {"experiment": "a", "data": {"store": "s"}, "stages": "VT"}
    with pytest.raises(ConfigError, match=r"model\.video_segments: expected 1 with .* got 3"):
        ExperimentSettings.parse({**plain, "model": {"video_backbone": "conv2d", "video_segments": 3}}, source="t")


def test_stills_of_features_are_refused_before_training(tmp_path):
    wanted = ExperimentSettings.parse(
        {
            "experiment": "features",
            "data": {"world": {"train_recordings": 4, "val_recordings": 0, "test_recordings": 2}},
            "stages": "VT",
            "evaluation": {"tasks": ["stills"]},
        },
        source="test",
    )
    with pytest.raises(DataError, match="the task stills needs video that is trained from the track video_frames"):
        run_experiment(wanted, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_stills_are_measured_beside_the_untrained_network_and_chance(store, tmp_path):
    evaluation = {"tasks": ["stills"]}
    run = run_experiment(settings_for(store, evaluation=evaluation), tmp_path / "run")
    rows = run.results()
    rows = rows[rows.task == "stills"].set_index(["subject", "metric"])
    for subject in ("clips", "static", "deflated", "naive"):
        assert {"accuracy", "untrained", "chance"} <= set(rows.loc[subject].index)
    assert rows.loc[("deflated", "relative_l1"), "value"] <= 1e-5  # padding repeats frames: exact
    assert rows.loc[("deflated", "behind_static"), "value"] == 0
    again = evaluate_run(tmp_path / "run", tasks=["stills"]).results()
    assert (again[again.task == "stills"].value.to_numpy() == rows.value.to_numpy()).all()


def test_a_study_of_stills_answers_what_deflation_costs(store, tmp_path):
    run_experiment(settings_for(store, evaluation={"tasks": ["stills"]}), tmp_path / "runs" / "still-s0")
    first, *_ = answer(summarize(tmp_path / "runs"))
    assert first.heading == "What deflation costs"
    assert "nowhere behind the video networks" in first.lead  # padding repeats frames: exact
    assert "Relative error of the features: 0.000 against 0.000" in first.points[0]
    results = tmp_path / "runs" / "still-s0" / "results.json"
    told = json.loads(results.read_text())
    for row in told["rows"]:
        row["value"] = {"behind_static": 0.011, "behind_clips": 0.215}.get(row["metric"], row["value"])
    results.write_text(json.dumps(told))
    first, *_ = answer(summarize(tmp_path / "runs"))
    assert "at most 1.1 points behind the video networks" in first.lead
    assert "up to 21.5 points behind the video networks that see the clip move" in first.lead
