"""Importing CrossTask: every published layout, every broken file, and the samples of the release."""

import csv
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mcnlab.cli import main
from mcnlab.data.importers.crosstask import import_crosstask
from mcnlab.data.importers.step_features import pooled_to
from mcnlab.data.importers.step_import import StepReader
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError
from tests.step_files import JAM, TEA, WIDTH, code_of, features_of, write_crosstask, write_tasks

RELEASE = Path(__file__).parents[2] / "shared/data/annotations/crosstask/crosstask_release.zip"


def parts(folder, **others):
    """Where the files of `write_crosstask` are."""
    return {
        "annotations": folder / "annotations",
        "features": folder / "features",
        "tasks": [folder / "tasks.txt"],
        **others,
    }


def imported(folder, **others):
    report = import_crosstask(folder / "videos.csv", folder / "store", **parts(folder, **others))
    return report, open_store(folder / "store")


def test_clips_are_the_annotated_steps_in_order(tmp_path):
    listed = write_crosstask(tmp_path, audio=True)
    report, store = imported(
        tmp_path, audio=tmp_path / "audio", cook=tmp_path / "cook.txt", held_out=tmp_path / "held_out.csv"
    )
    assert (report.kept, report.dropped, report.lost) == (3 * len(TEA) + 3 * len(JAM), {}, {})
    assert len(store) == len(listed) == 6
    for place, (task, video) in enumerate(listed):
        recording = store[place]
        steps = (TEA, JAM)[place % 2]
        assert recording.id == f"{task}_{video}"
        assert recording.split == ("train" if place < 3 else "test")
        assert recording.duration_s == 24
        assert [clip.caption for clip in recording.clips] == list(steps) == recording.media["steps"]
        assert [clip.label for clip in recording.clips] == list(steps)
        assert recording.media["clip_steps"] == list(range(len(steps)))
        assert recording.media["cook"] is (task == "202")
        assert recording.media["task"] == task
        with (tmp_path / "annotations" / f"{task}_{video}.csv").open() as file:
            times = [(float(start), float(end)) for _, start, end in csv.reader(file)]
        assert [(clip.start_s, clip.end_s) for clip in recording.clips] == times
        assert recording.tracks["audio_mel"].shape == (2400, 40)
    assert store.modalities == ("video", "audio", "text")


def test_features_are_pooled_to_seconds_and_have_length_one(tmp_path):
    write_crosstask(tmp_path, videos=2)
    _, store = imported(tmp_path)
    tracks = store[0].tracks
    assert {name: rows.shape for name, rows in tracks.items()} == {"video_2d": (24, WIDTH), "video_3d": (24, WIDTH)}
    for rows in tracks.values():
        assert np.linalg.norm(rows.astype(np.float32), axis=1) == pytest.approx(np.ones(24), abs=2e-3)
    raw = np.load(tmp_path / "features" / "-vid_000000_3d.npy")
    second = raw[1:3].max(axis=0)  # rows 1.0 to 3 of 1.5 per second are those of second 1, rounded outward
    assert tracks["video_3d"][1] == pytest.approx(second / np.linalg.norm(second), abs=2e-3)


def test_pooling_cuts_as_torch_does():
    torch = pytest.importorskip("torch")
    rows = np.random.default_rng(0).normal(size=(17, 3))
    for wanted in (1, 5, 11, 17, 23):
        expected = torch.nn.functional.adaptive_max_pool1d(torch.from_numpy(rows.T)[None], wanted)[0].T.numpy()
        assert pooled_to(rows, wanted) == pytest.approx(expected)


def test_the_release_with_3200_columns(tmp_path):
    listed = write_crosstask(tmp_path, videos=2)
    shutil.rmtree(tmp_path / "features")
    (tmp_path / "features").mkdir()
    whole = np.random.default_rng(0).normal(size=(24, 3200)).astype(np.float32)
    for task, video in listed:
        np.save(tmp_path / "features" / f"{task}_{video}.npy", whole)
    report, store = imported(tmp_path)
    assert {track.name: track.dim for track in store.tracks.values()} == {"video_3d": 1024, "video_2d": 2048}
    resnet = whole[3, 1024:3072]
    assert store[0].tracks["video_2d"][3] == pytest.approx(resnet / np.linalg.norm(resnet), abs=1e-3)
    assert any("VGGish" in note for note in report.notes)


