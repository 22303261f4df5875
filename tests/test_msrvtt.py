"""MSR-VTT's published files: twenty captions over one window, one for the test, tables with tensors, annotations."""

import json
import pickle
import traceback
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from mcnlab.cli import main
from mcnlab.data.importers.msrvtt import MOST_FRAMES, import_msrvtt
from mcnlab.data.loading import ClipSource, ClipWindow
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError
from tests.armed_pickles import Call

OFFICIAL = Path(__file__).parents[2] / "shared" / "data" / "annotations" / "msrvtt"


def visual(number, rows=(6, 9)):
    random = np.random.default_rng(number)
    full = {"2d": random.random((rows[0], 2048), np.float32), "3d": random.random((rows[1], 2048), np.float32)}
    return full | {f"{name}_pooled": values.max(axis=0) for name, values in full.items()}


def train_row(number, *, captions=20, frames=400, **changes):
    """A training clip as the released file has it."""
    audio = -80 * torch.rand(40, frames, generator=torch.Generator().manual_seed(number))
    row = {"id": f"video{number}", **visual(number), "audio": audio}
    row["caption"] = [f"someone does thing {k} number {number}" for k in range(captions)]
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def test_row(number, **changes):
    """A clip of the test set as the released file has it."""
    return train_row(number, caption=None, eval_caption=f"a person does thing {number}", **changes)


test_row.__test__ = False


def written(path, rows):
    path.write_bytes(pickle.dumps(rows, protocol=4))
    return path


def imported(tmp_path, train, test=None, **options):
    paths = [
        written(tmp_path / f"{name}.pkl", rows) if rows else None for name, rows in (("train", train), ("test", test))
    ]
    report = import_msrvtt(*paths, tmp_path / "store", **options)
    return report, open_store(tmp_path / "store")


def test_twenty_captions_are_twenty_clips_over_one_window(tmp_path):
    train, test = [train_row(0), train_row(7)], [test_row(9770)]
    report, store = imported(tmp_path, train, test)
    assert (report.kept, report.dropped, report.lost) == (41, {}, {})
    assert (len(store), dict(store.splits)) == (3, {"train": 40, "test": 1})
    for row, recording in zip(train, (store[0], store[1]), strict=True):
        assert recording.id == recording.media["video"] == row["id"]
        assert [clip.caption for clip in recording.clips] == row["caption"]
        assert {(clip.start_s, clip.end_s) for clip in recording.clips} == {(0.0, recording.duration_s)}
        np.testing.assert_array_equal(recording.tracks["video_2d"], row["2d_pooled"].astype(np.float16)[None])
        np.testing.assert_array_equal(recording.tracks["video_3d"], row["3d_pooled"].astype(np.float16)[None])
        np.testing.assert_array_equal(recording.tracks["audio_mel"], row["audio"].numpy().T.astype(np.float16))
    assert [clip.caption for clip in store[2].clips] == ["a person does thing 9770"]


def test_all_captions_of_a_video_come_with_the_same_video_and_sound(tmp_path):
    _, store = imported(tmp_path, [train_row(0, captions=3), train_row(1, captions=2)])
    batch = ClipSource(store, "train", window=ClipWindow(audio_frames=400)).batch(np.arange(5))
    for modality in ("video", "audio"):
        values = batch.inputs[modality]
        assert torch.equal(values[0], values[1])
        assert torch.equal(values[0], values[2])
        assert torch.equal(values[3], values[4])
        assert not torch.equal(values[0], values[3])
    assert batch.lengths["audio"].tolist() == [400] * 5


def test_only_the_first_captions_are_kept_when_asked(tmp_path):
    _, store = imported(tmp_path, [train_row(3)], captions=2)
    assert store.clips()["caption"].tolist() == train_row(3)["caption"][:2]


def test_full_features_are_all_rows(tmp_path):
    row = train_row(0, captions=1)
    _, store = imported(tmp_path, [row], features="full")
    np.testing.assert_array_equal(store[0].tracks["video_2d"], row["2d"].astype(np.float16))
    np.testing.assert_array_equal(store[0].tracks["video_3d"], row["3d"].astype(np.float16))
    assert store[0].duration_s == 6.0


