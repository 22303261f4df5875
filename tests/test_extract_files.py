"""Whole files to the published layout: real containers, made here, and small networks with random weights."""

import csv
import socket
import threading
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from mcnlab.cli import main
from mcnlab.data.audio import log_mel
from mcnlab.data.frame_stream import FrameSampling, FrameStream, in_order
from mcnlab.data.importers.whole_files import extract_files
from mcnlab.data.media_files import read_sound
from mcnlab.data.store import open_store
from mcnlab.errors import DataError

transformers = pytest.importorskip("transformers", reason="the extra `resnet` is not installed")

SIZE = (80, 48)


def write_frames(path, levels, times_s, *, codec="mpeg4", sound_s=None, size=SIZE):
    """A video of even gray frames that are on screen from given times, in steps of a millisecond."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        voice = container.add_stream("aac", rate=16000) if sound_s else None
        for level, time_s in zip(levels, times_s, strict=True):
            pixels = np.full((size[1], size[0], 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            wave = (0.3 * np.sin(np.arange(round(sound_s * 16000)) * 0.2)).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            sound.sample_rate = 16000
            container.mux(voice.encode(sound))
            container.mux(voice.encode(None))
    return path


def manifest(folder, rows, header=("id", "recording", "video", "audio", "start", "end", "caption", "split")):
    path = folder / "videos.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A small ResNet; its weights are random, so that every picture has rows of its own."""
    folder = tmp_path_factory.mktemp("resnet")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def video_model(tmp_path_factory):
    """A small video transformer."""
    folder = tmp_path_factory.mktemp("video_model")
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=16, hidden_size=12, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    transformers.VideoMAEModel(config).save_pretrained(folder)
    return folder


def levels_at(path, rate_hz):
    """Mean gray of the frame at every tick."""
    return [int(frame.mean()) for _, frame in FrameStream(path, {"x": FrameSampling(rate_hz, 24)})]


def test_frames_at_a_varying_rate_are_shown_at_their_own_times(tmp_path):
    random = np.random.default_rng(3)
    gaps_ms = random.integers(20, 700, 40)
    times_s = np.concatenate([[0], np.cumsum(gaps_ms)])[:40] / 1000
    levels = np.tile([30, 90, 150, 210], 10)
    path = write_frames(tmp_path / "vfr.mp4", levels, times_s)
    stream = FrameStream(path, {"seconds": FrameSampling(1.0, 24), "fine": FrameSampling(7.0, 24)})
    found = {"seconds": [], "fine": []}
    for name, frame in stream:
        found[name].append(frame.mean())
    for name, rate_hz in (("seconds", 1.0), ("fine", 7.0)):
        ticks = np.arange(len(found[name])) / rate_hz
        expected = levels[np.searchsorted(times_s, ticks + 1e-3, side="right") - 1]
        assert np.abs(np.array(found[name]) - expected).max() < 15, name
        assert stream.duration_s - 1 / rate_hz <= ticks[-1] < stream.duration_s
    assert times_s[-1] < stream.duration_s < times_s[-1] + 0.8


def test_frames_keep_their_shape_and_the_middle_square_is_cut_out(tmp_path):
    path = write_frames(tmp_path / "a.mp4", [100] * 30, np.arange(30) / 25)
    wanted = {"whole": FrameSampling(1.0, 24), "square": FrameSampling(5.0, 32, crop=True)}
    frames = list(FrameStream(path, wanted))
    assert {(name, frame.shape) for name, frame in frames} == {("whole", (24, 40, 3)), ("square", (32, 32, 3))}
    assert [name for name, _ in frames].count("whole") == 2
    assert [name for name, _ in frames].count("square") == 6


def test_a_file_without_frames_is_refused(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 200)
    with pytest.raises(DataError, match="cannot be decoded"):
        list(FrameStream(tmp_path / "bad.mp4", {"x": FrameSampling(1.0, 24)}))


