"""Import of someone's own media: real containers, made here, and everything that can be wrong with them."""

import csv
import json
import re

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from mcnlab.data.arrays import read_npy, read_npz_array, read_npz_member
from mcnlab.data.importers.media import import_media
from mcnlab.data.importers.media_manifest import read_media_manifest
from mcnlab.data.media_files import read_picture, read_sound
from mcnlab.data.records import Track
from mcnlab.data.store import describe, open_store
from mcnlab.data.timeline import on_one_timeline
from mcnlab.errors import DataError

HEADER = ("id", "video", "audio", "start", "end", "fps", "caption", "label", "split")


def manifest(folder, rows, *, name="m.csv", header=HEADER):
    path = folder / name
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, delimiter="\t" if name.endswith("tsv") else ",", restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_video(path, *, seconds=2.0, fps=10, sound=True, size=(64, 48), codec="mpeg4"):
    """A video whose brightness grows with time, and a tone that starts in the second half."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        voice = container.add_stream("aac" if path.suffix != ".webm" else "libvorbis", rate=16000) if sound else None
        count = round(seconds * fps)
        for number in range(count):
            pixels = np.full((size[1], size[0], 3), 20 + 200 * number // count, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        if voice is not None:
            wave = np.sin(np.arange(round(seconds * 16000)) * 0.2).astype(np.float32)
            wave[: len(wave) // 2] = 0
            frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return path


def picture(folder, source, *, start_s=0.0, end_s=None, fps=None, frames_per_s=10.0):
    return read_picture(folder, source, start_s=start_s, end_s=end_s, fps=fps, frames_per_s=frames_per_s, size_px=16)


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    write_video(tmp_path / "a.mp4")
    for rate in (8000, 44100):
        noise = 0.1 * random.normal(size=(2 * rate, 2))
        soundfile.write(tmp_path / f"{rate}.wav", noise, rate)
    soundfile.write(tmp_path / "a.flac", 0.1 * random.normal(size=16000), 16000)
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), 16000)
    (tmp_path / "garbage.mp4").write_bytes(b"\0" * 3000)
    (tmp_path / "garbage.wav").write_bytes(b"hello" * 100)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:2000])
    (tmp_path / "empty.mp4").write_bytes(b"")
    Image.fromarray(random.integers(0, 255, (30, 20, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(random.integers(0, 255, (30, 20)).astype(np.uint8)).save(tmp_path / "a.jpg")
    frames = random.integers(0, 255, (4, 20, 12, 16)).astype(np.uint8)
    np.savez(tmp_path / "f.npz", frames=frames, images=frames[:, 0], ids=np.arange(4))
    np.save(tmp_path / "f.npy", np.repeat(frames[0][..., None], 3, axis=-1))
    np.save(tmp_path / "none.npy", frames[0, :0])
    return tmp_path


# Decoding


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi"])
def test_a_video_comes_at_the_rate_that_was_asked_for(tmp_path, suffix):
    write_video(tmp_path / f"a.{suffix}", fps=10)
    for rate, count in ((10.0, 20), (5.0, 10), (20.0, 40)):
        read = picture(tmp_path, f"a.{suffix}", frames_per_s=rate)
        assert read.frames.shape == (count, 16, 16, 3)
        assert read.duration_s == pytest.approx(2.0, abs=0.01)
        assert (np.diff(read.frames.mean(axis=(1, 2, 3))) >= -1).all()
    assert read.aspect == pytest.approx(64 / 48)


def test_a_window_of_a_video_holds_the_frames_of_that_time(folder):
    whole = picture(folder, "a.mp4").frames.mean(axis=(1, 2, 3))
    part = picture(folder, "a.mp4", start_s=1.0, end_s=1.5)
    assert part.duration_s == pytest.approx(0.5)
    np.testing.assert_allclose(part.frames.mean(axis=(1, 2, 3)), whole[10:15], atol=1)


def test_a_window_late_in_a_long_video_is_found_by_seeking(tmp_path):
    write_video(tmp_path / "a.mp4", seconds=30, sound=True)
    whole = picture(tmp_path, "a.mp4").frames.mean(axis=(1, 2, 3))
    part = picture(tmp_path, "a.mp4", start_s=25.0, end_s=26.0).frames.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(part, whole[250:260], atol=2)
    assert len(read_sound(tmp_path, "a.mp4", start_s=25.0, end_s=26.0)) == 16000


def test_the_sound_of_a_video_is_cut_like_its_picture(folder):
    quiet = read_sound(folder, "a.mp4", start_s=0.0, end_s=0.8)
    loud = read_sound(folder, "a.mp4", start_s=1.2, end_s=2.0)
    assert len(quiet) == len(loud) == 12800
    assert np.abs(quiet).mean() < 0.01 < np.abs(loud).mean()


def test_a_silent_video_has_no_sound(tmp_path):
    write_video(tmp_path / "a.mp4", sound=False)
    assert read_sound(tmp_path, "a.mp4", start_s=0.0, end_s=None) is None


@pytest.mark.parametrize(("name", "seconds"), [("8000.wav", 2), ("44100.wav", 2), ("a.flac", 1)])
def test_sound_files_come_at_16_khz_in_one_channel(folder, name, seconds):
    assert read_sound(folder, name, start_s=0.0, end_s=None).shape == (seconds * 16000,)
    assert read_sound(folder, name, start_s=0.25, end_s=0.75).shape == (8000,)


def test_arrays_are_frames_or_images(folder):
    assert picture(folder, "f.npz#frames[1]", fps=10.0).frames.shape == (20, 16, 16, 3)
    assert picture(folder, "f.npy", fps=20.0).duration_s == 1.0
    still = picture(folder, "f.npz#images[2]")
    assert (still.frames.shape, still.duration_s) == ((1, 16, 16, 3), None)
    assert picture(folder, "f.npz#frames[0]", fps=10.0, start_s=0.5, end_s=1.0).frames.shape[0] == 5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("garbage.mp4", "cannot be decoded"),
        ("cut.mp4", "cannot be decoded"),
        ("empty.mp4", "the file is empty"),
        ("missing.mp4", "no such file"),
        ("8000.wav", "unknown kind of file '.wav'"),
        ("f.npz", "FILE.npz#NAME"),
        ("f.npz#frames[9]", "row 9 of an array with 4 rows"),
        ("f.npz#nothing", "no such array, only 'frames', 'images', 'ids'"),
        ("f.npz#ids", "uint8, got int64"),
        ("none.npy", "no frames"),
    ],
)
def test_a_picture_that_cannot_be_read_says_why(folder, source, message):
    with pytest.raises(DataError, match=re.escape(message)):
        picture(folder, source, fps=10.0)


def test_frames_without_a_rate_are_refused(folder):
    with pytest.raises(DataError, match="column fps"):
        picture(folder, "f.npy")


def test_a_window_after_the_end_has_no_frames_and_no_samples(folder):
    with pytest.raises(DataError, match="no frames between 50 and 51 s"):
        picture(folder, "a.mp4", start_s=50.0, end_s=51.0)
    with pytest.raises(DataError, match="no samples between 50 and 51 s"):
        read_sound(folder, "8000.wav", start_s=50.0, end_s=51.0)


def test_arrays_of_python_objects_are_refused(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        read_npy(tmp_path / "o.npy")
    with pytest.raises(DataError, match="Python objects"):
        read_npz_member(tmp_path / "o.npz", "a")


def test_an_array_shorter_than_its_header_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(100))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-8])
    with pytest.raises(DataError, match="promises 800 bytes, there are 792"):
        read_npy(tmp_path / "a.npy")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(10_000_000, np.uint8))
    with pytest.raises(DataError, match="unpack to 10000128"):
        read_npz_member(tmp_path / "bomb.npz", "a")


def test_an_archive_of_more_than_64_members_is_refused(tmp_path):
    for members in (64, 65):
        np.savez(tmp_path / f"{members}.npz", **{f"a{number}": np.zeros(1) for number in range(members)})
    assert read_npz_member(tmp_path / "64.npz", "a0") == 0
    for read in (read_npz_member, lambda path, name: read_npz_array(path, [name])):
        with pytest.raises(DataError, match=r"65\.npz: .*65 members, at most 64"):
            read(tmp_path / "65.npz", "a0")


# The manifest


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": ""}, "row 2: id: is empty"),
        ({"start": "x"}, "row 2: start: expected a number, got 'x'"),
        ({"end": "nan"}, "row 2: end: expected a number, got 'nan'"),
        ({"start": "3", "end": "2"}, "row 2: end: expected 0 <= start < end, got start 3 and end 2"),
        ({"start": "-1"}, "row 2: end: expected 0 <= start"),
        ({"fps": "0"}, "row 2: fps: must be positive, got 0"),
        ({"split": ""}, "row 2: split: is empty"),
    ],
)
def test_a_wrong_cell_is_named_before_any_work(tmp_path, row, message):
    path = manifest(tmp_path, [{"id": "a", "caption": "x", "split": "train", **row}])
    with pytest.raises(DataError, match=rf"m\.csv: {message}"):
        read_media_manifest(path)


def test_an_id_that_stands_twice_is_named_with_both_rows(tmp_path):
    path = manifest(tmp_path, [{"id": "a", "split": "train"}, {"id": "a", "split": "train"}])
    with pytest.raises(DataError, match="row 3: id: 'a' stands in row 2 already"):
        read_media_manifest(path)


def test_an_unknown_column_is_answered_with_the_nearest(tmp_path):
    path = manifest(tmp_path, [{"id": "a"}], header=("id", "captoin"))
    with pytest.raises(DataError, match="unknown column 'captoin', did you mean 'caption'"):
        read_media_manifest(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("id,caption\n", "no rows"),
        ("caption\nx\n", "the column 'id' is missing"),
        ("id\nx\n", "none of the columns"),
        ("id,caption,caption\na,b,c\n", "'caption' stands twice"),
        ("id,caption\na,b,c\n", "row 2: 3 cells under 2 columns"),
        ('id,caption\na,"b\n', "not a readable CSV"),
        ("id,caption,split,recording\na,x,train,r\nb,y,val,r\n", "row 3: split: recording 'r' is in 'train' and 'val'"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_media_manifest(tmp_path / "m.csv")


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such manifest"):
        read_media_manifest(tmp_path / "m.csv")


def test_ids_are_texts_also_when_they_look_like_something_else(tmp_path):
    path = manifest(tmp_path, [{"id": name, "caption": "x", "split": "s"} for name in ("nan", "0001", "1e3", "None")])
    assert [row.id for row in read_media_manifest(path).rows] == ["nan", "0001", "1e3", "None"]


def test_tabs_separate_a_tsv(tmp_path):
    path = manifest(tmp_path, [{"id": "a", "caption": "x, y", "split": "s"}], name="m.tsv")
    assert read_media_manifest(path).rows[0].caption == "x, y"


@pytest.mark.parametrize(("recordings", "held"), [(1, 0), (2, 1), (12, 2), (500, 100)])
def test_without_a_split_column_a_fifth_becomes_val_also_of_few_and_stays_so(tmp_path, recordings, held):
    rows = [{"id": f"r{k}", "caption": "x"} for k in range(recordings)]
    path = manifest(tmp_path, rows, header=("id", "caption"))
    first, again = read_media_manifest(path), read_media_manifest(path)
    assert first.rows == again.rows
    assert sum(row.split == "val" for row in first.rows) == held
    assert first.notes[0].startswith(f"no split column: {held} of {recordings} recordings became val")
    more = manifest(tmp_path, [*rows, {"id": "one more", "caption": "x"}], name="more.csv", header=("id", "caption"))
    moved = [
        one for one, then in zip(first.rows, read_media_manifest(more).rows, strict=False) if one.split != then.split
    ]
    assert len(moved) <= 1


def test_factors_are_numbers_only_when_all_of_them_are(tmp_path):
    header = ("id", "caption", "factor:size", "factor:va.kind", "factor:digit")
    rows = [
        {"id": "a", "factor:size": "1.5", "factor:va.kind": "2", "factor:digit": "7"},
        {"id": "b", "factor:size": "", "factor:va.kind": "two", "factor:digit": "8"},
    ]
    path = manifest(tmp_path, rows, header=header)
    first, second = read_media_manifest(path, categorical=["digit"]).rows
    assert first.factors == {"size": 1.5, "va.kind": "2", "digit": "7"}
    assert second.factors == {"va.kind": "two", "digit": "8"}
    with pytest.raises(DataError, match="no factor 'digti', did you mean 'digit'"):
        read_media_manifest(path, categorical=["digti"])


# The import


def good_rows():
    return [
        {"id": "whole", "video": "a.mp4", "caption": "fry the fish", "label": "hot", "split": "train"},
        {"id": "part", "video": "a.mp4", "start": "0.5", "end": "1.5", "caption": "stir the fish", "split": "train"},
        {"id": "other", "video": "f.npz#frames[0]", "fps": "10", "audio": "8000.wav", "split": "train"},
        {"id": "heard", "audio": "a.flac", "caption": "fry", "split": "val"},
        {"id": "read", "caption": "stir fry the fish", "split": "val"},
        {"id": "still", "video": "a.png", "audio": "44100.wav", "caption": "the fish", "split": "val"},
    ]


def test_every_row_becomes_a_clip_with_what_it_has(folder):
    report = import_media(manifest(folder, good_rows()), folder / "store", video_dim=8, word_dim=8, size_px=32)
    store = open_store(folder / "store")
    table = store.clips().set_index("id")
    assert (report.kept, report.dropped, report.lost) == (6, {}, {})
    assert table.loc[["whole:0", "other:0", "heard:0", "read:0"], "has_video"].tolist() == [True, True, False, False]
    assert table["has_audio"].tolist() == [True, True, True, True, False, True]
    assert table["has_text"].tolist() == [True, True, False, True, True, True]
    assert table.loc["part:0", "end_s"] == pytest.approx(1.0, abs=0.02)
    assert store[0].tracks["video_2d"].shape == (13, 8)  # 50 frames, a row per 4
    assert store[0].tracks["audio_mel"].shape[1] == 40
    assert store.thumbnail(0).shape == (42, 56, 3)
    assert store.labels == ("hot",)
    assert store.word_vectors.words == tuple(sorted({"the", "fish", "fry", "stir"}, key=_frequency))
    assert not store.verify()
    assert describe(store)["visual"]["video_2d"]["trained"] is False
    assert report.import_s > 0


def _frequency(word):
    return {"fish": 0, "the": 1, "fry": 2, "stir": 3}[word]


def test_the_same_manifest_gives_the_same_store(folder):
    path = manifest(folder, good_rows())
    for name in ("first", "second"):
        import_media(path, folder / name, video_dim=8, word_dim=8, size_px=32)
    assert open_store(folder / "first").fingerprint == open_store(folder / "second").fingerprint


def test_still_pictures_alone_have_no_motion_track(folder):
    rows = [{"id": name, "video": f"a.{name}", "caption": "x", "split": "train"} for name in ("png", "jpg")]
    import_media(manifest(folder, rows), folder / "store", video_dim=8, word_dim=8)
    assert list(open_store(folder / "store").tracks) == ["video_2d", "audio_mel"]


def test_captions_alone_make_a_store(folder):
    rows = [{"id": str(k), "caption": "some words", "split": "train"} for k in range(3)]
    import_media(manifest(folder, rows), folder / "store", word_dim=8)
    assert open_store(folder / "store").modalities == ("text",)


def test_sound_alone_makes_a_store(folder):
    import_media(manifest(folder, [{"id": "a", "audio": "a.flac", "split": "train"}]), folder / "store")
    assert open_store(folder / "store").modalities == ("audio",)


def test_broken_files_are_listed_and_rows_keep_the_rest(folder):
    rows = [
        {"id": "good", "video": "a.mp4", "caption": "fish", "split": "train"},
        {"id": "seen", "video": "garbage.mp4", "caption": "fish", "split": "train"},
        {"id": "cut", "video": "cut.mp4", "split": "train"},
        {"id": "zero", "audio": "zero.wav", "split": "train"},
        {"id": "frames", "video": "none.npy", "fps": "5", "split": "train"},
        {"id": "heard", "video": "a.mp4", "audio": "garbage.wav", "split": "train"},
        {"id": "gone", "audio": "gone.wav", "caption": "", "split": "val"},
        {"id": "nothing", "split": "val"},
        {"id": "unknown", "caption": "meat", "split": "val"},
    ]
    report = import_media(manifest(folder, rows), folder / "store", video_dim=8, word_dim=8)
    store = open_store(folder / "store")
    assert [recording.id for recording in store] == ["good", "seen", "heard"]
    assert {id_ for ids in report.lost.values() for id_ in ids} == {"seen", "heard"}
    assert report.dropped["audio: no samples"] == ["zero"]
    assert report.dropped["audio: no such file"] == ["gone"]
    assert report.dropped["no video, audio or caption"] == ["nothing"]
    assert report.dropped["text: no word of the caption has a vector"] == ["unknown"]
    assert sum(map(len, report.dropped.values())) == 6
    assert store.import_report == json.loads(json.dumps(report.as_dict()))
    assert report.lines()[0] == "3 clips kept, 6 dropped"


def test_a_manifest_of_which_nothing_is_left_is_refused_and_writes_nothing(folder):
    path = manifest(folder, [{"id": "a", "audio": "zero.wav", "split": "train"}])
    with pytest.raises(DataError, match="nothing in it can be used; 1 dropped: audio: no samples: 'a'"):
        import_media(path, folder / "store")
    assert not (folder / "store").exists()


def test_a_column_that_fails_alike_in_every_row_is_a_mistake_of_the_manifest(folder):
    row = {"video": "f.npz#frames[0]", "caption": "a bell", "split": "train"}
    path = manifest(folder, [{"id": str(number), **row} for number in range(12)])
    with pytest.raises(DataError, match=r"column video: none of its 12 entries can be read: .* column fps"):
        import_media(path, folder / "store")
    assert not (folder / "store").exists()


def test_an_endless_caption_is_cut_and_counted(folder):
    rows = [{"id": id_, "caption": text, "split": "train"} for id_, text in (("long", "word " * 20_000), ("b", "a"))]
    report = import_media(manifest(folder, rows), folder / "store", word_dim=8)
    assert len(open_store(folder / "store")[0].clips[0].caption) == 10_000
    assert "1 captions cut at 10000 characters: long" in report.notes


def test_rows_of_one_recording_become_its_clips(folder):
    header = (*HEADER, "recording")
    rows = [
        {"id": "x1", "recording": "x", "video": "a.mp4", "start": "0", "end": "0.7", "caption": "a", "split": "train"},
        {"id": "x2", "recording": "x", "video": "a.mp4", "start": "1", "end": "2", "caption": "b", "split": "train"},
        {"id": "x3", "recording": "x", "caption": "a b", "split": "train"},
    ]
    import_media(manifest(folder, rows, header=header), folder / "store", video_dim=8, word_dim=8)
    store = open_store(folder / "store")
    assert len(store) == 1
    assert store.clips()["has_video"].tolist() == [True, True, False]
    assert store.clips()["has_text"].all()
    first, second, _ = store[0].clips
    assert first.start_s == 0
    assert second.start_s > first.end_s
    assert second.end_s - second.start_s == pytest.approx(1.0, abs=0.02)
    assert [row["id"] for row in store[0].media["clips"]] == ["x1", "x2", "x3"]


def test_calibration_never_sees_val(folder):
    rows = good_rows()[:3]
    changed = [*rows, {"id": "v", "video": "f.npz#frames[3]", "fps": "10", "split": "val"}]
    import_media(manifest(folder, rows), folder / "first", video_dim=8, word_dim=8)
    import_media(manifest(folder, changed), folder / "second", video_dim=8, word_dim=8)
    first, second = (open_store(folder / name).calibration for name in ("first", "second"))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_names_in_the_manifest_never_become_paths(folder):
    rows = [{"id": "../../escape", "audio": "a.flac", "split": "../up"}]
    import_media(manifest(folder, rows), folder / "store", word_dim=8)
    assert open_store(folder / "store")[0].id == "../../escape"
    assert not list(folder.parent.glob("escape*"))


def test_progress_reaches_its_total(folder):
    seen = []
    import_media(
        manifest(folder, good_rows()), folder / "store", video_dim=8, word_dim=8, progress=lambda *at: seen.append(at)
    )
    assert seen[-1] == (9, 9)  # 3 train pictures to calibrate on, then 6 rows
    assert seen == sorted(seen)


def test_clips_on_one_timeline_begin_on_whole_rows_with_a_row_of_rest_between():
    tracks = (Track("video_2d", "video", 1, 6.25), Track("audio_mel", "audio", 1, 100.0))
    clips = [
        {"video_2d": np.full((3, 1), 1.0), "audio_mel": np.full((41, 1), -5.0)},
        {"video_2d": np.full((2, 1), 2.0)},
    ]
    joined, starts_s = on_one_timeline(clips, [0.4, 0.32], tracks)
    assert starts_s == pytest.approx([0.0, 0.64])
    np.testing.assert_array_equal(joined["video_2d"].ravel(), [1, 1, 1, 1, 2, 2, 2])
    assert joined["audio_mel"].shape == (64 + 48, 1)
    assert (joined["audio_mel"][64:] == -80).all()


def test_more_media_go_through_the_extraction_of_an_earlier_store(folder):
    path = manifest(folder, good_rows())
    import_media(path, folder / "first", video_dim=8, word_dim=8, size_px=32, frames_per_s=10.0)
    one = manifest(folder, [{"id": "new", "video": "a.mp4", "caption": "fry meat", "split": "test"}], name="one.csv")
    import_media(one, folder / "second", like=folder / "first")
    first, second = open_store(folder / "first"), open_store(folder / "second")
    for name, rows in first[0].tracks.items():
        np.testing.assert_array_equal(second[0].tracks[name], rows)
    assert second.word_vectors.words == first.word_vectors.words
    assert second.info["visual"] == first.info["visual"]


def test_lines_in_front_of_the_header_are_comments_and_count_as_rows(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text('# a "comment, with, commas\n#\nid,caption\n#1,red ball\n2,"blue\ncube"\n', encoding="utf-8")
    assert [row.id for row in read_media_manifest(path).rows] == ["#1", "2"]
    path.write_text("# one\n# two\nid,caption\n1,red\n1,blue\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 5: id: '1' stands in row 4 already"):
        read_media_manifest(path)
    path.write_text("# nothing else\n", encoding="utf-8")
    with pytest.raises(DataError, match="no rows"):
        read_media_manifest(path)


def test_where_a_missing_file_was_looked_for_is_said(tmp_path):
    path = tmp_path / "clips.csv"
    soundfile.write(tmp_path / "b.wav", np.zeros(8000), 16_000)
    path.write_text("id,audio,caption,split\n1,sounds/a.wav,red ball,train\n2,b.wav,blue cube,val\n", encoding="utf-8")
    report = import_media(path, tmp_path / "store")
    assert any(str(tmp_path / "sounds" / "a.wav") in note for note in report.notes)
    path.write_text("id,caption\n1,red ball\n2,blue cube\n", encoding="utf-8")
    assert not any("no such file" in note for note in import_media(path, tmp_path / "another").notes)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("id,audio,caption\n1,a.wav,red ball\n", r"row 2: audio: no such file: 'a\.wav', .*it is the only one"),
        ("# one\nid,video,caption\n1,,red\n2,x.mp4,blue\n3,y.npz#f[0],red\n", "row 4: video: .* none of the 2 files"),
        ("id,video,audio\n1,,b.wav\n2,x.mp4,b.wav\n3,y.mp4,b.wav\n", "row 3: video: no such file: 'x.mp4'"),
    ],
)
def test_a_manifest_of_which_no_file_is_there_is_refused_however_small(table, said, tmp_path):
    soundfile.write(tmp_path / "b.wav", np.zeros(8000), 16_000)
    path = tmp_path / "clips.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(DataError, match=rf"clips\.csv: {said}.* type the same command again"):
        import_media(path, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    path.write_text("id,video,audio\n1,,b.wav\n2,x.mp4,b.wav\n", encoding="utf-8")  # one of its own, beside sounds
    assert import_media(path, tmp_path / "store").lost == {"video: no such file": ["2"]}


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["ffconcat", "m3u8", "sdp"],
)
def test_a_list_of_other_files_in_the_place_of_a_video_is_not_followed(playlist, tmp_path):
    write_video(tmp_path / "other.mp4")
    (tmp_path / "v.mp4").write_text(playlist, encoding="utf-8")
    with pytest.raises(DataError, match="cannot be decoded"):
        picture(tmp_path, "v.mp4")


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov", "v.avi", "v.mpg", "v.flv", "v.m4v"])
def test_every_kind_of_video_is_read(name, tmp_path):
    write_video(tmp_path / name, codec="mpeg1video" if name == "v.mpg" else "flv1" if name == "v.flv" else "mpeg4",
                fps=25, seconds=1.0, sound=False)  # fmt: skip
    assert len(picture(tmp_path, name).frames) >= 8


def test_a_video_of_huge_frames_is_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "v.mp4", seconds=1.0, sound=False)
    assert len(picture(tmp_path, "v.mp4").frames) == 10
    monkeypatch.setattr("mcnlab.data.media_files.MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(DataError, match="frames of 64 × 48 pixels"):
        picture(tmp_path, "v.mp4")
    monkeypatch.setattr("mcnlab.data.media_files._refuse_huge", lambda width, height: None)  # as if its header lied
    with pytest.raises(DataError, match="cannot be decoded"):
        picture(tmp_path, "v.mp4")