def test_long_sound_is_cut_where_the_published_reader_cuts_it(tmp_path):
    _, store = imported(tmp_path, [train_row(0, captions=1, frames=4000)])
    assert len(store[0].tracks["audio_mel"]) == MOST_FRAMES == 3072


def test_faults_are_counted_and_the_rest_is_kept(tmp_path):
    train = [
        train_row(0, captions=2),
        train_row(1, audio=None),
        train_row(2, caption=["", "two words"]),
        train_row(3, caption=[]),
        train_row(0),
        train_row(5, **{"2d": None, "2d_pooled": np.full(2048, np.inf, np.float32)}),
        train_row(6, id="a/b"),
        7,
    ]
    report, store = imported(tmp_path, train)
    assert report.lost == {
        "audio: none": ["video1"],
        "an empty caption": ["video2"],
        "no caption": ["video3"],
        "video: video_2d is not finite in float16": ["video5"],
    }
    assert report.dropped == {
        "an id that stood before": ["video0"],
        "an id with a slash, a space, or a dot in front": ["a/b"],
        "no id": ["row 8"],
    }
    assert len(store) == 5
    table = store.clips()
    assert table.groupby("recording")["has_text"].sum().tolist() == [2, 20, 1, 0, 20]
    assert not table[table["recording"] == 4]["has_video"].any()


def tensor_files(tmp_path, sentences, content=None):
    """A table of sentences and a torch file, as HowTo100M released them."""
    table = ["key,vid_key,video_id,sentence"]
    table += [f'ret{k},msr{video[5:]},{video},"{sentence}"' for k, (video, sentence) in enumerate(sentences)]
    (tmp_path / "test.csv").write_text("\n".join(table), encoding="utf-8")
    features = {kind: {f"video{k}": torch.rand(2048) for k in range(4)} for kind in ("2d", "3d")}
    torch.save(features if content is None else content, tmp_path / "features.pth")
    return tmp_path / "test.csv", tmp_path / "features.pth", features


def test_a_table_with_tensors_gives_the_same_kind_of_store(tmp_path):
    said = [("video2", "a man, a plan"), ("video0", "two dogs"), ("video9", "no features")]
    table, tensors, features = tensor_files(tmp_path, said)
    report = import_msrvtt(
        written(tmp_path / "train.pkl", [train_row(7, captions=1)]), table, tmp_path / "store", tensors=tensors
    )
    store = open_store(tmp_path / "store")
    assert store.clips("test")["caption"].tolist() == [sentence for _, sentence in said]
    np.testing.assert_array_equal(store[1].tracks["video_3d"][0], features["3d"]["video2"].half().numpy())
    np.testing.assert_array_equal(store[2].tracks["video_2d"][0], features["2d"]["video0"].half().numpy())
    assert report.lost["video: no video_2d, no video_3d"] == ["video9"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"2d": {}}, "expected 2d and 3d"),
        ([1], "expected 2d and 3d"),
        ({"2d": torch.zeros(3), "3d": torch.zeros(3)}, "expected 2d and 3d"),
        (Call(print, "armed"), "not a torch file of plain tensors"),
    ],
)
def test_a_torch_file_of_something_else_is_refused(tmp_path, content, said, capsys):
    table, tensors, _ = tensor_files(tmp_path, [("video0", "a dog")], content)
    with pytest.raises(DataError) as refusal:
        import_msrvtt(None, table, tmp_path / "store", tensors=tensors)
    assert said in str(refusal.value)
    said_in_full = "".join(traceback.format_exception(refusal.value))
    assert "trusted source" not in said_in_full  # torch's own text says how to switch safety off
    assert capsys.readouterr().out == ""


def test_files_that_do_not_go_together_are_refused(tmp_path):
    table, tensors, _ = tensor_files(tmp_path, [("video0", "a dog")])
    rows = written(tmp_path / "rows.pkl", [test_row(0)])
    with pytest.raises(ConfigError, match="needs a file of tensors"):
        import_msrvtt(None, table, tmp_path / "store")
    with pytest.raises(ConfigError, match="needs a CSV"):
        import_msrvtt(None, rows, tmp_path / "store", tensors=tensors)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        import_msrvtt(None, rows, tmp_path / "store", captions=0)
    with pytest.raises(ConfigError, match="neither"):
        import_msrvtt(None, None, tmp_path / "store")
    with pytest.raises(DataError, match="expected clips of MSR-VTT with"):
        import_msrvtt(None, written(rows, [{"x": 1}]), tmp_path / "store")


