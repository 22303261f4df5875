"""YouCook2's published pickles: every number arrives in the store, every fault is counted, and it can be trained on."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.cli import main
from mcnlab.data.importers.evaluation_rows import check_features
from mcnlab.data.importers.youcook2 import MOST_FRAMES, import_youcook2
from mcnlab.data.loading import ClipSource, ClipWindow
from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError, DataError, StorageError
from mcnlab.experiment import run_experiment
from tests.armed_pickles import Call
from tests.test_msrvtt import test_row, train_row

GOLDEN = Path(__file__).parent / "golden"
OFFICIAL = Path(__file__).parents[2] / "shared" / "data" / "annotations" / "youcook2"
STEPS = ["pour oil", "cut onions", "stir rice", "boil water", "fry eggs", "add salt"]


def video_of(number):
    return f"vid{number:07d}_"  # eleven characters, as on YouTube


def published_row(number, *, frames=300, **changes):
    """A clip as the released files have it."""
    random = np.random.default_rng(number)
    row = {
        "2d": random.random(2048, dtype=np.float32),
        "3d": random.random(2048, dtype=np.float32),
        "audio": -80 * torch.from_numpy(random.random((40, frames), dtype=np.float32)),
        "caption": f"{STEPS[number % 6]} in the pan",
        "id": f"{video_of(number // 2)}_{number % 2}",
    }
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def written(path, rows, protocol=4):
    path.write_bytes(pickle.dumps(rows, protocol=protocol))
    return path


def imported(tmp_path, train, val=None, **options):
    """Report and store of an import."""
    paths = [written(tmp_path / f"{name}.pkl", rows) if rows else None for name, rows in (("t", train), ("v", val))]
    report = import_youcook2(*paths, tmp_path / "store", **options)
    return report, open_store(tmp_path / "store")


def recordings(store):
    return {store[place].id: store[place] for place in range(len(store))}


def annotation(video, subset="training", recipe="113", steps=()):
    entries = [{"segment": [start, end], "id": k, "sentence": text} for k, (start, end, text) in enumerate(steps)]
    return {video: {"duration": 200.5, "subset": subset, "recipe_type": recipe, "annotations": entries}}


def written_annotations(path, *videos):
    path.write_text(json.dumps({"database": {k: v for video in videos for k, v in video.items()}}), encoding="utf-8")
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_every_number_of_the_pickles_is_in_the_store(tmp_path, protocol):
    train = [published_row(number, frames=300 + number) for number in range(4)]
    val = [published_row(10, caption="crème brûlée"), published_row(13, start=12.5, end=40)]
    paths = [written(tmp_path / "t.pkl", train, protocol), written(tmp_path / "v.pkl", val, protocol)]
    report = import_youcook2(*paths, tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert (report.kept, report.dropped, report.lost) == (6, {}, {})
    assert dict(store.splits) == {"train": 4, "val": 2}
    for row, recording in zip([*train, *val], recordings(store).values(), strict=True):
        assert recording.id == row["id"]
        np.testing.assert_array_equal(recording.tracks["video_2d"], row["2d"].astype(np.float16)[None])
        np.testing.assert_array_equal(recording.tracks["video_3d"], row["3d"].astype(np.float16)[None])
        np.testing.assert_array_equal(recording.tracks["audio_mel"], row["audio"].numpy().T.astype(np.float16))
        (clip,) = recording.clips
        assert (clip.caption, clip.label, clip.start_s, clip.end_s) == (row["caption"], None, 0, recording.duration_s)
        assert recording.media["video"] == row["id"][:11]
    assert recordings(store)[train[0]["id"]].duration_s == pytest.approx(3.0, abs=0.02)
    assert recordings(store)[val[1]["id"]].duration_s == 27.5
    assert recordings(store)[val[1]["id"]].media["start_s"] == 12.5
    assert {name: (track.dim, track.rate_hz) for name, track in store.tracks.items()} == {
        "video_2d": (2048, 1.0),
        "video_3d": (2048, 1.5),
        "audio_mel": (40, 100.0),
    }


@pytest.mark.parametrize("frames", [1, 2, 99, 300, 1201, MOST_FRAMES, MOST_FRAMES + 1, 7000])
def test_a_reader_gets_what_the_published_reader_gets(tmp_path, frames):
    row = published_row(0, frames=frames)
    _, store = imported(tmp_path, [row])
    source = ClipSource(store, "train", window=ClipWindow(audio_frames=MOST_FRAMES, pad_db=0.0))
    batch = source.batch(np.array([0]))
    kept = min(frames, MOST_FRAMES)
    assert batch.lengths["audio"].tolist() == [kept]
    mel = torch.zeros(40, MOST_FRAMES)
    mel[:, :kept] = row["audio"][:, :kept].half().float()
    torch.testing.assert_close(batch.inputs["audio"][0], mel, rtol=0, atol=0)
    halves = [torch.nn.functional.normalize(torch.from_numpy(row[key]), dim=0) for key in ("2d", "3d")]
    torch.testing.assert_close(batch.inputs["video"][0], torch.cat(halves), rtol=2e-3, atol=2e-5)  # float16 in stores


def test_a_batch_holds_what_the_released_loader_gives(tmp_path):
    """Golden values of MCN's YouCook2 loader; its narrow features stand at the front of ours, the rest is zero."""
    values = np.load(GOLDEN / "youcook2_loader.npz", allow_pickle=False)
    lines = [
        f"{word} {' '.join(map(repr, map(float, row)))}"
        for word, row in zip(values["vocab"], values["vocab_vec"], strict=True)
    ]
    (tmp_path / "words.txt").write_text("\n".join(lines), encoding="utf-8")
    features = {key: np.zeros(2048, np.float16) for key in ("2d", "3d")}
    features["2d"][:6], features["3d"][:5] = values["yc_2d"], values["yc_3d"]
    audio = torch.from_numpy(values["yc_audio_in"])
    row = published_row(0, caption="stir the unheard egg", audio=audio, **features)
    _, store = imported(tmp_path, [row], words=tmp_path / "words.txt")
    padded, frames = values["yc_audio_shape"][1], int(values["yc_nframes"])
    batch = ClipSource(store, "train", window=ClipWindow(int(padded), 6, pad_db=0.0)).batch(np.array([0]))
    video = batch.inputs["video"][0].numpy()
    np.testing.assert_allclose(np.concatenate([video[:6], video[2048:2053]]), values["yc_video"], rtol=1e-6)
    np.testing.assert_array_equal(batch.inputs["text"][0].numpy(), values["yc_text"])
    mel = batch.inputs["audio"][0].numpy()
    assert (mel.shape, batch.lengths["audio"].tolist()) == (tuple(values["yc_audio_shape"]), [frames])
    np.testing.assert_allclose(mel[:, :frames], values["yc_audio_in"], atol=0.04)  # float16 near -80
    np.testing.assert_array_equal(mel[:, -1], values["yc_audio_tail"])


