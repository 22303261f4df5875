"""HowTo100M: every published layout is read, and what is broken costs only itself and is counted."""

import importlib.util
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mcnlab.cli import main
from mcnlab.data.importers.howto100m import import_howto100m
from mcnlab.data.importers.howto100m_captions import checked_captions, open_captions
from mcnlab.data.importers.howto100m_list import read_video_list, split_by_hash
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment import run_experiment
from tests.howto100m_files import DIM, captions_of, video_arrays, write_howto100m, write_words
from tests.mini_study import BASE

SHARED = Path(__file__).parents[2] / "shared" / "data"


def bring_in(folder, **changes):
    """Import the data set of a folder."""
    how = {
        "features": folder / "features",
        "captions": folder / "caption.json",
        "words": folder / "words.bin",
        "val_share": 0.3,
    }
    return import_howto100m(folder / "list.csv", folder / "store", **(how | changes))


def stored(folder):
    """Id to recording."""
    store = open_store(folder / "store")
    return {store[row].id: store[row] for row in range(len(store))}


@pytest.fixture
def folder(tmp_path):
    write_howto100m(tmp_path, 6)
    return tmp_path


def files_of(folder, id_):
    """The folder of a video's features."""
    return next((folder / "features").rglob(f"{id_}_2d.npz")).parent


def test_features_and_captions_arrive_unchanged(folder):
    ids = read_video_list(folder / "list.csv").videos
    report = bring_in(folder)
    recordings = stored(folder)
    assert [video.id for video in ids] == list(recordings)
    assert (report.dropped, report.lost) == ({}, {})
    for number, one in enumerate(recordings.values()):
        two, three, mel = video_arrays(number)
        np.testing.assert_array_equal(one.tracks["video_2d"], two)
        np.testing.assert_array_equal(one.tracks["video_3d"], three)
        np.testing.assert_array_equal(one.tracks["audio_mel"], mel.T)
        wanted = captions_of(number)
        assert [clip.start_s for clip in one.clips] == wanted["start"]
        assert [clip.end_s for clip in one.clips] == wanted["end"]
        assert [clip.caption for clip in one.clips] == wanted["text"]
    assert open_store(folder / "store").verify() == []


def as_short_path(folder, id_):
    """`{path}_2d.npz`."""
    own = files_of(folder, id_)
    for ending in ("2d", "3d", "spec"):
        shutil.move(own / f"{id_}_{ending}.npz", own.with_name(f"{id_}_{ending}.npz"))


def as_bare_3d(folder, id_):
    """3D in `{id}.npz`."""
    own = files_of(folder, id_)
    shutil.move(own / f"{id_}_3d.npz", own / f"{id_}.npz")


def as_npy(folder, id_):
    """Plain npy files, and float32."""
    own = files_of(folder, id_)
    for ending, name in (("2d", "features"), ("3d", "features"), ("spec", "arr_0")):
        array = np.load(own / f"{id_}_{ending}.npz")[name]
        np.save(own / f"{id_}_{ending}.npy", array.astype(np.float32))
        (own / f"{id_}_{ending}.npz").unlink()


def as_tensors(folder, id_):
    """Tensors saved by torch."""
    own = files_of(folder, id_)
    for ending in ("2d", "3d"):
        array = np.load(own / f"{id_}_{ending}.npz")["features"]
        torch.save(torch.from_numpy(array), own / f"{id_}_{ending}.pth")
        (own / f"{id_}_{ending}.npz").unlink()


def as_compressed(folder, id_):
    """Compressed archives."""
    own = files_of(folder, id_)
    for ending in ("2d", "3d"):
        array = np.load(own / f"{id_}_{ending}.npz")["features"]
        np.savez_compressed(own / f"{id_}_{ending}.npz", features=array)


@pytest.mark.parametrize("layout", [as_short_path, as_bare_3d, as_npy, as_tensors, as_compressed])
def test_every_published_layout_gives_the_same_numbers(folder, layout):
    ids = [video.id for video in read_video_list(folder / "list.csv").videos]
    for id_ in ids:
        layout(folder, id_)
    report = bring_in(folder)
    assert (report.dropped, report.lost) == ({}, {})
    for number, one in enumerate(stored(folder).values()):
        for rows, wanted in zip(one.tracks.values(), video_arrays(number), strict=True):
            np.testing.assert_array_equal(rows, wanted if wanted.shape[1] == DIM else wanted.T)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("path\nfood/video_1/abc\nNone/food/-d_\n", ["abc", "-d_"]),
        ("video_path\nabc.mp4\nfood/def.webm\n", ["abc", "def"]),
        ("abc\n\ndef\n", ["abc", "def"]),
        ("extra,path\n1,food/abc\n2,def\n", ["abc", "def"]),
        ("path\nnan\n00000000012\n", ["nan", "00000000012"]),
    ],
)
def test_lists_are_read_leniently(tmp_path, text, ids):
    (tmp_path / "list.csv").write_text(text)
    listed = read_video_list(tmp_path / "list.csv")
    assert [video.id for video in listed.videos] == ids
    assert listed.refused == ()


