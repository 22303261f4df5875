"""Views beside video, audio and text: their names, what the world shows of them, what they share with the others."""

import math

import numpy as np
import pytest

from mcnlab.data.store import Recording, StoreWriter, Track, open_store
from mcnlab.data.world import (
    FACTORS,
    VIEWS,
    WorldSettings,
    build_world,
    carried_factors,
    shared_entropy_nats,
    shared_keys,
    world_fingerprint,
)
from mcnlab.data.world.recordings import recording_events
from mcnlab.data.world.views import LEVELS, render_view, seen_value, view_names
from mcnlab.errors import ConfigError, DataError
from mcnlab.evaluation.retention import evaluate_retention
from mcnlab.experiment.build import build_model, build_source, build_stages
from mcnlab.experiment.checks import check_data
from mcnlab.experiment.measure import known_information, measure
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.modalities import in_order, pair_modalities, pair_name, pairs_among, pairs_with

SMALL = WorldSettings(train_recordings=6, val_recordings=0, test_recordings=6, clips_per_recording=4, views=2)
SIZES = {"dim": 8, "audio_width": 8, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 32}
VIDEO_VIEWS = ("video", *view_names(4))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_world(SMALL, tmp_path_factory.mktemp("views") / "world")


def stage(*modalities):
    return {"epochs": 1, "modalities": list(modalities)}


def settings(modalities, *, data=None, **more):
    values = {
        "experiment": "views",
        "data": data or {"world": {"views": 4}},
        "model": SIZES,
        "stages": [stage(*modalities)],
        "evaluation": {"tasks": ["retention", "bound"]},
        **more,
    }
    return ExperimentSettings.parse(values, source="test")


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("video", "audio", "va"),
        ("text", "audio", "at"),
        ("depth", "video", "video-depth"),
        ("text", "flow", "text-flow"),
    ],
)
def test_a_pair_is_named_by_initials_or_by_both_names_and_read_back(first, second, name):
    assert pair_name(first, second) == name
    assert set(pair_modalities(name)) == {first, second}


@pytest.mark.parametrize("name", ["vx", "v", "vv", "video-video", "video-", "video-depth-flow", "", "video"])
def test_what_names_no_two_modalities_is_no_pair(name):
    with pytest.raises(KeyError, match="names no two modalities"):
        pair_modalities(name)


def test_the_three_stay_first_in_order():
    assert in_order(["flow", "text", "color", "video", "audio"]) == ("video", "audio", "text", "color", "flow")
    assert pairs_among(["text", "video", "audio", "color"])[:3] == ("va", "vt", "at")


def test_the_full_graph_of_two_views_is_its_core_view():
    core, full = (settings(("video", "depth"), pairs=short) for short in ("core:video", "full"))
    assert core == full
    assert build_stages(core) == build_stages(full)


@pytest.mark.parametrize("views", [3, 4, 5])
def test_the_core_view_has_a_pair_for_every_other_view_and_the_full_graph_all(views):
    core, full = (settings(VIDEO_VIEWS[:views], pairs=short).trained_pairs for short in ("core:video", "full"))
    assert len(core) == views - 1
    assert len(full) == views * (views - 1) / 2
    assert (
        set(core)
        == {pair for pair in full if "video" in pair_modalities(pair)}
        == set(pairs_with("video", VIDEO_VIEWS[:views]))
    )


def test_without_a_word_on_pairs_all_views_of_a_stage_are_compared():
    assert settings(("video", "depth", "text")).trained_pairs == ("vt", "video-depth", "text-depth")


def test_a_pair_may_be_spelled_either_way_round():
    assert settings(("video", "depth"), pairs=["depth-video"]).trained_pairs == ("video-depth",)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"stages": [stage("video", "dept")]},
            "'dept' is not in the world with views: 4; it has video, audio, text, depth",
        ),
        ({"pairs": ["video-dept"]}, "'video-dept' needs dept, but the stages have only video, depth"),
        ({"pairs": ["vx"]}, "pairs.0: expected two initials as in va, or two names as in video-depth, got 'vx'"),
        ({"pairs": "core:flow"}, "core:flow: 'flow' is not among the modalities video, depth"),
        ({"pairs": "core"}, "expected a list of pairs, full, or core:video; got 'core'"),
        ({"stages": [stage("video", "Depth!")]}, "stages.0.modalities.1"),
        (
            {"stages": [stage("video", "depth") | {"frozen": ["flow"]}]},
            "'flow' is not among the stage's",
        ),
        ({"data": {"world": {"views": 7}}}, "data.world.views"),
        ({"data": {"world": {"noise_views": 2.0}}}, "noise_views is given without views"),
    ],
)
def test_a_wrong_name_gives_one_clear_error(values, said):
    with pytest.raises(ConfigError) as error:
        settings(("video", "depth"), **values)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_store_without_the_modality_is_refused_with_what_it_has(store):
    wanted = settings(("video", "color"), data={"store": str(store.path)})
    with pytest.raises(DataError, match=r"needs color; the store has video, audio, text, depth, flow"):
        check_data(wanted, store)


def test_a_world_without_further_views_is_named_as_before_there_were_any():
    assert world_fingerprint(WorldSettings()) == "04111cc6e3754ba7"
    assert world_fingerprint(WorldSettings(views=1)) != world_fingerprint(WorldSettings())