def test_full_features_are_kept_whole_and_pool_to_the_pooled_ones(tmp_path):
    random = np.random.default_rng(0)
    full = {"2d_full": random.random((7, 2048), dtype=np.float32), "3d_full": random.random((11, 2048), np.float32)}
    row = published_row(0, frames=300, **full, **{key[:2]: value.max(axis=0) for key, value in full.items()})
    lacking = published_row(2)
    report, store = imported(tmp_path, [row, lacking], features="full")
    whole, pooled = recordings(store).values()
    np.testing.assert_array_equal(whole.tracks["video_3d"], full["3d_full"].astype(np.float16))
    assert whole.duration_s == pytest.approx(11 / 1.5)  # so that a reader sees all rows
    assert len(pooled.tracks["video_2d"]) == 1
    assert len(report.lost["video_2d: no full features, the pooled row is kept"]) == 1
    video = ClipSource(store, "train", window=ClipWindow()).batch(np.array([0])).inputs["video"][0]
    import_youcook2(tmp_path / "t.pkl", None, tmp_path / "pooled")
    source = ClipSource(open_store(tmp_path / "pooled"), "train", window=ClipWindow())
    torch.testing.assert_close(source.batch(np.array([0])).inputs["video"][0], video)


def test_full_features_alone_are_pooled_when_pooled_ones_are_wanted(tmp_path):
    full = np.random.default_rng(0).random((7, 2048), dtype=np.float32)
    row = published_row(0, **{"2d": None, "3d": None, "2d_full": full, "3d_full": torch.from_numpy(full)})
    _, store = imported(tmp_path, [row])
    for track in ("video_2d", "video_3d"):
        np.testing.assert_array_equal(store[0].tracks[track], full.max(axis=0, keepdims=True).astype(np.float16))


