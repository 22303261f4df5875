"""Log-mel frames against the published extraction, and their edge cases."""

from pathlib import Path

import numpy as np
import pytest

from mcnlab.data.audio import BANDS, FLOOR_DB, log_mel, resample
from mcnlab.errors import DataError

GOLDEN = np.load(Path(__file__).parent / "golden" / "melspec.npz", allow_pickle=False)


def test_the_published_extraction_gives_the_same_frames():
    # float32 magnitudes there, float64 inside ours: 4e-5 dB apart
    np.testing.assert_allclose(log_mel(GOLDEN["wave"]).T, GOLDEN["mel_reflect"], atol=1e-3)


def test_padding_reflects_and_is_not_zero():
    inner = slice(2, -2)
    ours = log_mel(GOLDEN["wave"]).T
    np.testing.assert_allclose(ours[:, inner], GOLDEN["mel_constant"][:, inner], atol=1e-3)
    assert np.abs(ours - GOLDEN["mel_constant"]).max() > 0.1


@pytest.mark.parametrize("samples", [0, 1, 2, 50, 159, 160, 16000])
def test_frames_are_one_more_than_whole_hops(samples):
    waveform = np.random.default_rng(0).normal(size=samples).astype(np.float32)
    counted = samples if samples else 200  # an empty wav counts as 200 zeros
    assert log_mel(waveform).shape == (1 + counted // 160, BANDS)


def test_values_lie_between_the_floor_and_zero():
    frames = log_mel(np.random.default_rng(0).normal(size=16000))
    assert frames.max() == 0
    assert frames.min() >= FLOOR_DB


def test_silence_is_finite():
    assert np.isfinite(log_mel(np.zeros(1600))).all()


def test_loudness_does_not_matter():
    waveform = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    np.testing.assert_allclose(log_mel(waveform), log_mel(0.1 * waveform), atol=1e-2)


def test_a_tone_keeps_its_pitch_when_its_rate_changes():
    time_s = np.arange(8000) / 8000
    slow = np.sin(2 * np.pi * 440 * time_s)
    fast = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    peak = log_mel(slow, rate_hz=8000)[50].argmax()
    assert peak == log_mel(fast)[50].argmax()
    assert len(resample(slow, rate_hz=8000)) == 16000


def test_two_channels_are_refused():
    with pytest.raises(DataError, match=r"one channel.*\(2, 100\)"):
        log_mel(np.zeros((2, 100)))


def test_a_waveform_with_nan_is_refused():
    with pytest.raises(DataError, match="1 values that are not finite"):
        log_mel(np.array([0.0, np.nan, 1.0]))


def test_a_rate_of_zero_is_refused():
    with pytest.raises(DataError, match="0 Hz"):
        resample(np.zeros(10), rate_hz=0)
