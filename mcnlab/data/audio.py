"""Sound: from a waveform to log-mel frames."""

import functools
import math

import numpy as np

from mcnlab.errors import DataError

SAMPLES_PER_S = 16_000
FRAMES_PER_S = 100
BANDS = 40
FLOOR_DB = -80.0
_WINDOW = 400
_HOP = 160
_PRE_EMPHASIS = 0.97
_POWER_FLOOR = 1e-10


def log_mel(waveform: np.ndarray, *, rate_hz: int = SAMPLES_PER_S) -> np.ndarray:
    """Log-mel frames of a waveform, in dB below its own loudest cell.

    Args:
        waveform: (samples,), float, any range, finite. Empty counts as 200 zeros.
        rate_hz: its sampling rate; anything but 16 kHz is resampled first.

    Returns:
        (frames, 40), float32, dB in [-80, 0]; 100 frames per second, 1 + samples // 160 of them.

    Raises:
        DataError: the waveform is not one channel or holds NaN or infinity.

    Source:
        Rouditchenko et al. 2020 (AVLnet), the log-mel input of Harwath et al. 2018: pre-emphasis, symmetric Hamming
        window, reflect padding, Slaney mel bands. The reflect padding is what librosa did by default at that time.
        Digital silence is its own loudest level, so it gives 0 dB everywhere.

    Example:
        >>> log_mel(np.zeros(16000, dtype=np.float32)).shape
        (101, 40)
    """
    signal = resample(_checked(waveform), rate_hz=rate_hz)
    if len(signal) == 0:
        signal = np.zeros(_WINDOW // 2, dtype=np.float32)
    signal = signal - signal.mean()
    signal = np.concatenate([signal[:1], signal[1:] - np.float32(_PRE_EMPHASIS) * signal[:-1]])
    power = _power_spectrum(signal) @ _mel_bands().T  # (frames, 40)
    loudest = max(float(power.max()), _POWER_FLOOR)
    decibel = 10 * (np.log10(np.maximum(power, _POWER_FLOOR)) - math.log10(loudest))
    return np.clip(decibel, FLOOR_DB, 0).astype(np.float32)


def resample(waveform: np.ndarray, *, rate_hz: int, target_hz: int = SAMPLES_PER_S) -> np.ndarray:
    """A waveform at another sampling rate, band-limited.

    Args:
        waveform: (samples,), float.
        rate_hz: its sampling rate.
        target_hz: the wanted one.

    Returns:
        (ceil(samples * target_hz / rate_hz),), float32; the input itself where the rates are equal.

    Raises:
        DataError: a rate is not positive.

    Example:
        >>> resample(np.zeros(8000, dtype=np.float32), rate_hz=8000).shape
        (16000,)
    """
    if rate_hz <= 0 or target_hz <= 0:
        raise DataError(f"a sampling rate must be positive, got {min(rate_hz, target_hz)} Hz")
    waveform = np.asarray(waveform, dtype=np.float32)
    if rate_hz == target_hz or len(waveform) == 0:
        return waveform
    from scipy.signal import resample_poly  # late: half a second of start-up

    divisor = math.gcd(int(rate_hz), int(target_hz))
    return resample_poly(waveform, target_hz // divisor, rate_hz // divisor).astype(np.float32)


def _checked(waveform: np.ndarray) -> np.ndarray:
    """The waveform as float32 when it is one finite channel."""
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1:
        raise DataError(f"expected one channel (samples,), got an array of shape {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise DataError(f"the waveform holds {int((~np.isfinite(waveform)).sum())} values that are not finite")
    return waveform


def _power_spectrum(signal: np.ndarray) -> np.ndarray:
    """(samples,) -> (frames, 201): squared magnitudes of the centered short-time Fourier transform."""
    padded = np.pad(signal, _WINDOW // 2, mode="reflect" if len(signal) > 1 else "edge")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]  # (frames, 400)
    spectrum = np.fft.rfft(frames * np.hamming(_WINDOW).astype(np.float32), axis=1).astype(np.complex64)
    return spectrum.real**2 + spectrum.imag**2  # (frames, 201)


@functools.cache
def _mel_bands() -> np.ndarray:
    """(40, 201): triangular bands from 20 to 8000 Hz on the Slaney scale, each of unit area."""
    import librosa  # late: seconds of start-up

    return librosa.filters.mel(sr=SAMPLES_PER_S, n_fft=_WINDOW, n_mels=BANDS, fmin=20, fmax=8000)