def test_impossible_ids_are_refused_one_by_one(tmp_path):
    (tmp_path / "list.csv").write_text('path\nabc\n../abd\n/etc/abe\na.b\n""\nfood/abc\na b\n..\n')
    listed = read_video_list(tmp_path / "list.csv")
    assert [video.id for video in listed.videos] == ["abc"]
    assert {row: reason for reason, row in listed.refused} == {
        "../abd": "a path that leaves the folder",
        "/etc/abe": "a path that leaves the folder",
        "a.b": "an id with other characters than letters, digits, - and _",
        "": "an empty id",
        "food/abc": "the id stands in the list before",
        "a b": "an id with other characters than letters, digits, - and _",
        "..": "a path that leaves the folder",
    }


def test_files_that_the_list_names_are_taken(folder):
    rows = ["path,feature_2d_path"]
    for video in read_video_list(folder / "list.csv").videos:
        np.save(folder / "features" / f"{video.id}.own.npy", np.full((40, DIM), 0.5, np.float16))
        rows.append(f"{video.path},{video.id}.own.npy")
    (folder / "list.csv").write_text("\n".join(rows))
    bring_in(folder)
    assert all((one.tracks["video_2d"] == 0.5).all() for one in stored(folder).values())


def test_captions_may_lie_in_one_csv_per_video(folder):
    (folder / "captions").mkdir()
    for id_, captions in json.loads((folder / "caption.json").read_text()).items():
        lines = [f"{s},{e},{t}" for s, e, t in zip(*captions.values(), strict=True)]
        (folder / "captions" / f"{id_}.csv").write_text("\n".join(["start,end,text", *lines]))
    bring_in(folder, captions=folder / "captions")
    wanted = [captions_of(number)["text"] for number in range(6)]
    assert [[clip.caption for clip in one.clips] for one in stored(folder).values()] == wanted


def test_captions_may_lie_in_a_pickle(folder):
    if importlib.util.find_spec("mcnlab.data.importers.unpickling") is None:
        pytest.skip("the reader of published pickles is not part of this version")
    captions = json.loads((folder / "caption.json").read_text())
    captions = {id_: {name: np.array(values) for name, values in one.items()} for id_, one in captions.items()}
    captions = {id_: {**one, "text": one["text"].tolist()} for id_, one in captions.items()}
    (folder / "caption.pickle").write_bytes(pickle.dumps(captions))
    bring_in(folder, captions=folder / "caption.pickle")
    assert [len(one.clips) for one in stored(folder).values()] == [len(captions_of(n)["text"]) for n in range(6)]


def truncated(own, id_):
    path = own / f"{id_}_2d.npz"
    path.write_bytes(path.read_bytes()[:-200])


def flipped(own, id_):
    path = own / f"{id_}_2d.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def objects(own, id_):
    np.savez(own / f"{id_}_2d.npz", features=np.array([{"a": 1}], dtype=object))


def narrow(own, id_):
    np.savez(own / f"{id_}_2d.npz", features=np.zeros((40, DIM - 1), np.float16))


def not_a_number(own, id_):
    np.savez(own / f"{id_}_2d.npz", features=np.full((40, DIM), np.nan, np.float16))


def too_large(own, id_):
    np.savez(own / f"{id_}_2d.npz", features=np.full((40, DIM), 1e6, np.float32))


def no_rows(own, id_):
    np.savez(own / f"{id_}_2d.npz", features=np.zeros((0, DIM), np.float16))


def short_sound(own, id_):
    np.savez(own / f"{id_}_spec.npz", arr_0=np.zeros((40, 1000), np.float16))


def no_sound(own, id_):
    (own / f"{id_}_spec.npz").unlink()


