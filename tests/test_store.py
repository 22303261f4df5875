"""Stores: what goes in comes out, and what is broken is named."""

import json
import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from mcnlab.data.arrays import to_float16
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store import describe, open_store
from mcnlab.data.store_writer import StoreWriter
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError, StorageError
from tests.memory_peak import grown_kb

TRACKS = (Track("video_2d", "video", 6, 5.0), Track("audio_mel", "audio", 40, 100.0))
WORDS = WordVectors(("fry", "stir"), np.eye(2, dtype=np.float32), "two words")


def recording(number, *, video=True, **changes):
    random = np.random.default_rng(number)
    tracks = {"audio_mel": random.normal(size=(200, 40))}
    if video:
        tracks["video_2d"] = random.normal(size=(10, 6))
    clips = (
        Clip(0.0, 1.0, "fry it", "hot", {"va.rate": 1.5 + number, "command": "go"}),
        Clip(1.0, 2.0, "", None, {"command": "stop"}, missing=("audio",)),
    )
    pictures = random.integers(0, 255, (2, 4, 5, 3)).astype(np.uint8) if video else None
    values = {
        "id": f"rec {number}",
        "split": "train" if number < 3 else "val",
        "duration_s": 2.0,
        "tracks": tracks,
        "clips": clips,
        "media": {"file": "a.mp4"},
        "thumbnails": pictures,
    }
    return Recording(**(values | changes))


def write(path, recordings, **changes):
    with StoreWriter(path, name="demo", tracks=TRACKS, words=WORDS, **changes) as writer:
        for one in recordings:
            writer.add(one)
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "store", [recording(k, video=k != 1) for k in range(5)], shard_bytes=30_000)


def test_what_goes_in_comes_out(path):
    store, wanted = open_store(path), recording(3)
    one = store[3]
    assert len(store) == 5
    assert one.clips == wanted.clips
    assert (one.id, one.split, one.duration_s, one.media) == ("rec 3", "val", 2.0, {"file": "a.mp4"})
    for name, rows in wanted.tracks.items():
        np.testing.assert_array_equal(one.tracks[name], rows.astype(np.float16))


def test_several_shards_are_written_when_they_fill_up(path):
    assert len(list((path / "shards").iterdir())) > 1


def test_a_missing_track_has_no_key(path):
    assert set(open_store(path)[1].tracks) == {"audio_mel"}


def test_tracks_are_memory_mapped_and_read_only(path):
    rows = open_store(path)[0].tracks["audio_mel"]
    assert isinstance(rows, np.memmap)
    assert not rows.flags.writeable


def test_the_clip_table_has_one_row_per_clip(path):
    store = open_store(path)
    table = store.clips("val")
    assert list(table["id"]) == ["rec 3:0", "rec 3:1", "rec 4:0", "rec 4:1"]
    assert list(table.index) == [6, 7, 8, 9]
    assert list(table["has_audio"]) == [True, False] * 2
    assert list(table["has_text"]) == [True, False] * 2
    assert list(store.clips()["has_video"][:4]) == [True, True, False, False]
    assert table["factor:va.rate"].tolist()[0] == 4.5
    assert table["label"].tolist() == ["hot", None, "hot", None]


def test_splits_labels_factors_and_modalities_are_listed(path):
    store = open_store(path)
    assert store.splits == {"train": 6, "val": 4}
    assert store.labels == ("hot",)
    assert store.factors == ("va.rate", "command")
    assert store.modalities == ("video", "audio", "text")


def test_a_caption_of_unknown_words_is_no_text(tmp_path):
    clip = Clip(0.0, 1.0, "boil it")
    store = open_store(write(tmp_path / "store", [recording(0, clips=(clip,), thumbnails=None)]))
    assert store.modalities == ("video", "audio")
    assert store[0].clips[0].caption == "boil it"


def test_thumbnails_come_back_where_there_are_any(path):
    store = open_store(path)
    np.testing.assert_array_equal(store.thumbnail(1), recording(0).thumbnails[1])
    assert store.thumbnail(2) is None


def test_a_store_without_pictures_has_no_thumbnails(tmp_path):
    path = write(tmp_path / "store", [recording(0, video=False)])
    assert open_store(path).thumbnail(0) is None
    assert not (path / "thumbnails.safetensors").exists()


