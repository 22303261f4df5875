"""Examples on the page: the right queries, escaped, with sounds that come from the run folder or are said to lack."""

import html
import io
import re
import wave

import numpy as np
import pandas as pd
import pytest

from mcnlab.data.recording_sound import as_wav
from mcnlab.data.world import WorldSettings, build_world, render_clip
from mcnlab.experiment.example_sounds import beginning, keep_example_sounds
from mcnlab.experiment.measure import write_embeddings
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.tables import write_table
from mcnlab.reporting.asked import asked
from mcnlab.reporting.gallery import SOUNDS_FILE, clips_to_hear, directions_of, galleries, kept_sounds
from mcnlab.reporting.overview import best_run
from mcnlab.reporting.pages import index_page
from mcnlab.reporting.summary import summarize
from mcnlab.runs import RunFolder
from tests.fake_study import DEFAULT, HOSTILE_CAPTION, write_fake_study
from tests.small_store import make_store

WORLD = WorldSettings(train_recordings=2, val_recordings=1, test_recordings=4, clips_per_recording=3)
SETTINGS = ExperimentSettings.parse(
    {"experiment": "x", "data": {"world": {}}, "terms": {"contrast": {}}, "stages": "VA"}, source="here"
)
PAIRS = {"video->audio", "audio->video", "text->video", "video->text", "text->audio", "audio->text"}


@pytest.fixture
def study(tmp_path):
    return write_fake_study(tmp_path / "study", experiments=(DEFAULT[0], DEFAULT[3]), seeds=(0,), clips=30)


def keep_sounds(study, *, cut=False):
    """A second of noise for every clip of every run."""
    noise = as_wav(np.random.default_rng(0).uniform(-0.1, 0.1, 16000))
    for run in study.iterdir():
        names = RunFolder(run).clip_ids()
        write_table(run / SOUNDS_FILE, pd.DataFrame({"id": names, "wav": noise, "cut": cut}))
    return noise


# which queries


def test_best_median_and_worst_are_of_the_ranks():
    gallery = np.eye(5, dtype=np.float32)
    query = gallery.copy()
    query[3] = [0.9, 0.8, 0.7, 0.6, 0.0]  # rank 4
    query[1] = [0.6, 0.5, 0.0, 0.0, 0.0]  # rank 2
    query[0] = [0.5, 0.4, 0.0, 0.0, 0.0]  # rank 1, with the smallest margin of those
    told = asked(query, gallery)
    assert told.ranks.tolist() == [1, 2, 1, 4, 1]
    assert told.extremes() == {"best": 2, "median": 0, "worst": 3}
    assert told.found(3, shown=2).tolist() == [0, 1]


def test_a_clip_without_a_side_neither_asks_nor_is_found():
    query, gallery = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    query[0], gallery[1] = np.nan, np.nan
    told = asked(query, gallery)
    assert told.places.tolist() == [2, 3]
    assert 1 not in told.found(0, shown=3)
    assert asked(query[:1], gallery[:1]).extremes() == {}


def test_many_queries_are_scored_piece_by_piece_or_sampled():
    random = np.random.default_rng(0)
    query, gallery = (random.integers(-99, 99, size=(1300, 4)).astype(np.float32) for _ in range(2))  # exact
    told = asked(query, gallery)
    scores = query @ gallery.T
    np.testing.assert_array_equal(told.ranks, (scores >= np.diag(scores)[:, None]).sum(axis=1))
    few = asked(query, gallery, most=7)
    assert (len(few.places), few.places[0], few.places[-1]) == (7, 0, 1299)
    np.testing.assert_array_equal(few.ranks, told.ranks[few.places])
    np.testing.assert_array_equal(few.scores(3), scores[few.places[3]])


def test_directions_go_both_ways_between_the_three():
    assert set(directions_of(("video", "audio", "text", "view1"))) == PAIRS
    assert directions_of(("text",)) == []


# what the page shows


