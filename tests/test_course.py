"""What the explorer asks of runs: the course of training, queries from outside, and the media of clips."""

import io
import shutil
import time
import wave

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mcnlab.data.clip_media import clip_media
from mcnlab.data.importers.media import import_media
from mcnlab.data.scenes import SceneSettings, build_scenes, render_scene_again
from mcnlab.data.store import open_store
from mcnlab.data.world import render_again
from mcnlab.errors import CancelledError, DataError
from mcnlab.experiment import run_experiment
from mcnlab.experiment.asking import Asking
from mcnlab.experiment.course import checkpoint_embeddings, checkpoint_steps
from mcnlab.experiment.explorer import clip_media as media_of_run
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.runs import RunFolder
from tests.small_store import make_store

WORLD = {"train_recordings": 6, "val_recordings": 0, "test_recordings": 4}
MODEL = {"dim": 8, "audio_width": 8, "audio_blocks": 1, "decoder_hidden": 8}
TRAINING = {"epochs": 2, "batch": 12, "lr": 0.01, "warmup_steps": 2, "threads": 1, "keep_every": 2}


def run_of(folder, data, *, stages="VAT", graph="shared", **changes):
    settings = ExperimentSettings.parse(
        {
            "experiment": "small",
            "data": data,
            "stages": stages,
            "graph": graph,
            "terms": {"contrast": {}},
            "model": MODEL,
            "training": {**TRAINING, **changes},
            "evaluation": {"tasks": ["geometry"]},
        },
        source="test",
    )
    return run_experiment(settings, folder, stores=folder.parent / "stores")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("runs") / "world", {"world": WORLD})


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    make_store(folder / "store", missing_audio=0.3)
    return run_of(folder / "run", {"store": str(folder / "store")}, graph="disjoint")


@pytest.fixture
def copied(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("course"))
    return RunFolder(tmp_path / "run")


def near(vector, row):
    """Equal up to the rounding of what is stored."""
    np.testing.assert_allclose(vector, row.astype(np.float32), atol=2e-3, rtol=0)


# The course of training


def test_the_course_begins_untrained_and_ends_as_the_run_was_evaluated(run):
    course = checkpoint_embeddings(run.path)
    own = run.embeddings()
    assert list(course) == [0, 2, 4, 6]
    for step, arrays in course.items():
        assert {name: x.shape for name, x in arrays.items()} == {name: x.shape for name, x in own.items()}, step
        assert {x.dtype for x in arrays.values()} == {np.dtype(np.float16)}
    for name, values in own.items():
        near(course[6][name], values)
        assert np.abs(course[0][name].astype(float) - values).max() > 0.05, name
        assert np.abs(course[2][name].astype(float) - values).max() > 0.01, name


def test_the_untrained_step_is_the_untrained_model_that_the_evaluation_knows(apart, monkeypatch):
    from mcnlab.experiment.loaded import load_run
    from mcnlab.experiment.measure import embed_held_out, subjects

    known = load_run(apart.path)
    held = embed_held_out(known.settings, known.model(), known.store(), seed=known.seed)
    before = subjects(known.model().graph, held.before, known.settings.trained_modalities)
    course = checkpoint_embeddings(apart.path)[0]
    assert set(before) == set(course) == set(apart.embeddings())
    for name, values in before.items():
        near(course[name], np.asarray(values, dtype=np.float16))


def test_a_cancelled_course_goes_on_where_it_ended(copied):
    said = []
    clips = len(copied.clip_ids())
    with pytest.raises(CancelledError, match="cancelled"):
        checkpoint_embeddings(
            copied.path, progress=lambda *now: said.append(now), cancelled=lambda: said[-1][0] > 2 * clips
        )
    kept = sorted(path.name[:13] for path in (copied.path / "course").glob("*.safetensors"))
    assert kept == ["step_00000000", "step_00000002"]
    again = []
    course = checkpoint_embeddings(copied.path, progress=lambda *now: again.append(now))
    assert again[0] == (2 * clips, 4 * clips)
    assert again[-1] == (4 * clips, 4 * clips)
    assert list(course) == [0, 2, 4, 6]
    assert not list((copied.path / "course").glob("*.partial*"))


def test_what_was_embedded_once_is_read_again(copied, monkeypatch):
    first = checkpoint_embeddings(copied.path)
    monkeypatch.setattr("mcnlab.experiment.course.build_model", lambda *a, **k: pytest.fail("embedded again"))
    second = checkpoint_embeddings(copied.path)
    for step, arrays in first.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, second[step][name])