FAULTS = {
    "no audio": ({"audio": None}, "audio: none"),
    "empty audio": ({"audio": torch.zeros(40, 0)}, "audio: none"),
    "audio lying down": ({"audio": torch.zeros(300, 40)}, "audio: not (40, frames)"),
    "audio with NaN": ({"audio": torch.full((40, 9), float("nan"))}, "audio: not finite in float16"),
    "features with NaN": ({"2d": np.full(2048, np.nan)}, "video: video_2d is not finite in float16"),
    "features too large": ({"3d": np.full(2048, 1e6)}, "video: video_3d is not finite in float16"),
    "narrow features": ({"3d": np.zeros(1024)}, "video: video_3d is not (rows, 2048)"),
    "no rows": ({"2d": np.zeros((0, 2048))}, "video: video_2d is not (rows, 2048)"),
    "features of text": ({"2d": np.array(["a"] * 2048)}, "video: no video_2d"),
    "no features": ({"2d": None, "3d": None}, "video: no video_2d, no video_3d"),
    "empty caption": ({"caption": " \n"}, "no caption"),
    "no caption": ({"caption": None}, "no caption"),
    "caption of numbers": ({"caption": 7}, "no caption"),
    "endless caption": ({"caption": "word " * 3000}, "a caption of more than 10000 characters, cut there"),
}
DROPPED = {
    "empty id": ({"id": ""}, "no id"),
    "no id": ({"id": None}, "no id"),
    "id of bytes": ({"id": 12}, "no id"),
    "slash": ({"id": "../../etc/passwd"}, "an id with a slash, a space, or a dot in front"),
    "dot": ({"id": ".hidden"}, "an id with a slash, a space, or a dot in front"),
    "line end": ({"id": "abc\ndef"}, "an id with a slash, a space, or a dot in front"),
    "control": ({"id": "abc\x1b[2J"}, "an id with a slash, a space, or a dot in front"),
    "twice": ({"id": published_row(0)["id"]}, "an id that stood before"),
    "nothing": (
        {"2d": None, "audio": None, "caption": None},
        "video: no video_2d; audio: none; no caption",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_a_clip_only_what_it_touches(tmp_path, fault):
    changes, reason = FAULTS[fault]
    report, store = imported(tmp_path, [published_row(0), published_row(5, **changes), published_row(9)])
    assert report.kept == 3
    assert report.lost == {reason: [published_row(5)["id"]]}
    table = store.clips()
    without = {"audio": "has_audio", "video": "has_video"}.get(reason.split(":")[0], "has_text")
    expected = [True, "endless" in fault, True]
    assert table[without].tolist() == expected


@pytest.mark.parametrize("fault", DROPPED)
def test_a_clip_that_cannot_be_used_is_dropped_and_counted(tmp_path, fault):
    changes, reason = DROPPED[fault]
    bad = published_row(5, **changes)
    report, store = imported(tmp_path, [published_row(0), bad, published_row(9)])
    assert report.kept == len(store) == 2
    assert report.dropped == {reason: [bad.get("id") if isinstance(bad.get("id"), str) and bad["id"] else "row 2"]}
    assert store.import_report["dropped"] == report.dropped


def test_a_clip_that_is_in_both_files_counts_once(tmp_path):
    report, store = imported(tmp_path, [published_row(0)], [published_row(0), published_row(4)])
    assert dict(store.splits) == {"train": 1, "val": 1}
    assert report.dropped == {"an id that stood before": [published_row(0)["id"]]}


def test_texts_of_python_2_and_broken_texts_are_repaired(tmp_path):
    train = [
        published_row(0, caption="sauté".encode()),
        published_row(2, caption="sauté".encode().decode("latin1")),
        published_row(4, caption="half a \ud800 pair"),
    ]
    _, store = imported(tmp_path, train)
    assert store.clips()["caption"].tolist() == ["sauté", "sauté", "half a ? pair"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"2d": 1}, "expected a list of clips of YouCook2 (2d, 3d, audio, id, and caption: one text), found a value"),
        ([], "(empty)"),
        ([1, 2], "the first is of type int"),
        ([{"label": 3}], "the first is of type dict with keys 'label'"),
        ({"vid": {"start": [0], "end": [1], "text": ["a"]}}, "`mcnlab import howto100m --captions` takes it"),
        ({"2d": {"video1": 0}, "3d": {}}, "`mcnlab import msrvtt --tensors` takes it"),
        ([{"class": "ApplyLipstick", "2d": 0, "training": 1}], "UCF101 or HMDB51 (2d, 3d, class, training)"),
        ([{"2d": np.array([{}], dtype=object)}], "Python objects"),
        ([{"2d": Call(os.system, "true")}], "posix.system"),
    ],
)
def test_a_wholly_wrong_file_is_one_error_before_work(tmp_path, content, said):
    good, bad = written(tmp_path / "t.pkl", [published_row(0)]), written(tmp_path / "v.pkl", content)
    with pytest.raises(DataError) as refusal:
        import_youcook2(good, bad, tmp_path / "store")
    assert said in str(refusal.value)
    assert "v.pkl" in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.pkl", "v.pkl"]