@pytest.mark.parametrize(
    ("fault", "track", "reason"),
    [
        (truncated, "video_2d", "video_2d: array 'features' cannot be read"),
        (flipped, "video_2d", "its content does not fit its checksum"),
        (objects, "video_2d", "it holds Python objects"),
        (narrow, "video_2d", "video_2d: is of shape (…, 11), expected (rows, 12)"),
        (not_a_number, "video_2d", "video_2d: holds values that are not finite in float16"),
        (too_large, "video_2d", "video_2d: holds values that are not finite in float16"),
        (no_rows, "video_2d", "video_2d: "),
        (short_sound, "audio_mel", "audio_mel does not last as long as the other features"),
        (no_sound, "audio_mel", "no audio_mel"),
    ],
)
def test_a_bad_file_costs_its_video_that_track(folder, fault, track, reason):
    ids = [video.id for video in read_video_list(folder / "list.csv").videos]
    for id_ in ids[2:4]:
        fault(files_of(folder, id_), id_)
    report = bring_in(folder)
    (found, culprits), *others = report.lost.items()
    assert (others, report.dropped) == ([], {})
    assert reason in found
    assert culprits == ids[2:4]  # counted under one reason
    recordings = stored(folder)
    assert [id_ for id_ in ids if track not in recordings[id_].tracks] == ids[2:4]


def test_videos_that_are_gone_are_counted(folder):
    ids = [video.id for video in read_video_list(folder / "list.csv").videos]
    for id_ in ids[1:3]:
        shutil.rmtree(files_of(folder, id_))
    report = bring_in(folder)
    assert report.dropped == {"no features": ids[1:3]}
    assert list(stored(folder)) == [ids[0], *ids[3:]]


BAD_CAPTIONS = {
    "captions whose end is not after their start": {"start": [1, 5, 9], "end": [4, 5, 8], "text": ["fry"] * 3},
    "captions without a time": {"start": [1, -1, None, "x"], "end": [4, 5, 8, 9], "text": ["fry"] * 4},
    "captions whose text is no text": {"start": [1], "end": [4], "text": [None]},
    "captions that were not in time order": {"start": [9, 1], "end": [12, 4], "text": ["fry", "stir"]},
    "captions after the end of the features": {"start": [1, 70], "end": [4, 80], "text": ["fry", "stir"]},
    "captions that were cut, being too long": {"start": [1], "end": [4], "text": ["fry " * 5000]},
}


@pytest.mark.parametrize("reason", BAD_CAPTIONS)
def test_a_bad_caption_costs_only_itself(folder, reason):
    captions = json.loads((folder / "caption.json").read_text())
    culprit = list(captions)[1]
    captions[culprit] = BAD_CAPTIONS[reason]
    (folder / "caption.json").write_text(json.dumps(captions))
    report = bring_in(folder)
    assert report.lost == {reason: [culprit]}
    clips = stored(folder)[culprit].clips
    assert clips[0].start_s == 1.0
    assert all(clip.missing == (("video", "audio") if clip.start_s == 70 else ()) for clip in clips)


@pytest.mark.parametrize(
    ("captions", "reason"),
    [
        ({"start": [1, 2], "end": [3], "text": ["a", "b"]}, "captions with unequal numbers of starts, ends and texts"),
        ({"start": [1]}, "captions without readable start, end and text"),
        ("nonsense", "captions without readable start, end and text"),
        ({"start": [], "end": [], "text": []}, "no captions"),
        (None, "no captions"),
    ],
)
def test_a_video_without_usable_captions_is_dropped(folder, captions, reason):
    known = json.loads((folder / "caption.json").read_text())
    culprit = list(known)[1]
    known[culprit] = captions
    (folder / "caption.json").write_text(json.dumps(known))
    assert bring_in(folder).dropped == {reason: [culprit]}


def test_captions_of_other_videos_and_repeated_ids_are_noted(folder):
    text = (folder / "caption.json").read_text()
    first = next(iter(json.loads(text)))
    more = ', "other": {"start": [1], "end": [2], "text": ["fry"]}, ' + f'"{first}": {{"start": [], "end": []}}}}'
    (folder / "caption.json").write_text(text[:-1] + more)
    notes = bring_in(folder).notes
    assert "1 videos have captions but are not in the list" in notes
    assert "1 names stand twice in caption.json; the first counts" in notes


def test_words_without_a_vector_are_counted(folder):
    write_words(folder / "words.bin", ["fry", "stir"])
    assert "6 of 8 different words of the captions have no vector" in bring_in(folder).notes


def no_folder(folder):
    return {"features": folder / "nowhere"}


def empty_folder(folder):
    (folder / "empty").mkdir()
    return {"features": folder / "empty"}