def test_a_file_of_youcook2_is_sent_to_its_own_importer(tmp_path, capsys):
    cooked = {"2d": np.ones(2048), "3d": np.ones(2048), "audio": torch.zeros(40, 9), "caption": "stir", "id": "x" * 12}
    path = written(tmp_path / "youcook_val.pkl", [{**cooked, "id": f"{cooked['id']}_{k}"} for k in range(3)])
    assert main(["import", "msrvtt", "-", str(path), "--out", str(tmp_path / "store")]) == 3
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {path}: expected clips of MSR-VTT (")
    assert "found clips of YouCook2" in said
    assert "with keys '2d', '3d', 'audio', 'caption', 'id'" in said
    assert said.endswith("; `mcnlab import youcook2` takes it")
    assert not (tmp_path / "store").exists()


def test_annotations_give_categories_times_and_missing_captions(tmp_path):
    videos = [
        {
            "video_id": "video0",
            "category": 9,
            "url": "https://x/0",
            "start time": 10.0,
            "end time": 25.5,
            "split": "train",
        },
        {
            "video_id": "video1",
            "category": 17,
            "url": "https://x/1",
            "start time": 3,
            "end time": 1,
            "split": "validate",
        },
    ]
    sentences = [{"sen_id": k, "video_id": "video1", "caption": f"sentence {k}"} for k in range(3)]
    path = tmp_path / "info.json"
    path.write_text(json.dumps({"videos": videos, "sentences": sentences}), encoding="utf-8")
    train = [train_row(0, captions=2), train_row(1, caption=None), train_row(2, captions=1)]
    report, store = imported(tmp_path, train, [test_row(9)], annotations=path)
    assert [store[k].clips[0].label for k in range(4)] == ["vehicles/autos", "cooking", None, None]
    assert store[0].duration_s == 15.5
    assert store[0].media == {
        "kind": "youtube",
        "video": "video0",
        "start_s": 10.0,
        "end_s": 25.5,
        "url": "https://x/0",
        "official_split": "train",
    }
    assert [clip.caption for clip in store[1].clips] == ["sentence 0", "sentence 1", "sentence 2"]
    assert store[1].media["official_split"] == "validate"
    assert report.lost == {"annotations: its video is not among them": ["video2"]}
    assert f"{path}: knows no clip of split test" in report.notes


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official annotation files are not beside the checkout")
def test_the_official_annotations_are_understood(tmp_path):
    with ZipFile(OFFICIAL / "train_val_annotation.zip") as archive:
        archive.extract("train_val_videodatainfo.json", tmp_path)
    _, store = imported(tmp_path, [train_row(0)], annotations=tmp_path / "train_val_videodatainfo.json")
    assert store[0].clips[0].label == "vehicles/autos"
    assert store[0].media["url"] == "https://www.youtube.com/watch?v=9lZi22qLlEo"
    torch.save({kind: {"video9770": torch.rand(2048)} for kind in ("2d", "3d")}, tmp_path / "features.pth")
    table = OFFICIAL / "MSRVTT_JSFUSION_test.csv"
    report = import_msrvtt(
        tmp_path / "train.pkl", table, tmp_path / "second", tensors=tmp_path / "features.pth", captions=1
    )
    assert report.kept == 1001
    assert open_store(tmp_path / "second")[1].clips[0].caption == "a person is connecting something to system"


def test_the_command_imports_and_says_what_is_there(tmp_path, capsys):
    written(tmp_path / "train.pkl", [train_row(number) for number in range(3)])
    written(tmp_path / "test.pkl", [test_row(number) for number in range(8, 12)])
    words = ["import", "msrvtt", str(tmp_path / "train.pkl"), str(tmp_path / "test.pkl"), "--out"]
    assert main([*words, str(tmp_path / "store"), "--captions", "5"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "train 15 0 0 0" in said
    assert "test 4 0 0 0" in said
    assert main([*words, str(tmp_path / "other"), "--captions", "0"]) == 2
    assert main([*words, str(tmp_path / "store")]) == 5
