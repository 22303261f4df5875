"""The scene world: same seed, same bytes; who is silent leaves no trace in the sound; the truth fits the picture."""

import dataclasses
import hashlib

import numpy as np
import pytest

from mcnlab.data.boxes import BOX_COLUMNS, SIDES, Box
from mcnlab.data.loading import ClipWindow
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.scenes import (
    SEGMENT_S,
    ComposedClips,
    SceneSettings,
    build_scenes,
    draw_scene,
    render_frames,
    render_scene_again,
    render_sound,
    scene_boxes,
    scene_key,
    scenes_fingerprint,
)
from mcnlab.data.scenes.pictures import sides
from mcnlab.data.scenes.sounds import heard_mel
from mcnlab.data.store import StoreWriter, open_store
from mcnlab.data.text import WordVectors
from mcnlab.errors import ConfigError, DataError

TINY = SceneSettings(train_scenes=2, val_scenes=1, test_scenes=2, segments=3, frames_per_segment=1, size_px=32)
ONCE = SceneSettings(sounding="once", offscreen=0.7, segments=8, size_px=24, clips="scenes", test_scenes=1)
WINDOW = ClipWindow(audio_frames=128, video_frames=1)


@pytest.fixture(scope="module")
def tiny_store(tmp_path_factory):
    return build_scenes(TINY, tmp_path_factory.mktemp("scenes") / "tiny")


def silenced(scene):
    """The same things, none of which sounds."""
    return dataclasses.replace(
        scene, things=tuple(dataclasses.replace(one, sounds=frozenset()) for one in scene.things)
    )


def scenes(settings, count):
    keys = [scene_key(settings, "test", number) for number in range(count)]
    return [(draw_scene(settings, key), key) for key in keys]


def test_the_same_seed_gives_the_same_bytes(tiny_store, tmp_path):
    again = build_scenes(TINY, tmp_path / "again")
    other = build_scenes(TINY.model_copy(update={"seed": 1}), tmp_path / "other")
    digest = [hashlib.sha256((s.path / "shards/00000.safetensors").read_bytes()).hexdigest() for s in (again, other)]
    assert digest[0] == tiny_store.info["files"]["shards/00000.safetensors"]["sha256"] != digest[1]
    assert again.fingerprint == tiny_store.fingerprint != other.fingerprint
    assert again.boxes.equals(tiny_store.boxes)
    assert not again.verify()


def test_the_truth_is_part_of_what_a_store_is_known_by(tmp_path):
    def written(name, label):
        boxes = (Box(0.0, 1.0, 0.1, 0.1, 0.5, 0.5, label=label),)
        words = WordVectors((), np.zeros((0, 2), np.float32))
        with StoreWriter(tmp_path / name, name="one", tracks=[Track("v", "video", 1, 1.0)], words=words) as writer:
            rows = {"v": np.ones((1, 1))}
            writer.add(Recording("a", "test", 1.0, rows, (Clip(0.0, 1.0),), boxes=boxes))
        return open_store(tmp_path / name)

    assert written("first", "dog").fingerprint != written("second", "cat").fingerprint


def test_what_is_silent_leaves_no_trace_in_the_sound_and_what_sounds_none_in_the_frames():
    for scene, key in scenes(TINY, 4):
        for part in range(TINY.segments):
            alone = dataclasses.replace(scene, things=tuple(one for one in scene.things if part in one.sounds))
            assert len(alone.things) == 1
            heard, quiet = render_sound(TINY, scene, part, key), render_sound(TINY, silenced(scene), part, key)
            assert np.array_equal(heard, render_sound(TINY, alone, part, key))
            assert not np.array_equal(heard, quiet)
            seen = render_frames(TINY, scene, part, key)
            assert np.array_equal(seen, render_frames(TINY, silenced(scene), part, key))


def test_a_box_is_where_the_picture_changes_when_its_thing_is_taken_away():
    clear = TINY.model_copy(update={"noise_video": 0.0, "size_px": 64})
    for scene, key in scenes(clear, 4):
        number, thing = next(iter(scene.seen(0).items()))
        without = dataclasses.replace(scene, things=tuple(o for n, o in enumerate(scene.things) if n != number))
        changed = (render_frames(clear, scene, 0, key)[0] != render_frames(clear, without, 0, key)[0]).any(axis=2)
        rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 64
        assert np.abs(seen - np.array(sides(thing, 0.5))).max() < 2 / 64