def test_extraction_has_the_published_layout(tmp_path, resnet, video_model):
    changing = np.repeat([20, 220, 60, 180], 25)
    write_frames(tmp_path / "changing.mp4", changing, np.arange(100) / 25, sound_s=4.0)
    write_frames(tmp_path / "static.mp4", [128] * 75, np.arange(75) / 25)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "changing.mp4").read_bytes()[:600])
    clip = {"recording": "c", "video": "changing.mp4", "split": "train"}
    rows = [
        {"id": "c1", "start": 0, "end": 2, "caption": "one", **clip},
        {"id": "c2", "start": 2, "end": 9, "caption": "two", **clip},
        {"id": "c3", "start": 7, "caption": "late", **clip},
        {"id": "s", "video": "static.mp4", "caption": "still", "split": "val"},
        {"id": "b", "video": "broken.mp4", "caption": "broken", "split": "val"},
    ]  # fmt: skip
    report = extract_files(
        manifest(tmp_path, rows), tmp_path / "store", video=str(resnet), video_3d=str(video_model), word_dim=8
    )
    assert report.kept == 3
    assert [ids for reason, ids in report.dropped.items() if "cannot be decoded" in reason] == [["b"]]
    assert report.lost == {
        "a clip begins after the end of the file": ["c"],
        "audio: the video has no sound": ["s"],
    }
    store = open_store(tmp_path / "store")
    assert {name: (track.dim, track.rate_hz) for name, track in store.tracks.items()} == {
        "video_2d": (16, 1.0),
        "video_3d": (12, 1.5),
        "audio_mel": (40, 100.0),
    }
    changing, static = store[0], store[1]
    assert [(clip.start_s, clip.end_s) for clip in changing.clips] == [(0, 2), (2, pytest.approx(4, abs=0.1))]
    assert changing.tracks["video_2d"].shape == (4, 16)
    assert changing.tracks["video_3d"].shape == (6, 12)
    lengths = np.linalg.norm(changing.tracks["video_2d"].astype(float), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)
    assert np.abs(np.diff(changing.tracks["video_2d"].astype(float), axis=0)).max() > 1e-2
    for name in ("video_2d", "video_3d"):
        rows = static.tracks[name].astype(float)
        assert len(rows) >= 3
        np.testing.assert_allclose(rows, rows[:1].repeat(len(rows), axis=0), atol=2e-3)
    waveform = read_sound(tmp_path, "changing.mp4", start_s=0.0, end_s=None)
    np.testing.assert_array_equal(changing.tracks["audio_mel"], log_mel(waveform).astype(np.float16))


def test_a_row_is_the_network_on_the_frame_of_its_second(tmp_path, resnet):
    from mcnlab.data.resnet import ResNetFeatures  # behind the extra

    path = write_frames(tmp_path / "v.mp4", np.repeat([20, 220, 120], 25), np.arange(75) / 25)
    extract_files(
        manifest(tmp_path, [{"id": "v", "video": "v.mp4", "caption": "v", "split": "train"}]),
        tmp_path / "store",
        video=str(resnet),
    )
    stored = open_store(tmp_path / "store")[0].tracks["video_2d"].astype(float)
    network = ResNetFeatures(str(resnet), size_px=224, keep_size=True)
    shown = [frame for _, frame in FrameStream(path, {"x": FrameSampling(1.0, 224)})]
    for row, frame in zip(stored, shown, strict=True):
        alone = network(frame[None])[0]
        np.testing.assert_allclose(row, alone / np.linalg.norm(alone), atol=1e-3)


def test_any_number_of_threads_gives_the_same_store(tmp_path, resnet):
    rows = []
    for number in range(5):
        write_frames(tmp_path / f"{number}.mp4", np.arange(50) * 5 % 250, np.arange(50) / 25, sound_s=2.0)
        rows.append({"id": f"r{number}", "video": f"{number}.mp4", "caption": f"word{number}", "split": "train"})
    path = manifest(tmp_path, rows)
    for threads in (1, 3):
        extract_files(path, tmp_path / f"store{threads}", video=str(resnet), threads=threads)
    one, three = (open_store(tmp_path / f"store{threads}") for threads in (1, 3))
    assert one.fingerprint == three.fingerprint


def test_several_files_in_one_recording_are_refused_before_any_work(tmp_path):
    rows = [{"id": f"r{n}", "recording": "r", "video": f"{n}.mp4", "caption": "x", "split": "train"} for n in range(2)]
    with pytest.raises(DataError, match=r"videos.csv: video: recording 'r' has '0.mp4' and '1.mp4'"):
        extract_files(manifest(tmp_path, rows), tmp_path / "store", video="nowhere")
    assert not (tmp_path / "store").exists()