def test_further_views_leave_everything_else_of_a_world_as_it_is(store, tmp_path):
    plain = build_world(SMALL.model_copy(update={"views": 0}), tmp_path / "plain")
    assert "views" not in plain.info["world"]
    assert "views" not in plain.info
    assert set(store.tracks) - set(plain.tracks) == {"depth", "flow"}
    for row in range(len(plain)):
        for name, rows in plain[row].tracks.items():
            assert np.array_equal(rows, store[row].tracks[name])
    assert plain.clips().equals(store.clips().drop(columns=["has_depth", "has_flow"]))


def test_a_store_knows_which_clips_have_a_view(store):
    assert store.modalities == ("video", "audio", "text", "depth", "flow")
    assert store.clips()["has_depth"].all()
    assert store.info["views"] == {name: list(VIEWS[name]) for name in ("depth", "flow")}


def test_a_recording_may_lack_a_view(tmp_path, store):
    tracks = [Track("depth", "depth", 4, 1.0)]
    with StoreWriter(tmp_path / "s", name="views", tracks=tracks, words=store.word_vectors) as writer:
        for number, rows in enumerate([{"depth": np.ones((2, 4), np.float16)}, {}]):
            writer.add(Recording(f"r{number}", "train", 2.0, rows, store[0].clips[:1]))
    assert open_store(tmp_path / "s").clips()["has_depth"].tolist() == [True, False]


@pytest.mark.parametrize("modality", ["text", "Depth", "video-depth", ""])
def test_a_track_cannot_belong_to_what_is_no_modality(modality, tmp_path, store):
    with pytest.raises(DataError, match="no modality of a track"):
        StoreWriter(tmp_path / "s", name="s", tracks=[Track("x", modality, 4, 1.0)], words=store.word_vectors)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_tells_its_factors_and_no_others(view):
    """Largest of the rows of a clip, as the tower sees it."""
    recordings = [[e.factors for e in recording_events(WorldSettings(), "train", number)] for number in range(150)]
    rows = np.concatenate([render_view(view, one, key=(0, n), noise=1.0) for n, one in enumerate(recordings)])
    pooled = rows.reshape(-1, 4, rows.shape[1]).max(axis=1).astype(np.float32)
    clips = [factors for one in recordings for factors in one]
    factors = {name: np.array([str(seen_value(name, clip[name])) for clip in clips], dtype=object) for name in FACTORS}
    groups = np.repeat(np.arange(len(recordings)), 6)
    found = evaluate_retention({view: pooled}, factors, groups, untrained=None, draws=0).rows
    scores = {row.subject.split(":")[1]: row.value for row in found if row.metric == "score"}
    assert min(scores[name] for name in carried_factors(view)) > 0.6
    assert max(scores[name] for name in FACTORS if name not in carried_factors(view)) < 0.1


def test_what_a_view_sees_of_a_range_is_equally_likely():
    events = [e.factors for number in range(200) for e in recording_events(WorldSettings(), "train", number)]
    counts = np.bincount([int(seen_value("va.rate", factors["va.rate"])) for factors in events])
    assert len(counts) == LEVELS
    assert counts.min() > 0.8 * counts.mean()


def test_shared_information_is_the_entropy_of_the_shared_factors():
    assert shared_entropy_nats("video", "depth") == pytest.approx(math.log(10) + math.log(4) + math.log(4))
    assert shared_entropy_nats("depth", "flow") == pytest.approx(math.log(10) + math.log(4))
    assert shared_entropy_nats("text", "outline") == pytest.approx(math.log(10))
    assert shared_entropy_nats("audio", "text") == pytest.approx(math.log(10 * 4 * 6 * 4))
    assert shared_entropy_nats("video", "audio") is None


def test_an_oracle_of_a_view_knows_a_range_in_parts(store):
    keys = shared_keys(store.clips(), ["video"], ["depth"])
    clips = store.clips()
    parts = zip(clips["factor:vat.object"], clips["factor:va.height"], clips["factor:vt.size"], strict=True)
    assert keys == [f"{thing}|{seen_value('va.height', height)}|{size}" for thing, height, size in parts]


def test_information_is_not_known_where_narration_is_disturbed(store):
    assert known_information(store, "video", "depth") is not None
    store.info["world"]["mismatch"] = 0.5
    try:
        assert known_information(store, "video", "depth") is None
    finally:
        store.info["world"]["mismatch"] = 0.0


def test_a_model_of_further_views_is_measured_with_the_bound_of_each_pair(store):
    wanted = settings(("video", "depth", "flow"), data={"store": str(store.path)}, pairs="core:video")
    model = build_model(wanted, store, seed=0)
    source = build_source(wanted, store, "train", shuffle_seed=None)
    outputs = model(source.batch(np.arange(8)), wanted.trained_modalities)
    assert outputs.embeddings["depth", "joint"].shape == (8, 8)
    rows = measure(wanted, model, store, None, seed=0)
    bounds = {(row["subject"], row["metric"]): row["value"] for row in rows if row["task"] == "bound"}
    assert {subject for subject, _ in bounds} == {"video-depth", "video-flow", "depth-flow"}
    assert bounds["video-depth", "log_candidates"] == pytest.approx(math.log(24))
    assert bounds["video-depth", "shared_nats"] == pytest.approx(shared_entropy_nats("video", "depth"))
    assert bounds["video-depth", "information_nats"] == pytest.approx(
        bounds["video-depth", "untrained"]
    )  # not trained yet
    assert {row["subject"].split(":")[0] for row in rows if row["task"] == "retention"} == {
        "video",
        "depth",
        "flow",
        "joint",
    }