def test_matrices_and_json_say_the_same_as_rows_and_blocks(tmp_path):
    [(task, video)] = write_crosstask(tmp_path, videos=1)
    (tmp_path / "annotations" / f"{task}_{video}.csv").unlink()
    matrix = np.zeros((30, 3), dtype=np.uint8)
    matrix[2:5, 0] = matrix[4:9, 1] = matrix[20:22, 0] = 1
    np.save(tmp_path / "annotations" / f"{task}_{video}.npy", matrix)
    report = import_crosstask(
        tmp_path / "videos.csv", tmp_path / "s", steps=tmp_path / "steps.json",
        annotations=tmp_path / "annotations", features=tmp_path / "features",
    )  # fmt: skip
    recording = open_store(tmp_path / "s")[0]
    assert [(c.start_s, c.end_s, c.caption) for c in recording.clips] == [
        (2, 5, TEA[0]),
        (4, 9, TEA[1]),
        (20, 22, TEA[0]),
    ]
    assert recording.media["clip_steps"] == [0, 1, 0]
    assert recording.duration_s == 30  # as many rows as the matrix has
    assert report.lost == {}


@pytest.mark.parametrize(
    ("line", "mark", "first"), [("\r\n", "\ufeff", "task,video_id,url\n"), ("\n", "", ""), ("\r\n", "", "")]
)
def test_marks_line_ends_and_column_names_do_not_matter(tmp_path, line, mark, first):
    write_crosstask(tmp_path, videos=2)
    for path in (tmp_path / "videos.csv", tmp_path / "tasks.txt", *(tmp_path / "annotations").iterdir()):
        text = (first if path.name == "videos.csv" else "") + path.read_text()
        path.write_bytes((mark + text.replace("\n", line)).encode())
    report, store = imported(tmp_path)
    assert len(store) == 2
    assert (report.dropped, report.lost, report.notes) == ({}, {}, [])


BROKEN_FEATURES = {
    "video_2d: a file that cannot be read": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "video_2d: another shape than (rows, 8)": lambda path: np.save(path, np.ones((24, 5), np.float32)),
    "video_2d: values that are not finite": lambda path: np.save(path, np.full((24, WIDTH), np.nan, np.float32)),
    "video_2d: no rows": lambda path: np.save(path, np.ones((0, WIDTH), np.float32)),
    "video_2d: values that are no numbers": lambda path: np.save(path, np.full((24, WIDTH), "a")),
    "video_2d: no file": lambda path: path.unlink(),
}


@pytest.mark.parametrize("reason", BROKEN_FEATURES)
def test_a_broken_feature_file_costs_only_its_video(tmp_path, reason):
    listed = write_crosstask(tmp_path)
    BROKEN_FEATURES[reason](tmp_path / "features" / f"{listed[2][1]}_2d.npy")
    report, store = imported(tmp_path)
    assert report.dropped == {reason: ["101_-vid_000002"]}
    assert len(store) == 5


def test_pickled_features_are_never_unpickled(tmp_path):
    listed = write_crosstask(tmp_path, videos=2)
    np.save(tmp_path / "features" / f"{listed[0][1]}_3d.npy", np.array([{}], dtype=object), allow_pickle=True)
    report, _ = imported(tmp_path)
    assert report.dropped == {"video_3d: a file that cannot be read": ["101_-vid_000000"]}


@pytest.mark.parametrize(
    ("rows", "lost"),
    [
        ("0,1,2\n", "a step that its task does not have"),
        ("4,1,2\n", "a step that its task does not have"),
        ("x,1,2\n", "a step that its task does not have"),
        ("1,5,4\n", "a step that ends before it starts"),
        ("1,-1,4\n", "a step that ends before it starts"),
        ("1,nan,4\n", "a step whose time is no number"),
        ("1,one,4\n", "a step whose time is no number"),
        ("1,30,31\n", "a step that starts after the features end"),
        ("1,20,99\n", "a step that goes on after the features end; cut there"),
        ("1,2\n", "annotation: a row without step, start and end"),
    ],
)
def test_an_impossible_step_is_left_out_and_counted(tmp_path, rows, lost):
    [(task, video)] = write_crosstask(tmp_path, videos=1)
    path = tmp_path / "annotations" / f"{task}_{video}.csv"
    path.write_text(path.read_text() + rows)
    report, store = imported(tmp_path)
    assert report.lost == {lost: [f"{task}_{video}"]}
    assert len(store[0].clips) == (4 if "cut" in lost else 3)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "annotation: no file"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "annotation: a file that cannot be read"),
        (lambda path: path.write_text(""), "no step left"),
        (lambda path: path.write_text("9,1,2\n"), "a step that its task does not have; no step left"),
    ],
)
def test_a_video_without_a_step_is_dropped_with_the_reason(tmp_path, spoil, reason):
    (task, video), _ = write_crosstask(tmp_path, videos=2)
    spoil(tmp_path / "annotations" / f"{task}_{video}.csv")
    report, _ = imported(tmp_path)
    assert report.dropped == {reason: [f"{task}_{video}"]}


