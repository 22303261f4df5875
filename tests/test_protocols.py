"""Official split files: read as published, refused when wrong, and kept beside the store that is made by them."""

import csv
import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from mcnlab.cli import main
from mcnlab.data.importers.protocol_files import read_listing
from mcnlab.data.importers.protocols import Windows, import_protocol
from mcnlab.data.importers.spectrograms import import_spectrograms
from mcnlab.data.loading import ClipSource, ClipWindow
from mcnlab.data.protocol import FILE, Member, Protocol, check_protocol, clips_of_protocol, read_protocol
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError
from tests.protocol_files import (
    CLASSES,
    PER_CLASS,
    ucf_names,
    write_audioset,
    write_esc50,
    write_features,
    write_hmdb51,
    write_ucf101,
)
from tests.test_media import write_video


def roles(listing, split, role):
    return {clip.id for clip in listing.clips.values() if clip.roles[split] == role}


def test_ucf101_has_its_three_splits(tmp_path):
    found = read_listing("ucf101", write_ucf101(tmp_path / "ucfTrainTestlist").parent)  # found inside of a folder
    assert found.splits == ("1", "2", "3")
    assert found.classes == CLASSES
    for split in range(3):
        expected = {stem for number, (_, stem) in enumerate(ucf_names()) if number % 3 == split}
        assert roles(found, split, "test") == expected
        assert roles(found, split, "train") == {stem for _, stem in ucf_names()} - expected


def test_hmdb51_leaves_out_what_is_marked_so(tmp_path):
    found = read_listing("hmdb51", write_hmdb51(tmp_path))
    assert found.classes == ("clap", "wave")
    assert [len(roles(found, split, "train")) for split in range(3)] == [12, 12, 12]
    assert [len(roles(found, split, "")) for split in range(3)] == [4, 4, 4]
    assert found.clips["take #0 wave"].roles == ["train", "train", "train"]
    assert found.clips["take #0 wave"].labels == ("wave",)


def test_esc50_tests_each_fold_once(tmp_path):
    found = read_listing("esc50", write_esc50(tmp_path))
    assert found.splits == ("1", "2", "3", "4", "5")
    for clip in found.clips.values():
        assert clip.roles == ["test" if str(fold) == clip.id[0] else "train" for fold in range(1, 6)]


def test_audioset_clips_have_several_labels_by_name(tmp_path):
    told = write_audioset(tmp_path)
    found = read_listing("audioset", tmp_path)
    assert found.multi_label
    assert {id_: clip.labels for id_, clip in found.clips.items()} == {id_: labels for labels, id_ in told}
    assert found.clips["-e000_xyzab"].roles == ["test"]
    assert found.clips["-b000_xyzab"].roles == ["train"]
    assert "-b007_xyzab_7000_17000" in found.clips["-b007_xyzab"].names


def test_kinetics_takes_the_split_from_its_column_or_the_files_name(tmp_path):
    header = "label,youtube_id,time_start,time_end,split\n"
    (tmp_path / "train.csv").write_text(header + "abseiling,-abc_123,10,20,train\n")
    (tmp_path / "validate.csv").write_text("label,youtube_id,time_start,time_end\nzumba,x,0,10\n")
    (tmp_path / "test.csv").write_text(header + ",hidden,0,10,test\n")
    found = read_listing("kinetics600", tmp_path)
    assert found.classes == ("abseiling", "zumba")
    assert found.clips["-abc_123_000010_000020"].roles == ["train"]
    assert found.clips["x_000000_000010"].roles == ["val"]
    assert len(found.clips) == 2


def test_voc_images_have_several_labels_or_none(tmp_path):
    for label, flags in (("cat", "1 -1 0"), ("dog", "1 -1 1")):
        rows = [f"00000{n} {flag:>2}\n" for n, flag in enumerate(flags.split(), 1)]
        (tmp_path / f"{label}_trainval.txt").write_text("".join(rows[:2]))
        (tmp_path / f"{label}_train.txt").write_text(rows[0])
        (tmp_path / f"{label}_test.txt").write_text(rows[2])
    found = read_listing("voc2007", tmp_path)
    assert {id_: (clip.labels, clip.roles) for id_, clip in found.clips.items()} == {
        "000001": (("cat", "dog"), ["train"]),
        "000002": ((), ["train"]),
        "000003": (("dog",), ["test"]),
    }