def test_other_weights_at_a_step_are_embedded_anew(copied):
    before = checkpoint_embeddings(copied.path)
    shutil.rmtree(copied.path / "kept" / "step_00000004")
    shutil.copytree(copied.path / "kept" / "step_00000002", copied.path / "kept" / "step_00000004")
    after = checkpoint_embeddings(copied.path)
    np.testing.assert_array_equal(after[4]["video"], before[2]["video"])


def test_a_run_that_kept_nothing_shows_its_newest_checkpoints(copied):
    shutil.rmtree(copied.path / "kept")
    assert list(checkpoint_steps(copied.path)) == [0, 6]


# Queries from outside


def test_a_clip_asked_with_its_own_caption_sound_or_picture_has_its_own_vectors(run):
    asking, own = Asking(run.path), run.embeddings()
    for row in (0, 7, 23):
        clip = run.clips().iloc[row]
        for name, vectors in (
            ("text", asking.text(clip["caption"])),
            ("audio", asking.sound(clip["id"])),
            ("video", asking.frame(clip["id"])),
        ):
            assert list(vectors) == [name]
            near(vectors[name], own[name][row])


def test_in_several_spaces_a_query_has_a_vector_in_each(apart):
    asking, own = Asking(apart), apart.embeddings()
    clips = apart.clips()
    row = int(np.flatnonzero(np.isfinite(own["audio"]).all(axis=1))[0])
    for name, vectors in (("text", asking.text(clips["caption"][row])), ("audio", asking.sound(clips["id"][row]))):
        assert set(vectors) == {known for known in own if known.split("@")[0] == name}
        assert len(vectors) == 3
        for key, vector in vectors.items():
            near(vector, own[key][row])
    silent = int(np.flatnonzero(np.isnan(own["audio"]).any(axis=1))[0])
    with pytest.raises(DataError, match="has no audio"):
        asking.sound(clips["id"][silent])


def test_unknown_words_are_named_and_passed_over(run):
    asking = Asking(run.path)
    caption = run.clips()["caption"][0]
    assert asking.unknown_words(f"Zebra {caption} quagga Zebra") == ("Zebra", "quagga")
    np.testing.assert_array_equal(asking.text(f"Zebra {caption}")["text"], asking.text(caption)["text"])
    with pytest.raises(DataError, match="known to the run: 'zebra', 'quagga'"):
        asking.text("zebra quagga")
    with pytest.raises(DataError, match="no words"):
        asking.text("  ")
    with pytest.raises(DataError, match="no evaluated clip 'nowhere:0'"):
        asking.sound("nowhere:0")


def test_a_file_with_the_frames_of_a_clip_has_the_vector_of_the_clip(run, tmp_path):
    asking = Asking(run.path)
    table = asking.store.clips("test")
    np.save(tmp_path / "clip.npy", render_again(asking.store, int(table.index[5])).frames)
    near(asking.picture_file(tmp_path / "clip.npy", fps=12.5)["video"], run.embeddings()["video"][5])


def test_a_sound_file_of_own_media_has_the_vector_of_its_clip(tmp_path):
    random = np.random.default_rng(0)
    rows = ["id,audio,caption,split"]
    for number in range(24):
        tone = np.sin(np.arange(16000) * (0.02 + 0.01 * number)) * 0.5 + 0.01 * random.normal(size=16000)
        soundfile.write(tmp_path / f"{number}.wav", tone, 16000)
        rows.append(f"c{number},{number}.wav,tone {number % 4} word{number},{'train' if number < 14 else 'test'}")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    import_media(tmp_path / "m.csv", tmp_path / "store", word_dim=8)
    run = run_of(tmp_path / "run", {"store": str(tmp_path / "store")}, stages="AT")
    near(Asking(run.path).sound_file(tmp_path / "16.wav")["audio"], run.embeddings()["audio"][2])
    with pytest.raises(DataError, match=r"was not trained on video, only on audio, text"):
        Asking(run.path).picture_file(tmp_path / "16.wav")


def test_features_that_were_made_elsewhere_cannot_be_asked_with_files(apart, tmp_path):
    asking = Asking(apart.path)
    with pytest.raises(DataError, match="audio features that were made elsewhere"):
        asking.sound_file(tmp_path / "any.wav")
    with pytest.raises(DataError, match="video features that were made elsewhere"):
        asking.picture_file(tmp_path / "any.png")


def test_raw_frames_can_be_asked_with_a_file(tmp_path):
    run = run_of(
        tmp_path / "run",
        {"world": {**WORLD, "train_recordings": 2, "test_recordings": 1, "video": "frames"}},
        stages="VT",
    )
    asking = Asking(run.path)
    clip = int(asking.store.clips("test").index[2])
    np.save(tmp_path / "clip.npy", render_again(asking.store, clip).frames)
    near(asking.picture_file(tmp_path / "clip.npy", fps=12.5)["video"], run.embeddings()["video"][2])
    near(asking.text(run.clips()["caption"][2])["text"], run.embeddings()["text"][2])


