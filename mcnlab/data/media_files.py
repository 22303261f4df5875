"""Decoding: from a media file and a time window to frames and a waveform."""

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcnlab.data.arrays import read_npy, read_npz_member
from mcnlab.data.audio import SAMPLES_PER_S, resample
from mcnlab.data.seeded import resized
from mcnlab.errors import DataError

VIDEO_SUFFIXES = frozenset({".mp4", ".webm", ".mkv", ".mov", ".avi", ".mpg", ".mpeg", ".flv", ".m4v", ".ogv"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
CONTAINERS = (
    "mov", "matroska", "avi", "mpeg", "mpegts", "mpegvideo", "flv", "ogg", "asf", "m4v", "h264", "hevc", "ivf",
    "wav", "flac", "mp3", "aac", "aiff",
)  # fmt: skip
"""What FFmpeg may take a file for: nothing that opens further files or addresses, as playlists do."""
MOST_PIXELS = 2**26
"""Of a frame, twice as many as one of 8K has: a few kilobytes can unpack to gigabytes."""
SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif"})
MAX_CLIP_S = 600.0
_MEMBER = re.compile(r"^(?P<file>.+\.npz)#(?P<name>[^\[\]]+)(?:\[(?P<row>\d+)\])?$")


Size = int | tuple[int, int]
"""Side of a square in pixels, or height and width."""


@dataclass(frozen=True)
class Picture:
    """The frames of a clip at a fixed rate and size."""

    frames: np.ndarray
    """(frames, *size, 3) uint8: stretched to the size."""
    aspect: float
    """Width over height as it should be shown."""
    duration_s: float | None
    """None: a still picture."""


def is_array(source: str) -> bool:
    """Whether a manifest's entry points into an npy or npz file.

    Args:
        source: the entry.

    Returns:
        True for `x.npy`, `x.npz#name` and `x.npz#name[row]`.
    """
    return source.endswith(".npy") or _MEMBER.match(source) is not None


def file_of(folder: Path, source: str) -> Path:
    """The file that a manifest's entry points to, or into.

    Args:
        folder: what a relative entry is relative to.
        source: the entry.

    Returns:
        Its path, whether it is there or not.
    """
    member = _MEMBER.match(source)
    return folder / (source if member is None else member["file"])


def is_image(source: str) -> bool:
    """Whether a manifest's entry is a still picture by its name.

    Args:
        source: the entry.

    Returns:
        True for png and jpg files.
    """
    return Path(source).suffix.lower() in IMAGE_SUFFIXES


def is_video_file(source: str) -> bool:
    """Whether a manifest's entry is a container that may hold sound too.

    Args:
        source: the entry.

    Returns:
        True for mp4, webm, mkv and the like.
    """
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


def read_picture(
    folder: Path,
    source: str,
    *,
    start_s: float,
    end_s: float | None,
    fps: float | None,
    frames_per_s: float,
    size_px: Size,
) -> Picture:
    """The frames of a time window, at a fixed rate, in the order of their times.

    Args:
        folder: what a relative entry is relative to.
        source: a video or image file, `x.npy`, `x.npz#name` or `x.npz#name[row]`.
        start_s: begin of the window.
        end_s: its end; None: to the end of the file.
        fps: rate of the frames of an array.
        frames_per_s: rate of the result; the frame on screen at each moment is taken.
        size_px: side of the square that frames are resized to, or their height and width; by area.

    Returns:
        The frames.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind, or has no frame in the window.
    """
    if is_array(source):
        return _from_array(_array(folder, source), start_s, end_s, fps, frames_per_s, size_px)
    path = folder / source
    _require_file(path)
    if is_image(source):
        return _from_image(path, size_px)
    if is_video_file(source):
        return _from_video(path, start_s, end_s, frames_per_s, size_px)
    if path.suffix.lower() == ".npz":
        raise DataError("an npz file needs the name of its array: FILE.npz#NAME or FILE.npz#NAME[ROW]")
    raise DataError(f"unknown kind of file {path.suffix!r}")


def read_sound(
    folder: Path, source: str, *, start_s: float, end_s: float | None, longest_s: float = MAX_CLIP_S
) -> np.ndarray | None:
    """The waveform of a time window, one channel at 16 kHz.

    Args:
        folder: what a relative entry is relative to.
        source: a sound file, or a video file whose own sound is meant.
        start_s: begin of the window.
        end_s: its end; None: to the end of the file.
        longest_s: a longer sound is refused.

    Returns:
        (samples,), float32, at least one sample; None where a video file has no sound.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind, or has no sample in the window.
    """
    path = folder / source
    _require_file(path)
    if is_video_file(source):
        waveform = _sound_of_video(path, start_s, end_s)
    elif path.suffix.lower() in SOUND_SUFFIXES:
        waveform = _sound_of_file(path, start_s, end_s, longest_s)
    else:
        raise DataError(f"unknown kind of file {path.suffix!r}")
    if waveform is None:
        return None
    if not len(waveform):
        raise DataError(f"no samples{_between(start_s, end_s)}")
    if not np.isfinite(waveform).all():
        raise DataError("holds samples that are not finite")
    return waveform


def _array(folder: Path, source: str) -> np.ndarray:
    """The array that an entry points to."""
    member = _MEMBER.match(source)
    if member is None:
        _require_file(folder / source)
        return read_npy(folder / source)
    _require_file(folder / member["file"])
    array = read_npz_member(folder / member["file"], member["name"])
    if array.ndim == 0:
        raise DataError("a single number is neither frames nor an image")
    if member["row"] is None:
        return array
    if int(member["row"]) >= len(array):
        raise DataError(f"row {member['row']} of an array with {len(array)} rows")
    return array[int(member["row"])]


def _from_array(
    array: np.ndarray, start_s: float, end_s: float | None, fps: float | None, frames_per_s: float, size_px: Size
) -> Picture:
    """Frames or one image out of an array, (frames, h, w[, 3]) or (h, w[, 3]) uint8."""
    if array.dtype != np.uint8:
        raise DataError(f"frames must be uint8, got {array.dtype}")
    colored = array.ndim >= 3 and array.shape[-1] == 3
    if array.ndim != (4 if colored else 3) and array.ndim != (3 if colored else 2):
        raise DataError(f"an array of shape {array.shape} is neither frames nor an image")
    if 0 in array.shape:
        raise DataError("no frames (an array of shape " + str(array.shape) + ")")
    pixels = array if colored else np.repeat(array[..., None], 3, axis=-1)  # ([n,] h, w, 3)
    aspect = pixels.shape[-2] / pixels.shape[-3]
    if pixels.ndim == 3:
        return Picture(_small(pixels[None], size_px), aspect, None)
    if fps is None:
        raise DataError("frames in an array need their rate in the column fps")
    times = np.arange(len(pixels)) / fps
    chosen, duration_s = _at_fixed_rate(times, 1 / fps, start_s, end_s, frames_per_s)
    return Picture(_small(pixels[chosen], size_px), aspect, duration_s)


def _from_image(path: Path, size_px: Size) -> Picture:
    """A png or jpg as one frame, turned upright."""
    from PIL import Image, ImageOps  # late: start-up time

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError("an image of too many pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"not a readable image ({_one_line(error)})") from error
    small = upright.resize(_height_width(size_px)[::-1], Image.Resampling.BILINEAR)
    return Picture(np.asarray(small)[None], upright.width / upright.height, None)


def _from_video(path: Path, start_s: float, end_s: float | None, frames_per_s: float, size_px: Size) -> Picture:
    """Decode a window of a video file; damage inside the window is an error, not a shorter clip."""
    from av.video.reformatter import VideoReformatter  # late: start-up time

    reformatter = VideoReformatter()  # shared by all frames: setting one up costs more than a frame
    times: list[float] = []
    frames: list[np.ndarray] = []
    aspect, step_s = 1.0, 0.04
    with opened_media(path) as container:
        if not container.streams.video:
            raise DataError("no video stream")
        stream = container.streams.video[0]
        origin_s = origin_of(container)
        step_s = float(1 / stream.average_rate) if stream.average_rate else step_s
        for frame in _frames_of(container, stream, start_s - step_s + origin_s, end_s and end_s + origin_s):
            if not len(frames):
                aspect = frame.width / frame.height * float(stream.sample_aspect_ratio or 1)
                aspect = 1 / aspect if frame.rotation % 180 else aspect
            times.append(frame.time - origin_s)
            frames.append(_small_upright(reformatter, frame, size_px))
            if len(frames) > 2 * MAX_CLIP_S / step_s:
                raise DataError(f"longer than {MAX_CLIP_S:.0f} s; give start and end")
    if not frames:
        raise DataError(f"no frames{_between(start_s, end_s)}")
    order = np.argsort(times, kind="stable")
    chosen, duration_s = _at_fixed_rate(np.array(times)[order], step_s, start_s, end_s, frames_per_s)
    return Picture(np.stack([frames[place] for place in order[chosen]]), aspect, duration_s)


def _small_upright(reformatter, frame, size_px: Size) -> np.ndarray:  # type: ignore[no-untyped-def]
    """(*size, 3) uint8: a decoded frame resized by area and turned as its metadata says."""
    height, width = _height_width(size_px)[:: -1 if frame.rotation % 180 else 1]
    small = reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation="AREA")
    return upright(small.to_ndarray(), frame.rotation)


def _frames_of(container, stream, from_s: float, to_s: float | None) -> Iterator:  # type: ignore[no-untyped-def]
    """Decoded frames (picture or sound) that may touch a window, the key frame before it included."""
    if stream.codec_context is None:
        raise DataError("cannot be decoded (its codec is not known)")
    stream.codec_context.thread_count = 1
    if from_s > 1:
        container.seek(int(from_s * 1_000_000), backward=True)
    late = 0
    for frame in container.decode(stream):
        if frame.time is None or frame.time < from_s - 1:
            continue
        late = late + 1 if to_s is not None and frame.time >= to_s else 0
        if late > 16:  # frames may come out of order, but not by that much
            return
        yield frame


def _sound_of_video(path: Path, start_s: float, end_s: float | None) -> np.ndarray | None:
    """The sound of a container between two times, or None where it has no sound stream."""
    import av  # late: start-up time

    with opened_media(path) as container:
        if not container.streams.audio:
            return None
        origin_s = origin_of(container)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLES_PER_S)
        pieces, first_s = [], None
        stream = container.streams.audio[0]
        for frame in _frames_of(container, stream, start_s + origin_s, end_s and end_s + origin_s):
            first_s = frame.time - origin_s if first_s is None else first_s
            pieces += [piece.to_ndarray().ravel() for piece in resampler.resample(frame)]
        pieces += [piece.to_ndarray().ravel() for piece in resampler.resample(None)] if pieces else []
    if first_s is None:
        return np.zeros(0, np.float32)
    waveform = np.concatenate([np.zeros(0, np.float32), *pieces])
    if first_s > start_s:  # sound that sets in later than the picture
        waveform = np.concatenate([np.zeros(round((first_s - start_s) * SAMPLES_PER_S), np.float32), waveform])
        first_s = start_s
    begin = round((start_s - first_s) * SAMPLES_PER_S)
    return waveform[begin:] if end_s is None else waveform[begin : begin + round((end_s - start_s) * SAMPLES_PER_S)]


def _sound_of_file(path: Path, start_s: float, end_s: float | None, longest_s: float) -> np.ndarray:
    """A window of a sound file, channels averaged."""
    import soundfile  # late: start-up time

    try:
        with soundfile.SoundFile(path) as file:
            rate_hz = file.samplerate
            begin = min(round(start_s * rate_hz), file.frames)
            wanted = file.frames - begin if end_s is None else round((end_s - start_s) * rate_hz)
            if wanted > longest_s * rate_hz:
                raise DataError(f"longer than {longest_s:.0f} s; give start and end")
            file.seek(begin)
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"not a readable sound file ({_one_line(error)})") from error
    return resample(samples.mean(axis=1) if len(samples) else np.zeros(0, np.float32), rate_hz=rate_hz)


