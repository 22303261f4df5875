"""Training clips that change from epoch to epoch: how far, by whose draw, and what is left alone."""

import numpy as np
import pytest
import torch

from mcnlab.data.changed import ChangedClips, FrameChanges, SoundChanges, changed_frames, changed_sound
from mcnlab.data.raw_frames import RawFrames
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store import open_store
from mcnlab.data.store_writer import StoreWriter
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError
from mcnlab.experiment.build import build_source, build_training_source, prefix_keys
from mcnlab.experiment.checks import check_data
from mcnlab.experiment.folder import run_key
from mcnlab.experiment.loaded import load_run
from mcnlab.experiment.run import run_experiment
from mcnlab.experiment.settings import ExperimentSettings
from tests.small_store import make_store

FRAMES = RawFrames(6, 10, 10.0)
BANDS = 40
WORDS = WordVectors(("red", "blue"), np.eye(2, dtype=np.float32))
BOTH = {"frames": {"shift_px": 1, "brightness": 0.2}, "sound": {"roll": True, "masked_bands": 5}}


def recording(number):
    """Frames and sound with something to see in every place; the third clip is shorter, the fourth has no video."""
    draw, length = np.random.default_rng([number, 3]), 5 if number == 2 else 8
    frames = draw.integers(0, 256, (length, 6, 10, 3), dtype=np.uint8)
    mel = draw.uniform(-60, -10, (10 * length, BANDS)).astype(np.float16)
    tracks = {"audio_mel": mel, **({} if number == 3 else FRAMES(frames))}
    clip = Clip(0.0, length / 10, caption=("red", "blue")[number % 2], label=("red", "blue")[number % 2])
    return Recording(f"c{number}", "train" if number < 8 else "val", length / 10, tracks, (clip,))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    tracks = [*FRAMES.tracks(), Track("audio_mel", "audio", BANDS, 100.0)]
    folder = tmp_path_factory.mktemp("changed") / "store"
    with StoreWriter(folder, name="small", tracks=tracks, words=WORDS, info={"visual": FRAMES.info()}) as writer:
        for number in range(12):
            writer.add(recording(number))
    return open_store(folder)


def settings(store, changes, **more):
    return ExperimentSettings.parse(
        {
            "experiment": "x",
            "data": {"store": str(store.path), **({} if changes is None else {"changes": changes})},
            "stages": "VAT",
            "model": {"dim": 8, "audio_width": 8, "audio_blocks": 1, "audio_frames": 80, "video_frames": 8},
            "training": {"epochs": 2, "batch": 4, "threads": 1, "warmup_steps": 0},
            "evaluation": {"tasks": ["retrieval"]},
        }
        | more,
        source="test",
    )


def generator(seed=0):
    return np.random.default_rng(seed)