def test_ids_that_lead_elsewhere_cost_only_their_rows(tmp_path, resnet, capsys):
    write_frames(tmp_path / "v.mp4", [99] * 50, np.arange(50) / 25, sound_s=2.0)
    common = {"video": "v.mp4", "caption": "a word", "split": "train"}
    strange = ["a/b", "../../etc/passwd", "..", ".hidden", "back\\slash", "up..down", "x" * 201, "bell\x07"]
    rows = [{"id": id_, **common} for id_ in ("take 2.b", *strange)]
    rows.append({"id": "fine", "recording": "../r", **common})
    report = extract_files(manifest(tmp_path, rows), tmp_path / "store", video=str(resnet))
    assert report.dropped == {
        "an id with a slash, a dot in front, or ..": [*strange[:6], "fine"],
        "an id of more than 200 characters": ["x" * 201],
        "an id with characters that cannot be printed": ["bell\x07"],
    }
    store = open_store(tmp_path / "store")
    assert [store[place].id for place in range(len(store))] == ["take 2.b"]
    assert store.import_report["dropped"] == report.dropped
    words = ["extract", str(manifest(tmp_path, rows[1:])), "--out", str(tmp_path / "other"), "--video", str(resnet)]
    assert main(words) == 3
    assert "no row can be used: 9 rows refused, first 'a/b': an id with a slash" in capsys.readouterr().err


@pytest.fixture
def silent_hub(monkeypatch):
    """A hub that takes every connection and never answers; lists who came."""
    came, server = [], socket.create_server(("127.0.0.1", 0))

    def take():
        while True:
            try:
                came.append(server.accept()[0])
            except OSError:  # closed
                return

    threading.Thread(target=take, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    yield came
    server.close()
    for one in came:
        one.close()


def test_a_silent_hub_is_not_asked_again_and_again(tmp_path, capsys, monkeypatch, silent_hub):
    monkeypatch.setattr("mcnlab.data.pretrained.HUB_PATIENCE_S", 1.0)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    rows = [{"id": "v", "video": "v.mp4", "caption": "a word", "split": "train"}]
    write_frames(tmp_path / "v.mp4", [99] * 50, np.arange(50) / 25)
    words = ["extract", str(manifest(tmp_path, rows)), "--out", str(tmp_path / "store"), "--video", "someone/resnet"]
    assert main(words) == 3
    assert len(silent_hub) <= 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert said.startswith(
        "error: video: 'someone/resnet': no such folder, no copy of it on this machine, and http://127"
    )
    assert said.endswith("; give the path of a local folder with config.json and model.safetensors of a ResNet instead")
    assert not (tmp_path / "store").exists()
    words[-1] = "./nowhere"
    assert main(words) == 3
    assert "no ResNet there (no such folder, and no id of the hub)" in capsys.readouterr().err


def test_the_command_extracts_and_says_what_is_in_the_store(tmp_path, resnet, capsys):
    write_frames(tmp_path / "v.mp4", [99] * 50, np.arange(50) / 25, sound_s=2.0)
    path = manifest(tmp_path, [{"id": "v", "video": "v.mp4", "caption": "a word", "split": "train"}])
    assert main(["extract", str(path), "--out", str(tmp_path / "store"), "--video", str(resnet)]) == 0
    said = capsys.readouterr().out
    assert "video_2d" in said
    assert "audio_mel" in said
    assert main(["extract", str(path), "--out", str(tmp_path / "other"), "--audio", "mfcc"]) == 2
    assert "expected logmel, got 'mfcc'" in capsys.readouterr().err


def test_frames_that_leave_the_decoder_out_of_order_are_sorted():
    times = np.arange(40) / 25
    shuffled = np.concatenate([part[::-1] for part in np.split(times, 5)])
    frames = [SimpleNamespace(time=None if place == 3 else float(time)) for place, time in enumerate(shuffled)]
    found = [time for time, _ in in_order(iter(frames))]
    assert found == sorted(np.delete(shuffled, 3).tolist())