def test_the_first_picture_may_come_late(tmp_path):
    store = open_store(write(tmp_path / "store", [recording(0, video=False), recording(1)]))
    assert store.thumbnail(0) is None
    np.testing.assert_array_equal(store.thumbnail(3), recording(1).thumbnails[1])


def test_a_store_travels_to_another_process_by_its_path(path):
    store = pickle.loads(pickle.dumps(open_store(path)))
    assert store[0].id == "rec 0"


def test_a_store_can_be_read_by_whom_the_umask_allows(path):
    plain = (path / "store.json").stat().st_mode
    assert {file.name for file in path.rglob("*") if file.is_file() and file.stat().st_mode != plain} == set()


def test_the_fingerprint_is_that_of_the_content(path, tmp_path):
    again = write(tmp_path / "again", [recording(k, video=k != 1) for k in range(5)], shard_bytes=30_000)
    other = write(tmp_path / "other", [recording(k, video=k != 1, duration_s=3.0) for k in range(5)])
    moved = write(tmp_path / "moved", [recording(k, video=k != 1, media={}) for k in range(5)], shard_bytes=30_000)
    fingerprint = open_store(path).fingerprint
    assert open_store(again).fingerprint == fingerprint
    assert open_store(moved).fingerprint == fingerprint
    assert open_store(other).fingerprint != fingerprint


def test_a_window_takes_the_rows_that_it_covers():
    track = Track("x", "video", 1, 6.25)
    assert track.window(0.0, 1.92, 12) == slice(0, 12)
    assert track.window(0.48, 0.96, 12) == slice(3, 6)
    assert track.window(0.5, 0.51, 12) == slice(3, 4)
    assert track.window(50.0, 60.0, 12) == slice(11, 12)


def test_description_counts_what_is_missing(path):
    facts = describe(open_store(path))
    assert facts["splits"]["train"] == {"clips": 6, "without_video": 2, "without_audio": 3, "without_text": 3}
    assert facts["tracks"]["video_2d"]["dim"] == 6
    assert facts["factors"]["command"] == {"kind": "categorical", "clips": 10, "categories": 2}
    assert facts["checksums"] == "as recorded"
    json.dumps(facts)


def test_verify_finds_one_changed_byte(path):
    shard = path / "shards" / "00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert open_store(path).verify() == ["shards/00000.safetensors: its content has changed (sha256 differs)"]


@pytest.mark.parametrize(
    "name", ["store.json", "manifest.parquet", "shards/00000.safetensors", "words.safetensors", "words.json"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_file_is_named(path, name, damage):
    file = path / name
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        open_store(path)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no store\.json"):
        open_store(tmp_path)
    with pytest.raises(DataError, match="no such store"):
        open_store(tmp_path / "nowhere")


def test_an_unknown_split_is_answered_with_the_known_ones(path):
    with pytest.raises(DataError, match=r"'test'.*train, val"):
        open_store(path).clips("test")


def test_a_store_without_recordings_is_not_written(tmp_path):
    with pytest.raises(DataError, match="no recording"):
        write(tmp_path / "store", [])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_store_is_not_overwritten(path):
    with pytest.raises(StorageError, match="exists already"):
        write(path, [recording(0)])
    assert len(open_store(path)) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "unique and not empty"),
        ({"split": ""}, "no split"),
        ({"clips": ()}, "no clips"),
        ({"duration_s": 0.0}, r"duration 0\.0 s"),
        ({"clips": (Clip(1.0, 1.0),)}, r"a clip from 1\.0 to 1\.0 s"),
        ({"clips": (Clip(0.0, 9.0),)}, r"to 9\.0 s in 2\.0 s"),
        ({"tracks": {"audio_mel": np.zeros((3, 39))}}, r"audio_mel has shape \(3, 39\), expected \(rows, 40\)"),
        ({"tracks": {"audio_mel": np.full((3, 40), np.nan)}}, "not finite in float16"),
        ({"tracks": {"audio_mel": np.full((3, 40), 1e6)}}, "not finite in float16"),
        ({"tracks": {"smell": np.zeros((3, 40))}}, "unknown track 'smell'"),
        ({"clips": (Clip(0.0, 1.0, factors={"x": float("nan")}),)}, "factor x is nan"),
        ({"thumbnails": np.zeros((1, 4, 5, 3), np.uint8)}, r"thumbnails uint8 \(1, 4, 5, 3\)"),
    ],
)
def test_an_impossible_recording_is_refused_and_nothing_is_left(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "store", [recording(0, **changes)])
    assert list(tmp_path.iterdir()) == []