@contextmanager
def opened_media(path: Path) -> Iterator[Any]:
    """A media container; every complaint of the decoder becomes one of ours.

    Args:
        path: the file.

    Yields:
        PyAV's container.

    Raises:
        DataError: it cannot be opened, or not be decoded while it is open.
    """
    import av  # late: start-up time

    try:
        with av.open(str(path), options={"format_whitelist": ",".join(CONTAINERS)}) as container:
            for codec in (stream.codec_context for stream in container.streams.video):
                if codec is not None:
                    _refuse_huge(codec.width, codec.height)
                    codec.options = {"max_pixels": str(MOST_PIXELS)}  # of frames that turn out larger
            yield container
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"cannot be decoded ({_one_line(error)})") from error


def _refuse_huge(width: int, height: int) -> None:
    """Raise when a frame has too many pixels."""
    if width * height > MOST_PIXELS:
        raise DataError(f"frames of {width} × {height} pixels, expected {MOST_PIXELS} in all at most")


def origin_of(container: Any) -> float:
    """The time that a container calls its beginning, in seconds.

    Args:
        container: PyAV's container.

    Returns:
        What to subtract from the times of its frames.
    """
    return (container.start_time or 0) / 1_000_000


def upright(pixels: np.ndarray, rotation: int) -> np.ndarray:
    """A picture turned as the metadata of its file says.

    Args:
        pixels: (height, width, 3).
        rotation: degrees counter-clockwise, a multiple of 90.

    Returns:
        The same, or (width, height, 3).
    """
    return np.rot90(pixels, k=round(rotation / 90))


