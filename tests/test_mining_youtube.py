"""Importing MiningYouTube: every published layout, every broken file, and the samples of the release."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mcnlab.cli import main
from mcnlab.data.importers.mining_youtube import import_mining_youtube
from mcnlab.data.importers.mining_youtube_files import read_classes, read_log_probabilities
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError
from tests.step_files import WIDTH, features_of, srt

SAMPLE = Path(__file__).parents[2] / "shared/data/annotations/miningyoutube"
ACTIONS = [("crack_egg", 0.0, 4.5), ("whisk_egg", 4.5, 9.2), ("add_salt", 12.0, 15.0), ("whisk_egg", 15.0, 20.04)]


@pytest.fixture
def release(tmp_path):
    for name in ("annotations", "features"):
        (tmp_path / name).mkdir()
    for number in range(4):
        id_ = f"-egg{number}"
        (tmp_path / "annotations" / f"{id_}.srt").write_text(srt(ACTIONS), encoding="utf-8")
        np.save(tmp_path / "features" / f"{id_}.npy", features_of(ACTIONS, 20, seed=number))
    (tmp_path / "mapping.txt").write_text("0 crack_egg\n1 whisk_egg\n2 background\n")
    (tmp_path / "test.txt").write_text("-egg2\n-egg3\n")
    return tmp_path


def imported(folder, **others):
    given = {"features": folder / "features", **others}
    report = import_mining_youtube(folder / "annotations", folder / "store", **given)
    return report, open_store(folder / "store")


def spans(recording):
    return [(clip.caption, clip.start_s, clip.end_s) for clip in recording.clips]


def test_clips_are_the_actions_in_order(release):
    report, store = imported(release, classes=release / "mapping.txt", held_out=release / "test.txt")
    assert (report.kept, report.dropped, report.lost) == (16, {}, {})
    assert report.notes == ["4 steps of 1 classes are not in mapping.txt"]
    assert [store[row].split for row in range(4)] == ["train", "train", "test", "test"]
    recording = store[0]
    assert recording.id == "-egg0"
    assert spans(recording) == [
        ("crack egg", 0.0, 4.5),
        ("whisk egg", 4.5, 9.2),
        ("add salt", 12.0, 15.0),
        ("whisk egg", 15.0, 20.0),  # the features end there
    ]
    assert recording.media["steps"] == ["crack egg", "whisk egg", "add salt", "whisk egg"]
    assert recording.media["clip_steps"] == [0, 1, 2, 3]
    assert recording.tracks["video_2d"].shape == (20, WIDTH)


@pytest.mark.parametrize("line", ["\n", "\r\n"])
@pytest.mark.parametrize("ending", [".gt", ".txt", ".labels"])
def test_labels_per_row_are_runs(release, ending, line):
    labels = ["background"] * 2 + ["crack_egg"] * 5 + ["bg"] + ["add_salt"] * 12
    (release / "annotations" / "-egg0.srt").unlink()
    (release / "annotations" / f"-egg0{ending}").write_bytes((line.join(labels) + line).encode())
    report, store = imported(release)
    assert report.lost == {}
    assert spans(store[0]) == [("crack egg", 2.0, 7.0), ("add salt", 8.0, 20.0)]


def test_a_rate_says_how_long_rows_are(release):
    for path in (release / "annotations").iterdir():
        path.unlink()
    (release / "annotations" / "-egg0.gt").write_text("crack_egg\n" * 10 + "add_salt\n" * 10)
    report, store = imported(release, rate_hz=4.0)
    assert report.lost == {}
    assert spans(store[0]) == [("crack egg", 0.0, 2.5), ("add salt", 2.5, 5.0)]
    assert store[0].duration_s == 5.0
    with pytest.raises(ConfigError, match=r"rate must be positive, got 0\.0"):
        imported(release, rate_hz=0.0)


def test_matrices_have_their_texts_in_a_json(release):
    (release / "annotations" / "-egg0.srt").unlink()
    matrix = np.zeros((20, 2))
    matrix[1:4, 0] = matrix[8:12, 1] = 1
    np.save(release / "annotations" / "-egg0.npy", matrix)
    (release / "steps.json").write_text(json.dumps({"-egg0": ["crack egg", "add_salt"]}))
    _, store = imported(release, steps=release / "steps.json")
    assert spans(store[0]) == [("crack egg", 1.0, 4.0), ("add salt", 8.0, 12.0)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("-egg0.srt", b"", "no step left"),
        ("-egg0.srt", b"\xff\x00", "annotation: a file that cannot be read"),
        ("-egg0.srt", b"1\n00:00:09,0 --> 00:00:03,0\nadd_salt\n", "a step that ends before it starts; no step left"),
        ("-egg0.srt", b"1\nlater\nadd_salt\n", "annotation: a block without times and a class; no step left"),
        ("-egg0.gt", b"\n\n", "annotation: no label in it"),
        ("-egg0.transcript", b"crack_egg add_salt\n", "annotation: a transcript alone, which says no times"),
        ("-egg0.npy", b"no array", "annotation: a matrix, but no texts of its steps"),
    ],
)  # fmt: skip
def test_a_broken_annotation_costs_only_its_video(release, name, content, reason):
    (release / "annotations" / "-egg0.srt").unlink()
    (release / "annotations" / name).write_bytes(content)
    report, store = imported(release)
    assert report.dropped == {reason: ["-egg0"]}
    assert len(store) == 3


def test_listed_videos_without_files_and_odd_ids_are_counted(release):
    (release / "features" / "-egg1.npy").unlink()
    np.save(release / "features" / "-egg2.npy", np.full((20, WIDTH), np.inf, np.float32))
    (release / "list.txt").write_text("-egg0\n-egg1\n\n-egg2\n-egg0\nnobody\n../x\n")
    report, store = imported(release, videos=release / "list.txt")
    assert [store[row].id for row in range(len(store))] == ["-egg0"]
    assert report.dropped == {
        "video_2d: no file": ["-egg1"],
        "video_2d: values that are not finite": ["-egg2"],
        "it stands in the list a second time": ["-egg0"],
        "annotation: no file": ["nobody"],
        "an id that cannot be a file name": ["../x"],
    }


def test_what_is_wrong_as_a_whole_is_one_error_before_any_work(release):
    (release / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds readable features of none of 4 videos"):
        imported(release, features=release / "empty")
    with pytest.raises(DataError, match="empty: no file of annotations in it"):
        import_mining_youtube(release / "empty", release / "store", features=release / "features")
    for number in range(3):
        (release / "empty" / f"{number}.txt").write_text("")
    with pytest.raises(DataError, match=r"none of 3 videos \(3 × annotation: no label in it\); looked for ID\.srt"):
        import_mining_youtube(release / "empty", release / "store", features=release / "features")
    said = r"features: holds usable annotations of none of 4 videos \(4 × annotation: a matrix.*it holds '-egg0\.npy'"
    with pytest.raises(DataError, match=said):
        import_mining_youtube(release / "features", release / "store", features=release / "features")
    with pytest.raises(DataError, match=r"empty: holds log-mels of none of 4 videos; .*it holds '0\.txt'"):
        imported(release, audio=release / "empty")
    (release / "list.txt").write_text("nobody\n")
    with pytest.raises(DataError, match=r"none of 1 videos \(1 × annotation: no file\); .* such as nobody\.srt"):
        imported(release, videos=release / "list.txt")
    (release / "list.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"list\.txt: no id of a video in it"):
        imported(release, videos=release / "list.txt")
    assert not (release / "store").exists()
    assert not list(release.glob(".store*"))


@pytest.mark.distributed
def test_more_processes_change_no_byte(release):
    one = import_mining_youtube(
        release / "annotations", release / "one", features=release / "features", recordings_per_shard=1
    )
    words = ["import", "mining-youtube", release / "annotations", "--out", release / "two", "--features",
             release / "features", "--workers", "2"]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    two = open_store(release / "two")
    assert one.kept == two.import_report["kept"] == 16
    assert [two[row].id for row in range(4)] == [open_store(release / "one")[row].id for row in range(4)]
    again = import_mining_youtube(
        release / "annotations", release / "three", features=release / "features", recordings_per_shard=1, workers=2
    )
    assert again.kept == 16
    assert (release / "three" / "store.json").read_bytes() == (release / "one" / "store.json").read_bytes()


def test_scores_are_rows_of_numbers(tmp_path):
    path = tmp_path / "x.probs"
    path.write_text("-0.1 -2\n-3e0 -0.5\n")
    assert read_log_probabilities(path).tolist() == [[-0.1, -2.0], [-3.0, -0.5]]
    for text in ("", "1 2\n3\n", "1 a\n", "1 nan\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"x\.probs"):
            read_log_probabilities(path)


def test_the_verb_imports_and_shows_the_store(release, capsys):
    words = ["import", "mining-youtube", release / "annotations", "--out", release / "store", "--features",
             release / "features", "--classes", release / "mapping.txt"]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr()
    assert "16 clips kept, 0 dropped" in said.err
    assert "MiningYouTube" in said.out


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample of the release is not here")
def test_the_release_is_read_with_no_complaint_that_is_not_true(tmp_path):
    """All 50 annotations of the sample; the features are ours."""
    with zipfile.ZipFile(SAMPLE / "test_annotations_50.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "features").mkdir()
    times = {}
    for path in (tmp_path / "annotations").glob("*.srt"):
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if "-->" in line]
        times[path.stem] = len(lines)
        hours, minutes, seconds = lines[-1].split("--> ")[1].replace(",", ".").split(":")
        end = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        np.save(tmp_path / "features" / f"{path.stem}.npy", features_of([], end // 1 + 1))
    classes = SAMPLE / "mapping_without_meta.txt"
    report, store = imported(tmp_path, classes=classes)
    assert (report.dropped, report.lost) == ({}, {})
    assert len(read_classes(classes)) == 513
    assert {store[row].id: len(store[row].clips) for row in range(len(store))} == times
    assert len(report.notes) == 1  # annotators wrote plurals that the list of classes does not have