def test_the_same_id_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"'rec 0'.*unique"):
        write(tmp_path / "store", [recording(0), recording(0)])


def test_a_factor_of_two_kinds_is_refused(tmp_path):
    mixed = (Clip(0.0, 1.0, factors={"x": 1.0}), Clip(1.0, 2.0, factors={"x": "one"}))
    with pytest.raises(DataError, match="factor x is a number in some clips"):
        write(tmp_path / "store", [recording(0, clips=mixed)])


def test_rows_outside_their_shard_are_found(path, tmp_path):
    other = write(tmp_path / "other", [recording(0)])
    shutil.copy(other / "shards" / "00000.safetensors", path / "shards" / "00000.safetensors")
    info = json.loads((path / "store.json").read_text(encoding="utf-8"))
    size = (path / "shards" / "00000.safetensors").stat().st_size
    info["files"]["shards/00000.safetensors"]["bytes"] = size
    (path / "store.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(DataError, match="rec 1: audio_mel rows lie outside the shard"):
        open_store(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_wherever_they_stand(dtype, value):
    for place in (0, 7, 11):
        values = np.linspace(-65504, 65504, 12).astype(dtype).reshape(3, 4)
        np.testing.assert_array_equal(to_float16(values), values.astype(np.float16))
        np.testing.assert_array_equal(to_float16(values.T), values.T.astype(np.float16))
        values.flat[place] = value
        for turned in (values, values.T):
            with pytest.raises(DataError, match="not finite in float16"):
                to_float16(turned)


def test_texts_and_truths_are_no_numbers():
    for values in (np.array(["a"]), np.array([True]), np.array([1j])):
        with pytest.raises(DataError, match="expected plain numbers"):
            to_float16(values)


def many(path, recordings, clips):
    """A store of many recordings without features, quickly written."""
    short = tuple(Clip(float(k), k + 1.0, f"fry it {k}") for k in range(clips))
    common = {"split": "train", "duration_s": float(clips), "tracks": {}, "clips": short}
    with StoreWriter(path, name="many", tracks=TRACKS, words=WORDS) as writer:
        for number in range(recordings):
            writer.add(Recording(id=f"r{number}", media={"number": number}, **common))
    return path


def test_a_manifest_of_several_row_groups_is_read_as_one(tmp_path):
    store = open_store(many(tmp_path / "store", 600, 3))
    assert pq.read_metadata(store.path / "manifest.parquet").num_row_groups == 3
    assert [store[row].id for row in (0, 255, 256, 599)] == ["r0", "r255", "r256", "r599"]
    assert [store.media(row)["number"] for row in (599, 255, 0)] == [599, 255, 0]
    assert list(store.clips()["id"].iloc[[0, 767, 768, 1799]]) == ["r0:0", "r255:2", "r256:0", "r599:2"]
    assert store[599].clips[2] == Clip(2.0, 3.0, "fry it 2")


def test_a_factor_that_appears_late_is_empty_before(tmp_path):
    early = [recording(k, clips=(Clip(0.0, 1.0),), thumbnails=None) for k in range(300)]
    late = recording(300, clips=(Clip(0.0, 1.0, factors={"x": 2.0}),), thumbnails=None)
    store = open_store(write(tmp_path / "store", [*early, late]))
    assert store.clips()["factor:x"].dropna().to_dict() == {300: 2.0}
    text = recording(301, clips=(Clip(0.0, 1.0, factors={"x": "two"}),), thumbnails=None)
    with pytest.raises(DataError, match="factor x is a number in some clips"):
        write(tmp_path / "other", [late, *early, text])


def test_opening_does_not_read_the_clips(tmp_path):
    path = many(tmp_path / "store", 1000, 200)  # 200,000 clips, about 20 MB as columns and 100 MB as objects
    imports = "from mcnlab.data.store import open_store"
    opened = (
        "store = open_store(sys.argv[1])\n"
        "assert [len(store[row].clips) for row in (0, 999)] == [200, 200]\n"
        "assert store.splits == {'train': 200_000}\n"
    )
    assert grown_kb(imports, opened, str(path)) < 60_000
    assert grown_kb(imports, opened + "assert len(store.clips('train')) == 200_000", str(path)) < 120_000