def test_broken_sound_costs_only_the_sound(tmp_path):
    (_, first), (_, second), (_, third) = write_crosstask(tmp_path, videos=3, audio=True)
    (tmp_path / "audio" / f"{first}.npz").unlink()
    np.savez(tmp_path / "audio" / f"{second}.npz", arr_0=np.ones((39, 100), np.float16))
    report, store = imported(tmp_path, audio=tmp_path / "audio")
    assert report.lost == {
        "audio: no file": [f"101_{first}"],
        "audio: another shape than (rows, 40)": [f"202_{second}"],
    }
    assert ["audio_mel" in store[row].tracks for row in range(3)] == [False, False, True]
    assert third in store[2].id


def test_rows_of_the_list_that_are_no_videos_are_counted(tmp_path):
    listed = write_crosstask(tmp_path, videos=2)
    again = f"{listed[0][0]},{listed[0][1]}\n"
    with (tmp_path / "videos.csv").open("a") as file:
        file.write(again + ",nobody\n303,other\nonly-one\n101,../../etc/passwd\n101,missing\n")
    report, store = imported(tmp_path)
    assert len(store) == 2
    assert report.dropped == {
        "it stands in the list a second time": ["101_-vid_000000"],
        "its task is not among the tasks": ["303_other"],
        "annotation: no file": ["101_../../etc/passwd", "101_missing"],
    }
    assert report.notes == ["videos.csv: 2 rows name no task or no video"]


def test_odd_blocks_of_tasks_are_told(tmp_path):
    write_crosstask(tmp_path, videos=2)
    path = write_tasks(tmp_path / "tasks.txt")
    path.write_text("broken\nblock\n\n" + path.read_text().replace("\n3\n", "\n5\n"))
    report, store = imported(tmp_path)
    assert len(store) == 2
    assert report.notes == [
        "tasks.txt: line 1 begins no block of five lines",
        "tasks.txt: task '101' says 5 steps and lists 3",
    ]


def test_what_is_wrong_as_a_whole_is_one_error_before_any_work(tmp_path):
    write_crosstask(tmp_path, videos=2)
    (tmp_path / "empty").mkdir()
    for others, said in (
        ({"features": tmp_path / "empty"}, "empty: holds readable features of none of 2 videos"),
        ({"features": tmp_path / "nowhere"}, "nowhere: no such folder of features"),
        ({"annotations": tmp_path / "nowhere"}, "nowhere: no such folder of annotations"),
        ({"audio": tmp_path / "nowhere"}, "nowhere: no such folder of audio"),
        ({"tasks": [tmp_path / "videos.csv"]}, "no block of five lines"),
        ({"steps": tmp_path / "tasks.txt"}, "not readable JSON"),
        ({"annotations": tmp_path / "empty"}, r"empty: holds usable annotations of none of 2 videos .*it is empty"),
        ({"annotations": tmp_path / "features"}, r"looked for TASK_VIDEO\.csv or .*; it holds '-vid_000000_2d\.npy'"),
        ({"audio": tmp_path / "features"}, r"features: holds log-mels of none of 2 videos; looked for ID\.npz"),
        ({"tasks": [write_tasks(tmp_path / "other.txt", {"9": ("X", ("a",))})]}, "names '101', '202'; known are '9'"),
    ):
        with pytest.raises(DataError, match=said):
            imported(tmp_path, **others)
        assert not (tmp_path / "store").exists()
    with pytest.raises(ConfigError, match="needs the texts of the steps"):
        imported(tmp_path, tasks=[])
    with pytest.raises(DataError, match="no row `task,video_id`"):
        import_crosstask(tmp_path / "cook.txt", tmp_path / "store", **parts(tmp_path))


def test_the_verb_imports_and_shows_the_store(tmp_path, capsys):
    write_crosstask(tmp_path, videos=4)
    words = ["import", "crosstask", tmp_path / "videos.csv", "--out", tmp_path / "store", "--tasks",
             tmp_path / "tasks.txt", "--annotations", tmp_path / "annotations", "--features", tmp_path / "features",
             "--cook", tmp_path / "cook.txt"]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr()
    assert "14 clips kept, 0 dropped" in said.err
    assert "CrossTask" in said.out
    assert main([str(word) for word in words[:-2]]) == 5  # the store is there already