@pytest.mark.parametrize("row", [train_row(7), test_row(9770), train_row(7, caption=None)])
def test_a_file_of_msrvtt_is_sent_to_its_own_importer(tmp_path, row, capsys):
    paths = [written(tmp_path / "youcook_train.pkl", [published_row(0)]), written(tmp_path / "other.pkl", [row] * 3)]
    assert main(["import", "youcook2", *map(str, paths), "--out", str(tmp_path / "store")]) == 3
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith(
        f"error: {paths[1]}: expected clips of YouCook2 (2d, 3d, audio, id, and caption: one text), "
    )
    assert "found clips of MSR-VTT" in said
    assert "'2d_pooled'" in said
    assert said.endswith("; `mcnlab import msrvtt` takes it")
    assert not (tmp_path / "store").exists()


def test_pooled_features_beside_a_single_caption_are_still_read(tmp_path):
    row = published_row(0)
    report, _ = imported(tmp_path, [row | {"2d_pooled": row["2d"], "3d_pooled": row["3d"]}])
    assert report.kept == 1


@pytest.mark.parametrize("absent", ["val", "words", "annotations"])
def test_a_missing_file_is_named_before_a_large_one_is_read(tmp_path, absent):
    damaged = tmp_path / "t.pkl"
    damaged.write_bytes(b"would be refused if it were read")
    given = {"val": None, absent: tmp_path / "gone"}
    with pytest.raises(DataError, match="gone: no such file"):
        import_youcook2(damaged, given.pop("val"), tmp_path / "store", **given)


def test_arguments_that_make_no_sense_are_refused(tmp_path):
    rows = written(tmp_path / "t.pkl", [published_row(0)])
    with pytest.raises(ConfigError, match="neither"):
        import_youcook2(None, None, tmp_path / "store")
    with pytest.raises(ConfigError, match="'all'"):
        check_features("all")
    with pytest.raises(ConfigError, match="words"):
        import_youcook2(None, rows, tmp_path / "store")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(StorageError):
        import_youcook2(rows, None, tmp_path / "taken")