def nearest_class(train, labels, test):
    """Class of the nearest mean of the training rows."""
    kinds = sorted(set(labels))
    means = np.stack([train[np.array(labels) == kind].mean(axis=0) for kind in kinds])
    return [kinds[place] for place in np.linalg.norm(test[:, None] - means[None], axis=2).argmin(axis=1)]


def test_a_probe_reads_the_class_from_frames_and_from_sound():
    settings = SceneSettings(segments=1, size_px=40)
    colors, sounds, labels = [], [], []
    for scene, key in scenes(settings, 120):
        thing = next(one for one in scene.things if one.sounds)
        left, top, right, bottom = (round(side * 40) for side in sides(thing, 0.25))
        crop = render_frames(settings, scene, 0, key, most=1)[0, top:bottom, left:right]
        colors.append(crop.reshape(-1, 3).mean(axis=0))
        sounds.append(heard_mel(render_sound(settings, scene, 0, key)).astype(np.float32).mean(axis=0))
        labels.append(thing.kind)
    assert len(set(labels)) == settings.classes
    for features in (np.array(colors), np.array(sounds)):
        said = nearest_class(features[:80], labels[:80], features[80:])
        assert np.mean(np.array(said) == labels[80:]) > 0.9  # chance is 1/6


def test_kinds_in_sight_differ_and_things_come_and_go():
    drawn = [scene for scene, _ in scenes(SceneSettings(), 30)]
    for scene in drawn:
        for part in range(6):
            kinds = [one.kind for one in scene.seen(part).values()]
            assert len(set(kinds)) == len(kinds) <= 3
            assert len(scene.heard(part)) == 1
            assert set(scene.heard(part)) <= set(kinds)
    assert any(one.enters > 0 for scene in drawn for one in scene.things)
    assert any(one.leaves < 6 for scene in drawn for one in scene.things)


def test_several_sound_together_and_some_out_of_sight():
    settings = SceneSettings(together=2, offscreen=0.3)
    parts = [(scene, part) for scene, _ in scenes(settings, 20) for part in range(6)]
    hidden = [part in scene.offscreen for scene, part in parts]
    assert 0.15 < np.mean(hidden) < 0.45
    for (scene, part), is_hidden in zip(parts, hidden, strict=True):
        seen = {one.kind for one in scene.seen(part).values()}
        assert len(scene.heard(part)) == (1 if is_hidden else min(2, len(seen)))
        assert not is_hidden or scene.offscreen[part] not in seen


def test_where_one_thing_sounds_once_all_others_are_silent_and_others_are_heard_out_of_sight():
    decoys = 0
    for scene, _ in scenes(ONCE, 20):
        hero = scene.things[0]
        assert scene.label(range(8)) == hero.kind
        assert all(hero.enters <= part < hero.leaves for part in hero.sounds)
        assert not any(one.sounds for one in scene.things[1:])
        assert hero.kind not in scene.offscreen.values()
        assert not set(scene.offscreen) & hero.sounds
        decoys += bool({one.kind for one in scene.things[1:]} & set(scene.offscreen.values()))
    assert decoys > 10  # seen at one time, heard at another: only both at once tell the class


def test_a_store_of_scenes_holds_clips_frames_sound_and_truth(tiny_store):
    clips, boxes = tiny_store.clips(), tiny_store.boxes
    assert tiny_store.splits == {"train": 6, "val": 3, "test": 6}
    assert tiny_store[0].tracks["video_frames"].shape == (3, 3 * 32 * 32)
    assert tiny_store[0].tracks["audio_mel"].shape == (3 * 128, 40)
    assert tuple(boxes.columns) == BOX_COLUMNS
    sounding = boxes[boxes["sounding"]]
    for clip in clips.itertuples():
        here = sounding[(sounding["recording"] == clip.recording) & (sounding["start_s"] == clip.start_s)]
        assert here["label"].tolist() == [clip.label]
        assert ((here[list(SIDES)] >= 0) & (here[list(SIDES)] <= 1)).all(axis=None)
    again = render_scene_again(tiny_store, 1)
    stored = tiny_store[1].tracks["video_frames"].reshape(3, 3, 32, 32)
    assert np.array_equal(np.round(np.moveaxis(stored.astype(np.float32), 1, 3) * 255), again.frames)
    assert len(again.waveform) == 3 * 20480