# The media of a clip


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def samples(wav):
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16000, 1)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def test_a_clip_of_the_world_is_rendered_again_and_quickly(run):
    row = run.clips().iloc[9]
    began = time.monotonic()
    media = media_of_run(run.path, row["id"])
    taken = time.monotonic() - began
    store = Asking(run.path).store
    again = render_again(store, int(store.clips("test").index[9]))
    assert len(media.frames) == 8
    shown = np.unique(np.linspace(0, len(again.frames) - 1, 8).astype(int))
    np.testing.assert_array_equal([pixels(frame) for frame in media.frames], again.frames[shown])
    np.testing.assert_array_equal(samples(media.wav), (np.clip(again.waveform, -1, 1) * 32767).astype("<i2"))
    assert (media.caption, media.label, media.note) == (row["caption"], row["label"], "")
    assert media.duration_s == pytest.approx(1.28)
    assert media.frames_per_s == pytest.approx(8 / 1.28)
    assert taken < 2  # a third of a second on an idle machine; the first call opens the store
    assert media_of_run(run, row["id"]) is media
    with pytest.raises(DataError, match="no clip 'x:0'"):
        media_of_run(run.path, "x:0")


def test_a_clip_of_scenes_has_its_part_of_the_scene(tmp_path):
    settings = SceneSettings(train_scenes=1, val_scenes=0, test_scenes=1, segments=3, frames_per_segment=2, size_px=32)
    store = build_scenes(settings, tmp_path / "scenes")
    clip = store.clips().iloc[1]
    media, scene = clip_media(store, clip["id"]), render_scene_again(store, int(clip["recording"]))
    np.testing.assert_array_equal([pixels(frame) for frame in media.frames], scene.frames[2:4])
    third = len(scene.waveform) // 3
    np.testing.assert_array_equal(
        samples(media.wav), (np.clip(scene.waveform[third : 2 * third], -1, 1) * 32767).astype("<i2")
    )


def test_own_media_come_from_their_files_while_these_are_there(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (20, 24, 48, 3)).astype(np.uint8)
    np.save(tmp_path / "f.npy", frames)
    soundfile.write(tmp_path / "s.wav", np.linspace(-0.5, 0.5, 32000), 16000)
    rows = (
        "id,video,audio,start,end,fps,caption,split\na,f.npy,s.wav,0.5,1.5,10,<b>one</b> two,train\nb,,,,,,two,train\n"
    )
    (tmp_path / "m.csv").write_text(rows)
    import_media(tmp_path / "m.csv", tmp_path / "store", video_dim=8, word_dim=8)
    media = clip_media(open_store(tmp_path / "store"), "a:0")
    assert {pixels(frame).shape for frame in media.frames} == {(144, 288, 3)}  # twice as wide as high, as the file
    assert len(media.frames) == 4
    assert (media.frames_per_s, media.caption) == (4.0, "<b>one</b> two")
    heard = samples(media.wav)
    assert len(heard) == 16000
    assert heard[0] == pytest.approx(-0.25 * 32767, abs=8)
    words = clip_media(open_store(tmp_path / "store"), "b:0")
    assert (words.frames[1:], words.wav, words.frames_per_s) == ((), None, 0.0)

    shutil.move(tmp_path / "store", tmp_path / "moved")
    (tmp_path / "f.npy").unlink()
    gone = clip_media(open_store(tmp_path / "moved"), "a:0")
    assert gone.wav == media.wav
    (tmp_path / "s.wav").unlink()
    shutil.move(tmp_path / "moved", tmp_path / "again")
    gone = clip_media(open_store(tmp_path / "again"), "a:0")
    assert gone.wav is None
    assert "f.npy: no such file" in gone.note
    assert [pixels(frame).shape for frame in gone.frames] == [(42, 56, 3)]


def test_features_alone_show_nothing_and_say_so(apart):
    media = media_of_run(apart.path, apart.clip_ids()[0])
    assert (media.frames, media.wav) == ((), None)
    assert "holds features" in media.note
    assert media.caption == apart.clips()["caption"][0]


def test_asking_leaves_the_model_as_it_was(run):
    asking = Asking(run.path)
    before = {name: x.clone() for name, x in asking.model.state_dict().items()}
    asking.sound(run.clip_ids()[0])
    assert not asking.model.training
    assert all(torch.equal(x, before[name]) for name, x in asking.model.state_dict().items())