def ramp(frames=5, height=6, width=8):
    """Frames whose value names time, row and column."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    return ((100 * t + 10 * y + x) / 1000)[:, None]


def test_a_shift_moves_all_frames_alike_and_repeats_the_border():
    for seed in range(20):
        moved = changed_frames(ramp(), 5, FrameChanges(shift_px=2), generator(seed))
        names = np.round(moved[:, 0] * 1000).astype(int)
        assert all(np.array_equal(frame % 100, names[0] % 100) for frame in names)
        down, right = 2 - names[0][2, 3] // 10 % 10, 3 - names[0][2, 3] % 10
        assert abs(down) <= 2
        assert abs(right) <= 2
        rows, columns = np.clip(np.arange(6) - down, 0, 5), np.clip(np.arange(8) - right, 0, 7)
        assert np.array_equal(names[0], 10 * rows[:, None] + columns)


def test_every_shift_is_drawn():
    seen = {
        tuple(np.round(changed_frames(ramp(), 5, FrameChanges(shift_px=1), generator(s))[0, 0, 2, 2:4] * 1000))
        for s in range(100)
    }
    assert len(seen) == 9


def test_a_clip_begins_earlier_or_later_and_what_was_repeated_stays_repeated():
    seen = set()
    for seed in range(40):
        times = changed_frames(ramp(), 3, FrameChanges(shift_frames=1), generator(seed))[:, 0, 0, 0] * 10
        seen.add(tuple(np.round(times).astype(int)))
    assert seen == {(0, 0, 1, 2, 2), (0, 1, 2, 2, 2), (1, 2, 2, 2, 2)}


def test_about_half_of_the_clips_are_mirrored():
    found = [changed_frames(ramp(), 5, FrameChanges(mirror=True), generator(seed)) for seed in range(200)]
    mirrored = [np.array_equal(one, ramp()[..., ::-1]) for one in found]
    assert all(turned or np.array_equal(one, ramp()) for turned, one in zip(mirrored, found, strict=True))
    assert 70 < sum(mirrored) < 130


def test_brightness_keeps_the_order_of_values_and_stays_between_black_and_white():
    found = [changed_frames(ramp(), 5, FrameChanges(brightness=0.4), generator(seed)) for seed in range(30)]
    assert all((np.diff(one[0, 0, 0]) >= 0).all() and one.min() >= 0 and one.max() <= 1 for one in found)
    middles = [one[2].mean() for one in found]
    assert max(middles) - min(middles) > 0.3


def test_a_rolled_sound_holds_the_same_frames_in_the_same_circle():
    mel = -np.arange(12.0)[None].repeat(3, axis=0)
    starts = set()
    for seed in range(60):
        found = changed_sound(mel, SoundChanges(roll=True), generator(seed))
        starts.add(int(-found[0, 0]))
        assert np.array_equal(found, np.roll(mel, -int(-found[0, 0]), axis=1))
    assert len(starts) == 12


def test_a_gain_is_the_same_everywhere_and_stays_between_silence_and_the_loudest():
    mel = np.array([[-80.0, -40.0, -30.0, -1.0]])
    for seed in range(30):
        found = changed_sound(mel, SoundChanges(gain_db=6.0), generator(seed))
        assert found.min() >= -80
        assert found.max() <= 0
        assert found[0, 2] - found[0, 1] == pytest.approx(10, abs=1e-4)
        assert 0 < abs(found[0, 1] + 40) <= 6


def test_what_falls_silent_lies_together_and_is_never_everything():
    mel = np.full((6, 8), -20.0)
    silent = set()
    for seed in range(200):
        found = changed_sound(mel, SoundChanges(masked_frames=20, masked_bands=2), generator(seed)) == -80
        bands, frames = np.flatnonzero(found.all(axis=1)), np.flatnonzero(found.all(axis=0))
        assert len(bands) <= 2
        assert len(frames) <= 7
        assert not found.all()
        assert all((np.diff(places) == 1).all() for places in (bands, frames))
        assert found.sum() == 48 - (6 - len(bands)) * (8 - len(frames))
        silent.add((len(bands), len(frames)))
    assert {bands for bands, _ in silent} == {0, 1, 2}
    assert {frames for _, frames in silent} == set(range(8))


def test_changes_depend_on_epoch_and_clip_and_not_on_the_batch(store):
    source = build_training_source(settings(store, BOTH), store, seed=0)
    source.epoch((0, "1:VAT", 0), batch=4)
    whole, part = source.batch(np.arange(8)), source.batch(np.array([5, 2]))
    source.epoch((0, "1:VAT", 1), batch=4)
    later = source.batch(np.arange(8))
    for modality in ("video", "audio"):
        assert torch.equal(whole.inputs[modality][[5, 2]], part.inputs[modality])
        differ = (whole.inputs[modality] != later.inputs[modality]).flatten(1).any(dim=1)
        assert torch.equal(differ, whole.present[modality])


def test_what_is_not_to_change_stays_and_evaluation_sees_clips_as_they_are(store):
    wanted = settings(store, {"sound": {"roll": True}})
    source, plain = (
        build_training_source(wanted, store, seed=0),
        build_source(wanted, store, "train", shuffle_seed=None),
    )
    changed, before, again = source.batch(np.arange(8)), plain.batch(np.arange(8)), plain.batch(np.arange(8))
    assert torch.equal(changed.inputs["video"], before.inputs["video"])
    assert torch.equal(changed.inputs["text"], before.inputs["text"])
    assert not torch.equal(changed.inputs["audio"], before.inputs["audio"])
    assert torch.equal(again.inputs["audio"], before.inputs["audio"])
    for modality in ("video", "audio", "text"):
        assert torch.equal(changed.lengths[modality], before.lengths[modality])
    short = int(before.lengths["audio"][2])
    assert torch.equal(changed.inputs["audio"][2, :, short:], before.inputs["audio"][2, :, short:])


def test_changes_that_do_nothing_leave_every_number(store):
    plain = build_source(settings(store, None), store, "train", shuffle_seed=None)
    same = ChangedClips(plain, frames=FrameChanges(), sound=SoundChanges())
    for modality, x in plain.batch(np.arange(8)).inputs.items():
        assert torch.equal(same.batch(np.arange(8)).inputs[modality], x)


def test_a_run_with_changes_resumes_to_the_same_weights(store, tmp_path):
    wanted = settings(store, BOTH, training={"epochs": 2, "batch": 4, "threads": 1, "checkpoint_every": 1})

    def stop(record):
        if record.step == 2:
            raise KeyboardInterrupt

    run_experiment(wanted, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_experiment(wanted, tmp_path / "parts", on_step=stop)
    run_experiment(wanted, tmp_path / "parts")
    whole, parts = (load_run(tmp_path / name).model().state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(x, parts[name]) for name, x in whole.items())


def test_runs_know_what_changes(store):
    plain, changed = settings(store, None), settings(store, BOTH)
    assert run_key(plain, 0) != run_key(changed, 0)
    assert prefix_keys(plain, fingerprint="f", seed=0) != prefix_keys(changed, fingerprint="f", seed=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": {"shift_px": 3}}, r"frames\.shift_px: expected at most 2 for frames of 6 x 10, got 3"),
        ({"sound": {"masked_bands": 40}}, r"sound\.masked_bands: expected fewer than the 40 bands, got 40"),
    ],
)
def test_changes_that_leave_nothing_are_refused(store, changes, said):
    with pytest.raises(DataError, match=said):
        check_data(settings(store, changes), store)


def test_changes_of_frames_need_frames(tmp_path):
    features = make_store(tmp_path / "features")
    with pytest.raises(DataError, match=r"data\.changes\.frames: expected frames, but its video is features or absent"):
        check_data(settings(features, {"frames": {"mirror": True}}), features)