def test_what_is_heard_out_of_sight_has_no_sides(tmp_path):
    store = build_scenes(ONCE.model_copy(update={"train_scenes": 1, "val_scenes": 0}), tmp_path / "once")
    hidden = store.boxes[store.boxes["left"].isna()]
    assert len(hidden) > 0
    assert hidden["sounding"].all()
    assert hidden[list(SIDES)].isna().all(axis=None)
    assert len(store.clips()) == 2
    assert store.clips()["end_s"].iloc[0] == 8 * SEGMENT_S


def test_composed_scenes_depend_on_the_epoch_and_the_place_alone():
    clips = ComposedClips(TINY, window=WINDOW)
    order = clips.epoch((0, "stage", 0), batch=4)
    assert len(clips) == 6
    assert sorted(np.concatenate(order).tolist()) == sorted(set(np.concatenate(order).tolist()))
    first = clips.batch(np.array([4, 1]))
    clips.epoch((0, "stage", 1), batch=4)
    second = clips.batch(np.array([4, 1]))
    clips.epoch((0, "stage", 0), batch=2)
    again = clips.batch(np.array([1, 4]))
    for modality in ("video", "audio"):
        assert np.array_equal(first.inputs[modality][0], again.inputs[modality][1])
        assert not np.array_equal(first.inputs[modality], second.inputs[modality])
    assert first.inputs["video"].shape == (2, 1, 3, 32, 32)
    assert first.inputs["audio"].shape == (2, 40, 128)


def test_shuffled_composed_scenes_have_the_sound_of_another():
    plain, dealt = (ComposedClips(TINY, window=WINDOW, shuffle_seed=seed) for seed in (None, 0))
    one, other = (clips.batch(np.arange(6)) for clips in (plain, dealt))
    assert np.array_equal(one.inputs["video"], other.inputs["video"])
    same = [[bool((a == b).all()) for b in one.inputs["audio"]] for a in other.inputs["audio"]]
    assert np.array_equal(np.sort(np.argmax(same, axis=1)), np.arange(6))
    assert not np.array_equal(np.argmax(same, axis=1), np.arange(6))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sounding": "once", "together": 2}, "together belongs to sounding: always"),
        ({"things": 4, "classes": 4}, "things must be fewer than classes, got 4 of 4"),
        ({"thing": 2}, "did you mean 'things'"),
    ],
)
def test_scenes_that_cannot_be_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        SceneSettings.parse(values, source="scenes")


def test_two_worlds_have_two_names():
    assert scenes_fingerprint(TINY) != scenes_fingerprint(TINY.model_copy(update={"offscreen": 0.1}))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(0.0, 2.0, 0.1, 0.1, 0.5, 0.5), "from 0.0 to 2.0 s in 1.0 s"),
        (Box(0.0, 1.0, 0.1, 0.1, 1.5, 0.5), "shares of the frame from 0 to 1"),
        (Box(0.0, 1.0, 0.6, 0.1, 0.5, 0.5), "left < right"),
        (Box(0.0, 1.0, None, 0.1, 0.5, 0.5), "shares of the frame from 0 to 1"),
        (Box(0.0, 1.0, None, None, None, None, sounding=False), "shares of the frame from 0 to 1"),
    ],
)
def test_boxes_that_cannot_be_are_refused(tmp_path, box, message):
    words = WordVectors((), np.zeros((0, 2), np.float32))
    with (
        pytest.raises(DataError, match=message),
        StoreWriter(tmp_path / "bad", name="bad", tracks=[Track("v", "video", 1, 1.0)], words=words) as writer,
    ):
        writer.add(Recording("a", "test", 1.0, {"v": np.ones((1, 1))}, (Clip(0.0, 1.0),), boxes=(box,)))


def test_boxes_of_a_scene_last_as_long_as_their_frame():
    scene, _ = scenes(SceneSettings(), 1)[0]
    found = scene_boxes(SceneSettings(), scene)
    assert {round(box.end_s - box.start_s, 6) for box in found} == {SEGMENT_S / 2}
    assert len(found) == sum(2 * len(scene.seen(part)) for part in range(6))


def test_composed_scenes_say_their_classes():
    clips = ComposedClips(TINY, window=WINDOW, classes=("heart", "ball"))
    labels = clips.batch(np.arange(6)).labels
    kinds = [clips.scene(place).label(range(1)) for place in range(6)]
    assert labels.tolist() == [{"heart": 0, "ball": 1}.get(kind, -1) for kind in kinds]
    assert ComposedClips(TINY, window=WINDOW).batch(np.arange(2)).labels is None
