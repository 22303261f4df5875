"""Frozen backbones: untrained ones must still tell what they are for, and calibration must not look at val."""

import numpy as np
import pytest

from mcnlab.data.calibration import Calibration
from mcnlab.data.extract import (
    Extractor,
    extract_tracks,
    seeded_backbones,
    sliding_means,
)
from mcnlab.data.seeded import SeededConvolutions, SeededMotion
from mcnlab.errors import DataError


def blob(*, x=20.0, y=20.0, color=(255, 255, 255), frames=32, rate=0.0, size=40):
    """A bright disk on gray that moves up and down `rate` times a frame."""
    rows, columns = np.mgrid[:size, :size]
    clip = np.full((frames, size, size, 3), 60, np.uint8)
    for number in range(frames):
        height = y + 8 * np.sin(2 * np.pi * rate * number)
        clip[number, (rows - height) ** 2 + (columns - x) ** 2 < 30] = color
    return clip


def cosine(first, second):
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def some_clips(count=24):
    random = np.random.default_rng(0)
    return [
        blob(
            x=random.uniform(8, 32),
            y=random.uniform(12, 28),
            color=random.integers(0, 255, 3),
            rate=random.uniform(0, 0.25),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("backbone", seeded_backbones(0).values(), ids=lambda b: b.name)
@pytest.mark.parametrize("frames", [1, 3, 33])
def test_there_is_a_row_for_every_few_frames(backbone, frames):
    rows = backbone(blob(frames=frames))
    assert rows.shape == (-(-frames // backbone.frames_per_row), backbone.dim)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()


def test_the_seed_decides_the_filters():
    frames = blob(frames=2)
    first, again, other = (SeededConvolutions(seed)(frames) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_features_do_not_depend_on_what_else_is_in_the_batch():
    frames = blob(frames=300, rate=0.1)
    whole, part = SeededConvolutions(0)(frames), SeededConvolutions(0)(frames[290:])
    np.testing.assert_allclose(whole[290:], part, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 40), (288, 360), (40, 40)])
def test_any_frame_size_is_taken(shape):
    frames = np.zeros((2, *shape, 3), np.uint8)
    assert SeededConvolutions(0)(frames).shape == SeededConvolutions(0)(blob(frames=2)).shape


def test_motion_of_a_still_clip_is_zero():
    assert np.abs(SeededMotion(0)(blob())).max() < 1e-4


def test_motion_tells_rates_apart_whatever_the_phase():
    motion = SeededMotion(0)
    slow, fast = (motion(blob(rate=rate, frames=64)).max(axis=0) for rate in (1 / 16, 3 / 16))
    late = motion(blob(rate=1 / 16, frames=70)[6:]).max(axis=0)
    assert cosine(slow, late) > cosine(slow, fast) + 0.1


@pytest.mark.parametrize("other", [{"x": 32.0}, {"color": (255, 0, 0)}, {"y": 10.0}], ids=["place", "color", "height"])
def test_calibrated_features_tell_looks_apart(other):
    extractor = Extractor.fit(seeded_backbones(0), some_clips(), frames_per_s=16.0, dim=64)
    rows = [extractor(blob(**look))["video_2d"].astype(np.float32).max(axis=0) for look in ({}, other, {"x": 20.5})]
    assert cosine(rows[0], rows[2]) > cosine(rows[0], rows[1]) + 0.2


def test_the_clips_that_calibrate_are_centered_after_their_maximum():
    clips = some_clips()
    extractor = Extractor.fit(seeded_backbones(0), clips, frames_per_s=16.0, dim=16)
    for name in extractor.backbones:
        maxima = np.stack([extractor(clip)[name].astype(np.float32).max(axis=0) for clip in clips])
        assert np.abs(maxima.mean(axis=0)).max() < 0.01  # float16 on the way
        assert maxima.std() == pytest.approx(1, abs=0.01)


def test_more_directions_than_rows_stay_zero_and_finite():
    calibration = Calibration.fit([np.random.default_rng(0).normal(size=(3, 50))], dim=40)
    rows = calibration(np.random.default_rng(1).normal(size=(5, 50)))
    assert np.isfinite(rows).all()
    assert np.abs(rows[:, 3:20]).max() == 0


def test_one_constant_clip_calibrates_without_nan():
    calibration = Calibration.fit([np.ones((4, 10))], dim=4)
    assert np.isfinite(calibration(np.ones((2, 10)))).all()


def test_principal_directions_are_refused_where_memory_is_short(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(30, 8))
    Calibration.fit([rows], dim=4)
    monkeypatch.setattr("mcnlab.data.calibration._BLAS_BUFFER_BYTES", 2**62)  # OpenBLAS would wait for its buffer
    with pytest.raises(MemoryError):
        Calibration.fit([rows], dim=4)


def test_calibration_comes_back_from_its_arrays():
    calibration = Calibration.fit([np.random.default_rng(0).normal(size=(30, 8))], dim=4)
    rows = np.random.default_rng(1).normal(size=(5, 8))
    again = Calibration.from_arrays(calibration.arrays("video_2d"), "video_2d")
    np.testing.assert_array_equal(calibration(rows), again(rows))
    with pytest.raises(DataError, match=r"no calibration video_3d\.mean"):
        Calibration.from_arrays(calibration.arrays("video_2d"), "video_3d")


def test_calibration_without_clips_is_refused():
    with pytest.raises(DataError, match="no train clip"):
        Calibration.fit([], dim=4)


def test_an_odd_width_is_refused():
    with pytest.raises(DataError, match="even, got 5"):
        Calibration.fit([np.zeros((4, 10))], dim=5)


def test_sliding_means_stay_inside_the_clip():
    rows = np.arange(10.0)[:, None]
    np.testing.assert_allclose(sliding_means(rows, length=4, step=3).ravel(), [1.5, 3.5, 6.5, 7.5])
    np.testing.assert_allclose(sliding_means(rows, length=99, step=5).ravel(), [4.5, 4.5])
    np.testing.assert_allclose(sliding_means(rows, length=1, step=1), rows)


def test_tracks_say_their_rates():
    extractor = Extractor.fit(seeded_backbones(0), some_clips(2), frames_per_s=25.0, dim=8)
    assert [(t.name, t.dim, t.rate_hz) for t in extractor.tracks()] == [("video_2d", 8, 6.25), ("video_3d", 8, 6.25)]
    assert not any(facts["trained"] for facts in extractor.info().values())


def test_a_clip_gives_only_the_tracks_that_it_has():
    extractor = Extractor.fit(seeded_backbones(0), some_clips(2), frames_per_s=25.0, dim=8)
    sound = np.zeros(1600, np.float32)
    assert set(extract_tracks(blob(), sound, extractor=extractor)) == {"video_2d", "video_3d", "audio_mel"}
    assert set(extract_tracks(None, sound, extractor=extractor)) == {"audio_mel"}
    assert extract_tracks(None, None, extractor=None) == {}


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (4, 8, 8), (4, 8, 8, 1)])
def test_what_is_not_frames_is_refused(shape):
    extractor = Extractor(seeded_backbones(0), {}, 25.0)
    with pytest.raises(DataError, match="expected frames"):
        extractor(np.zeros(shape, np.uint8))


@pytest.fixture
def resnet_folder(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra `resnet` is not installed")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path / "resnet")
    return tmp_path / "resnet"


@pytest.mark.slow
def test_a_resnet_from_a_folder_gives_a_row_per_second(resnet_folder):
    from mcnlab.data.resnet import ResNetFeatures  # behind the extra

    backbone = ResNetFeatures(str(resnet_folder), frames_per_row=16, size_px=32)
    extractor = Extractor.fit({"video_2d": backbone}, [], frames_per_s=16.0)
    assert extractor(blob(frames=40))["video_2d"].shape == (3, 8)
    assert extractor.tracks()[0].rate_hz == 1.0
    assert extractor.info()["video_2d"]["trained"]


def test_a_missing_resnet_is_named(tmp_path):
    pytest.importorskip("transformers", reason="the extra `resnet` is not installed")
    from mcnlab.data.resnet import ResNetFeatures  # behind the extra

    with pytest.raises(DataError, match="no ResNet there"):
        ResNetFeatures(str(tmp_path))