def foreign_captions(folder):
    (folder / "caption.json").write_text(json.dumps({"another": captions_of(0)}))
    return {}


def captions_as_list(folder):
    (folder / "caption.json").write_text("[]")
    return {}


def foreign_words(folder):
    write_words(folder / "words.bin", ["nothing"])
    return {}


def other_table(folder):
    (folder / "list.csv").write_text("start,end,text\n1,2,a\n")
    return {}


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (no_folder, "nowhere: no such folder of features"),
        (empty_folder, "empty: no usable features of 6 listed videos"),
        (foreign_captions, "caption.json: no captions of any of 6 listed videos"),
        (captions_as_list, "caption.json: expected a mapping from ids to captions, got list"),
        (foreign_words, "words.bin: knows none of the 8 words"),
        (other_table, "list.csv: none of the columns path, video_path"),
        (lambda folder: {"rate_3d_hz": 24.0}, "do not last equally long (video_2d 40 s, video_3d 2 s"),
    ],
)
def test_what_is_wrong_as_a_whole_is_said_before_work_starts(folder, break_it, message):
    with pytest.raises(DataError) as caught:
        bring_in(folder, **break_it(folder))
    assert message in str(caught.value)
    assert not (folder / "store").exists()


@pytest.mark.parametrize("changes", [{"val_share": 1.0}, {"val_share": -0.1}, {"rate_2d_hz": 0.0}])
def test_impossible_numbers_are_refused(folder, changes):
    with pytest.raises(ConfigError, match="val_share"):
        bring_in(folder, **changes)


def test_held_out_videos_become_val(folder):
    ids = [video.id for video in read_video_list(folder / "list.csv").videos]
    (folder / "held.txt").write_text("\n".join(ids[:2]))
    bring_in(folder, held_out=folder / "held.txt")
    assert [id_ for id_, one in stored(folder).items() if one.split == "val"] == ids[:2]


def test_a_share_of_all_ids_becomes_val():
    splits = [split_by_hash(f"video{number}", 0.2) for number in range(2000)]
    assert splits.count("val") == pytest.approx(400, abs=80)  # four standard deviations


def test_an_imported_store_trains_and_is_evaluated(folder):
    bring_in(folder, val_share=0.5)
    settings = {
        **BASE,
        "experiment": "tiny",
        "stages": "VAT",
        "data": {"store": "store"},
        "training": {**BASE["training"], "epochs": 1},
        "evaluation": {"tasks": ["retrieval", "geometry"]},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    run = run_experiment(folder / "tiny.yaml", folder / "run")
    assert run.finished
    assert any(row["task"] == "retrieval" for row in json.loads((folder / "run" / "results.json").read_text())["rows"])


def test_the_command_imports_and_says_what_it_left_out(folder, capsys):
    ids = [video.id for video in read_video_list(folder / "list.csv").videos]
    shutil.rmtree(files_of(folder, ids[4]))
    words = f"import howto100m {folder}/list.csv --features {folder}/features --captions {folder}/caption.json"
    assert main([*words.split(), "--text", f"{folder}/words.bin", "--out", f"{folder}/store"]) == 0
    assert f"1 dropped: no features: '{ids[4]}'" in capsys.readouterr().err
    assert main(["import", "howto100m", "--help"]) == 0
    assert "Example: mcnlab import howto100m" in capsys.readouterr().out


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real annotation files are not beside the checkout")
def test_real_lists_and_captions_are_read_without_complaint():
    lists = SHARED / "annotations" / "howto100m"
    small, held = (read_video_list(lists / name) for name in ("small_howto100m_videos.csv", "htm_holdout_vid.txt"))
    assert (len(small.videos), len(held.videos)) == (5, 1000)
    assert small.refused == held.refused == ()
    assert {len(video.id) for video in (*small.videos, *held.videos)} == {11}
    for name, videos in (("long_captions.json", 4), ("word_captions.json", 250)):
        captions = open_captions(SHARED / "clips" / name)
        assert (len(captions.known), captions.twice) == (videos, ())
        assert all(checked_captions(one).problems == () for one in captions.known.values())


def test_an_import_without_a_validation_split_says_so(tmp_path):
    write_howto100m(tmp_path)
    assert "no video became val: name some with held_out, or raise val_share" in bring_in(tmp_path, val_share=0.0).notes
    (tmp_path / "store").rename(tmp_path / "first")
    split = bring_in(tmp_path, val_share=0.5)
    assert not any("became val" in note for note in split.notes)