def test_every_direction_shows_its_best_run_with_three_queries(study):
    summary = summarize(study)
    found = galleries(summary)
    assert len(found) == len(PAIRS)
    assert [one.direction for one in found[:3]] == ["T→V", "T→A", "V→A"]
    for one in found:
        assert [example.kind for example in one.examples] == ["best", "median", "worst"]
        ranks = [example.rank for example in one.examples]
        assert ranks == sorted(ranks)
        for example in one.examples:
            right = [place for place, clip in enumerate(example.found, start=1) if clip.right]
            assert right == ([example.rank] if example.rank <= len(example.found) else [])
    ranks = best_run(summary, "text->video").ranks()["text->video"]
    (shown,) = [one for one in found if one.direction == "T→V"]
    assert shown.examples[-1].rank == pytest.approx(ranks.max(), abs=1)  # float16 may change a place


def test_a_player_holds_the_sound_of_the_run_folder(study):
    noise = keep_sounds(study)
    page = index_page(summarize(study))
    players = re.findall(r'<audio controls [^>]*src="data:audio/wav;base64,([^"]+)" aria-label="Sound of', page)
    # each of the six directions has three queries; the two that ask for sounds have players for four answers each
    assert len(players) == 6 * 3 + 2 * 3 * 4
    assert {len(one) for one in players} == {4 * -(-len(noise) // 3)}
    assert "No sound was kept" not in page


def test_without_sounds_the_page_says_so_and_shows_pictures(study):
    page = index_page(summarize(study))
    assert "<audio" not in page
    assert page.count("No sound was kept for these clips.") == 6
    assert page.count('<img src="data:image/png;base64,') >= 18


def test_a_sound_that_was_cut_says_so(study):
    keep_sounds(study, cut=True)
    page = index_page(summarize(study))
    assert page.count("<small>its beginning</small>") == page.count("<audio")


def test_a_page_has_no_more_sound_than_it_may(study):
    noise = keep_sounds(study)
    found = galleries(summarize(study), most_bytes=12 * len(noise))
    heard = sum(len({clip.sound for example in one.examples for clip in (example.query, *example.found)} - {""})
                for one in found)  # fmt: skip
    assert 0 <= heard <= 12
    assert any(one.silent for one in found)


def test_captions_in_the_gallery_stay_text(study):
    keep_sounds(study)
    for run in study.iterdir():
        clips = RunFolder(run).clips()
        write_table(run / "clips.parquet", clips.assign(caption=f'"{HOSTILE_CAPTION}" onplay="x()'))
    page = index_page(summarize(study))
    assert HOSTILE_CAPTION not in page
    assert 'onplay="' not in page
    assert html.escape(HOSTILE_CAPTION)[:12] in page


# what a run keeps


def test_a_long_sound_is_cut_and_a_short_one_stays():
    wav = as_wav(np.random.default_rng(0).uniform(-1, 1, 16000))
    assert beginning(wav, longest_s=1.0) == beginning(wav, longest_s=9.0) == wav
    with wave.open(io.BytesIO(beginning(wav, longest_s=0.25))) as file:
        assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (4000, 16000, 1)


def test_a_run_keeps_the_sounds_of_its_examples_and_no_others(tmp_path):
    store = build_world(WORLD, tmp_path / "world")
    clips = store.clips("test")
    random = np.random.default_rng(0)
    vectors = {name: random.normal(size=(len(clips), 4)).astype(np.float32) for name in ("video", "audio")}
    write_embeddings(tmp_path / "embeddings.safetensors", vectors)
    clips.loc[clips.index[3:], "has_audio"] = False
    keep_example_sounds(tmp_path, SETTINGS, store, clips)
    run = RunFolder(tmp_path)
    wanted = {str(clips["id"].iloc[place]) for place in clips_to_hear(run, ("video", "audio"))}
    assert set(kept_sounds(run)) == wanted & set(clips["id"].iloc[:3])
    assert not any(cut for _, cut in kept_sounds(run).values())
    for name, (wav, _) in kept_sounds(run).items():
        assert wav == as_wav(render_clip(WORLD, "test", int(name[5:11]), int(name[-1])).waveform)


def test_a_store_of_features_alone_keeps_no_sound(tmp_path):
    store = make_store(tmp_path / "store")
    clips = store.clips("test")
    vectors = {name: np.eye(len(clips), dtype=np.float32) for name in ("video", "audio")}
    write_embeddings(tmp_path / "embeddings.safetensors", vectors)
    keep_example_sounds(tmp_path, SETTINGS, store, clips)
    assert (tmp_path / SOUNDS_FILE).exists()
    assert kept_sounds(RunFolder(tmp_path)) == {}