def test_annotations_give_segments_recipes_and_the_subset(tmp_path):
    steps = [
        (90, 102, "Pour oil, in the pan!"),
        (110, 120, "cut onions in the pan"),
        (130, 140, "cut onions in the pan"),
    ]
    path = written_annotations(
        tmp_path / "a.json",
        annotation(video_of(0), recipe="113", steps=steps),
        annotation(video_of(1), "validation", "226", [(5, 9, "something else")]),
    )
    train = [published_row(0, task=1), published_row(1), published_row(2), published_row(8, task=77)]
    report, store = imported(tmp_path, train, annotations=path)
    first, second, other, unknown = recordings(store).values()
    assert (first.media["start_s"], first.media["end_s"], first.duration_s) == (90, 102, 12)
    assert (second.media["start_s"], second.media["end_s"]) == (110, 120)  # its id says that it is step 1
    assert [one.clips[0].label for one in (first, second, other, unknown)] == ["113", "113", "226", "77"]
    assert report.lost == {
        "annotations: its video belongs to val, the file says train": [other.id],
        "annotations: no segment of its video fits its caption": [other.id],
        "annotations: its video is not among them": [unknown.id],
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a readable JSON file"),
        ('{"database": {"a": {}, "a": {}}}', "stands twice"),
        ('{"database": {"a": {"duration": NaN}}}', "NaN"),
        ('{"videos": []}', "'database'"),
        ('{"database": {"abc": {"subset": "training"}}}', "'abc'"),
        ("[" * 100_000, "not a readable JSON file"),
    ],
)
def test_annotations_of_another_layout_are_refused(tmp_path, content, said):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as refusal:
        imported(tmp_path, [published_row(0)], annotations=path)
    assert said in str(refusal.value)
    assert "a.json" in str(refusal.value)


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official annotation files are not beside the checkout")
@pytest.mark.parametrize("file", ["youcookii_annotations_trainval.json", "validation_youcook.csv"])
def test_the_official_annotations_find_the_clips_of_the_benchmark(tmp_path, file):
    captions = ["pick the ends off the verdalago", "combine lemon juice sumac garlic salt and oil in a bowl"]
    val = [published_row(k, id=f"xHr8X2Wpmno_{k}", caption=caption) for k, caption in enumerate(captions)]
    report, store = imported(tmp_path, [published_row(8)], val, annotations=OFFICIAL / file)
    assert [(store[k].media["start_s"], store[k].media["end_s"]) for k in (1, 2)] == [(47, 60), (67, 89)]
    assert [store[k].clips[0].label for k in (1, 2)] == ["226", "226"]
    assert list(report.lost) == ["annotations: its video is not among them"]


def test_the_command_imports_and_says_what_is_there(tmp_path, capsys):
    written(tmp_path / "t.pkl", [published_row(number) for number in range(6)])
    written(tmp_path / "v.pkl", [published_row(number, audio=None) for number in range(8, 12)])
    words = ["import", "youcook2", str(tmp_path / "t.pkl"), str(tmp_path / "v.pkl"), "--out", str(tmp_path / "store")]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "split clips without video without audio without text" in said
    assert "train 6 0 0 0" in said
    assert "val 4 0 4 0" in said
    assert "kept in part audio: none 4" in said
    assert main([*words[:2], "-", "-", *words[4:5], str(tmp_path / "other")]) == 2
    assert main([*words[:-1], str(tmp_path / "more"), "--features", "half"]) == 2


def test_an_epoch_of_training_and_the_evaluation_run_on_it(tmp_path):
    train = [published_row(number, frames=60, task=number % 3) for number in range(24)]
    val = [published_row(number, frames=60, task=number % 3) for number in range(30, 42)]
    imported(tmp_path, train, val)
    settings = tmp_path / "tiny.yaml"
    settings.write_text(
        json.dumps(
            {
                "experiment": "YouCook2",
                "data": {"store": "store"},
                "stages": "VAT",
                "model": {"dim": 8, "audio_width": 8, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 64},
                "terms": {"contrast": {}, "reconstruct": {}},
                "training": {"epochs": 1, "batch": 8, "warmup_steps": 0, "threads": 1, "device": "cpu"},
            }
        ),
        encoding="utf-8",
    )
    run = run_experiment(settings, tmp_path / "run")
    assert run.finished
    rows = json.loads((run.path / "results.json").read_text())["rows"]
    assert {"retrieval", "clusters"} <= {row["task"] for row in rows}
    provenance = json.loads((run.path / "provenance.json").read_text())
    assert "published features (trained)" in provenance["data"]["visual_features"]


def test_a_log_says_which_pickle_is_read(tmp_path, capsys):
    path = written(tmp_path / "youcook_train.pkl", [published_row(number) for number in range(4)])
    assert main(["import", "youcook2", str(path), "-", "--out", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().err.splitlines()[0] == "reading youcook_train.pkl (0 MB)"


@pytest.mark.slow
@pytest.mark.distributed
def test_after_kill_9_the_same_command_begins_cleanly(tmp_path):
    path = written(tmp_path / "t.pkl", [published_row(number) for number in range(300)])
    words = [sys.executable, "-m", "mcnlab", "import", "youcook2", path, "-", "--out", tmp_path / "store"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob(".store.partial-*/shards")):
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (tmp_path / "store").exists()
    assert list(tmp_path.glob(".store.partial-*"))
    subprocess.run(words, check=True, capture_output=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store", "t.pkl"]
    store = open_store(tmp_path / "store")
    assert len(store) == 300
    assert not store.verify()