def _at_fixed_rate(
    times: np.ndarray, step_s: float, start_s: float, end_s: float | None, frames_per_s: float
) -> tuple[np.ndarray, float]:
    """Which of the frames at rising times are on screen at each tick of a window, and how long the window is."""
    last_s = times[-1] + step_s
    stop_s = last_s if end_s is None else min(end_s, last_s)
    duration_s = stop_s - start_s
    if duration_s <= 0 or times[0] >= stop_s:
        raise DataError(f"no frames{_between(start_s, end_s)}")
    if duration_s > MAX_CLIP_S:
        raise DataError(f"longer than {MAX_CLIP_S:.0f} s; give start and end")
    ticks = start_s + np.arange(max(1, math.floor(duration_s * frames_per_s + 1e-6))) / frames_per_s
    return np.maximum(np.searchsorted(times, ticks + 1e-3, side="right") - 1, 0), duration_s


def _small(pixels: np.ndarray, size_px: Size) -> np.ndarray:
    """(n, h, w, 3) uint8 -> (n, *size, 3) uint8, by area."""
    return np.round(resized(pixels, size_px) * 255).astype(np.uint8)


def _height_width(size_px: Size) -> tuple[int, int]:
    """Height and width of a picture; a single number means a square."""
    return (size_px, size_px) if isinstance(size_px, int) else size_px


def _require_file(path: Path) -> None:
    """Raise when there is no such file, or nothing in it."""
    if not path.is_file():
        raise DataError("no such file")
    if path.stat().st_size == 0:
        raise DataError("the file is empty")


def _one_line(error: Exception) -> str:
    """What a library says is wrong, without the file's name, so that equal reasons read the same."""
    text = str(getattr(error, "strerror", None) or error)
    text = re.sub(r"Error opening '[^']*': ", "", text)
    return " ".join(re.sub(r"cannot identify image file '[^']*'", "unknown format", text).split())


def _between(start_s: float, end_s: float | None) -> str:
    """A window in words; nothing for a whole file."""
    if end_s is None:
        return f" after {start_s:g} s" if start_s else ""
    return f" between {start_s:g} and {end_s:g} s"