@pytest.mark.parametrize(
    ("kind", "file", "line", "said"),
    [
        ("ucf101", "trainlist01.txt", "Archery/v_Archery_g01_c01.avi", "expected CLASS/VIDEO.avi NUMBER"),
        ("ucf101", "trainlist01.txt", "Archery/v_Archery_g01_c09.avi 2", "another class or number"),
        ("ucf101", "testlist01.txt", "Fencing/v_Fencing_g01_c01.avi", "another class or number"),
        ("ucf101", "testlist01.txt", "Archery/v_Archery_g01_c02.avi", "is in test and in train of the same split"),
        ("ucf101", "classInd.txt", "four Fencing", "expected NUMBER CLASS"),
        ("hmdb51", "clap_test_split1.txt", "x.avi 3", "expected VIDEO.avi 0, 1 or 2"),
        ("hmdb51", "wave_test_split1.txt", "take #0 clap.avi 1", "is 'wave' here, but 'clap' before"),
        ("audioset", "eval_segments.csv", 'abc, 0.0, 10.0, "/m/9"', "has no label '/m/9'"),
        ("audioset", "eval_segments.csv", "abc, 0.0, 10.0", "expected YTID, start, end"),
        ("audioset", "eval_segments.csv", 'abc, zero, 10.0, "/m/1"', "expected seconds, got 'zero'"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path, kind, file, line, said):
    {"ucf101": write_ucf101, "hmdb51": write_hmdb51, "audioset": write_audioset}[kind](tmp_path)
    with (tmp_path / file).open("a") as more:
        more.write(line + "\n")
    with pytest.raises(DataError, match=said) as caught:
        read_listing(kind, tmp_path)
    assert file in str(caught.value)


def test_what_is_no_split_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"expected one of ucf101, .*got 'ucf'"):
        read_listing("ucf", tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        read_listing("ucf101", tmp_path / "none")
    for kind, said in (
        ("ucf101", "classInd"),
        ("hmdb51", "split1"),
        ("esc50", "esc50.csv"),
        ("folders", "train/CLASS"),
    ):
        with pytest.raises(DataError, match=said):
            read_listing(kind, tmp_path)


def test_a_protocol_that_measures_nothing_is_refused(tmp_path):
    member = Member(("a",), ("train",))
    with pytest.raises(DataError, match="no recording to test"):
        check_protocol(Protocol("x", ("1",), ("a",), {"r": member}), source=tmp_path)
    with pytest.raises(DataError, match="unknown class 'a'"):
        check_protocol(Protocol("x", ("1",), ("b",), {"r": member}), source=tmp_path)
    with pytest.raises(DataError, match="expected one class, got 0"):
        check_protocol(Protocol("x", ("1",), ("a",), {"r": Member((), ("test",))}), source=tmp_path)
    with pytest.raises(DataError, match="a role for each of 2 splits"):
        check_protocol(Protocol("x", ("1", "2"), ("a",), {"r": member}), source=tmp_path)


def test_features_become_a_store_with_labels_splits_and_windows(tmp_path):
    splits, features = write_ucf101(tmp_path / "lists"), write_features(tmp_path / "f", ucf_names(), rows=20)
    report = import_protocol("ucf101", splits, tmp_path / "s", features=features, windows=Windows(10, 3.0))
    store = open_store(tmp_path / "s")
    assert report.store == tmp_path / "s"
    assert store.verify() == []
    assert store.labels == CLASSES
    assert store.splits == {"test": 10 * PER_CLASS, "train": 20 * PER_CLASS}
    clips = clips_of_protocol(store, read_protocol(store))
    first = clips[clips["id"].str.startswith("v_Archery_g01_c01:")]
    assert len(first) == 10
    assert (first["end_s"] - first["start_s"]).round(6).eq(3.0).all()
    assert (first["start_s"].min(), first["end_s"].max()) == (0.0, 20.0)
    assert first["split:1"].unique().tolist() == ["test"]
    assert first["split:2"].unique().tolist() == ["train"]
    assert first["labels"].iloc[0] == ("Archery",)


def test_clips_without_a_file_are_counted_and_the_first_ones_named(tmp_path):
    splits, features = write_ucf101(tmp_path / "lists"), write_features(tmp_path / "f", ucf_names()[7:])
    with pytest.raises(DataError, match=r"7 of 36 clips that .*lists names are not there") as caught:
        import_protocol("ucf101", splits, tmp_path / "s", features=features)
    assert "'v_Archery_g01_c02', 'v_Archery_g02_c01'" in str(caught.value)
    assert str(caught.value).endswith("…")
    assert not (tmp_path / "s").exists()
    report = import_protocol("ucf101", splits, tmp_path / "s", features=features, leave_out=True)
    assert len(report.dropped["no file"]) == 7
    store = open_store(tmp_path / "s")
    assert len(read_protocol(store).members) == 29
    assert len(store.import_report["dropped"]["no file"]) == 7
    assert store.verify() == []


def test_another_split_file_makes_another_store(tmp_path):
    splits, features = write_ucf101(tmp_path / "lists"), write_features(tmp_path / "f", ucf_names())
    made = [open_store(import_protocol("ucf101", splits, tmp_path / "one", features=features).store)]
    for role in ("train", "test"):  # split 3 becomes what split 2 is; split 1, which the manifest shows, stays
        (splits / f"{role}list03.txt").write_text((splits / f"{role}list02.txt").read_text())
    made.append(open_store(import_protocol("ucf101", splits, tmp_path / "two", features=features).store))
    assert made[0].fingerprint != made[1].fingerprint


def test_a_protocol_that_was_changed_by_hand_is_noticed(tmp_path):
    store = import_protocol(
        "ucf101", write_ucf101(tmp_path / "l"), tmp_path / "s", features=write_features(tmp_path / "f", ucf_names())
    ).store
    text = (store / FILE).read_text()
    (store / FILE).write_text(text.replace("Archery", "Bowling", 1))
    assert any("protocol.json" in problem for problem in open_store(store).verify())
    with pytest.raises(DataError, match="unknown class 'Archery'"):
        read_protocol(open_store(store))


def test_features_of_images_may_lie_in_folders_of_classes(tmp_path):
    for role in ("train", "val"):
        for label in ("cat", "dog"):
            write_features(tmp_path / role / label, [(label, str(n)) for n in range(3)], rows=1)
    import_protocol("folders", tmp_path, tmp_path / "s", features=tmp_path)
    store = open_store(tmp_path / "s")
    assert store.splits == {"train": 6, "val": 6}
    row = next(row for row in range(len(store)) if store.recording_id(row) == "val-dog-2")
    given = np.load(tmp_path / "val" / "dog" / "2.npy")
    assert store[row].tracks["video_2d"] == pytest.approx(given / np.linalg.norm(given), abs=1e-3)


def test_media_files_are_found_by_name_and_cut_into_windows(tmp_path):
    for label in ("clap", "wave"):
        for k in range(10):
            folder = tmp_path / "media" / label
            folder.mkdir(parents=True, exist_ok=True)
            write_video(folder / f"take #{k} {label}.avi", seconds=1.2, fps=5, sound=k % 2 == 0)
    splits = write_hmdb51(tmp_path / "lists")
    report = import_protocol("hmdb51", splits, tmp_path / "s", media=tmp_path / "media", windows=Windows(3, 0.6))
    store = open_store(tmp_path / "s")
    clips = clips_of_protocol(store, read_protocol(store))
    assert len(clips) == 60
    assert report.dropped == {}
    assert set(clips["label"]) == {"clap", "wave"}
    assert clips["has_audio"].sum() == 30
    assert set(store.splits) == {"train", "test", "unused"}


def test_sounds_and_images_are_read_too(tmp_path):
    (tmp_path / "wav").mkdir()
    rows = list(csv.DictReader((write_esc50(tmp_path) / "esc50.csv").open()))
    random = np.random.default_rng(0)
    for row in rows:
        soundfile.write(tmp_path / "wav" / row["filename"], random.normal(size=4000) * 0.1, 8000)
    import_protocol("esc50", tmp_path, tmp_path / "sounds", media=tmp_path / "wav")
    assert open_store(tmp_path / "sounds").modalities == ("audio",)
    for role in ("train", "val"):
        for label in ("cat", "dog"):
            folder = tmp_path / "images" / role / label
            folder.mkdir(parents=True)
            for n in range(3):
                Image.fromarray(random.integers(255, size=(20, 20, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    import_protocol("folders", tmp_path / "images", tmp_path / "pictures", media=tmp_path / "images")
    store = open_store(tmp_path / "pictures")
    assert store.splits == {"train": 6, "val": 6}
    assert read_protocol(store).roles(["train-cat-0", "val-dog-2"]).tolist() == [["train", "val"]]


def spectrograms(folder, *, top=1.0, clips=8):
    random = np.random.default_rng(0)
    for role, fold in (("train", 1), ("val", 2)):
        ids = [f"{fold}-{n}" for n in range(clips)]
        arrays = {name: random.random((clips, 5, 12)).astype(np.float16) * top for name in ("cqt", "stft")}
        np.savez(folder / f"{role}.npz", ids=np.array(ids), **arrays)
        rows = [f"{id_}\t{fold}\t{n % 2}\t{('dog', 'rain')[n % 2]}\ta loud noise {n}" for n, id_ in enumerate(ids)]
        (folder / f"{role}.tsv").write_text("id\tfold\ttarget\tcategory\ttitle\n" + "\n".join(rows) + "\n")
    return folder


def test_spectrograms_keep_their_own_rate_and_bands(tmp_path):
    import_spectrograms(spectrograms(tmp_path), tmp_path / "s", seconds=3.0)
    store = open_store(tmp_path / "s")
    track = store.tracks["audio_mel"]
    assert (track.dim, track.rate_hz) == (10, 4.0)
    assert store.modalities == ("audio", "text")
    given = np.load(tmp_path / "val.npz")
    whole = np.concatenate([given["cqt"], given["stft"]], axis=1)[3].astype(float)
    batch = ClipSource(store, "val", window=ClipWindow(audio_frames=16, words=4)).batch(np.array([3]))
    assert batch.lengths["audio"].tolist() == [12]
    assert batch.inputs["audio"][0, :, :12].numpy() == pytest.approx(80 * (whole - 1), abs=0.05)
    assert (batch.inputs["audio"][0, :, 12:] == -80).all()
    assert read_protocol(store).splits == ("folds 1 to 2",)


def test_spectrograms_of_another_scale_or_order_are_refused(tmp_path):
    with pytest.raises(DataError, match="expected 0 to 1"):
        import_spectrograms(spectrograms(tmp_path, top=40.0), tmp_path / "s")
    table = spectrograms(tmp_path) / "val.tsv"
    table.write_text(table.read_text().replace("2-0", "2-9"))
    with pytest.raises(DataError, match=r"ids: 8 that are not the 8 of val\.tsv"):
        import_spectrograms(tmp_path, tmp_path / "s")


def test_the_verb_makes_a_store_and_says_what_is_missing(tmp_path, capsys):
    splits, features = write_ucf101(tmp_path / "lists"), write_features(tmp_path / "f", ucf_names())
    words = ["import", "protocol", "--kind", "ucf101", "--splits", str(splits), "--features", str(features), "--out"]
    assert main([*words, str(tmp_path / "s")]) == 0
    assert json.loads((tmp_path / "s" / FILE).read_text())["kind"] == "ucf101"
    (features / "v_Diving_g01_c01.npy").unlink()
    assert main([*words, str(tmp_path / "t")]) == DataError.exit_code
    assert "1 of 36 clips" in capsys.readouterr().err