def test_rows_of_something_else_are_no_annotations(tmp_path):
    write_crosstask(tmp_path, videos=3)
    for path in (tmp_path / "annotations").iterdir():
        path.write_text("start,end,text\n0.5,2,hello\n")
    with pytest.raises(DataError, match=r"annotations: holds usable annotations of none of 3 videos \(6 × a step that"):
        imported(tmp_path)
    assert not list(tmp_path.glob(".store*"))


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("done", [0, 1, 4])
def test_an_import_goes_on_where_it_stopped(tmp_path, done, monkeypatch):
    write_crosstask(tmp_path, audio=True)
    (tmp_path / "audio" / "-vid_000003.npz").unlink()
    given = parts(tmp_path, audio=tmp_path / "audio", recordings_per_shard=1)
    whole = import_crosstask(tmp_path / "videos.csv", tmp_path / "whole", **given)
    read, opened = StepReader.__call__, []

    def stops(self, source):
        if len(opened) >= done:
            raise KeyboardInterrupt
        opened.append(source["id"])
        return read(self, source)

    monkeypatch.setattr(StepReader, "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        import_crosstask(tmp_path / "videos.csv", tmp_path / "store", **given)
    assert not (tmp_path / "store").exists()
    monkeypatch.setattr(StepReader, "__call__", lambda self, source: opened.append(source["id"]) or read(self, source))
    report = import_crosstask(tmp_path / "videos.csv", tmp_path / "store", **given)
    assert sorted(opened) == sorted(set(opened)) == sorted(f"{101 + k % 2 * 101}_-vid_{k:06d}" for k in range(6))
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "whole")
    assert (report.kept, report.lost) == (whole.kept, {"audio: no file": ["202_-vid_000003"]})
    assert "nothing to do" in import_crosstask(tmp_path / "videos.csv", tmp_path / "store", **given).notes


@pytest.mark.slow
@pytest.mark.distributed
def test_more_processes_and_kill_9_change_no_byte(tmp_path):
    write_crosstask(tmp_path, videos=300, audio=True)  # five shards
    words = [sys.executable, "-m", "mcnlab", "import", "crosstask", tmp_path / "videos.csv"]
    for name in ("annotations", "features", "audio"):
        words += [f"--{name}", tmp_path / name]
    words += ["--tasks", tmp_path / "tasks.txt", "--out"]
    subprocess.run([*words, tmp_path / "whole"], check=True, capture_output=True)
    process = subprocess.Popen([*words, tmp_path / "store", "--workers", "2"], stderr=subprocess.PIPE)
    accounts = tmp_path / ".store.unfinished" / "parts"
    while not list(accounts.glob("*.json")):
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (tmp_path / "store").exists()
    subprocess.run([*words, tmp_path / "store", "--workers", "2"], check=True, capture_output=True)
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "whole")
    assert [path.name for path in tmp_path.glob(".store*")] == []


def test_help_has_an_example(capsys):
    assert main(["import", "crosstask", "--help"]) == 0
    assert "mcnlab import crosstask videos.csv" in " ".join(capsys.readouterr().out.split())


def annotation_of(release, line):
    task, video, _ = line.split(",")
    return release / "annotations" / f"{task}_{video}.csv"


@pytest.mark.skipif(not RELEASE.exists(), reason="the sample of the release is not here")
def test_the_release_is_read_with_no_complaint_that_is_not_true(tmp_path):
    """All 2750 annotations of the release; the features are ours."""
    with zipfile.ZipFile(RELEASE) as archive:
        archive.extractall(tmp_path)
    release = tmp_path / "crosstask_release"
    (release / "features").mkdir()
    listed = []
    for path in sorted((release / "annotations").glob("*.csv"))[::10]:
        task, _, video = path.stem.partition("_")
        ends = [float(row[2]) for row in csv.reader(path.read_text().splitlines())]
        np.save(release / "features" / f"{video}.npy", features_of([], max(ends) // 1 + 1))
        listed.append(f"{task},{video},")
    (release / "some.csv").write_text("\n".join(listed))
    report = import_crosstask(
        release / "some.csv",
        tmp_path / "store",
        annotations=release / "annotations",
        features=release / "features",
        tasks=[release / "tasks_primary.txt", release / "tasks_related.txt"],
        held_out=release / "videos_val.csv",
    )
    rows = [row for line in listed for row in csv.reader(annotation_of(release, line).read_text().splitlines())]
    wrong = sum(not 0 <= float(start) < float(end) for _, start, end in rows)
    assert report.dropped == {}
    assert report.notes == []
    assert sum(map(len, report.lost.values())) == wrong
    assert set(report.lost) <= {"a step that ends before it starts"}
    store = open_store(tmp_path / "store")
    assert len(store) == len(listed) == 275
    assert all(recording.media["steps"] for recording in (store[row] for row in range(0, 275, 25)))


def test_a_code_tells_texts_apart():
    assert code_of("boil water") @ code_of("boil water") > abs(code_of("boil water") @ code_of("pour tea"))


def test_steps_without_a_known_word_are_counted(tmp_path):
    write_crosstask(tmp_path)
    (tmp_path / "words.txt").write_text("tea 0.1 0.2 0.3\nfruit 0.3 0.1 0.2\n")
    report, store = imported(tmp_path, words=tmp_path / "words.txt")
    without = int((~store.clips()["has_text"]).sum())
    assert without > 0
    assert any(
        note.startswith(f"{without} annotated steps have a text without a single word in") for note in report.notes
    )
